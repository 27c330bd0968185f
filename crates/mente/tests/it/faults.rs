//! The disk fails under the real server: strace lets one system call of it fail. What was acknowledged,
//! before and after, a server without strace has.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

use mente::client::Client;

use crate::server::{SOON, Server, command, ids, parsed, wait, wait_for_ports};

/// Of a failed disk.
const EXIT_DISK: i32 = 74;
/// More commits than a start makes, so that the fault falls under a publish.
const COMMIT: u32 = 80;
const PUBLISHES: u32 = 400;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// It exits while it serves, and acknowledges nothing any more.
    Stops,
    DoesNotStart,
    /// Nobody but its log says anything.
    GoesOn,
}

/// `call` fails at a file of the data directory, in every thread at its own `when`-th.
struct Case {
    file: &'static str,
    call: &'static str,
    error: &'static str,
    when: u32,
    ends: Ends,
}

const fn case(file: &'static str, call: &'static str, error: &'static str) -> Case {
    Case {
        file,
        call,
        error,
        when: 1,
        ends: Ends::GoesOn,
    }
}

const fn stops(case: Case) -> Case {
    Case {
        when: COMMIT,
        ends: Ends::Stops,
        ..case
    }
}

const fn does_not_start(case: Case) -> Case {
    Case {
        ends: Ends::DoesNotStart,
        ..case
    }
}

#[tokio::test]
async fn a_commit_that_fails_ends_the_server() {
    for (call, error) in [
        ("fdatasync", "EIO"),
        ("fdatasync", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
    ] {
        run(&stops(case("00000001.wal", call, error)), false).await;
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_made_ahead_ends_nothing() {
    for (call, error) in [
        ("openat", "ENOSPC"),
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("fdatasync", "EIO"),
        ("/^rename", "EIO"),
    ] {
        run(&case("00000002.wal.new", call, error), false).await;
    }
}

#[tokio::test]
async fn a_start_that_fails_changes_nothing() {
    for (file, call, error) in [
        ("00000001.wal.new", "openat", "ENOSPC"),
        ("00000001.wal.new", "pwrite64", "ENOSPC"),
        ("00000001.wal.new", "fdatasync", "EIO"),
        ("00000001.wal.new", "/^rename", "EIO"),
    ] {
        run(&does_not_start(case(file, call, error)), false).await;
    }
    for (file, call, error) in [
        ("", "fsync", "EIO"),
        ("00000001.wal", "openat", "EIO"),
        ("00000001.wal", "pread64", "EIO"),
        ("00000001.wal", "fdatasync", "EIO"),
    ] {
        run(&does_not_start(case(file, call, error)), true).await;
    }
}

/// `is_used`: a server was there before and was stopped in order.
async fn run(case: &Case, is_used: bool) {
    let told = format!("{} of {:?}: {}", case.call, case.file, case.error);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut acked = Vec::new();
    if is_used {
        let mut server = Server::start();
        for id in ["a", "b"] {
            server.publish("t", id, "1").await;
            acked.push(id.to_owned());
        }
        server.terminate();
        assert_eq!(server.wait().code(), Some(0));
        std::fs::rename(server.data(), &data).unwrap();
    }
    let mut traced = Traced::start(directory.path(), &data, case);
    match case.ends {
        Ends::DoesNotStart => {
            let status = wait(&mut traced.strace);
            assert!(!status.success(), "{told}: {status}");
        }
        Ends::Stops => {
            let ended = traced.publish(&mut acked, PUBLISHES).await;
            assert!(ended && acked.len() > 10, "{told}: {}", acked.len());
            let status = wait(&mut traced.strace);
            assert_eq!(status.code(), Some(EXIT_DISK), "{told}");
        }
        Ends::GoesOn => {
            // For a moment the disk may be taken for full.
            traced.publish_until(&mut acked, 3, &told).await;
            traced.wait_for_fault(&told);
            traced.publish_until(&mut acked, 6, &told).await;
            traced.terminate();
            assert_eq!(wait(&mut traced.strace).code(), Some(0), "{told}");
        }
    }
    traced.wait_for_fault(&told);
    drop(traced);

    let server = Server::start_on(&data);
    if acked.is_empty() {
        return;
    }
    let read = server.call("GET", "/topics/t/events?limit=1000", "").await;
    let batch = parsed(&read);
    let there = ids(&batch);
    for id in &acked {
        let count = there.iter().filter(|other| *other == id).count();
        assert_eq!(count, 1, "{told}: {id} was acknowledged: {there:?}");
    }
}

/// A server under strace.
struct Traced {
    strace: Child,
    /// What strace wrote down.
    trace: std::path::PathBuf,
    ports: std::path::PathBuf,
    client: Option<Client>,
    sent: u32,
}

impl Traced {
    fn start(directory: &Path, data: &Path, case: &Case) -> Self {
        let trace = directory.join("trace");
        let ports = directory.join("ports.json");
        let mut server = command("server");
        server
            .args(["--create-topics", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .arg("--ports-file")
            .arg(&ports);
        let mut strace = Command::new("strace");
        let (call, error, when) = (case.call, case.error, case.when);
        strace
            .args(["-f", "--seccomp-bpf", "-qq", "-o"])
            .arg(&trace);
        strace.args(["-e", &format!("trace={call}"), "-e"]);
        strace.arg(format!("inject={call}:error={error}:when={when}"));
        let file = data.join(case.file);
        // The directory itself has no slash at its end.
        strace.arg("-P").arg(file.components().as_path());
        strace.arg(server.get_program()).args(server.get_args());
        for (name, value) in server.get_envs() {
            match value {
                Some(value) => strace.env(name, value),
                None => strace.env_remove(name),
            };
        }
        Self {
            strace: strace
                .spawn()
                .expect("strace, which cargo xtask setup installs"),
            trace,
            ports,
            client: None,
            sent: 0,
        }
    }

    /// Publishes one event after the other; true if the server is gone. Whatever is answered but an
    /// acknowledgement says that it may be repeated.
    async fn publish(&mut self, acked: &mut Vec<String>, count: u32) -> bool {
        if self.client.is_none() {
            let address = wait_for_ports(&mut self.strace, &self.ports);
            self.client = Some(Client::new(&format!("http://{address}")).unwrap());
        }
        let Some(client) = &self.client else {
            return true;
        };
        for _ in 0..count {
            let id = self.sent.to_string();
            self.sent += 1;
            let body = format!(
                r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"test","data":1}}"#
            );
            let kind = Some("application/cloudevents+json");
            let sent = client.request("POST", "/topics/t/events", kind, body).await;
            match sent {
                Ok(answer) if answer.status == 200 => acked.push(id),
                Ok(answer) => {
                    let text = answer.text();
                    let is_known = text.contains("OutcomeUnknown") || text.contains("ServerBusy");
                    assert!(is_known, "{} {text}", answer.status);
                }
                Err(_) => return true,
            }
        }
        false
    }

    /// Publishes until so many are acknowledged, all in all; the server is there all the time.
    async fn publish_until(&mut self, acked: &mut Vec<String>, count: usize, told: &str) {
        let began = Instant::now();
        while acked.len() < count {
            let ended = self.publish(acked, 1).await;
            assert!(!ended && began.elapsed() < SOON, "{told}: {acked:?}");
        }
    }

    fn wait_for_fault(&self, told: &str) {
        let began = Instant::now();
        let is_met =
            || std::fs::read_to_string(&self.trace).is_ok_and(|t| t.contains("(INJECTED)"));
        while !is_met() {
            assert!(began.elapsed() < SOON, "{told}: no such call was made");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn terminate(&self) {
        self.signal("-TERM");
    }

    /// To the server: strace passes on how it ended.
    fn signal(&self, signal: &str) {
        let strace = self.strace.id();
        let children = format!("/proc/{strace}/task/{strace}/children");
        let server = std::fs::read_to_string(children).unwrap_or_default();
        for pid in server.split_whitespace() {
            let _ = Command::new("kill").args([signal, pid]).status();
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.signal("-KILL");
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}
