//! A world: clients, a server that loses power, and time, all on one thread; what comes of it follows
//! from its scenario alone.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mente_broker::Broker;
use mente_log::{Crash, MemDisk};

use crate::check::{self, Law, Violation};
use crate::client::{self, AUDITOR, Client, OPERATOR, Shared};
use crate::clock::SimClock;
use crate::history::{Entry, How, Op, STORE};
use crate::life::{Life, State};
use crate::random::Random;
use crate::recorder::Recorder;
use crate::rot;
use crate::scenario::{End, Scenario};
use crate::scene::{STREAMS, SUBSCRIPTIONS, Scene, TOPICS};
use crate::sweep;

/// Rounds of receiving after which a subscription should have nothing left.
const DRAIN_ROUNDS: u32 = 200;
/// What tells the blocks of another life from ours.
const EARLIER: u64 = 0xea71_1e50_0000_0000;

/// What came of a world.
#[derive(Debug)]
pub struct Outcome {
    pub violations: Vec<Violation>,
    pub history: Vec<Entry>,
    /// A digest of every operation of the disk and every entry: equal for equal scenarios.
    pub trace: u64,
    /// Operations of the disk, over all lives.
    pub disk_operations: u64,
    pub first_life_operations: u64,
    /// Packs that were seen at the end of a life.
    pub packs: u64,
}

pub(crate) struct World {
    scenario: Scenario,
    clock: SimClock,
    recorder: Recorder,
    clients: Vec<Shared>,
    disk: MemDisk,
    random: Random,
    /// Tells the salts of two worlds apart that are otherwise alike.
    log_seed: u64,
    violations: Vec<Violation>,
    has_panicked: bool,
    trace: u64,
    disk_operations: u64,
    first_life_operations: u64,
    packs: u64,
}

/// Runs a scenario to its end and checks the history.
pub fn run(scenario: &Scenario) -> Outcome {
    live(scenario).outcome()
}

/// What a scenario leaves on the disk, its log closed in order; or the law that it broke.
pub(crate) fn closed_disk(scenario: &Scenario) -> Result<MemDisk, String> {
    let world = live(scenario);
    match world.violations.first() {
        None => Ok(world.disk),
        Some(violation) => Err(violation.to_string()),
    }
}

fn live(scenario: &Scenario) -> World {
    let mut world = World::new(scenario.clone(), 'a', 0);
    for (number, end) in scenario.ends.iter().enumerate() {
        let earlier = matches!(end, End::Power { policy, .. } if number == 0 && is_stale(*policy))
            .then(|| earlier_blocks(scenario, end));
        world.live(Some(end));
        if world.has_panicked {
            return world;
        }
        world.crash(end, earlier.as_ref());
    }
    world.last_life();
    world
}

fn is_stale(policy: usize) -> bool {
    matches!(Crash::ALL[policy].data, mente_log::mem_disk::Data::Stale)
}

/// What other blocks of the same disk may hold: the same files of a log that was here before and
/// whose clients said other things.
fn earlier_blocks(scenario: &Scenario, end: &End) -> MemDisk {
    let mut world = World::new(scenario.clone(), 'b', EARLIER);
    world.live(Some(end));
    world.disk
}

/// One crash point under every policy: the life before it is run once.
pub fn run_policies(scenario: &Scenario, at: u64) -> Vec<(End, Vec<Violation>)> {
    let end = |policy| End::Power {
        at,
        policy,
        seed: at * 31 + policy as u64,
    };
    let mut world = World::new(scenario.clone(), 'a', 0);
    world.live(Some(&end(0)));
    let earlier = earlier_blocks(scenario, &end(0));
    let outcomes = (0..Crash::ALL.len()).map(|policy| {
        let mut fork = world.fork();
        fork.crash(&end(policy), Some(&earlier));
        fork.last_life();
        (end(policy), fork.outcome().violations)
    });
    outcomes.collect()
}

/// The crash that [`run_recoveries`] begins with.
pub fn first_cut(at: u64) -> End {
    End::Power {
        at,
        policy: (at % Crash::ALL.len() as u64) as usize,
        seed: at,
    }
}

/// One crash point under one policy, and then a crash at every operation of the recovery.
pub fn run_recoveries(scenario: &Scenario, at: u64) -> Vec<(End, Vec<Violation>)> {
    let first = first_cut(at);
    let mut world = World::new(scenario.clone(), 'a', 0);
    world.live(Some(&first));
    world.crash(&first, None);
    let mut outcomes = Vec::new();
    for second in 0.. {
        let policy = ((at + second) % Crash::ALL.len() as u64) as usize;
        let end = End::Power {
            at: second,
            policy,
            seed: at << 16 | second,
        };
        let mut fork = world.fork();
        // Only the recovery and what every world declares.
        fork.scenario.calls = 0;
        let died = fork.live(Some(&end)) == State::Dead;
        fork.crash(&end, None);
        fork.last_life();
        outcomes.push((end, fork.outcome().violations));
        if !died {
            break;
        }
    }
    outcomes
}

impl World {
    fn new(scenario: Scenario, tag: char, log_seed: u64) -> Self {
        let mut random = Random::new(scenario.seed);
        let clock = SimClock::default();
        let clients = (0..scenario.clients).map(|process| {
            let client = Client::new(u64::from(process), random.split(), tag);
            Arc::new(Mutex::new(client))
        });
        Self {
            clients: clients.collect(),
            recorder: Recorder::new(clock.clone()),
            clock,
            disk: MemDisk::default(),
            random,
            log_seed,
            violations: Vec::new(),
            has_panicked: false,
            trace: 0,
            disk_operations: 0,
            first_life_operations: 0,
            packs: 0,
            scenario,
        }
    }

    /// Another world that goes on from here on its own.
    fn fork(&self) -> Self {
        let clock = self.clock.fork();
        let copy = |client: &Shared| {
            let client = client.lock().expect("one thread").clone();
            Arc::new(Mutex::new(client))
        };
        Self {
            scenario: self.scenario.clone(),
            recorder: self.recorder.fork(clock.clone()),
            clock,
            clients: self.clients.iter().map(copy).collect(),
            // A clone would be the same disk.
            disk: self.disk.after_kill(),
            random: self.random.clone(),
            violations: self.violations.clone(),
            ..*self
        }
    }

    fn fault(&mut self, law: Law, detail: impl Into<String>) {
        let violation = Violation {
            law,
            at: usize::MAX,
            detail: detail.into(),
        };
        self.violations.push(violation);
    }

    /// A panic ends the world, but not the judgement over it.
    fn live(&mut self, end: Option<&End>) -> State {
        sweep::caught(|| self.try_live(end)).unwrap_or_else(|panicked| {
            self.violations.push(panicked);
            self.has_panicked = true;
            self.recorder.cut_off();
            State::Stopped
        })
    }

    /// One life, from an opening until its clients are done or it breaks off. `end` none: nothing happens
    /// to it, its clients only look and drain.
    fn try_live(&mut self, end: Option<&End>) -> State {
        let jump = self.random.below(5) as i64 * 1_000 - 2_000;
        self.recorder.note(OPERATOR, Op::Step { ms: jump });
        self.clock.begin_life(jump);
        let mut random = self.random.split();
        let log_seed = random.draw() ^ self.log_seed;
        match end {
            Some(End::Power { at, .. } | End::Kill { at }) => self.disk.cut_power_at(*at),
            Some(End::FailedSync { at, .. }) => self.disk.fail_sync_at(*at),
            Some(End::Close) | None => {}
        }
        let opened = Life::open(self.disk.clone(), self.clock.clone(), log_seed, random);
        let (life, recovered) = match opened {
            Ok(opened) => opened,
            Err(_) if self.disk.is_dead() => return State::Dead,
            Err(_) if matches!(end, Some(End::FailedSync { .. })) => return State::Stopped,
            Err(error) => {
                self.fault(Law::DoesNotOpen, error.to_string());
                return State::Stopped;
            }
        };
        let damaged = recovered.damaged.iter().map(|damage| format!("{damage:?}"));
        let op = Op::Restart {
            how: format!("{:?}", recovered.cut),
            damaged: damaged.chain(recovered.lost).collect(),
            ready_us: None,
        };
        self.recorder.note(OPERATOR, op);
        life.is_scarce
            .store(self.scenario.is_scarce && end.is_some(), SeqCst);
        if let Some(broker) = life.open_broker(1 + (self.scenario.seed % 3) as u32) {
            let scene = self.scene(&life, broker);
            self.populate(&life, &scene, end.is_none());
        }
        let state = life.state();
        if state == State::Stopped {
            life.linger(40);
        }
        self.packs += self.pack_files();
        let is_to_close = state == State::Running && matches!(end, Some(End::Close) | None);
        if is_to_close && let Err(stopped) = life.close() {
            self.fault(Law::DoesNotOpen, format!("closing: {stopped}"));
        }
        life.end();
        self.recorder.cut_off();
        self.trace =
            (self.trace.rotate_left(7) ^ self.disk.trace()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if self.disk_operations == 0 {
            self.first_life_operations = self.disk.ops();
        }
        self.disk_operations += self.disk.ops();
        state
    }

    fn scene(&self, life: &Life, broker: Broker) -> Scene {
        Scene {
            broker,
            engine: life.engine.clone(),
            recorder: self.recorder.clone(),
            budget: Arc::new(AtomicU32::new(self.scenario.calls)),
            busy: Arc::new(AtomicU32::new(0)),
        }
    }

    fn populate(&mut self, life: &Life, scene: &Scene, is_last: bool) {
        let ready = Arc::new(AtomicBool::new(false));
        {
            let (scene, ready) = (scene.clone(), ready.clone());
            life.tasks.spawn(async move {
                // A shard that is not ready says why to who calls it.
                let _ = scene.broker.ready().await;
                scene.set_up(OPERATOR).await;
                ready.store(true, SeqCst);
            });
        }
        if life.run_until(|| ready.load(SeqCst)) != State::Running {
            return;
        }
        let clients = if is_last { &[][..] } else { &self.clients[..] };
        scene.busy.store(clients.len() as u32 + 1, SeqCst);
        for client in clients {
            life.tasks.spawn(client::run(scene.clone(), client.clone()));
        }
        life.tasks.spawn(audit(scene.clone()));
        if life.run_until(|| scene.busy.load(SeqCst) == 0) != State::Running || !is_last {
            return;
        }
        scene.busy.store(1, SeqCst);
        let drained = Arc::new(AtomicBool::new(false));
        life.tasks.spawn(drain(scene.clone(), drained.clone()));
        if life.run_until(|| scene.busy.load(SeqCst) == 0) == State::Running
            && !drained.load(SeqCst)
        {
            self.fault(Law::Stuck, "subscriptions cannot be drained");
        }
    }

    fn pack_files(&self) -> u64 {
        let names = mente_log::Disk::list(&self.disk).unwrap_or_default();
        names.iter().filter(|name| name.ends_with(".pack")).count() as u64
    }

    /// What the next life finds.
    fn crash(&mut self, end: &End, earlier: Option<&MemDisk>) {
        self.disk = match end {
            End::Power { policy, seed, .. }
            | End::FailedSync {
                policy: Some(policy),
                seed,
                ..
            } => self
                .disk
                .after_crash_by(Crash::ALL[*policy], *seed, earlier),
            End::Kill { .. } | End::FailedSync { policy: None, .. } | End::Close => {
                self.disk.after_kill()
            }
        };
    }

    /// Looks at everything, drains every subscription, closes; then turns bits.
    fn last_life(&mut self) {
        if self.live(None) != State::Running {
            self.fault(Law::Stuck, "the last life broke off");
            return;
        }
        for _ in 0..self.scenario.rots {
            let mut random = self.random.split();
            self.violations.extend(rot::hurt(&self.disk, &mut random));
        }
    }

    fn outcome(self) -> Outcome {
        let history = self.recorder.entries();
        let mut violations = check::check(&history);
        violations.extend(self.violations);
        let mut hasher = DefaultHasher::new();
        self.trace.hash(&mut hasher);
        for entry in &history {
            format!("{entry:?}").hash(&mut hasher);
        }
        Outcome {
            violations,
            history,
            trace: hasher.finish(),
            disk_operations: self.disk_operations,
            first_life_operations: self.first_life_operations,
            packs: self.packs,
        }
    }
}

/// Reads everything there is.
async fn audit(scene: Scene) {
    for (topic, partitions) in TOPICS {
        for partition in 0..partitions {
            scene.read(AUDITOR, topic, partition).await;
        }
    }
    for stream in STREAMS {
        scene.read_stream(AUDITOR, stream).await;
        scene.state(AUDITOR, stream, None).await;
    }
    scene.read_store(AUDITOR).await;
    scene.verify(AUDITOR).await;
    scene.busy.fetch_sub(1, SeqCst);
}

/// Completes whatever is left, waits for locks and delays of others, and looks at the dead letters.
async fn drain(scene: Scene, drained: Arc<AtomicBool>) {
    let mut idle = 0;
    for _ in 0..DRAIN_ROUNDS {
        let mut received = 0;
        for subscription in SUBSCRIPTIONS {
            for held in scene
                .receive(OPERATOR, subscription, 100, Duration::ZERO)
                .await
            {
                received += 1;
                scene
                    .settle(OPERATOR, subscription, held, How::Complete, Duration::ZERO)
                    .await;
            }
        }
        let mut open = 0;
        for topic in TOPICS.map(|(topic, _)| topic).into_iter().chain([STORE]) {
            let counts = scene.open_records(topic).await;
            open += counts.map_or(1, |counts| counts.values().sum());
        }
        idle = if received == 0 && open == 0 {
            idle + 1
        } else {
            0
        };
        if idle == 3 {
            drained.store(true, SeqCst);
            break;
        }
        scene.broker.sleep(Duration::from_millis(700)).await;
    }
    for subscription in SUBSCRIPTIONS {
        scene.dead_letters(OPERATOR, subscription).await;
        if drained.load(SeqCst) {
            scene.recorder.note(
                OPERATOR,
                Op::Drained {
                    subscription: subscription.into(),
                },
            );
        }
    }
    audit(scene).await;
}
