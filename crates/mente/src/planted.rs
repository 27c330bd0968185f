//! Bugs that a server of this build can be started with, to prove that clients outside find them. Without the feature
//! `planted` there is none of this.

use mente_broker::{Planted, plant_everywhere};

use crate::failure::{Failure, Result};

/// Which one, in the environment of a server.
pub(crate) const VARIABLE: &str = "MENTE_PLANTED";

pub(crate) const NAMES: [(&str, Planted); 4] = [
    ("settle-not-journaled", Planted::SettleNotJournaled),
    ("half-a-lock", Planted::HalfALock),
    ("give-up-early", Planted::GiveUpEarly),
    ("tear-batches", Planted::TearBatches),
];

/// Plants what the environment asks for, in all of this process.
pub(crate) fn plant() -> Result<()> {
    let Ok(asked) = std::env::var(VARIABLE) else {
        return Ok(());
    };
    let Some((name, bug)) = NAMES.iter().find(|(name, _)| *name == asked) else {
        let names = NAMES.map(|(name, _)| name).join(", ");
        return Err(Failure::usage(format!(
            "{VARIABLE} is {asked:?}; there are {names}"
        )));
    };
    plant_everywhere(*bug);
    tracing::warn!(name, "this server has a bug on purpose");
    Ok(())
}
