//! Names and positions, each a type of its own so that the compiler keeps them apart.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::shown::Shown;

/// A set of logs, as the engine knows it. Never reused: a name made again gets a new id.
/// Wide enough for the topic ids of a Kafka cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SetId(pub u128);

/// One ordered sequence of records: the `index`-th log of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    pub set: SetId,
    pub index: u32,
}

/// A position in a log. Offsets rise but have holes (control records, aborted or compacted
/// data), so nobody computes the next one: it comes from the engine.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Offset(pub u64);

/// A period of ownership of a log. A higher term shuts out every lower one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Term(pub u64);

/// The name of a set: `namespace/name`, ASCII letters, digits and `. _ - $ / ~`, with
/// neither part empty, at most [`limits::SET_NAME_BYTES`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("set name {0} is not namespace/name of letters, digits and . _ - $ / ~, at most {limit} bytes", limit = limits::SET_NAME_BYTES)]
pub struct InvalidSetName(pub String);

impl SetName {
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidSetName> {
        let name = name.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-$/~".contains(&b);
        let parts = name
            .split_once('/')
            .is_some_and(|(ns, rest)| !ns.is_empty() && !rest.is_empty());
        if parts && name.len() <= limits::SET_NAME_BYTES && name.bytes().all(allowed) {
            Ok(Self(name))
        } else {
            Err(InvalidSetName(Shown(&name).to_string()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Offset {
    /// From here to whatever comes last.
    pub fn on(self) -> Range<Self> {
        self..Self(u64::MAX)
    }

    /// Of so many bytes at the offsets `there`, those at `wanted`, if each offset has as many.
    pub fn share(bytes: u64, there: &Range<Self>, wanted: &Range<Self>) -> u64 {
        let within = there.start.max(wanted.start).0..there.end.min(wanted.end).0;
        let width = |range: Range<u64>| u128::from(range.end.saturating_sub(range.start));
        let all = width(there.start.0..there.end.0).max(1);
        (u128::from(bytes) * width(within) / all) as u64
    }
}

impl SetId {
    pub fn log(self, index: u32) -> LogId {
        LogId { set: self, index }
    }
}

/// Ordered as its text.
impl Borrow<str> for SetName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}/{}", self.set.0, self.index)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_name_has_two_parts_and_plain_letters() {
        for good in ["default/orders", "default/orders/ship$dlq", "a/b"] {
            assert!(SetName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "orders",
            "/orders",
            "default/",
            "default/a b",
            "default/ä",
            "a/\0",
        ] {
            assert!(SetName::new(bad).is_err(), "{bad:?}");
        }
        let longest = limits::SET_NAME_BYTES - "a/".len();
        assert!(SetName::new(format!("a/{}", "x".repeat(longest))).is_ok());
        assert!(SetName::new(format!("a/{}", "x".repeat(longest + 1))).is_err());
    }
}
