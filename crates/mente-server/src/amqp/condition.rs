//! What clients are told when something is refused: one table from the broker's kinds to conditions of AMQP and
//! status codes of answers to requests.

use mente_broker::{Error, Kind};
use mente_wire::amqp::value::Text;
use mente_wire::amqp::{self, condition};

pub(super) const ARGUMENT_ERROR: &str = "com.microsoft:argument-error";
pub(super) const DEAD_LETTER: &str = "com.microsoft:dead-letter";
pub(super) const ENTITY_DISABLED: &str = "com.microsoft:entity-disabled";
pub(super) const ENTITY_EXISTS: &str = "com.microsoft:entity-already-exists";
pub(super) const MESSAGE_LOCK_LOST: &str = "com.microsoft:message-lock-lost";
pub(super) const MESSAGE_NOT_FOUND: &str = "com.microsoft:message-not-found";
pub(super) const OUT_OF_RANGE: &str = "com.microsoft:argument-out-of-range";
pub(super) const SERVER_BUSY: &str = "com.microsoft:server-busy";
pub(super) const SESSION_CANNOT_BE_LOCKED: &str = "com.microsoft:session-cannot-be-locked";
pub(super) const SESSION_NOT_FOUND: &str = "com.microsoft:session-not-found";
pub(super) const SESSION_LOCK_LOST: &str = "com.microsoft:session-lock-lost";
pub(super) const TIMEOUT: &str = "com.microsoft:timeout";

/// Longest description of an error: it is to fit into any frame.
const DESCRIPTION_CHARS: usize = 300;

/// Why something is not done, as a client hears of it on a link or in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) condition: &'static str,
    pub(super) status: i32,
    pub(super) message: String,
}

/// The table.
fn answer(kind: Kind) -> (&'static str, i32) {
    match kind {
        Kind::NotFound => (condition::NOT_FOUND, 404),
        Kind::Exists => (ENTITY_EXISTS, 409),
        Kind::Invalid => (ARGUMENT_ERROR, 400),
        Kind::Unauthenticated | Kind::Forbidden => (condition::UNAUTHORIZED_ACCESS, 401),
        Kind::Conflict => (condition::NOT_ALLOWED, 400),
        Kind::Deleted => (condition::NOT_FOUND, 404),
        Kind::LockLost => (MESSAGE_LOCK_LOST, 410),
        Kind::OutOfRange => (OUT_OF_RANGE, 400),
        Kind::TooLarge => (condition::MESSAGE_SIZE_EXCEEDED, 403),
        Kind::Throttled | Kind::NotOwner => (SERVER_BUSY, 503),
        Kind::Full => (condition::RESOURCE_LIMIT_EXCEEDED, 403),
        Kind::UpcastFailed | Kind::Refused => (condition::NOT_ALLOWED, 400),
        Kind::Unsupported => (condition::NOT_IMPLEMENTED, 501),
        Kind::DeciderFailed | Kind::Unknown | Kind::Corrupt | Kind::Internal => {
            (condition::INTERNAL_ERROR, 500)
        }
    }
}

impl Refusal {
    pub(super) fn new(condition: &'static str, status: i32, message: impl Into<String>) -> Self {
        Self {
            condition,
            status,
            message: message.into(),
        }
    }

    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new(ARGUMENT_ERROR, 400, message)
    }

    pub(super) fn not_allowed(message: impl Into<String>) -> Self {
        Self::new(condition::NOT_ALLOWED, 400, message)
    }

    pub(super) fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(condition::NOT_IMPLEMENTED, 501, message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(SERVER_BUSY, 503, message)
    }

    pub(super) fn session_lost() -> Self {
        let message = "the lock on the session is lost: accept the session again";
        Self::new(SESSION_LOCK_LOST, 410, message)
    }

    pub(super) fn lock_lost() -> Self {
        let message =
            "the lock on the message is lost, or it was settled: it is or was delivered again";
        Self::new(MESSAGE_LOCK_LOST, 410, message)
    }

    /// The same refusal where a session is at stake and not a message.
    pub(super) fn of_session(error: Error) -> Self {
        match error.kind {
            Kind::LockLost => Self::session_lost(),
            Kind::Conflict => Self::new(SESSION_CANNOT_BE_LOCKED, 410, error.message),
            _ => error.into(),
        }
    }

    /// The end of a message is left out where it is very long: what the caller sent may stand in it.
    pub(super) fn shown(&self) -> &str {
        match self.message.char_indices().nth(DESCRIPTION_CHARS) {
            Some((end, _)) => &self.message[..end],
            None => &self.message,
        }
    }

    pub(super) fn to_error(&self) -> amqp::Error {
        amqp::Error::new(self.condition, Text::from(self.shown()))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (condition, status) = answer(error.kind);
        if condition == condition::INTERNAL_ERROR {
            tracing::error!(kind = ?error.kind, error = %error, "a client's call failed");
        }
        Self::new(condition, status, error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hear_what_they_act_on() {
        for (kind, condition, status) in [
            (Kind::NotFound, "amqp:not-found", 404),
            (Kind::Exists, "com.microsoft:entity-already-exists", 409),
            (Kind::Unauthenticated, "amqp:unauthorized-access", 401),
            (Kind::LockLost, "com.microsoft:message-lock-lost", 410),
            (Kind::TooLarge, "amqp:link:message-size-exceeded", 403),
            (Kind::Throttled, "com.microsoft:server-busy", 503),
            (Kind::Full, "amqp:resource-limit-exceeded", 403),
            (Kind::Unsupported, "amqp:not-implemented", 501),
            (Kind::Internal, "amqp:internal-error", 500),
        ] {
            let refusal = Refusal::from(Error::new(kind, "why"));
            assert_eq!(refusal, Refusal::new(condition, status, "why"));
            assert_eq!(refusal.to_error().condition.as_str(), condition);
        }
    }

    #[test]
    fn a_lost_session_is_no_lost_message() {
        let lost = Refusal::of_session(Error::new(Kind::LockLost, "x"));
        assert_eq!((lost.condition, lost.status), (SESSION_LOCK_LOST, 410));
        let held = Refusal::of_session(Error::new(Kind::Conflict, "x"));
        assert_eq!(held.condition, SESSION_CANNOT_BE_LOCKED);
    }

    #[test]
    fn a_description_fits_into_a_frame() {
        let long = Refusal::argument("ä".repeat(5_000));
        assert_eq!(long.shown().chars().count(), DESCRIPTION_CHARS);
    }
}
