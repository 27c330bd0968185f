//! The command line against a running server.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::server::{Server, command};

/// Runs `mente WORDS… --server …`; exit code, standard output, standard error.
pub(crate) fn mente(server: &Server, words: &[&str]) -> (i32, String, String) {
    let (first, rest) = words.split_first().unwrap();
    let output = command(first)
        .args(rest)
        .args(["--server", &server.url()])
        .output();
    split(output.unwrap())
}

fn split(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Runs a command that must succeed; its standard output.
pub(crate) fn ok(server: &Server, words: &[&str]) -> String {
    let (code, out, err) = mente(server, words);
    assert_eq!(code, 0, "{words:?}: {err}");
    out
}

#[test]
fn a_day_in_verbs() {
    let server = Server::start();
    ok(&server, &["topic", "create", "orders", "--partitions", "1"]);
    ok(
        &server,
        &[
            "subscription",
            "create",
            "orders",
            "mail",
            "--filter",
            r#"{"exact":{"type":"placed"}}"#,
        ],
    );
    assert_eq!(
        ok(
            &server,
            &[
                "pub",
                "orders",
                r#"{"id":1}"#,
                "--type",
                "placed",
                "--subject",
                "o-1"
            ]
        ),
        "orders 0:0\n"
    );
    let json = ok(&server, &["topic", "publish", "orders", "2", "-o", "json"]);
    assert_eq!(json, "{\"partition\":0,\"offset\":1}\n");
    let tailed = ok(
        &server,
        &["tail", "orders", "--from", "earliest", "--limit", "2"],
    );
    assert_eq!(
        tailed,
        "0:0  placed  o-1  {\"id\":1}\n0:1  mente.event    2\n"
    );
    assert_eq!(
        ok(&server, &["topic", "ls"]),
        "NAME    PARTITIONS\norders  1\n"
    );
    assert_eq!(
        ok(&server, &["topic", "get", "orders"]),
        "PARTITION  START  END\n0          0      2\n"
    );

    let received = ok(
        &server,
        &[
            "subscription",
            "receive",
            "orders",
            "mail",
            "--max",
            "5",
            "--ack",
            "-o",
            "json",
        ],
    );
    let received: Value = serde_json::from_str(&received).unwrap();
    assert_eq!(received["value"][0]["event"]["subject"], "o-1");
    let list = ok(&server, &["subscription", "ls", "orders"]);
    assert!(
        list.starts_with("NAME  READY") && list.lines().count() == 2,
        "{list}"
    );
    assert_eq!(ok(&server, &["subscription", "dlq", "orders", "mail"]), "");

    let (code, _, err) = mente(&server, &["topic", "rm", "orders"]);
    assert_eq!((code, err.contains("--yes")), (2, true), "{err}");
    ok(&server, &["subscription", "rm", "orders", "mail", "--yes"]);
    ok(&server, &["topic", "rm", "orders", "--yes"]);
    assert_eq!(
        ok(&server, &["topic", "ls", "-o", "json"]),
        "{\"topics\":[]}\n"
    );
}

#[test]
fn standard_input_is_published_line_by_line() {
    let server = Server::start();
    let mut child = command("pub")
        .args(["t", "-", "--server", &server.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"1\n\n{\"a\":2}\n")
        .unwrap();
    let (code, out, _) = split(child.wait_with_output().unwrap());
    assert_eq!((code, &*out), (0, "t 0:0\nt 0:1\n"));
}

#[test]
fn exit_codes_tell_scripts_what_happened() {
    let server = Server::start_with(&[]);
    for (words, expect) in [
        (&["topic", "get", "nope"][..], 5),
        (&["pub", "nope", "1"], 5),
        (&["pub", "nope", "{"], 2),
        (&["topic", "nonsense"], 2),
        (&["topic", "create", "-x"], 2),
        (&["tail", "nope"], 5),
    ] {
        let (code, out, err) = mente(&server, words);
        assert_eq!((code, &*out), (expect, ""), "{words:?}: {err}");
        assert!(!err.is_empty());
    }
    ok(&server, &["topic", "create", "t"]);
    assert_eq!(
        mente(&server, &["topic", "create", "t", "--partitions", "2"]).0,
        6
    );
    let nobody = command("topic")
        .args(["ls", "--server", "http://127.0.0.1:1"])
        .output();
    let (code, _, err) = split(nobody.unwrap());
    assert_eq!((code, err.contains("mente dev")), (3, true), "{err}");
}

#[test]
fn a_bench_shows_its_rows_beside_the_disk() {
    let words = ["--quick", "sync", "publish-serial", "-o", "json"];
    let (code, out, err) = split(command("bench").args(words).output().unwrap());
    assert_eq!(code, 0, "{err}");
    let rows: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["name"])
        .collect();
    assert_eq!(names, ["sync", "publish-serial"]);
    let detail = rows[1]["detail"].as_str().unwrap();
    assert!(
        detail.contains("x the sync of") && detail.contains("lost 0"),
        "{detail}"
    );
    assert!(rows[1]["median"].as_f64().unwrap() > 0.0);
}
