//! SQL views over a broker that is dropped where it is and opened again.

#[path = "../push/engine.rs"]
mod engine;
#[path = "../../../mente/tests/it/postgres.rs"]
mod postgres;

mod kept;
mod outside;
mod parked;
mod views;
