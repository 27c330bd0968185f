//! The `cloudevents` packages of Python and JavaScript, unmodified: each writes every case of
//! `tests/cloudevents/cases.json` in binary, structured and batch mode, and both read what both
//! wrote, in all three modes.
//!
//! What comes back is the case, but for what `losses.json` lists with its reason and exactly as
//! it comes back: a loss that is not listed fails, and one that is listed and does not happen too.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use crate::server::Server;

const PACKAGES: [&str; 2] = ["py", "js"];
const MODES: [&str; 3] = ["binary", "structured", "batch"];
/// The JavaScript package cannot send non-ASCII attributes in binary mode (it does not encode
/// them), and writes empty bytes in structured mode as what the specification forbids.
const REFUSED: [(&str, &str); 2] = [("binary", "non-ascii"), ("structured", "empty-bytes")];

fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

fn document(name: &str) -> Value {
    let text = std::fs::read_to_string(tests().join("cloudevents").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn run(package: &str, verb: &str, server: &Server, topic: &str, input: &Value) -> Value {
    let mut command = if package == "py" {
        let python = std::env::var_os("MENTE_TEST_PYTHON").map(PathBuf::from);
        let mut command =
            Command::new(python.unwrap_or_else(|| tests().join("../.venv/bin/python")));
        command.arg(tests().join("python/cloudevents_modes.py"));
        command
    } else {
        let mut command = Command::new("node");
        command.arg(tests().join("node/cloudevents_modes.mjs"));
        command
    };
    let child = command
        .args([verb, &server.url(), topic])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("cannot run the {package} client ({error}): cargo xtask setup installs it")
    });
    let text = input.to_string();
    // A client that needs no input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the {package} client failed; cargo xtask setup installs its packages: {error}"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a case should come back as.
fn whole(case: &Value) -> Value {
    let kept = case
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "name");
    Value::Object(
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>(),
    )
}

#[test]
fn both_packages_read_what_both_wrote_in_every_mode() {
    let server = Server::start();
    let cases: BTreeMap<String, Value> = document("cases.json")
        .as_array()
        .unwrap()
        .iter()
        .map(|case| (case["name"].as_str().unwrap().to_owned(), whole(case)))
        .collect();
    let key = |parts: [&str; 5]| parts.join(" ");
    let mut losses: BTreeMap<String, Value> = document("losses.json")
        .as_array()
        .unwrap()
        .iter()
        .map(|loss| {
            let part = |name: &str| loss[name].as_str().unwrap();
            assert!(part("why").len() > 10);
            let parts = ["writer", "wrote", "reader", "read", "case"].map(part);
            (key(parts), loss["found"].clone())
        })
        .collect();
    let mut compared = 0;
    for writer in PACKAGES {
        let places = run(writer, "publish", &server, writer, &Value::Null);
        for (mode, places) in places.as_object().unwrap() {
            for (case, place) in places.as_object().unwrap() {
                let refused = place.as_str().unwrap().starts_with("refused");
                let expected = writer == "js" && REFUSED.contains(&(mode, case));
                assert_eq!(refused, expected, "{writer} {mode} {case}: {place}");
            }
        }
        for reader in PACKAGES {
            let found = run(reader, "read", &server, writer, &places);
            for (event, found) in found.as_object().unwrap() {
                let (wrote, case) = event.split_once(' ').unwrap();
                for read in MODES {
                    let key = key([writer, wrote, reader, read, case]);
                    let expected = losses.remove(&key).unwrap_or_else(|| cases[case].clone());
                    assert_eq!(found[read], expected, "{key}");
                    compared += 1;
                }
            }
        }
    }
    assert!(
        losses.is_empty(),
        "listed, and not lost: {:?}",
        losses.keys()
    );
    // 11 cases, 3 modes out, 3 in, 2 readers; less what the JavaScript package cannot write.
    assert_eq!(compared, (99 + 90) * 2);
}
