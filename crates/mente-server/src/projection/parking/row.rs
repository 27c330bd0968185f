//! A parked event as it lies in its table, and as it is shown.

use bytes::Bytes;
use mente_engine::{Event, Offset, Timestamp};
use mente_wire::cloudevents;
use serde::Serialize;
use serde_json::Value;

use super::{Key, Position, Spot};
use crate::projection::fact::{Fact, InStream};
use crate::projection::status::{At, Failure};

/// Longest text of a key; a longer one is cut, with a hash of all of it behind.
const KEY_BYTES: usize = 512;
/// Most that is kept of an error's words, and of the statement that it is of.
const WORDS_BYTES: usize = 4 << 10;
/// An event that is larger is not shown with the list, but kept whole.
const SHOWN_BYTES: usize = 4 << 10;
/// What lies beside an event in its row, roughly.
const ROW_BYTES: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::projection) struct Row {
    pub(in crate::projection) spot: Spot,
    pub(in crate::projection) key: Key,
    pub(in crate::projection) appended: Timestamp,
    /// Where in the store: stream, revision, position.
    pub(in crate::projection) stream: Option<(String, u64, u64)>,
    pub(in crate::projection) event_id: String,
    pub(in crate::projection) event_type: String,
    /// Structured JSON of CloudEvents, as it was told when it was parked.
    pub(in crate::projection) event: String,
    /// Nothing of one that only waits behind another.
    pub(in crate::projection) error: Option<String>,
    pub(in crate::projection) statement: Option<String>,
    pub(in crate::projection) parked: Timestamp,
}

/// A key that is held up, by the first of its events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParkedKey {
    pub key: String,
    pub partition: u32,
    /// Events of the key that wait, the first one among them.
    pub events: u64,
    pub first: ParkedEvent,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParkedEvent {
    /// In the store, or `PARTITION:OFFSET` in a topic: what skipping it asks for.
    pub position: String,
    pub event_id: String,
    pub event_type: String,
    pub parked_at: String,
    /// Why it is not in the rows; nothing of one that only waits behind another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Unless it is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
}

impl Row {
    /// Fails if the event would not come back as it is: it would be another one that is retried.
    pub(super) fn of(
        fact: &Fact,
        key: &Key,
        failure: Option<&Failure>,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let mut written = Vec::new();
        cloudevents::write_event(&fact.event, &mut written);
        let text = String::from_utf8(written).ok();
        let text = text.filter(|text| {
            let back = cloudevents::parse_event(&Bytes::copy_from_slice(text.as_bytes()));
            back.is_ok_and(|back| is_same(&back, &fact.event))
        });
        let lossy = || {
            let message = "the event cannot be parked, since CloudEvents' JSON form does not give it back as it is: \
                           declare what becomes of it, or rebuild with \"onError\": \"stop\"";
            Failure::plain(message.to_owned()).at(At::of(fact))
        };
        let stream = fact.stream.as_ref();
        Ok(Self {
            spot: Spot::of(fact),
            key: key.clone(),
            appended: fact.time,
            stream: stream.map(|s| (s.name.clone(), s.revision, s.position)),
            event_id: plain(&fact.event.id),
            event_type: plain(&fact.event.kind),
            event: text.ok_or_else(lossy)?,
            error: failure.map(|failure| words(&failure.message)),
            statement: failure.and_then(|f| f.statement.as_deref()).map(words),
            parked: now,
        })
    }

    /// The event, to be tried again.
    pub(super) fn fact(&self) -> Result<Fact, Failure> {
        let event = cloudevents::parse_event(&Bytes::copy_from_slice(self.event.as_bytes()));
        let event = event.map_err(|error| {
            Failure::plain(format!(
                "the parked event {} cannot be read any more ({error}): skip it by name",
                self.position()
            ))
        })?;
        let in_stream = |(name, revision, position): &(String, u64, u64)| InStream {
            name: name.clone(),
            revision: *revision,
            position: *position,
        };
        Ok(Fact {
            partition: self.spot.partition,
            offset: Offset(self.spot.offset),
            part: self.spot.part,
            time: self.appended,
            event,
            stream: self.stream.as_ref().map(in_stream),
        })
    }

    /// What it counts for.
    pub(in crate::projection) fn bytes(&self) -> u64 {
        (self.event.len() + self.key.text.len() + ROW_BYTES) as u64
    }

    pub(super) fn position(&self) -> Position {
        match &self.stream {
            Some((_, _, position)) => Position::Store(*position),
            None => Position::Topic {
                partition: self.spot.partition,
                offset: self.spot.offset,
            },
        }
    }

    pub(in crate::projection) fn shown(self) -> ParkedEvent {
        let is_small = self.event.len() <= SHOWN_BYTES;
        ParkedEvent {
            position: self.position().to_string(),
            event_id: self.event_id,
            event_type: self.event_type,
            parked_at: self.parked.to_rfc3339(),
            error: self.error,
            statement: self.statement,
            event: is_small
                .then(|| serde_json::from_str(&self.event).ok())
                .flatten(),
        }
    }
}

/// Words of an error, as they are kept.
pub(in crate::projection) fn words(text: &str) -> String {
    cut(&plain(text), WORDS_BYTES).to_owned()
}

/// A key as text: what is no text in it is replaced, so that two such keys may be one, which holds
/// up more than it must and never less.
pub(super) fn key_text(key: &[u8]) -> String {
    let text = plain(&String::from_utf8_lossy(key));
    if text.len() <= KEY_BYTES {
        return text;
    }
    let hash = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, key);
    format!("{}…{}", cut(&text, KEY_BYTES), hash.simple())
}

/// The key does not count: statements do not see it.
fn is_same(back: &Event, event: &Event) -> bool {
    let keyless = |event: &Event| Event {
        key: None,
        ..event.clone()
    };
    keyless(back) == keyless(event)
}

/// PostgreSQL has no text with the character NUL.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
