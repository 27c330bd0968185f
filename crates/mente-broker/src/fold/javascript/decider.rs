//! A decider that is programmed: the source declares `decide(state, command)`, which returns the events that
//! the command leads to: one, a list, or nothing; or `{refuse: "why"}`.
//!
//! It lives within the walls of a reducer: what it decides follows from the state and the command alone, so that
//! a command that is decided again, on the same state, leads to the same events.

use std::sync::Arc;

use mente_engine::{Clock, limits};

use super::{Left, Program, Role, Script};
use crate::error::{Error, Result};

pub(crate) struct Decider(Program);

impl Decider {
    /// Compiles a source. Refuses one that is no JavaScript, or declares no decider, with the line.
    pub(crate) fn compile(script: &Script, clock: Arc<dyn Clock>) -> Result<Self> {
        let memory_bytes = limits::REDUCER_MEMORY_BYTES;
        Program::compile(Role::Decide, memory_bytes, script, Left::default(), clock).map(Self)
    }

    /// The text of the decision, from the texts of the state and the command.
    pub(crate) fn call(&self, state: &str, command: &str) -> Result<String> {
        let told = self.0.call((state, command), limits::REDUCER_EVENT_STEPS)?;
        self.0.check_is_done()?;
        told.ok_or_else(|| Error::invalid("what the decider returned is no JSON"))
    }
}
