//! The histories of the clients: each writes a file of its own, in the shape of
//! [`mente_sim::history`]. `time` is in nanoseconds on one monotone clock.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use mente_sim::history::{self, Entry, Op, Phase};

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
        let mut line = Vec::new();
        history::write(&[entry], &mut line)?;
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
        let entries = history::read(BufReader::new(File::open(&path)?));
        history.extend(entries.with_context(|| format!("cannot read {}", path.display()))?);
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
        let phases: Vec<_> = history.iter().map(|entry| entry.phase).collect();
        let (begun, ended) = (Phase::Invoke, Phase::Ok);
        assert_eq!(phases, [begun, begun, ended, Phase::Info]);
    }
}
