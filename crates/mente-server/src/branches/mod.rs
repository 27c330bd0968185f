//! Branches: a whole namespace forked at a moment, served at a port of its own.
//!
//! ```text
//!   default ──●────────────▶ port 8480        clients, webhooks, effects
//!             └── fork ────▶ port of its own  the same clients; effects are held back
//! ```
//! What makes a branch is the broker's (`Broker::fork`); here it gets a door and views of its own. No webhook
//! is called from a branch: what would have been sent waits in its subscriptions. Views are built anew from
//! the branch's events, beside those of `default`.
//!
//! A branch exists once the catalogue of `default` names it. It is made before that and removed after, so a
//! server that ended in between finds it unnamed when it starts, and forgets it.

mod diff;
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mente_broker::{
    Broker, Definition, EntityName, Error, Kind, Principal, Result, check_branch_name,
};
use mente_engine::{Timestamp, limits};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore, watch};

use crate::http;
use crate::projection::Projections;
use running::Running;

pub use diff::Difference;

/// What branches of a server have in common.
#[derive(Debug)]
pub struct Options {
    /// Where their doors listen, each at a port of its own.
    pub host: IpAddr,
    /// As the door of `default` lets callers in, and the budget that they have together.
    pub door: http::Options,
    /// Holds a directory for each.
    pub directory: PathBuf,
}

/// The branches of a server.
#[derive(Debug)]
pub struct Branches {
    broker: Broker,
    projections: Arc<Projections>,
    options: Options,
    /// A comparison holds many events.
    comparing: Semaphore,
    /// None once the server ends.
    running: Mutex<Option<BTreeMap<EntityName, Opened>>>,
}

/// A branch that could not be opened is its reason.
type Opened = Result<Arc<Running>, String>;

/// A branch, as it is declared and shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    /// What it was made from.
    pub from: String,
    /// Events up to then are shared, in milliseconds since 1970; none: all that there were.
    pub at_ms: Option<i64>,
    pub made_ms: i64,
    /// Of its door, the same whenever the server starts.
    pub port: u16,
    /// Deliveries are as of then, where a journal did not reach back to the moment of the branch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deliveries_ms: Option<i64>,
    /// Topics of that moment that were deleted before the branch was made.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub missing: Vec<String>,
}

impl Branches {
    pub fn new(broker: Broker, projections: Arc<Projections>, options: Options) -> Self {
        Self {
            broker,
            projections,
            options,
            comparing: Semaphore::new(1),
            running: Mutex::new(Some(BTreeMap::new())),
        }
    }

    /// Opens every branch that the catalogue names, and forgets what others were left. One that cannot be
    /// opened says why where it is listed.
    pub async fn open(&self) -> Result<()> {
        let declared = self.declared(&own())?;
        let known: BTreeSet<_> = declared.keys().cloned().collect();
        self.broker.forget_other_branches(&known).await?;
        self.remove_other_directories(known).await?;
        for (name, branch) in declared {
            let mut running = self.running.lock().await;
            let Some(running) = running.as_mut().filter(|r| !r.contains_key(&name)) else {
                continue;
            };
            let opened = match branch {
                Ok(branch) => self.begin(&name, branch.port).await,
                Err(unread) => Err(unread),
            };
            let opened = opened.map_err(|error| error.message);
            match &opened {
                Ok(open) => tracing::info!(branch = %name, port = open.port, "branch open"),
                Err(error) => tracing::error!(branch = %name, %error, "a branch is not served"),
            }
            running.insert(name, opened);
        }
        Ok(())
    }

    /// The same again while the disk is too full for it, until `stop` holds true.
    pub async fn open_later(&self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(OPEN_PAUSE) => {}
            }
            match self.open().await {
                Err(error) if error.kind == Kind::Throttled => {}
                Err(error) => return tracing::error!(%error, "branches are not open"),
                Ok(()) => return,
            }
        }
    }

    /// What the views were of branches that nobody names.
    async fn remove_other_directories(&self, known: BTreeSet<EntityName>) -> Result<()> {
        let all = self.options.directory.clone();
        let removed = tokio::task::spawn_blocking(move || {
            let Ok(entries) = std::fs::read_dir(all) else {
                return Ok(());
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().into_string().ok();
                let name = name.and_then(|name| EntityName::new(name).ok());
                if name.is_some_and(|name| !known.contains(&name)) {
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(())
        });
        let removed = removed.await.map_err(ended)?;
        removed.map_err(|error: std::io::Error| {
            let message = format!("cannot tidy the directory of branches: {error}");
            Error::new(Kind::Internal, message)
        })
    }

    /// Closes every door and waits for all that runs on branches. None is made from then on.
    pub async fn close(&self) {
        let running = self.running.lock().await.take();
        let running = running.into_iter().flatten();
        let ends = running.filter_map(|(_, open)| open.ok()).map(Running::end);
        futures::future::join_all(ends).await;
    }

    /// Makes a branch of everything as it was at `at`, or is now; it is served on return, at this port if
    /// one is said. Made to its end whoever stops waiting for it.
    pub async fn create(
        self: &Arc<Self>,
        who: &Principal,
        name: &EntityName,
        at: Option<Timestamp>,
        port: Option<u16>,
    ) -> Result<Branch> {
        let (branches, who, name) = (Arc::clone(self), who.clone(), name.clone());
        let created = async move { branches.create_here(&who, &name, at, port).await };
        tokio::spawn(created).await.map_err(ended)?
    }

    async fn create_here(
        &self,
        who: &Principal,
        name: &EntityName,
        at: Option<Timestamp>,
        port: Option<u16>,
    ) -> Result<Branch> {
        let mut running = self.running.lock().await;
        let running = running.as_mut().ok_or_else(stopping)?;
        let declared = self.declared(who)?;
        if declared.contains_key(name) {
            let message = format!("branch {name} exists: remove it first, or choose another name");
            return Err(Error::new(Kind::Exists, message));
        }
        if declared.len() >= limits::BRANCHES {
            let message = format!(
                "a server has at most {} branches: remove one",
                limits::BRANCHES
            );
            return Err(Error::new(Kind::Throttled, message));
        }
        check_branch_name(name)?;
        // What a failed attempt left would be taken for this one's.
        if let Some(Ok(left)) = running.remove(name) {
            left.end().await;
        }
        self.forget(name).await?;
        match self.make(who, name, at, port).await {
            Ok((branch, begun)) => {
                running.insert(name.clone(), Ok(begun));
                Ok(branch)
            }
            Err(error) => {
                if let Err(error) = self.forget(name).await {
                    tracing::warn!(branch = %name, %error, "a branch that was not made is forgotten at the next start");
                }
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        who: &Principal,
        name: &EntityName,
        at: Option<Timestamp>,
        port: Option<u16>,
    ) -> Result<(Branch, Arc<Running>)> {
        let forked = self.broker.fork(who, name, at).await?;
        let begun = self.begin(name, port.unwrap_or(0)).await?;
        let branch = Branch {
            from: "default".to_owned(),
            at_ms: at.map(|at| at.0),
            made_ms: self.broker.now().wall.0,
            port: begun.port,
            deliveries_ms: forked.deliveries.map(|at| at.0),
            missing: forked.missing.iter().map(EntityName::to_string).collect(),
        };
        let body = serde_json::to_value(&branch)
            .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let kind = Definition::Branch;
        let defined = self.broker.define(who, kind, name, body).await;
        match self.certain(defined, name, true).await {
            Ok(()) => Ok((branch, begun)),
            Err(error) => {
                begun.end().await;
                Err(error)
            }
        }
    }

    /// Every branch, and why it is not served if that is so.
    pub async fn list(&self, who: &Principal) -> Result<Vec<(EntityName, Branch, Option<String>)>> {
        let running = self.running.lock().await;
        let running = running.as_ref().ok_or_else(stopping)?;
        let told = self.declared(who)?.into_iter().map(|(name, branch)| {
            let error = match running.get(&name) {
                Some(Ok(running)) => running.failure(),
                Some(Err(error)) => Some(error.clone()),
                None => Some("it is not open yet".to_owned()),
            };
            // One that cannot be read is not open, and says so.
            (name, branch.unwrap_or_default(), error)
        });
        Ok(told.collect())
    }

    /// What differs between `default` and a branch; at most `limit` of each kind of thing are named.
    pub async fn difference(
        &self,
        who: &Principal,
        name: &EntityName,
        limit: usize,
    ) -> Result<Difference> {
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let _alone = self.comparing.try_acquire().map_err(|_| {
            let message = "another branch is being compared: repeat";
            Error::new(Kind::Throttled, message)
        })?;
        let running = match self
            .running
            .lock()
            .await
            .as_ref()
            .and_then(|all| all.get(name))
        {
            Some(Ok(running)) => Arc::clone(running),
            Some(Err(error)) => return Err(Error::new(Kind::Conflict, error.clone())),
            None => return Err(Error::new(Kind::Throttled, "the branch is not open yet")),
        };
        let sides = diff::Sides {
            default: (&self.broker, &*self.projections),
            branch: (&running.broker, &*running.projections),
            fork: &running.fork,
        };
        diff::difference(who, sides, limit).await
    }

    /// Ends a branch and deletes all that was only its own, whoever stops waiting for it.
    pub async fn remove(self: &Arc<Self>, who: &Principal, name: &EntityName) -> Result<()> {
        let (branches, who, name) = (Arc::clone(self), who.clone(), name.clone());
        let removed = async move { branches.remove_here(&who, &name).await };
        tokio::spawn(removed).await.map_err(ended)?
    }

    async fn remove_here(&self, who: &Principal, name: &EntityName) -> Result<()> {
        let mut running = self.running.lock().await;
        let running = running.as_mut().ok_or_else(stopping)?;
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let kind = Definition::Branch;
        let undefined = self.broker.undefine(who, kind, name).await;
        self.certain(undefined, name, false).await?;
        if let Some(Ok(running)) = running.remove(name) {
            running.end().await;
        }
        self.forget(name).await
    }

    /// What came of a decision whose outcome is not known is looked at before anything is built on it.
    async fn certain(&self, done: Result<()>, name: &EntityName, is_named: bool) -> Result<()> {
        match done {
            Err(error) if error.kind == Kind::Unknown => {
                self.broker.ready().await?;
                let declared = self.declared(&own())?;
                if declared.contains_key(name) == is_named {
                    return Ok(());
                }
                Err(error)
            }
            done => done,
        }
    }

    fn declared(&self, who: &Principal) -> Result<BTreeMap<EntityName, Result<Branch>>> {
        let catalogue = self.broker.catalogue(who)?;
        let declared = catalogue.definitions.iter();
        let declared = declared.filter(|((kind, _), _)| *kind == Definition::Branch);
        let read = |((_, name), body): (&(_, EntityName), &serde_json::Value)| {
            let branch = serde_json::from_value(body.clone());
            let unread = |e| Error::new(Kind::Corrupt, format!("branch {name}: {e}"));
            (name.clone(), branch.map_err(unread))
        };
        Ok(declared.map(read).collect())
    }

    async fn begin(&self, name: &EntityName, port: u16) -> Result<Arc<Running>> {
        let door = self.options.door.clone();
        let address = (self.options.host, port).into();
        let directory = self.directory(name).join("projections");
        let branch = self.broker.open_branch(name).await?;
        Running::begin(branch, address, door, directory).await
    }

    async fn forget(&self, name: &EntityName) -> Result<()> {
        self.broker.forget_branch(name).await?;
        let directory = self.directory(name);
        let shown = directory.display().to_string();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory)).await;
        match removed.unwrap_or_else(|ended| Err(ended.into())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let message = format!("cannot remove {shown}: {error}");
                Err(Error::new(Kind::Internal, message))
            }
            _ => Ok(()),
        }
    }

    fn directory(&self, name: &EntityName) -> PathBuf {
        self.options.directory.join(name.as_str())
    }
}

fn ended(task: tokio::task::JoinError) -> Error {
    Error::new(
        Kind::Internal,
        format!("the work on branches ended: {task}"),
    )
}

/// Between two attempts to open branches on a disk that is full.
const OPEN_PAUSE: Duration = Duration::from_secs(1);

fn stopping() -> Error {
    Error::new(Kind::Throttled, "the server is stopping")
}

fn own() -> Principal {
    Principal::Key("branches of this server".to_owned())
}

fn missing(name: &EntityName) -> Error {
    let message = format!("no branch {:?}; mente branch ls lists them", name.as_str());
    Error::new(Kind::NotFound, message)
}
