//! `mente demo ledger`, with beancount itself as the judge: of its own example journals, of ours, which
//! use all of the language, and of random ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::server::{Server, command};

/// By account and currency, with as few digits as say it.
type Balances = BTreeMap<(String, String), String>;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn demo(file: &Path, words: &[&str]) -> Ran {
    ran(command("demo")
        .arg("ledger")
        .arg(file)
        .args(words)
        .args(crate::engine::flags()))
}

fn demo_on(server: &Server, file: &Path, words: &[&str]) -> Ran {
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

fn report(ran: &Ran) -> Value {
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

fn ours(name: &str) -> PathBuf {
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
        ("faults", 56),
    ] {
        let file = ours(&format!("{name}.beancount"));
        assert_eq!(check(&file), errors, "{name}");
    }
}

#[test]
fn random_journals_are_booked_as_beancount_books_them() {
    let folder = tempfile::tempdir().unwrap();
    script(
        "ledger_journals.py",
        &[folder.path().to_str().unwrap(), "1", "40"],
    );
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
    assert!(agreed >= 20 && agreed + refused == 40, "{agreed} {refused}");
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

#[tokio::test]
async fn a_second_run_adds_nothing_and_a_longer_journal_its_end() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("book.beancount");
    let begun = "2020-01-01 open Assets:Cash\n2020-01-01 open Equity:Opening\n\
        2020-01-02 * \"One\"\n  Assets:Cash  1.10 EUR\n  Equity:Opening\n\
        2020-01-02 * \"One\"\n  Assets:Cash  1.10 EUR\n  Equity:Opening\n";
    std::fs::write(&file, begun).unwrap();
    let counts = |words: &[&str]| {
        let ran = demo_on(&server, &file, &[&["-o", "json"], words].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let report = report(&ran);
        (
            report["appended"].clone(),
            report["there"].clone(),
            report["balances"].clone(),
        )
    };
    let cash = |amount: &str| json!({"Assets:Cash": {"EUR": amount}, "Equity:Opening": {"EUR": format!("-{amount}")}});
    assert_eq!(counts(&[]), (json!(4), json!(0), cash("2.20")));
    assert_eq!(counts(&[]), (json!(0), json!(4), cash("2.20")));
    let longer = format!("{begun}2020-01-03 * \"More\"\n  Assets:Cash  2 EUR\n  Equity:Opening\n");
    std::fs::write(&file, &longer).unwrap();
    assert_eq!(counts(&[]), (json!(1), json!(4), cash("4.20")));
    // An event that was appended is not edited by editing the journal.
    std::fs::write(&file, longer.replace("2 EUR", "3 EUR")).unwrap();
    let edited = demo_on(&server, &file, &[]);
    assert_eq!(edited.code, 6, "{}", edited.err);
    assert!(
        edited
            .err
            .contains("event 4 of the stream is not in the journal"),
        "{}",
        edited.err
    );
    let early = format!("{longer}2020-01-01 note Assets:Cash \"Late\"\n");
    std::fs::write(&file, early).unwrap();
    let early = demo_on(&server, &file, &[]);
    assert_eq!(early.code, 6, "{}", early.err);
    assert!(
        early.err.contains("something new of 2020-01-01"),
        "{}",
        early.err
    );
    // The same journal in another stream.
    std::fs::write(&file, longer).unwrap();
    assert_eq!(
        counts(&["--stream", "ledger-2"]),
        (json!(5), json!(0), cash("4.20"))
    );
    let state = server.ok("GET", "/streams/ledger-2/state?at=2", "").await;
    let expected = json!({"Assets:Cash": {"EUR": "1.10"}, "Equity:Opening": {"EUR": "-1.10"}});
    assert_eq!(state["state"]["balances"], expected);
    assert_eq!(
        state["state"]["accounts"]["Assets:Cash"],
        json!({"opened": "2020-01-01"})
    );
}

#[tokio::test]
async fn a_transaction_that_is_not_the_journals_is_found() {
    let server = Server::start();
    let file = ours("include.beancount");
    assert_eq!(demo_on(&server, &file, &[]).code, 0);
    let planted = json!({
        "specversion": "1.0", "id": "planted", "source": "/t", "type": "ledger.Transacted",
        "time": "2021-06-02T00:00:00Z",
        "data": {"date": "2021-06-02", "amounts": {"Assets:Cash": {"EUR": "0.01"}}},
    });
    let body = planted.to_string();
    let event = Some("application/cloudevents+json");
    let path = "/streams/ledger-include";
    let sent = server.client.request("POST", path, event, body).await;
    assert_eq!(sent.unwrap().status, 200);
    let ran = demo_on(&server, &file, &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.out.contains("balances equal 6 of 7 dates"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("1 events are not in the journal, the first at revision 8"),
        "{}",
        ran.out
    );
    let row: Vec<_> = ran
        .out
        .lines()
        .find(|line| line.starts_with("2021-06-02"))
        .unwrap()
        .split_whitespace()
        .collect();
    let expected = [
        "2021-06-02",
        "Assets:Cash",
        "EUR",
        "17.01",
        "17.01",
        "17.00",
    ];
    assert_eq!(row, expected);
}

#[tokio::test]
async fn a_transaction_is_reversed_once_and_only_a_transaction() {
    let server = Server::start();
    let file = ours("include.beancount");
    assert_eq!(demo_on(&server, &file, &[]).code, 0);
    let reverse = |which: &str, words: &[&str]| {
        demo_on(&server, &file, &[&["--reverse", which], words].concat())
    };
    let ran = reverse("2", &["--because", "it was a gift", "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let done = report(&ran);
    assert_eq!(
        (&done["reverses"], &done["revision"]),
        (&json!(2), &json!(8))
    );
    assert_eq!(done["before"]["Assets:Cash"], json!({"EUR": "17.00"}));
    assert_eq!(done["moved"]["Assets:Cash"], json!({"EUR": "-2.50"}));
    assert_eq!(done["after"]["Assets:Cash"], json!({"EUR": "14.50"}));
    let kept = server.ok("GET", "/streams/ledger-include?from=8", "").await;
    let data = &kept["events"][0]["event"]["data"];
    assert_eq!(data["because"], "it was a gift");
    assert_eq!(data["postings"][0]["units"], "-2.50");
    let first = server
        .ok("GET", "/streams/ledger-include?from=2&limit=1", "")
        .await;
    assert_eq!(data["reverses"], first["events"][0]["event"]["id"]);

    let again = reverse("2", &[]);
    assert_eq!(again.code, 6, "{}", again.err);
    assert!(
        again.err.contains("reversed already, by event 8"),
        "{}",
        again.err
    );
    let open = reverse("0", &[]);
    assert_eq!(open.code, 2, "{}", open.err);
    assert!(open.err.contains("is a ledger.Opened"), "{}", open.err);
    let none = reverse("99", &[]);
    assert_eq!(none.code, 5, "{}", none.err);
    // By its id; and a reversal belongs to the journal from then on.
    let id = kept["events"][0]["event"]["id"].as_str().unwrap();
    let back = reverse(id, &[]);
    assert_eq!(back.code, 0, "{}", back.err);
    assert!(
        back.out.contains("event 8 is reversed by event 9"),
        "{}",
        back.out
    );
    let ran = demo_on(&server, &file, &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn the_demos_own_server_shows_a_reversal() {
    let report = report(&demo(&ours("pads.beancount"), &["-o", "json"]));
    let reversal = &report["reversal"];
    assert_eq!(reversal["exact"], true);
    assert_eq!(reversal["before"]["Assets:Cash"], json!({"USD": "7.25"}));
    assert_eq!(reversal["after"]["Assets:Cash"], json!({"USD": "6.25"}));
}

#[test]
fn stupid_inputs_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8], why: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let ran = demo(&file, &[]);
        assert!(
            matches!(ran.code, 1 | 2),
            "{name}: {} {}",
            ran.code,
            ran.err
        );
        assert!(ran.err.contains(why), "{name}: {}", ran.err);
        assert!(
            !ran.err.contains("panic") && ran.out.is_empty(),
            "{name}: {}",
            ran.err
        );
        assert!(ran.err.lines().count() <= 2, "{name}: {}", ran.err);
    };
    refused("empty", b"", "holds no directive");
    refused("blank", b"\n; nothing\n* Heading\n", "holds no directive");
    refused(
        "garbage",
        &[0x13, 0xff, 0x00, 0x0a, 0x80],
        "no text in UTF-8",
    );
    refused("nul", b"\0\0\0", "nul:1: nothing begins with");
    let deep = format!("2020-01-01 balance Assets:A {}1 EUR\n", "(".repeat(10_000));
    refused(
        "deep",
        deep.as_bytes(),
        "deep:1: parentheses and signs nest deeper",
    );
    let signs = format!("2020-01-01 balance Assets:A {}1 EUR\n", "-".repeat(10_000));
    refused("signs", signs.as_bytes(), "nest deeper");
    let tower = format!(
        "2020-01-01 balance Assets:A 0.{:0>30}{} EUR\n",
        1,
        "*0.0000001".repeat(999)
    );
    refused("tower", tower.as_bytes(), "too large or too small");
    let long = format!("2020-01-01 balance Assets:A {} EUR\n", "9".repeat(10_000));
    refused("long", long.as_bytes(), "more than 38 digits");
    let large = format!("2020-01-01 note Assets:A \"{}\"\n", "x".repeat(2 << 20));
    refused(
        "large",
        large.as_bytes(),
        "large:1: the directive has more than",
    );
    refused(
        "open",
        b"2020-01-01 note Assets:A \"no end\n",
        "open:1: a text that begins here",
    );
    refused(
        "undated",
        b"open Assets:A\n",
        "undated:1: a date is missing",
    );
    refused(
        "unknown",
        b"2020-01-01 opne Assets:A\n",
        "unknown:1: nothing begins with \"opne\"",
    );
    refused(
        "zero",
        b"2020-01-01 balance Assets:A 1/0 EUR\n",
        "zero:1: a division by zero",
    );
    let missing = demo(&folder.path().join("missing"), &[]);
    assert_eq!(missing.code, 2, "{}", missing.err);
    let directory = demo(folder.path(), &[]);
    assert_eq!(directory.code, 2, "{}", directory.err);
    assert!(directory.err.contains("is no file"), "{}", directory.err);
    let name = demo(&ours("pads.beancount"), &["--stream", "books"]);
    assert_eq!(name.code, 2, "{}", name.err);
}

#[test]
fn files_that_include_each_other_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.beancount");
    let other = folder.path().join("b.beancount");
    std::fs::write(&file, "2020-01-01 open Assets:A\ninclude \"b.beancount\"\n").unwrap();
    std::fs::write(&other, "include \"a.beancount\"\n").unwrap();
    let ran = demo(&file, &["-o", "json"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let errors = report(&ran)["errors"].clone();
    let told: BTreeSet<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["error"].to_string())
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        errors[0]["error"]
            .as_str()
            .unwrap()
            .starts_with("b.beancount:1: "),
        "{told:?}"
    );
}
