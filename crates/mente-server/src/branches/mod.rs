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

use mente_broker::{Broker, Definition, EntityName, Error, Kind, Principal, Result};
use mente_engine::{Timestamp, limits};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::http;
use crate::projection::Projections;
use running::Running;

pub use diff::Difference;

/// What branches of a server have in common.
#[derive(Debug)]
pub struct Options {
    /// Where their doors listen, each at a port of its own.
    pub host: IpAddr,
    /// As the door of `default` lets callers in; of it keys and identity count.
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
    /// A branch that could not be opened is its reason.
    running: Mutex<BTreeMap<EntityName, Result<Arc<Running>, String>>>,
}

/// A branch, as it is declared and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
            running: Mutex::default(),
        }
    }

    /// Opens every branch that the catalogue names, and forgets what others were left. One that cannot be
    /// opened says why where it is listed.
    pub async fn open(&self) -> Result<()> {
        let declared = self.declared(&own())?;
        let known: BTreeSet<_> = declared.keys().cloned().collect();
        self.broker.forget_other_branches(&known).await?;
        let mut running = self.running.lock().await;
        for (name, branch) in declared {
            let opened = self.begin(&name, branch.port).await;
            let opened = opened.map_err(|error| error.message);
            match &opened {
                Ok(_) => tracing::info!(branch = %name, port = branch.port, "branch open"),
                Err(error) => tracing::error!(branch = %name, %error, "a branch is not served"),
            }
            running.insert(name, opened);
        }
        Ok(())
    }

    /// Closes every door and waits for all that runs on branches. None is made from then on.
    pub async fn close(&self) {
        let running = std::mem::take(&mut *self.running.lock().await);
        let ends = running.into_values().flatten().map(Running::end);
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
        // What a failed attempt left would be taken for this one's.
        self.forget(name).await?;
        let made = self.make(who, name, at, port).await;
        match made {
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
        if let Err(error) = self.broker.define(who, kind, name, body).await {
            begun.end().await;
            return Err(error);
        }
        Ok((branch, begun))
    }

    /// Every branch, and why it is not served if that is so.
    pub async fn list(&self, who: &Principal) -> Result<Vec<(EntityName, Branch, Option<String>)>> {
        let running = self.running.lock().await;
        let told = self.declared(who)?.into_iter().map(|(name, branch)| {
            let error = match running.get(&name) {
                Some(Ok(running)) => running.failure(),
                Some(Err(error)) => Some(error.clone()),
                None => Some("it is not open yet".to_owned()),
            };
            (name, branch, error)
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
        let running = match self.running.lock().await.get(name) {
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
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let kind = Definition::Branch;
        self.broker.undefine(who, kind, name).await?;
        if let Some(Ok(running)) = running.remove(name) {
            running.end().await;
        }
        self.forget(name).await
    }

    fn declared(&self, who: &Principal) -> Result<BTreeMap<EntityName, Branch>> {
        let catalogue = self.broker.catalogue(who)?;
        let declared = catalogue.definitions.iter();
        let declared = declared.filter(|((kind, _), _)| *kind == Definition::Branch);
        let read = |((_, name), body): (&(_, EntityName), &serde_json::Value)| {
            let branch = serde_json::from_value(body.clone());
            let unread = |e| Error::new(Kind::Corrupt, format!("branch {name}: {e}"));
            Ok((name.clone(), branch.map_err(unread)?))
        };
        declared.map(read).collect()
    }

    async fn begin(&self, name: &EntityName, port: u16) -> Result<Arc<Running>> {
        let door = http::Options {
            keys: self.options.door.keys.clone(),
            tls: self.options.door.tls.clone(),
            ..http::Options::default()
        };
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

fn own() -> Principal {
    Principal::Key("branches of this server".to_owned())
}

fn missing(name: &EntityName) -> Error {
    let message = format!("no branch {:?}; mente branch ls lists them", name.as_str());
    Error::new(Kind::NotFound, message)
}
