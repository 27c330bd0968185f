//! Who appends: so many under way at one time, or so many a second whatever the answers do.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::executor::block_on;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use mente_engine::Batch;
use mente_engine::conformance::batch;

use super::cases::Case;

/// Appends that wait for an answer, where the answers set the pace.
const UNDER_WAY: usize = 64;
/// The most where they do not; beyond it a late one waits, and that counts.
const UNDER_WAY_MAX: usize = 20_000;
/// Appends that are due are sent so often.
const TICK: Duration = Duration::from_millis(1);

pub(crate) trait Append: Sync {
    /// Answers once the batch is durable in that log.
    fn append(&self, log: usize, batch: Batch) -> BoxFuture<'static, ()>;

    /// Until told otherwise what is written only makes up the state to start from.
    fn fill(&self, _filling: bool) {}
}

pub(crate) struct Load {
    logs: usize,
    skewed: bool,
    pace: Option<u64>,
    batch: Batch,
    random: Cell<u64>,
}

impl Load {
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            logs: case.logs,
            skewed: case.skewed,
            pace: case.pace,
            batch: batch(&[&"x".repeat(case.batch_bytes)]),
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// A log (xorshift, so that every shape gets the same ones).
    fn log(&self) -> usize {
        let mut random = self.random.get();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        self.random.set(random);
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let part = if self.skewed { part.powi(6) } else { part };
        (self.logs as f64 * part) as usize
    }

    /// Writes so many bytes, as fast as it goes.
    pub(crate) fn write(&self, shape: &dyn Append, bytes: u64) {
        let count = bytes.div_ceil(self.batch.size() as u64) as usize;
        let appends = stream::repeat_with(|| shape.append(self.log(), self.batch.clone()));
        block_on(appends.take(count).buffer_unordered(UNDER_WAY).count());
    }

    /// The time of each append, in nanoseconds.
    pub(crate) fn run(&self, shape: &dyn Append, time: Duration) -> Vec<u32> {
        match self.pace {
            None => self.run_answered(shape, time),
            Some(pace) => self.run_paced(shape, time, pace),
        }
    }

    fn run_answered(&self, shape: &dyn Append, time: Duration) -> Vec<u32> {
        let end = Instant::now() + time;
        let appends = stream::repeat_with(|| {
            let start = Instant::now();
            timed(start, shape.append(self.log(), self.batch.clone()))
        });
        let until_end = appends.take_while(|_| std::future::ready(Instant::now() < end));
        block_on(until_end.buffer_unordered(UNDER_WAY).collect())
    }

    /// Times count from when an append was due, so that a pause hides none behind it.
    fn run_paced(&self, shape: &dyn Append, time: Duration, pace: u64) -> Vec<u32> {
        let gap = Duration::from_secs_f64(self.batch.size() as f64 / pace as f64);
        let count = (time.as_secs_f64() / gap.as_secs_f64()) as u32;
        let (sender, sent) = mpsc::unbounded();
        thread::scope(|scope| {
            let answers = scope.spawn(move || {
                let timed = sent.map(|(due, answer)| timed(due, answer));
                block_on(timed.buffer_unordered(UNDER_WAY_MAX).collect())
            });
            let start = Instant::now();
            for number in 0..count {
                let due = start + gap * number;
                while Instant::now() < due {
                    thread::sleep(TICK);
                }
                let answer = shape.append(self.log(), self.batch.clone());
                sender
                    .unbounded_send((due, answer))
                    .expect("the other end lives");
            }
            drop(sender);
            answers.join().expect("the answers' thread")
        })
    }
}

async fn timed(start: Instant, answer: BoxFuture<'static, ()>) -> u32 {
    answer.await;
    u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX)
}
