//! AMQP 1.0 (OASIS, 2012): values, frames, performatives, and messages by their sections.
//!
//! Bytes in, values out, and back; what a connection, its sessions and its links make of them is
//! [`machine`]'s, what a message is as an event [`event`]'s, and what for is nobody's here. Payloads, texts and tags are slices of the input, so that a message is written
//! as it came. Whatever a peer claims of sizes and counts is held against the bytes that are
//! there before anything is allocated.
//!
//! Two rules beyond the standard, from what the SDKs of Service Bus were seen to do:
//! - reading is liberal: integers of any width, strings for symbols, composites under their
//!   symbolic names;
//! - writing is explicit: every field of a composite, null or default ones too. Fields at the
//!   end may be left out by the standard, but readers exist that look for them by their index.
//!
//! Start reading at [`value`], then [`frame`], then [`performative`], then
//! [`machine`].

pub mod error;
pub mod event;
pub mod frame;
pub mod machine;
pub mod message;
pub mod performative;
pub mod sasl;
pub mod state;
pub mod terminus;
pub mod transaction;
pub mod value;

mod code;
mod composite;
mod decode;
mod descriptor;
mod encode;
#[cfg(test)]
mod testing;

pub use decode::decode;
pub use encode::encode;
pub use error::{Malformed, condition};
pub use frame::{Frame, FrameKind, Protocol};
pub use message::Message;
pub use performative::Performative;
pub use sasl::Sasl;
pub use state::{DeliveryState, Error, Modified, Outcome};
pub use terminus::{Coordinator, Destination, Source, Target};
pub use value::{Array, Described, Kind, Map, Symbol, Text, Uuid, Value};
