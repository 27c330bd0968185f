//! A hash over every event of the store in its order, by which two folds are compared.

use std::hash::Hasher;

use mente_engine::{Offset, Record};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::record::{Facts, corrupt};
use crate::error::Result;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain(u64);

impl Chain {
    pub(super) fn take(&mut self, facts: &Facts) {
        // It lies in journals: the same in every build, on every machine.
        let mut hasher = SipHasher13::new();
        hasher.write(&self.0.to_le_bytes());
        hasher.write(&facts.position.to_le_bytes());
        hasher.write(&facts.revision.to_le_bytes());
        hasher.write(&facts.id.to_le_bytes());
        hasher.write(facts.stream.as_str().as_bytes());
        self.0 = hasher.finish();
    }

    pub fn value(self) -> u64 {
        self.0
    }
}

/// The same from the log alone, whatever else is in memory.
#[derive(Debug, Default)]
pub struct StoreChain {
    chain: Chain,
    positions: u64,
}

impl StoreChain {
    pub fn fold(&mut self, offset: Offset, record: &Record) -> Result<()> {
        let facts = Facts::of(record).map_err(|what| corrupt(offset, &what))?;
        if facts.position != self.positions {
            return Err(corrupt(offset, "positions have a gap"));
        }
        self.positions += 1;
        self.chain.take(&facts);
        Ok(())
    }

    /// How many events were taken in.
    pub fn positions(&self) -> u64 {
        self.positions
    }

    pub fn value(&self) -> u64 {
        self.chain.value()
    }
}
