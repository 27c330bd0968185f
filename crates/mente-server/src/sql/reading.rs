//! How a query reads from the broker: from its thread, within its time and its room.

use std::time::Instant;

use mente_broker::{Broker, Error, Kind, Principal, Result};
use mente_engine::limits;
use tokio::runtime::Handle;

use crate::projection::sandbox::Rules;

/// What a query has of the broker.
pub(super) struct Reading {
    handle: Handle,
    pub(super) broker: Broker,
    pub(super) who: Principal,
    pub(super) rules: Rules,
    deadline: Instant,
    /// Position behind the last event that is looked at.
    pub(super) end: Option<u64>,
    /// Whether that is a moment of the past.
    pub(super) is_past: bool,
    /// Events that were read.
    pub(super) looked: u64,
    /// States that were folded.
    pub(super) folded: u64,
    left_bytes: usize,
}

impl Reading {
    pub(super) fn new(
        handle: Handle,
        broker: Broker,
        who: Principal,
        rules: Rules,
        deadline: Instant,
        end: Option<u64>,
        is_past: bool,
    ) -> Self {
        Self {
            handle,
            broker,
            who,
            rules,
            deadline,
            end,
            is_past,
            looked: 0,
            folded: 0,
            left_bytes: limits::SQL_TABLE_BYTES,
        }
    }

    /// Waits for the broker, on this thread, as long as the query may.
    pub(super) fn wait<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        if self.rules.stopping() {
            return Err(Error::new(Kind::Unknown, "nobody waits for the answer"));
        }
        // What is there at once is never too late for a timer.
        if Instant::now() >= self.deadline {
            return Err(too_long());
        }
        let waited = async { tokio::time::timeout_at(self.deadline.into(), asked).await };
        self.handle
            .block_on(waited)
            .unwrap_or_else(|_| Err(too_long()))
    }

    /// Takes room for what a table is to hold.
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.left_bytes = self.left_bytes.checked_sub(bytes).ok_or_else(|| {
            let most = limits::SQL_TABLE_BYTES;
            let message = format!(
                "the query looks at more than {most} bytes: {NARROWER}, or read fewer columns"
            );
            Error::new(Kind::TooLarge, message)
        })?;
        Ok(())
    }

    /// Counts events that were read.
    pub(super) fn look(&mut self, events: usize) -> Result<()> {
        self.looked += events as u64;
        if self.looked > limits::SQL_EVENTS {
            let most = limits::SQL_EVENTS;
            let message = format!("the query looks at more than {most} events: {NARROWER}");
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(())
    }
}

/// What helps.
const NARROWER: &str =
    "say in its WHERE which stream, category, type, tag or positions, by literals and AND";

pub(super) fn too_long() -> Error {
    let message = format!(
        "the query takes longer than {} ms: {NARROWER}",
        limits::SQL_MS
    );
    Error::new(Kind::TooLarge, message)
}
