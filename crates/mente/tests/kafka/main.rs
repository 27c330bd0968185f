//! The tests of the targets `it` and `hostile` that are not about the embedded log's own files, on a real Kafka: the same
//! source, the same binary, another engine.

mod broker;
mod engine;

mod away;
mod clients;
mod nodes;
mod saga_nodes;

#[path = "../it/certificates.rs"]
mod certificates;
#[path = "../it/cutting.rs"]
mod cutting;
#[path = "../it/hooks.rs"]
mod hooks;
#[path = "../../../mente-server/tests/amqp/peer.rs"]
#[expect(dead_code, reason = "the door's tests use the rest")]
mod peer;
#[path = "../it/postgres.rs"]
mod postgres;
#[path = "../it/repositories.rs"]
mod repositories;
#[path = "../it/server.rs"]
mod server;

#[path = "../it/alternatives.rs"]
mod alternatives;
#[path = "../it/audit.rs"]
mod audit;
#[path = "../it/cloudevents_sdks.rs"]
mod cloudevents_sdks;
#[path = "../it/commands.rs"]
mod commands;
#[path = "../it/demo.rs"]
mod demo;
#[path = "../it/doors.rs"]
mod doors;
#[path = "../it/eventgrid_sdk.rs"]
mod eventgrid_sdk;
#[path = "../it/events.rs"]
mod events;
#[path = "../it/git.rs"]
mod git;
#[path = "../it/ledger.rs"]
mod ledger;
#[path = "../it/ledger_stream.rs"]
mod ledger_stream;
#[path = "../it/memory.rs"]
mod memory;
#[path = "../it/openapi.rs"]
mod openapi;
#[path = "../it/parked.rs"]
mod parked;
#[path = "../it/past.rs"]
mod past;
#[path = "../it/process.rs"]
mod process;
#[path = "../it/projections.rs"]
mod projections;
#[path = "../it/pull.rs"]
mod pull;
#[path = "../it/quota.rs"]
mod quota;
#[path = "../it/reducers.rs"]
mod reducers;
#[path = "../it/refusals.rs"]
mod refusals;
#[path = "../it/relays.rs"]
mod relays;
#[path = "../it/replay.rs"]
mod replay;
#[path = "../it/replicas.rs"]
mod replicas;
#[path = "../it/retention.rs"]
mod retention;
#[path = "../it/rollback.rs"]
mod rollback;
#[path = "../it/saga_faults.rs"]
mod saga_faults;
#[path = "../it/sagas.rs"]
mod sagas;
#[path = "../it/schema_readers.rs"]
mod schema_readers;
#[path = "../it/schemas.rs"]
mod schemas;
#[path = "../it/shop_page.rs"]
mod shop_page;
#[path = "../it/sql.rs"]
mod sql;
#[path = "../it/sql_views.rs"]
mod sql_views;
#[path = "../it/store.rs"]
mod store;
#[path = "../it/store_subscriptions.rs"]
mod store_subscriptions;
#[path = "../it/tail.rs"]
mod tail;
#[path = "../it/tls.rs"]
mod tls;
#[path = "../it/topology.rs"]
mod topology;
#[path = "../it/trace.rs"]
mod trace;
#[path = "../it/transactions.rs"]
mod transactions;
#[path = "../it/verbs.rs"]
mod verbs;
#[path = "../it/webhooks.rs"]
mod webhooks;

// Clients that mean harm.
#[path = "../hostile/attack.rs"]
mod attack;
#[path = "../hostile/bodies.rs"]
mod bodies;
#[path = "../hostile/connections.rs"]
mod connections;
#[path = "../hostile/reducers.rs"]
mod hostile_reducers;
#[path = "../hostile/schemas.rs"]
mod hostile_schemas;
#[path = "../hostile/sql.rs"]
mod hostile_sql;
#[path = "../hostile/webhooks.rs"]
mod hostile_webhooks;
#[path = "../hostile/names.rs"]
mod names;
#[path = "../hostile/queries.rs"]
mod queries;
#[path = "../hostile/readers.rs"]
mod readers;
