//! Projections: SQL rows that are a fold of a topic or of the store, kept by a built-in client.
//!
//! ```text
//!   catalogue ──▶ Projections ──▶ Task ──▶ Follower ──▶ Writer (a thread) ──▶ orders.db
//!   (declared)    start, stop     life      reads         one transaction      rows and
//!                                                         a batch              checkpoint
//! ```
//! The checkpoint lies with the rows, so an event is in them exactly once, whatever crashes.
//! A changed declaration is a new version: it is built beside the old rows, which go on
//! answering queries until the new ones take their place. Nothing here has an effect beyond
//! its own rows, so folding again is always safe. The rows before are kept, to go back to (`kept.rs`).
//! An event that fails may be set aside with those of its key behind it (`parking.rs`).
//!
//! The rows may lie in a schema of PostgreSQL in place of a file of SQLite (`rows.rs`, `postgres`).
//!
//! Start reading at [`declaration`], then `database.rs`, then `task.rs`.

pub mod declaration;

mod board;
mod costly;
mod database;
mod digest;
mod fact;
pub(crate) mod sandbox;

mod files;
mod follow;
mod inline;
mod parked;
mod parking;
mod postgres;
mod program;
mod rows;
mod source;
mod task;
mod writer;

mod kept;
mod lag;
pub(crate) mod lending;
pub(crate) mod query;
mod status;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mente_broker::{Broker, Definition, EntityName, Error, Kind, Principal, Result};
use mente_engine::limits;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::keeping::keep;

use board::{Board, Joining};
use database::{Checkpoints, Database, Owner};
pub(crate) use declaration::Declaration;
use declaration::Target;
use files::Files;
use inline::Inlined;
use program::Programs;
use rows::Place;
use source::Reader;
use task::{Command, Task};
use writer::Alive;

#[cfg(feature = "planted")]
pub use database::planted;
pub use digest::TableDigest;
pub use kept::{EarlierPartition, EarlierRows};
pub use lag::Gauge;
pub use parked::Parked;
pub use parking::{Held, ParkedEvent, ParkedKey, Position, Retried};
pub use query::Answer;
pub use status::{At, Failure, PartitionStatus, State, Status};
pub use verify::{ComparedTable, Verification};

/// How long declaring waits for the tables, and how often it looks.
const MADE_WAIT: Duration = Duration::from_secs(1);
const MADE_LOOK: Duration = Duration::from_millis(5);

/// How often a server that does not open its doors yet says why.
const MENDED_TELL: Duration = Duration::from_secs(5);

/// Where rows may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Anywhere,
    /// In files of this server: what a branch does is seen nowhere else.
    Files,
}

/// What [`Projections::copy_all`] came to.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Names of files in the directory.
    pub files: Vec<String>,
    /// Projections whose rows could not be copied: they are to be built again.
    pub left_out: Vec<String>,
}

/// The projections of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Projections {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    broker: Broker,
    directory: PathBuf,
    /// Whether rows in PostgreSQL are kept.
    reach: Reach,
    programs: Programs,
    who: Principal,
    entries: Mutex<Entries>,
    /// Queries under way.
    room: Semaphore,
    /// What was last told of all of them.
    gauges: Mutex<Option<lag::Told>>,
}

#[derive(Debug, Default)]
struct Entries {
    running: bool,
    by_name: BTreeMap<EntityName, Entry>,
}

/// A projection that is kept, or the reason why it is not.
#[derive(Debug)]
struct Entry {
    body: Value,
    board: Arc<Board>,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    declaration: Arc<Declaration>,
    reader: Reader,
    place: Place,
    gate: Arc<RwLock<()>>,
    verifying: Arc<Mutex<()>>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
    /// To lend to work on the files; only the task keeps one.
    alive: mpsc::WeakSender<()>,
    /// Ends when nobody works on the files any more.
    ended: mpsc::Receiver<()>,
}

impl Projections {
    /// Nothing is kept before [`Projections::run`].
    pub fn open(broker: Broker, directory: impl AsRef<Path>) -> std::io::Result<Self> {
        Self::open_within(broker, directory, Reach::Anywhere)
    }

    pub fn open_within(
        broker: Broker,
        directory: impl AsRef<Path>,
        reach: Reach,
    ) -> std::io::Result<Self> {
        let directory = directory.as_ref().to_owned();
        std::fs::create_dir_all(&directory)?;
        let inner = Inner {
            programs: Programs::new(broker.clock()),
            broker,
            directory,
            reach,
            who: Principal::Key("projections of this server".to_owned()),
            entries: Mutex::default(),
            room: Semaphore::new(limits::QUERIES),
            gauges: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Keeps what the catalogue declares until `stop` holds true; then every file is closed.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        self.inner.entries.lock().await.running = true;
        keep(stop, || self.reconcile()).await;
        // Nothing is kept any more, and nothing is begun.
        let entries = std::mem::take(&mut *self.inner.entries.lock().await);
        futures::future::join_all(entries.by_name.into_values().map(Entry::stop)).await;
    }

    /// Resolves once the rows that appends waited for before the server stopped are at the end of the log, or something
    /// keeps them from it: then queries of them and appends are refused, by name. Says which ones take a while.
    pub async fn mended(&self) {
        let mut since = Instant::now();
        loop {
            let waits = self.awaited().await;
            if waits.is_empty() {
                return;
            }
            if since.elapsed() > MENDED_TELL {
                tracing::info!(projections = ?waits, "brought to the end of the log before the doors open");
                since = Instant::now();
            }
            tokio::time::sleep(MADE_LOOK).await;
        }
    }

    /// Inline projections that are not where they should be, and may yet get there.
    async fn awaited(&self) -> Vec<EntityName> {
        let is_inline = |(name, body): &(EntityName, Value)| {
            Declaration::parse(name, body).is_ok_and(|declaration| declaration.inline)
        };
        let Ok(declared) = self.list(&self.inner.who) else {
            return Vec::new();
        };
        let entries = self.inner.entries.lock().await;
        let is_awaited = |(name, _): &(EntityName, Value)| match entries.by_name.get(name) {
            Some(entry) => entry.kept.is_some() && entry.board.joining() == Joining::Awaited,
            None => true,
        };
        let inline = declared.into_iter().filter(is_inline).filter(is_awaited);
        inline.map(|(name, _)| name).collect()
    }

    /// Declares a projection, durable on return; its SQL was compiled before. The same again
    /// changes nothing; another declaration is built beside the old rows.
    pub async fn define(&self, who: &Principal, name: &EntityName, body: Value) -> Result<()> {
        let declaration = Arc::new(Declaration::parse(name, &body)?);
        let declared = self.declared(who)?;
        let others = || declared.iter().filter(|(other, _)| *other != name);
        if others().count() >= limits::PROJECTIONS {
            let message = format!("a server keeps at most {} projections", limits::PROJECTIONS);
            return Err(Error::new(Kind::TooLarge, message));
        }
        self.check_place(name, &declaration)?;
        let place = self.place(&declaration);
        let shares = |(other, body): &(&EntityName, &Value)| {
            Declaration::parse(other, body).is_ok_and(|d| self.place(&d) == place)
        };
        if let Some((other, _)) = others().find(shares) {
            let what = match declaration.target {
                Target::File(_) => "file name",
                Target::Postgres(_) => "schema",
            };
            let message = format!(
                "projection {other} has the database {}: declare another {what}",
                declaration.target
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        let owner = Owner {
            name: name.clone(),
            declaration: Arc::clone(&declaration),
            source: String::new(),
            programs: self.inner.programs.clone(),
        };
        let check = move || match &place {
            Place::Files(_) => Database::check(owner),
            Place::Postgres(place) => place.check(&owner),
        };
        let checked = tokio::task::spawn_blocking(check).await;
        let checked = checked.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        checked.map_err(|failure| Error::invalid(format!("projection {name}: {failure}")))?;
        self.inner
            .broker
            .define(who, Definition::Projection, name, body)
            .await?;
        self.reconcile().await;
        self.made(who, name).await;
        Ok(())
    }

    /// Waits until the tables can be asked, so that who declared them can do so at once; not
    /// for ever, since a source that is missing keeps them from being made.
    async fn made(&self, who: &Principal, name: &EntityName) {
        let asked = "SELECT 1 FROM mente_checkpoint LIMIT 1";
        let made = async {
            while !self.is_made(name).await
                && self.query(who, name, asked.to_owned(), 1).await.is_err()
            {
                tokio::time::sleep(MADE_LOOK).await;
            }
        };
        // Declared it is either way; `status` tells what keeps it.
        let _ = tokio::time::timeout(MADE_WAIT, made).await;
    }

    /// Whether there are rows in PostgreSQL, which nobody asks through us.
    async fn is_made(&self, name: &EntityName) -> bool {
        let entries = self.inner.entries.lock().await;
        entries.by_name.get(name).is_some_and(|entry| {
            let place = entry.kept.as_ref().map(|kept| &kept.place);
            matches!(place, Some(Place::Postgres(_))) && entry.board.is_made()
        })
    }

    /// Forgets a projection and deletes its rows.
    pub async fn undefine(&self, who: &Principal, name: &EntityName) -> Result<()> {
        self.inner
            .broker
            .undefine(who, Definition::Projection, name)
            .await?;
        self.reconcile().await;
        Ok(())
    }

    /// The declarations, in the order of their names.
    pub fn list(&self, who: &Principal) -> Result<Vec<(EntityName, Value)>> {
        let declared = self.declared(who)?;
        Ok(declared
            .iter()
            .map(|(name, body)| (name.clone(), body.clone()))
            .collect())
    }

    pub async fn status(&self, who: &Principal, name: &EntityName) -> Result<Status> {
        let body = self
            .declared(who)?
            .get(name)
            .cloned()
            .ok_or_else(|| missing(name))?;
        let entries = self.inner.entries.lock().await;
        let Some(entry) = entries.by_name.get(name) else {
            drop(entries);
            let waits = Failure::passing("the server has not begun to keep projections".to_owned());
            return Ok(Status::unkept(name, &body, Some(waits)));
        };
        let board = Arc::clone(&entry.board);
        let Some(kept) = &entry.kept else {
            return Ok(Status::unkept(name, &body, board.shown().error));
        };
        let (reader, declaration) = (kept.reader.clone(), Arc::clone(&kept.declaration));
        drop(entries);
        let shown = board.shown();
        let partitions = positions(&reader, &board.live()).await;
        let rebuild = match shown.state {
            State::Rebuilding => Some(positions(&reader, &board.side()).await),
            State::Running | State::Failed => None,
        };
        let parked = board.parked();
        let kept = board.kept().map(|kept| kept.shown(&declaration.text));
        Ok(Status {
            name: name.to_string(),
            state: shown.state,
            source: declaration.source.to_string(),
            database: declaration.target.to_string(),
            lag: partitions
                .iter()
                .map(|p| p.end.saturating_sub(p.next_offset))
                .sum(),
            inline: declaration.inline,
            joined: matches!(board.joining(), Joining::Joined | Joining::Closed),
            lag_seconds: lag::seconds(&reader, &board, &partitions, self.inner.broker.clock())
                .await,
            applied: partitions.iter().map(|p| p.applied).sum(),
            partitions,
            rebuilds: shown.rebuilds,
            rebuild,
            ready: shown.is_ready,
            kept,
            parked,
            error: shown.error,
        })
    }

    /// Begins to build the rows anew; the status tells when they have taken their place.
    pub async fn rebuild(&self, who: &Principal, name: &EntityName) -> Result<()> {
        self.command(who, name, Command::Rebuild).await
    }

    /// Tries again what failed.
    pub async fn resume(&self, who: &Principal, name: &EntityName) -> Result<()> {
        self.command(who, name, Command::Resume).await
    }

    /// Answers one SELECT over the rows, at most `limit` of them.
    pub async fn query(
        &self,
        who: &Principal,
        name: &EntityName,
        sql: String,
        limit: usize,
    ) -> Result<Answer> {
        let (place, gate) = self.read(who, name).await?;
        let Place::Files(files) = place else {
            let message = "the rows are in PostgreSQL: ask there, by its own clients";
            return Err(Error::new(Kind::Unsupported, message));
        };
        self.check_promised(name).await?;
        let full = || Error::new(Kind::Throttled, "too many queries at one time: ask again");
        let _room = self.inner.room.try_acquire().map_err(|_| full())?;
        on_thread(move || {
            let answer = query::run(&files.live, &sql, limit);
            drop(gate);
            answer
        })
        .await
    }

    /// Rows that appends wait for are not shown while they lack what somebody was answered.
    pub(super) async fn check_promised(&self, name: &EntityName) -> Result<()> {
        let entries = self.inner.entries.lock().await;
        let entry = entries.by_name.get(name);
        match entry.map(|entry| entry.board.joining()) {
            Some(Joining::Awaited | Joining::Closed) => {
                let message = format!(
                    "the rows of the inline projection {name} may lack what is in the log: its status tells why"
                );
                Err(Error::new(Kind::Throttled, message))
            }
            _ => Ok(()),
        }
    }

    /// Digests of the tables, equal wherever the rows are equal.
    pub async fn digest(&self, who: &Principal, name: &EntityName) -> Result<Vec<TableDigest>> {
        let (place, gate) = self.read(who, name).await?;
        on_thread(move || Ok(verify::snapshot(&place, gate)?.tables)).await
    }

    /// Copies every file that has rows into this directory, each as of one moment. Rows in PostgreSQL
    /// are copied there, by whoever keeps it.
    pub async fn copy_all(&self, who: &Principal, into: &Path) -> Result<Copied> {
        let mut copied = Copied::default();
        for name in self.declared(who)?.keys() {
            let to = into.to_owned();
            let copy = async {
                let (Place::Files(files), gate) = self.read(who, name).await? else {
                    return Ok(None);
                };
                on_thread(move || files.copy_live(&to, gate)).await
            };
            match copy.await {
                Ok(file) => copied.files.extend(file),
                Err(error) => {
                    tracing::warn!(projection = %name, %error, "left out of a copy");
                    copied.left_out.push(name.to_string());
                }
            }
        }
        Ok(copied)
    }

    /// Folds the source again, as far as the rows are, and compares.
    pub async fn verify(&self, who: &Principal, name: &EntityName) -> Result<Verification> {
        let (place, gate) = self.read(who, name).await?;
        let (declaration, reader, verifying, alive) = {
            let entries = self.inner.entries.lock().await;
            let kept = entries.kept(name)?;
            let alive = kept.alive.upgrade().ok_or_else(|| missing(name))?;
            let verifying = Arc::clone(&kept.verifying);
            (
                Arc::clone(&kept.declaration),
                kept.reader.clone(),
                verifying,
                alive,
            )
        };
        let busy = |_| {
            Error::new(
                Kind::Conflict,
                "it is being verified already: wait for that",
            )
        };
        let _alone = verifying.try_lock_owned().map_err(busy)?;
        let source = reader.identity().await;
        let source = source.map_err(|failure| Error::new(Kind::NotFound, failure.message))?;
        let owner = Owner {
            name: name.clone(),
            declaration,
            source,
            programs: self.inner.programs.clone(),
        };
        let of = place.clone();
        let snapshot = on_thread(move || verify::snapshot(&of, gate)).await?;
        verify::verify(snapshot, owner, reader, &place, alive).await
    }

    async fn command(&self, who: &Principal, name: &EntityName, command: Command) -> Result<()> {
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let entries = self.inner.entries.lock().await;
        let kept = entries.kept(name)?;
        if kept.declaration.inline && !matches!(command, Command::Rebuild | Command::Resume) {
            let message = format!(
                "projection {name} is inline: its rows never miss an event, so none are parked, switched by hand or \
                 gone back to; declare what it was before, and those rows are used again"
            );
            return Err(Error::new(Kind::Unsupported, message));
        }
        if matches!(command, Command::Rebuild) {
            // Whoever asks for the status next sees that it was heard.
            entries
                .by_name
                .get(name)
                .inspect(|entry| entry.board.show(State::Rebuilding));
        }
        let full = |_| Error::new(Kind::Throttled, "earlier commands are not done: wait");
        kept.commands.try_send(command).map_err(full)
    }

    /// What reading the live rows needs; while the guard is held they are not swapped.
    async fn read(
        &self,
        who: &Principal,
        name: &EntityName,
    ) -> Result<(Place, OwnedRwLockReadGuard<()>)> {
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let (place, gate) = {
            let entries = self.inner.entries.lock().await;
            let kept = entries.kept(name)?;
            (kept.place.clone(), Arc::clone(&kept.gate))
        };
        Ok((place, gate.read_owned().await))
    }

    fn declared(&self, who: &Principal) -> Result<BTreeMap<EntityName, Value>> {
        let catalogue = self.inner.broker.catalogue(who)?;
        let declared = catalogue.definitions.iter();
        let declared = declared.filter(|((kind, _), _)| *kind == Definition::Projection);
        Ok(declared
            .map(|((_, name), body)| (name.clone(), body.clone()))
            .collect())
    }

    /// Stops what is no longer declared so, starts what is.
    async fn reconcile(&self) {
        let mut entries = self.inner.entries.lock().await;
        // Read with the lock held, or an older look could undo a newer one.
        let declared = match self.declared(&self.inner.who) {
            Ok(declared) if entries.running => declared,
            _ => return,
        };
        let stale = |(name, entry): (&EntityName, &Entry)| {
            (declared.get(name) != Some(&entry.body)).then(|| name.clone())
        };
        let stale: Vec<EntityName> = entries.by_name.iter().filter_map(stale).collect();
        for name in stale {
            let Some(entry) = entries.by_name.remove(&name) else {
                continue;
            };
            let place = entry.kept.as_ref().map(|kept| kept.place.clone());
            let is_ours = entry.board.is_made();
            entry.stop().await;
            let next = declared
                .get(&name)
                .map(|body| Declaration::parse(&name, body));
            let next = next.and_then(|next| Some(self.place(&next.ok()?)));
            if let Some(place) = place.filter(|place| next.as_ref() != Some(place)) {
                remove(place, name, is_ours).await;
            }
        }
        for (name, body) in declared {
            let by_name = &mut entries.by_name;
            by_name
                .entry(name)
                .or_insert_with_key(|name| self.start(name, body));
        }
    }

    fn start(&self, name: &EntityName, body: Value) -> Entry {
        let board = Arc::new(Board::default());
        let parsed = Declaration::parse(name, &body);
        let parsed = parsed.and_then(|d| self.check_place(name, &d).map(|()| d));
        let declaration = match parsed {
            Ok(declaration) => Arc::new(declaration),
            Err(error) => {
                board.fail(Failure::plain(error.message));
                let kept = None;
                return Entry { body, board, kept };
            }
        };
        let reader = Reader::new(self.inner.broker.clone(), declaration.source.clone());
        let place = self.place(&declaration);
        let gate = Arc::new(RwLock::new(()));
        let inlined = declaration
            .inline
            .then(|| Inlined::new(name.clone(), reader.clone(), Arc::clone(&board)));
        if declaration.inline {
            board.set_joining(Joining::Awaited);
        }
        let (commands, receiver) = mpsc::channel(4);
        let (alive, ended): (Alive, _) = mpsc::channel(1);
        let weak = alive.downgrade();
        let task = Task {
            name: name.clone(),
            declaration: Arc::clone(&declaration),
            body: body.clone(),
            reader: reader.clone(),
            place: place.clone(),
            board: Arc::clone(&board),
            gate: Arc::clone(&gate),
            commands: receiver,
            retrying: None,
            rolling_back: false,
            alive,
            programs: self.inner.programs.clone(),
            inlined,
        };
        let kept = Kept {
            declaration,
            reader,
            place,
            gate,
            verifying: Arc::default(),
            commands,
            task: tokio::spawn(task.run()),
            alive: weak,
            ended,
        };
        Entry {
            body,
            board,
            kept: Some(kept),
        }
    }

    fn place(&self, declaration: &Declaration) -> Place {
        match &declaration.target {
            Target::File(name) => Place::Files(Files::new(&self.inner.directory, name)),
            Target::Postgres(target) => Place::Postgres(postgres::Place::new(Arc::clone(target))),
        }
    }

    fn check_place(&self, name: &EntityName, declaration: &Declaration) -> Result<()> {
        if declaration.inline && !self.inner.broker.has_inlines() {
            let message = format!(
                "projection {name} is inline, which needs the embedded engine, where the rows lie beside the log: \
                 leave \"inline\" out here"
            );
            return Err(Error::new(Kind::Unsupported, message));
        }
        let is_outside = matches!(declaration.target, Target::Postgres(_));
        if is_outside && self.inner.reach == Reach::Files {
            let message = format!(
                "a branch keeps no rows in PostgreSQL, where those of projection {name} are default's: declare \
                 it with a \"database\" file here"
            );
            return Err(Error::new(Kind::Unsupported, message));
        }
        Ok(())
    }
}

impl Entries {
    fn kept(&self, name: &EntityName) -> Result<&Kept> {
        let kept = self.by_name.get(name).and_then(|entry| entry.kept.as_ref());
        let message = || format!("projection {name} is not kept yet: see its status");
        kept.ok_or_else(|| Error::new(Kind::Conflict, message()))
    }
}

impl Entry {
    /// Resolves once nobody works on the files.
    async fn stop(self) {
        if let Some(mut kept) = self.kept {
            kept.task.abort();
            while kept.ended.recv().await.is_some() {}
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn remove(place: Place, name: EntityName, is_ours: bool) {
    let of = name.clone();
    let removed = tokio::task::spawn_blocking(move || place.remove_all(&of, is_ours)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(projection = %name, %error, "rows could not be deleted");
    }
}

async fn positions(reader: &Reader, checkpoints: &Checkpoints) -> Vec<PartitionStatus> {
    let mut found = Vec::new();
    for partition in 0..reader.partitions().await.unwrap_or(0) {
        let checkpoint = checkpoints.get(&partition);
        let bounds = reader.bounds(partition).await.ok();
        let next = checkpoint.map(|checkpoint| checkpoint.next);
        let next_offset = next.or(bounds.map(|bounds| bounds.start.0)).unwrap_or(0);
        found.push(PartitionStatus {
            partition,
            next_offset,
            end: bounds.map_or(next_offset, |bounds| bounds.end.0),
            applied: checkpoint.map_or(0, |checkpoint| checkpoint.applied),
        });
    }
    found
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let lost = |error: tokio::task::JoinError| Error::new(Kind::Internal, error.to_string());
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

fn missing(name: &EntityName) -> Error {
    Error::not_found("projection", name.as_str())
}
