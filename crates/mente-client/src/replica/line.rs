//! What a source says, line by line: a snapshot, and pages of changes behind it.
//!
//! ```text
//! {"snapshot":{"topic":"prices","topic_id":"a3f…","next":{"0":17,"1":4}}}
//! {"alive":true}
//! {"key":"apple","partition":0,"offset":5,"event":{…}}
//! {"end":{"items":1,"start":{"0":0,"1":2}}}
//! ```
//! A snapshot without its end is none; that the source lives is told while it reads the topic. A page is lines of events, with its positions in headers.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::machine::{Change, Head, Heard, Item, Positions, Tail};
use crate::topic::Told;

/// What is taken of a source that says more than there can be.
const PARTITIONS_MAX: usize = 1_024;
const TOPIC_ID_BYTES_MAX: usize = 64;
const MESSAGE_CHARS_MAX: usize = 300;

/// One line of a snapshot; nothing, if it says no more than that more will come.
pub(super) fn of_snapshot(line: &str) -> Result<Option<Heard>, String> {
    #[derive(Deserialize)]
    struct Line {
        snapshot: Option<Head>,
        end: Option<Tail>,
        error: Option<Refusal>,
        key: Option<IgnoredAny>,
        alive: Option<IgnoredAny>,
    }
    let found: Line = serde_json::from_str(line).map_err(|error| strange(line, &error))?;
    let heard = match found {
        Line {
            error: Some(refusal),
            ..
        } => Err(begin(&refusal.message)),
        Line {
            snapshot: Some(head),
            ..
        } => match is_id(&head.topic_id) && are_bounded(&head.next) {
            true => Ok(Heard::Begins(head)),
            false => {
                Err("the snapshot begins with an id or positions that no topic has".to_owned())
            }
        },
        Line { end: Some(end), .. } => match are_bounded(&end.start) {
            true => Ok(Heard::Ends(end)),
            false => Err("the snapshot ends with positions that no topic has".to_owned()),
        },
        Line { key: Some(_), .. } => match change(line)? {
            Change {
                key: Some(key),
                item: Some(event),
                place,
                sum,
            } => Ok(Heard::Told(Item {
                key,
                place,
                event,
                sum,
            })),
            _ => Err("an item of the snapshot has no data".to_owned()),
        },
        Line { alive: Some(_), .. } => return Ok(None),
        _ => Err(format!(
            "a line of the snapshot is not understood: {line:.100}"
        )),
    };
    heard.map(Some)
}

/// One line of a page: an event without data takes its key away.
pub(super) fn change(line: &str) -> Result<Change, String> {
    #[derive(Deserialize)]
    struct Data {
        #[serde(default, deserialize_with = "is_there")]
        data: bool,
        #[serde(default, deserialize_with = "is_there")]
        data_base64: bool,
    }
    let told: Told = serde_json::from_str(line).map_err(|error| strange(line, &error))?;
    let data: Data =
        serde_json::from_str(told.event.get()).map_err(|error| strange(line, &error))?;
    let has_data = data.data || data.data_base64;
    Ok(Change {
        key: told.key,
        place: told.place,
        sum: sum(told.event.get()),
        item: has_data.then(|| told.event.get().to_owned()),
    })
}

/// FNV-1a, 64 bits: it lies in files, so it is one that stays, and nobody gains by meeting it.
fn sum(text: &str) -> u64 {
    let step = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Positions as a header has them: `0:17,1:4`, or `17` for the only partition.
pub(super) fn positions(text: &str) -> Option<Positions> {
    if let Ok(only) = text.parse() {
        return Some(Positions::from([(0, only)])).filter(are_bounded);
    }
    let each = text.split(',').map(|part| {
        let (partition, offset) = part.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    });
    let each: Option<Positions> = each.collect();
    each.filter(are_bounded)
}

/// Whether a topic may have these: a file has signed offsets, and what is held is written at each change.
fn are_bounded(positions: &Positions) -> bool {
    let is_offset = |offset: &u64| i64::try_from(*offset).is_ok();
    positions.len() <= PARTITIONS_MAX && positions.values().all(is_offset)
}

/// Whether this may tell topics of one name apart.
pub(super) fn is_id(topic_id: &str) -> bool {
    topic_id.len() <= TOPIC_ID_BYTES_MAX
}

/// What a refusal says, for people.
pub(super) fn refusal(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: Refusal,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(begin(&body.error.message))
}

/// As much of a message as is kept and shown.
fn begin(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// `null` is data too, so what is asked is whether the member is there.
fn is_there<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

fn strange(line: &str, error: &serde_json::Error) -> String {
    format!("a line of the answer is not understood ({error}): {line:.100}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_data(event: &str) -> bool {
        let line = format!(r#"{{"partition":1,"offset":5,"key":"k","event":{event}}}"#);
        let change = change(&line).unwrap();
        assert_eq!(change.key.as_deref(), Some("k"));
        assert_eq!((change.place.partition, change.place.offset), (1, 5));
        change.item.is_some()
    }

    #[test]
    fn only_an_event_without_data_takes_its_key_away() {
        assert!(has_data(r#"{"id":"1","data":{"data":null}}"#));
        assert!(has_data(r#"{"id":"1","data":null}"#));
        assert!(has_data(r#"{"id":"1","data_base64":""}"#));
        assert!(!has_data(r#"{"id":"1","datacontenttype":"text/plain"}"#));
    }

    #[test]
    fn lines_of_a_snapshot_are_told_apart() {
        let head = r#"{"snapshot":{"topic":"t","topic_id":"a","next":{"0":17,"10":4}}}"#;
        let Ok(Some(Heard::Begins(head))) = of_snapshot(head) else {
            panic!("no head");
        };
        assert_eq!(head.next, Positions::from([(0, 17), (10, 4)]));
        let item = r#"{"key":"a","partition":0,"offset":5,"event":{"data":1}}"#;
        assert!(matches!(of_snapshot(item), Ok(Some(Heard::Told(item))) if item.key == "a"));
        let end = r#"{"end":{"items":1,"start":{"0":2}}}"#;
        assert!(matches!(of_snapshot(end), Ok(Some(Heard::Ends(end))) if end.items == 1));
        assert_eq!(of_snapshot(r#"{"alive":true}"#), Ok(None));
        let refused = of_snapshot(r#"{"error":{"code":"TooLarge","message":"too much"}}"#);
        assert_eq!(refused.unwrap_err(), "too much");
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"key":"a","partition":0,"offset":5,"event":{}}"#,
        ] {
            assert!(of_snapshot(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_are_those_of_the_reference() {
        assert_eq!(sum(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(sum("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn positions_are_read_as_they_are_written() {
        assert_eq!(positions("17"), Some(Positions::from([(0, 17)])));
        assert_eq!(
            positions("0:17,3:4"),
            Some(Positions::from([(0, 17), (3, 4)]))
        );
        for bad in [
            "",
            "0:",
            "a:1",
            "0:1;1:2",
            "-1",
            "18446744073709551615",
            "0:1,1:9223372036854775808",
        ] {
            assert_eq!(positions(bad), None, "{bad}");
        }
    }

    #[test]
    fn more_than_a_topic_can_have_is_refused() {
        let text = |count: u32| {
            let each: Vec<String> = (0..count).map(|p| format!("{p}:1")).collect();
            each.join(",")
        };
        assert_eq!(positions(&text(1_024)).unwrap().len(), 1_024);
        assert_eq!(positions(&text(1_025)), None);
        let long = "x".repeat(1_000);
        for bad in [
            format!(r#"{{"snapshot":{{"topic_id":"{long}","next":{{}}}}}}"#),
            r#"{"snapshot":{"topic_id":"a","next":{"0":9223372036854775808}}}"#.to_owned(),
            r#"{"end":{"items":0,"start":{"0":18446744073709551615}}}"#.to_owned(),
            format!(r#"{{"error":{{"message":"{long}"}}}}"#),
        ] {
            assert!(of_snapshot(&bad).unwrap_err().len() <= 300, "{bad}");
        }
        let body = format!(r#"{{"error":{{"message":"{long}"}}}}"#);
        assert_eq!(refusal(body.as_bytes()).unwrap().len(), 300);
    }
}
