//! What queue clients ask of a view beside receiving and settling.

use std::time::Duration;

use mente_engine::{Now, Offset, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Outcome, Reply, Shard, Written};
use crate::error::{Error, Result};
use crate::name::SubscriptionName;
use crate::queue::{
    LockToken, Queue, SessionLock, Settlement, Ticket, WantedSession, session_lost,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Answered by token with the end of its lease on the wall clock.
    RenewLocks {
        tokens: Vec<LockToken>,
    },
    ReceiveDeferred {
        numbers: Vec<u64>,
        session: Option<SessionLock>,
    },
    Peek {
        from: u64,
        max: usize,
        session: Option<String>,
    },
    DeleteReady {
        max: u64,
        before_ms: i64,
        /// All that lies below this was written before.
        #[serde(default)]
        below: Offset,
        session: Option<SessionLock>,
    },
    /// Of records that wait until they are due.
    Cancel {
        offsets: Vec<Offset>,
    },
    /// Of a transaction that came to nothing.
    RollBack {
        held: Vec<Written>,
    },
    /// Whether these went on to their topic.
    HaveGone {
        offsets: Vec<Offset>,
    },
    AcceptSession {
        wanted: WantedSession,
        wait: Duration,
    },
    RenewSession {
        lock: SessionLock,
    },
    ReleaseSession {
        lock: SessionLock,
    },
    /// In base64.
    SessionState {
        lock: SessionLock,
    },
    SetSessionState {
        lock: SessionLock,
        state: Option<String>,
    },
    Sessions {
        since_ms: Option<i64>,
        skip: usize,
        top: usize,
    },
}

impl Ask {
    /// Whether the answer may be a decision.
    pub(super) fn decides(&self) -> bool {
        matches!(
            self,
            Self::ReceiveDeferred { .. }
                | Self::DeleteReady { .. }
                | Self::Cancel { .. }
                | Self::RollBack { .. }
                | Self::SetSessionState { .. }
        )
    }

    /// How long the answer may take.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::AcceptSession { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}

impl Shard {
    /// `None`: the queue replies, now or later.
    pub(super) fn ask(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: &SubscriptionName,
        ask: Ask,
        out: &mut Outcome,
    ) -> Option<Result<Reply>> {
        if let Ask::RollBack { held } = &ask {
            self.roll_back(name, held, out);
            return Some(Ok(Reply::Done));
        }
        let asked = self.with_queue(name, out, |queue, effects| match ask {
            Ask::RollBack { .. } => Some(Ok(Reply::Done)),
            Ask::AcceptSession { wanted, wait } => {
                if !queue.has_sessions() {
                    return Some(Err(without_sessions(name)));
                }
                let until = now.monotone + wait;
                let accepted = queue.accept_session(now, ticket, &wanted, until, effects);
                accepted.err().map(Err)
            }
            Ask::RenewLocks { tokens } => Some(Ok(renew(queue, now, tokens, effects))),
            Ask::ReceiveDeferred { numbers, session } => {
                if queue.has_sessions() != session.is_some() {
                    return Some(Err(misused(name, queue)));
                }
                let session = session.as_ref();
                let deliveries = queue.receive_deferred(now, &numbers, session);
                Some(of_session(session, deliveries.map(Reply::Deliveries)))
            }
            Ask::Peek { from, max, session } => {
                Some(Ok(Reply::Peeked(queue.peek(from, max, session.as_deref()))))
            }
            Ask::DeleteReady {
                max,
                before_ms,
                below,
                session,
            } => {
                let (session, before) = (session.as_ref(), (Timestamp(before_ms), below));
                let deleted = queue.delete_ready(now, max, before, session, effects);
                let looked_to = queue.looked_to();
                let deleted = deleted.map(|count| Reply::Deleted { count, looked_to });
                Some(of_session(session, deleted))
            }
            Ask::Cancel { offsets } => Some(Ok(Reply::Cancelled(queue.cancel(&offsets, effects)))),
            Ask::HaveGone { offsets } => Some(Ok(Reply::Gone(queue.have_gone(&offsets)))),
            Ask::RenewSession { lock } => {
                let until = queue.renew_session(now, &lock);
                Some(of_session(
                    Some(&lock),
                    until.map(|until| Reply::Until(until.0)),
                ))
            }
            Ask::ReleaseSession { lock } => {
                queue.release_session(now, &lock, effects);
                Some(Ok(Reply::Done))
            }
            Ask::SessionState { lock } => {
                let state = || queue.session_state(&lock.session).map(str::to_owned);
                let held = queue.holds_session(now, &lock).then(state);
                Some(of_session(Some(&lock), held.map(Reply::SessionState)))
            }
            Ask::SetSessionState { lock, state } => {
                let set = queue.set_session_state(now, &lock, state, effects);
                Some(set.map(|()| Reply::Done))
            }
            Ask::Sessions {
                since_ms,
                skip,
                top,
            } => {
                let names = queue.session_names(since_ms.map(Timestamp), skip, top);
                Some(Ok(Reply::Sessions(names)))
            }
        });
        asked.unwrap_or_else(|error| Some(Err(error)))
    }
}

fn renew(
    queue: &mut Queue,
    now: Now,
    tokens: Vec<LockToken>,
    effects: &mut crate::queue::Effects,
) -> Reply {
    let until = now.wall.plus(queue.settings().lock_duration()).0;
    let mut renew = |token| {
        queue
            .settle(now, token, &Settlement::Renew, effects)
            .then_some(until)
    };
    Reply::Renewed(tokens.into_iter().map(&mut renew).collect())
}

fn of_session(session: Option<&SessionLock>, reply: Option<Reply>) -> Result<Reply> {
    reply.ok_or_else(|| session_lost(session.map_or("", |lock| &lock.session)))
}

/// A receiver without a session asks a view that has them, or the other way round.
pub(super) fn misused(name: &SubscriptionName, queue: &Queue) -> Error {
    match queue.has_sessions() {
        true => Error::invalid(format!(
            "{name} requires sessions: accept one, and receive from that"
        )),
        false => without_sessions(name),
    }
}

fn without_sessions(name: &SubscriptionName) -> Error {
    Error::invalid(format!("{name} has no sessions: receive from it directly"))
}
