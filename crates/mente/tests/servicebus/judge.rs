//! What a program of cases printed, held against what it has.

use std::collections::BTreeSet;
use std::process::{Command, Output};

/// A case of a program: its name, and the kinds of queues and topics that it has to itself.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kinds: Vec<String>,
}

pub(crate) fn listed(list: &mut Command) -> Vec<Case> {
    let output = works(list);
    let lines = String::from_utf8(output.stdout).unwrap();
    let case = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next().expect("a line of a case names it");
        Case {
            name,
            kinds: words.collect(),
        }
    };
    lines.lines().map(case).collect()
}

/// Every case must be there once, as `ok`.
pub(crate) fn run(run: &mut Command, cases: &[Case]) {
    let output = output(run);
    let said = String::from_utf8_lossy(&output.stdout);
    if let Err(why) = verdict(&said, cases) {
        let error = String::from_utf8_lossy(&output.stderr);
        panic!("{why}\n{error}");
    }
    assert!(output.status.success(), "all is ok, but {}", output.status);
}

fn verdict(said: &str, cases: &[Case]) -> Result<(), String> {
    let mut missing: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let mut wrong = Vec::new();
    for line in said.lines() {
        let name = line.strip_prefix("ok ");
        if !name.is_some_and(|name| missing.remove(name)) {
            wrong.push(line.to_owned());
        }
    }
    let failed = |name: &&str| {
        wrong
            .iter()
            .any(|line| line.starts_with(&format!("FAIL {name}:")))
    };
    let silent: Vec<_> = missing.iter().filter(|name| !failed(name)).collect();
    wrong.extend(
        silent
            .into_iter()
            .map(|name| format!("nothing was said of {name}")),
    );
    if wrong.is_empty() {
        return Ok(());
    }
    let (bad, all) = (missing.len(), cases.len());
    Err(format!(
        "{bad} of {all} cases failed; not as it should be:\n{}",
        wrong.join("\n")
    ))
}

/// A command that must succeed.
pub(crate) fn works(command: &mut Command) -> Output {
    let output = output(command);
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    output
}

fn output(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| {
        panic!("cannot run {command:?} ({error}): cargo xtask setup installs what is needed")
    })
}

#[test]
fn each_case_is_said_to_be_ok_and_nothing_else_is_said() {
    let cases = ["a", "b"].map(|name| Case {
        name: name.to_owned(),
        kinds: Vec::new(),
    });
    assert_eq!(verdict("ok b\nok a\n", &cases), Ok(()));
    let wrong = |said: &str| verdict(said, &cases).unwrap_err();
    assert_eq!(
        wrong("ok a\nFAIL b: why\n"),
        "1 of 2 cases failed; not as it should be:\nFAIL b: why"
    );
    assert_eq!(
        wrong("ok a\n"),
        "1 of 2 cases failed; not as it should be:\nnothing was said of b"
    );
    // Said twice, unknown, or not of this form.
    assert!(wrong("ok a\nok b\nok b\n").ends_with("ok b"));
    assert!(wrong("ok a\nok b\nok c\n").ends_with("ok c"));
    assert!(wrong("ok a\nok b\nskipped c\n").ends_with("skipped c"));
}
