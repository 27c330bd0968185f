//! What clients did and were told: one line of JSON per `invoke`, `ok`, `fail` (certainly not done)
//! and `info` (perhaps done), written by the client that it happened to, into a file of its own.
//!
//! ```json
//! {"process":3,"time":1500000,"type":"invoke","f":"settle","value":{"subscription":"…",…}}
//! ```
//! `time` is in nanoseconds on one monotone clock. A process has one call under way at a time;
//! answers fill the fields that the invocation left empty.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) process: u64,
    pub(super) time: u64,
    #[serde(rename = "type")]
    pub(super) phase: Phase,
    #[serde(flatten)]
    pub(super) op: Op,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Invoke,
    Ok,
    Fail,
    Info,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "snake_case")]
pub(super) enum Op {
    /// Begins at the start of its topic; one type of events, or all.
    Subscribe {
        subscription: String,
        topic: String,
        kind: Option<String>,
        lock_ms: u64,
        max_deliveries: u32,
    },
    /// Values are unique in the whole history, and each is sent once.
    Publish {
        topic: String,
        values: Vec<Sent>,
        placed: Vec<Placed>,
    },
    /// Everything in `from..next`. Nothing lies at or behind `end`, where that was asked.
    Read {
        topic: String,
        partition: u32,
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
    /// The whole stream.
    ReadStream {
        stream: String,
        events: Vec<InStream>,
    },
    DeadLetters {
        subscription: String,
        letters: Vec<Letter>,
    },
    /// Nothing is left in this subscription.
    Drained { subscription: String },
    /// State folded again from the logs; what is not the live one.
    Verify { differing: Vec<String> },
    /// What the projection has of each stream.
    Rows { rows: Vec<Row> },
    /// The server went away by `how` and was started again. What it said of damage, and how long
    /// it took until it was ready, if that was waited for.
    Restart {
        how: Fault,
        damaged: Vec<String>,
        ready_us: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) value: String,
    pub(super) kind: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Placed {
    At { partition: u32, offset: u64 },
    Refused,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delivered {
    pub(super) token: String,
    pub(super) count: u32,
    pub(super) value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    Complete,
    Release,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Expect {
    Any,
    NoStream,
    Revision(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct To {
    pub(super) first_revision: u64,
    pub(super) last_revision: u64,
    pub(super) last_position: u64,
    pub(super) repeated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InStream {
    pub(super) revision: u64,
    pub(super) position: u64,
    pub(super) id: String,
}

/// A dead letter and the record it is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) origin: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) stream: String,
    pub(super) events: u64,
    pub(super) last: String,
}

/// How a server went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fault {
    Kill,
    CutExt4,
    CutXfs,
}

/// One call: its place in time are the indexes of its entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) invoked: usize,
    /// Past the end of the history if it never came back.
    pub(super) ended: usize,
    pub(super) phase: Phase,
    /// As completed, else as invoked.
    pub(super) op: &'a Op,
}

/// Pairs invocations with their ends, in the order of the invocations.
pub(super) fn calls(history: &[Entry]) -> Vec<Call<'_>> {
    let mut calls: Vec<Call<'_>> = Vec::with_capacity(history.len() / 2);
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, entry) in history.iter().enumerate() {
        if entry.phase == Phase::Invoke {
            open.insert(entry.process, calls.len());
            calls.push(Call {
                invoked: at,
                ended: usize::MAX,
                phase: Phase::Info,
                op: &entry.op,
            });
        } else if let Some(call) = open.remove(&entry.process).map(|at| &mut calls[at]) {
            call.phase = entry.phase;
            call.ended = at;
            if entry.phase == Phase::Ok {
                call.op = &entry.op;
            }
        }
    }
    calls
}

/// The file of one client; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Diary {
    file: Arc<Mutex<File>>,
    since: Instant,
    pub(super) process: u64,
}

impl Diary {
    pub(super) fn create(folder: &Path, process: u64, name: &str, since: Instant) -> Result<Self> {
        let path = folder.join(format!("{process:05}-{name}.jsonl"));
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
            since,
            process,
        })
    }

    /// The same file, as the `lane`-th hand of its client: a hand has one call at a time.
    pub(super) fn lane(&self, lane: usize) -> Self {
        Self {
            process: self.process + lane as u64,
            ..self.clone()
        }
    }

    pub(super) fn note(&self, phase: Phase, op: &Op) -> Result<()> {
        let time = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let entry = Entry {
            process: self.process,
            time,
            phase,
            op: op.clone(),
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).context("cannot write the history")
    }

    /// What began and ended at once.
    pub(super) fn tell(&self, op: &Op) -> Result<()> {
        self.note(Phase::Invoke, op)?;
        self.note(Phase::Ok, op)
    }
}

/// Everybody's files of one folder, in the order of time.
pub(super) fn read(folder: &Path) -> Result<Vec<Entry>> {
    let shown = folder.display();
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    let mut history = Vec::new();
    for file in listed {
        let path = file?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        for (at, line) in BufReader::new(File::open(&path)?).lines().enumerate() {
            let entry = serde_json::from_str(&line?);
            history.push(entry.with_context(|| format!("{} line {}", path.display(), at + 1))?);
        }
    }
    // Stable: what one client wrote stays in its order.
    history.sort_by_key(|entry: &Entry| entry.time);
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_the_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let since = Instant::now();
        let diary = |process| Diary::create(folder.path(), process, "test", since).unwrap();
        let (one, two) = (diary(1), diary(2));
        let drained = |name: &str| Op::Drained {
            subscription: name.into(),
        };
        two.note(Phase::Invoke, &drained("b")).unwrap();
        one.tell(&drained("a")).unwrap();
        two.note(Phase::Info, &drained("b")).unwrap();
        let history = read(folder.path()).unwrap();
        let processes: Vec<_> = history.iter().map(|entry| entry.process).collect();
        assert_eq!(processes, [2, 1, 1, 2]);
        let calls = calls(&history);
        assert_eq!((calls[0].phase, calls[1].phase), (Phase::Info, Phase::Ok));
        let line = serde_json::to_string(&history[1].op).unwrap();
        assert_eq!(line, r#"{"f":"drained","value":{"subscription":"a"}}"#);
    }
}
