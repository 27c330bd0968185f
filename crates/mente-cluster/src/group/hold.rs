//! What the task of a membership and those who ask it share: how long things are ours for
//! certain, and what has been said but not heard.
//!
//! Two things can make Kafka's group give away what is ours, and each has its own clock. The
//! coordinator drops a member that it has not heard of for the session time-out. And it ends
//! a rebalance without those who have not joined, or not synced, within the rebalance
//! time-out, though their hearts beat: a static member then still is one, but the leader
//! reads its last card, which may not name what it got since. A rebalance that we have not
//! joined cannot have begun before the last proof that the group was settled with us, or
//! that it had our present card; from there runs the second clock.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot};

use super::{Assignment, Change};
use crate::limits;

/// A moment on both clocks: the monotone one stands still while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    at: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The larger of both clocks' opinions. One that was set back has none.
    fn until(self, later: Self) -> Duration {
        let wall = later.wall.duration_since(self.wall).unwrap_or_default();
        later.at.saturating_duration_since(self.at).max(wall)
    }
}

/// When the requests were sent whose answers prove something.
#[derive(Clone, Copy, Debug)]
struct Proof {
    /// That we are a member.
    member: Moment,
    /// That the group was settled with us, or has our present card.
    known: Moment,
}

impl Proof {
    fn left(&self, now: Moment) -> Duration {
        let session = limits::SESSION.saturating_sub(self.member.until(now));
        session.min(limits::REBALANCE.saturating_sub(self.known.until(now)))
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Debug, Default)]
struct State {
    proof: Option<Proof>,
    /// Said in this order. What a later one says replaces what nobody has heard yet, so a
    /// listener that sleeps makes nothing grow.
    lost: bool,
    revoked: Option<(BTreeSet<u32>, oneshot::Sender<()>)>,
    assigned: Option<Arc<Assignment>>,
    /// That all is lost was heard last; what was done about it is known with the next question.
    mourning: bool,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while this is held")
    }

    /// `None` also before the listener knows that what it thinks it has is lost.
    pub(super) fn until(&self) -> Option<Instant> {
        let state = self.state();
        let proof = state
            .proof
            .filter(|_| !state.lost && !state.mourning && !state.ended)?;
        let now = Moment::now();
        let left = proof.left(now);
        (!left.is_zero()).then(|| now.at + left)
    }

    /// Returns once nothing is certain any more; never while there is nothing.
    pub(super) async fn lapsed(&self) {
        loop {
            let left = self.state().proof.map(|proof| proof.left(Moment::now()));
            match left {
                Some(Duration::ZERO) => return,
                // Not all at once: the wall clock may run ahead.
                left => tokio::time::sleep(left.unwrap_or(limits::BEAT).min(limits::BEAT)).await,
            }
        }
    }

    /// Answered: we are a member, and with `settled` the group is at rest with us.
    pub(super) fn beaten(&self, sent: Moment, settled: bool) {
        // What has lapsed stays so: that it did is about to be told.
        if let Some(proof) = &mut self.state().proof
            && !proof.left(Moment::now()).is_zero()
        {
            proof.member = sent;
            if settled {
                proof.known = sent;
            }
        }
    }

    /// Answered: the group is settled, and we have what it gave us.
    pub(super) fn synced(&self, sent: Moment) {
        self.state().proof = Some(Proof {
            member: sent,
            known: sent,
        });
    }

    pub(super) fn assign(&self, assignment: Arc<Assignment>) {
        self.state().assigned = Some(assignment);
        self.told.notify_one();
    }

    pub(super) fn revoke(&self, mut shards: BTreeSet<u32>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.state();
        // Nobody waits any more for an earlier one that was not heard.
        if let Some((earlier, _)) = state.revoked.take() {
            shards.extend(earlier);
        }
        state.revoked = Some((shards, done));
        drop(state);
        self.told.notify_one();
        receiver
    }

    /// Nothing is ours; `tell` unless nothing was.
    pub(super) fn lose(&self, tell: bool) {
        let mut state = self.state();
        state.proof = None;
        if tell {
            (state.revoked, state.assigned) = (None, None);
            state.lost = true;
        }
        drop(state);
        self.told.notify_one();
    }

    pub(super) fn end(&self) {
        self.state().ended = true;
        self.told.notify_one();
    }

    pub(super) async fn next(&self) -> Option<Change> {
        self.state().mourning = false;
        loop {
            {
                let mut state = self.state();
                if std::mem::take(&mut state.lost) {
                    state.mourning = true;
                    return Some(Change::Lost);
                }
                if let Some((shards, done)) = state.revoked.take() {
                    return Some(Change::Revoked { shards, done });
                }
                if let Some(assignment) = state.assigned.take() {
                    return Some(Change::Assigned(assignment));
                }
                if state.ended {
                    return None;
                }
            }
            self.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Moment, monotone: u64, wall: u64) -> Moment {
        Moment {
            at: start.at + Duration::from_secs(monotone),
            wall: start.wall + Duration::from_secs(wall),
        }
    }

    #[test]
    fn the_faster_clock_counts_and_one_set_back_does_not() {
        let start = after(Moment::now(), 0, 100);
        let proof = Proof {
            member: start,
            known: start,
        };
        let left = |monotone, wall| proof.left(after(start, monotone, wall)).as_secs();
        assert_eq!((left(1, 1), left(1, 4), left(4, 1)), (5, 2, 2));
        assert_eq!((left(0, 7), left(7, 0)), (0, 0));
        let back = Moment {
            at: start.at + Duration::from_secs(1),
            wall: start.wall - Duration::from_secs(50),
        };
        assert_eq!(proof.left(back).as_secs(), 5);
    }

    #[test]
    fn heartbeats_alone_do_not_carry_over_a_rebalance() {
        let start = Moment::now();
        let proof = Proof {
            member: after(start, 9, 9),
            known: start,
        };
        assert_eq!(proof.left(after(start, 9, 9)).as_secs(), 1);
        assert_eq!(proof.left(after(start, 10, 10)), Duration::ZERO);
    }

    #[tokio::test]
    async fn nothing_is_held_until_a_loss_has_been_heard() {
        let shared = Shared::default();
        assert_eq!(shared.until(), None);
        shared.synced(Moment::now());
        assert!(shared.until().is_some());
        let assignment = Arc::new(Assignment {
            generation: 1,
            nodes: Vec::new(),
        });
        shared.assign(Arc::clone(&assignment));
        shared.lose(true);
        shared.synced(Moment::now());
        shared.assign(assignment);
        assert_eq!(shared.until(), None);
        assert!(matches!(shared.next().await, Some(Change::Lost)));
        assert_eq!(shared.until(), None, "what is done about it is not known");
        assert!(matches!(shared.next().await, Some(Change::Assigned(_))));
        assert!(shared.until().is_some());
        shared.end();
        assert!(shared.until().is_none() && shared.next().await.is_none());
    }

    #[tokio::test]
    async fn what_was_not_heard_is_gathered() {
        let shared = Shared::default();
        let first = shared.revoke([1].into());
        let second = shared.revoke([2].into());
        let Some(Change::Revoked { shards, done }) = shared.next().await else {
            panic!("revoked");
        };
        assert_eq!(shards, [1, 2].into());
        assert!(done.send(()).is_ok() && second.await.is_ok() && first.await.is_err());
    }
}
