//! The doors: sockets, limits and protocols in front of the broker; and its built-in clients,
//! the webhook sender, the SQL projector and the keeper of replicas.
//!
//! A door turns bytes into commands and answers into bytes. It reserves room before it reads,
//! gives every wait an end, and stops when told to: no new connections, requests under way
//! finish, waiting receivers get an empty answer at once.
//!
//! This room refuses to know a concrete engine, the command line and what another door does.
//!
//! Start reading at [`http`], then `http/events.rs` as the model of a verb.

#[cfg(test)]
mod alone;
pub mod amqp;
pub mod branches;
pub(crate) mod described;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
mod keeping;
mod keys;
pub mod nodes;
mod port;
mod postgres;
pub mod projection;
pub mod push;
pub mod relay;
pub mod replica;
mod rules;
pub mod saga;
pub mod servicebus_admin;
pub(crate) mod sql;
pub mod tls;
pub mod topology;
