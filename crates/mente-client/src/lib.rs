//! A Mente server from an application: publish, read, follow a topic ([`Client`], [`Topic`]), keep a copy of its
//! latest event by key in a file of the application's own ([`replica`]), and do once what comes twice ([`inbox`]).
//!
//! This room refuses to know anything of Mente but its HTTP API, so that an application takes in no broker with
//! it. The server's own replicas and the verbs of its command line are made of it.
//!
//! Start reading at [`replica`].

mod client;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "inbox")]
pub mod inbox;
#[cfg(feature = "replica")]
pub mod replica;
pub mod tls;
mod topic;

pub use client::{Client, Error, Fence, Lines, Pieces, Response};
pub use topic::{Following, Place, Told, Topic};
