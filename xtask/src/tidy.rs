//! The rules of the house that neither rustfmt nor clippy knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, root};

/// Lines of a file, tests apart, beyond which it holds two ideas.
const FILE_LINES: usize = 800;
/// Which of our crates each may know; Cargo enforces what it says, this what it may say.
const ARROWS: [(&str, &[&str]); 10] = [
    ("mente-engine", &[]),
    ("mente-wire", &["mente-engine"]),
    ("mente-log", &["mente-engine"]),
    ("mente-cluster", &["mente-engine", "mente-wire"]),
    ("mente-broker", &["mente-engine"]),
    ("mente-client", &[]),
    ("mente-sim", &["mente-engine", "mente-log", "mente-broker"]),
    (
        "mente-server",
        &["mente-engine", "mente-wire", "mente-broker", "mente-client"],
    ),
    (
        "mente",
        &[
            "mente-client",
            "mente-engine",
            "mente-wire",
            "mente-log",
            "mente-cluster",
            "mente-broker",
            "mente-server",
            "mente-sim",
        ],
    ),
    (
        "mente-fuzz",
        &[
            "mente-engine",
            "mente-wire",
            "mente-log",
            "mente-broker",
            "mente-client",
            "mente-server",
        ],
    ),
];

pub(crate) fn run_checks() -> Vec<String> {
    let mut faults = Vec::new();
    for (name, may_know) in ARROWS {
        check_arrows(name, may_know, &mut faults);
    }
    let mut sources = Vec::new();
    collect(&root().join("crates"), &mut sources);
    for path in sources {
        check_source(&path, &mut faults);
    }
    crate::supply::check(&mut faults);
    faults
}

pub(crate) fn run() -> Outcome {
    crate::execute(Command::new("cargo").args(["fmt", "--all", "--check"]))?;
    crate::execute(Command::new("cargo").args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    let faults = run_checks();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("\n  {}", faults.join("\n  ")))
    }
}

fn check_arrows(name: &str, may_know: &[&str], faults: &mut Vec<String>) {
    let manifest = root().join("crates").join(name).join("Cargo.toml");
    let Ok(text) = fs::read_to_string(&manifest) else {
        return;
    };
    let dependencies = text.split("[dependencies]").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    for line in dependencies.lines() {
        let known = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if known.starts_with("mente") && !may_know.contains(&known) {
            faults.push(format!(
                "{name} may not know {known} (ARCHITECTURE.md, arrows)"
            ));
        }
    }
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}

fn check_source(path: &Path, faults: &mut Vec<String>) {
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let shown = path.strip_prefix(root()).unwrap_or(path).display();
    let lines = text
        .split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .lines()
        .count();
    if lines > FILE_LINES {
        faults.push(format!(
            "{shown} has {lines} lines, more than {FILE_LINES}: cut it along an idea"
        ));
    }
    for word in [
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("todo", "!("),
        concat!("#[ig", "nore"),
    ] {
        if text.contains(word) {
            faults.push(format!("{shown} holds {word}"));
        }
    }
    if path.ends_with("src/lib.rs") && !text.starts_with("//!") {
        faults.push(format!("{shown} does not open with what this room is"));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_tidy() {
        assert_eq!(super::run_checks(), Vec::<String>::new());
    }
}
