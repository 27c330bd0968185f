//! The stream that `mente demo ledger` keeps a journal in: run again, added to, tampered with, corrected; and
//! files that are no journal.

use std::collections::BTreeSet;

use serde_json::json;

use crate::ledger::{demo, demo_on, ours, report};
use crate::server::Server;

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

#[tokio::test]
async fn somebody_elses_fold_stays_as_it_is() {
    let server = Server::start();
    let fold = r#"{"ledger.Transacted":[{"merge":"data"}]}"#;
    server.ok("PUT", "/folds/ledger", fold).await;
    let ran = demo_on(&server, &ours("pads.beancount"), &[]);
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(
        ran.err.contains("another fold on this server"),
        "{}",
        ran.err
    );
    let kept = server.ok("GET", "/folds/ledger", "").await;
    assert_eq!(kept.to_string(), fold);
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
