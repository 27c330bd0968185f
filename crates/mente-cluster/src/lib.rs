//! A real Kafka cluster as Mente's engine.
//!
//! ```text
//!   Engine call --> lane (one per log, call order) --> produce --+
//!        |             claim, renew: fence                       +--> connection --> broker
//!        +-------> read, sets (questions, asked again) ----------+
//! ```
//! Sets are topics (`name.rs` has the table of names), logs are partitions, a fence is the
//! epoch of a producer. Batches pass as they are, but for the twelve bytes that a broker patches
//! and, in owned logs, the producer's fields.
//!
//! This room knows tokio, since it talks over sockets, and Kafka's client messages. It refuses
//! to know what a record means, entities, and who should own which shard.
//!
//! Start reading at `engine.rs`, then `lane.rs`, then `fence.rs` with its decision record.

mod engine;
mod fence;
mod lane;
mod produce;
mod read;
mod sets;

mod api;
mod cluster;
mod connection;
mod limits;
mod name;

pub use engine::{ClusterEngine, Options};
pub use name::Prefix;
