//! Streams, their state, and SQL views: on the command line, over a kill, and verified.

use serde_json::{Value, json};

use crate::server::Server;
use crate::verbs::{mente, ok};

const FOLD: &str = r#"{"Placed":[{"merge":"data"},{"set":{"status":"placed"}}],"Paid":[{"set":{"status":"paid"}}],"Shipped":[{"set":{"status":"shipped"}}]}"#;

fn file(server: &Server, name: &str, text: &str) -> String {
    let path = server.data().with_file_name(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn append(server: &Server, kind: &str, id: &str, expected: &str) -> Value {
    let words = [
        "stream",
        "append",
        "order-1",
        r#"{"total":5}"#,
        "--type",
        kind,
        "--id",
        id,
    ];
    let out = ok(server, &[&words[..], &["--expected", expected]].concat());
    serde_json::from_str(&out).unwrap()
}

#[test]
fn an_order_is_a_stream_with_a_past() {
    let server = Server::start();
    ok(
        &server,
        &["fold", "set", "order", &file(&server, "fold.json", FOLD)],
    );
    append(&server, "Placed", "e1", "none");
    append(&server, "Paid", "e2", "0");
    let first = append(&server, "Shipped", "e3", "1");
    assert_eq!(
        (&first["lastRevision"], &first["repeated"]),
        (&json!(2), &json!(false))
    );
    let server = server.crash_and_restart();
    let again = append(&server, "Shipped", "e3", "1");
    assert_eq!(
        (&again["lastPosition"], &again["repeated"]),
        (&first["lastPosition"], &json!(true))
    );
    let late = [
        "stream",
        "append",
        "order-1",
        "{}",
        "--type",
        "Paid",
        "--expected",
        "0",
    ];
    let (code, _, err) = mente(&server, &late);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("is at revision 2"), "{err}");
    for (at, status) in [("0", "placed"), ("1", "paid"), ("2", "shipped")] {
        let out = ok(
            &server,
            &["stream", "state", "order-1", "--at", at, "-o", "json"],
        );
        let state: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(state["state"], json!({"total": 5, "status": status}));
    }
    let (code, _, err) = mente(&server, &["stream", "state", "order-1", "--at", "3"]);
    assert!(code != 0 && err.contains("not yet at 3"), "{err}");
}

#[test]
fn a_view_is_rebuilt_to_the_same_rows_and_a_planted_difference_is_found() {
    let server = Server::start();
    append(&server, "Placed", "e1", "any");
    append(&server, "Paid", "e2", "any");
    let declared = json!({
        "source": {"store": true, "category": "order"},
        "database": "orders.db",
        "init": ["CREATE TABLE orders (stream TEXT PRIMARY KEY, events INTEGER)"],
        "on": {
            "Placed": ["INSERT INTO orders VALUES (:stream, 1)"],
            "Paid": ["UPDATE orders SET events = events + 1 WHERE stream = :stream"],
        },
    });
    let declared = file(&server, "orders.json", &declared.to_string());
    ok(&server, &["projection", "create", "orders", &declared]);
    let rows = || {
        ok(
            &server,
            &["projection", "query", "orders", "SELECT * FROM orders"],
        )
    };
    until(|| rows().contains("order-1  2"));
    let before = rows();
    ok(&server, &["projection", "rebuild", "orders"]);
    let done =
        || ok(&server, &["projection", "get", "orders", "-o", "json"]).contains(r#""rebuilds":1"#);
    until(done);
    assert_eq!(rows(), before);
    let verified = ok(&server, &["verify"]);
    assert!(verified.contains("equal     store"), "{verified}");
    assert!(
        verified.contains("equal     projection orders"),
        "{verified}"
    );

    let file = server.data().join("projections/orders.db");
    let database = rusqlite::Connection::open(file).unwrap();
    database
        .execute("UPDATE orders SET events = 7", ())
        .unwrap();
    let (code, out, err) = mente(&server, &["verify"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains("DIFFERENT projection orders") && out.contains("rows of orders"),
        "{out}"
    );
}

fn until(done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + crate::server::SOON;
    while !done() {
        assert!(
            std::time::Instant::now() < deadline,
            "it does not come to be"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
