//! A machine between a client of the tests and a door of theirs.

mod audit;
mod captures;
mod door;
mod flow;
mod hostile;
mod link;
mod opening;
mod parts;
mod peer;
mod transfer;
