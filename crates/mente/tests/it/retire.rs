//! Old files retire while the server works: what a topic keeps moves into packs and stays
//! readable, what retention lets go gives its room back, and a kill in the middle loses nothing.

use std::path::Path;
use std::time::Instant;

use hyper::HeaderMap;

use crate::server::{SOON, Server};

const EVENT_BYTES: usize = 900 << 10;
/// Three rounds fill more WAL files than are kept before they retire.
const ROUND: usize = 60;
const MIB: u64 = 1 << 20;

#[tokio::test]
async fn old_files_retire_and_nothing_that_is_kept_goes() {
    let mut server = Server::start();
    let short = format!(r#"{{"retention_bytes":{}}}"#, 8 * MIB);
    server.ok("PUT", "/topics/kept", "{}").await;
    server.ok("PUT", "/topics/short", &short).await;
    for round in 0..3 {
        for id in round * ROUND..(round + 1) * ROUND {
            for topic in ["kept", "short", "short"] {
                publish(&server, topic, id).await;
            }
        }
        // As a rule the packer is at work now: three files' worth a second come in.
        server = server.crash_and_restart();
    }
    let kept = 3 * ROUND;
    for id in 0..kept {
        let path = format!("/topics/kept/events/0:{id}");
        let read = server.call("GET", &path, "").await;
        assert_eq!(read.status, 200, "{path}: {}", read.text());
        assert_eq!(read.headers["ce-id"], id.to_string());
        assert!(read.body == body(id), "{path} reads back differently");
    }

    // Twice as much was let go; what stays is little more than what is kept.
    let bound = (kept * EVENT_BYTES) as u64 + 200 * MIB;
    let began = Instant::now();
    while bytes_in(&server.data(), "") > bound {
        assert!(began.elapsed() < SOON, "files do not go");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(
        bytes_in(&server.data(), ".pack") > 0,
        "no file became a pack"
    );
    let read = server.call("GET", "/topics/short/events/0:0", "").await;
    assert_eq!(read.status, 404, "{}", read.text());
}

async fn publish(server: &Server, topic: &str, id: usize) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &id.to_string()),
        ("ce-source", "/t"),
        ("ce-type", "test"),
        ("content-type", "application/octet-stream"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let path = format!("/topics/{topic}/events");
    let sent = server
        .client
        .request_with("POST", &path, headers, body(id))
        .await
        .unwrap();
    assert_eq!(sent.status, 200, "{}", sent.text());
}

/// Bytes that tell one event from every other, all along.
fn body(id: usize) -> Vec<u8> {
    let word = |at: usize| ((at as u64) << 32 | id as u64).to_le_bytes();
    (0..EVENT_BYTES / 8).flat_map(word).collect()
}

fn bytes_in(directory: &Path, ending: &str) -> u64 {
    let files = std::fs::read_dir(directory).unwrap().flatten();
    let named = files.filter(|file| file.file_name().to_string_lossy().ends_with(ending));
    // A file may go between the listing and the look at it.
    named
        .flat_map(|file| file.metadata())
        .map(|m| m.len())
        .sum()
}
