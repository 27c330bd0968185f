//! What clients did and were told, in the order in which it happened: the only thing that
//! checkers see. One entry is one line of JSON; clients outside write it too, and leave out what they
//! cannot know:
//!
//! ```json
//! {"process":3,"time":1500000,"type":"invoke","f":"settle","value":{"subscription":"orders/all",…}}
//! ```
//! `time` is in nanoseconds on one clock for all processes. A call is an `invoke` and, unless its
//! process ended, one of `ok`, `fail` (certainly not done) and `info` (perhaps done). Answers fill the
//! same fields that the invocation left empty.

mod message;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

pub use message::{DEAD, Ending, Messages, TOO_OFTEN, Taken, Way, What};
pub use store::{Boundary, Part, Replayed, Told};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub process: u64,
    pub time: u64,
    #[serde(rename = "type")]
    pub phase: Phase,
    #[serde(flatten)]
    pub op: Op,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Invoke,
    Ok,
    /// Decided against.
    Fail,
    /// Turned away before anybody decided, as on a full disk or by a limit that is new: it did nothing,
    /// and of an earlier call it tells nothing.
    Unheard,
    /// Perhaps done.
    Info,
}

impl Phase {
    /// This call certainly did nothing.
    pub fn is_undone(self) -> bool {
        matches!(self, Self::Fail | Self::Unheard)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "snake_case")]
pub enum Op {
    CreateTopic {
        topic: String,
    },
    DeleteTopic {
        topic: String,
    },
    /// Begins at the start of its topic; a kind as filter.
    Subscribe {
        subscription: String,
        topic: String,
        kind: Option<String>,
        lock_ms: u64,
        max_deliveries: u32,
        /// Records that are older, by the wall clock of the server, go to the dead letters untried.
        #[serde(default)]
        ttl_ms: Option<u64>,
        /// One record of a key is out at a time.
        #[serde(default)]
        ordered: bool,
    },
    Unsubscribe {
        subscription: String,
    },
    /// Values are unique in the whole history, also where a topic is made anew.
    Publish {
        topic: String,
        values: Vec<Value>,
        placed: Vec<Placed>,
        /// All or none, the first to the first partition, and so on; of a topic that is not trimmed.
        #[serde(default)]
        whole: bool,
    },
    /// Nothing below `before` is needed any more.
    Trim {
        topic: String,
        partition: u32,
        before: u64,
    },
    /// From now on the start of the topic's logs may rise at any time.
    Retain {
        topic: String,
    },
    /// Everything in `from..next`. The log began at `start` then; nothing lay at or behind `end`, where
    /// that was asked.
    Read {
        topic: String,
        partition: u32,
        #[serde(default)]
        start: u64,
        end: Option<u64>,
        from: u64,
        next: u64,
        found: Vec<Found>,
    },
    Receive {
        subscription: String,
        deliveries: Vec<Delivered>,
    },
    Settle {
        subscription: String,
        token: String,
        value: String,
        how: How,
        /// Of a release: it comes again so much later.
        #[serde(default)]
        delay_ms: u64,
        held: bool,
    },
    /// A webhook was called and is about to answer so.
    Hear {
        subscription: String,
        value: String,
        status: u16,
    },
    Append {
        stream: String,
        expected: Expect,
        ids: Vec<String>,
        to: Option<To>,
    },
    /// To several streams, all or none; each event has the tag.
    AppendStore {
        parts: Vec<Part>,
        tag: Option<String>,
        check: Option<Boundary>,
        /// Of each part.
        to: Vec<To>,
    },
    /// Readers of the stream see nothing before this revision any more: it was truncated, or deleted.
    Hide {
        stream: String,
        before: u64,
    },
    /// What the server folds of a stream, up to a revision or to its end.
    State {
        stream: String,
        at: Option<u64>,
        told: Option<Told>,
    },
    /// All that readers see of the stream.
    ReadStream {
        stream: String,
        events: Vec<InStream>,
    },
    /// The whole store, in its order.
    ReadStore {
        events: Vec<InStream>,
    },
    DeadLetters {
        subscription: String,
        letters: Vec<Letter>,
    },
    /// The dead letters are given back, to come as if for the first time.
    Replay {
        subscription: String,
        done: Option<Replayed>,
    },
    /// Of a queue, by a client of Service Bus.
    Messages(Messages),
    /// Everything that this subscription still had was received and completed, and what it gave
    /// up on was copied; fails if that never comes.
    Drained {
        subscription: String,
    },
    /// State folded again from the logs; what is not the live one.
    Verify {
        differing: Vec<String>,
    },
    /// What the projection has of each stream.
    Rows {
        rows: Vec<Row>,
    },
    /// The server went away by `how` and came up again: leases of before are void. What it said of
    /// damage, and how long it took until it was ready, if that was waited for.
    Restart {
        how: String,
        damaged: Vec<String>,
        #[serde(default)]
        ready_us: Option<u64>,
    },
    /// The server stood still, and its clocks did not.
    Pause {
        ms: u64,
    },
    /// The wall clock of the server was put forward by so much, or back.
    Step {
        ms: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    pub value: String,
    pub kind: String,
    /// What is to keep its order where a subscription is ordered.
    #[serde(default)]
    pub key: String,
}

/// Where a subscription is of the store: the events of all streams.
pub const STORE: &str = "$store";

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub partition: u32,
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placed {
    At(Place),
    Refused,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub offset: u64,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    pub token: String,
    pub count: u32,
    #[serde(flatten)]
    pub place: Option<Place>,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Complete,
    Release,
    Reject,
    Renew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    Any,
    NoStream,
    Revision(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct To {
    pub first_revision: u64,
    pub last_revision: u64,
    pub last_position: u64,
    pub repeated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InStream {
    /// Where more than one is read.
    pub stream: Option<String>,
    pub revision: u64,
    pub position: u64,
    pub id: String,
}

/// A dead letter and the record it is a copy of, by its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub origin: String,
    /// [`EXPIRED`] or another.
    pub reason: Option<String>,
    pub value: String,
}

/// Nobody took it in time.
pub const EXPIRED: &str = "TimeToLiveExceeded";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub stream: String,
    pub events: u64,
    pub last: String,
}

/// One call: the indexes of its entries are its place in time.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub process: u64,
    pub invoked: usize,
    /// Past the end of the history if it never came back.
    pub ended: usize,
    pub invoked_at: u64,
    pub ended_at: u64,
    pub phase: Phase,
    /// As completed, else as invoked.
    pub op: &'a Op,
}

/// Pairs invocations with their ends, in the order of the invocations.
pub fn calls(history: &[Entry]) -> Vec<Call<'_>> {
    let mut calls: Vec<Call<'_>> = Vec::with_capacity(history.len() / 2);
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, entry) in history.iter().enumerate() {
        if entry.phase == Phase::Invoke {
            open.insert(entry.process, calls.len());
            calls.push(Call {
                process: entry.process,
                invoked: at,
                ended: usize::MAX,
                invoked_at: entry.time,
                ended_at: u64::MAX,
                phase: Phase::Info,
                op: &entry.op,
            });
        } else if let Some(call) = open.remove(&entry.process).map(|at| &mut calls[at]) {
            call.phase = entry.phase;
            call.ended = at;
            call.ended_at = entry.time;
            if entry.phase != Phase::Info {
                call.op = &entry.op;
            }
        }
    }
    calls
}

pub fn read(from: impl BufRead) -> io::Result<Vec<Entry>> {
    let parse = |(at, line): (usize, io::Result<String>)| {
        let entry = serde_json::from_str(&line?);
        entry.map_err(|error| io::Error::other(format!("line {}: {error}", at + 1)))
    };
    from.lines().enumerate().map(parse).collect()
}

pub fn write(history: &[Entry], mut to: impl Write) -> io::Result<()> {
    for entry in history {
        serde_json::to_writer(&mut to, entry)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_entry() {
        let entry = Entry {
            process: 3,
            time: 9,
            phase: Phase::Ok,
            op: Op::Trim {
                topic: "a".into(),
                partition: 1,
                before: 7,
            },
        };
        let mut lines = Vec::new();
        write(std::slice::from_ref(&entry), &mut lines).unwrap();
        let text = r#"{"process":3,"time":9,"type":"ok","f":"trim","value":{"topic":"a","partition":1,"before":7}}"#;
        assert_eq!(String::from_utf8_lossy(&lines).trim(), text);
        assert_eq!(read(&lines[..]).unwrap(), [entry]);
        let broken = read(&b"{}\n"[..]).unwrap_err();
        assert!(broken.to_string().starts_with("line 1: "), "{broken}");
    }

    /// Nor does whoever wrote it before there was more to know.
    #[test]
    fn who_is_outside_need_not_tell_what_he_cannot_know() {
        let ops = [
            r#"{"f":"subscribe","value":{"subscription":"t/s","topic":"t","kind":null,"lock_ms":9,"max_deliveries":3}}"#,
            r#"{"f":"publish","value":{"topic":"t","values":[{"value":"a","kind":"k"}],"placed":[{"at":{"partition":0,"offset":7}},"unknown"]}}"#,
            r#"{"f":"read","value":{"topic":"t","partition":0,"end":null,"from":0,"next":8,"found":[{"offset":7,"value":"a"}]}}"#,
            r#"{"f":"receive","value":{"subscription":"t/s","deliveries":[{"token":"1-1-1","count":1,"value":"a"}]}}"#,
            r#"{"f":"settle","value":{"subscription":"t/s","token":"1-1-1","value":"a","how":"release","held":true}}"#,
            r#"{"f":"read_stream","value":{"stream":"s","events":[{"revision":0,"position":0,"id":"x"}]}}"#,
            r#"{"f":"dead_letters","value":{"subscription":"t/s","letters":[{"origin":"0-7","value":"a"}]}}"#,
            r#"{"f":"restart","value":{"how":"cut_xfs","damaged":[],"ready_us":null}}"#,
        ];
        for op in ops {
            let line = format!(r#"{{"process":1,"time":2,"type":"ok",{}"#, &op[1..]);
            let read = read(line.as_bytes());
            assert!(read.is_ok(), "{line}: {read:?}");
        }
    }
}
