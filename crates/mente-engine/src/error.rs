//! What an engine can say other than yes. Each kind tells the caller what to do.

use crate::id::Offset;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Certainly did not happen and left no trace; repair the cause and call again.
    #[error("not done: {0}")]
    NotDone(String),
    /// May have happened, or may still. An owner claims again before it trusts its state.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Another owner has a later term, or an earlier append under this fence failed. Stop, or claim.
    #[error("fenced: this term no longer owns the log, claim it again")]
    Fenced,
    /// Certainly did not happen: no room now (memory, disk, throttle), or the disk failed or is closed.
    /// Wait, then call again; nothing in the call is wrong.
    #[error("busy: {0}")]
    Busy(String),
    /// Larger than the engine takes. Split it.
    #[error("{size} bytes are more than the limit of {limit}")]
    TooBig { size: usize, limit: usize },
    /// The position lies below the start of the log, which is given. Read on from there.
    #[error("trimmed: the log starts at offset {0}")]
    Trimmed(Offset),
    /// The log is damaged from this offset on and serves only what lies below. Call an operator.
    #[error("corrupt from offset {0} on")]
    Corrupt(Offset),
    /// The disk does not give this place, for a moment or for ever; others may be had. Call again, and do not
    /// let what lies behind it wait for it.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// No such set or log (any more).
    #[error("no such log")]
    Gone,
    /// This engine cannot do that, by its nature.
    #[error("unsupported by this engine: {0}")]
    Unsupported(&'static str),
}
