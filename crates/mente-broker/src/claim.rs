//! Data that is too large for an event: kept in pieces in a log beside, and claimed by the event's record.
//!
//! ```text
//!   $parts   | piece | piece | piece of another | piece | manifest |
//!                                                            ^
//!   topic    ..... | record: an event without data, its claim | .....
//! ```
//! Every piece is durable before the manifest is begun, which says where they are, and that before the record: so a
//! record's claim is good, and whoever dies in between leaves pieces that nobody claims. Each copy of a record has
//! pieces of its own, in the log beside its own log.
//!
//! Numbers of manifests can be guessed, and data is there before its record is and after it was cancelled. So a
//! manifest has a word too that cannot be guessed, and only who says it is given the data: who was given the record.
//! A log of pieces that an upload made anew while its topic was deleted is thereby nobody's.

use std::time::Duration;

use bytes::Bytes;
use mente_engine::{
    Attribute, BatchBuilder, Clock, Engine, Error, Event, Limit, LogConfig, LogId, Offset, Record,
    SetName, Timestamp, limits,
};
use serde::{Deserialize, Serialize};

use crate::name::{EntityName, SubscriptionName};

/// What the name of a set of pieces ends with, behind that of the records that claim them.
const PARTS: &str = "/$parts";
/// The extension attribute that says where an event's data is (CloudEvents' Dataref).
const DATAREF: &str = "dataref";
/// Tells a manifest from a piece, whose bytes are a stranger's.
const MANIFEST: &str = "mente-manifest";
/// Pieces of one message: as many as are needed, and some that are not full.
const PIECES: usize = 2 * (limits::MESSAGE_BYTES as usize / limits::PIECE_BYTES);

/// Where the data of an event is that is not with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of the manifest, in the log of pieces.
    pub at: Offset,
    /// Of the data.
    pub bytes: u64,
    /// CRC-32C of the data.
    pub checksum: u32,
    /// Of the manifest; nobody can guess it.
    pub word: u128,
}

/// Where the pieces of one message's data lie, in the order of the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub bytes: u64,
    pub checksum: u32,
    #[serde(with = "hex_word")]
    pub word: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    pub pieces: Vec<Offset>,
}

impl Claim {
    /// As a record says it.
    pub(crate) fn to_text(self) -> String {
        let Self {
            at,
            bytes,
            checksum,
            word,
        } = self;
        format!("{at} {bytes} {checksum:08x} {word:032x}")
    }

    /// Where HTTP has the data.
    pub(crate) fn path(self, topic: &EntityName) -> String {
        format!("/topics/{topic}/bodies/{}-{:032x}", self.at, self.word)
    }

    /// What the end of such a path says: where the manifest is, and its word.
    pub(crate) fn of_path(end: &str) -> Option<(Offset, u128)> {
        let (at, word) = end.split_once('-')?;
        Some((Offset(at.parse().ok()?), word_of(word)?))
    }

    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let claim = Self {
            at: Offset(words.next()?.parse().ok()?),
            bytes: words.next()?.parse().ok()?,
            checksum: u32::from_str_radix(words.next()?, 16).ok()?,
            word: word_of(words.next()?)?,
        };
        (words.next().is_none() && claim.bytes <= limits::MESSAGE_BYTES).then_some(claim)
    }
}

/// As it is written, and in no other way.
fn word_of(text: &str) -> Option<u128> {
    let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_one)
}

mod hex_word {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(word: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{word:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        super::word_of(&text).ok_or_else(|| D::Error::custom("not 32 hexadecimal digits"))
    }
}

/// The set of the pieces that records of `records` claim.
pub(crate) fn parts_of(records: &SetName) -> SetName {
    SetName::new(format!("{records}{PARTS}")).expect("the names of Mente's own sets leave room")
}

/// The set whose records claim the pieces in this one, if it holds pieces.
pub(crate) fn records_beside(parts: &SetName) -> Option<SetName> {
    SetName::new(parts.as_str().strip_suffix(PARTS)?).ok()
}

/// The log of pieces beside a set, made if it is not there.
pub(crate) async fn make_parts(engine: &dyn Engine, records: &SetName) -> Result<LogId, Error> {
    let name = parts_of(records);
    let set = engine.create(&name, 1, LogConfig::default()).await?;
    Ok(set.log(0))
}

/// The same if it is there.
pub(crate) async fn find_parts(
    engine: &dyn Engine,
    records: &SetName,
) -> Result<Option<LogId>, Error> {
    let name = parts_of(records);
    let found = engine.list(name.as_str()).await?;
    let found = found.into_iter().find(|info| info.name == name);
    Ok(found.map(|info| info.id.log(0)))
}

/// Durable on return; gives where it lies.
pub(crate) async fn put_piece(
    engine: &dyn Engine,
    parts: LogId,
    now: Timestamp,
    piece: Bytes,
) -> Result<Offset, Error> {
    put(engine, parts, now, piece, Vec::new()).await
}

/// Durable on return, as the pieces are by now.
pub(crate) async fn put_manifest(
    engine: &dyn Engine,
    parts: LogId,
    now: Timestamp,
    manifest: &Manifest,
) -> Result<Claim, Error> {
    let text = serde_json::to_vec(manifest).map_err(|error| Error::NotDone(error.to_string()))?;
    let mark = (Bytes::from_static(MANIFEST.as_bytes()), None);
    let at = put(engine, parts, now, text.into(), vec![mark]).await?;
    Ok(Claim {
        at,
        bytes: manifest.bytes,
        checksum: manifest.checksum,
        word: manifest.word,
    })
}

async fn put(
    engine: &dyn Engine,
    parts: LogId,
    timestamp: Timestamp,
    value: Bytes,
    headers: Vec<(Bytes, Option<Bytes>)>,
) -> Result<Offset, Error> {
    let mut batch = BatchBuilder::default();
    batch.push(&Record {
        timestamp,
        key: None,
        value: Some(value),
        headers,
    });
    let appended = engine.append(&[], vec![(parts, batch.finish())]).await?;
    let base = appended.first().map(|appended| appended.base);
    base.ok_or_else(|| Error::Unknown("no answer for the batch".into()))
}

/// `None`: no manifest of this word lies there, or none any more.
pub(crate) async fn read_manifest(
    engine: &dyn Engine,
    parts: LogId,
    at: Offset,
    word: u128,
) -> Result<Option<Manifest>, Error> {
    let Some(record) = read_one(engine, parts, at).await? else {
        return Ok(None);
    };
    let is_one = record.headers.first();
    let is_one = is_one.is_some_and(|(name, _)| name.as_ref() == MANIFEST.as_bytes());
    let value = record.value.filter(|_| is_one);
    let manifest = value.and_then(|text| serde_json::from_slice::<Manifest>(&text).ok());
    Ok(manifest.filter(|manifest| {
        manifest.word == word
            && manifest.pieces.len() <= PIECES
            && manifest.bytes <= limits::MESSAGE_BYTES
    }))
}

/// `None`: it lies there no more.
pub(crate) async fn read_piece(
    engine: &dyn Engine,
    parts: LogId,
    at: Offset,
) -> Result<Option<Bytes>, Error> {
    let record = read_one(engine, parts, at).await?;
    Ok(record.and_then(|record| record.value))
}

/// `None`: it lies there no more.
pub(crate) async fn read_one(
    engine: &dyn Engine,
    log: LogId,
    at: Offset,
) -> Result<Option<Record>, Error> {
    let chunk = match engine.read(log, at, Limit { bytes: 1 }).await {
        Err(Error::Trimmed(_) | Error::Gone) => return Ok(None),
        chunk => chunk?,
    };
    let records = chunk.batches.iter().flat_map(mente_engine::Batch::records);
    let found = records.flatten().find(|(offset, _)| *offset == at);
    Ok(found.map(|(_, record)| record))
}

/// Has the event say that its data is at this path, or that it is nowhere that readers could ask.
pub(crate) fn refer(event: &mut Event, path: Option<String>) {
    event.extensions.retain(|(name, _)| name != DATAREF);
    let refers = path.map(|path| (DATAREF.to_owned(), Attribute::Text(path)));
    event.extensions.extend(refers);
}

/// The set of the records that a view reads and that claim data: what waits until it is due claims the topic's.
pub(crate) fn records_of(view: &SubscriptionName) -> SetName {
    match view.buried_by() {
        Some(by) => by.dead_letter_set(),
        None => view.topic.topic_set(),
    }
}

/// The claim of a copy: the same data in pieces of its own. `None`: not all of it is there any more. One that takes
/// longer than an upload may is given up: trimming counts on it that nobody claims what is much older.
pub(crate) async fn copy(
    engine: &dyn Engine,
    claim: Claim,
    from: &SetName,
    to: &SetName,
    clock: &dyn Clock,
) -> Result<Option<Claim>, Error> {
    let began = clock.now();
    let most = Duration::from_secs(limits::UPLOAD_SECONDS);
    let in_time = || match clock.now().monotone.saturating_sub(began.monotone) > most {
        true => Err(Error::NotDone(format!(
            "a copy of {} bytes took more than {} seconds",
            claim.bytes,
            limits::UPLOAD_SECONDS
        ))),
        false => Ok(()),
    };
    let Some(source) = find_parts(engine, from).await? else {
        return Ok(None);
    };
    let manifest = match read_manifest(engine, source, claim.at, claim.word).await {
        Err(Error::Corrupt(_)) => None,
        manifest => manifest?,
    };
    let Some(mut manifest) = manifest else {
        return Ok(None);
    };
    let goal = make_parts(engine, to).await?;
    for at in &mut manifest.pieces {
        let piece = match read_piece(engine, source, *at).await {
            // It will never be there again: the copy goes on without its data, as where it is gone.
            Err(Error::Corrupt(_)) => None,
            piece => piece?,
        };
        let Some(piece) = piece else {
            return Ok(None);
        };
        in_time()?;
        *at = put_piece(engine, goal, began.wall, piece).await?;
    }
    in_time()?;
    let put = put_manifest(engine, goal, began.wall, &manifest).await;
    put.map(Some)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::executor::block_on;
    use mente_engine::Now;
    use mente_engine::memory::MemoryEngine;

    use super::*;

    /// Goes on by as much whenever it is looked at.
    pub(crate) struct Ticking {
        looks: AtomicU32,
        by: Duration,
    }

    impl Ticking {
        pub(crate) fn by(by: Duration) -> Self {
            let looks = AtomicU32::new(0);
            Self { looks, by }
        }
    }

    impl Clock for Ticking {
        fn now(&self) -> Now {
            let looks = self.looks.fetch_add(1, Ordering::Relaxed);
            Now {
                wall: Timestamp(0),
                monotone: self.by * looks,
            }
        }

        fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_claim_is_read_as_it_was_said_and_nothing_else_is_one() {
        let claim = Claim {
            at: Offset(17),
            bytes: 20 << 20,
            checksum: 0xab,
            word: 0xcd,
        };
        assert_eq!(Claim::of_text(&claim.to_text()), Some(claim));
        let path = claim.path(&EntityName::new("q").unwrap());
        let end = path.strip_prefix("/topics/q/bodies/").unwrap();
        assert_eq!(Claim::of_path(end), Some((claim.at, claim.word)));
        for odd in [
            "",
            "17",
            "17-",
            "17-cd",
            "-17",
            "17-+000000000000000000000000000000cd",
        ] {
            assert_eq!(Claim::of_path(odd), None, "{odd}");
        }
        let word = "000000000000000000000000000000cd";
        for odd in [
            "",
            "1",
            "1 2",
            "1 2 x",
            "1 2 3 4",
            "1 2 3",
            &format!("1 2 3 {word} 5"),
            &format!("-1 2 3 {word}"),
            &format!("1 999999999999 3 {word}"),
        ] {
            assert_eq!(Claim::of_text(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_piece_that_looks_like_a_manifest_is_none() {
        block_on(async {
            let engine = MemoryEngine::new(1);
            let name = SetName::new("default/q").unwrap();
            let parts = make_parts(&engine, &name).await.unwrap();
            let manifest = Manifest {
                bytes: 3,
                word: 4,
                pieces: vec![Offset(0)],
                ..Manifest::default()
            };
            let text = serde_json::to_vec(&manifest).unwrap();
            let forged = put_piece(&engine, parts, Timestamp(0), text.into())
                .await
                .unwrap();
            let read = read_manifest(&engine, parts, forged, 4).await;
            assert_eq!(read, Ok(None));
            let claim = put_manifest(&engine, parts, Timestamp(0), &manifest)
                .await
                .unwrap();
            // Who only knows where it lies is told that nothing does.
            let guessed = read_manifest(&engine, parts, claim.at, 5).await;
            assert_eq!(guessed, Ok(None));
            let read = read_manifest(&engine, parts, claim.at, claim.word).await;
            assert_eq!(read, Ok(Some(manifest)));
        });
    }

    #[test]
    fn a_copy_has_pieces_of_its_own_and_is_none_of_what_is_gone() {
        block_on(async {
            let engine = MemoryEngine::new(1);
            let [from, to] = ["default/from", "default/to"].map(|name| SetName::new(name).unwrap());
            let parts = make_parts(&engine, &from).await.unwrap();
            let mut manifest = Manifest {
                bytes: 4,
                ..Manifest::default()
            };
            for piece in [&b"ab"[..], b"cd"] {
                let at = put_piece(&engine, parts, Timestamp(0), piece.into()).await;
                manifest.pieces.push(at.unwrap());
            }
            let claim = put_manifest(&engine, parts, Timestamp(0), &manifest)
                .await
                .unwrap();
            let clock = Ticking::by(Duration::ZERO);
            let copied = copy(&engine, claim, &from, &to, &clock).await;
            let copied = copied.unwrap().unwrap();
            // The whole time is for all of its pieces.
            for (each, is_late) in [(200, false), (201, true)] {
                let slow = Ticking::by(Duration::from_secs(each));
                let copied = copy(&engine, claim, &from, &to, &slow).await;
                assert_eq!(copied.is_err(), is_late, "{copied:?}");
            }
            engine.trim(parts, Offset(claim.at.0 + 1)).await.unwrap();
            assert_eq!(copy(&engine, claim, &from, &to, &clock).await, Ok(None));

            let goal = find_parts(&engine, &to).await.unwrap().unwrap();
            let copied = read_manifest(&engine, goal, copied.at, copied.word)
                .await
                .unwrap()
                .unwrap();
            let mut data = Vec::new();
            for at in copied.pieces {
                data.extend(read_piece(&engine, goal, at).await.unwrap().unwrap());
            }
            assert_eq!(data, b"abcd");
        });
    }
}
