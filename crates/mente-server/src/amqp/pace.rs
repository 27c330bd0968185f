//! How fast the data of large messages goes through the log, of all clients together: whoever sends a small one
//! meanwhile waits for the same disk and the same processors.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

/// A message of 100 MB takes 5 s.
const BYTES_A_SECOND: f64 = (20 << 20) as f64;
/// A log that is slow has rest between two pieces, so many times as long as it took for one,
const REST: u32 = 3;
/// but goes on at such a part of the pace, at least.
const SLOWEST: u32 = 4;
/// What is late, since sleepers wake up late, may come this much sooner afterwards.
const CATCH_UP: Duration = Duration::from_millis(2);

/// Gives turns, in the order in which they are asked for.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the next turn may begin.
    next: Mutex<Instant>,
}

/// Of one piece, until it is dropped.
pub(super) struct Turn<'a> {
    next: MutexGuard<'a, Instant>,
    began: Instant,
    bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            next: Mutex::new(Instant::now()),
        }
    }
}

impl Pace {
    pub(super) async fn turn(&self, bytes: usize) -> Turn<'_> {
        let mut next = self.next.lock().await;
        let now = Instant::now();
        *next = now.checked_sub(CATCH_UP).unwrap_or(now).max(*next);
        sleep_until(*next).await;
        Turn {
            next,
            began: Instant::now(),
            bytes,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let even = Duration::from_secs_f64(self.bytes as f64 / BYTES_A_SECOND);
        let rested = self.began.elapsed() * (1 + REST);
        *self.next += rested.clamp(even, even * SLOWEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn all_pieces_together_keep_the_pace() {
        let (pace, began) = (Pace::default(), Instant::now());
        let turns = (0..21).map(|_| async { drop(pace.turn(PIECE).await) });
        futures::future::join_all(turns).await;
        let took = began.elapsed();
        let second = Duration::from_secs(1);
        assert!(
            (second - CATCH_UP..second + CATCH_UP).contains(&took),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_log_has_rest_and_a_stuck_one_is_not_left_for_ever() {
        let pace = Pace::default();
        for (takes_ms, until_next_ms) in [(20, 80), (1_000, 1_000), (30, 120)] {
            let turn = pace.turn(PIECE).await;
            let began = Instant::now();
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
            drop(turn);
            drop(pace.turn(0).await);
            let waited = began.elapsed().as_millis();
            assert!(
                waited.abs_diff(until_next_ms) <= 2 + CATCH_UP.as_millis(),
                "{waited}"
            );
        }
    }
}
