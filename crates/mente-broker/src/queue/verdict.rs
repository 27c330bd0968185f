//! What is decided about records of a view, and journaled. The fold of these is [`Durable`](super::Durable).

use serde::{Deserialize, Serialize};

use super::ranges::Range;
use crate::name::EntityName;

/// A decision about records of one view. `passed` is how many records below `floor` matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// These are done with; and the view needs nothing below `floor` any more.
    Settled {
        partition: u32,
        offsets: Vec<u64>,
        floor: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        passed: u64,
    },
    /// A delivery failed; the next one is due `delay_ms` later, at `due_ms` on the wall clock.
    Failed {
        partition: u32,
        offset: u64,
        attempts: u32,
        delay_ms: u64,
        due_ms: i64,
    },
    /// Given up on: to be copied to the dead-letter log, which `Buried` confirms.
    Dead {
        partition: u32,
        offset: u64,
        attempts: u32,
        reason: String,
        detail: String,
        floor: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        passed: u64,
        /// Where its copy may lie in the dead-letter log, at the earliest.
        #[serde(default)]
        since: u64,
        /// To be copied to this topic in place of the dead-letter log: forwarded, or due now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<EntityName>,
    },
    /// The copy is durable in the dead-letter log at `at`; [`NOWHERE`]: retention was faster.
    Buried {
        partition: u32,
        offset: u64,
        at: u64,
        /// The topic that it went to, if that is not the dead-letter log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<EntityName>,
    },
    /// So many records from `from` to `upto` match, whatever became of them.
    Counted {
        partition: u32,
        from: u64,
        upto: u64,
        matches: u64,
    },
    /// Given back from the dead letters at `at_ms` on the wall clock: to be delivered again, as if for the
    /// first time. Letters below `upto` in their log are done with.
    Revived {
        partition: u32,
        offsets: Vec<u64>,
        at_ms: i64,
        upto: u64,
    },
    /// What a receiver says of a record that goes on; it comes with the record, or with its copy.
    Noted {
        partition: u32,
        offset: u64,
        note: String,
    },
    /// Put aside until somebody asks for it by its number.
    Deferred { partition: u32, offset: u64 },
    /// The state of a session, in base64; none takes it away.
    SessionSet {
        partition: u32,
        session: String,
        state: Option<String>,
        at_ms: i64,
    },
    /// To know which ids came within the window, one must read from here on.
    IdsFrom { partition: u32, from: u64 },
    /// Nothing is left between ranges of what is settled: they are one. In a snapshot, all of them.
    Joined { partition: u32, ranges: Vec<Range> },
    /// The transaction that these wait for is committed: they go on when they are due.
    Committed { partition: u32, offsets: Vec<u64> },
    /// Copied to `at` in the log of what was moved, and settled where it lay; its number goes with it.
    Moved {
        partition: u32,
        offset: u64,
        at: u64,
        number: u64,
    },
}

/// An offset that no record has.
pub(crate) const NOWHERE: u64 = u64::MAX;

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Verdict {
    pub(super) fn partition(&self) -> u32 {
        match self {
            Self::Settled { partition, .. }
            | Self::Failed { partition, .. }
            | Self::Dead { partition, .. }
            | Self::Buried { partition, .. }
            | Self::Counted { partition, .. }
            | Self::Revived { partition, .. }
            | Self::Noted { partition, .. }
            | Self::Deferred { partition, .. }
            | Self::SessionSet { partition, .. }
            | Self::IdsFrom { partition, .. }
            | Self::Joined { partition, .. }
            | Self::Committed { partition, .. }
            | Self::Moved { partition, .. } => *partition,
        }
    }
}
