//! Time that stands still until the world moves it. It goes on over restarts; the monotone clock
//! of a server begins anew with each.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::channel::oneshot;
use mente_engine::{Clock, Now, Timestamp};

/// Wall clock of the beginning.
const EPOCH_MS: i64 = 1_790_000_000_000;

/// Cheap to clone; clones share the time.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimClock(Arc<Mutex<Time>>);

#[derive(Debug, Default)]
struct Time {
    now: Duration,
    /// When this life of the server began.
    born: Duration,
    wall_off_ms: i64,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    next_sleeper: u64,
}

impl SimClock {
    fn lock(&self) -> MutexGuard<'_, Time> {
        self.0.lock().expect("no panic while time is held")
    }

    /// Since the beginning of the world.
    pub(crate) fn elapsed(&self) -> Duration {
        self.lock().now
    }

    /// A new process: nobody sleeps, the monotone clock is at zero, the wall clock has jumped.
    pub(crate) fn begin_life(&self, wall_jump_ms: i64) {
        let mut time = self.lock();
        time.sleepers.clear();
        time.born = time.now;
        time.wall_off_ms += wall_jump_ms;
    }

    pub(crate) fn pass(&self, delay: Duration) {
        let mut time = self.lock();
        time.now += delay;
        let now = time.now;
        while let Some(first) = time.sleepers.first_entry() {
            if first.key().0 > now {
                break;
            }
            // A sleeper that was dropped needs no call.
            let _ = first.remove().send(());
        }
    }

    /// Another clock that stands where this one does; nobody sleeps by it.
    pub(crate) fn fork(&self) -> Self {
        let time = self.lock();
        Self(Arc::new(Mutex::new(Time {
            now: time.now,
            born: time.born,
            wall_off_ms: time.wall_off_ms,
            ..Time::default()
        })))
    }

    /// To the moment for which somebody waits next; false if nobody does.
    pub(crate) fn jump(&self) -> bool {
        let mut time = self.lock();
        while let Some(first) = time.sleepers.first_entry() {
            if first.get().is_canceled() {
                first.remove();
                continue;
            }
            let delay = first.key().0.saturating_sub(time.now);
            drop(time);
            self.pass(delay);
            return true;
        }
        false
    }
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        let time = self.lock();
        let ms = time.now.as_millis() as i64;
        Now {
            monotone: time.now - time.born,
            wall: Timestamp(EPOCH_MS + ms + time.wall_off_ms),
        }
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut time = self.lock();
        let at = at + time.born;
        let (wake, woken) = oneshot::channel();
        if at > time.now {
            let number = time.next_sleeper;
            time.next_sleeper += 1;
            time.sleepers.insert((at, number), wake);
        }
        Box::pin(async {
            // Dropping the waker's end wakes as well.
            let _ = woken.await;
        })
    }
}
