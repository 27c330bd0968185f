//! The doors.
pub mod push;
