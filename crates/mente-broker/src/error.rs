//! What the broker refuses, by what the caller should do about it. Each door maps the kind
//! to its protocol's own code in one exhaustive `match`.

use mente_engine as engine;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Create it, or mend the name.
    NotFound,
    /// Exists with other settings.
    Exists,
    /// Mend the request.
    Invalid,
    /// Say who you are.
    Unauthenticated,
    /// Get the right for it.
    Forbidden,
    /// The state is not what you expected: read again, decide again.
    Conflict,
    /// It was deleted for good: choose another name.
    Deleted,
    /// The lease ran out or was settled; the record is or was delivered again.
    LockLost,
    /// The position does not exist (any more): choose another.
    OutOfRange,
    /// Split it.
    TooLarge,
    /// Wait, then call again.
    Throttled,
    /// It holds as much as it may: receive some of it, or let it hold more.
    Full,
    /// This node does not decide that now, and did not: ask the one that does.
    NotOwner,
    /// The schema of its type tells no current version of the event: mend the schema, or read it as written.
    UpcastFailed,
    /// What a command asks for is not to be done: the message says why.
    Refused,
    /// Who decides commands gave no decision: mend the decider, then repeat.
    DeciderFailed,
    /// Not built, or not possible with this engine.
    Unsupported,
    /// It may or may not have happened: look, or repeat it if that does no harm.
    Unknown,
    /// The data is damaged: call an operator.
    Corrupt,
    /// A fault of Mente's: report it.
    Internal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Kind,
    pub message: String,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub fn not_found(what: &str, name: &str) -> Self {
        Self::new(
            Kind::NotFound,
            format!("no {what} {name:?}; create it first"),
        )
    }
}

impl From<engine::InvalidEvent> for Error {
    fn from(invalid: engine::InvalidEvent) -> Self {
        let kind = match &invalid {
            engine::InvalidEvent::Broken(_) => Kind::Invalid,
            engine::InvalidEvent::TooLarge { .. } => Kind::TooLarge,
        };
        Self::new(kind, invalid.to_string())
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        let kind = match &error {
            engine::Error::NotDone(_) => Kind::Conflict,
            engine::Error::Unknown(_) | engine::Error::Fenced => Kind::Unknown,
            engine::Error::Busy(_) | engine::Error::Unreadable(_) => Kind::Throttled,
            engine::Error::TooBig { .. } => Kind::TooLarge,
            engine::Error::Trimmed(_) => Kind::OutOfRange,
            engine::Error::Corrupt(_) => Kind::Corrupt,
            engine::Error::Gone => Kind::NotFound,
            engine::Error::Unsupported(_) => Kind::Unsupported,
        };
        Self::new(kind, error.to_string())
    }
}
