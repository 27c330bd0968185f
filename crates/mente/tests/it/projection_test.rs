//! `mente projection test`: declarations tried on given events, and what is said of rows that differ.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::command;

/// Files to be tried, in a directory of their own.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &Value)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content.to_string()).unwrap();
        }
        Self(directory)
    }

    /// Exit code, standard output, standard error.
    fn tried(&self, names: &[&str]) -> (i32, String, String) {
        let mut command = command("projection");
        command.current_dir(self.0.path()).arg("test").args(names);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }
}

/// One file of these cases.
fn tried(cases: &Value) -> (i32, String, String) {
    Files::new(&[("t.json", cases)]).tried(&["t.json"])
}

/// All cases hold.
fn holds(cases: &Value) {
    let (code, out, err) = tried(cases);
    assert_eq!((code, &*err), (0, ""), "{out}");
}

/// The one case fails; what is said of it.
fn fails(case: &Value) -> String {
    let (code, out, err) = tried(case);
    assert_eq!(
        (code, &*err),
        (1, "mente: 1 of 1 failed: see above\n"),
        "{out}"
    );
    let (title, told) = out.split_once('\n').unwrap();
    assert!(title.starts_with("FAILED  t.json 1"), "{title}");
    told.to_owned()
}

/// The file is refused, and nothing is tried.
fn refused(file: &Value, part: &str) {
    let (code, out, err) = tried(file);
    assert_eq!((code, &*out), (2, ""), "{err}");
    assert!(err.contains(part), "{err}");
}

fn with(case: &Value, name: &str, value: Value) -> Value {
    let mut case = case.clone();
    case[name] = value;
    case
}

/// What each order comes to, and no less than nothing.
fn totals() -> Value {
    json!({
        "source": {"store": true, "category": "order"},
        "init": ["CREATE TABLE totals (id TEXT PRIMARY KEY, sum REAL CHECK (sum >= 0), at TEXT)"],
        "on": {"Placed": ["INSERT INTO totals VALUES (:stream, :data ->> 'sum', :time) \
                           ON CONFLICT (id) DO UPDATE SET sum = sum + excluded.sum"]},
    })
}

fn placed(order: &str, sum: i64) -> Value {
    json!({"stream": order, "type": "Placed", "data": {"sum": sum}})
}

fn case() -> Value {
    json!({
        "name": "orders add up",
        "projection": totals(),
        "given": [placed("order-1", 3), placed("order-2", 5), placed("cart-1", 9), placed("order-1", 4)],
        "expect": {
            "totals": [
                {"id": "order-2", "sum": 5, "at": "2026-01-01T00:00:02Z"},
                {"id": "order-1", "sum": 7, "at": "2026-01-01T00:00:01Z"},
            ],
            "SELECT id FROM totals ORDER BY sum DESC": [["order-1"], ["order-2"]],
        },
    })
}

#[test]
fn rows_as_expected_are_ok() {
    let beside = with(&case(), "projection", json!({"file": "totals.json"}));
    let cases = json!([case(), with(&beside, "name", Value::Null)]);
    let files = Files::new(&[
        ("totals.json", &totals()),
        ("a.json", &cases),
        ("b.json", &case()),
    ]);
    let (code, out, err) = files.tried(&["a.json", "b.json"]);
    let said =
        "ok      a.json 1: orders add up\nok      a.json 2\nok      b.json 1: orders add up\n";
    assert_eq!((code, &*out, &*err), (0, said, ""));
}

#[test]
fn a_row_that_differs_is_told_with_what_differs() {
    let rows = json!([
        {"id": "order-1", "sum": 8, "at": "2026-01-01T00:00:01Z"},
        ["order-3", 5, null],
        ["order-2", 5, "2026-01-01T00:00:02Z"],
    ]);
    let expected = json!({"totals": rows, "SELECT count(*) FROM totals": [[3]], "total": []});
    let told = fails(&with(&case(), "expect", expected));
    let found = r#"found {"id":"order-1","sum":7,"at":"2026-01-01T00:00:01Z"}"#;
    let said = [
        "  SELECT count(*) FROM totals, row 1: count(*) is 2, expected 3; found {\"count(*)\":2}\n",
        "  total: the query: no such table: total",
        &format!("  totals, row 1: sum is 7, expected 8; {found}\n"),
        "  totals, row 2 is missing: {\"id\":\"order-3\",\"sum\":5,\"at\":null}\n",
    ];
    for said in said {
        assert!(told.contains(said), "{said}: {told}");
    }
    assert_eq!(told.lines().count(), said.len(), "{told}");
    // One case of several fails, and the others are tried.
    let (code, out, err) = tried(&json!([
        case(),
        with(&case(), "expect", json!({"totals": []})),
        case()
    ]));
    assert_eq!((code, &*err), (1, "mente: 1 of 3 failed: see above\n"));
    let words: Vec<&str> = out
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(words, ["ok", "FAILED", "", "", "ok"], "{out}");
}

#[test]
fn an_event_is_refused_by_name() {
    let given = json!([
        placed("order-1", 3),
        placed("order-1", -9),
        placed("order-2", 1)
    ]);
    let stopped = with(&case(), "given", given);
    let stopped = with(
        &stopped,
        "expect",
        json!({"SELECT id, sum FROM totals": [["order-1", 3]]}),
    );
    let case = with(&stopped, "refuse", json!({"2": "CHECK constraint failed"}));
    holds(&case);
    let told = fails(&stopped);
    assert!(
        told.contains("event 2 is refused: CHECK constraint failed"),
        "{told}"
    );
    let told = fails(&with(&case, "refuse", json!({"2": "UNIQUE"})));
    assert!(
        told.contains("event 2 is refused, but not for \"UNIQUE\": CHECK"),
        "{told}"
    );
    let told = fails(&with(
        &case,
        "refuse",
        json!({"1": "CHECK", "2": "CHECK", "3": "CHECK"}),
    ));
    assert!(
        told.contains("event 1 is not refused, but should be: \"CHECK\""),
        "{told}"
    );
    assert!(
        told.contains("event 3 is not tried: event 2 stopped"),
        "{told}"
    );
    // The statement is shown, and is no part of the message.
    assert!(told.lines().count() == 2, "{told}");
    let told = fails(&with(&case, "refuse", json!({"2": "INSERT INTO"})));
    assert!(told.contains("(in \"INSERT INTO totals"), "{told}");
    // Others are folded in where the event is parked, or not appended.
    for (name, value) in [("onError", json!("park")), ("inline", json!(true))] {
        let goes_on = with(&case, "projection", with(&totals(), name, value));
        let rows = json!({"SELECT id, sum FROM totals": [["order-1", 3], ["order-2", 1]]});
        holds(&with(&goes_on, "expect", rows));
        fails(&goes_on);
        fails(&with(&goes_on, "refuse", json!({"2": "UNIQUE"})));
    }
}

#[test]
fn behind_a_parked_event_those_of_its_key_wait() {
    let given = json!([
        placed("order-1", -1),
        placed("order-1", 2),
        placed("order-1", -3),
        placed("order-2", -4)
    ]);
    let parks = with(
        &case(),
        "projection",
        with(&totals(), "onError", json!("park")),
    );
    let parks = with(
        &with(&parks, "given", given),
        "expect",
        json!({"totals": []}),
    );
    holds(&with(&parks, "refuse", json!({"1": "CHECK", "4": "CHECK"})));
    let told = fails(&with(
        &parks,
        "refuse",
        json!({"1": "CHECK", "3": "CHECK", "4": "CHECK"}),
    ));
    assert!(told.contains("event 3 is not refused"), "{told}");
}

#[test]
fn programs_and_topics_are_tried_too() {
    let source = "function project(event) {
        if (event.data.sum < 0) throw new Error('less than nothing');
        return { sql: 'INSERT INTO seen VALUES (:id, :subject, :sum)',
                 params: { id: event.id, subject: event.subject, sum: event.data.sum * 2 } };
    }";
    let case = json!({
        "projection": {
            "source": {"topic": "orders"},
            "init": ["CREATE TABLE seen (id TEXT, subject TEXT, sum INTEGER)"],
            "javascript": source,
        },
        "given": [
            {"type": "Placed", "subject": "o-1", "data": {"sum": 2}},
            {"type": "Placed", "id": "mine", "partitionkey": "k", "subject": "o-2", "data": {"sum": 3}},
            {"type": "Placed", "subject": "o-3", "data": {"sum": -1}},
        ],
        "expect": {"seen": [["event-1", "o-1", 4], ["mine", "o-2", 6]]},
        "refuse": {"3": "less than nothing"},
    });
    holds(&case);
    let told = fails(&with(
        &case,
        "expect",
        json!({"seen": [["event-1", "o-1", 4]]}),
    ));
    assert!(
        told.contains("seen, a row too many: {\"id\":\"mine\""),
        "{told}"
    );
}

#[test]
fn what_cannot_be_is_said_of_the_case() {
    let told = fails(&with(
        &case(),
        "projection",
        with(&totals(), "init", json!(["CREATE TABEL t"])),
    ));
    assert!(
        told.contains("the declaration is refused: ") && told.contains("TABEL"),
        "{told}"
    );
    let told = fails(&with(&case(), "given", json!([{"stream": "order-1"}])));
    assert!(
        told.contains("event 1: ") && told.contains("type"),
        "{told}"
    );
    let told = fails(&with(&case(), "given", json!([{"type": "Placed"}])));
    assert!(
        told.contains("event 1: its \"stream\" is missing"),
        "{told}"
    );
    // Names from a file do not drive the terminal.
    let (_, out, _) = tried(&with(&case(), "name", json!("a\u{1b}[2J\nb")));
    assert_eq!(out, "ok      t.json 1: a\u{fffd}[2J\u{fffd}b\n");
    let twice = with(&placed("order-1", 1), "id", json!("same"));
    let told = fails(&with(&case(), "given", json!([twice, twice])));
    assert!(
        told.contains("event 2: its id is that of an earlier event of order-1"),
        "{told}"
    );
}

#[test]
fn a_file_that_is_no_test_is_refused() {
    refused(&json!([]), "0 cases");
    refused(&json!({"projection": totals()}), "missing field `given`");
    refused(
        &with(&case(), "expects", json!({})),
        "unknown field `expects`",
    );
    refused(
        &with(&case(), "expect", json!({})),
        "neither \"expect\" nor \"refuse\"",
    );
    refused(
        &with(&case(), "refuse", json!({"5": "x"})),
        "names event 5, and 4 are given",
    );
    refused(
        &with(&case(), "refuse", json!({"1": ""})),
        "no part of the message",
    );
    refused(
        &with(&case(), "expect", json!({"totals": [3]})),
        "3 is no row",
    );
    refused(
        &with(&case(), "projection", json!({"file": "none.json"})),
        "cannot read none.json",
    );
    let outside = with(
        &totals(),
        "target",
        json!({"postgres": "postgres://127.0.0.1/shop"}),
    );
    refused(
        &with(&case(), "projection", outside),
        "PostgreSQL, are not tried",
    );
    // One of two members with one name would count for nothing, in a declaration too.
    let beside = with(&case(), "projection", json!({"file": "declared.json"}));
    let files = Files::new(&[("good.json", &case()), ("beside.json", &beside)]);
    let write = |name: &str, text: String| std::fs::write(files.0.path().join(name), text).unwrap();
    let expect = "\"expect\":{";
    let twice = case()
        .to_string()
        .replacen(expect, &format!("{expect}\"totals\":[],"), 1);
    write("twice.json", twice);
    write(
        "declared.json",
        totals().to_string().replacen('{', "{\"init\":[],", 1),
    );
    for (name, part) in [
        ("twice.json", "\"totals\" appears twice"),
        ("beside.json", "\"init\" appears twice"),
    ] {
        let (code, _, err) = files.tried(&[name]);
        assert!(code == 2 && err.contains(part), "{name}: {code} {err}");
    }
    // The first file is good, and is not tried.
    let (code, out, err) = files.tried(&["good.json", "absent.json"]);
    assert_eq!((code, &*out), (2, ""));
    assert!(err.contains("cannot read absent.json"), "{err}");
}
