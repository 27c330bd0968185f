//! Commands of one stream take turns, in the order in which they came.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};
use mente_engine::{Clock, limits};

use crate::error::{Error, Kind, Result};
use crate::name::StreamName;

/// A stream is in it while somebody has its turn.
#[derive(Default)]
pub(in crate::broker) struct Lanes {
    waiting: Mutex<BTreeMap<StreamName, VecDeque<oneshot::Sender<()>>>>,
}

/// A turn, or the wait for it; dropped it goes to whoever waits longest.
pub(super) struct Turn {
    lanes: Arc<Lanes>,
    stream: StreamName,
    /// `None` once the turn is here.
    told: Option<oneshot::Receiver<()>>,
}

impl Lanes {
    /// Waits for the turn of this stream until then.
    pub(super) async fn turn(
        self: &Arc<Self>,
        stream: &StreamName,
        clock: &dyn Clock,
        until: Duration,
    ) -> Result<Turn> {
        let mut turn = self.queue(stream)?;
        if let Some(told) = &mut turn.told {
            match select(told, clock.sleep_until(until)).await {
                Either::Left(_) => turn.told = None,
                Either::Right(_) => {
                    let message = format!("other commands for {stream} take long: send it again");
                    return Err(Error::new(Kind::Throttled, message));
                }
            }
        }
        Ok(turn)
    }

    fn queue(self: &Arc<Self>, stream: &StreamName) -> Result<Turn> {
        let mut lanes = self.lock();
        let told = match lanes.get_mut(stream) {
            None => {
                lanes.insert(stream.clone(), VecDeque::new());
                None
            }
            Some(waiting) => {
                waiting.retain(|waits| !waits.is_canceled());
                if waiting.len() >= limits::COMMANDS_WAITING {
                    let most = limits::COMMANDS_WAITING;
                    let message = format!("{most} commands wait for {stream}: send it again later");
                    return Err(Error::new(Kind::Throttled, message));
                }
                let (tell, told) = oneshot::channel();
                waiting.push_back(tell);
                Some(told)
            }
        };
        Ok(Turn {
            lanes: Arc::clone(self),
            stream: stream.clone(),
            told,
        })
    }

    fn pass_on(&self, stream: &StreamName) {
        let mut lanes = self.lock();
        let Some(waiting) = lanes.get_mut(stream) else {
            return;
        };
        while let Some(next) = waiting.pop_front() {
            // Who waited may be gone.
            if next.send(()).is_ok() {
                return;
            }
        }
        lanes.remove(stream);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamName, VecDeque<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let is_here = match &mut self.told {
            None => true,
            // It may have come just now, to one who waits no more.
            Some(told) => {
                told.close();
                matches!(told.try_recv(), Ok(Some(())))
            }
        };
        if is_here {
            self.lanes.pass_on(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Poll;

    use futures::FutureExt;
    use futures::executor::block_on;
    use mente_engine::{Now, Timestamp};

    use super::*;

    /// Seconds, as they are set; whoever sleeps must be polled to see it.
    #[derive(Clone, Default)]
    struct Hand(Arc<AtomicU64>);

    impl Clock for Hand {
        fn now(&self) -> Now {
            Now {
                monotone: Duration::from_secs(self.0.load(Ordering::Relaxed)),
                wall: Timestamp(0),
            }
        }

        fn sleep_until(&self, until: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let clock = self.clone();
            Box::pin(poll_fn(move |_| match clock.now().monotone >= until {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }))
        }
    }

    fn stream() -> StreamName {
        StreamName::new("order-1").unwrap()
    }

    #[test]
    fn turns_go_round_in_order_and_none_is_lost() {
        let (lanes, clock) = (Arc::<Lanes>::default(), Hand::default());
        let name = stream();
        let turn = || lanes.turn(&name, &clock, Duration::from_secs(30));
        let first = block_on(turn()).unwrap();
        let mut second = Box::pin(turn());
        let mut third = Box::pin(turn());
        let mut fourth = Box::pin(turn());
        for waits in [&mut second, &mut third, &mut fourth] {
            assert!(waits.now_or_never().is_none());
        }
        drop(first);
        // The second one is told and leaves before it looks; so the third one is next, then the fourth.
        drop(second);
        let third = third.now_or_never().unwrap().unwrap();
        assert!((&mut fourth).now_or_never().is_none());
        drop(third);
        drop(fourth.now_or_never().unwrap().unwrap());
        assert!(lanes.lock().is_empty());
    }

    #[test]
    fn who_waits_is_bounded_in_number_and_time() {
        let (lanes, clock) = (Arc::<Lanes>::default(), Hand::default());
        let name = stream();
        let first = block_on(lanes.turn(&name, &clock, Duration::from_secs(30))).unwrap();
        let wait = || Box::pin(lanes.turn(&name, &clock, Duration::from_secs(30)));
        let mut waiting: Vec<_> = (0..limits::COMMANDS_WAITING).map(|_| wait()).collect();
        assert!(
            waiting
                .iter_mut()
                .all(|waits| waits.now_or_never().is_none())
        );
        let kind = |refused: Option<Result<Turn>>| refused.unwrap().err().unwrap().kind;
        assert_eq!(kind(wait().now_or_never()), Kind::Throttled);
        waiting.pop();
        assert!((&mut wait()).now_or_never().is_none());
        clock.0.store(31, Ordering::Relaxed);
        let refused = waiting.into_iter().map(|waits| kind(waits.now_or_never()));
        assert!(refused.into_iter().all(|kind| kind == Kind::Throttled));
        drop(first);
        assert!(lanes.lock().is_empty());
    }
}
