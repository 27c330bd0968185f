//! What is wrong with bytes from a peer, and the condition under which the peer is told.

use std::fmt;

/// Bytes that are not what the standard asks for. Where more bytes are wanted instead, functions
/// say so by their result, never by this.
///
/// A connection on which one was read cannot be read on: it is closed with `condition`. Only for
/// a message's sections, whose frames were sound, is it enough to reject the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// One of [`condition`].
    pub condition: &'static str,
    /// The type that was read by the standard's name for it, if one was.
    pub composite: &'static str,
    /// The field of that type, if it was one.
    pub field: &'static str,
    pub what: &'static str,
    /// Where in the input it was found, as a count of bytes before it.
    pub at: usize,
}

impl Malformed {
    pub(crate) const fn new(condition: &'static str, what: &'static str, at: usize) -> Self {
        Self {
            condition,
            composite: "",
            field: "",
            what,
            at,
        }
    }

    /// Says where it was; the innermost place counts.
    pub(crate) const fn within(mut self, composite: &'static str, field: &'static str) -> Self {
        if self.composite.is_empty() {
            self.composite = composite;
            self.field = field;
        }
        self
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [self.composite, self.field] {
            if !place.is_empty() {
                write!(f, "{place} ")?;
            }
        }
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for Malformed {}

/// The error conditions of the standard by their names on the wire.
pub mod condition {
    // Part 2 §2.8.15, amqp-error.
    pub const INTERNAL_ERROR: &str = "amqp:internal-error";
    pub const NOT_FOUND: &str = "amqp:not-found";
    pub const UNAUTHORIZED_ACCESS: &str = "amqp:unauthorized-access";
    pub const DECODE_ERROR: &str = "amqp:decode-error";
    pub const RESOURCE_LIMIT_EXCEEDED: &str = "amqp:resource-limit-exceeded";
    pub const NOT_ALLOWED: &str = "amqp:not-allowed";
    pub const INVALID_FIELD: &str = "amqp:invalid-field";
    pub const NOT_IMPLEMENTED: &str = "amqp:not-implemented";
    pub const RESOURCE_LOCKED: &str = "amqp:resource-locked";
    pub const PRECONDITION_FAILED: &str = "amqp:precondition-failed";
    pub const RESOURCE_DELETED: &str = "amqp:resource-deleted";
    pub const ILLEGAL_STATE: &str = "amqp:illegal-state";
    pub const FRAME_SIZE_TOO_SMALL: &str = "amqp:frame-size-too-small";
    // §2.8.16, connection-error.
    pub const CONNECTION_FORCED: &str = "amqp:connection:forced";
    pub const FRAMING_ERROR: &str = "amqp:connection:framing-error";
    pub const CONNECTION_REDIRECT: &str = "amqp:connection:redirect";
    // §2.8.17, session-error.
    pub const WINDOW_VIOLATION: &str = "amqp:session:window-violation";
    pub const ERRANT_LINK: &str = "amqp:session:errant-link";
    pub const HANDLE_IN_USE: &str = "amqp:session:handle-in-use";
    pub const UNATTACHED_HANDLE: &str = "amqp:session:unattached-handle";
    // §2.8.18, link-error.
    pub const DETACH_FORCED: &str = "amqp:link:detach-forced";
    pub const TRANSFER_LIMIT_EXCEEDED: &str = "amqp:link:transfer-limit-exceeded";
    pub const MESSAGE_SIZE_EXCEEDED: &str = "amqp:link:message-size-exceeded";
    pub const LINK_REDIRECT: &str = "amqp:link:redirect";
    pub const STOLEN: &str = "amqp:link:stolen";
    // Part 4 §4.5.8, transaction-error.
    pub const UNKNOWN_TRANSACTION: &str = "amqp:transaction:unknown-id";
    pub const TRANSACTION_ROLLBACK: &str = "amqp:transaction:rollback";
    pub const TRANSACTION_TIMEOUT: &str = "amqp:transaction:timeout";
}
