//! The tests of webhooks and projections on a real Kafka: the same source, another engine.

#[path = "../../../mente/tests/kafka/broker.rs"]
#[expect(dead_code, reason = "only nodes are left without it")]
mod broker;
mod engine;
#[path = "../../../mente/tests/it/postgres.rs"]
mod postgres;

#[path = "../push/delivery/mod.rs"]
mod delivery;
#[path = "../projection/kept.rs"]
mod kept;
#[path = "../projection/outside.rs"]
mod outside;
#[path = "../projection/parked.rs"]
mod parked;
#[path = "../projection/views.rs"]
mod views;
