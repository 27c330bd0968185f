//! A chain of hashes over every event of the store in its order, each over the one before and over all that
//! its event says.
//!
//! Each record carries the hash up to itself. Who changes, takes out or puts in an event, and makes the
//! checksums of the disk right again, has to make every later hash anew; and who noted the hash of a
//! position elsewhere finds that too. The moment of the append is the engine's and not part of it: a
//! Kafka cluster gives its own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use mente_engine::{Offset, Record};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::record::{Facts, corrupt};
use crate::error::{Error, Result};

/// The header with the hash.
pub(super) const HASH: &str = "mente-hash";

const BYTES: usize = 32;

/// SHA-256 over everything up to some event; as text base64url, 43 letters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chain([u8; BYTES]);

impl Chain {
    /// Goes on with a record that does not speak of the chain.
    fn with(self, record: &Record) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(&self.0);
        let mut put = |value: Option<&Bytes>| {
            // Lengths, or bytes could wander from one field to the next.
            let length = value.map_or(0, |value| value.len() as u64 + 1);
            hash.update(&length.to_le_bytes());
            hash.update(value.map_or(&[], |value| value));
        };
        put(record.key.as_ref());
        put(record.value.as_ref());
        for (name, value) in &record.headers {
            put(Some(name));
            put(value.as_ref());
        }
        let digest = hash.finish();
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Goes on with a record that is to be written, and writes it into it.
    pub(super) fn stamp(&mut self, record: Record) -> Record {
        *self = self.with(&record);
        record.with_header(HASH, self.to_string())
    }

    /// Goes on with a record that was written; that its hash is right is for [`StoreChain`] to see.
    pub(super) fn take(&mut self, record: &Record) {
        *self = Self::of(record).unwrap_or_else(|| self.with(record));
    }

    /// What a record says; nothing if it was written before there were hashes.
    fn of(record: &Record) -> Option<Self> {
        Self::parse(std::str::from_utf8(record.header(HASH)?).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Chain {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text).ok_or_else(|| Error::invalid("a hash is 43 letters of base64url"))
    }
}

impl From<Chain> for String {
    fn from(chain: Chain) -> Self {
        chain.to_string()
    }
}

/// Looks at every hash, from the log alone, whatever else is in memory.
#[derive(Debug, Default)]
pub struct StoreChain {
    chain: Chain,
    positions: u64,
}

impl StoreChain {
    pub fn fold(&mut self, offset: Offset, record: &Record) -> Result<()> {
        let facts = Facts::of(record).map_err(|what| corrupt(offset, &what))?;
        if facts.position != self.positions {
            let message = format!(
                "position {} was to come and {} did: events are missing or were put in",
                self.positions, facts.position
            );
            return Err(corrupt(offset, &message));
        }
        let bare = record.without_header(HASH);
        let chain = bare.map(|bare| self.chain.with(&bare));
        // Events from before there were hashes say none.
        let is_told = record.header(HASH).is_some();
        let Some(chain) = chain.filter(|chain| !is_told || Chain::of(record) == Some(*chain))
        else {
            let message = format!(
                "the event at position {} is not the one that was written, or one before it is not: the chain of hashes breaks",
                facts.position
            );
            return Err(corrupt(offset, &message));
        };
        self.positions += 1;
        self.chain = chain;
        Ok(())
    }

    /// How many events were taken in.
    pub fn positions(&self) -> u64 {
        self.positions
    }

    /// Over all of them.
    pub fn chain(&self) -> Chain {
        self.chain
    }
}

#[cfg(test)]
mod tests {
    use mente_engine::{Event, Timestamp};

    use super::*;
    use crate::name::StreamName;
    use crate::store::{Append, Expected, Facts, Store, record};

    /// Twenty events of three streams, as they lie in the log.
    fn written() -> (Vec<Record>, Chain) {
        let mut store = Store::default();
        let mut records = Vec::new();
        for number in 0..20 {
            let stream = StreamName::new(format!("order-{}", number % 3)).unwrap();
            let event = Event {
                id: format!("e{number}"),
                source: "/t".into(),
                kind: "T".into(),
                data: mente_engine::Data::Json(format!("{{\"n\":{number}}}").into()),
                ..Event::default()
            };
            let append = Append::to(&stream, Expected::Any, vec![event]);
            let appended = store.append(&append, &Facts::default(), Timestamp(7));
            records.extend(appended.unwrap().1);
        }
        (records, store.chain())
    }

    fn verified(records: &[Record]) -> Result<Chain> {
        let mut chain = StoreChain::default();
        for (offset, record) in (0..).zip(records) {
            chain.fold(Offset(offset), record)?;
        }
        Ok(chain.chain())
    }

    /// As a forger would who knows that positions are dense.
    fn renumbered(records: &[Record]) -> Vec<Record> {
        let renumber = |(position, record): (usize, &Record)| {
            let record = record.without_header(record::POSITION).unwrap();
            record.with_header(record::POSITION, position.to_string())
        };
        records.iter().enumerate().map(renumber).collect()
    }

    #[test]
    fn what_was_written_is_verified_and_so_is_a_fold_of_it() {
        let (records, chain) = written();
        assert_eq!(verified(&records).unwrap(), chain);
        let mut folded = Store::default();
        for (offset, record) in (0..).zip(&records) {
            folded.fold(Offset(offset), record).unwrap();
        }
        assert_eq!(folded.chain(), chain);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (records, _) = written();
        let flip = |bytes: &Bytes, bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(bytes)
        };
        let victim = 11;
        let mut flips = 0;
        for field in 0..2 + 2 * records[victim].headers.len() {
            let of = |record: &mut Record, change: &dyn Fn(&Bytes) -> Bytes| {
                let slot = match field {
                    0 => record.key.as_mut().unwrap(),
                    1 => record.value.as_mut().unwrap(),
                    _ if field % 2 == 0 => &mut record.headers[field / 2 - 1].0,
                    _ => record.headers[field / 2 - 1].1.as_mut().unwrap(),
                };
                *slot = change(slot);
                slot.len()
            };
            let length = of(&mut records[victim].clone(), &Bytes::clone);
            for bit in 0..8 * length {
                let mut forged = records.clone();
                of(&mut forged[victim], &|bytes| flip(bytes, bit));
                assert!(verified(&forged).is_err(), "field {field} bit {bit}");
                flips += 1;
            }
        }
        assert!(flips > 1_000, "{flips}");
    }

    #[test]
    fn what_is_missing_or_put_in_is_found() {
        let (records, _) = written();
        for at in 0..records.len() - 1 {
            let mut missing = records.clone();
            missing.remove(at);
            assert!(verified(&missing).is_err(), "{at}");
            assert!(verified(&renumbered(&missing)).is_err(), "{at}");
            let mut more = records.clone();
            more.insert(at, records[at].clone());
            assert!(verified(&more).is_err(), "{at}");
            assert!(verified(&renumbered(&more)).is_err(), "{at}");
            let mut turned = records.clone();
            turned.swap(at, at + 1);
            assert!(verified(&turned).is_err(), "{at}");
            assert!(verified(&renumbered(&turned)).is_err(), "{at}");
        }
    }

    /// Nothing in the log tells that its end was cut off, or that all was made anew: a head that was noted
    /// does.
    #[test]
    fn the_end_is_for_who_noted_it() {
        let (records, chain) = written();
        assert_ne!(verified(&records[..19]).unwrap(), chain);
        let mut forged = records;
        forged[5].value = Some(Bytes::from_static(b"{}"));
        let mut made = Chain::default();
        for record in &mut forged {
            record.headers.retain(|(name, _)| name != HASH.as_bytes());
            // So that it vouches for itself again.
            let bare = record.clone().with_header("x", "").without_header("x");
            *record = made.stamp(bare.unwrap());
        }
        assert!(verified(&forged).is_ok());
        assert_ne!(verified(&forged).unwrap(), chain);
    }
}
