//! Puts a server together: engine, broker, doors; and takes it apart again in order.
//!
//! ```text
//! signal ─▶ doors stop accepting and finish ─▶ shards stop ─▶ the log syncs and closes ─▶ 0
//! ```

mod administration;
mod amqp;
mod backup;
mod clock;
pub(crate) mod embedded;
mod engine;
mod keys;
mod nodes;
mod ports;
mod reserve;
mod shelf;
mod topology;
mod verify;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use mente_broker::error::Kind;
use mente_broker::{Access, Broker, Peers, ShardTask};
use mente_cluster::Seat;
use mente_engine::{Event, limits};
use mente_server::amqp::{Amqp, OfMessages};
use mente_server::branches::{self, Branches};
use mente_server::http::{self, Backups, Http};
use mente_server::projection::Projections;
use mente_server::push::{self, Reach};
use mente_server::relay::Relays;
use mente_server::replica::Replicas;
use mente_server::saga::Sagas;
use mente_server::tls::{Identity, Trust};
use mente_wire::cloudevents;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;

use crate::args::{self, Choice, Dev, LogFormat, Process, Server};
use crate::failure::{Code, Failure, Result};
use crate::output::{bold, is_colourful, line};
use backup::Everything;
pub(crate) use clock::TokioClock;
use engine::Running;

pub(crate) use reserve::Reserve;
use shelf::Files;
use topology::Topology;
pub(crate) use verify::{noted, verify};

/// Between two looks whether a node of a cluster is ready.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// How long shards may take to stop once nobody asks them anything.
const SHARDS_STOP_WAIT: Duration = Duration::from_secs(5);

/// Files that every connection needs, beside those of the log and the projections.
pub(crate) const FILES_WANTED: u64 =
    limits::HTTP_CONNECTIONS as u64 + limits::AMQP_CONNECTIONS as u64 + 6_000;

/// What differs between a developer's server and any other.
struct Plan {
    choice: Choice,
    /// Where other nodes reach this one, if not where it listens.
    advertise: Option<String>,
    /// Authorities of other nodes' doors, beside the machine's.
    node_ca: Option<PathBuf>,
    http: SocketAddr,
    /// Where administrators of Service Bus come in, if any do.
    administration: Option<SocketAddr>,
    /// Where clients of Service Bus come in, if any do.
    amqp: Option<SocketAddr>,
    /// Take another port if this one is busy.
    any_port: bool,
    broker: mente_broker::Options,
    keys: Vec<http::Key>,
    is_dev: bool,
    /// What `https` is served with; plain HTTP without.
    tls: Option<Identity>,
    push: push::Options,
}

impl Plan {
    /// Where other nodes reach the door.
    fn advertised(&self, address: SocketAddr) -> Result<String> {
        match &self.advertise {
            // A proxy in front of the door may speak TLS for it.
            Some(url) if url.contains("://") => Ok(url.clone()),
            Some(host) => Ok(format!("{}://{host}", self.scheme())),
            None if address.ip().is_unspecified() => Err(Failure::usage(format!(
                "other nodes cannot reach {address}: say with --advertise HOST:PORT where they reach this one"
            ))),
            None => Ok(format!("{}://{address}", self.scheme())),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

pub(crate) fn dev(dev: Dev) -> Result<()> {
    for door in [dev.http, dev.servicebus_admin, dev.amqp] {
        if !door.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "mente dev has no login and listens on loopback only, not on {door}; for others run mente server"
            )));
        }
    }
    let plan = Plan {
        choice: Choice::default(),
        advertise: None,
        node_ca: None,
        http: dev.http,
        administration: Some(dev.servicebus_admin),
        amqp: Some(dev.amqp),
        any_port: true,
        broker: mente_broker::Options {
            create_topics: true,
            parse_event,
            aside,
            properties: &OfMessages,
            ..mente_broker::Options::default()
        },
        keys: Vec::new(),
        is_dev: true,
        tls: identity(&dev.process)?,
        push: webhooks(&dev.process, Reach::Anywhere)?,
    };
    run(&plan, &dev.data_dir, &dev.process)
}

pub(crate) fn server(server: Server) -> Result<()> {
    check_openness(&server)?;
    check_engine(&server)?;
    let keys = match &server.keys_file {
        Some(file) => keys::read(file)?,
        None => Vec::new(),
    };
    let access = if server.keys_file.is_some() {
        Access::Keys
    } else {
        Access::Open
    };
    let reach = if server.allow_private_webhooks {
        Reach::Anywhere
    } else {
        Reach::Public
    };
    let plan = Plan {
        choice: server.choice.clone(),
        advertise: server.advertise.clone(),
        node_ca: server.node_ca.clone(),
        http: server.http,
        administration: server.servicebus_admin,
        amqp: server.amqp,
        any_port: false,
        broker: mente_broker::Options {
            create_topics: server.create_topics,
            access,
            shards: server.choice.shards,
            parse_event,
            aside,
            properties: &OfMessages,
            ..mente_broker::Options::default()
        },
        keys,
        is_dev: false,
        tls: identity(&server.process)?,
        push: webhooks(&server.process, reach)?,
    };
    run(&plan, &server.data_dir, &server.process)
}

/// Work that may take seconds, on a thread that serves no connection.
fn aside(work: Box<dyn FnOnce() + Send>) {
    drop(tokio::task::spawn_blocking(work));
}

/// A whole event in a record's value.
fn parse_event(value: &Bytes) -> Option<Event> {
    cloudevents::parse_event(value).ok()
}

/// What is said of a Kafka cluster is meant for one.
fn check_engine(server: &Server) -> Result<()> {
    let choice = &server.choice;
    let is_said = !choice.kafka_bootstrap.is_empty()
        || !choice.kafka_prefix.is_empty()
        || server.advertise.is_some();
    if choice.engine == args::Kind::Embedded && is_said {
        let message =
            "a Kafka cluster is named, but the engine is the embedded one: say --engine kafka";
        return Err(Failure::usage(message.to_owned()));
    }
    Ok(())
}

/// What other machines reach is encrypted and asks for keys, unless somebody says that it shall not.
fn check_openness(server: &Server) -> Result<()> {
    let doors = [
        ("--http", Some(server.http)),
        ("--servicebus-admin", server.servicebus_admin),
        ("--amqp", server.amqp),
    ];
    for (flag, address) in doors {
        if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
            check_open_door(server, flag, address)?;
        }
    }
    Ok(())
}

fn check_open_door(server: &Server, flag: &str, address: SocketAddr) -> Result<()> {
    if server.process.tls_cert.is_none() && !server.insecure_http {
        return Err(Failure::usage(format!(
            "{flag} {address} is reached from other machines, and without TLS everyone on the way reads events and keys; give --tls-cert and --tls-key, put a TLS proxy before a loopback listener, or say --insecure-http"
        )));
    }
    if server.keys_file.is_none() && !server.insecure_no_keys {
        return Err(Failure::usage(format!(
            "{flag} {address} is reached from other machines, and without keys whoever reaches it may do everything; give --keys-file, or say --insecure-no-keys"
        )));
    }
    Ok(())
}

fn identity(process: &Process) -> Result<Option<Identity>> {
    let (Some(cert), Some(key)) = (&process.tls_cert, &process.tls_key) else {
        return Ok(None);
    };
    Identity::read(cert, key).map(Some).map_err(Failure::usage)
}

fn webhooks(process: &Process, reach: Reach) -> Result<push::Options> {
    let trust = Trust::system(process.webhook_ca.as_deref()).map_err(Failure::usage)?;
    Ok(push::Options { reach, trust })
}

fn run(plan: &Plan, data_dir: &Path, process: &Process) -> Result<()> {
    log_to_stderr(process.log_format)?;
    #[cfg(feature = "planted")]
    crate::planted::plant()?;
    if let Some(file) = &process.ports_file {
        ports::forget(file)?;
    }
    let topology = Topology::read(plan.choice.engine, process.topology.as_deref())?;
    let began = Instant::now();
    allow_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the executor")?;
    let running = {
        let _inside = runtime.enter();
        let reserve = process.disk_reserve.unwrap_or_default();
        engine::open(&plan.choice, data_dir, reserve)?
    };
    backup::remove_leftovers(data_dir).context("cannot tidy the data directory")?;
    let served = runtime.block_on(serve(plan, &running, data_dir, process, topology, began));
    // Every task that could still call the engine ends here, before the log is closed.
    runtime.shutdown_timeout(SHARDS_STOP_WAIT);
    let closed = running.close();
    served.and(closed)
}

/// Takes as many files as every connection needs, beside those of the log and the projections;
/// where that is not allowed, the door has fewer connections and says so.
fn allow_files() {
    let wanted = Some(FILES_WANTED);
    let now = getrlimit(Resource::Nofile);
    let allowed = now
        .maximum
        .map_or(wanted, |maximum| wanted.min(Some(maximum)));
    if now.current.is_some_and(|current| Some(current) < allowed) {
        let more = Rlimit {
            current: allowed,
            maximum: now.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, more) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}

async fn serve(
    plan: &Plan,
    running: &Running,
    data_dir: &Path,
    process: &Process,
    topology: Option<Topology>,
    began: Instant,
) -> Result<()> {
    let clock = Arc::new(TokioClock::new());
    running.check_safety(&plan.choice).await?;
    let nodes = match running.cluster() {
        None => None,
        Some(_) => {
            let trust = Trust::system(plan.node_ca.as_deref()).map_err(Failure::usage)?;
            Some(nodes::nodes(data_dir, trust)?)
        }
    };
    let peers = nodes.clone().map(|nodes| nodes as Arc<dyn Peers>);
    let options = mente_broker::Options {
        shelf: Some(Arc::new(Files::new(data_dir.to_owned(), running.engine()))),
        ..plan.broker.clone()
    };
    let (broker, tasks) = Broker::open_among(running.engine(), clock, options, peers)
        .await
        .context("cannot open the broker on this data")?;
    running.check_views(&Broker::journals(), data_dir).await?;
    let mut shards = spawn(tasks);
    let (stop, stopping) = watch::channel(false);
    if running.log().is_some() {
        let lent = broker.lend_to_branches().await;
        lent.context("cannot tell what branches read")?;
    }
    let projections = Projections::open(broker.clone(), data_dir.join("projections"));
    let projections = Arc::new(projections.context("cannot open the projections")?);
    let replicas = Replicas::open(broker.clone(), data_dir.join("replicas"), plan.push.clone());
    let replicas = Arc::new(replicas.context("cannot open the replicas")?);
    let backups = running.log().map(|engine| {
        Arc::new(Everything {
            broker: broker.clone(),
            engine,
            projections: Arc::clone(&projections),
            data_dir: data_dir.to_owned(),
        }) as Arc<dyn Backups>
    });
    let door = http::Options {
        keys: plan.keys.clone(),
        tls: plan.tls.clone(),
        ..http::Options::default()
    };
    let branches = running.log().map(|_| {
        let options = branches::Options {
            host: plan.http.ip(),
            door: door.clone(),
            directory: data_dir.join("branches"),
        };
        let projections = Arc::clone(&projections);
        Arc::new(Branches::new(broker.clone(), projections, options))
    });
    let relays = Arc::new(Relays::new(broker.clone(), data_dir));
    let sagas = Arc::new(Sagas::new(broker.clone()));
    let options = http::Options {
        projections: Some(Arc::clone(&projections)),
        relays: Some(Arc::clone(&relays)),
        sagas: Some(Arc::clone(&sagas)),
        replicas: Some(Arc::clone(&replicas)),
        backups,
        branches: branches.clone(),
        webhooks: Some(plan.push.clone()),
        nodes: nodes.clone(),
        ..door
    };
    let http = bind(plan, broker.clone(), options).await?;
    let address = http.address().context("cannot tell the HTTP port")?;
    let administration = administration::bind(plan, &broker).await?;
    let administration_address = administration
        .as_ref()
        .map(|door| door.address())
        .transpose();
    let administration_address =
        administration_address.context("cannot tell the port of the administration")?;
    let amqp = match plan.amqp {
        Some(wanted) => Some(amqp::bind(plan, wanted, broker.clone()).await?),
        None => None,
    };
    let amqp_address = amqp.as_ref().map(Amqp::address).transpose();
    let amqp_address = amqp_address.context("cannot tell the AMQP port")?;
    let (leave, leaving) = watch::channel(false);
    let mut http = Some(http);
    let mut door = None;
    let part = match (running.cluster(), nodes) {
        (Some(engine), Some(nodes)) => {
            // Other nodes may ask before everything is ready here.
            door = http
                .take()
                .map(|http| tokio::spawn(http.run(stopping.clone())));
            let seat = Seat {
                instance: nodes.name().to_owned(),
                address: plan.advertised(address)?,
                secret: nodes.secret().to_owned(),
                shards: plan.broker.shards,
            };
            let part = nodes::take_part(engine, broker.clone(), nodes, seat, leaving);
            Some(tokio::spawn(part))
        }
        _ => None,
    };
    let is_alone = part.is_none();
    tokio::select! {
        ready = until_made(&broker, is_alone, topology) => ready?,
        error = failure(&mut shards) => return Err(error.into()),
        signal = signal() => {
            tracing::info!(signal = signal?, "stopping");
            let _ = stop.send(true);
            let _ = leave.send(true);
            if let Some(part) = part {
                part.await.context("the part in the cluster failed")?;
            }
            return Ok(());
        }
    }
    if let Some(branches) = &branches {
        tokio::select! {
            opened = branches.open() => if let Err(error) = opened {
                tracing::error!(%error, "branches are not open");
                let (branches, stopping) = (Arc::clone(branches), stopping.clone());
                tokio::spawn(async move { branches.open_later(stopping).await });
            },
            error = failure(&mut shards) => return Err(error.into()),
            signal = signal() => {
                tracing::info!(signal = signal?, "stopping");
                branches.close().await;
                return Ok(());
            }
        }
    }
    // Views stop after the door: until then appends wait for some of them.
    let (stop_views, views_stopping) = watch::channel(false);
    let views = {
        let projections = Arc::clone(&projections);
        tokio::spawn(async move { projections.run(views_stopping).await })
    };
    tokio::select! {
        () = projections.mended() => {}
        error = failure(&mut shards) => return Err(error.into()),
        signal = signal() => {
            tracing::info!(signal = signal?, "stopping");
            if let Some(branches) = &branches {
                branches.close().await;
            }
            let _ = leave.send(true);
            if let Some(part) = part {
                part.await.context("the part in the cluster failed")?;
            }
            let _ = stop_views.send(true);
            return views.await.context("the projector failed").map_err(Failure::from);
        }
    }
    let door = match (door, http) {
        (Some(door), _) => door,
        (None, Some(http)) => tokio::spawn(http.run(stopping.clone())),
        (None, None) => return Err(Failure::new(Code::Bug, "no HTTP door")),
    };
    let administering = administration.map(|door| tokio::spawn(door.run(stopping.clone())));
    let messages = amqp.map(|amqp| tokio::spawn(amqp.run(stopping.clone())));
    let push = push::run(broker.clone(), plan.push.clone(), stopped(stopping.clone()));
    let push = tokio::spawn(push);
    let deleting = {
        let (broker, stopping) = (broker.clone(), stopped(stopping.clone()));
        tokio::spawn(async move {
            tokio::select! {
                () = broker.keep_deleting_idle() => {}
                () = stopping => {}
            }
        })
    };
    let relaying = {
        let stopping = stopping.clone();
        tokio::spawn(async move { relays.run(stopping).await })
    };
    let courses = {
        let stopping = stopping.clone();
        tokio::spawn(async move { sagas.run(stopping).await })
    };
    let copies = {
        let stopping = stopping.clone();
        tokio::spawn(async move { replicas.run(stopping).await })
    };
    drop(projections);
    drop(broker);
    let took = began.elapsed();
    let amqp = amqp_address.map(|address| address.to_string());
    let servicebus_admin = administration_address.map(|address| address.to_string());
    tracing::info!(url = format!("{}://{address}", plan.scheme()), amqp, servicebus_admin, kafka = running.kafka(), data = %data_dir.display(), ready_ms = took.as_millis() as u64, "ready");
    if plan.is_dev {
        let messages = (amqp_address, administration_address);
        greet(plan.scheme(), address, messages, data_dir, took)?;
    }
    if let Some(file) = &process.ports_file {
        let mut doors = vec![(plan.scheme(), address)];
        doors.extend(administration_address.map(|address| ("servicebus-admin", address)));
        doors.extend(amqp_address.map(|address| ("amqp", address)));
        ports::write(file, &doors, running.kafka())?;
    }
    let failed = tokio::select! {
        signal = signal() => signal.map(|name| tracing::info!(signal = name, "stopping")).err(),
        error = failure(&mut shards) => Some(error),
    };
    // The doors hold the last handles; shards end when those are gone.
    let _ = stop.send(true);
    door.await.context("the HTTP door failed")?;
    if let Some(administering) = administering {
        let ended = administering.await;
        ended.context("the administration of Service Bus failed")?;
    }
    if let Some(messages) = messages {
        messages.await.context("the AMQP door failed")?;
    }
    if let Some(branches) = branches {
        branches.close().await;
    }
    // Nobody is served here any more: others may decide.
    let _ = leave.send(true);
    if let Some(part) = part {
        part.await.context("the part in the cluster failed")?;
    }
    push.await.context("the webhook sender failed")?;
    deleting.await.context("what deletes idle queues failed")?;
    relaying.await.context("the relays failed")?;
    courses.await.context("the sagas failed")?;
    let _ = stop_views.send(true);
    views.await.context("the projector failed")?;
    copies.await.context("the keeper of replicas failed")?;
    let stopped = async { while shards.join_next().await.is_some() {} };
    if tokio::time::timeout(SHARDS_STOP_WAIT, stopped)
        .await
        .is_err()
    {
        tracing::warn!("shards did not stop in time");
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Waits until shards are ready, then until what was declared is there.
async fn until_made(broker: &Broker, is_alone: bool, topology: Option<Topology>) -> Result<()> {
    let is_ready = until_ready(broker, is_alone).await?;
    match topology {
        Some(topology) if is_ready => topology.apply(broker).await,
        Some(_) => {
            tracing::error!(
                "what the topology declares may not be there: apply it when there is room"
            );
            Ok(())
        }
        None => Ok(()),
    }
}

/// Waits for every shard of this node; of those in a cluster, also for its place there.
async fn until_ready(broker: &Broker, is_alone: bool) -> Result<bool> {
    loop {
        match broker.ready().await {
            // Others come and go, and shards with them.
            Err(error) if !is_alone && !matches!(error.kind, Kind::Corrupt | Kind::Internal) => {
                tokio::time::sleep(READY_PAUSE).await;
            }
            // The door is open all the same: what makes room comes in there.
            Err(error) if error.kind == Kind::Throttled => {
                tracing::error!(%error, "not ready");
                return Ok(false);
            }
            ready => {
                ready.context("a shard did not start")?;
                return Ok(true);
            }
        }
    }
}

/// Resolves when the server begins to stop.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // The sender is gone only after it said so.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn spawn(tasks: Vec<ShardTask>) -> JoinSet<mente_broker::Result<()>> {
    let mut shards = JoinSet::new();
    for task in tasks {
        shards.spawn(task);
    }
    shards
}

/// Resolves when a shard ends although its handles are there.
async fn failure(shards: &mut JoinSet<mente_broker::Result<()>>) -> anyhow::Error {
    match shards.join_next().await {
        Some(Ok(Err(error))) => anyhow::Error::new(error).context("a shard cannot go on"),
        Some(Err(error)) => anyhow::Error::new(error).context("a shard failed"),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("a shard ended by itself"),
    }
}

async fn bind(plan: &Plan, broker: Broker, options: http::Options) -> Result<Http> {
    let bound = Http::bind(plan.http, broker.clone(), options.clone()).await;
    let error = match bound {
        Ok(http) => return Ok(http),
        Err(error) => error,
    };
    if plan.any_port && error.kind() == std::io::ErrorKind::AddrInUse {
        let any = SocketAddr::new(plan.http.ip(), 0);
        let http = Http::bind(any, broker, options)
            .await
            .context("no free port")?;
        let address = http.address().context("cannot tell the HTTP port")?;
        let words = format!(
            "port {} is busy: HTTP is on {address} instead",
            plan.http.port()
        );
        eprintln!("{}", bold(&words));
        return Ok(http);
    }
    let words = format!(
        "cannot listen on {}; end what holds the port, or choose another with --http",
        plan.http
    );
    Err(anyhow::Error::new(error).context(words).into())
}

/// The first lines of a development server: addresses, and what to paste next.
fn greet(
    scheme: &str,
    address: SocketAddr,
    (amqp, administration): (Option<SocketAddr>, Option<SocketAddr>),
    data_dir: &Path,
    took: Duration,
) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let seconds = took.as_secs_f32();
    let data = data_dir.display();
    let url = format!("{scheme}://{address}");
    let server = if url == format!("http://{}", args::HTTP_DEFAULT) {
        String::new()
    } else {
        format!(" --server {url}")
    };
    let messages = amqp.map(amqp::connection_string).unwrap_or_default();
    let administration = administration.map(|address| address.to_string());
    let administration = administration.unwrap_or_default();
    line(&format!(
        "mente {version}  embedded engine  data {data}  ready in {seconds:.1} s
  Events      POST {url}/topics/TOPIC/events
  Event Grid  {url}  any key
  Service Bus {messages}  any key
              administration: the same with {administration}
  Health      {url}/readyz  /metrics
  Next        mente pub orders '{{\"id\":1}}'{server}
              mente tail orders --from earliest{server}
              curl {url}/topics/orders/events
  Development: loopback only, no login. Ctrl-C stops cleanly. For others: mente server --help"
    ))
}

/// Resolves with the name of the signal that asks this process to end.
pub(crate) async fn signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

fn log_to_stderr(format: LogFormat) -> Result<()> {
    let filter = match std::env::var("MENTE_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!(
                "MENTE_LOG is {text:?}: {error}; say something like info or mente_broker=debug"
            ))
        })?,
        Err(_) => EnvFilter::new("info"),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_colourful());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
