//! A real Kafka cluster as Mente's engine.
//!
//! ```text
//!   Engine call --> lane (one per log, call order) --> produce --+
//!        |             claim, renew: fence                       +--> connection --> broker
//!        +-------> read, sets, size (questions, asked again) ----+
//! ```
//! Sets are topics (`name.rs` has the table of names), logs are partitions, a fence is the
//! epoch of a producer. Batches pass as they are, but for the twelve bytes that a broker patches
//! and, in owned logs, the producer's fields; plain ones that wait for one log together become one.
//!
//! Beside the engine stands `group`: which nodes there are, and how shards, mere numbers, are
//! spread over them. Whether an owner may write is not its business but that of the fences.
//!
//! This room knows tokio, since it talks over sockets, and Kafka's client messages. It refuses
//! to know what a record means, entities, and what a shard holds.
//!
//! Start reading at `engine.rs`, then `lane.rs`, then `fence.rs` with its decision record;
//! `group/mod.rs` stands for itself.

mod engine;
mod fence;
mod group;
mod lane;
mod produce;
mod read;
mod safety;
mod sets;
mod settings;
mod size;

mod api;
mod cluster;
mod connection;
mod limits;
mod name;

pub use engine::{ClusterEngine, Options};
pub use group::{Assignment, Change, Hold, Membership, Node, Seat};
pub use name::Prefix;
pub use safety::Faults;
