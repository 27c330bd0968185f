//! Where a reader stands, in words: what `from`, `Last-Event-ID` and `mente-next-offset` hold.
//!
//! | text | means |
//! |---|---|
//! | `earliest`, `latest` | the ends |
//! | `17` | this offset |
//! | `2026-11-30T12:00:00Z`, `1764504000000ms` | the first event of that time or later |
//! | `0:17,1:4` | an offset for each of several partitions |

use std::collections::BTreeMap;
use std::fmt::Write;

use mente_broker::Start;
use mente_engine::{Offset, Shown, Timestamp};

use super::error::{Refusal, Result};

/// Where to begin, in one place for all partitions or in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    One(Start),
    Each(BTreeMap<u32, Offset>),
}

impl From {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let one = match text {
            "earliest" => Some(Start::Earliest),
            "latest" => Some(Start::Latest),
            _ => text
                .parse()
                .ok()
                .map(|offset| Start::At(Offset(offset)))
                .or_else(|| time(text).map(Start::Time)),
        };
        if let Some(start) = one {
            return Ok(Self::One(start));
        }
        let each = text.split(',').map(|part| {
            let (partition, offset) = part.split_once(':')?;
            Some((partition.parse().ok()?, Offset(offset.parse().ok()?)))
        });
        each.collect::<Option<_>>().map(Self::Each).ok_or_else(|| {
            Refusal::bad_request(format!(
                "from is {}; say earliest, latest, an offset, a time such as 2026-11-30T12:00:00Z or 1764504000000ms, or what the header mente-next-offset said",
                Shown(text)
            ))
        })
    }

    /// From the id of the last event that an SSE client saw: the offsets behind those it names.
    pub(super) fn after(id: &str) -> Result<Self> {
        let each = id.split(',').map(|part| {
            let (partition, seen) = part.trim().split_once(':')?;
            let next = seen.parse::<i64>().ok()?.checked_add(1)?;
            let next = Offset(u64::try_from(next).ok()?);
            Some((partition.parse().ok()?, next))
        });
        each.collect::<Option<_>>().map(Self::Each).ok_or_else(|| {
            Refusal::bad_request(format!(
                "Last-Event-ID is {}, but the ids of this stream are PARTITION:OFFSET",
                Shown(id)
            ))
        })
    }

    pub(super) fn of(&self, partition: u32) -> Start {
        match self {
            Self::One(start) => *start,
            // A partition that is not named was made later: nothing of it was read.
            Self::Each(each) => each
                .get(&partition)
                .map_or(Start::Earliest, |offset| Start::At(*offset)),
        }
    }
}

/// What the parameter `time` says.
pub(super) fn asked_time(text: &str) -> Result<Timestamp> {
    time(text).ok_or_else(|| {
        Refusal::bad_request(format!(
            "time is {}; say a time such as 2026-11-30T12:00:00Z or 1764504000000ms",
            Shown(text)
        ))
    })
}

/// A time as `2026-11-30T12:00:00Z` or `1764504000000ms`.
fn time(text: &str) -> Option<Timestamp> {
    let ms = match text.strip_suffix("ms") {
        Some(digits) => digits.parse().ok()?,
        None => text.parse::<jiff::Timestamp>().ok()?.as_millisecond(),
    };
    Some(Timestamp(ms))
}

/// What reads on from these positions, given in the order of their partitions: the offset alone
/// for one partition that is named in the request or is the only one.
pub(super) fn next_text(next: &[(u32, Offset)]) -> String {
    if let [(_, offset)] = next {
        return offset.to_string();
    }
    let mut text = String::new();
    for (partition, offset) in next {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{partition}:{offset}");
    }
    text
}

/// The id of an event for SSE: its own place first, then how far the other partitions were
/// read (-1: not at all), so that a reader of several resumes in each.
pub(super) fn event_id(partition: u32, offset: Offset, next: &[(u32, Offset)]) -> String {
    let mut text = format!("{partition}:{offset}");
    for (other, next) in next.iter().filter(|(other, _)| *other != partition) {
        let seen = i128::from(next.0) - 1;
        let _ = write!(text, ",{other}:{seen}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Start) {
        assert_eq!(From::parse(text).unwrap(), From::One(expect), "{text}");
    }

    #[test]
    fn starts_are_read() {
        check("earliest", Start::Earliest);
        check("latest", Start::Latest);
        check("17", Start::At(Offset(17)));
        check("1764504000000ms", Start::Time(Timestamp(1_764_504_000_000)));
        let noon = Start::Time(Timestamp(1_764_504_000_000));
        check("2025-11-30T12:00:00Z", noon);
        check("2025-11-30T13:00:00.000+01:00", noon);
        for bad in [
            "",
            "soon",
            "-1",
            "0:",
            "0:1,",
            "ms",
            "0:1;1:2",
            "18446744073709551616",
        ] {
            assert!(From::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_resume_behind_what_was_seen() {
        let next = [(0, Offset(3)), (1, Offset(0)), (2, Offset(9))];
        let id = event_id(2, Offset(7), &next);
        assert_eq!(id, "2:7,0:2,1:-1");
        let from = From::after(&id).unwrap();
        assert_eq!(from.of(0), Start::At(Offset(3)));
        assert_eq!(from.of(1), Start::At(Offset(0)));
        assert_eq!(from.of(2), Start::At(Offset(8)));
        assert_eq!(from.of(3), Start::Earliest);
        for bad in ["", "7", "0:-2", "0:9223372036854775807", "x:1"] {
            assert!(From::after(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_reads_on_is_read_again() {
        assert_eq!(next_text(&[(3, Offset(5))]), "5");
        let text = next_text(&[(0, Offset(5)), (1, Offset(6))]);
        assert_eq!(text, "0:5,1:6");
        assert_eq!(From::parse(&text).unwrap().of(1), Start::At(Offset(6)));
    }
}
