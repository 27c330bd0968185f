//! A seeded world in which the real broker runs on the real log, on one thread, over a disk that loses
//! power, and the checkers of what its clients saw.
//!
//! ```text
//!  Scenario (seed, how each life ends)
//!      │
//!  World: clients ──calls──▶ Broker ──▶ Embedded log ──▶ MemDisk, which crashes
//!      │     └─ record ──▶ History ──▶ check: log, queue, stream, store and fold laws ──▶ Violations
//!      └─ SimClock, Random: no real time, no real chance
//! ```
//! One scenario twice gives the same history and the same operations of the disk. Checkers know
//! histories only, so that they judge the JSON lines of clients outside as well.
//!
//! Start reading at `scenario`, then `world`, `life` (who goes next), `scene` (what clients call), `check`.

pub mod check;
pub mod faults;
pub mod history;
#[cfg(feature = "planted")]
pub mod planted;
pub mod random;
pub mod rot;
pub mod scenario;
pub mod sweep;
pub mod world;

mod client;
mod clock;
mod life;
mod recorder;
mod scene;
mod tasks;

pub use check::{Law, Violation, check, check_to_end};
pub use scenario::{End, Scenario};
pub use world::{Outcome, run};
