//! The real binary against Azure's own clients of Service Bus, unmodified, with nothing changed but the connection
//! string: Python (blocking and asyncio), JavaScript, Go and Java. Their programs in `tests/servicebus` have the same
//! cases by the same names, each with queues and topics of its own; what one prints is what is judged here. Then Celery,
//! whose transport is one of these clients, and Qpid Proton, which is none.

#[path = "../it/certificates.rs"]
mod certificates;
#[path = "../it/engine.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod engine;
#[path = "../it/namespaces.rs"]
mod namespaces;
#[path = "../it/server.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod server;

mod celery;
mod clients;
mod declared;
mod entities;
mod judge;
mod kills;
