//! What a file declares is there when a server of the embedded engine begins.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::certificates::text;
use crate::server::{SOON, Server, command};
use crate::topology::{Written, run};

/// The exit code of a server that must not begin, and what it said.
fn ended(mut server: Command) -> (Option<i32>, String) {
    let mut process = server.stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if began.elapsed() > SOON {
            process.kill().unwrap();
            panic!("the server began");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_server_begins_with_what_is_declared_or_not_at_all() {
    let written = Written::new();
    let session =
        |session: bool| json!([{ "Name": "q", "Properties": { "RequiresSession": session } }]);
    let file = written.of(session(true), json!([]));
    let server = Server::start_with(&["--topology", text(&file)]);
    assert_eq!(run(&server, "diff", &file).0, 0);
    // Again on what is there, with more of it.
    let queues =
        json!([{ "Name": "q", "Properties": { "RequiresSession": true } }, { "Name": "more" }]);
    let file = written.of(queues, json!([]));
    let server = server.crash_and_restart();
    assert_eq!(run(&server, "diff", &file).0, 0);

    let data = tempfile::tempdir().unwrap();
    let begin = |file: &Path, more: &[&str]| {
        let mut command = command("server");
        command.args([
            "--http",
            "127.0.0.1:0",
            "--topology",
            text(file),
            "--data-dir",
        ]);
        command.arg(data.path()).args(more);
        ended(command)
    };
    let missing = written.directory.path().join("missing.json");
    let (code, err) = begin(&missing, &[]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("cannot read the topology") && err.contains("missing.json"),
        "{err}"
    );
    let wrong = written.file("wrong.json", "{\n\"UserConfig\": {\"Namespaces\": [{\"Queues\": [{\"Name\": \"q\", \"Property\": {}}]}]}}");
    let (code, err) = begin(&wrong, &[]);
    assert_eq!(code, Some(2), "{err}");
    let words = "wrong.json: line 2, column 69: UserConfig.Namespaces[0].Queues[0].Property is not known; there may be Name, Properties";
    assert!(err.contains(words), "{err}");
    let (code, err) = begin(
        &file,
        &["--engine", "kafka", "--kafka-bootstrap", "127.0.0.1:1"],
    );
    assert_eq!(
        (code, err.contains("for the embedded engine")),
        (Some(2), true),
        "{err}"
    );
}

#[test]
fn a_server_whose_queues_are_others_does_not_begin() {
    let written = Written::new();
    let session =
        |session: bool| json!([{ "Name": "q", "Properties": { "RequiresSession": session } }]);
    let file = written.of(session(true), json!([]));
    let mut server = Server::start_with(&["--topology", text(&file)]);
    server.terminate();
    server.wait();
    written.of(session(false), json!([]));
    let mut rival = server.rival();
    rival.args(["--http", "127.0.0.1:0"]);
    let (code, err) = ended(rival);
    assert_eq!(code, Some(6), "{err}");
    assert!(
        err.contains("RequiresSession of queue q is fixed when it is made"),
        "{err}"
    );
}
