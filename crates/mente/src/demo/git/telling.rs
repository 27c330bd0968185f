//! Commits as events, and events in appends.
//!
//! The data of an event is a merge patch (RFC 7386), so that Mente's fold needs no declaration:
//! merged one after another, the patches are the commit and its whole tree.

use mente_engine::limits;
use serde_json::{Value, json};

use super::history::{Change, Commit};
use super::path;

pub(super) const COMMITTED: &str = "git.Committed";
pub(super) const CHANGED: &str = "git.TreeChanged";

/// What one event says of a tree. Beyond that there are several events: a batch of Kafka's usual
/// size must hold one.
const PATCH_BYTES: usize = 384 << 10;
/// What one append holds, but one event at least; below what any engine takes for one.
const APPEND_BYTES: usize = 448 << 10;
const APPEND_EVENTS: usize = 500;
const _: () = assert!(APPEND_BYTES < limits::APPEND_BYTES);
const _: () = assert!(APPEND_EVENTS <= limits::EVENTS_PER_BATCH);

/// Seconds of the years that RFC 3339 can write, 0001 to 9999.
const WRITABLE: std::ops::Range<i64> = -62_135_596_800..253_402_214_400;

/// An event in structured form.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) event: String,
    /// It ends its commit.
    pub(super) is_commit: bool,
}

/// Events that are appended as one.
#[derive(Debug, Default)]
pub(super) struct Batch {
    events: Vec<Told>,
    bytes: usize,
}

/// The events of a commit, in the order that they are to be appended in.
pub(super) fn tell(source: &str, commit: &Commit) -> Vec<Told> {
    let time = commit
        .time
        .filter(|seconds| WRITABLE.contains(seconds))
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let time = time.map(|time| time.to_string());
    let event = |kind: &str, id: &str, data: &str| {
        let mut event = json!({"specversion": "1.0", "id": id, "source": source, "type": kind});
        if let (Some(time), Value::Object(event)) = (&time, &mut event) {
            event.insert("time".to_owned(), time.as_str().into());
        }
        let event = event.to_string();
        // The data was written already.
        let open = event.strip_suffix('}').unwrap_or(&event);
        Told {
            event: format!("{open},\"data\":{data}}}"),
            is_commit: kind == COMMITTED,
        }
    };
    let mut parts = patches(&commit.changes);
    let last = parts.pop().unwrap_or_default();
    let mut events: Vec<Told> = (1..)
        .zip(&parts)
        .map(|(number, tree)| {
            let data = format!("{{\"tree\":{{{tree}}}}}");
            event(CHANGED, &format!("{}/{number}", commit.id), &data)
        })
        .collect();
    let data = format!(
        "{{\"commit\":{},\"author\":{},\"message\":{},\"tree\":{{{last}}}}}",
        Value::from(commit.id.as_str()),
        Value::from(commit.author.as_str()),
        Value::from(commit.message.as_str()),
    );
    events.push(event(COMMITTED, &commit.id, &data));
    events
}

/// The members of the patches that the changes make, in as many pieces as needed.
fn patches(changes: &[Change]) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for change in changes {
        let name = Value::from(path::escape(&change.path));
        let file = change.file.map(|file| file.text());
        let member = format!("{name}:{}", Value::from(file));
        match pieces.last_mut() {
            Some(piece) if piece.is_empty() => *piece = member,
            Some(piece) if piece.len() + member.len() < PATCH_BYTES => {
                piece.push(',');
                piece.push_str(&member);
            }
            _ => pieces.push(member),
        }
    }
    pieces
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_room(&self, told: &Told) -> bool {
        self.is_empty()
            || (self.len() < APPEND_EVENTS && self.bytes + told.event.len() <= APPEND_BYTES)
    }

    pub(super) fn push(&mut self, told: Told) {
        self.bytes += told.event.len();
        self.events.push(told);
    }

    /// As a list of events in JSON.
    pub(super) fn body(&self) -> String {
        let mut body = String::with_capacity(self.bytes + self.len() + 2);
        for (index, told) in self.events.iter().enumerate() {
            body.push(if index == 0 { '[' } else { ',' });
            body.push_str(&told.event);
        }
        body.push(']');
        body
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::Format;
    use super::super::tree::File;
    use super::*;

    fn commit(changes: Vec<Change>) -> Commit {
        Commit {
            id: "c0ffee".to_owned(),
            time: Some(0),
            author: "A \"B\" <a@b>".to_owned(),
            message: "one\u{1}".to_owned(),
            changes,
        }
    }

    fn change(path: &[u8]) -> Change {
        let id = Format::Sha1.tree_id(b"");
        Change {
            path: path.to_vec(),
            file: (!path.starts_with(b"gone")).then_some(File { mode: 0o100644, id }),
        }
    }

    fn events(commit: &Commit) -> Vec<Value> {
        let told = tell("/git/t", commit);
        told.iter()
            .map(|told| serde_json::from_str(&told.event).unwrap())
            .collect()
    }

    #[test]
    fn a_commit_is_one_event() {
        let commit = commit(vec![change(b"\xff\""), change(b"gone\n")]);
        let wanted = json!([{
            "specversion": "1.0", "id": "c0ffee", "source": "/git/t", "type": COMMITTED,
            "time": "1970-01-01T00:00:00Z",
            "data": {"commit": "c0ffee", "author": "A \"B\" <a@b>", "message": "one\u{1}", "tree": {
                "%FF\"": "100644 4b825dc642cb6eb9a060e54bf8d69288fbee4904", "gone\n": null,
            }},
        }]);
        assert_eq!(json!(events(&commit)), wanted);
    }

    #[test]
    fn no_change_and_no_time_are_told_too() {
        for time in [None, Some(i64::MAX), Some(253_402_214_400)] {
            let commit = Commit {
                time,
                ..commit(Vec::new())
            };
            let events = events(&commit);
            assert_eq!((&events[0]["data"]["tree"], events.len()), (&json!({}), 1));
            assert_eq!(events[0].get("time"), None);
        }
    }

    #[test]
    fn a_large_commit_is_several_events() {
        let path = |number: u32| format!("{number:05}\u{1}").into_bytes();
        let commit = commit((0..20_000).map(|number| change(&path(number))).collect());
        let events = events(&commit);
        let (last, parts) = events.split_last().unwrap();
        assert!(parts.len() > 1);
        let mut seen = 0;
        for (number, part) in (1..).zip(parts) {
            assert_eq!(part["id"], format!("c0ffee/{number}"));
            assert_eq!(part["type"], CHANGED);
            assert!(part["data"].to_string().len() <= PATCH_BYTES + 20);
            seen += part["data"]["tree"].as_object().unwrap().len();
        }
        assert_eq!(
            (&last["id"], &last["type"]),
            (&json!("c0ffee"), &json!(COMMITTED))
        );
        seen += last["data"]["tree"].as_object().unwrap().len();
        assert_eq!(seen, 20_000);
    }
}
