//! What receivers ask a view for, and what they get.

use std::time::Duration;

use mente_engine::{Offset, Term};
use serde::{Deserialize, Serialize};

use super::LockToken;
use crate::rule::Rule;

/// What a receiver asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taking {
    /// At least 1.
    pub max: usize,
    /// How long to wait for the first one.
    pub wait: Duration,
    #[serde(default)]
    pub mode: Mode,
    /// Of a view with sessions: the one that is locked.
    #[serde(default)]
    pub session: Option<SessionLock>,
}

/// How records are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Under a lock, to be settled.
    #[default]
    Lock,
    /// Done with before they leave: what does not arrive is lost.
    Delete,
}

/// Where a message stands in its view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    #[default]
    Active,
    Deferred,
    Scheduled,
}

/// The lock on a session: void after a restart or a change of owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLock {
    pub session: String,
    pub(crate) term: Term,
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

/// A session that was locked, until a moment on the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub lock: SessionLock,
    pub until_ms: i64,
}

/// A record handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub token: LockToken,
    pub partition: u32,
    pub offset: Offset,
    /// 1 for the first delivery.
    pub count: u32,
    /// The view's own for it.
    #[serde(default)]
    pub number: u64,
    /// The end of its lease on the wall clock.
    #[serde(default)]
    pub until_ms: i64,
    #[serde(default)]
    pub standing: Standing,
    /// What a receiver said of it.
    #[serde(default)]
    pub note: Option<String>,
    /// The rule that makes it what it is.
    #[serde(default)]
    pub rule: Option<Box<Rule>>,
    /// Where it lies if it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<Offset>,
}

/// Records of a view that are not settled, without a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peeked {
    pub found: Vec<PeekedAt>,
    /// How far the view has looked, and the number of the last record there, if there is room for more.
    pub beyond: Option<(Offset, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeekedAt {
    pub partition: u32,
    pub offset: Offset,
    pub number: u64,
    pub standing: Standing,
    /// Failed deliveries so far.
    pub failed: u32,
    pub note: Option<String>,
    #[serde(default)]
    pub rule: Option<Box<Rule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<Offset>,
}

impl Taking {
    /// Under locks, of no session.
    pub fn locked(max: usize, wait: Duration) -> Self {
        let (mode, session) = (Mode::Lock, None);
        Self {
            max,
            wait,
            mode,
            session,
        }
    }
}
