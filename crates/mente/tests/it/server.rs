//! A server process of one test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mente::client::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_mente");
/// For whatever must happen soon; long, since machines are busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) address: String,
    pub(crate) client: Client,
    directory: TempDir,
    pub(crate) flags: Vec<String>,
}

impl Server {
    /// Topics come to be on first use.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--create-topics"])
    }

    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let mut all = crate::engine::flags();
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        Self::spawn(tempfile::tempdir().unwrap(), all)
    }

    /// On a data directory that is there already; it is moved.
    pub(crate) fn start_on(data: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::rename(data, directory.path().join("data")).unwrap();
        Self::spawn(directory, Vec::new())
    }

    pub(crate) fn spawn(directory: TempDir, flags: Vec<String>) -> Self {
        let ports = directory.path().join("ports.json");
        // An earlier server's would be taken for this one's.
        let _ = std::fs::remove_file(&ports);
        let mut process = command("server")
            .args(["--http", "127.0.0.1:0", "--data-dir"])
            .arg(directory.path().join("data"))
            .arg("--ports-file")
            .arg(&ports)
            .args(&flags)
            .spawn()
            .unwrap();
        let address = wait_for_ports(&mut process, &ports);
        let client = Client::new(&format!("http://{address}")).unwrap();
        Self {
            process,
            address,
            client,
            directory,
            flags,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Ends it without warning and starts it again on the same data.
    pub(crate) fn crash_and_restart(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        let flags = std::mem::take(&mut self.flags);
        drop(self);
        Self::spawn(directory, flags)
    }

    pub(crate) fn terminate(&self) {
        let pid = self.process.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.process)
    }

    /// A server on the same data and engine, to which more is said.
    pub(crate) fn rival(&self) -> Command {
        let mut command = command("server");
        command.args(&self.flags);
        command.arg("--data-dir").arg(self.data());
        command
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> Response {
        let json = (!body.is_empty()).then_some("application/json");
        self.client
            .request(method, path, json, body.to_owned())
            .await
            .unwrap()
    }

    /// A call that must succeed, and its answer.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: &str) -> Value {
        let response = self.call(method, path, body).await;
        let status = response.status;
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {}",
            response.text()
        );
        if response.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Publishes one structured event with JSON data; its partition and offset.
    pub(crate) async fn publish(&self, topic: &str, id: &str, data: &str) -> (u64, u64) {
        let body = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"test","data":{data}}}"#
        );
        let path = format!("/topics/{topic}/events");
        let structured = Some("application/cloudevents+json");
        let response = self
            .client
            .request("POST", &path, structured, body)
            .await
            .unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        place(&serde_json::from_slice(&response.body).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until it is so.
pub(crate) async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < SOON, "it does not come to be");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn command(verb: &str) -> Command {
    let mut command = Command::new(BINARY);
    command
        .arg(verb)
        .stdin(Stdio::null())
        .env("MENTE_LOG", "warn");
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_string_lossy().starts_with("MENTE_");
        if is_ours && name != "MENTE_LOG" {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn wait_for_ports(process: &mut Child, file: &Path) -> String {
    let began = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(file) {
            let ports: Value = serde_json::from_str(&text).unwrap();
            let address = ports.get("https").unwrap_or(&ports["http"]);
            return address.as_str().unwrap().to_owned();
        }
        if let Some(status) = process.try_wait().unwrap() {
            panic!("the server ended with {status} before it was ready");
        }
        assert!(began.elapsed() < SOON, "the server did not become ready");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn wait(process: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(began.elapsed() < SOON, "the process did not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Partition and offset in an answer.
pub(crate) fn place(answer: &Value) -> (u64, u64) {
    let number = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{answer}"));
    (number("partition"), number("offset"))
}

/// The ids of the events in a batch.
pub(crate) fn ids(batch: &Value) -> Vec<&str> {
    let events = batch.as_array().unwrap_or_else(|| panic!("{batch}"));
    events
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect()
}

pub(crate) fn parsed(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{}", response.text()))
}
