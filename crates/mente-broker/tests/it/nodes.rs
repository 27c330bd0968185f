//! Several nodes on one engine, on one thread, with a clock that only we move.
//!
//! Shards move in order and out of order, appends fail and land late, nodes die and lose their place, and
//! clients call any of them. Who comes next is drawn from a seed. A red seed is run again alone with
//! `MENTE_NODES_SEED=17`; `MENTE_NODES_SEEDS=20000` runs more.

mod across;
mod clients;
mod traces;
mod unheard;
mod wire;
mod world;

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use mente_broker::queue::Settings;
use mente_broker::{Broker, EntityName, Options, Start};
use mente_engine::{Attribute, Engine, Event, Offset};
use serde_json::json;

use crate::rounds::{shipping, topic};
use clients::{Clients, Law, ME, PARTITIONS, Violation, stream};
use world::{SHARDS, World};

const SEEDS: u64 = 100;
const STEPS: usize = 600;
/// Steps in which shards move. Then each has one owner, and what that does about failures is its own doing:
/// no next owner mends it.
const MOVES: usize = 450;
/// A lock, in a clock that goes on by less at a time.
const LOCK: Duration = Duration::from_millis(1_000);
/// Looks after everything is healed; each lets a quarter of a lock pass.
const LOOKS: usize = 300;

/// What a world came to, to see that it was hard enough.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    settled: usize,
    unsure: usize,
    appended: usize,
    faults: usize,
    /// Appends of deposed owners.
    refused: usize,
    /// Of what was settled, deliveries by deposed owners.
    stale: usize,
    violation: Option<Violation>,
}

fn run(seed: u64, is_unfenced: bool) -> Outcome {
    let mut world = World::new(seed, is_unfenced);
    let clients = Clients::default();
    begin(&mut world);
    world.wire.storm();
    for count in 0..STEPS {
        if count == MOVES {
            world.place();
        }
        step(&mut world, &clients, count < MOVES);
        if !clients.told().violations.is_empty() {
            break;
        }
    }
    end(&mut world, &clients);
    let (faults, refused) = world.wire.failures();
    let mut told = clients.told();
    Outcome {
        settled: told.settled.len(),
        unsure: told.unsure.len(),
        appended: told.revisions.len(),
        faults,
        refused,
        stale: told.stale,
        violation: (!told.violations.is_empty()).then(|| told.violations.swap_remove(0)),
    }
}

fn begin(world: &mut World) {
    let broker = world.nodes[0].broker.clone();
    let settings = Settings {
        lock_duration_ms: LOCK.as_millis() as u64,
        max_delivery_count: 2_000,
        ..Settings::default()
    };
    let made = async {
        broker.create_topic(&ME, &topic(), PARTITIONS).await?;
        let name = shipping();
        broker
            .create_subscription(&ME, &name, settings, Start::Earliest)
            .await
    };
    let made = turn_until(world, made).expect("made within some time");
    made.unwrap();
}

fn step(world: &mut World, clients: &Clients, moves: bool) {
    match world.rng.u32(..1_000) {
        ..80 => clients.publish(world),
        80..180 => {
            let wait = Duration::from_millis(100 * world.rng.u64(..3));
            let max = world.rng.usize(1..4);
            clients.receive(world, max, wait);
        }
        180..280 => clients.settle(world, false),
        280..335 => clients.append(world),
        335..340 => clients.make(world),
        340..355 if moves => world.move_in_order(),
        355..380 if moves => world.move_out_of_order(),
        380..388 if moves => world.tell_untold(),
        388..392 if moves => world.turn_place(),
        392..395 if moves => world.crash(),
        395..460 => {
            let delay = world.rng.u64(10..400);
            world.pass(Duration::from_millis(delay));
        }
        _ => {
            world.wire.go_on();
            world.settle_down();
        }
    }
}

/// Heals everything, lets the clients finish, and looks at all that is left.
fn end(world: &mut World, clients: &Clients) {
    world.heal();
    let mut there = Vec::new();
    let mut quiet = 0;
    // Not settled before: what is under a lock comes back when that is over.
    for _ in 0..LOOKS {
        world.pass(LOCK / 4);
        clients.settle(world, true);
        clients.receive(world, 100, Duration::ZERO);
        there = events(&world.memory, "/orders");
        let is_quiet = clients.left(&there) == 0 && clients.told().under_way == 0;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        // Twice a lock, so that nothing is still out that would come again.
        if quiet > 8 || !clients.told().violations.is_empty() {
            break;
        }
    }
    if let Some(error) = world.stopped.lock().unwrap().pop() {
        clients.broken(Law::ShardStopped, error.to_string());
    }
    if quiet == 0 {
        let (left, under_way) = (clients.left(&there), clients.told().under_way);
        let what = format!("{left} events not settled, {under_way} calls not answered");
        clients.broken(Law::NeverEnds, what);
    }
    let broker = world.nodes[0].broker.clone();
    let verified = turn_until(world, async { broker.verify(&ME).await });
    match verified {
        Some(Ok(parts)) => differing(clients, parts),
        Some(Err(error)) => clients.broken(Law::NeverEnds, error.to_string()),
        None => clients.broken(Law::NeverEnds, "verify".to_owned()),
    }
    for (index, node) in world.nodes.iter().enumerate() {
        match node.broker.catalogue(&ME) {
            Ok(catalogue) => clients.judge_catalogue(&catalogue, &format!("node {index}")),
            Err(error) => clients.broken(Law::NeverEnds, format!("node {index}: {error}")),
        }
    }
    heir(world, clients, &there);
}

fn differing(clients: &Clients, parts: Vec<mente_broker::Verified>) {
    for part in parts.into_iter().filter(|part| !part.equal) {
        clients.broken(Law::FoldDiffers, format!("{part:?}"));
    }
}

/// A broker that comes after all of them, alone, finds everything that was ever answered.
fn heir(world: &World, clients: &Clients, there: &[usize]) {
    #[cfg(feature = "planted")]
    mente_broker::plant(None);
    let engine: Arc<dyn Engine> = Arc::new(world.memory.clone());
    let options = Options {
        shards: SHARDS,
        ..Options::default()
    };
    let mut pool = LocalPool::new();
    let opened = Broker::open(engine, Arc::new(world.clock.clone()), options);
    let (broker, tasks) = pool.run_until(opened).unwrap();
    for task in tasks {
        let spawner = pool.spawner();
        spawner.spawn_local(async { drop(task.await) }).unwrap();
    }
    pool.run_until_stalled();
    let looked = async {
        broker.ready().await?;
        let name = shipping();
        let received = broker.receive(&ME, &name, 1_000, Duration::ZERO).await?;
        let again = ids(received.into_iter().map(|r| r.stored.event));
        let is_empty = clients.told().revisions.is_empty();
        let events = match is_empty {
            true => Vec::new(),
            false => broker.read_stream(&ME, &stream(), 0, 10_000).await?,
        };
        let appended = ids(events.into_iter().map(|event| event.event));
        Ok::<_, mente_broker::Error>((again, appended, broker.verify(&ME).await?))
    };
    match pool.run_until(looked) {
        Ok((again, appended, parts)) => {
            clients.judge_catalogue(&broker.catalogue(&ME).unwrap(), "its heir");
            let told = clients.told().settled.clone();
            let again: Vec<_> = again.iter().filter(|id| told.contains_key(id)).collect();
            if !again.is_empty() {
                clients.broken(Law::SettledAgain, format!("{again:?}, in the end"));
            }
            clients.judge(there, &appended);
            clients.judge_letters(&events(&world.memory, "/$deadletter"));
            differing(clients, parts);
        }
        Err(error) => clients.broken(Law::ShardStopped, format!("in the end: {error}")),
    }
}

fn ids(events: impl Iterator<Item = Event>) -> Vec<usize> {
    events.map(|event| event.id.parse().unwrap()).collect()
}

/// Every event of the set whose name ends so, as it lies in the engine.
fn events(memory: &mente_engine::memory::MemoryEngine, end: &str) -> Vec<usize> {
    let read = async {
        let sets = memory.list("").await?;
        let mut found = Vec::new();
        let Some(set) = sets.iter().find(|set| set.name.as_str().ends_with(end)) else {
            return Ok(found);
        };
        for partition in 0..set.logs {
            let log = set.id.log(partition);
            let chunk = memory.read(log, Offset(0), mente_engine::Limit::default());
            let events = |batch: &mente_engine::Batch| batch.term().is_none();
            for batch in chunk.await?.batches.into_iter().filter(events) {
                for record in batch.records() {
                    let (offset, record) = record.unwrap();
                    let event = Event::from_record(&record, "", partition, offset);
                    found.push(event.id.parse().unwrap());
                }
            }
        }
        Ok::<_, mente_engine::Error>(found)
    };
    futures::executor::block_on(read).unwrap()
}

/// Lets time pass until `work` is done, or for a minute.
fn turn_until<T>(world: &mut World, work: impl Future<Output = T>) -> Option<T> {
    futures::pin_mut!(work);
    for _ in 0..600 {
        let polled = world.pool.run_until(async { futures::poll!(&mut work) });
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
        world.pass(Duration::from_millis(100));
    }
    None
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|n| n.parse().unwrap())
}

fn seeds(count: u64) -> Range<u64> {
    match number("MENTE_NODES_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MENTE_NODES_SEEDS").unwrap_or(count),
    }
}

#[test]
fn what_any_node_answered_holds_whoever_owns_what() {
    let mut sum = Outcome::default();
    let mut count = 0;
    for seed in seeds(SEEDS) {
        let outcome = run(seed, false);
        if let Some(Violation { law, what }) = outcome.violation {
            panic!("seed {seed}: {law:?}: {what}");
        }
        count += 1;
        sum.settled += outcome.settled;
        sum.unsure += outcome.unsure;
        sum.appended += outcome.appended;
        sum.faults += outcome.faults;
        sum.refused += outcome.refused;
        sum.stale += outcome.stale;
    }
    eprintln!("{count} worlds: {sum:?}");
    let is_hard = sum.settled > 10 * count && sum.appended > 2 * count && sum.faults > count;
    assert!(is_hard && sum.refused > count / 2, "too easy: {sum:?}");
}

/// Or a red seed could not be looked at.
#[test]
fn a_seed_is_one_world() {
    assert_eq!(run(7, false), run(7, false));
}

/// What one node declares the others tell by, and nobody refuses an event of a version that another one knows.
#[test]
fn a_schema_is_known_at_every_node() {
    let mut world = World::new(3, false);
    begin(&mut world);
    world.heal();
    let brokers: Vec<Broker> = world.nodes.iter().map(|node| node.broker.clone()).collect();
    let kind = EntityName::new("T").unwrap();
    let event = |id: &str, version| Event {
        id: id.into(),
        source: "/t".into(),
        kind: "T".into(),
        extensions: vec![("dataversion".into(), Attribute::Integer(version))],
        ..Event::default()
    };
    let work = async {
        let set = json!({"version": 2, "upcasters": {"1": [{"set": {"a": 1}}]}});
        brokers[0].define_schema(&ME, &kind, set).await?;
        for (node, broker) in brokers.iter().enumerate() {
            let events = vec![event(&format!("{node}"), 2), event("old", 1)];
            for published in broker.publish(&ME, &topic(), events).await? {
                published?;
            }
            for partition in 0..PARTITIONS {
                let read = broker.read(&ME, &topic(), partition, Offset(0), 100).await;
                for read in read?.0 {
                    let version = read.event.extension("dataversion").map(Attribute::to_text);
                    assert_eq!(version.as_deref(), Some("2"), "at node {node}: {read:?}");
                }
            }
        }
        Ok::<_, mente_broker::Error>(())
    };
    turn_until(&mut world, work).expect("done in time").unwrap();
}

#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use mente_broker::Planted;

    /// Most worlds that a bug may take.
    const HUNT: u64 = 300;
    /// Of owners that do not know of each other's decisions.
    const APART: &[Law] = &[
        Law::SettledAgain,
        Law::RevisionTwice,
        Law::Lost,
        Law::FoldDiffers,
        Law::ShardStopped,
    ];

    /// The first world that shows the bug must break one of the laws.
    fn hunt(bug: Option<Planted>, is_unfenced: bool, laws: &[Law]) {
        for seed in seeds(HUNT) {
            mente_broker::plant(bug);
            let outcome = run(seed, is_unfenced);
            mente_broker::plant(None);
            if let Some(Violation { law, what }) = outcome.violation {
                eprintln!("{bug:?}: seed {seed}: {law:?}: {what}");
                assert!(laws.contains(&law), "seed {seed}: {law:?}: {what}");
                return;
            }
        }
        panic!("{bug:?} was not found");
    }

    /// The fence is the engine's, so the bug is planted there: in the wire before it.
    #[test]
    fn an_engine_that_refuses_no_deposed_owner_is_found() {
        hunt(None, true, APART);
    }

    /// The engine keeps its promise and refuses all that comes under the broken fence: the shard is stuck.
    #[test]
    fn a_restore_without_a_new_claim_is_found() {
        hunt(Some(Planted::RestoreUnclaimed), false, &[Law::NeverEnds]);
    }

    #[test]
    fn a_reply_before_the_commit_is_found() {
        let laws = &[Law::SettledAgain, Law::RevisionTwice, Law::Lost];
        hunt(Some(Planted::ReplyBeforeCommit), false, laws);
    }

    #[test]
    fn a_restore_that_misses_the_tail_is_found() {
        hunt(Some(Planted::RestoreWithoutTail), false, APART);
    }

    #[test]
    fn a_claim_after_deciding_is_found() {
        hunt(Some(Planted::ClaimAfterDeciding), false, APART);
    }
    #[test]
    fn dead_letters_that_are_copied_unseen_are_found() {
        let laws = &[Law::DeadLetters];
        hunt(Some(Planted::LettersUnread), false, laws);
    }
}
