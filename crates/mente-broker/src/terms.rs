//! What a record says to queues, in headers of Mente's own before those of its event.
//!
//! Anybody may have written the record, so what is not as Mente writes it says nothing.

use std::time::Duration;

use bytes::Bytes;
use mente_engine::{Offset, Record, Timestamp};

use crate::claim::Claim;
use crate::name::EntityName;

const TIME_TO_LIVE: &[u8] = b"mente-ttl";
const DUE: &[u8] = b"mente-due";
const HOPS: &[u8] = b"mente-hops";
const NOTE: &[u8] = b"mente-note";
const ORIGIN_NAME: &str = "mente-origin";
const ORIGIN: &[u8] = ORIGIN_NAME.as_bytes();
const PREFIX: &[u8] = b"mente-";
const TRANSACTION: &[u8] = b"mente-transaction";
const CLAIM: &[u8] = b"mente-claim";
const TARGET: &[u8] = b"mente-target";

/// Nothing is said by a record that has none of these headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// From when the record was written.
    pub time_to_live: Option<Duration>,
    /// When it is to be enqueued, or was to be.
    pub due: Option<Timestamp>,
    /// How often it was forwarded.
    pub hops: u32,
    /// What a receiver said of it before it came here.
    pub note: Option<String>,
    /// The record that it is a copy of.
    pub origin: Option<String>,
    /// The transaction that it is to be enqueued by: of one that waits aside, and of no other.
    pub transaction: Option<String>,
    /// Where its data is, if that is not with it.
    pub claim: Option<Claim>,
    /// Where it goes on to, if that is not the topic that it waits beside: of one that waits for its transaction.
    pub target: Option<Box<Target>>,
}

/// A topic that records of a view go on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub topic: EntityName,
    /// No copy of the record lies below this there.
    pub copies_from: Offset,
}

impl Target {
    fn of_text(text: &str) -> Option<Self> {
        let (from, topic) = text.split_once(' ')?;
        let copies_from = Offset(from.parse().ok()?);
        let topic = EntityName::new(topic).ok()?;
        Some(Self { topic, copies_from })
    }

    fn to_text(&self) -> String {
        format!("{} {}", self.copies_from, self.topic)
    }
}

impl Terms {
    pub(crate) fn of(record: &Record) -> Self {
        let mut said = Self::default();
        let own = |(name, _): &&(Bytes, _)| name.starts_with(PREFIX);
        // Of several of a name the first one counts.
        for (name, value) in record.headers.iter().filter(own).rev() {
            let text = value
                .as_deref()
                .and_then(|value| std::str::from_utf8(value).ok());
            let owned = || text.map(str::to_owned);
            match &name[..] {
                TIME_TO_LIVE => {
                    let ms = text.and_then(|ms| ms.parse().ok());
                    said.time_to_live = ms.map(Duration::from_millis);
                }
                DUE => said.due = text.and_then(|ms| ms.parse().ok().map(Timestamp)),
                HOPS => said.hops = text.and_then(|hops| hops.parse().ok()).unwrap_or(0),
                NOTE => said.note = owned(),
                ORIGIN => said.origin = owned(),
                TRANSACTION => said.transaction = owned(),
                CLAIM => said.claim = text.and_then(Claim::of_text),
                TARGET => said.target = text.and_then(Target::of_text).map(Box::new),
                _ => {}
            }
        }
        said
    }

    pub(crate) fn headers(&self) -> Vec<(Bytes, Option<Bytes>)> {
        let time_to_live = self.time_to_live.map(|time| time.as_millis().to_string());
        let hops = Some(self.hops).filter(|hops| *hops > 0);
        let said = [
            (TIME_TO_LIVE, time_to_live),
            (DUE, self.due.map(|due| due.0.to_string())),
            (HOPS, hops.map(|hops| hops.to_string())),
            (NOTE, self.note.clone()),
            (ORIGIN, self.origin.clone()),
            (TRANSACTION, self.transaction.clone()),
            (CLAIM, self.claim.map(Claim::to_text)),
            (TARGET, self.target.as_deref().map(Target::to_text)),
        ];
        let header = |(name, value): (&'static [u8], Option<String>)| {
            let value = Bytes::from(value?);
            Some((Bytes::from_static(name), Some(value)))
        };
        said.into_iter().filter_map(header).collect()
    }

    /// The header of a copy that names what it was made of.
    pub(crate) fn origin_header() -> &'static str {
        ORIGIN_NAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_nothing_else() {
        let terms = Terms {
            time_to_live: Some(Duration::from_millis(1_500)),
            due: Some(Timestamp(-3)),
            hops: 2,
            note: Some("ä".into()),
            origin: Some("1-2-3".into()),
            transaction: Some("t".into()),
            claim: Claim::of_text("1 2 3 000000000000000000000000000000ab"),
            target: Some(Box::new(Target {
                topic: EntityName::new("a~b").unwrap(),
                copies_from: Offset(9),
            })),
        };
        let record = Record {
            headers: terms.headers(),
            ..Record::default()
        };
        assert_eq!(Terms::of(&record), terms);
        let foreign = [
            "mente-ttl",
            "mente-due",
            "mente-hops",
            "mente-note",
            "mente-claim",
            "mente-target",
        ];
        let foreign = foreign.map(|name| {
            (
                Bytes::from_static(name.as_bytes()),
                Some(Bytes::from_static(b"\xff")),
            )
        });
        let record = Record {
            headers: foreign.into(),
            ..Record::default()
        };
        assert_eq!(Terms::of(&record), Terms::default());
        assert!(Terms::default().headers().is_empty());
    }
}
