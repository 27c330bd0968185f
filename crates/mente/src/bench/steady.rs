//! The row that lasts: a minute of batches, files retiring all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::load;
use super::report::Row;
use super::rows::{BATCH, Bench};
use super::usage;
use crate::client::Client;
use crate::demo::ask;

/// What the topic keeps, so that most of what is written in a minute goes again.
const RETENTION_BYTES: u64 = 1 << 30;
/// Between two looks at the pages that wait to be written.
const LOOK: Duration = Duration::from_millis(250);
/// Batches between two looks at the rate.
const SHOTS: usize = 2_000;

impl Bench {
    pub(super) async fn sustained(&self) -> Result<Row> {
        let client = Client::new(&self.server.url())?;
        let topic = json!({"partitions": 1, "retention_bytes": RETENTION_BYTES});
        ask(&client, "PUT", "/topics/sustained", &topic).await?;
        let shot = load::batch("/topics/sustained/events", BATCH);
        let pid = self.server.pid().context("the server has ended")?;
        let (cpu, written) = (self.cpu()?, usage::written_bytes(pid)?);
        let dirty = Dirty::watch();
        let (since, mut rounds) = (Instant::now(), Vec::new());
        while since.elapsed() < self.scale.sustained {
            let same = shot.clone();
            let round = load::fire(&self.server.url(), 8, SHOTS, move |_| same.clone()).await?;
            rounds.push((SHOTS * BATCH) as f64 / round.took.as_secs_f64());
        }
        let took = since.elapsed();
        let (first, second) = dirty.finish().await?;
        let events = rounds.len() * SHOTS * BATCH;
        let payload = (events * load::PAYLOAD_BYTES) as f64;
        let written = (usage::written_bytes(pid)? - written) as f64;
        let lowest = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let detail = format!(
            "batches of {BATCH} x 1 KB for {:.0} s, 1 GiB kept; slowest of {} rounds {lowest:.0}; at most {first} MiB of dirty pages in the first half, {second} in the second; {:.2} bytes to the disk for each of data; {}",
            took.as_secs_f64(),
            rounds.len(),
            written / payload,
            self.per_million(cpu, events)?
        );
        let rate = events as f64 / took.as_secs_f64();
        let mut row = Row::new("sustained", "events/s", rounds);
        row.median = rate;
        Ok(row.detail(detail).at_least(120_000.0))
    }
}

/// Looks at the machine's dirty pages until told to end.
struct Dirty {
    ended: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<Vec<u64>>>,
}

impl Dirty {
    fn watch() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                seen.push(usage::dirty_mib()?);
                tokio::time::sleep(LOOK).await;
            }
            Ok(seen)
        });
        Self { ended, task }
    }

    /// The most MiB in each half of the time.
    async fn finish(self) -> Result<(u64, u64)> {
        self.ended.store(true, Ordering::Relaxed);
        let seen = self.task.await??;
        let (first, second) = seen.split_at(seen.len() / 2);
        let most = |half: &[u64]| half.iter().copied().max().unwrap_or_default();
        Ok((most(first), most(second)))
    }
}
