//! Receive calls between nodes whose answer nobody heard, as where a client drains its link while the answer is on its
//! way: what was locked for them goes back, and before the same node receives anything behind them.
//!
//! ```text
//! asker   Receive 7 ──▶        (dropped)      Receive 8, unheard: 7 ──▶
//! owner          locks for 7 ──▶ nobody              gives back what 7 has, locks for 8
//! ```
//! The owner may hear of it before the call itself, or while it is being answered: then that gets nothing, and what comes
//! behind waits until its answer is given up. Numbers are kept by their count alone, since
//! one that is given back too late does nothing: what it had has run out.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;
use serde::{Deserialize, Serialize};

use crate::name::SubscriptionName;
use crate::queue::LockToken;

/// Calls of each kind that are remembered: many times those that go on within the time of one question.
const KEPT: usize = 1_024;
/// Named by one question.
const NAMED: usize = 32;

/// A receive call, by a number that no other has, of this node or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CallId(u64, u64);

/// What the owner locked for a call of another node.
#[derive(Debug)]
pub(super) struct Handed {
    call: CallId,
    pub(super) shard: usize,
    pub(super) name: SubscriptionName,
    pub(super) tokens: Vec<LockToken>,
}

#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    begun: u64,
    /// Tells this node's calls from all others'.
    own: Option<u64>,
    /// Dropped here; their owner may not know of it.
    dropped: VecDeque<(SubscriptionName, CallId)>,
    /// Being answered for others.
    answering: BTreeMap<CallId, Answering>,
    /// Answered for others.
    handed: VecDeque<Handed>,
    /// Dropped by others before they were answered.
    void: VecDeque<CallId>,
}

#[derive(Debug)]
struct Answering {
    /// Dropped, the answer is given up.
    stop: Option<oneshot::Sender<()>>,
    ended: Ended,
}

/// The answer to a call is over: nothing more is locked for it than what was handed.
type Ended = Shared<oneshot::Receiver<()>>;

/// A call while it is being answered.
pub(super) struct Going<'a> {
    unheard: &'a Unheard,
    call: CallId,
    pub(super) stopped: oneshot::Receiver<()>,
    _end: oneshot::Sender<()>,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.unheard.lock().answering.remove(&self.call);
    }
}

fn push<T>(to: &mut VecDeque<T>, new: T) {
    if to.len() == KEPT {
        to.pop_front();
    }
    to.push_back(new);
}

impl Unheard {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().expect("no panic while calls are looked up")
    }

    pub(super) fn begin(&self) -> CallId {
        let mut calls = self.lock();
        calls.begun += 1;
        let own = *calls
            .own
            .get_or_insert_with(|| RandomState::new().hash_one(()));
        CallId(own, calls.begun)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn drop_call(&self, name: &SubscriptionName, call: CallId) {
        push(&mut self.lock().dropped, (name.clone(), call));
    }

    /// Those on a view that its owner is to be told of.
    pub(super) fn of(&self, name: &SubscriptionName) -> Vec<CallId> {
        let calls = self.lock();
        let of = calls.dropped.iter().rev().filter(|(view, _)| view == name);
        of.map(|(_, call)| *call).take(NAMED).collect()
    }

    /// The owner knows of them.
    pub(super) fn told(&self, told: &[CallId]) {
        if !told.is_empty() {
            let mut calls = self.lock();
            calls.dropped.retain(|(_, call)| !told.contains(call));
        }
    }

    /// Another node dropped a call: what it was handed is given back before anybody else looks, and where it is being
    /// answered still, that ends.
    pub(super) fn take_back(&self, call: CallId, give_back: impl FnOnce(Handed)) -> Option<Ended> {
        let mut calls = self.lock();
        if let Some(at) = calls.handed.iter().position(|handed| handed.call == call) {
            calls.handed.remove(at).map(give_back);
        } else if !calls.void.contains(&call) {
            push(&mut calls.void, call);
        }
        let answering = calls.answering.get_mut(&call)?;
        answering.stop = None;
        Some(answering.ended.clone())
    }

    /// A call of another node is about to be answered; none if it was dropped already.
    pub(super) fn answer(&self, call: CallId) -> Option<Going<'_>> {
        let mut calls = self.lock();
        if calls.void.contains(&call) {
            return None;
        }
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let answering = Answering {
            stop: Some(stop),
            ended: ended.shared(),
        };
        calls.answering.insert(call, answering);
        Some(Going {
            unheard: self,
            call,
            stopped,
            _end: end,
        })
    }

    /// Whether the answer may go: not if the call was dropped meanwhile.
    pub(super) fn hand(
        &self,
        call: CallId,
        shard: usize,
        name: &SubscriptionName,
        tokens: Vec<LockToken>,
    ) -> bool {
        let mut calls = self.lock();
        if calls.void.contains(&call) {
            return false;
        }
        let handed = Handed {
            call,
            shard,
            name: name.clone(),
            tokens,
        };
        push(&mut calls.handed, handed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::EntityName;

    #[test]
    fn what_was_handed_goes_back_once_and_a_call_that_comes_late_gets_nothing() {
        let (asker, owner) = (Unheard::default(), Unheard::default());
        let [orders, news] =
            ["orders", "news"].map(|name| SubscriptionName::queue(EntityName::new(name).unwrap()));
        let [first, second, third] = [(); 3].map(|()| asker.begin());
        assert!(first != second && first != owner.begin());
        let going = owner.answer(first);
        assert!(owner.hand(first, 3, &orders, Vec::new()));
        drop(going);
        for (name, call) in [(&orders, first), (&news, second), (&orders, third)] {
            asker.drop_call(name, call);
        }
        let told = asker.of(&orders);
        assert_eq!(told, [third, first]);
        let mut back = Vec::new();
        for call in [told[0], told[1], first] {
            let ended = owner.take_back(call, |handed| back.push(handed.shard));
            assert!(ended.is_none());
        }
        assert_eq!(back, [3]);
        assert!(owner.answer(third).is_none() && !owner.hand(third, 3, &orders, Vec::new()));
        asker.told(&told);
        assert_eq!((asker.of(&orders), asker.of(&news)), (vec![], vec![second]));
    }

    #[test]
    fn an_answer_that_nobody_wants_any_more_ends_before_the_next() {
        let owner = Unheard::default();
        let call = owner.begin();
        let mut going = owner.answer(call).unwrap();
        assert_eq!((&mut going.stopped).now_or_never(), None);
        let wait = || owner.take_back(call, |_| panic!("nothing was handed"));
        let both = [wait().unwrap(), wait().unwrap()];
        assert!((&mut going.stopped).now_or_never().is_some());
        assert!(
            both.iter()
                .all(|ended| ended.clone().now_or_never().is_none())
        );
        drop(going);
        assert!(both.into_iter().all(|ended| ended.now_or_never().is_some()));
        assert!(wait().is_none());
    }
}
