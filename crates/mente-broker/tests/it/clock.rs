//! A clock that stands still until it is moved.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::oneshot;
use mente_engine::{Clock, Now, Timestamp};

#[derive(Clone, Default)]
pub(crate) struct HandClock(Arc<Mutex<HandTime>>);

#[derive(Default)]
struct HandTime {
    now: Duration,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        let now = self.0.lock().unwrap().now;
        Now {
            monotone: now,
            wall: Timestamp(now.as_millis() as i64),
        }
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut time = self.0.lock().unwrap();
        let (wake, woken) = oneshot::channel();
        if at > time.now {
            time.sleepers.push((at, wake));
        }
        Box::pin(async {
            // Dropping the waker's end wakes as well.
            let _ = woken.await;
        })
    }
}

impl HandClock {
    pub(crate) fn pass(&self, delay: Duration) {
        let mut time = self.0.lock().unwrap();
        time.now += delay;
        let now = time.now;
        for (_, wake) in time.sleepers.extract_if(.., |(at, _)| *at <= now) {
            // A sleeper that was dropped needs no call.
            let _ = wake.send(());
        }
    }
}
