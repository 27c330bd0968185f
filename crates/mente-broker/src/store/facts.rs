//! What an append needs to know of the sealed part of the store, since the state in memory does not.

use std::collections::BTreeMap;

use super::metadata::Metadata;
use crate::name::StreamName;

/// Looked up for one append; what is not in it is not in the sealed part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Position behind the last one that was looked at.
    pub(super) below: u64,
    pub(super) streams: BTreeMap<StreamName, Sealed>,
    /// What holds for the streams that the append names, as the sealed part says.
    pub(super) metadata: BTreeMap<StreamName, Metadata>,
    /// For each check of the append that is a query, by its number, the last match.
    pub(super) matches: BTreeMap<usize, u64>,
}

impl Facts {
    pub(crate) fn below(&self) -> u64 {
        self.below
    }
}

/// What lies in the sealed part of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Revision behind the last event there.
    pub(super) end: u64,
    /// Revision of the event with the id that the append begins with.
    pub(super) begins: Option<u64>,
    /// Position and id of the events that the append may repeat, by revision.
    pub(super) events: BTreeMap<u64, (u64, u128)>,
}
