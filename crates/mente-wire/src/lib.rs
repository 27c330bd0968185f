//! Bytes to messages and back: what each protocol looks like on a wire.
//!
//! Input comes as bytes that are already here and leaves as values of the waist
//! (`mente_engine::Event`), or as an error in words for its sender; no input makes it panic.
//!
//! This crate refuses to know sockets, clocks, executors, and what anybody does with a message.
//!
//! Start reading at [`cloudevents`].

pub mod amqp;
pub mod cloudevents;
pub mod eventgrid;
pub mod servicebus;

mod json;
