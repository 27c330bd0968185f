//! A server under attack, what it takes in memory meanwhile, and sockets that say anything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::{SOON, Server};

/// A server and the most memory it may come to hold beyond what it held at first.
pub(crate) struct Attacked {
    pub(crate) server: Server,
    before_kib: u64,
}

impl Attacked {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let server = Server::start_with(&[&["--create-topics"], flags].concat());
        // What every first request makes counts as nobody's attack.
        server.publish("alive", "first", "1").await;
        let before_kib = status(&server, "VmRSS:");
        Self { server, before_kib }
    }

    /// The server still answers a publish, and never held more than `most_mib` beyond what it
    /// held before the attack.
    pub(crate) async fn survives(&self, most_mib: u64) {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed).to_string();
        self.server.publish("alive", &id, "1").await;
        let peak = status(&self.server, "VmHWM:").saturating_sub(self.before_kib) >> 10;
        println!("peak {peak} MiB above {} KiB", self.before_kib);
        assert!(
            peak <= most_mib,
            "{peak} MiB more at its peak, {most_mib} are allowed"
        );
    }

    /// A connection of its own.
    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.server.address).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    }

    /// Says these bytes on a connection of its own; the status and the text of the answer, 0 if
    /// the connection was closed without one.
    pub(crate) fn say(&self, bytes: &[u8]) -> (u16, String) {
        let mut socket = self.connect();
        // The server may answer and close before it took everything.
        let _ = socket.write_all(bytes);
        answer(&mut socket)
    }

    /// A whole request with these headers.
    pub(crate) fn ask(&self, line: &[u8], headers: &str, body: &[u8]) -> (u16, String) {
        let length = body.len();
        let head = format!(
            " HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
        );
        self.say(&[line, head.as_bytes(), body].concat())
    }

    /// Everything that a client could have made.
    pub(crate) async fn inventory(&self) -> Vec<Value> {
        let mut found = Vec::new();
        let views = self.server.ok("GET", "/projections", "").await;
        for view in views["projections"].as_array().unwrap() {
            found.push(view["name"].clone());
        }
        for path in ["/topics", "/topics/alive/subscriptions", "/streams"] {
            found.push(self.server.ok("GET", path, "").await);
        }
        found
    }

    pub(crate) fn open_files(&self) -> usize {
        let pid = self.server.process.id();
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    }

    pub(crate) fn resident_mib(&self) -> u64 {
        status(&self.server, "VmRSS:") >> 10
    }
}

/// A line of the server's /proc/PID/status, in KiB.
fn status(server: &Server, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// Reads until the connection ends or a whole answer with a length has come.
pub(crate) fn answer(socket: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let mut some = [0; 16 << 10];
    while !is_whole(&bytes) {
        match socket.read(&mut some) {
            Ok(count @ 1..) => bytes.extend_from_slice(&some[..count]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or(0), text)
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

/// Waits for what must come to be.
pub(crate) async fn until(mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done().await {
        assert!(Instant::now() < deadline, "it does not come to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
