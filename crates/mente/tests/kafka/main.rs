//! The tests of the target `it` that are not about the embedded log's own files, on a real Kafka: the same
//! source, the same binary, another engine.

mod engine;

#[path = "../it/certificates.rs"]
mod certificates;
#[path = "../it/server.rs"]
mod server;

#[path = "../it/cloudevents_sdks.rs"]
mod cloudevents_sdks;
#[path = "../it/eventgrid_sdk.rs"]
mod eventgrid_sdk;
#[path = "../it/events.rs"]
mod events;
#[path = "../it/memory.rs"]
mod memory;
#[path = "../it/openapi.rs"]
mod openapi;
#[path = "../it/process.rs"]
mod process;
#[path = "../it/pull.rs"]
mod pull;
#[path = "../it/refusals.rs"]
mod refusals;
#[path = "../it/tail.rs"]
mod tail;
#[path = "../it/tls.rs"]
mod tls;
#[path = "../it/verbs.rs"]
mod verbs;
#[path = "../it/webhooks.rs"]
mod webhooks;
