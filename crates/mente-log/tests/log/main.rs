//! The embedded log from outside: the conformance suite on a real directory, crashes on a disk
//! in memory, damage of closed data.

mod backup;
mod conforms;
mod crash;
mod driven;
mod full;
mod limits;
mod packs;
mod rot;
mod time;
