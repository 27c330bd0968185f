//! What it costs to tell events in the current version of their type: `telling`.
//!
//! A topic of 100,000 events of 200 bytes in memory is read a thousand at a time, as a reader reads it: without any
//! schema, with one of another type, and with upcasters of each kind. The best of three readings, an event.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use mente_broker::{Broker, EntityName, Options, Principal};
use mente_engine::memory::MemoryEngine;
use mente_engine::{Clock, Data, Event, Now, Offset, Timestamp};
use serde_json::{Value, json};

const EVENTS: usize = 100_000;
const ME: Principal = Principal::Anonymous;

struct Real(Instant);

impl Clock for Real {
    fn now(&self) -> Now {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Now {
            monotone: self.0.elapsed(),
            wall: Timestamp(since.as_millis() as i64),
        }
    }

    fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

fn main() {
    let mut pool = LocalPool::new();
    let engine = Arc::new(MemoryEngine::new(1));
    let clock = Arc::new(Real(Instant::now()));
    let options = Options {
        create_topics: true,
        ..Options::default()
    };
    let opened = pool.run_until(Broker::open(engine, clock, options));
    let (broker, shards) = opened.expect("a broker in memory");
    for shard in shards {
        let shard = async move { drop(shard.await) };
        pool.spawner().spawn_local(shard).expect("a task");
    }
    let name = |name: &str| EntityName::new(name).expect("a name");
    let (topic, kind) = (name("t"), name("T"));
    pool.run_until(fill(&broker, &topic));
    let declared = json!([{"rename": {"name": "customer.name"}}, {"default": {"currency": "EUR"}}]);
    let split = json!({"split": [{"type": "A", "data": {"name": "$.data.name"}}, {"type": "B"}]});
    let program = json!({"javascript": "function upcast(event) { event.data.customer = { name: event.data.name } }"});
    let rows: [(&str, &EntityName, Option<Value>); 7] = [
        ("no schema", &kind, None),
        ("as they were written", &kind, None),
        ("a schema of another type", &name("Other"), Some(json!([]))),
        ("declared, two operations", &kind, Some(declared)),
        ("declared, split in two", &kind, Some(split)),
        ("dropped", &kind, Some(json!("drop"))),
        ("JavaScript", &kind, Some(program)),
    ];
    for (what, of, upcaster) in rows {
        let reader = match what {
            "as they were written" => broker.as_written(),
            _ => broker.clone(),
        };
        if let Some(upcaster) = upcaster {
            let schema = json!({"version": 2, "upcasters": {"1": upcaster}});
            let defined = pool.run_until(broker.define_schema(&ME, of, schema));
            defined.expect("a schema");
        }
        let took = (0..3).map(|_| pool.run_until(read(&reader, &topic)));
        let took = took.min().unwrap_or_default();
        println!(
            "{what:28} {:8.3} us an event",
            took.as_secs_f64() * 1e6 / EVENTS as f64
        );
    }
}

async fn fill(broker: &Broker, topic: &EntityName) {
    for some in 0..EVENTS / 1_000 {
        let event = |n| Event {
            id: format!("{n}"),
            source: "/bench".into(),
            kind: "T".into(),
            datacontenttype: Some("application/json".into()),
            data: Data::Json(
                json!({"name": "Ann", "n": n, "note": "x".repeat(160)})
                    .to_string()
                    .into(),
            ),
            ..Event::default()
        };
        let events = (some * 1_000..(some + 1) * 1_000).map(event).collect();
        let published = broker.publish(&ME, topic, events).await;
        published.expect("a batch that is taken");
    }
}

async fn read(broker: &Broker, topic: &EntityName) -> Duration {
    let began = Instant::now();
    let mut from = Offset(0);
    loop {
        let read = broker.read(&ME, topic, 0, from, 1_000).await;
        let (events, next) = read.expect("events");
        std::hint::black_box(events);
        if next <= from {
            return began.elapsed();
        }
        from = next;
    }
}
