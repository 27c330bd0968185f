//! The broker under test, started by the script and stopped when the last test lets it go.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tempfile::TempDir;

use crate::proxy::Proxy;

/// How long the broker remembers a producer that does not write.
pub(crate) const PRODUCER_MEMORY: Duration = Duration::from_secs(6);
/// How long its coordinator remembers a transactional id.
pub(crate) const COORDINATOR_MEMORY: Duration = Duration::from_secs(10);
/// How long it keeps a connection on which nothing comes.
const SILENCE: Duration = Duration::from_secs(3);
/// How often it looks for what it may forget.
const CHECK: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    /// The same broker, by way of something that can hold requests back.
    pub(crate) proxy: Proxy,
    directory: TempDir,
    port: u16,
    settings: Vec<String>,
}

/// For tests that any broker will do for: one that is named from outside, else ours.
#[derive(Debug)]
pub(crate) enum Any {
    Other(String),
    Ours(Arc<Broker>),
}

pub(crate) fn any() -> Any {
    std::env::var("MENTE_TEST_KAFKA").map_or_else(|_| Any::Ours(shared()), Any::Other)
}

impl Any {
    pub(crate) fn bootstrap(&self) -> &str {
        match self {
            Self::Other(bootstrap) => bootstrap,
            Self::Ours(broker) => &broker.bootstrap,
        }
    }
}

/// The one broker of all tests that run now.
pub(crate) fn shared() -> Arc<Broker> {
    static RUNNING: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    // A test that failed while it held this says so itself.
    let mut running = RUNNING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    running.upgrade().unwrap_or_else(|| {
        let broker = Arc::new(Broker::start());
        *running = Arc::downgrade(&broker);
        broker
    })
}

impl Broker {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [port, controller, proxied] = free_ports();
        let proxy = Proxy::start(proxied);
        let at = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
        let (direct, behind) = (at("PLAINTEXT", port), at("PROXIED", proxied));
        let control = at("CONTROLLER", controller);
        let mut protocols = String::from("listener.security.protocol.map=CONTROLLER:PLAINTEXT");
        protocols.push_str(",PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT");
        let ms = |name: &str, time: Duration| format!("{name}={}", time.as_millis());
        let settings = vec![
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners={direct},{behind},{control}"),
            format!(
                "advertised.listeners={direct},{}",
                at("PROXIED", proxy.port)
            ),
            protocols,
            ms("connections.max.idle.ms", SILENCE),
            ms("producer.id.expiration.ms", PRODUCER_MEMORY),
            ms("producer.id.expiration.check.interval.ms", CHECK),
            ms("transactional.id.expiration.ms", COORDINATOR_MEMORY),
            ms(
                "transaction.remove.expired.transaction.cleanup.interval.ms",
                CHECK,
            ),
            // Files of what was trimmed.
            ms("log.retention.check.interval.ms", CHECK),
            ms("log.initial.task.delay.ms", CHECK),
        ];
        let bootstrap = format!("127.0.0.1:{port}");
        let broker = Self {
            bootstrap,
            proxy,
            directory,
            port,
            settings,
        };
        broker.run();
        broker
    }

    fn run(&self) {
        let started = Command::new(script())
            .arg("start")
            .arg(self.directory.path())
            .arg(self.port.to_string())
            .args(&self.settings)
            // It is to start fast; nothing here is measured against another broker.
            .env("MENTE_KAFKA_JVM", "-Xmx512m -XX:TieredStopAtLevel=1")
            .output()
            .expect("scripts/kafka runs");
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "no Kafka to test against: {said}");
    }

    fn stop(&self) -> bool {
        let stopped = Command::new(script())
            .arg("stop")
            .arg(self.directory.path())
            .status();
        stopped.is_ok_and(|status| status.success())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn restart(&self) {
        assert!(self.stop(), "the broker stops");
        self.run();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("log"));
            let log = log.unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("the broker's last words, newest first: {last:#?}");
        }
        if !self.stop() {
            eprintln!(
                "the broker in {} may still run",
                self.directory.path().display()
            );
        }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka")
}

fn free_ports() -> [u16; 3] {
    let listeners: [TcpListener; 3] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
