//! The chaos run: its own verdict, and that the verdict comes from the histories.

use std::path::Path;
use std::process::{Command, Output};

fn chaos(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mente"));
    command.arg("chaos").args(args);
    command
}

fn check(folder: &Path) -> Output {
    let folder = folder.to_str().expect("a plain path");
    chaos(&["--check", folder])
        .output()
        .expect("the binary runs")
}

/// The number in a row of the report.
fn count(output: &Output, row: &str) -> u64 {
    let shown = String::from_utf8_lossy(&output.stdout);
    let lines = shown.lines().map(str::trim_start);
    let number = lines
        .filter_map(|line| line.strip_prefix(row))
        .find_map(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no row {row}: {output:?}"))
}

#[test]
fn three_kills_lose_nothing_and_a_line_that_is_missing_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().expect("a plain path");
    let run = chaos(&["--no-power", "--kills", "3", "--dir", dir]).output();
    let run = run.expect("the binary runs");
    assert!(run.status.success(), "{run:?}");
    assert_eq!((count(&run, "lost"), count(&run, "invented")), (0, 0));
    assert!(count(&run, "kills") == 3 && count(&run, "acknowledged") > 0);

    let again = check(folder.path());
    assert!(again.status.success(), "{again:?}");
    assert_eq!(
        again.stdout, run.stdout,
        "the same histories, the same verdict"
    );

    // An event that was acknowledged is not in what was read at the end.
    let end = folder
        .path()
        .join("1-directory/history/04000-auditor.jsonl");
    let text = std::fs::read_to_string(&end).unwrap();
    let found = text.find(r#""found":[{"#).expect("the topic was read") + r#""found":["#.len();
    let event = found..found + text[found..].find("},").expect("two events") + 2;
    let spoilt = text.replace(&text[event], "");
    std::fs::write(&end, spoilt).unwrap();
    let spoilt = check(folder.path());
    assert_eq!(spoilt.status.code(), Some(1), "{spoilt:?}");
    assert!(count(&spoilt, "lost") > 0, "{spoilt:?}");
    std::fs::write(&end, text).unwrap();

    // A message of which a client was told that it is completed, and none was.
    let histories = std::fs::read_dir(folder.path().join("1-directory/history")).unwrap();
    let held = r#""ending":"complete","session":null,"held":true"#;
    let is_told = |line: &&str| line.contains(r#""queue":"plain""#) && line.contains(held);
    let told = histories.map(|file| file.unwrap().path()).find_map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().find(is_told)?.to_owned();
        Some((path, text, line))
    });
    let (path, text, line) = told.expect("a message was completed");
    let refused = line.replace(r#""held":true"#, r#""held":false"#);
    std::fs::write(&path, text.replacen(&line, &refused, 1)).unwrap();
    let spoilt = check(folder.path());
    assert_eq!(spoilt.status.code(), Some(1), "{spoilt:?}");
    assert!(count(&spoilt, "lost") > 0, "{spoilt:?}");
}

/// Needs libfaketime; `cargo xtask test` installs it.
#[test]
fn pauses_and_clock_steps_break_no_law() {
    let faults = ["--kills", "1", "--pauses", "1", "--steps", "3"];
    let run = chaos(&["--no-power", "--longest-pause", "2s"])
        .args(faults)
        .output();
    let run = run.expect("the binary runs");
    assert!(run.status.success(), "{run:?}");
    assert_eq!((count(&run, "pauses"), count(&run, "clock steps")), (1, 3));
    assert_eq!((count(&run, "lost"), count(&run, "laws broken")), (0, 0));
}

#[test]
fn a_machine_that_cannot_cut_the_power_or_pause_is_told_why() {
    let run = chaos(&["--power", "--cuts", "1"])
        .env("PATH", "/nowhere")
        .output();
    let run = run.expect("the binary runs");
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        said.contains("the power of ext4 cannot be cut here: "),
        "{said}"
    );
    let run = chaos(&["--pauses", "1"]).env("PATH", "/nowhere").output();
    let said = String::from_utf8_lossy(&run.expect("the binary runs").stderr).into_owned();
    assert!(
        said.contains("setpriv is not there (Debian: util-linux)"),
        "{said}"
    );
}
