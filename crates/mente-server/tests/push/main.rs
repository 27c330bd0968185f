//! Webhooks and those who receive them, in one process.

mod engine;

mod delivery;
