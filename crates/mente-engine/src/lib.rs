//! The waist of the house: what a log is, and nothing of how it is kept.
//!
//! Above it stand machines that decide (`mente-broker`), below it engines that keep
//! (`mente-log` on a disk, `mente-cluster` on Apache Kafka, [`memory`] in a test). They
//! meet on the dozen methods of [`Engine`], which promises only what every engine can keep;
//! [`conformance`] says what that is, and each engine runs it.
//!
//! This crate refuses to know protocols, executors, threads and entities.
//!
//! Start reading at [`engine`], then [`batch`], then [`event`].

pub mod engine;
pub mod watch;

pub mod batch;
pub mod record;

mod envelope;
pub mod event;

pub mod clock;
mod codec;
pub mod error;
pub mod id;
pub mod limits;
pub mod shown;

pub mod conformance;
pub mod fork;
pub mod memory;

pub use batch::{Batch, BatchBuilder};
pub use clock::{Clock, Now, Timestamp};
pub use engine::{
    Answer, Appended, Bounds, Change, Chunk, Engine, Fence, Limit, LogConfig, Room, SetInfo, Takes,
};
pub use error::Error;
pub use event::{Attribute, Data, Event, InvalidEvent};
pub use id::{LogId, Offset, SetId, SetName, Term};
pub use record::Record;
pub use shown::Shown;
