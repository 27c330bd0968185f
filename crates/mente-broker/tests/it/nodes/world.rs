//! The nodes of one engine, who of them owns what, and who only believes so.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::executor::{LocalPool, LocalSpawner};
use futures::future::{Either, RemoteHandle, Shared, select};
use futures::task::{LocalSpawnExt, SpawnExt};
use mente_broker::{Answer, Broker, Error, Kind, Options, Peers};
use mente_engine::memory::MemoryEngine;

use super::wire::Wire;
use crate::clock::HandClock;

pub(super) const SHARDS: u32 = 4;

/// Resolves when a node dies.
pub(super) type Death = Shared<oneshot::Receiver<()>>;
/// A shard task's end, which there should be none of.
type Ends = Arc<Mutex<Vec<Error>>>;

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) memory: MemoryEngine,
    pub(super) wire: Wire,
    pub(super) clock: HandClock,
    pub(super) pool: LocalPool,
    pub(super) nodes: Vec<Node>,
    roster: Roster,
    /// Shards that a node was not told yet that it lost.
    untold: BTreeSet<(usize, u32)>,
    pub(super) stopped: Ends,
}

/// Told to all at once: who answers for a shard.
#[derive(Clone, Default)]
struct Roster(Arc<Mutex<Owners>>);

#[derive(Default)]
struct Owners {
    by_shard: Vec<Option<usize>>,
    /// How each node is reached.
    nodes: Vec<(Broker, Death)>,
}

pub(super) struct Node {
    pub(super) broker: Broker,
    pub(super) death: Death,
    holds: Arc<AtomicBool>,
    /// What it was told to own.
    told: Arc<Mutex<BTreeSet<u32>>>,
    /// Dropped, they stop where they are.
    _tasks: Vec<RemoteHandle<()>>,
    _alive: oneshot::Sender<()>,
}

struct Neighbours {
    roster: Roster,
    wire: Wire,
    holds: Arc<AtomicBool>,
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Neighbours")
    }
}

impl Peers for Neighbours {
    fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    fn ask(&self, shard: u32, question: Vec<u8>, _wait: Duration) -> Answer {
        let (roster, wire) = (self.roster.clone(), self.wire.clone());
        Box::pin(async move {
            wire.travel().await;
            let owner = {
                let owners = roster.0.lock().unwrap();
                owners.by_shard[shard as usize].map(|node| owners.nodes[node].clone())
            };
            let Some((broker, death)) = owner.filter(|_| !wire.loses()) else {
                return Err(Error::new(Kind::NotOwner, "nobody can be asked"));
            };
            let lost = || Error::new(Kind::Unknown, "the answer was lost");
            let answer = broker.answer(&question);
            futures::pin_mut!(answer);
            let Either::Left((answer, _)) = select(answer, death).await else {
                return Err(lost());
            };
            wire.travel().await;
            if wire.loses() {
                return Err(lost());
            }
            Ok(answer)
        })
    }

    /// Dropped: the leases that it would give back run out.
    fn tell(&self, _shard: u32, _question: Vec<u8>) {}
}

impl World {
    pub(super) fn new(seed: u64, is_unfenced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let memory = MemoryEngine::new(rng.u64(..));
        let wire = Wire::new(memory.clone(), rng.fork(), is_unfenced);
        let mut world = Self {
            rng,
            memory,
            wire,
            clock: HandClock::default(),
            pool: LocalPool::new(),
            nodes: Vec::new(),
            roster: Roster::default(),
            untold: BTreeSet::new(),
            stopped: Ends::default(),
        };
        let count = world.rng.usize(2..=3);
        for node in 0..count {
            let (node, reached) = world.open(node);
            world.nodes.push(node);
            world.roster.0.lock().unwrap().nodes.push(reached);
        }
        world.roster.0.lock().unwrap().by_shard = vec![None; SHARDS as usize];
        for shard in 0..SHARDS {
            let node = world.rng.usize(..count);
            world.give(shard, node);
        }
        world.settle_down();
        world
    }

    fn open(&mut self, node: usize) -> (Node, (Broker, Death)) {
        let holds = Arc::new(AtomicBool::new(true));
        let peers: Arc<dyn Peers> = Arc::new(Neighbours {
            roster: self.roster.clone(),
            wire: self.wire.clone(),
            holds: Arc::clone(&holds),
        });
        let options = Options {
            shards: SHARDS,
            // Every few decisions, so that snapshots and trims come between as well.
            snapshot_bytes: 900,
            tail_events: 4,
            ..Options::default()
        };
        let engine = self.wire.engine_of(node);
        let opened = Broker::open_among(engine, Arc::new(self.clock.clone()), options, Some(peers));
        let (broker, tasks) = self.pool.run_until(opened).unwrap();
        let spawner = self.pool.spawner();
        let run = |task: mente_broker::ShardTask| {
            let stopped = Arc::clone(&self.stopped);
            let watched = async move {
                if let Err(error) = task.await {
                    stopped.lock().unwrap().push(error);
                }
            };
            spawner.spawn_with_handle(watched).unwrap()
        };
        let (alive, death) = oneshot::channel();
        let death: Death = death.shared();
        let node = Node {
            broker: broker.clone(),
            death: death.clone(),
            holds,
            told: Arc::default(),
            _tasks: tasks.into_iter().map(run).collect(),
            _alive: alive,
        };
        (node, (broker, death))
    }

    pub(super) fn settle_down(&mut self) {
        self.pool.run_until_stalled();
    }

    pub(super) fn pass(&mut self, delay: Duration) {
        self.clock.pass(delay);
        self.settle_down();
    }

    pub(super) fn spawner(&self) -> LocalSpawner {
        self.pool.spawner()
    }

    pub(super) fn random_node(&mut self) -> usize {
        self.rng.usize(..self.nodes.len())
    }

    fn owner(&self, shard: u32) -> Option<usize> {
        self.roster.0.lock().unwrap().by_shard[shard as usize]
    }

    /// The node takes it over, and is the one that is asked.
    fn give(&mut self, shard: u32, to: usize) {
        self.untold.remove(&(to, shard));
        self.roster.0.lock().unwrap().by_shard[shard as usize] = Some(to);
        self.tell(to, |own| own.insert(shard));
    }

    fn tell(&mut self, node: usize, change: impl FnOnce(&mut BTreeSet<u32>) -> bool) {
        let node = &self.nodes[node];
        change(&mut node.told.lock().unwrap());
        let (broker, told) = (node.broker.clone(), node.told.lock().unwrap().clone());
        let own = async move { broker.own(&told).await };
        self.spawner().spawn_local(own).unwrap();
        self.settle_down();
    }

    /// The old owner lets go first; meanwhile there is none.
    pub(super) fn move_in_order(&mut self) {
        let (shard, to) = (self.rng.u32(..SHARDS), self.random_node());
        let Some(from) = self.owner(shard).filter(|from| *from != to) else {
            return;
        };
        self.roster.0.lock().unwrap().by_shard[shard as usize] = None;
        let own_of = |node: &Node| (node.broker.clone(), Arc::clone(&node.told));
        let (old, old_told) = own_of(&self.nodes[from]);
        let (new, new_told) = own_of(&self.nodes[to]);
        let roster = self.roster.clone();
        let (old_death, new_death) = (self.nodes[from].death.clone(), self.nodes[to].death.clone());
        self.untold.remove(&(to, shard));
        let moved = async move {
            old_told.lock().unwrap().remove(&shard);
            let own = old_told.lock().unwrap().clone();
            let let_go = old.own(&own);
            futures::pin_mut!(let_go);
            select(let_go, old_death).await;
            {
                let mut owners = roster.0.lock().unwrap();
                // Somebody gave it to another meanwhile.
                if owners.by_shard[shard as usize].is_some() {
                    return;
                }
                owners.by_shard[shard as usize] = Some(to);
                new_told.lock().unwrap().insert(shard);
            }
            let own = new_told.lock().unwrap().clone();
            let taken = new.own(&own);
            futures::pin_mut!(taken);
            select(taken, new_death).await;
        };
        self.spawner().spawn_local(moved).unwrap();
        self.settle_down();
    }

    /// The new owner is told, the old one goes on as if nothing had happened.
    pub(super) fn move_out_of_order(&mut self) {
        let (shard, to) = (self.rng.u32(..SHARDS), self.random_node());
        if let Some(from) = self.owner(shard).filter(|from| *from != to) {
            self.untold.insert((from, shard));
        }
        self.give(shard, to);
    }

    /// A zombie hears that it is one.
    pub(super) fn tell_untold(&mut self) {
        let choice = self.rng.usize(..8);
        let untold = self.untold.iter().nth(choice).copied();
        if let Some((node, shard)) = untold {
            self.untold.remove(&(node, shard));
            self.tell(node, |own| own.remove(&shard));
        }
    }

    /// The node loses its place, or has it again. Its shards stay its own, as far as the others know.
    pub(super) fn turn_place(&mut self) {
        let node = self.random_node();
        self.nodes[node].holds.fetch_xor(true, Ordering::Relaxed);
    }

    /// The node dies and comes up again, and has nothing before it is given something.
    pub(super) fn crash(&mut self) {
        let index = self.random_node();
        self.wire.crash(index);
        {
            let mut owners = self.roster.0.lock().unwrap();
            let of_it = owners.by_shard.iter_mut().filter(|o| **o == Some(index));
            of_it.for_each(|owner| *owner = None);
        }
        self.untold.retain(|(node, _)| *node != index);
        let (node, reached) = self.open(index);
        self.roster.0.lock().unwrap().nodes[index] = reached;
        self.nodes[index] = node;
        self.settle_down();
    }

    /// Everything arrives, and everybody has a place and knows what is its own.
    pub(super) fn heal(&mut self) {
        self.wire.calm();
        self.settle_down();
        self.place();
    }

    /// Everybody has a place and knows what is its own.
    pub(super) fn place(&mut self) {
        while let Some((node, shard)) = self.untold.pop_first() {
            self.tell(node, |own| own.remove(&shard));
        }
        for node in &self.nodes {
            node.holds.store(true, Ordering::Relaxed);
        }
        // Moves end first.
        self.pass(Duration::from_secs(1));
        for shard in 0..SHARDS {
            let owner = self.owner(shard).unwrap_or_else(|| self.random_node());
            self.give(shard, owner);
        }
    }
}

/// Brokers know the roster, and it knows them.
impl Drop for World {
    fn drop(&mut self) {
        self.roster.0.lock().unwrap().nodes.clear();
    }
}
