//! Bugs that the simulator plants to prove that its checkers find them. Without the feature
//! `planted` nothing can be chosen and no code is left of them.

/// What goes wrong on purpose.
#[cfg_attr(not(feature = "planted"), expect(unreachable_pub))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    AckBeforeSync,
    SkipDirectorySync,
    RetryFailedSync,
    ShowUndurable,
    /// An opening trusts what the page cache shows.
    NoResync,
    /// An opening cuts from the first bad commit on, wherever it lies.
    TruncateMiddle,
    IgnoreSalt,
    ReuseOffset,
    /// Files go before the pack that took their place is on record.
    RemoveBeforeMove,
    /// The checksum of a batch is not looked at.
    BelieveBatches,
    /// A WAL that is cut short ends where it ends.
    ForgetClosing,
    /// A commit of which only some bytes were taken counts as written.
    SwallowShortWrite,
}

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;

    use super::Planted;

    thread_local! {
        static CHOSEN: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Plants one bug, or none, in every log of this thread.
    pub fn plant(bug: Option<Planted>) {
        CHOSEN.set(bug);
    }

    pub(crate) fn planted(bug: Planted) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use chosen::plant;
#[cfg(feature = "planted")]
pub(crate) use chosen::planted;

#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_: Planted) -> bool {
    false
}
