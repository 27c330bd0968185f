//! A broker in memory, for tests of what stands in front of it. Its time stands still.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mente_broker::{Broker, Options};
use mente_engine::memory::MemoryEngine;
use mente_engine::{Clock, Now, Timestamp};

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Now {
        Now {
            monotone: Duration::ZERO,
            wall: Timestamp(0),
        }
    }

    fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

/// Its shards run until the test ends.
pub(crate) async fn broker() -> Broker {
    let engine = Arc::new(MemoryEngine::new(1));
    let opened = Broker::open(engine, Arc::new(StoppedClock), Options::default());
    let (broker, shards) = opened.await.unwrap();
    for shard in shards {
        tokio::spawn(shard);
    }
    broker
}
