//! Time is handed in, never read inside: machines see a [`Now`], the runtime asks a [`Clock`].

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Milliseconds since the Unix epoch, as Kafka's batches have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// One moment on both clocks. Leases run on `monotone`; time to live, schedules and retries
/// on `wall`, which may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the process started.
    pub monotone: Duration,
    pub wall: Timestamp,
}

impl Timestamp {
    pub fn plus(self, delay: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How long from `earlier` to here; zero if the clock went back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Where a runtime gets its time from.
pub trait Clock: Send + Sync {
    fn now(&self) -> Now;
    /// Resolves once `now().monotone >= at`.
    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
