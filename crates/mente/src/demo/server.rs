//! A server of one's own: a child process on a directory of its own, which can be killed. Demo,
//! bench and chaos use it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::args::Choice;

/// How long a server may take to come up.
const READY: Duration = Duration::from_secs(30);
/// Lines of its log that are shown when it fails.
const LAST_WORDS: usize = 20;

#[derive(Debug)]
pub(crate) struct Server {
    data: PathBuf,
    ports_file: PathBuf,
    log: PathBuf,
    /// `127.0.0.1:PORT`, the same after every restart.
    address: String,
    queues: Option<Queues>,
    surroundings: Surroundings,
    child: Child,
}

/// What a server is started in, beside its directory.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// The kernel ends it with us, whatever ends us; needs Linux and its `setpriv`.
    pub(crate) is_tied: bool,
    /// It has the doors for clients of Service Bus.
    pub(crate) has_queues: bool,
    /// Variables of its environment.
    pub(crate) variables: Vec<(&'static str, OsString)>,
    pub(crate) engine: Choice,
    /// Where it listens, if not on loopback: in a network namespace of its own.
    pub(crate) network: Option<Inside>,
}

/// A place in a network of the caller's.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    pub(crate) namespace: String,
    pub(crate) address: std::net::Ipv4Addr,
}

/// Where clients of Service Bus find it.
#[derive(Debug)]
pub(crate) struct Queues {
    /// The same after every restart.
    pub(crate) amqp: String,
    /// Of its first start.
    pub(crate) administration: String,
}

impl Server {
    /// Starts `mente server` in `folder` and waits until it is ready.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        Self::start_in(folder, &folder.join("data"), Surroundings::default()).await
    }

    /// The same on another engine.
    pub(crate) async fn start_on(folder: &Path, engine: Choice) -> Result<Self> {
        let surroundings = Surroundings {
            engine,
            ..Surroundings::default()
        };
        Self::start_in(folder, &folder.join("data"), surroundings).await
    }

    /// The same with its data elsewhere.
    pub(crate) async fn start_in(
        folder: &Path,
        data: &Path,
        surroundings: Surroundings,
    ) -> Result<Self> {
        let (data, ports_file) = (data.to_owned(), folder.join("ports.json"));
        let log = folder.join("server.log");
        let host = surroundings.network.as_ref().map(|inside| inside.address);
        let http = format!("{}:0", host.unwrap_or(std::net::Ipv4Addr::LOCALHOST));
        let child = spawn(&data, &ports_file, &log, [&http, &http], &surroundings)?;
        let mut server = Self {
            data,
            ports_file,
            log,
            address: String::new(),
            queues: None,
            surroundings,
            child,
        };
        server.address = server.ready().await?;
        if server.surroundings.has_queues {
            server.queues = Some(server.find_queues()?);
        }
        Ok(server)
    }

    /// `None` once it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// If it was started with them.
    pub(crate) const fn queues(&self) -> Option<&Queues> {
        self.queues.as_ref()
    }

    fn find_queues(&self) -> Result<Queues> {
        let ports = std::fs::read_to_string(&self.ports_file).context("ports file")?;
        let ports: serde_json::Value = serde_json::from_str(&ports).context("ports file")?;
        let door = |name: &str| {
            let address = ports[name].as_str().map(str::to_owned);
            address.with_context(|| format!("ports file without {name}"))
        };
        Ok(Queues {
            amqp: door("amqp")?,
            administration: door("servicebus-admin")?,
        })
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills the process as `kill -9` does and starts another one on what it left.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.restart().await
    }

    /// Kills the process as `kill -9` does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill the server")
    }

    /// Ends it as an operator would; another one may be started on what it left.
    pub(crate) async fn quit(&mut self) -> Result<()> {
        self.signal("TERM").await?;
        let ended = tokio::time::timeout(READY, self.child.wait()).await;
        let status = ended.context("the server does not stop")??;
        if !status.success() {
            bail!(
                "the server ended with {status}; its log is {}",
                self.log.display()
            );
        }
        Ok(())
    }

    /// Starts another one on what the last one left, and does not wait for it.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let (data, ports, log) = (&self.data, &self.ports_file, &self.log);
        let amqp = self.queues.as_ref().map_or("", |queues| &queues.amqp);
        self.child = spawn(data, ports, log, [&self.address, amqp], &self.surroundings)?;
        Ok(())
    }

    /// The same, until it is ready.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        // The kernel may hold the port for a moment.
        for _ in 0..50 {
            self.begin()?;
            match self.ready().await {
                Ok(address) if address == self.address => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        bail!(
            "the server did not come up again on {}:\n{}",
            self.address,
            self.last_words()
        )
    }

    /// The end of its log, and where that is.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.split_at(lines.len().saturating_sub(LAST_WORDS)).1;
        format!("{}\n(from {})", last.join("\n"), self.log.display())
    }

    /// Stops it as an operator would; it must end cleanly.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.quit().await
    }

    /// Sends it SIG`name`.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().context("the server has ended already")?;
        let mut kill = Command::new("kill");
        let sent = kill.arg(format!("-{name}")).arg(pid.to_string());
        if !sent.status().await?.success() {
            bail!("cannot send SIG{name} to the server");
        }
        Ok(())
    }

    /// Waits for the ports file of this start.
    async fn ready(&mut self) -> Result<String> {
        let deadline = tokio::time::Instant::now() + READY;
        while tokio::time::Instant::now() < deadline {
            if let Ok(text) = std::fs::read_to_string(&self.ports_file) {
                let ports: serde_json::Value = serde_json::from_str(&text).context("ports file")?;
                return Ok(ports["http"]
                    .as_str()
                    .context("ports file without http")?
                    .to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!(
            "the server was not ready within {READY:?}; its log is {}",
            self.log.display()
        )
    }
}

fn spawn(
    data: &Path,
    ports_file: &Path,
    log: &Path,
    [http, amqp]: [&str; 2],
    surroundings: &Surroundings,
) -> Result<Child> {
    // Ready means that this start wrote it.
    let _ = std::fs::remove_file(ports_file);
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .context("server log")?;
    let mente = std::env::current_exe().context("cannot find the mente binary")?;
    let mut words: Vec<OsString> = Vec::new();
    if let Some(inside) = &surroundings.network {
        let path = format!("--net=/run/netns/{}", inside.namespace);
        words.extend(["nsenter".into(), path.into(), "--".into()]);
    }
    if surroundings.is_tied {
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(OsString::from));
    }
    words.push(mente.into());
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().context("there is a program")?);
    command.args(words);
    if surroundings.has_queues {
        let host = http.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
        let administration = format!("{host}:0");
        command.args([
            "server",
            "--amqp",
            amqp,
            "--servicebus-admin",
            &administration,
        ]);
    } else {
        command.arg("server");
    }
    let child = command
        .args(["--http", http])
        .arg("--data-dir")
        .arg(data)
        .arg("--ports-file")
        .arg(ports_file)
        .arg("--allow-private-webhooks")
        .args(surroundings.engine.flags())
        // A network of ours alone.
        .args(
            surroundings
                .network
                .iter()
                .flat_map(|_| ["--insecure-http", "--insecure-no-keys"]),
        )
        // The shop's programs speak plain HTTP on loopback, whatever other servers here do.
        .env_remove("MENTE_TLS_CERT")
        .env_remove("MENTE_TLS_KEY")
        // It is told its engine by flags.
        .env_remove("MENTE_KAFKA_BOOTSTRAP")
        .env_remove("MENTE_KAFKA_PREFIX")
        .env_remove("MENTE_ADVERTISE")
        .envs(surroundings.variables.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn();
    child.context("cannot start the server")
}
