//! Clients, receivers and statements that mean harm, against the real binary. Each test bounds
//! what the server's memory grows by while it lasts, and ends with a publish that is answered.

#[path = "../it/engine.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod engine;
#[path = "../it/server.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod server;

#[path = "../../../mente-server/tests/amqp/peer.rs"]
#[expect(dead_code, reason = "the tests of the door use the rest")]
mod peer;

mod attack;

mod amqp;
mod bodies;
mod connections;
mod names;
mod queries;
mod readers;
mod reducers;
mod schemas;
mod sql;
mod webhooks;
