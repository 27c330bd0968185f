//! How far projections are behind, for those who watch them.

use std::sync::Arc;
use std::time::Duration;

use mente_engine::Clock;

use super::board::Board;
use super::source::Reader;
use super::status::{PartitionStatus, State};
use super::{Held, Projections};

/// Whoever asks more often is told the same again: it is asked of every partition of every source.
const TOLD_FOR: Duration = Duration::from_secs(1);

/// What a monitor is told of one projection.
#[derive(Clone, Debug)]
pub struct Gauge {
    pub name: String,
    /// Offsets, as in its status.
    pub lag: u64,
    pub lag_seconds: Option<f64>,
    pub parked: Held,
    pub is_failed: bool,
}

/// What was told, and until when on the monotone clock.
#[derive(Debug)]
pub(super) struct Told {
    until: Duration,
    gauges: Arc<Vec<Gauge>>,
}

impl Projections {
    /// Of every projection that is declared, in the order of their names; up to a second old.
    pub async fn gauges(&self) -> Arc<Vec<Gauge>> {
        let now = self.inner.broker.clock().now().monotone;
        let mut told = self.inner.gauges.lock().await;
        if let Some(told) = told.as_ref().filter(|told| now < told.until) {
            return Arc::clone(&told.gauges);
        }
        let who = &self.inner.who;
        let mut gauges = Vec::new();
        for (name, _) in self.list(who).unwrap_or_default() {
            // One that was removed meanwhile has none.
            let Ok(status) = self.status(who, &name).await else {
                continue;
            };
            gauges.push(Gauge {
                name: status.name,
                lag: status.lag,
                lag_seconds: status.lag_seconds,
                parked: status.parked.unwrap_or_default(),
                is_failed: status.state == State::Failed,
            });
        }
        let gauges = Arc::new(gauges);
        *told = Some(Told {
            until: now + TOLD_FOR,
            gauges: Arc::clone(&gauges),
        });
        gauges
    }
}

/// The age of the oldest event that is not in the rows. What was read of a partition is kept until the rows
/// get on, so a projection that stands still costs no read each time.
pub(super) async fn seconds(
    reader: &Reader,
    board: &Board,
    partitions: &[PartitionStatus],
    clock: Arc<dyn Clock>,
) -> Option<f64> {
    let mut oldest = None;
    for behind in partitions.iter().filter(|p| p.end > p.next_offset) {
        let PartitionStatus {
            partition,
            next_offset,
            ..
        } = *behind;
        let time = match board.oldest(partition, next_offset) {
            Some(time) => Some(time),
            None => reader.appended(partition, next_offset).await.ok()?,
        };
        // There may be offsets and no event.
        let Some(time) = time else { continue };
        board.note_oldest(partition, next_offset, time);
        oldest = Some(oldest.map_or(time, |known| time.min(known)));
    }
    let now = clock.now().wall;
    Some(oldest.map_or(0.0, |time| now.since(time).as_secs_f64()))
}
