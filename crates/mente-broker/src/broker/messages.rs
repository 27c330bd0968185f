//! Messages in queue views, as queue clients know them: sent, taken under locks or at once, settled, peeked at,
//! scheduled, deferred, and in sessions.
//!
//! A queue is a topic with one view of its own ([`SubscriptionName::queue`]); a subscription is a view of its
//! topic; what a view gave up on is a view again ([`SubscriptionName::dead_letters`]).

use std::time::Duration;

use bytes::Bytes;
use mente_engine::{Event, Timestamp};
use serde::{Deserialize, Serialize};

use super::Broker;
use super::read::StoredEvent;
use crate::access::Principal;
use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, SubscriptionName};
use crate::queue::LockToken;

/// A message on its way in. Its id is the event's, its session or partition key the event's key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub event: Event,
    /// From when it is enqueued; the entity's own bound holds as well.
    pub time_to_live: Option<Duration>,
    /// When it is to be enqueued, if not now.
    pub due: Option<Timestamp>,
}

/// What a receiver of messages asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taking {
    /// At least 1.
    pub max: usize,
    /// How long to wait for the first one.
    pub wait: Duration,
    pub mode: Mode,
    /// Of a view with sessions: the one that is locked.
    pub session: Option<SessionLock>,
}

/// How messages are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Under a lock, to be settled.
    Lock,
    /// Done with before they leave: what does not arrive is lost.
    Delete,
}

/// Where a message stands in its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    Active,
    Deferred,
    Scheduled,
}

/// A message of a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// If it was locked for the caller.
    pub lock: Option<Lock>,
    /// The view's own, dense and ascending. That of a scheduled message holds until it is enqueued.
    pub number: u64,
    pub standing: Standing,
    /// Deliveries that failed so far: 0 at the first one.
    pub failed: u32,
    /// Its event, and when it was enqueued.
    pub stored: StoredEvent,
    /// As its sender said.
    pub time_to_live: Option<Duration>,
    /// When it is to be enqueued, or was to be.
    pub due: Option<Timestamp>,
    /// What a receiver said last of it with a settlement that is not the end; the door's own form.
    pub note: Option<String>,
}

/// A lock on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub token: LockToken,
    /// On the wall clock as it is now.
    pub until: Timestamp,
}

/// How a lock on a message ends. A note is the door's own, at most [`NOTE_BYTES`], and comes with the message
/// when it is handed out again, by this view or as a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Complete,
    /// Counted as a failed delivery: ready again, or a dead letter after too many.
    Abandon {
        note: Option<String>,
    },
    /// Only for who asks for its number.
    Defer {
        note: Option<String>,
    },
    DeadLetter {
        reason: String,
        description: String,
        note: Option<String>,
    },
    /// It never reached the receiver: ready again, and not counted.
    Return,
}

/// Longest note on a message.
pub const NOTE_BYTES: usize = 32 << 10;

/// The lock on a session: void after a restart or a change of owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLock {
    pub session: String,
    pub(crate) term: u64,
    pub(crate) view: u64,
    pub(crate) number: u64,
}

/// Which session somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WantedSession {
    Named(String),
    /// Any that nobody has and that has messages.
    Next,
}

/// Largest state of a session.
pub const SESSION_STATE_BYTES: usize = 256 << 10;

fn unbuilt<T>(what: &str) -> Result<T> {
    Err(Error::new(
        Kind::Unsupported,
        format!("{what}: this Mente does not do that yet"),
    ))
}

impl Broker {
    /// Enqueues messages to a queue or topic, all or none, durable on return. Those that are due later wait aside.
    pub async fn send(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: Vec<Message>,
    ) -> Result<()> {
        let _ = (who, to, messages);
        unbuilt("sending")
    }

    /// The same with messages that are all due later; gives their numbers, which hold until then.
    pub async fn schedule(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: Vec<Message>,
    ) -> Result<Vec<u64>> {
        let _ = (who, to, messages);
        unbuilt("scheduling")
    }

    /// Takes back scheduled messages; tells by number whether it was still there.
    pub async fn cancel_scheduled(
        &self,
        who: &Principal,
        to: &EntityName,
        numbers: Vec<u64>,
    ) -> Result<Vec<bool>> {
        let _ = (who, to, numbers);
        unbuilt("cancelling")
    }

    /// Takes messages, as many as are there up to a bound on their bytes; none if none came in time. A call that
    /// is dropped gives back what was locked for it. `LockLost`: the session is not the caller's any more.
    pub async fn take(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        taking: Taking,
    ) -> Result<Vec<Held>> {
        let _ = (who, view, taking);
        unbuilt("receiving")
    }

    /// Ends locks, durable on return; tells by token whether its lock held.
    pub async fn end_locks(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        tokens: Vec<LockToken>,
        ending: Ending,
    ) -> Result<Vec<bool>> {
        let _ = (who, view, tokens, ending);
        unbuilt("settling")
    }

    /// Locks anew for the view's whole duration; tells by token until when, unless it is lost.
    pub async fn renew_locks(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        tokens: Vec<LockToken>,
    ) -> Result<Vec<Option<Timestamp>>> {
        let _ = (who, view, tokens);
        unbuilt("renewing locks")
    }

    /// Messages from this number on in the order of their numbers, whatever they stand in but settled, without
    /// a lock; of one session, or of all.
    pub async fn peek(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        from: u64,
        max: usize,
        session: Option<&str>,
    ) -> Result<Vec<Held>> {
        let _ = (who, view, from, max, session);
        unbuilt("peeking")
    }

    /// Takes deferred messages by their numbers; those that are not deferred are left out.
    pub async fn take_deferred(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        numbers: Vec<u64>,
        mode: Mode,
        session: Option<&SessionLock>,
    ) -> Result<Vec<Held>> {
        let _ = (who, view, numbers, mode, session);
        unbuilt("receiving deferred messages")
    }

    /// Deletes up to `max` messages that nobody has locked and that were enqueued before; gives how many.
    pub async fn delete_messages(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        max: usize,
        before: Timestamp,
        session: Option<&SessionLock>,
    ) -> Result<u64> {
        let _ = (who, view, max, before, session);
        unbuilt("deleting messages")
    }

    /// Locks a session, or waits for one; `None` if none came in time. `Conflict`: another one has it.
    pub async fn accept_session(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        wanted: WantedSession,
        wait: Duration,
    ) -> Result<Option<(SessionLock, Timestamp)>> {
        let _ = (who, view, wanted, wait);
        unbuilt("sessions")
    }

    /// Until when it holds now; `LockLost` if it does not.
    pub async fn renew_session(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
    ) -> Result<Timestamp> {
        let _ = (who, view, lock);
        unbuilt("sessions")
    }

    /// Gives it up with the locks on its messages, none of which is counted as a failed delivery.
    pub async fn release_session(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
    ) -> Result<()> {
        let _ = (who, view, lock);
        unbuilt("sessions")
    }

    pub async fn session_state(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
    ) -> Result<Option<Bytes>> {
        let _ = (who, view, lock);
        unbuilt("sessions")
    }

    /// Durable on return; none takes it away. At most [`SESSION_STATE_BYTES`].
    pub async fn set_session_state(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
        state: Option<Bytes>,
    ) -> Result<()> {
        let _ = (who, view, lock, state);
        unbuilt("sessions")
    }

    /// Sessions in the order of their names: those with messages or a state, or those whose state was set since.
    pub async fn sessions(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        since: Option<Timestamp>,
        skip: usize,
        top: usize,
    ) -> Result<Vec<String>> {
        let _ = (who, view, since, skip, top);
        unbuilt("sessions")
    }
}
