//! The other nodes of a cluster, as a client: questions for the owner of a shard leave here.
//!
//! ```text
//! broker ─▶ Nodes::ask ─▶ link of the owner ─▶ its HTTP door (http/nodes.rs) ─▶ its broker
//! ```
//! One hop, by the address that the owner gave to all, with the secret that it gave to all, one
//! connection for each question under way. A question is sent again only where it certainly never left.

mod link;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use mente_broker::{Answer, Error, Kind, Peers};
use tokio::runtime::Handle;

use crate::tls::Trust;
use link::Link;

/// Where a node answers questions for its shards.
pub(crate) const ANSWER_PATH: &str = "/nodes/answer";
/// Where it tells how far they are.
pub(crate) const PROGRESS_PATH: &str = "/nodes/progress";
/// How the secret is shown.
pub(crate) const SCHEME: &str = "MenteNode ";
/// Names the question in the logs of both.
pub(crate) const QUESTION_ID: &str = "mente-question-id";

/// What an answer may take beside what it is asked to wait for.
const WAY: Duration = Duration::from_secs(30);
/// How long a node may take to tell how far it is.
const PROGRESS_WAIT: Duration = Duration::from_secs(2);

/// A node as it told of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// Stays the same over its restarts.
    pub name: String,
    /// Its HTTP door, such as `https://10.0.0.7:8480`.
    pub address: String,
    /// What is shown to it.
    pub secret: String,
    pub shards: BTreeSet<u32>,
}

/// Who is there, and who owns what.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// Counts the changes of who is there.
    pub generation: i32,
    pub nodes: Vec<Node>,
}

/// The nodes of this cluster, this one among them.
pub struct Nodes {
    name: String,
    secret: String,
    trust: Trust,
    runtime: Handle,
    holds: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    known: RwLock<Known>,
    questions: AtomicU64,
}

#[derive(Default)]
struct Known {
    map: Arc<Map>,
    links: BTreeMap<String, Arc<Link>>,
    owners: BTreeMap<u32, Arc<Link>>,
}

impl Nodes {
    /// Of the node with this name, to which others show this secret.
    ///
    /// # Panics
    /// Outside of a tokio runtime, on which questions that nobody waits for are put.
    pub fn new(name: String, secret: String, trust: Trust) -> Self {
        Self {
            name,
            secret,
            trust,
            runtime: Handle::current(),
            holds: OnceLock::new(),
            known: RwLock::default(),
            questions: AtomicU64::new(1),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Says once how to tell whether this node's place is certain.
    pub fn set_hold(&self, holds: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.holds.set(Box::new(holds));
    }

    /// Takes in who is there now. Links to nodes that stay as they were are kept.
    pub fn learn(&self, map: Map) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut known.links);
        let mut owners = BTreeMap::new();
        for node in map.nodes.iter().filter(|node| node.name != self.name) {
            let kept = before.get(&node.name).filter(|link| link.leads_to(node));
            let link = match kept {
                Some(link) => Arc::clone(link),
                None => match Link::new(node, self.trust.clone()) {
                    Ok(link) => Arc::new(link),
                    Err(error) => {
                        tracing::error!(node = node.name, error, "another node's address is wrong");
                        continue;
                    }
                },
            };
            owners.extend(node.shards.iter().map(|shard| (*shard, Arc::clone(&link))));
            known.links.insert(node.name.clone(), link);
        }
        known.owners = owners;
        known.map = Arc::new(map);
    }

    pub fn map(&self) -> Arc<Map> {
        Arc::clone(&self.known().map)
    }

    /// What another node says of its shards; `None` if it does not say.
    pub(crate) async fn progress_of(&self, name: &str) -> Option<Bytes> {
        let link = self.known().links.get(name).cloned()?;
        let told = link.get(PROGRESS_PATH);
        let told = tokio::time::timeout(PROGRESS_WAIT, told).await;
        told.ok()?.ok()
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers for Nodes {
    fn holds(&self) -> bool {
        self.holds.get().is_some_and(|holds| holds())
    }

    fn ask(&self, shard: u32, question: Vec<u8>, wait: Duration) -> Answer {
        let link = self.known().owners.get(&shard).cloned();
        let number = self.questions.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number:x}", self.name);
        Box::pin(async move {
            let link = link.ok_or_else(|| not_owner("no node owns the shard"))?;
            let answer = link.post(ANSWER_PATH, &id, question.into());
            match tokio::time::timeout(wait + WAY, answer).await {
                Ok(answer) => answer.map(|bytes| bytes.to_vec()),
                Err(_) => Err(unknown(&id, "the owner of the shard does not answer")),
            }
        })
    }

    fn tell(&self, shard: u32, question: Vec<u8>) {
        let told = self.ask(shard, question, Duration::ZERO);
        self.runtime.spawn(async move { drop(told.await) });
    }
}

/// Certainly nothing was done.
fn not_owner(why: &str) -> Error {
    Error::new(Kind::NotOwner, why)
}

fn unknown(id: &str, why: &str) -> Error {
    let message = format!("{why} (question {id}): it may have been done; look, then repeat");
    Error::new(Kind::Unknown, message)
}

impl fmt::Debug for Node {
    /// Without the secret, which must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes")
            .field("name", &self.name)
            .field("map", &self.known().map)
            .finish_non_exhaustive()
    }
}
