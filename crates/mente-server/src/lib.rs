//! The doors: sockets, limits and protocols in front of the broker; and its built-in clients.

pub mod projection;
