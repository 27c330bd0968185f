//! Long proofs: each runs in release and leaves its report in `docs/proof`.

use std::fs;
use std::process::Command;

use crate::{Outcome, root};

/// Name, the words behind `mente`, its flags unless others are given, and what it shows.
const PROOFS: [(&str, &[&str], &[&str], &str); 3] = [
    (
        "chaos",
        &["chaos"],
        &["--power", "--kills", "500", "--cuts", "500"],
        "Killed, and cut off from power on ext4 and XFS, while clients write down what they are told: what was acknowledged is still there.",
    ),
    (
        "kill",
        &["demo", "shop"],
        &["--orders", "20000", "--kills", "50"],
        "The whole shop, its server killed fifty times: nothing lost, nothing invented, no offset told twice.",
    ),
    (
        "bench",
        &["bench"],
        &[],
        "What was measured, beside the disk's own sync and the client's own ceiling.",
    ),
];

/// `flags` take the place of the proof's own; the report says which ran.
pub(crate) fn run(name: &str, flags: &[&str]) -> Outcome {
    let Some((_, words, own, purpose)) = PROOFS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<_> = PROOFS.iter().map(|(name, ..)| *name).collect();
        return Err(format!(
            "no long proof {name:?}; there are {}",
            known.join(", ")
        ));
    };
    let asked = [&[name], flags].concat().join(" ");
    let flags = if flags.is_empty() { own } else { flags };
    let words = [words, flags].concat();
    let mut command = Command::new("cargo");
    command
        .args(["run", "--release", "--quiet", "--package", "mente", "--"])
        .args(&words);
    // What is about to run: the checkout may go on while it does.
    let commit = said("git", &["describe", "--always", "--dirty"]);
    eprintln!("xtask: {name}, this takes a while");
    let output = command
        .current_dir(root())
        .stderr(std::process::Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("cannot run cargo: {error}"))?;
    let shown = String::from_utf8_lossy(&output.stdout);
    print!("{shown}");
    let report = format!(
        "# {name}\n\n{purpose}\n\n| | |\n|---|---|\n| command | `cargo xtask long {asked}` (`mente {}`) |\n| commit | {} |\n| date | {} |\n| machine | {} |\n| result | {} |\n\n```text\n{}\n```\n",
        words.join(" "),
        commit,
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        machine(),
        output.status,
        shown.trim_end()
    );
    let path = root().join("docs/proof").join(format!("{name}.md"));
    fs::write(&path, report)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{name} ended with {}", output.status))
    }
}

/// Processor, cores, memory, kernel and the file system of temporary files.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_once(':')
            .map_or("unknown", |(_, value)| value.trim())
            .to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = said("df", &["--output=fstype", "/tmp"]);
    format!(
        "{}, {cores} cores, {} of memory, Linux {}, {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        said("uname", &["-r"]),
        system.lines().last().unwrap_or_default()
    )
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output();
    output.map_or("unknown".to_owned(), |o| {
        String::from_utf8_lossy(&o.stdout).trim().to_owned()
    })
}
