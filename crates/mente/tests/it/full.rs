//! A full disk, a real one: an ext4 file system in a file, mounted for the server alone. Producers are
//! refused, consumers go on to the end, and publishing resumes as soon as something was let go of.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use hyper::HeaderMap;
use mente::client::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::namespaces::{Namespaces, is_root};
use crate::server::{command, eventually, parsed, wait_for_ports};

const EVENT_BYTES: usize = 512 << 10;
const IMAGE_BYTES: u64 = 448 << 20;
const RESERVE: &str = "160M";

/// A small file system, mounted for whom it is shown to.
struct Disk {
    folder: TempDir,
    namespaces: Namespaces,
}

impl Disk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let script = "mkfs.ext4 -q -m 0 image; mount -o loop,nodev,nosuid,noexec image disk";
        let namespaces = Namespaces::unshare(&["--mount"], folder.path(), script);
        Self { folder, namespaces }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

struct Server {
    process: Child,
    client: Client,
}

impl Server {
    fn start(disk: &Disk) -> Self {
        let ports = disk.at("ports.json");
        let _ = fs::remove_file(&ports);
        let log = File::options()
            .create(true)
            .append(true)
            .open(disk.at("log"));
        let mut server = command("server");
        server
            .args(["--http", "127.0.0.1:0", "--disk-reserve", RESERVE])
            .arg("--data-dir")
            .arg(disk.at("disk").join("data"))
            .arg("--ports-file")
            .arg(&ports)
            .env("MENTE_LOG", "info");
        let mut process = disk
            .namespaces
            .inside(&server)
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let address = wait_for_ports(&mut process, &ports);
        let client = Client::new(&format!("http://{address}")).unwrap();
        Self { process, client }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Response {
        let json = (!body.is_empty()).then_some("application/json");
        let answer = self.client.request(method, path, json, body.to_owned());
        answer.await.unwrap()
    }

    async fn ok(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.call(method, path, body).await;
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    async fn publish(&self, topic: &str, id: usize) -> Response {
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
        let body = vec![id as u8; EVENT_BYTES];
        let sent = self.client.request_with("POST", &path, headers, body);
        sent.await.unwrap()
    }

    /// Publishes to all of them in turn until each refuses; adds what was acknowledged.
    async fn fill(&self, topics: &[&str], next: &mut usize, told: &mut BTreeSet<(String, usize)>) {
        let mut refused = 0;
        while refused < topics.len() {
            refused = 0;
            for topic in topics {
                let answer = self.publish(topic, *next).await;
                if answer.status == 200 {
                    told.insert(((*topic).to_owned(), *next));
                } else {
                    assert_eq!(answer.status, 503, "{}", answer.text());
                    assert_eq!(answer.headers["retry-after"], "1");
                    assert!(
                        answer.text().contains("the disk is full"),
                        "{}",
                        answer.text()
                    );
                    refused += 1;
                }
                *next += 1;
            }
        }
    }

    /// Receives and acknowledges until nothing is left; the ids, each once.
    async fn work_through(&self, topic: &str) -> BTreeSet<(String, usize)> {
        let pull = format!("/topics/{topic}/eventsubscriptions/all");
        let mut done = BTreeSet::new();
        loop {
            let path = format!("{pull}:receive?maxEvents=5&maxWaitTime=10");
            let received = self.ok("POST", &path, "").await;
            let items = received["value"].as_array().unwrap();
            if items.is_empty() {
                return done;
            }
            for item in items {
                let broker = &item["brokerProperties"];
                assert_eq!(broker["deliveryCount"], 1, "no lease is lost: {broker}");
                let id = item["event"]["id"].as_str().unwrap().parse().unwrap();
                assert!(done.insert((topic.to_owned(), id)), "{id} comes twice");
                let body = json!({"lockTokens": [broker["lockToken"]]}).to_string();
                let path = format!("{pull}:acknowledge");
                let settled = self.ok("POST", &path, &body).await;
                assert_eq!(settled["failedLockTokens"], json!([]), "{settled}");
            }
        }
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = self.call("GET", "/metrics", "").await.text();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn said(log: &Path, words: &str) -> usize {
    fs::read_to_string(log).unwrap().matches(words).count()
}

#[tokio::test]
async fn consumers_work_through_a_full_disk_and_publishing_resumes_alone() {
    if !is_root() {
        eprintln!("NOT TRIED: only root may mount the small file system of this test");
        return;
    }
    let disk = Disk::mount();
    let server = Server::start(&disk);
    let (mut next, mut told) = (0, BTreeSet::new());
    for topic in ["kept", "gone"] {
        server.ok("PUT", &format!("/topics/{topic}"), "{}").await;
        let path = format!("/topics/{topic}/subscriptions/all");
        server.ok("PUT", &path, r#"{"from":"earliest"}"#).await;
    }
    server.fill(&["kept", "gone"], &mut next, &mut told).await;
    assert!(told.len() > 300, "{} events fit", told.len());

    // Full: who produces is told so, in every way.
    let ready = server.call("GET", "/readyz", "").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready.text().contains("publishing is refused"),
        "{}",
        ready.text()
    );
    assert!(server.metric("mente_disk_free_bytes ").await < 160 << 20);
    assert!(server.metric("mente_refused_for_room_total ").await >= 2);
    let event = json!({"specversion": "1.0", "id": "1", "source": "/t", "type": "t"});
    let structured = Some("application/cloudevents+json");
    let append = server
        .client
        .request("POST", "/streams/order-1", structured, event.to_string());
    let append = append.await.unwrap();
    assert_eq!(append.status, 503, "{}", append.text());
    assert_eq!(server.call("PUT", "/topics/more", "{}").await.status, 503);

    // Consumers do not notice, nor does a server that comes up.
    let mut done = server.work_through("kept").await;
    drop(server);
    let server = Server::start(&disk);
    done.extend(server.work_through("gone").await);
    assert_eq!(done, told, "lost or invented");
    assert!(
        server.work_through("kept").await.is_empty(),
        "settled stays settled"
    );

    // Half of every file goes: that must be enough, with nothing else done.
    server.ok("DELETE", "/topics/gone", "").await;
    let publishes = async || server.publish("kept", 1_000_000).await.status == 200;
    eventually(publishes).await;
    told.retain(|(topic, _)| topic == "kept");
    told.insert(("kept".into(), 1_000_000));
    server.fill(&["kept"], &mut next, &mut told).await;

    // Retention makes room as well.
    let short = json!({"retention_bytes": 20 * EVENT_BYTES}).to_string();
    server.ok("PUT", "/topics/kept", &short).await;
    let publishes = async || server.publish("kept", 1_000_001).await.status == 200;
    eventually(publishes).await;
    told.insert(("kept".into(), 1_000_001));
    let done = server.work_through("kept").await;
    assert!(done.is_subset(&told), "invented");
    assert!(done.contains(&("kept".into(), 1_000_001)));
    let last: Vec<_> = told
        .iter()
        .filter(|(_, id)| *id < 1_000_000)
        .rev()
        .take(10)
        .collect();
    assert!(last.into_iter().all(|told| done.contains(told)), "lost");
    let verified = parsed(&server.call("POST", "/verify", "").await);
    assert_eq!(verified["equal"], true, "{verified}");

    // Said when it begins and ends, not with every refusal; with each server anew. What is over within a
    // second may go unsaid.
    let log = disk.at("log");
    let (began, ended) = (
        said(&log, "consumers go on"),
        said(&log, "publishing goes on"),
    );
    assert!(
        (2..=6).contains(&began) && (1..=6).contains(&ended),
        "{began} {ended}"
    );
    assert_eq!(said(&log, "claims its journal again"), 0);
}
