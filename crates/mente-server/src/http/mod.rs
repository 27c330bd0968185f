//! The HTTP door: CloudEvents, topics and subscriptions, and Event Grid's pull API.
//!
//! ```text
//! connection.rs ─▶ metrics.rs ─▶ one file per noun ─▶ broker
//!   TLS, limits,     counts       events · event · read · grid · topics · subscriptions · admin
//!   shutdown                      with body.rs (byte budget), caller.rs (keys), query.rs
//! ```
//! Every refusal leaves through `error.rs`, which holds the one table from kinds to statuses.

mod event;
mod events;
mod read;
mod reader;
mod tail;

mod commands;
mod grid;
mod past;
mod projections;
mod relays;
mod replay;
mod replicas;
mod sagas;
mod schemas;
mod snapshot;
mod sql;
mod store;
mod streams;
mod subscriptions;
mod topics;
mod topology;
mod trace;

mod admin;
mod alternatives;
mod backup;
mod branches;
mod openapi;

mod bodies;
mod body;
mod caller;
mod connection;
pub mod distinct;
mod error;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod metadata;
mod metrics;
mod nodes;
mod position;
mod query;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use mente_broker::Broker;
use mente_engine::limits;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::branches::Branches;
pub use crate::keys::Key;
use crate::nodes::{ANSWER_PATH, Nodes, PROGRESS_PATH};
use crate::port;
use crate::projection::Projections;
use crate::push;
use crate::relay::Relays;
use crate::replica::Replicas;
use crate::saga::Sagas;
use crate::sql::Queries;
use crate::tls::Identity;
pub use backup::{Archive, Backups};
use metrics::Metrics;
pub(crate) use past::change as told_change;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whom the door lets in by name; who shows another key is refused. Whether a key is needed
    /// at all is the broker's to say.
    pub keys: Vec<Key>,
    /// Speak TLS, as this server; plain HTTP without.
    pub tls: Option<Identity>,
    /// What this door and others of the process may take together.
    pub budget: Budget,
    /// How webhooks are asked to decide commands; none where effects are held back.
    pub webhooks: Option<push::Options>,
    /// SQL views of this server, if it keeps any.
    pub projections: Option<Arc<Projections>>,
    /// None in a branch.
    pub relays: Option<Arc<Relays>>,
    /// None in a branch.
    pub sagas: Option<Arc<Sagas>>,
    /// Copies of other servers' topics, if it keeps any.
    pub replicas: Option<Arc<Replicas>>,
    /// Copies what this server keeps.
    pub backups: Option<Arc<dyn Backups>>,
    /// The branches of this server; none at the door of a branch.
    pub branches: Option<Arc<Branches>>,
    /// The nodes of a cluster; none where this is the only one that there can be.
    pub nodes: Option<Arc<Nodes>>,
}

/// Connections and bytes of bodies that doors have together; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    seats: Arc<Semaphore>,
    /// Bytes of request bodies that may still be taken into memory.
    room: Arc<Semaphore>,
}

impl Default for Budget {
    /// As much as one process may take.
    fn default() -> Self {
        Self {
            seats: Arc::new(Semaphore::new(connection::seats())),
            room: Arc::new(Semaphore::new(limits::HTTP_BODIES_BYTES)),
        }
    }
}

/// A bound HTTP door that does not serve yet.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    broker: Broker,
    options: Options,
}

/// What every request shares.
#[derive(Debug)]
struct Door {
    broker: Broker,
    keys: Vec<Key>,
    tls: Option<Identity>,
    metrics: Metrics,
    webhooks: Option<push::Options>,
    projections: Option<Arc<Projections>>,
    relays: Option<Arc<Relays>>,
    sagas: Option<Arc<Sagas>>,
    replicas: Option<Arc<Replicas>>,
    queries: Queries,
    backups: Option<Arc<dyn Backups>>,
    branches: Option<Arc<Branches>>,
    nodes: Option<Arc<Nodes>>,
    backing_up: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
    /// Data of events that is being read.
    bodies: Arc<Semaphore>,
    seats: Arc<Semaphore>,
    /// Bytes of request bodies that may still be taken into memory.
    room: Arc<Semaphore>,
    stopping: Stopping,
}

/// Tells when the server begins to stop.
#[derive(Clone, Debug)]
struct Stopping(watch::Receiver<bool>);

impl Http {
    /// Takes the port; connections wait in its backlog until [`Http::run`].
    pub async fn bind(address: SocketAddr, broker: Broker, options: Options) -> io::Result<Self> {
        let listener = port::listen(address)?;
        Ok(Self {
            listener,
            broker,
            options,
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` holds true, then finishes what is under way, within
    /// [`limits::HTTP_DRAIN_SECONDS`].
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let door = Arc::new(Door {
            broker: self.broker,
            keys: self.options.keys,
            tls: self.options.tls,
            metrics: Metrics::default(),
            webhooks: self.options.webhooks,
            projections: self.options.projections,
            relays: self.options.relays,
            sagas: self.options.sagas,
            replicas: self.options.replicas,
            queries: Queries::default(),
            backups: self.options.backups,
            branches: self.options.branches,
            nodes: self.options.nodes,
            backing_up: Arc::new(Semaphore::new(1)),
            snapshots: Arc::new(Semaphore::new(limits::SNAPSHOTS)),
            bodies: Arc::new(Semaphore::new(bodies::AT_ONCE)),
            seats: self.options.budget.seats,
            room: self.options.budget.room,
            stopping: Stopping(stop),
        });
        connection::serve(self.listener, Arc::clone(&door), router(door)).await;
    }
}

fn router(door: Arc<Door>) -> Router {
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    if door.nodes.is_some() {
        // For nodes alone, so `openapi.json` does not have them.
        router = router
            .route(ANSWER_PATH, post(nodes::answer))
            .route(PROGRESS_PATH, get(nodes::progress));
    }
    router
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&door),
            metrics::count,
        ))
        .with_state(door)
}

/// Everything that is served; `openapi.json` says the same to clients, which its test proves.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Door>>)> {
    vec![
        ("/topics", get(topics::list)),
        (
            // Posting to a topic is Event Grid's `{topic}:publish`.
            "/topics/{topic}",
            get(topics::get)
                .put(topics::put)
                .delete(topics::delete)
                .post(grid::publish),
        ),
        (
            "/topics/{topic}/events",
            get(read::events).post(events::publish),
        ),
        ("/topics/{topic}/events/{position}", get(event::get)),
        ("/topics/{topic}/bodies/{place}", get(bodies::get)),
        ("/topics/{topic}/snapshot", get(snapshot::get)),
        (
            "/topics/{topic}/eventsubscriptions/{subscription}",
            post(grid::subscription),
        ),
        ("/topics/{topic}/subscriptions", get(subscriptions::list)),
        (
            "/topics/{topic}/subscriptions/{subscription}",
            get(subscriptions::get)
                .put(subscriptions::put)
                .delete(subscriptions::delete),
        ),
        (
            "/topics/{topic}/subscriptions/{subscription}/deadletters",
            get(read::dead_letters),
        ),
        (
            "/topics/{topic}/subscriptions/{subscription}/deadletters:replay",
            post(replay::replay),
        ),
        ("/streams", get(streams::list)),
        ("/store/events", get(store::events).post(store::append)),
        ("/store/head", get(admin::head)),
        ("/trace/{id}", get(trace::get)),
        (
            "/streams/{stream}",
            get(store::stream)
                .post(streams::append)
                .delete(metadata::delete),
        ),
        (
            "/streams/{stream}/metadata",
            get(metadata::get).put(metadata::put),
        ),
        ("/streams/{stream}/commands", post(commands::post)),
        ("/streams/{stream}/state", get(past::state)),
        ("/streams/{stream}/log", get(past::log)),
        ("/streams/{stream}/diff", get(past::difference)),
        ("/streams/{stream}/blame", get(past::blame)),
        ("/streams/{stream}/whatif", post(past::what_if)),
        ("/streams/{stream}/promote", post(past::promote)),
        ("/alternatives", get(alternatives::list)),
        (
            "/alternatives/{alternative}",
            get(alternatives::get)
                .put(alternatives::put)
                .delete(alternatives::delete),
        ),
        (
            "/alternatives/{alternative}/promote",
            post(alternatives::promote),
        ),
        (
            "/folds/{category}",
            get(streams::get_fold)
                .put(streams::put_fold)
                .delete(streams::delete_fold),
        ),
        ("/deciders", get(commands::list)),
        (
            "/deciders/{category}",
            get(commands::get)
                .put(commands::put)
                .delete(commands::delete),
        ),
        ("/schemas", get(schemas::list)),
        (
            "/schemas/{type}",
            get(schemas::get).put(schemas::put).delete(schemas::delete),
        ),
        ("/schemas/{type}/check", post(schemas::check)),
        ("/relays", get(relays::list)),
        (
            "/relays/{relay}",
            get(relays::get).put(relays::put).delete(relays::delete),
        ),
        ("/sagas", get(sagas::list)),
        (
            "/sagas/{saga}",
            get(sagas::get).put(sagas::put).delete(sagas::delete),
        ),
        ("/sagas/{saga}/{key}/retry", post(sagas::retry)),
        ("/sagas/{saga}/{key}/skip", post(sagas::skip)),
        ("/projections", get(projections::list)),
        (
            "/projections/{projection}",
            get(projections::get)
                .put(projections::put)
                .delete(projections::delete),
        ),
        ("/projections/{projection}/parked", get(projections::parked)),
        (
            "/projections/{projection}/parked/retry",
            post(projections::retry),
        ),
        (
            "/projections/{projection}/parked/skip",
            post(projections::skip),
        ),
        ("/projections/{projection}/{verb}", post(projections::act)),
        ("/replicas", get(replicas::list)),
        (
            "/replicas/{replica}",
            get(replicas::get)
                .put(replicas::put)
                .delete(replicas::delete),
        ),
        ("/replicas/{replica}/items", get(replicas::items)),
        ("/replicas/{replica}/items/{key}", get(replicas::item)),
        ("/topology", get(topology::get).put(topology::put)),
        ("/topology/diff", post(topology::diff)),
        ("/sql", post(sql::ask)),
        ("/branches", get(branches::list)),
        (
            "/branches/{branch}",
            get(branches::get)
                .put(branches::put)
                .delete(branches::delete),
        ),
        ("/branches/{branch}/diff", get(branches::diff)),
        ("/verify", post(admin::verify)),
        ("/backup", get(backup::get)),
        ("/api/cluster", get(nodes::cluster)),
        ("/livez", get(admin::livez)),
        ("/readyz", get(admin::readyz)),
        ("/metrics", get(admin::metrics)),
        ("/openapi.json", get(openapi::get)),
    ]
}

impl Stopping {
    fn now(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once the server stops; at once if it does already.
    async fn wait(&self) {
        // A sender that is gone means the same: nobody could say it any more.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}
