//! `mente demo ledger`, with beancount itself as the judge: of its own example journals, of ours, which
//! use all of the language, and of random ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::server::{Server, command};

/// By account and currency, with as few digits as say it.
type Balances = BTreeMap<(String, String), String>;

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn demo(file: &Path, words: &[&str]) -> Ran {
    ran(command("demo")
        .arg("ledger")
        .arg(file)
        .args(words)
        .args(crate::engine::flags()))
}

pub(crate) fn demo_on(server: &Server, file: &Path, words: &[&str]) -> Ran {
    ran(command("demo")
        .arg("ledger")
        .arg(file)
        .args(words)
        .args(["--server", &server.url()]))
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().expect("the binary runs");
    Ran {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err))
}

/// What a script of tests/python prints.
fn script(name: &str, words: &[&str]) -> String {
    let root = workspace();
    let output = Command::new(python(&root))
        .arg(root.join("tests/python").join(name))
        .args(words)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

fn judged(file: &Path) -> Value {
    let out = script("ledger_balances.py", &[file.to_str().unwrap()]);
    serde_json::from_str(&out).unwrap()
}

pub(crate) fn ours(name: &str) -> PathBuf {
    workspace().join("tests/ledger").join(name)
}

/// Beancount's own, which the set-up fetches.
fn examples() -> Vec<PathBuf> {
    let folder = workspace().join(".venv/examples/beancount-3.2.3/examples");
    let names = [
        "example.beancount",
        "simple/basic.beancount",
        "simple/starter.beancount",
        "vesting/vesting.beancount",
    ];
    names.map(|name| folder.join(name)).to_vec()
}

fn balances(of: &Value) -> Balances {
    let mut balances = Balances::new();
    for (account, amounts) in of.as_object().unwrap() {
        for (currency, number) in amounts.as_object().unwrap() {
            let number = number.as_str().unwrap();
            let number = match number.contains('.') {
                true => number.trim_end_matches('0').trim_end_matches('.'),
                false => number,
            };
            let key = (account.clone(), currency.clone());
            balances.insert(key, number.to_owned());
        }
    }
    balances
}

/// On every day on which something happens the balances are beancount's, and as many things are
/// wrong, in the same lines; how many.
fn agrees(file: &Path, judged: &Value, ran: &Ran) -> usize {
    let file = file.display();
    let report = report(ran);
    let compared = &report["compared"];
    assert_eq!(compared["equal"], compared["dates"], "{file}: {compared}");
    for (date, expected) in judged["balances"].as_object().unwrap() {
        let found = report["every"].get(date).unwrap_or_else(|| {
            panic!("{file}: nothing of {date}");
        });
        assert_eq!(balances(found), balances(expected), "{file} on {date}");
    }
    let expected = judged["errors"].as_array().unwrap();
    let found = report["errors"].as_array().unwrap();
    assert_eq!(
        found.len(),
        expected.len(),
        "{file}: {found:?} {expected:?}"
    );
    // Beancount names no line of an include.
    let lines = |errors: &[Value], line: fn(&Value) -> u64| {
        let mut lines: Vec<_> = errors.iter().map(line).filter(|line| *line > 0).collect();
        lines.sort_unstable();
        lines
    };
    let of_file = |error: &&Value| {
        let text = error["error"].as_str().unwrap();
        !text.contains("finds no file")
    };
    let found: Vec<Value> = found.iter().filter(of_file).cloned().collect();
    assert_eq!(
        lines(&found, |error| error["line"].as_u64().unwrap()),
        lines(expected, |error| error[0].as_u64().unwrap()),
        "{file}: {found:?} {expected:?}"
    );
    assert_eq!(
        ran.code,
        i32::from(!expected.is_empty()),
        "{file}: {}",
        ran.err
    );
    expected.len()
}

fn check(file: &Path) -> usize {
    let ran = demo(file, &["--every-date", "-o", "json"]);
    agrees(file, &judged(file), &ran)
}

#[test]
fn beancounts_examples_have_beancounts_balances_on_every_day() {
    for file in examples() {
        assert!(
            file.exists(),
            "no {}: `cargo xtask setup` fetches it",
            file.display()
        );
        assert_eq!(check(&file), 0);
    }
}

#[test]
fn so_has_a_year_that_beancount_makes_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made up.beancount");
    let root = workspace();
    let made = Command::new(python(&root).with_file_name("bean-example"))
        .args(["--seed", "7"])
        .args(["--date-begin", "2023-01-01", "--date-end", "2024-01-01"])
        .args(["--date-birth", "1980-05-12", "--output"])
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    assert_eq!(check(&file), 0);
    let shown = demo(&file, &[]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(
        shown.out.contains("stream      ledger-made-up:"),
        "{}",
        shown.out
    );
    let all = shown
        .out
        .lines()
        .find(|line| line.starts_with("balances equal"));
    let words: Vec<_> = all.unwrap().split(' ').collect();
    assert_eq!(words[2], words[4], "{all:?}");
}

#[test]
fn every_part_of_the_language_is_understood_as_beancount_does() {
    for (name, errors) in [
        ("syntax", 0),
        ("interpolation", 0),
        ("lots", 0),
        ("booking", 0),
        ("include", 0),
        ("plugins", 0),
        ("pads", 1),
        ("tolerances", 2),
        ("faults", 57),
    ] {
        let file = ours(&format!("{name}.beancount"));
        assert_eq!(check(&file), errors, "{name}");
    }
}

#[test]
fn random_journals_are_booked_as_beancount_books_them() {
    // On Kafka every server takes its time to start, and books are the same.
    let count = if crate::engine::HAS_BACKUPS { 40 } else { 4 };
    let folder = tempfile::tempdir().unwrap();
    let words = [folder.path().to_str().unwrap(), "1", &count.to_string()];
    script("ledger_journals.py", &words);
    let (mut agreed, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let file = entry.unwrap().path();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("beancount") => {
                let judged = std::fs::read(file.with_extension("json")).unwrap();
                let judged: Value = serde_json::from_slice(&judged).unwrap();
                agrees(
                    &file,
                    &judged,
                    &demo(&file, &["--every-date", "-o", "json"]),
                );
                agreed += 1;
            }
            // Beancount fails at these; what matters here is that Mente does not.
            Some("refused") => {
                let ran = demo(&file, &["-o", "json"]);
                assert_eq!(ran.code, 1, "{}", ran.err);
                let compared = &report(&ran)["compared"];
                assert_eq!(compared["equal"], compared["dates"]);
                refused += 1;
            }
            _ => {}
        }
    }
    assert!(agreed > 0 && agreed >= refused, "{agreed} {refused}");
    assert_eq!(agreed + refused, count);
}

#[test]
fn what_is_not_folded_is_told() {
    let report = report(&demo(&ours("syntax.beancount"), &["-o", "json"]));
    let kinds = [
        "commodity",
        "custom",
        "document",
        "event",
        "note",
        "price",
        "query",
    ];
    let noted: Vec<_> = report["noted"].as_object().unwrap().keys().collect();
    assert_eq!(noted, kinds);
    let shown = demo(&ours("plugins.beancount"), &[]);
    let said = "beancount.plugins.implicit_prices is not run: would note prices, moves no money";
    assert!(shown.out.contains(said), "{}", shown.out);
}

#[test]
fn balances_at_a_date_are_those_of_that_date() {
    let at = |date| {
        let report = report(&demo(
            &ours("include.beancount"),
            &["--at", date, "-o", "json"],
        ));
        (
            report["revision"].clone(),
            report["balances"]["Assets:Cash"]["EUR"].clone(),
        )
    };
    assert_eq!(at("2019-12-31"), (Value::Null, Value::Null));
    assert_eq!(at("2020-06-01"), (json!(2), json!("2.50")));
    assert_eq!(at("2020-12-30"), (json!(2), json!("2.50")));
    assert_eq!(at("2021-01-01"), (json!(5), json!("17.50")));
    assert_eq!(at("2999-01-01"), (json!(7), json!("17.00")));
}
