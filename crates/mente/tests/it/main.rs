//! The real binary, from outside: every test spawns its own server in a directory of its own.

mod certificates;
mod engine;
mod repositories;
mod server;

mod backup;
mod chaos;
mod cloudevents_sdks;
mod demo;
mod doctor;
mod eventgrid_sdk;
mod events;
mod faults;
mod full;
mod git;
mod golden;
mod ledger;
mod ledger_stream;
mod memory;
mod openapi;
mod past;
mod process;
mod pull;
mod refusals;
mod replay;
mod retire;
mod shop_page;
mod store;
mod store_subscriptions;
mod tail;
mod tls;
mod verbs;
mod webhooks;
