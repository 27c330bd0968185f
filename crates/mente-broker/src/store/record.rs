//! A record of the store: the event, and before its headers where it stands.

use std::hash::Hasher;

use bytes::Bytes;
use mente_engine::{Offset, Record};
use siphasher::sip::SipHasher13;

use super::Place;
use crate::error::{Error, Kind};
use crate::name::StreamName;

pub(super) const POSITION: &str = "mente-position";
const REVISION: &str = "mente-revision";
/// Who appended or published, by the name of the key that was shown.
pub const ACTOR: &str = "mente-actor";

/// What the index takes in of a record.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) stream: StreamName,
    pub(super) position: u64,
    pub(super) revision: u64,
    /// Hash of the event's id.
    pub(super) id: u128,
}

impl Facts {
    pub(super) fn of(record: &Record) -> Result<Self, String> {
        fn text(bytes: &[u8]) -> Option<&str> {
            std::str::from_utf8(bytes).ok()
        }
        let number = |name| text(record.header(name)?)?.parse::<u64>().ok();
        let [position, revision] = [POSITION, REVISION].map(number);
        let key = record.key.as_deref().and_then(text);
        let id = record.header("ce_id").and_then(|id| text(id));
        let missing = "no position, revision, stream name or event id";
        let (Some(position), Some(revision), Some(key), Some(id)) = (position, revision, key, id)
        else {
            return Err(missing.to_owned());
        };
        Ok(Self {
            stream: StreamName::stored(key).map_err(|error| error.message)?,
            position,
            revision,
            id: id_hash(id),
        })
    }
}

/// Position and revision of a record of the store.
pub fn place_of(offset: Offset, record: &Record) -> Option<Place> {
    let number = |name| std::str::from_utf8(record.header(name)?).ok()?.parse().ok();
    Some(Place {
        revision: number(REVISION)?,
        position: number(POSITION)?,
        offset,
    })
}

/// Who appended or published it, if a key was shown.
pub fn actor_of(record: &Record) -> Option<String> {
    let actor = std::str::from_utf8(record.header(ACTOR)?).ok()?;
    Some(actor.to_owned())
}

pub(super) fn headers(
    position: u64,
    revision: u64,
    actor: Option<&str>,
) -> Vec<(Bytes, Option<Bytes>)> {
    let header = |name: &'static str, number: u64| {
        (
            Bytes::from_static(name.as_bytes()),
            Some(Bytes::from(number.to_string())),
        )
    };
    let mut headers = vec![header(POSITION, position), header(REVISION, revision)];
    headers.extend(actor.map(actor_header));
    headers
}

/// The header that names who did it.
pub fn actor_header(actor: &str) -> (Bytes, Option<Bytes>) {
    let value = Bytes::copy_from_slice(actor.as_bytes());
    (Bytes::from_static(ACTOR.as_bytes()), Some(value))
}

pub(super) fn corrupt(offset: Offset, what: &str) -> Error {
    let message = format!("store record at offset {offset}: {what}");
    Error::new(Kind::Corrupt, message)
}

/// Of an event's id: equal in every run, and two ids of one stream do not meet by chance.
pub(super) fn id_hash(id: &str) -> u128 {
    u128::from(hash(0, id)) << 64 | u128::from(hash(1, id))
}

/// 64 bits of SipHash-1-3, which lie on the disk: the same in every build. Two texts may meet.
pub(super) fn hash(salt: u8, text: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&[salt]);
    hasher.write(text.as_bytes());
    let hash = hasher.finish();
    #[cfg(test)]
    if salt > 1 && super::tests::is_weak() {
        return hash % 8;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They lie on disks: what was sealed by one build is found by every other one.
    #[test]
    fn hashes_do_not_change() {
        assert_eq!(hash(2, "order.placed"), 3_705_690_770_011_056_964);
        assert_eq!(id_hash("e1"), 0xb6a238dbbea83ec83e792c72758c3a06);
    }
}
