//! `GET /topics/{topic}/snapshot`: the latest event of each key, as of stated positions, to begin a copy with.
//!
//! ```text
//! {"snapshot":{"topic":"prices","topic_id":"a3f…","next":{"0":17,"1":4}}}
//! {"alive":true}
//! {"partition":0,"offset":5,"key":"apple","event":{…}}
//! {"end":{"items":1,"start":{"0":0,"1":2}}}
//! ```
//! It is the fold of the events from `start` up to, but not including, `next`: what comes behind is read from
//! there, with `topic_id`. An event without data takes its key away; one without a key has no place. Where `start`
//! is not 0, retention has removed events, and what a key was told there last is unknown. A failure comes as the
//! last line, and without `end` it is no snapshot.
//!
//! It is made by one pass over the log into a file that has no name, of [`limits::SNAPSHOT_BYTES`] at most, which
//! is told when the pass is done; so the first item may take its time, and a line that says no more than `alive` comes
//! every [`ALIVE`] meanwhile. It ends when the client goes, and when the server stops: there are few of them at a time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mente_broker::{Broker, EntityName, Error, Kind, Principal, StoredEvent};
use mente_engine::{Data, Offset, SetId, limits};
use rusqlite::{Connection, ErrorCode};
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::Door;
use super::caller::Caller;
use super::error::{Refusal, Result};
use super::query::Named;
use super::read::TOPIC_ID;
use super::tail::{self, Form};

/// Passes that are begun because retention overtook the one before.
const PASSES: usize = 3;
/// Bytes of items that are told at one time, but for the last one's, and how many such pieces wait.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 4;
/// Quiet time after which the receiver is told that the pass goes on.
const ALIVE: Duration = Duration::from_secs(15);
const PAGE_BYTES: u64 = 4_096;
/// Pages of the table that stay in memory.
const CACHE_KIB: u32 = 8 << 10;

struct Snapshot {
    broker: Broker,
    who: Principal,
    topic: EntityName,
    set: SetId,
    /// Where it ends, by partition.
    next: Vec<Offset>,
    _turn: OwnedSemaphorePermit,
}

/// The lines of the latest events, by key.
struct Latest {
    connection: Connection,
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(topic): Named<String>,
) -> Result<Response> {
    let topic = EntityName::new(topic)?;
    let found = door.broker.topic(&who, &topic).await?;
    let busy = |_| {
        let most = limits::SNAPSHOTS;
        let message = format!("{most} snapshots are under way, as many as there may be: ask again");
        Error::new(Kind::Throttled, message)
    };
    let turn = Arc::clone(&door.snapshots).try_acquire_owned();
    let turn = turn.map_err(busy)?;
    let mut next = Vec::new();
    for partition in 0..found.partitions {
        next.push(door.broker.bounds(&who, &topic, partition).await?.end);
    }
    let snapshot = Snapshot {
        broker: door.broker.clone(),
        who,
        topic,
        set: found.set,
        next,
        _turn: turn,
    };
    let (pieces, waiting) = mpsc::channel(PIECES);
    // Nobody waits for its end.
    tokio::spawn(async move {
        let told = tokio::select! {
            told = snapshot.tell(&pieces) => told,
            () = pieces.closed() => return,
            () = door.stopping.wait() => Err(stopped()),
        };
        drop(snapshot);
        if let Err(refusal) = told {
            let mut last = refusal.body();
            last.push(b'\n');
            let _ = send(&pieces, last).await;
        }
    });
    let body = futures::stream::unfold(waiting, async |mut waiting| {
        let piece = waiting.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), waiting))
    });
    let headers = [
        (header::CONTENT_TYPE, Form::Lines.content_type().to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (TOPIC_ID, found.set.to_string()),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

impl Snapshot {
    async fn tell(&self, pieces: &mpsc::Sender<Bytes>) -> Result<()> {
        let head = json!({"snapshot": {
            "topic": self.topic.as_str(),
            "topic_id": self.set.to_string(),
            "next": by_partition(&self.next),
        }});
        send(pieces, format!("{head}\n").into_bytes()).await?;
        let (mut latest, start) = alive(pieces, self.fold()).await?;
        let (mut items, mut after) = (0, None);
        let mut pace = Pace::new();
        loop {
            let (table, told) = on_thread(latest, move |latest| latest.told(after)).await?;
            latest = table;
            items += told.items;
            if told.items == 0 {
                break;
            }
            after = told.last;
            pace.take(told.lines.len())?;
            send(pieces, told.lines).await?;
        }
        let end = json!({"end": {"items": items, "start": by_partition(&start)}});
        send(pieces, format!("{end}\n").into_bytes()).await
    }

    /// One pass that retention did not overtake, and where it began.
    async fn fold(&self) -> Result<(Latest, Vec<Offset>)> {
        for _ in 0..PASSES {
            match self.pass().await {
                Err(error) if error.kind == Kind::OutOfRange => {}
                passed => return Ok(passed?),
            }
        }
        let message = format!(
            "retention removes events of topic {} while they are read, for the {PASSES}rd time: ask again",
            self.topic
        );
        Err(Error::new(Kind::Throttled, message).into())
    }

    async fn pass(&self) -> mente_broker::Result<(Latest, Vec<Offset>)> {
        let mut latest = Latest::new(limits::SNAPSHOT_BYTES)?;
        let mut starts = Vec::new();
        for (partition, next) in (0..).zip(&self.next) {
            let bounds = self.broker.bounds(&self.who, &self.topic, partition);
            let mut at = bounds.await?.start;
            starts.push(at);
            while at < *next {
                let read = self
                    .broker
                    .read(&self.who, &self.topic, partition, at, usize::MAX);
                let (mut events, behind) = read.await?;
                // Names are looked up at each read.
                if self.broker.topic(&self.who, &self.topic).await?.set != self.set {
                    let message = format!("topic {} was deleted and made anew", self.topic);
                    return Err(Error::new(Kind::Deleted, message));
                }
                if behind <= at {
                    let message = format!(
                        "partition {partition} of topic {} cannot be read at {at}, before its end at {next}",
                        self.topic
                    );
                    return Err(Error::new(Kind::Unknown, message));
                }
                events.retain(|stored| stored.position.offset < *next);
                (latest, ()) = on_thread(latest, move |latest| latest.take(&events)).await?;
                at = behind;
            }
        }
        Ok((latest, starts))
    }
}

/// Lines of items in the order of their keys.
struct Told {
    lines: Vec<u8>,
    items: u64,
    last: Option<String>,
}

impl Latest {
    /// In a file of at most so many bytes that has no name and goes with the connection.
    fn new(bytes_max: u64) -> mente_broker::Result<Self> {
        let connection = Connection::open("").map_err(failed)?;
        let most = bytes_max / PAGE_BYTES;
        let made = connection.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE_KIB};
             PRAGMA max_page_count = {most};
             CREATE TABLE latest (key TEXT PRIMARY KEY NOT NULL, line BLOB NOT NULL);"
        ));
        made.map_err(failed)?;
        Ok(Self { connection })
    }

    fn take(&mut self, events: &[StoredEvent]) -> mente_broker::Result<()> {
        let transaction = self.connection.transaction().map_err(failed)?;
        for stored in events {
            let Some(key) = tail::key(&stored.event) else {
                continue;
            };
            let sql = match stored.event.data {
                Data::None => "DELETE FROM latest WHERE key = ?1",
                _ => "INSERT OR REPLACE INTO latest VALUES (?1, ?2)",
            };
            let mut put = transaction.prepare_cached(sql).map_err(failed)?;
            let put = match stored.event.data {
                Data::None => put.execute([key]),
                _ => {
                    let mut line = Vec::new();
                    tail::write(stored, Form::Lines, &[], &mut line);
                    put.execute((key, line))
                }
            };
            put.map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// The next items behind this key.
    fn told(&mut self, after: Option<String>) -> mente_broker::Result<Told> {
        // One condition each, so that SQLite begins at the key and not at the first.
        let sql = match after {
            None => "SELECT key, line FROM latest WHERE key >= ?1 ORDER BY key",
            Some(_) => "SELECT key, line FROM latest WHERE key > ?1 ORDER BY key",
        };
        let mut asked = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = asked.query([after.unwrap_or_default()]).map_err(failed)?;
        let mut told = Told {
            lines: Vec::new(),
            items: 0,
            last: None,
        };
        while told.lines.len() < PIECE_BYTES {
            let Some(row) = rows.next().map_err(failed)? else {
                break;
            };
            let line: Vec<u8> = row.get(1).map_err(failed)?;
            told.lines.extend_from_slice(&line);
            told.items += 1;
            told.last = Some(row.get(0).map_err(failed)?);
        }
        Ok(told)
    }
}

/// How fast a receiver is at least: one that takes a little now and then would have its turn for days.
struct Pace {
    begun: Instant,
    bytes: u64,
}

impl Pace {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            bytes: 0,
        }
    }

    /// Before so many more bytes are told.
    fn take(&mut self, bytes: usize) -> Result<()> {
        let rate = limits::SNAPSHOT_BYTES_PER_SECOND;
        let most = limits::SNAPSHOT_STALL_SECONDS + self.bytes / rate;
        if self.begun.elapsed() > Duration::from_secs(most) {
            let message = format!("the snapshot is taken more slowly than {rate} bytes a second");
            return Err(Refusal::bad_request(message));
        }
        self.bytes += bytes as u64;
        Ok(())
    }
}

/// Tells the receiver now and then that this work goes on.
async fn alive<T>(
    pieces: &mpsc::Sender<Bytes>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(ALIVE) => send(pieces, b"{\"alive\":true}\n".to_vec()).await?,
        }
    }
}

fn stopped() -> Refusal {
    Error::new(Kind::Throttled, "the server stops: ask again").into()
}

/// To a receiver that takes it in time.
async fn send(pieces: &mpsc::Sender<Bytes>, piece: Vec<u8>) -> Result<()> {
    let wait = Duration::from_secs(limits::SNAPSHOT_STALL_SECONDS);
    match tokio::time::timeout(wait, pieces.send(piece.into())).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Refusal::bad_request("nobody takes the snapshot any more")),
    }
}

/// Work on the table, away from the async threads.
async fn on_thread<T: Send + 'static>(
    mut latest: Latest,
    work: impl FnOnce(&mut Latest) -> mente_broker::Result<T> + Send + 'static,
) -> mente_broker::Result<(Latest, T)> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&mut latest)?;
        Ok((latest, done))
    });
    let lost = |error: tokio::task::JoinError| Error::new(Kind::Internal, error.to_string());
    done.await.map_err(lost)?
}

fn by_partition(offsets: &[Offset]) -> Map<String, Value> {
    let each = (0_u32..).zip(offsets);
    each.map(|(partition, offset)| (partition.to_string(), offset.0.into()))
        .collect()
}

fn failed(error: rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        let most = limits::SNAPSHOT_BYTES;
        let message = format!(
            "the latest events of all keys take more than {most} bytes, or than there is room for where temporary files lie: give the server more there (SQLITE_TMPDIR), or spread the keys over several topics"
        );
        return Error::new(Kind::TooLarge, message);
    }
    Error::new(Kind::Internal, format!("making the snapshot: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mente_broker::Position;
    use mente_engine::{Event, Timestamp};

    fn stored(offset: u64, key: Option<&'static str>, data: Option<&'static str>) -> StoredEvent {
        let data = data.map_or(Data::None, |data| {
            Data::Json(Bytes::from_static(data.as_bytes()))
        });
        StoredEvent {
            position: Position {
                partition: 0,
                offset: Offset(offset),
            },
            time: Timestamp(0),
            event: Event {
                id: offset.to_string(),
                key: key.map(|key| Bytes::from_static(key.as_bytes())),
                data,
                ..Event::default()
            },
        }
    }

    #[test]
    fn the_latest_event_of_each_key_that_has_data() {
        let mut latest = Latest::new(1 << 20).unwrap();
        let events = [
            stored(0, Some("b"), Some("0")),
            stored(1, Some("a"), Some("1")),
            stored(2, Some("b"), Some("null")),
            stored(3, None, Some("3")),
            stored(4, Some("c"), Some("4")),
            stored(5, Some("c"), None),
        ];
        latest.take(&events).unwrap();
        let told = latest.told(None).unwrap();
        assert_eq!((told.items, told.last.as_deref()), (2, Some("b")));
        let lines = String::from_utf8(told.lines).unwrap();
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            (&lines[0]["key"], &lines[0]["offset"]),
            (&json!("a"), &json!(1))
        );
        assert_eq!(
            (&lines[1]["key"], &lines[1]["event"]["data"]),
            (&json!("b"), &Value::Null)
        );
        assert_eq!(latest.told(told.last).unwrap().items, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pass_is_heard_to_go_on() {
        let (pieces, mut waiting) = mpsc::channel(PIECES);
        let work = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            Ok(7)
        };
        assert_eq!(alive(&pieces, work).await.unwrap(), 7);
        drop(pieces);
        for _ in 0..2 {
            assert_eq!(waiting.recv().await.unwrap(), "{\"alive\":true}\n");
        }
        assert_eq!(waiting.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_has_a_pace() {
        let mut pace = Pace::new();
        tokio::time::advance(Duration::from_secs(59)).await;
        pace.take(10 << 20).unwrap();
        tokio::time::advance(Duration::from_secs(160)).await;
        pace.take(1).unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(pace.take(1).is_err());
    }

    #[test]
    fn keys_beyond_the_bound_are_refused() {
        let mut latest = Latest::new(64 << 10).unwrap();
        let data: &'static str = format!("\"{}\"", "x".repeat(100 << 10)).leak();
        let refused = latest
            .take(&[stored(0, Some("a"), Some(data))])
            .unwrap_err();
        assert_eq!(refused.kind, Kind::TooLarge);
    }
}
