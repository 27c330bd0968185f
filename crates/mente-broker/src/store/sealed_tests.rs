//! A store that seals every few events, beside one that seals none: whatever is asked, over restarts too,
//! both answer the same.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use mente_engine::memory::{Fault, MemoryEngine};
use mente_engine::{Attribute, Clock, Engine, Event, Now, Timestamp};

use super::tests::{seal_as_before, weaken};
use super::{Append, CAUSATION, Check, Direction, Expected, Query, QueryItem, TAGS};
use super::{AppendedTo, Metadata};
use crate::access::Principal;
use crate::broker::{Broker, Deletion, Options};
use crate::error::Kind;
use crate::name::StreamName;

const ME: Principal = Principal::Anonymous;
const STREAMS: [&str; 7] = ["a-1", "a-2", "a-3", "b-1", "b-2", "b-3", "c-1"];

/// Stands still, and no pause takes any time.
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Now {
        let (monotone, wall) = (Duration::ZERO, Timestamp(0));
        Now { monotone, wall }
    }

    fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

struct World {
    engine: MemoryEngine,
    tail_events: usize,
    pool: LocalPool,
    broker: Broker,
}

impl World {
    fn open(engine: MemoryEngine, tail_events: usize) -> Self {
        let mut pool = LocalPool::new();
        let options = Options {
            shards: 2,
            tail_events,
            snapshot_bytes: 700,
            ..Options::default()
        };
        let shared: Arc<dyn Engine> = Arc::new(engine.clone());
        let opened = Broker::open(shared, Arc::new(StoppedClock), options);
        let (broker, tasks) = pool.run_until(opened).unwrap();
        let spawner = pool.spawner();
        for task in tasks {
            spawner.spawn_local(async { drop(task.await) }).unwrap();
        }
        pool.run_until(broker.ready()).unwrap();
        Self {
            engine,
            tail_events,
            pool,
            broker,
        }
    }

    fn crash(self) -> Self {
        let (engine, tail_events) = (self.engine.clone(), self.tail_events);
        drop(self);
        Self::open(engine, tail_events)
    }

    fn fail_index(&mut self, fault: Fault) {
        let listed = self.pool.run_until(self.engine.list("default/$index"));
        self.engine.inject(listed.unwrap()[0].id.log(0), fault);
    }

    fn run<F: Future>(&mut self, what: impl FnOnce(Broker) -> F) -> F::Output {
        let answer = self.pool.run_until(what(self.broker.clone()));
        // Blocks are written meanwhile.
        self.pool.run_until_stalled();
        answer
    }
}

fn name(at: usize) -> StreamName {
    StreamName::new(STREAMS[at % STREAMS.len()]).unwrap()
}

fn event(random: &mut fastrand::Rng, id: usize) -> Event {
    let tags = ["", "x", "x,y", "y", "z"][random.usize(..5)];
    let mut extensions = vec![(TAGS.to_owned(), Attribute::Text(tags.to_owned()))];
    if random.bool() {
        let cause = Attribute::Text(random.usize(..30).to_string());
        extensions.push((CAUSATION.to_owned(), cause));
    }
    Event {
        id: id.to_string(),
        source: "/t".into(),
        kind: format!("t{}", random.usize(..4)),
        extensions,
        ..Event::default()
    }
}

fn query(random: &mut fastrand::Rng) -> Query {
    let item = |random: &mut fastrand::Rng| QueryItem {
        types: (0..random.usize(..3))
            .map(|_| format!("t{}", random.usize(..5)))
            .collect(),
        tags: (0..random.usize(..3))
            .map(|n| ["x", "y", "z"][(n + random.usize(..2)) % 3].to_owned())
            .collect(),
        category: random
            .bool()
            .then(|| ["a", "b"][random.usize(..2)].to_owned()),
        causation: (random.u8(..4) == 0).then(|| random.usize(..30).to_string()),
        id: (random.u8(..6) == 0).then(|| random.usize(..30).to_string()),
        ..QueryItem::default()
    };
    let items = (0..random.usize(..3)).map(|_| item(random));
    Query {
        items: items.collect(),
    }
}

fn append(random: &mut fastrand::Rng, made: &mut Vec<Append>, is_weak: bool) -> Append {
    if !made.is_empty() && random.u8(..4) == 0 {
        return made[random.usize(..made.len())].clone();
    }
    let mut events = Vec::new();
    for _ in 0..random.usize(1..5) {
        let id = match random.u8(..8) {
            0 => random.usize(..30),
            _ => 1_000 + random.usize(..1_000_000),
        };
        events.push((name(random.usize(..STREAMS.len())), event(random, id)));
    }
    let mut checks = Vec::new();
    for _ in 0..random.usize(..3) {
        let stream = name(random.usize(..STREAMS.len()));
        let expected = match random.u8(..6) {
            0 => Expected::NoStream,
            1 => Expected::StreamExists,
            2 | 3 => Expected::Revision(random.u64(..20)),
            _ => Expected::Any,
        };
        // Where keys meet, events that do not match stand in the way of an append: that is safe.
        checks.push(match random.bool() && !is_weak {
            true => Check::Query {
                query: query(random),
                after: random.bool().then(|| random.u64(..80)),
            },
            false => Check::Stream(stream, expected),
        });
    }
    let append = Append::new(events, checks);
    made.push(append.clone());
    append
}

/// What a reader sees, without offsets, which differ between the two.
type Seen = Vec<(StreamName, u64, u64, String)>;

fn read(world: &mut World, random: &mut fastrand::Rng) -> Result<Seen, Kind> {
    let direction = [Direction::Forwards, Direction::Backwards][random.usize(..2)];
    let (from, max) = ([0, 3, 20, u64::MAX][random.usize(..4)], random.usize(1..40));
    let stream = random.bool().then(|| name(random.usize(..STREAMS.len())));
    let query = query(random);
    let events = world.run(async |broker| {
        let Some(stream) = &stream else {
            let mut all = Vec::new();
            let mut next = Some(from);
            while let Some(from) = next {
                let found = broker
                    .find_events(&ME, &query, from, direction, max)
                    .await?;
                // Forwards the end is where nothing comes; hashes that met may leave a page empty.
                let is_end =
                    direction == Direction::Forwards && found.next == Some(found.end.max(from));
                all.extend(found.events);
                next = found.next.filter(|_| !is_end);
            }
            return Ok(all);
        };
        let page = broker
            .read_stream_page(&ME, stream, from, 0, direction, max)
            .await;
        page.map(|page| page.events)
    });
    let seen = events.map_err(|error: crate::error::Error| error.kind)?;
    let seen = seen
        .into_iter()
        .map(|e| (e.stream, e.place.position, e.place.revision, e.event.id));
    Ok(seen.collect())
}

/// Truncates a stream, or deletes it, seldom for good.
fn say(
    world: &mut World,
    id: &str,
    random: &mut fastrand::Rng,
) -> Result<AppendedTo, (Kind, String)> {
    let stream = name(random.usize(..STREAMS.len()));
    let expected = match random.u8(..4) {
        0 => Expected::NoStream,
        1 => Expected::StreamExists,
        _ => Expected::Any,
    };
    let metadata = Metadata {
        truncate_before: random.u64(..12),
        max_count: random.bool().then(|| random.u64(1..5)),
        ..Metadata::default()
    };
    let (is_deleted, is_for_good) = (random.bool(), random.u8(..16) == 0);
    let said = world.run(async |broker| match (is_deleted, is_for_good) {
        (false, _) => {
            let set = broker.set_stream_metadata(&ME, &stream, id, expected, &metadata);
            set.await
        }
        (true, false) => {
            let deleted = broker.delete_stream(&ME, &stream, id, expected, Deletion::Soft);
            deleted.await
        }
        (true, true) => {
            let deleted = broker.delete_stream(&ME, &stream, id, expected, Deletion::ForGood);
            deleted.await
        }
    });
    said.map_err(|error| (error.kind, error.message))
}

/// Of the first `before` steps blocks are of the first version.
fn both_answer_alike(seed: u64, is_weak: bool, before: usize) {
    both_answer_alike_with(3, seed, is_weak, before);
}

/// `tail` events at least come into a block.
fn both_answer_alike_with(tail: usize, seed: u64, is_weak: bool, before: usize) {
    weaken(is_weak);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut made = Vec::new();
    let mut worlds = [(1, tail), (2, 1_000_000)]
        .map(|(holes, tail)| World::open(MemoryEngine::new(holes), tail));
    for step in 0..150 {
        seal_as_before(step < before);
        if random.u8(..12) == 0 {
            // Of a block that is not written nothing is heard, and another one is.
            let fault = [Fault::UnknownAndLost, Fault::UnknownButDone][random.usize(..2)];
            worlds[0].fail_index(fault);
        }
        match random.u8(..12) {
            0 => worlds = worlds.map(World::crash),
            10.. => {
                let (choice, id) = (random.u64(..), format!("m{step}"));
                let [sealed, whole] = worlds
                    .each_mut()
                    .map(|world| say(world, &id, &mut fastrand::Rng::with_seed(choice)));
                assert_eq!(sealed, whole, "seed {seed} step {step}");
            }
            1..6 => {
                let append = append(&mut random, &mut made, is_weak);
                let [sealed, whole] = worlds.each_mut().map(|world| {
                    let append = append.clone();
                    let appended = world.run(async |broker| broker.append_store(&ME, append).await);
                    appended.map_err(|error| (error.kind, error.message))
                });
                assert_eq!(sealed, whole, "seed {seed} step {step} {append:?}");
            }
            _ => {
                let choice = random.u64(..);
                let [sealed, whole] = worlds
                    .each_mut()
                    .map(|world| read(world, &mut fastrand::Rng::with_seed(choice)));
                assert_eq!(sealed, whole, "seed {seed} step {step}");
            }
        }
    }
    let [sealed, whole] = worlds.each_mut().map(|world| {
        let verified = world.run(async |broker| broker.verify(&ME).await).unwrap();
        assert!(verified.iter().all(|part| part.equal), "{verified:?}");
        let streams = world
            .run(async |broker| broker.streams(&ME, 0, 100).await)
            .unwrap();
        (streams.0, world.broker.blocks())
    });
    assert_eq!(sealed.0, whole.0, "seed {seed}");
    let few_blocks = if tail > 3 { 0 } else { 10 };
    assert!(sealed.1 > few_blocks && whole.1 == 0, "{} blocks", sealed.1);
    weaken(false);
}

#[test]
fn sealed_events_answer_as_those_in_memory() {
    (0..40).for_each(|seed| both_answer_alike(seed, false, 0));
}

/// Of one key there may be more in a block than are looked at one by one.
#[test]
fn large_blocks_answer_as_small_ones() {
    (0..40).for_each(|seed| both_answer_alike_with(24, seed, false, 0));
    (40..50).for_each(|seed| both_answer_alike_with(24, seed, true, 75));
}

#[test]
fn keys_that_meet_do_not_mislead() {
    (0..20).for_each(|seed| both_answer_alike(seed, true, 0));
}

#[test]
fn blocks_of_the_first_version_answer_too() {
    (0..20).for_each(|seed| both_answer_alike(seed, false, 75));
    (20..30).for_each(|seed| both_answer_alike(seed, true, 150));
}

#[test]
fn a_trace_goes_through_blocks_of_both_versions() {
    let mut world = World::open(MemoryEngine::new(1), 3);
    for n in 0..40_usize {
        seal_as_before(n < 20);
        let cause = n
            .checked_sub(1)
            .map_or("nobody".to_owned(), |n| n.to_string());
        let event = Event {
            id: n.to_string(),
            source: "/t".into(),
            kind: "t".into(),
            extensions: vec![(CAUSATION.to_owned(), Attribute::Text(cause))],
            ..Event::default()
        };
        let append = Append::to(&name(n), Expected::Any, vec![event]);
        let appended = world.run(async |broker| broker.append_store(&ME, append).await);
        appended.unwrap();
    }
    let mut world = world.crash();
    assert!(world.broker.blocks() > 10);
    for asked in ["0", "17", "39"] {
        let trace = world.run(async |broker| broker.trace(&ME, asked, None).await);
        let trace = trace.unwrap();
        let found = trace
            .places
            .iter()
            .map(|place| (place.event.id.clone(), place.depth));
        let expected: Vec<_> = (0..40).map(|n| (n.to_string(), n)).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected, "from {asked}");
        let [missed] = &trace.incomplete[..] else {
            panic!("{:?}", trace.incomplete)
        };
        assert!(
            missed.contains("\"nobody\", the cause of \"0\""),
            "{missed}"
        );
    }
    // What is only named has its effects all the same.
    let named = world.run(async |broker| broker.trace(&ME, "nobody", None).await);
    let named = named.unwrap();
    assert_eq!(named.places.len(), 40);
    assert!(named.incomplete[0].contains("\"nobody\" itself"));
    let unknown = world.run(async |broker| broker.trace(&ME, "never", None).await);
    assert_eq!(unknown.unwrap_err().kind, Kind::NotFound);
}
