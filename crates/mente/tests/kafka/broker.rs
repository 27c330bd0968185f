//! One Kafka broker for all tests of a process, on which each server has topics of its own.
//! `MENTE_TEST_KAFKA=HOST:PORT` names another one.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Of topics that nobody else has.
pub(crate) fn prefix() -> String {
    format!("test-{}.", uuid::Uuid::new_v4().simple())
}

pub(crate) fn bootstrap() -> &'static str {
    static BOOTSTRAP: OnceLock<String> = OnceLock::new();
    BOOTSTRAP.get_or_init(|| {
        std::env::var("MENTE_TEST_KAFKA").unwrap_or_else(|_| Broker::start().bootstrap)
    })
}

/// A broker that ends with this process, whatever ends that: its keeper waits for the end of its standard
/// input, which nobody else holds.
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    directory: PathBuf,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka")
}

impl Broker {
    pub(crate) fn start() -> Self {
        const KEEPER: &str =
            r#""$0" start "$1" 0; exec 1>&-; read -r _; "$0" stop "$1"; rm -rf "$1""#;
        let directory = tempfile::tempdir().unwrap().keep();
        let said = directory.join("said");
        let mut keeper = Command::new("bash")
            .args(["-c", KEEPER])
            .args([&script(), &directory])
            .env("MENTE_KAFKA_JVM", "-Xmx512m -XX:TieredStopAtLevel=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&said).unwrap())
            // What interrupts the tests leaves it time to stop the broker.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(keeper.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let _ = out.read_to_string(&mut String::new());
        let words = std::fs::read_to_string(&said).unwrap_or_default();
        assert!(
            line.starts_with("127.0.0.1:"),
            "no Kafka to test on: {words}"
        );
        // Its input stays open until this process ends.
        std::mem::forget(keeper);
        Self {
            bootstrap: line.trim().to_owned(),
            directory,
        }
    }

    /// As a machine that fails.
    pub(crate) fn kill(&self) {
        let pid = std::fs::read_to_string(self.directory.join("pid")).unwrap();
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();
        assert!(killed.unwrap().success());
    }

    /// The same again, on the same port and data.
    pub(crate) fn restart(&self) {
        let started = Command::new(script())
            .arg("start")
            .arg(&self.directory)
            .arg("0")
            .env("MENTE_KAFKA_JVM", "-Xmx512m -XX:TieredStopAtLevel=1")
            .output();
        let started = started.unwrap();
        assert!(
            started.status.success(),
            "{}",
            String::from_utf8_lossy(&started.stderr)
        );
    }
}
