//! What is told of calls to queues of messages, by clients of Service Bus.

use serde::{Deserialize, Serialize};

/// What the dead letters of a queue are called.
pub const DEAD: &str = "/$DeadLetterQueue";

/// Why what failed too often is a dead letter.
pub const TOO_OFTEN: &str = "MaxDeliveryCountExceeded";

/// A call to a queue or to its dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    pub queue: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// With `resends` a value may be sent more than once, and is one message all the same.
    Make {
        lock_ms: u64,
        #[serde(default)]
        resends: bool,
        /// What failed so often is a dead letter, where that is told.
        #[serde(default)]
        max_deliveries: Option<u32>,
        /// Behind several nodes a lock may be lost on its way from the one that decides: then it runs out.
        #[serde(default)]
        has_nodes: bool,
    },
    /// Values are unique in the whole history, but for resends; all or none.
    Send {
        values: Vec<String>,
        session: Option<String>,
    },
    /// They are to come so much later, by the wall clock of the server.
    Schedule {
        values: Vec<String>,
        delay_ms: u64,
        numbers: Vec<u64>,
    },
    /// One that was scheduled.
    Cancel {
        value: String,
    },
    /// Nothing comes but what a take asks for.
    Take {
        way: Way,
        /// The session that its receiver has.
        session: Option<String>,
        came: Vec<Taken>,
        /// No more than so many, where that is told.
        #[serde(default)]
        most: Option<u32>,
    },
    End {
        value: String,
        token: String,
        ending: Ending,
        /// In this session.
        session: Option<String>,
        held: bool,
    },
    /// A session that its receiver has from now on; which one, the answer says.
    Accept {
        session: Option<String>,
    },
    /// He has it no longer.
    Leave {
        session: String,
    },
    SetState {
        session: String,
        state: String,
    },
    State {
        session: String,
        state: Option<String>,
    },
    /// Nothing is left in the queue: neither ready nor put aside nor due later; fails if something stays.
    Emptied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Under locks.
    Lock,
    /// What comes is done with.
    Delete,
    /// What was put aside, by its numbers and under locks.
    Deferred,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub value: String,
    pub number: u64,
    /// Deliveries before this one that failed.
    pub failed: u32,
    /// Of its lock: as bytes in hexadecimal, those of the term first; empty without one.
    pub token: String,
    /// Why it is a dead letter.
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Complete,
    Abandon,
    Defer,
    DeadLetter { reason: String },
}
