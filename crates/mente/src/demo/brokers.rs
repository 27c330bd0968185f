//! Brokers of a Kafka cluster of our own, run by the script that the repository has for it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::bench::cpu_seconds;

/// How many there are; every record lies on all of them, and is acknowledged by two at least.
pub(crate) const BROKERS: usize = 3;

/// What every broker is told, so that nothing acknowledged hangs on one of them.
const SETTINGS: [&str; 9] = [
    "default.replication.factor=3",
    "min.insync.replicas=2",
    "offsets.topic.replication.factor=3",
    "transaction.state.log.replication.factor=3",
    "transaction.state.log.min.isr=2",
    "share.coordinator.state.topic.replication.factor=3",
    // A broker that dies is noticed soon.
    "broker.session.timeout.ms=4000",
    "broker.heartbeat.interval.ms=500",
    "controller.quorum.election.timeout.ms=1000",
];

#[derive(Debug)]
pub(crate) struct Brokers {
    script: PathBuf,
    cluster: String,
    /// Where others reach them.
    host: Ipv4Addr,
    all: Vec<Broker>,
}

#[derive(Debug)]
struct Broker {
    directory: PathBuf,
    port: u16,
    controller: u16,
}

impl Brokers {
    /// Starts them in `folder`, to be reached at `host`, and waits until each answers.
    pub(crate) async fn start(script: &Path, folder: &Path, host: Ipv4Addr) -> Result<Self> {
        let mut all = Vec::new();
        let ports = free_ports()?;
        for (number, ports) in (1..).zip(ports.chunks(2)) {
            let directory = folder.join(format!("kafka-{number}"));
            std::fs::create_dir_all(&directory).context("cannot make a broker's directory")?;
            let [port, controller] = [ports[0], ports[1]];
            all.push(Broker {
                directory,
                port,
                controller,
            });
        }
        let brokers = Self {
            script: script.to_owned(),
            cluster: format!("chaos{:017}", fastrand::u64(..10_u64.pow(17))),
            host,
            all,
        };
        // One alone has no quorum, and does not answer before it has.
        let starts = (0..BROKERS).map(|number| brokers.restart(number));
        futures::future::try_join_all(starts).await?;
        Ok(brokers)
    }

    pub(crate) fn bootstrap(&self) -> Vec<String> {
        let addresses = self.all.iter();
        addresses
            .map(|broker| format!("{}:{}", self.host, broker.port))
            .collect()
    }

    /// Processor seconds of all of them since they began.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let pid = |broker: &Broker| -> Result<u32> {
            let pid = std::fs::read_to_string(broker.directory.join("pid"));
            Ok(pid.context("the broker has no pid file")?.trim().parse()?)
        };
        self.all.iter().map(|b| cpu_seconds(pid(b)?)).sum()
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(&self, number: usize) -> Result<()> {
        let pid = std::fs::read_to_string(self.all[number].directory.join("pid"));
        let pid = pid.context("the broker has no pid file")?;
        let mut kill = Command::new("kill");
        let killed = kill.args(["-KILL", pid.trim()]).status().await?;
        ensure!(killed.success(), "cannot kill broker {number}");
        Ok(())
    }

    /// Starts one on what it left, or for the first time.
    pub(crate) async fn restart(&self, number: usize) -> Result<()> {
        let broker = &self.all[number];
        let voter =
            |(id, broker): (usize, &Broker)| format!("{id}@127.0.0.1:{}", broker.controller);
        let voters: Vec<_> = (1..).zip(&self.all).map(voter).collect();
        let mut start = Command::new(&self.script);
        start
            .arg("start")
            .arg(&broker.directory)
            .arg(broker.port.to_string())
            .arg(format!("node.id={}", number + 1))
            .arg(format!("controller.quorum.voters={}", voters.join(",")))
            .arg(format!(
                "listeners=PLAINTEXT://0.0.0.0:{},CONTROLLER://127.0.0.1:{}",
                broker.port, broker.controller
            ))
            .arg(format!(
                "advertised.listeners=PLAINTEXT://{}:{}",
                self.host, broker.port
            ))
            .args(SETTINGS)
            .env("MENTE_KAFKA_CLUSTER", &self.cluster)
            .env("MENTE_KAFKA_CONTROLLER", broker.controller.to_string())
            .env("MENTE_KAFKA_JVM", "-Xmx384m -XX:TieredStopAtLevel=1")
            .stdin(Stdio::null());
        let started = start
            .output()
            .await
            .context("cannot run the script of the brokers")?;
        let said = String::from_utf8_lossy(&started.stderr);
        ensure!(
            started.status.success(),
            "broker {} does not start: {said}",
            number + 1
        );
        Ok(())
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for broker in &self.all {
            if let Ok(pid) = std::fs::read_to_string(broker.directory.join("pid")) {
                let mut kill = std::process::Command::new("kill");
                let _ = kill
                    .args(["-KILL", pid.trim()])
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}

fn free_ports() -> Result<Vec<u16>> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").context("no free port");
    let listeners: Vec<TcpListener> = (0..2 * BROKERS).map(bind).collect::<Result<_>>()?;
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    listeners.iter().map(port).collect()
}
