//! What clients did and were told, in the order in which it happened: the only thing that
//! checkers see. One entry is one line of JSON, so that clients outside can write it too:
//!
//! ```json
//! {"process":3,"time":1500000,"type":"invoke","f":"settle","value":{"subscription":"orders/all",…}}
//! ```
//! `time` is in nanoseconds on one clock for all processes. A call is an `invoke` and, unless its
//! process ended, one of `ok`, `fail` (certainly not done) and `info` (perhaps done). Answers fill the
//! same fields that the invocation left empty.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

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
    Fail,
    Info,
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
        /// Records may go to the dead letters untried.
        expires: bool,
        /// One record of a key is out at a time.
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
    /// Reads everything in `from..next`; the log had these bounds then.
    Read {
        topic: String,
        partition: u32,
        start: u64,
        end: u64,
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
        held: bool,
    },
    Append {
        stream: String,
        expected: Expect,
        ids: Vec<String>,
        to: Option<To>,
    },
    /// The whole stream.
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
    /// Everything that this subscription still had was received and completed, and what it gave
    /// up on was copied.
    Drained {
        subscription: String,
    },
    /// State folded again from the logs; what is not the live one.
    Verify {
        differing: Vec<String>,
    },
    /// The server came up again: leases of before are void. What it said of damage.
    Restart {
        how: String,
        damaged: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    pub value: String,
    pub kind: String,
    /// What is to keep its order where a subscription is ordered.
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placed {
    At { partition: u32, offset: u64 },
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
    pub partition: u32,
    pub offset: u64,
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
    pub stream: String,
    pub revision: u64,
    pub position: u64,
    pub id: String,
}

/// A dead letter and the record it is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub origin: String,
    pub attempts: u32,
    pub value: String,
}

/// One call: the indexes of its entries are its place in time.
#[derive(Clone, Debug)]
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
    let mut open: std::collections::BTreeMap<u64, usize> = Default::default();
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
    let parse = |line: io::Result<String>| Ok(serde_json::from_str(&line?)?);
    from.lines().map(parse).collect()
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
    }
}
