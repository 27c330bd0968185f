//! Replicas: keyed copies of topics of other servers, or of this one, each in a file here. They answer whether their
//! source is there or not, and say how old the answer may be.
//!
//! ```text
//!   catalogue ──▶ Replicas ──▶ mente_client::replica ──▶ prices.db
//!   (declared)    start, stop    asks the source, keeps     items and position
//! ```
//! What a copy is, how it begins and what a gap is, is in `mente-client`, which applications use as well. Here is
//! only which ones there are. On several nodes each has its own copies.

mod declaration;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mente_broker::{Broker, Definition, EntityName, Error, Kind, Principal, Result};
use mente_client::replica::{self, Aged, Kept, Replica};
use mente_engine::limits;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::keeping::keep;
use crate::push;
use declaration::Declaration;

/// Wait before a copy that could not be opened is tried again, doubled each time, and the longest.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The replicas of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Replicas {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    broker: Broker,
    directory: PathBuf,
    /// Where sources may be, and whom to believe there: as webhooks.
    options: push::Options,
    who: Principal,
    /// For a moment only: reads find their copy here.
    entries: Mutex<Entries>,
    /// Held by whoever starts and stops copies, as long as that takes.
    reconciling: Mutex<()>,
}

#[derive(Debug, Default)]
struct Entries {
    running: bool,
    by_name: BTreeMap<EntityName, Entry>,
}

/// A replica that is kept, or the reason why it is not.
struct Entry {
    body: Value,
    declaration: Option<Declaration>,
    kept: Result<Running, String>,
    /// How often it could not be opened, and when that is tried again.
    failures: u32,
    again: Instant,
}

#[derive(Debug)]
struct Running {
    replica: Replica,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What an operator is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub name: String,
    pub source: Source,
    /// None where nothing is kept, for the reason beside it.
    #[serde(flatten)]
    pub copy: Option<replica::Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Without the key.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Source {
    pub url: String,
    pub topic: String,
}

impl Replicas {
    /// Nothing is kept before [`Replicas::run`].
    pub fn open(
        broker: Broker,
        directory: impl AsRef<Path>,
        options: push::Options,
    ) -> io::Result<Self> {
        let directory = directory.as_ref().to_owned();
        std::fs::create_dir_all(&directory)?;
        let inner = Inner {
            broker,
            directory,
            options,
            who: Principal::Key("replicas of this server".to_owned()),
            entries: Mutex::default(),
            reconciling: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Keeps what the catalogue declares until `stop` holds true; then every file is closed.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        self.inner.entries.lock().await.running = true;
        keep(stop, || self.reconcile()).await;
        let _turn = self.inner.reconciling.lock().await;
        let entries = std::mem::take(&mut *self.inner.entries.lock().await);
        let stopped = entries.by_name.into_values().map(Entry::stop);
        futures::future::join_all(stopped).await;
    }

    /// Declares a replica, durable on return. Another key goes on with the same copy, another source begins anew.
    pub async fn define(&self, who: &Principal, name: &EntityName, body: Value) -> Result<()> {
        Declaration::parse(name, &body)?
            .client(&self.inner.options)
            .map_err(Error::invalid)?;
        let declared = self.declared(who)?;
        let others = declared.keys().filter(|other| *other != name);
        if others.count() >= limits::REPLICAS {
            let message = format!("a server keeps at most {} replicas", limits::REPLICAS);
            return Err(Error::new(Kind::TooLarge, message));
        }
        let defined = self
            .inner
            .broker
            .define(who, Definition::Replica, name, body);
        defined.await?;
        self.reconcile().await;
        Ok(())
    }

    /// Forgets a replica and deletes its copy.
    pub async fn undefine(&self, who: &Principal, name: &EntityName) -> Result<()> {
        let undefined = self.inner.broker.undefine(who, Definition::Replica, name);
        undefined.await?;
        self.reconcile().await;
        Ok(())
    }

    /// The names, in order.
    pub fn list(&self, who: &Principal) -> Result<Vec<EntityName>> {
        Ok(self.declared(who)?.into_keys().collect())
    }

    pub async fn status(&self, who: &Principal, name: &EntityName) -> Result<Status> {
        let body = self.declared(who)?;
        let body = body.get(name).ok_or_else(|| missing(name))?;
        let source = Declaration::parse(name, body).map(|declared| Source {
            url: declared.url,
            topic: declared.topic.to_string(),
        });
        let copy = match self.find(name).await {
            Ok(replica) => replica.status().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.message),
        };
        let (copy, error) = match copy {
            Ok(copy) => (Some(copy), None),
            Err(error) => (None, Some(error)),
        };
        Ok(Status {
            name: name.to_string(),
            source: source.unwrap_or_default(),
            copy,
            error,
        })
    }

    pub async fn item(
        &self,
        who: &Principal,
        name: &EntityName,
        key: &str,
    ) -> Result<Aged<Option<Kept>>> {
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let found = self.find(name).await?.get(key).await;
        found.map_err(|error| failed(name, &error))
    }

    /// At most so many items behind this key, and whether there are more.
    pub async fn items(
        &self,
        who: &Principal,
        name: &EntityName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Aged<(Vec<Kept>, bool)>> {
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let found = self.find(name).await?.items(after, limit).await;
        found.map_err(|error| failed(name, &error))
    }

    async fn find(&self, name: &EntityName) -> Result<Replica> {
        let entries = self.inner.entries.lock().await;
        match entries.by_name.get(name).map(|entry| &entry.kept) {
            Some(Ok(running)) => Ok(running.replica.clone()),
            Some(Err(reason)) => Err(Error::new(Kind::Conflict, reason.clone())),
            None => {
                let message = format!("replica {name} is not kept yet: ask again in a moment");
                Err(Error::new(Kind::Conflict, message))
            }
        }
    }

    fn declared(&self, who: &Principal) -> Result<BTreeMap<EntityName, Value>> {
        let catalogue = self.inner.broker.catalogue(who)?;
        let declared = catalogue.definitions.iter();
        let declared = declared.filter(|((kind, _), _)| *kind == Definition::Replica);
        Ok(declared
            .map(|((_, name), body)| (name.clone(), body.clone()))
            .collect())
    }

    /// Stops what is no longer declared so, starts what is. In a task of its own: whoever asked for it may go, and
    /// work on files does not end half-way.
    async fn reconcile(&self) {
        let own = self.clone();
        let done = tokio::spawn(async move { own.reconcile_here().await });
        if let Err(error) = done.await {
            tracing::error!(%error, "replicas could not be started and stopped");
        }
    }

    /// Copies that are stopped and started are not among the entries meanwhile, so that the others are found.
    async fn reconcile_here(&self) {
        let _turn = self.inner.reconciling.lock().await;
        // Read with the turn taken, or an older look could undo a newer one.
        let declared = self.declared(&self.inner.who);
        let (declared, stale) = {
            let mut entries = self.inner.entries.lock().await;
            let declared = match declared {
                Ok(declared) if entries.running => declared,
                _ => return,
            };
            let now = Instant::now();
            let is_stale = |name: &EntityName, entry: &mut Entry| {
                declared.get(name) != Some(&entry.body)
                    || (entry.kept.is_err() && entry.again <= now)
            };
            let stale: Vec<_> = entries.by_name.extract_if(.., is_stale).collect();
            (declared, stale)
        };
        let mut failures = BTreeMap::new();
        for (name, entry) in stale {
            if declared.get(&name) == Some(&entry.body) {
                failures.insert(name.clone(), entry.failures);
            }
            let before = entry.stop().await;
            let after = declared.get(&name);
            let after = after.and_then(|body| Declaration::parse(&name, body).ok());
            let is_same = match (&before, &after) {
                (Some(before), Some(after)) => before.is_of_the_same(after),
                _ => false,
            };
            if !is_same {
                self.remove(&name).await;
            }
        }
        for (name, body) in declared {
            // Nobody but the holder of the turn takes entries out or puts them in.
            if self.inner.entries.lock().await.by_name.contains_key(&name) {
                continue;
            }
            let before = failures.get(&name).copied().unwrap_or(0);
            let entry = self.start(&name, body, before).await;
            self.inner.entries.lock().await.by_name.insert(name, entry);
        }
    }

    async fn start(&self, name: &EntityName, body: Value, failures: u32) -> Entry {
        let (declaration, kept) = match Declaration::parse(name, &body) {
            Ok(declaration) => {
                let kept = self.begin(name, &declaration).await;
                (Some(declaration), kept)
            }
            Err(error) => (None, Err(error.message)),
        };
        let wait = RETRY.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
        Entry {
            body,
            declaration,
            kept,
            failures: failures.saturating_add(1),
            again: Instant::now() + wait,
        }
    }

    async fn begin(&self, name: &EntityName, declaration: &Declaration) -> Result<Running, String> {
        let file = self.file(name);
        let topic = declaration.topic.as_str();
        let open = async || {
            let client = declaration.client(&self.inner.options)?;
            let opened = Replica::open(client, topic, &file).await;
            Ok::<_, String>(opened)
        };
        let opened = match open().await? {
            // Of a source that was declared under this name before the server knew of this one.
            Err(replica::Error::Another(_)) => {
                self.remove(name).await;
                open().await?
            }
            opened => opened,
        };
        let replica = opened.map_err(|error| format!("replica {name}: {error}"))?;
        let (stop, stopping) = watch::channel(false);
        let copying = replica.clone();
        let task = tokio::spawn(async move { copying.run(stopping).await });
        Ok(Running {
            replica,
            stop,
            task,
        })
    }

    fn file(&self, name: &EntityName) -> PathBuf {
        self.inner.directory.join(format!("{name}.db"))
    }

    async fn remove(&self, name: &EntityName) {
        let file = self.file(name);
        let removed = tokio::task::spawn_blocking(move || {
            ["", "-wal", "-shm"].into_iter().try_for_each(|ending| {
                let mut path = file.clone().into_os_string();
                path.push(ending);
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            })
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(replica = %name, %error, "a copy could not be deleted");
        }
    }
}

impl Entry {
    /// Resolves once nobody works on the file, and answers what it was a copy of.
    async fn stop(self) -> Option<Declaration> {
        if let Ok(running) = self.kept {
            let _ = running.stop.send(true);
            let _ = running.task.await;
            // Whoever reads from the file is waited for.
            let _ = tokio::task::spawn_blocking(move || running.replica.close()).await;
        }
        self.declaration
    }
}

impl fmt::Debug for Entry {
    /// Without the body, which has a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("declaration", &self.declaration)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

fn failed(name: &EntityName, error: &replica::Error) -> Error {
    Error::new(Kind::Internal, format!("replica {name}: {error}"))
}

fn missing(name: &EntityName) -> Error {
    Error::not_found("replica", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One copy whose file cannot be opened is tried again less and less often; the other one is found.
    #[tokio::test]
    async fn a_copy_that_cannot_be_opened_is_left_alone_for_a_while() {
        let broker = crate::alone::broker().await;
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bad.db")).unwrap();
        let options = push::Options {
            reach: push::Reach::Anywhere,
            trust: crate::tls::Trust::system(None).unwrap(),
        };
        let replicas = Replicas::open(broker, directory.path(), options).unwrap();
        replicas.inner.entries.lock().await.running = true;
        let who = Principal::Anonymous;
        while replicas.list(&who).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let [bad, good] = ["bad", "good"].map(|name| EntityName::new(name).unwrap());
        for name in [&bad, &good] {
            let body = json!({"source": {"url": "http://127.0.0.1:1", "topic": "t"}});
            replicas.define(&who, name, body).await.unwrap();
        }
        let failures = async || {
            let entries = replicas.inner.entries.lock().await;
            entries.by_name[&bad].failures
        };
        assert!(replicas.find(&bad).await.is_err());
        assert_eq!(failures().await, 1);
        for expected in [2, 3] {
            let mut entries = replicas.inner.entries.lock().await;
            entries.by_name.get_mut(&bad).unwrap().again = Instant::now();
            drop(entries);
            // The second time it is too early.
            for _ in 0..2 {
                replicas.reconcile().await;
                assert_eq!(failures().await, expected);
            }
        }
        // Whoever is slow with files holds up nobody who reads.
        let _turn = replicas.inner.reconciling.lock().await;
        assert!(replicas.find(&good).await.is_ok());
    }
}
