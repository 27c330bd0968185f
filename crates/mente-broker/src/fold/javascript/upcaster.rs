//! An upcaster that is programmed: the source declares `upcast(event)`, which returns the event in its next
//! version, a list of events, or null to drop it; or nothing, and changes the event.
//!
//! It lives within the walls of a reducer and knows the event alone, not where it lies: so an event reads the
//! same by every way. Each event has its own steps, whatever upcasters it goes through, and its own time, since
//! what one takes must not be laid to the one behind it.

use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Clock, Event, limits};
use serde_json::{Map, Value};

use super::{Left, Program, Role, Script, facts};
use crate::error::{Error, Result};

pub(crate) struct Upcaster(Program);

impl Upcaster {
    /// Compiles a source. Refuses one that is no JavaScript, or declares no upcaster, with the line.
    pub(crate) fn compile(script: &Script, clock: Arc<dyn Clock>) -> Result<Self> {
        let memory_bytes = limits::REDUCER_MEMORY_BYTES;
        Program::compile(Role::Upcast, memory_bytes, script, Left::default(), clock).map(Self)
    }

    /// What becomes of an event, as objects. After an error it is not to be called again: what was
    /// stopped once stays so.
    pub(crate) fn call(&self, event: &Event, steps: &mut u64) -> Result<Vec<Map<String, Value>>> {
        let event = facts::text_of(event)?;
        let meter = &self.0.meter;
        let now = meter.clock.now().monotone;
        let time = Duration::from_millis(limits::REDUCER_PAGE_MS);
        meter.deadline.set(now + time);
        meter.request_steps.set(limits::REDUCER_REQUEST_STEPS);
        let told = self.0.call((event.as_str(),), *steps)?;
        *steps = meter.event_steps.get();
        self.0.check_is_done()?;
        let told = told.ok_or_else(|| Error::invalid("what the upcaster returned is no JSON"))?;
        serde_json::from_str(&told).map_err(|error| {
            let message = format!("what the upcaster returned cannot be read: {error}");
            Error::invalid(message)
        })
    }
}
