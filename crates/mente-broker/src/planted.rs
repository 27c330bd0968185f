//! Bugs that the simulator, the world of nodes in `tests/it/nodes`, and `mente chaos --planted` plant to prove that their checkers find them. Without the feature
//! `planted` nothing can be chosen and no code is left of them.

/// What goes wrong on purpose.
#[cfg_attr(not(feature = "planted"), expect(unreachable_pub))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// What was settled is applied, but never written down.
    SettleNotJournaled,
    /// A record stays ready though it is out.
    LeaseWhileLive,
    /// Records of one key go out together.
    IgnoreKeys,
    /// An append is decided by what is in memory of the store alone.
    ForgetSealed,
    /// A check by a query holds whatever came.
    IgnoreQuery,
    /// What was truncated or deleted is read as if nobody had said so.
    ShowTruncated,
    /// A fold that goes on from a state that was kept passes over the next event.
    StateOneBehind,
    /// What was given back is given back again after it came to its end, once the journal is read anew.
    ReviveAgain,
    /// Letters are done with, and what they are of does not come again.
    ReviveNothing,
    /// The events of one append are written one by one.
    TearAppends,
    /// Whether a command was decided before is not looked up.
    DecideAgain,
    /// A subscription of the store passes over the first record that it reads.
    SkipFirst,
    /// After a failed or unknown append the journal is read again, but not claimed again.
    RestoreUnclaimed,
    /// Replies leave before the round is durable.
    ReplyBeforeCommit,
    /// Replies leave that rest on decisions which linger.
    TellWhatLingers,
    /// What others wrote between reading ahead and the claim is not read.
    RestoreWithoutTail,
    /// Whoever takes a dead-letter log over does not look at what is there.
    LettersUnread,
    /// The first round is decided on what was read ahead; only then the journal is claimed.
    ClaimAfterDeciding,
    /// A record is a dead letter one failed delivery before it may be.
    GiveUpEarly,
    /// A lock is over after half of the time that was said.
    HalfALock,
    /// The messages of one batch are written one by one.
    TearBatches,
}

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Planted;

    /// Of a whole process, for good.
    static EVERYWHERE: OnceLock<Planted> = OnceLock::new();

    thread_local! {
        static CHOSEN: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Plants one bug, or none, in every broker of this thread.
    pub fn plant(bug: Option<Planted>) {
        CHOSEN.set(bug);
    }

    /// Plants one bug in every broker of this process, whatever its threads; the first one stays.
    pub fn plant_everywhere(bug: Planted) {
        EVERYWHERE.get_or_init(|| bug);
    }

    pub(crate) fn planted(bug: Planted) -> bool {
        CHOSEN.get() == Some(bug) || EVERYWHERE.get() == Some(&bug)
    }
}

#[cfg(feature = "planted")]
pub(crate) use chosen::planted;
#[cfg(feature = "planted")]
pub use chosen::{plant, plant_everywhere};

#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_: Planted) -> bool {
    false
}
