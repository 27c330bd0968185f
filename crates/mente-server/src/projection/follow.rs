//! Moves events from a source into a database.

use std::collections::BTreeMap;

use super::database::{Checkpoint, Checkpoints};
use super::rows::Rows;
use super::source::Reader;
use super::status::Failure;
use super::writer::{Alive, Progress, Writer};

pub(super) struct Follower {
    reader: Reader,
    /// What the log was when the database was opened.
    identity: String,
    writer: Writer,
    /// Where to read on, by partition; ahead of the checkpoint by what the writer has queued.
    cursors: BTreeMap<u32, u64>,
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until<'a> {
    Forever,
    /// Nothing more was there.
    CaughtUp,
    /// Exactly here, and no event further.
    Reached(&'a Checkpoints),
}

impl Follower {
    pub(super) fn start(
        reader: Reader,
        identity: String,
        database: Rows,
        progress: Progress,
        alive: Alive,
    ) -> Result<Self, Failure> {
        let next = |(partition, checkpoint): (&u32, &Checkpoint)| (*partition, checkpoint.next);
        let cursors = database.checkpoints().iter().map(next).collect();
        let writer = Writer::start(database, progress, alive)?;
        Ok(Self {
            reader,
            identity,
            writer,
            cursors,
        })
    }

    /// Refuses to go on from checkpoints that this log cannot have given: rows that know more than
    /// the log does, as after a restored backup, or that end with an event that lies elsewhere here.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let compared = self.compare().await;
        self.check_identity().await?;
        compared
    }

    async fn compare(&self) -> Result<(), Failure> {
        for (partition, checkpoint) in self.checkpoints() {
            let bounds = self.reader.bounds(partition).await?;
            let last = checkpoint.last.map_or(0, |last| last.offset + 1);
            let (next, end) = (checkpoint.next.max(last), bounds.end.0);
            if next > end {
                return Err(Failure::plain(format!(
                    "the rows are ahead of the log: they hold the events of partition {partition} up to \
                     offset {next}, and it ends at {end}. Is it an earlier or another one, such as a restored \
                     backup? Bring the right one back and say resume; or say rebuild, and the rows are built \
                     anew from this one"
                )));
            }
            let Some(last) = checkpoint.last.filter(|last| last.offset >= bounds.start.0) else {
                continue;
            };
            let batch = self.reader.read(partition, last.offset).await?;
            let same = batch.facts.iter().find(|fact| fact.offset.0 == last.offset);
            if same.is_some_and(|fact| fact.time != last.time) {
                return Err(Failure::plain(format!(
                    "the rows are of another log: the last event in them, at offset {} of partition \
                     {partition}, is another one here. Bring the right log back and say resume; or say \
                     rebuild, and the rows are built anew from this one",
                    last.offset
                )));
            }
        }
        Ok(())
    }

    pub(super) async fn follow(&mut self, until: Until<'_>) -> Result<(), Failure> {
        loop {
            self.check_identity().await?;
            let mut moved = false;
            for partition in 0..self.reader.partitions().await? {
                moved |= self.step(partition, until).await?;
            }
            let done = match until {
                Until::Forever => false,
                Until::CaughtUp => !moved,
                Until::Reached(targets) => targets
                    .iter()
                    .all(|(partition, target)| self.cursor(*partition) >= Some(target.next)),
            };
            if done {
                return Ok(());
            }
            if !moved {
                tokio::select! {
                    failure = self.writer.failed() => return Err(failure),
                    () = self.reader.grown(&self.cursors) => {}
                }
            }
        }
    }

    async fn check_identity(&self) -> Result<(), Failure> {
        if self.reader.identity().await? != self.identity {
            let message = "the source was deleted and made anew".to_owned();
            return Err(Failure::passing(message));
        }
        Ok(())
    }

    pub(super) fn checkpoints(&self) -> Checkpoints {
        self.writer.checkpoints()
    }

    /// Waits until all that was read is committed.
    pub(super) async fn finish(self) -> Result<Rows, Failure> {
        self.writer.finish().await
    }

    /// Reads a batch of one partition; tells whether there was one.
    async fn step(&mut self, partition: u32, until: Until<'_>) -> Result<bool, Failure> {
        let from = match self.cursor(partition) {
            Some(next) => next,
            None => match until {
                Until::Reached(targets) => targets.get(&partition).map_or(0, |target| target.first),
                _ => self.reader.bounds(partition).await?.start.0,
            },
        };
        let end = match until {
            Until::Reached(targets) => targets.get(&partition).map_or(0, |target| target.next),
            Until::Forever | Until::CaughtUp => u64::MAX,
        };
        if from >= end {
            self.cursors.entry(partition).or_insert(from);
            return Ok(false);
        }
        let mut batch = self.reader.read(partition, from).await?;
        batch.truncate(end);
        let next = batch.next;
        if next == from {
            self.cursors.insert(partition, next);
            return Ok(false);
        }
        // Whoever stops to wait here, and follows again, reads this batch again.
        self.writer.send(batch).await?;
        self.cursors.insert(partition, next);
        Ok(true)
    }

    fn cursor(&self, partition: u32) -> Option<u64> {
        self.cursors.get(&partition).copied()
    }
}
