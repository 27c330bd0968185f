//! States that are kept: they answer as a fold from the first event does, and read less.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use mente_broker::{AsOf, Broker, EntityName, Expected, Metadata, Options, StreamName, WhatIf};
use mente_engine::memory::MemoryEngine;
use mente_engine::{
    Answer, Appended, Batch, Bounds, Change, Chunk, Data, Engine, Event, Fence, Limit, LogConfig,
    LogId, Offset, SetId, SetInfo, SetName, Timestamp,
};
use serde_json::{Value, json};

use crate::clock::HandClock;
use crate::rounds::ME;

/// Counts what is read of every log.
#[derive(Clone, Debug)]
struct Counting {
    engine: MemoryEngine,
    reads: Arc<AtomicU64>,
}

impl Engine for Counting {
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId> {
        self.engine.create(name, logs, config)
    }
    fn alter(&self, set: SetId, change: Change) -> Answer<()> {
        self.engine.alter(set, change)
    }
    fn delete(&self, set: SetId) -> Answer<()> {
        self.engine.delete(set)
    }
    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>> {
        self.engine.list(prefix)
    }
    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>> {
        self.engine.append(fences, batches)
    }
    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.engine.read(log, from, limit)
    }
    fn bounds(&self, log: LogId) -> Answer<Bounds> {
        self.engine.bounds(log)
    }
    fn size(&self, log: LogId, offsets: Range<Offset>) -> Answer<Option<u64>> {
        self.engine.size(log, offsets)
    }
    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset> {
        self.engine.watch(log, seen)
    }
    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset> {
        self.engine.offset_at(log, time)
    }
    fn trim(&self, log: LogId, before: Offset) -> Answer<()> {
        self.engine.trim(log, before)
    }
    fn claim(&self, log: LogId) -> Answer<Fence> {
        self.engine.claim(log)
    }
}

struct World {
    engine: Counting,
    clock: HandClock,
    tail_events: usize,
    pool: LocalPool,
    broker: Broker,
}

/// What is asked of the past of a stream.
#[derive(Clone, Debug)]
enum Question {
    State(AsOf),
    Log(Option<u64>, usize),
    Diff(u64, u64),
    Blame(AsOf),
    WhatIf(AsOf, WhatIf),
}

impl World {
    fn new(seed: u64, tail_events: usize) -> Self {
        let engine = Counting {
            engine: MemoryEngine::new(seed),
            reads: Arc::default(),
        };
        Self::open(engine, HandClock::default(), tail_events)
    }

    fn open(engine: Counting, clock: HandClock, tail_events: usize) -> Self {
        let mut pool = LocalPool::new();
        let options = Options {
            shards: 2,
            tail_events,
            ..Options::default()
        };
        let shared: Arc<dyn Engine> = Arc::new(engine.clone());
        let opened = Broker::open(shared, Arc::new(clock.clone()), options);
        let (broker, tasks) = pool.run_until(opened).unwrap();
        for task in tasks {
            pool.spawner()
                .spawn_local(async { drop(task.await) })
                .unwrap();
        }
        pool.run_until(broker.ready()).unwrap();
        Self {
            engine,
            clock,
            tail_events,
            pool,
            broker,
        }
    }

    /// The same without anything in memory.
    fn cold(self) -> Self {
        let (engine, clock, tail) = (self.engine.clone(), self.clock.clone(), self.tail_events);
        drop(self);
        Self::open(engine, clock, tail)
    }

    fn declare(&mut self, category: &str, declared: Value) {
        let (broker, name) = (self.broker.clone(), EntityName::new(category).unwrap());
        let declared = broker.define_fold(&ME, &name, declared);
        self.pool.run_until(declared).unwrap();
    }

    fn append(&mut self, stream: &str, events: Vec<Event>) {
        self.clock.pass(Duration::from_millis(10));
        let (broker, stream) = (self.broker.clone(), StreamName::new(stream).unwrap());
        let appended = broker.append_stream(&ME, &stream, Expected::Any, events);
        self.pool.run_until(appended).unwrap();
        // Blocks are written meanwhile.
        self.pool.run_until_stalled();
    }

    fn show(&mut self, stream: &str, id: &str, truncate_before: u64, max_count: Option<u64>) {
        let (broker, stream) = (self.broker.clone(), StreamName::new(stream).unwrap());
        let metadata = Metadata {
            truncate_before,
            max_count,
            ..Metadata::default()
        };
        let said = broker.set_stream_metadata(&ME, &stream, id, Expected::Any, &metadata);
        self.pool.run_until(said).unwrap();
        self.pool.run_until_stalled();
    }

    /// The answer, and how often the engine was read for it.
    fn ask(&mut self, stream: &str, question: &Question) -> (String, u64) {
        let (broker, stream) = (self.broker.clone(), StreamName::new(stream).unwrap());
        self.pool.run_until_stalled();
        let before = self.engine.reads.load(Ordering::Relaxed);
        let answer = self.pool.run_until(async {
            match question.clone() {
                Question::State(as_of) => {
                    let told = broker.stream_state(&ME, &stream, as_of).await;
                    told.map(|told| format!("{} {}", told.revision, told.state))
                }
                Question::Log(before, max) => {
                    let told = broker.stream_log(&ME, &stream, before, max).await;
                    told.map(|told| format!("{told:?}"))
                }
                Question::Diff(from, to) => {
                    let told = broker.stream_difference(&ME, &stream, from, to).await;
                    told.map(|told| format!("{told:?}"))
                }
                Question::Blame(as_of) => {
                    let told = broker.stream_blame(&ME, &stream, None, as_of).await;
                    told.map(|told| format!("{told:?}"))
                }
                Question::WhatIf(as_of, what_if) => {
                    let told = broker.stream_what_if(&ME, &stream, as_of, &what_if).await;
                    told.map(|told| format!("{told:?}"))
                }
            }
        });
        let answer = answer.unwrap_or_else(|error| error.to_string());
        (answer, self.engine.reads.load(Ordering::Relaxed) - before)
    }

    fn state(&mut self, stream: &str, as_of: AsOf) -> (Value, u64) {
        let (told, reads) = self.ask(stream, &Question::State(as_of));
        let (_, state) = told.split_once(' ').unwrap();
        let state = serde_json::from_str(state);
        (state.unwrap_or_else(|_| panic!("{told}")), reads)
    }
}

fn event(id: &str, n: u64) -> Event {
    Event {
        id: id.to_owned(),
        source: "/t".into(),
        kind: ["A", "B"][(n % 2) as usize].into(),
        data: Data::Json(Bytes::from(
            json!({"n": n, "m": {format!("k{}", n % 5): n}}).to_string(),
        )),
        ..Event::default()
    }
}

fn declared(last: &str) -> Value {
    json!({
        "A": [{"add": {"sum": "$.data.n"}}, {"set": {last: "$.id"}}, {"merge": "$.data.m"}],
        "B": [{"add": {"sum": "$.data.n"}}, {"set": {last: "$.id", "b": "$.revision"}}],
    })
}

fn programmed(last: &str) -> Value {
    json!({"javascript": format!("
        function reduce(state, event) {{
            state.sum = (state.sum ?? 0) + event.data.n;
            if (event.type === 'A') Object.assign(state, event.data.m);
            else state.b = event.revision;
            state.{last} = event.id;
            // In the order in which they came: a state that is kept must not forget it.
            state.names = Object.keys(state).filter((name) => name !== 'names').join();
        }}")})
}

fn as_of(random: &mut fastrand::Rng, length: u64) -> AsOf {
    match random.usize(..4) {
        0 => AsOf::Now,
        1 => AsOf::Time(Timestamp(random.i64(0..2_000))),
        _ => AsOf::Revision(random.u64(..length + 2)),
    }
}

fn question(random: &mut fastrand::Rng, length: u64) -> Question {
    let revision = |random: &mut fastrand::Rng| random.u64(..length + 1);
    match random.usize(..8) {
        0 => {
            let before = random.bool().then(|| revision(random));
            Question::Log(before, random.usize(1..20))
        }
        1 => Question::Diff(revision(random), revision(random)),
        2 => Question::Blame(as_of(random, length)),
        3 => {
            let mut what_if = WhatIf::default();
            if random.bool() {
                what_if.drop.insert(revision(random));
            }
            if random.bool() {
                let other = event("other", random.u64(..100));
                what_if.replace.insert(revision(random), other);
            }
            if random.bool() {
                what_if.append.push(event("more", 7));
            }
            Question::WhatIf(as_of(random, length), what_if)
        }
        _ => Question::State(as_of(random, length)),
    }
}

/// Appends, questions and new declarations at random: what a broker answers that has kept states for long is
/// what one answers that has kept none.
#[test]
fn what_is_kept_answers_as_a_fold_from_the_beginning() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed, [16, 1_000][seed as usize % 2]);
        let streams = ["a-1", "a-2", "b-1", "b-2", "c-1"];
        let mut lengths = [0_u64; 5];
        let mut asked = Vec::new();
        world.declare("a", declared("last"));
        world.declare("b", programmed("last"));
        for step in 0..300 {
            let at = random.usize(..streams.len());
            match random.usize(..10) {
                0..3 => {
                    let events =
                        (0..random.u64(1..8)).map(|n| event(&format!("{step}-{n}"), n * 3 + step));
                    let events: Vec<_> = events.collect();
                    lengths[at] += events.len() as u64;
                    world.append(streams[at], events);
                    asked.clear();
                }
                // What readers see of a stream changes, and back again.
                4 if lengths[at] > 0 && step % 2 == 0 => {
                    let truncate_before = random.u64(..lengths[at]) * u64::from(random.bool());
                    let max_count = (random.usize(..3) == 0).then(|| random.u64(1..20));
                    world.show(streams[at], &format!("m{step}"), truncate_before, max_count);
                    asked.clear();
                }
                3 if step % 3 == 0 => {
                    let last = ["last", "newest"][random.usize(..2)];
                    world.declare("a", declared(last));
                    world.declare("b", programmed(last));
                    asked.clear();
                }
                _ => {
                    let question = question(&mut random, lengths[at]);
                    let (answer, _) = world.ask(streams[at], &question);
                    asked.push((streams[at], question, answer));
                }
            }
        }
        for _ in 0..60 {
            let at = random.usize(..streams.len());
            let question = question(&mut random, lengths[at]);
            let (answer, _) = world.ask(streams[at], &question);
            asked.push((streams[at], question, answer));
        }
        for (stream, question, answer) in asked {
            world = world.cold();
            let (cold, _) = world.ask(stream, &question);
            assert_eq!(answer, cold, "seed {seed}: {stream} {question:?}");
        }
    }
}

#[test]
fn a_long_stream_is_read_once() {
    const EVENTS: u64 = 100_000;
    let mut world = World::new(1, 65_536);
    world.declare("a", declared("last"));
    for batch in 0..EVENTS / 5_000 {
        let events = (0..5_000).map(|n| event(&format!("{batch}-{n}"), n));
        world.append("a-1", events.collect());
    }
    let (state, whole) = world.state("a-1", AsOf::Now);
    assert_eq!(state["last"], json!("19-4999"));
    assert!(whole > 100, "{whole}");
    // Again: nothing is read.
    assert_eq!(world.state("a-1", AsOf::Now), (state.clone(), 0));
    let last = AsOf::Revision(EVENTS - 1);
    assert_eq!(world.state("a-1", last), (state, 0));
    // One more: nothing but it is read.
    world.append("a-1", vec![event("more", 1)]);
    let (state, reads) = world.state("a-1", AsOf::Now);
    assert_eq!((&state["last"], reads), (&json!("more"), 1));
    // Any other moment: from the nearest state that is kept.
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..5 {
        let at = random.u64(..EVENTS);
        let (state, reads) = world.state("a-1", AsOf::Revision(at));
        assert_eq!(
            state["last"],
            json!(format!("{}-{}", at / 5_000, at % 5_000))
        );
        assert!(reads < whole / 5, "{reads} of {whole} at {at}");
    }
    let (_, reads) = world.ask("a-1", &Question::Log(None, 20));
    assert!(reads < whole / 5, "{reads} of {whole}");
    // A fold that is declared anew reads all again, and once.
    world.declare("a", declared("newest"));
    let (state, reads) = world.state("a-1", AsOf::Now);
    assert_eq!(
        (&state["newest"], &state["last"]),
        (&json!("more"), &Value::Null)
    );
    assert!(reads >= whole, "{reads} of {whole}");
    assert_eq!(world.state("a-1", AsOf::Now).1, 0);
}

#[test]
fn what_is_hidden_is_in_no_state_and_what_is_shown_again_is() {
    let mut world = World::new(1, 1_000);
    world.declare("a", declared("last"));
    world.append("a-1", (0..10).map(|n| event(&n.to_string(), n)).collect());
    let sum = |world: &mut World| world.state("a-1", AsOf::Now).0["sum"].clone();
    assert_eq!(sum(&mut world), json!(45));
    world.show("a-1", "m1", 8, None);
    assert_eq!(sum(&mut world), json!(8 + 9));
    let (told, _) = world.ask("a-1", &Question::State(AsOf::Revision(7)));
    assert!(told.contains("is truncated"), "{told}");
    world.append("a-1", vec![event("10", 10)]);
    assert_eq!(sum(&mut world), json!(8 + 9 + 10));
    world.show("a-1", "m2", 0, None);
    assert_eq!(sum(&mut world), json!(55));
}
