//! A keyed copy of a topic of another server, or of the same one: for each key its latest event, in a file here,
//! which answers whether the source is there or not.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use mente_client::{Client, replica::Replica};
//!
//! let client = Client::new("http://prices.example:8480")?;
//! let prices = Replica::open(client, "prices", "prices.db").await?;
//! let (stop, stopping) = tokio::sync::watch::channel(false);
//! let copying = tokio::spawn({
//!     let prices = prices.clone();
//!     async move { prices.run(stopping).await }
//! });
//! let apple = prices.get("apple").await?;
//! println!("{:?}, {:?} seconds old at most", apple.found, apple.staleness.seconds);
//! stop.send(true)?;
//! copying.await?;
//! # Ok(()) }
//! ```
//! The key is an event's `partitionkey`, else its `subject`; an event without data takes its key away. It begins
//! with a snapshot, goes on with what came behind, and when the source cannot go on from there (retention, a topic
//! made anew, a restored backup) that is a gap: counted, shown, and mended by a snapshot that takes the place of
//! everything at once.
//!
//! Start reading at [`machine`], which decides; `store.rs` keeps and `driver.rs` asks.

pub mod machine;

mod driver;
mod line;
mod store;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::Client;
use driver::{Board, Driver};
use machine::{Gap, Positions};
use store::{Read, Reader, Store};

pub use store::ITEMS_MAX;

/// What a copy cannot do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the file of the copy: {0}")]
    File(#[from] rusqlite::Error),
    #[error("the file is a copy of {0}: name another file, or remove it")]
    Another(String),
    #[error(
        "the file has format {0}, which is newer than this program: use a newer one, or remove the file"
    )]
    Format(u32),
    #[error("what the file holds is not understood ({0}): remove it, and it is copied anew")]
    Held(String),
    #[error("somebody else writes to the file of the copy: end one of the two")]
    TwoWriters,
    #[error(
        "{0} items of {1} are in the file: a key came twice, or something else takes items out"
    )]
    Uneven(u64, u64),
    #[error("the copy is closed")]
    Closed,
    #[error("work on the file was cut off: {0}")]
    CutOff(String),
}

/// A copy; cheap to clone.
#[derive(Clone, Debug)]
pub struct Replica {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    topic: String,
    reader: Reader,
    /// To count, which takes its time: others do not wait for it.
    counter: Reader,
    /// Taken by whoever runs it.
    store: Mutex<Option<Store>>,
    board: Board,
}

/// The latest event of a key, and where it lies in the source.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    pub key: String,
    pub partition: u32,
    pub offset: u64,
    /// A CloudEvent in JSON, as the source told it.
    pub event: Box<RawValue>,
}

/// An answer, and how old it may be.
#[derive(Clone, Debug)]
pub struct Aged<T> {
    pub found: T,
    pub staleness: Staleness,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Staleness {
    /// Which of the topics that ever had the name; none before the first snapshot.
    pub topic_id: Option<String>,
    /// Everything before these offsets of it is in the answer.
    pub positions: Vec<At>,
    /// Since the source was last asked and had nothing more; none if it never was, or if the clock was set back
    /// behind that while nobody ran.
    pub seconds: Option<f64>,
    /// Whether it answered when it was last asked.
    pub source_answers: bool,
    /// What it says otherwise, or why it is not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Keys that changed last before these offsets are not here: retention had removed those events when the
    /// copy was made. Empty if nothing is missing.
    pub incomplete_before: Vec<At>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct At {
    pub partition: u32,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub state: State,
    pub items: u64,
    /// Offsets between the copy and the ends of the source, as they were last heard.
    pub lag: u64,
    pub snapshots: u64,
    pub gaps: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_gap: Option<Gap>,
    /// Events that had no key.
    pub unkeyed: u64,
    pub staleness: Staleness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// A snapshot is taken in; what was there before is shown meanwhile.
    Bootstrapping,
    Following,
    /// The file cannot be written: see the error.
    Failed,
}

impl Replica {
    /// Opens a copy, or begins one; nothing is asked of the source before [`Replica::run`].
    pub async fn open(
        client: Client,
        topic: impl Into<String>,
        file: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        let (topic, path) = (topic.into(), file.as_ref().to_owned());
        let source = format!("topic {topic} of {}", client.base());
        let opened = blocking(move || {
            let store = Store::open(&path, &source)?;
            let held = store.held()?;
            Ok((store, Reader::open(&path)?, Reader::open(&path)?, held))
        });
        let (store, reader, counter, held) = opened.await?;
        let board = Board::new(held.as_ref());
        let store = Mutex::new(Some(store));
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                topic,
                reader,
                counter,
                store,
                board,
            }),
        })
    }

    /// Copies until `stop` holds true. One caller at a time; another one returns at once.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let Some(store) = self.store().take() else {
            return;
        };
        let driver = Driver::new(
            &self.inner.client,
            &self.inner.topic,
            store,
            &self.inner.board,
        );
        let store = driver.run(stop).await;
        *self.store() = store;
    }

    /// Ends reading and writing, so that the file may be removed. Call it when nobody runs it any more.
    pub fn close(&self) {
        self.store().take();
        self.inner.reader.close();
        self.inner.counter.close();
    }

    pub async fn get(&self, key: &str) -> Result<Aged<Option<Kept>>, Error> {
        let key = key.to_owned();
        let read = self.read(&self.inner.reader, move |reader| reader.get(&key));
        let (read, staleness) = read.await?;
        Ok(Aged {
            found: read.found,
            staleness,
        })
    }

    /// At most so many items in the order of their keys, behind this one, and whether there are more.
    pub async fn items(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Aged<(Vec<Kept>, bool)>, Error> {
        let after = after.map(str::to_owned);
        let asked = move |reader: &Reader| reader.items(after.as_deref(), limit);
        let read = self.read(&self.inner.reader, asked);
        let (read, staleness) = read.await?;
        Ok(Aged {
            found: read.found,
            staleness,
        })
    }

    pub async fn status(&self) -> Result<Status, Error> {
        let shown = self.inner.board.shown();
        let (read, staleness) = self.read(&self.inner.counter, Reader::count).await?;
        let held = read.held.unwrap_or_default();
        let behind = |(p, end): (&u32, &u64)| end.saturating_sub(*held.next.get(p).unwrap_or(&0));
        Ok(Status {
            state: shown.state,
            items: read.found,
            lag: (shown.contact.ends.iter().map(behind)).fold(0, u64::saturating_add),
            snapshots: held.snapshots,
            gaps: held.gaps,
            last_gap: held.last_gap,
            unkeyed: held.unkeyed,
            staleness,
        })
    }

    /// What is shown of the source is taken before what is in the file, so that it promises too little, if anything.
    async fn read<T: Send + 'static>(
        &self,
        reader: &Reader,
        read: impl FnOnce(&Reader) -> Result<Read<T>, Error> + Send + 'static,
    ) -> Result<(Read<T>, Staleness), Error> {
        let shown = self.inner.board.shown();
        let reader = reader.clone();
        let read = blocking(move || read(&reader)).await?;
        let held = read.held.as_ref();
        let staleness = Staleness {
            topic_id: held.map(|held| held.topic_id.clone()),
            positions: held.map_or_else(Vec::new, |held| each(&held.next)),
            seconds: shown.age_seconds(driver::now_ms()),
            source_answers: shown.contact.answers,
            error: shown.contact.error,
            incomplete_before: held.map_or_else(Vec::new, |held| each(&held.incomplete_before)),
        };
        Ok((read, staleness))
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Option<Store>> {
        let store = self.inner.store.lock();
        store.unwrap_or_else(PoisonError::into_inner)
    }
}

fn each(positions: &Positions) -> Vec<At> {
    let at = |(partition, offset): (&u32, &u64)| At {
        partition: *partition,
        offset: *offset,
    };
    positions.iter().map(at).collect()
}

/// Whatever a line says, an item of it has an event that is JSON.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzzed(text: &str) {
    if let Ok(Some(machine::Heard::Told(item))) = line::of_snapshot(text) {
        let event: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&item.event);
        assert!(event.is_ok(), "{}", item.event);
    }
    let _ = (
        line::change(text),
        line::positions(text),
        line::refusal(text.as_bytes()),
    );
}

/// Work on files, away from the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::CutOff(error.to_string()))?
}
