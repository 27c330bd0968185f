//! One life of a server: the real log and the real broker on one thread, from an opening to a crash
//! or a close. Who goes next is drawn, also while a sync is under way.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use mente_broker::Broker;
use mente_engine::{Clock, Engine};
use mente_log::{Embedded, MemDisk, Packer, Preparer, Writer};

use crate::clock::SimClock;
use crate::random::Random;
use crate::tasks::Tasks;

/// Steps after which a life that does not come to its end is stuck.
const STEPS_MAX: u32 = 400_000;
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Life {
    pub(crate) disk: MemDisk,
    pub(crate) engine: Embedded,
    pub(crate) tasks: Tasks,
    clock: SimClock,
    actors: Mutex<Actors>,
    random: Mutex<Random>,
    /// The writer has something to do.
    woken: Arc<AtomicBool>,
    stopped: AtomicBool,
    /// The disk may be full for a while.
    pub(crate) is_scarce: AtomicBool,
    preparing: AtomicBool,
    nested: AtomicU32,
}

/// Each is away while it acts.
struct Actors {
    writer: Option<Writer>,
    packer: Option<Packer>,
    preparer: Option<Preparer>,
}

/// How a life went until somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// The power is gone: nobody is told anything any more.
    Dead,
    /// The log has stopped after an error; the process is about to exit.
    Stopped,
}

/// How small everything is, so that all of it turns.
fn log_options(seed: u64, random: &mut Random) -> mente_log::Options {
    mente_log::Options {
        // May differ from one opening to the next.
        file_bytes: *random.pick(&[64 << 10, 64 << 10, 128 << 10]),
        commit_bytes: 12 << 10,
        recent_bytes: *random.pick(&[1, 8 << 10, 1 << 20]),
        wal_files: 3,
        open_files: 3,
        // Of files of either size one, some, and more than most worlds fill.
        reserve_bytes: [0, 200 << 10, 600 << 10][(seed % 3) as usize],
        seed,
        ..mente_log::Options::default()
    }
}

impl Life {
    /// Opens the log. An error is the power's, or a log that does not open.
    pub(crate) fn open(
        disk: MemDisk,
        clock: SimClock,
        log_seed: u64,
        mut random: Random,
    ) -> Result<(Arc<Self>, mente_log::Recovered), mente_log::OpenError> {
        let woken = Arc::new(AtomicBool::new(false));
        let wake = {
            let woken = woken.clone();
            Arc::new(move || woken.store(true, SeqCst))
        };
        let options = log_options(log_seed, &mut random);
        let (engine, writer) = mente_log::open(Arc::new(disk.clone()), options, wake)?;
        let recovered = writer.recovered().clone();
        let actors = Actors {
            packer: Some(writer.packer()),
            preparer: Some(writer.preparer()),
            writer: Some(writer),
        };
        let life = Arc::new(Self {
            disk,
            engine,
            tasks: Tasks::default(),
            clock,
            actors: Mutex::new(actors),
            random: Mutex::new(random),
            woken,
            stopped: AtomicBool::new(false),
            is_scarce: AtomicBool::new(false),
            preparing: AtomicBool::new(false),
            nested: AtomicU32::new(0),
        });
        let weak: Weak<Self> = Arc::downgrade(&life);
        life.disk.during_sync(Some(Arc::new(move || {
            if let Some(life) = weak.upgrade() {
                life.during_sync();
            }
        })));
        Ok((life, recovered))
    }

    /// Brings the broker up; `None` if the power went meanwhile.
    pub(crate) fn open_broker(self: &Arc<Self>, shards: u32) -> Option<Broker> {
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let options = mente_broker::Options {
            shards,
            // Every few decisions.
            snapshot_bytes: 1_500,
            tail_events: 6,
            ..mente_broker::Options::default()
        };
        let opened = Arc::new(Mutex::new(None));
        let slot = opened.clone();
        let life = Arc::downgrade(self);
        self.tasks.spawn(async move {
            let (broker, tasks) = loop {
                // On a full disk whoever operates it tries again.
                match Broker::open(engine.clone(), clock.clone(), options.clone()).await {
                    Ok(opened) => break opened,
                    Err(_) => clock.sleep_until(clock.now().monotone + RETRY).await,
                }
            };
            let Some(life) = life.upgrade() else { return };
            for task in tasks {
                // A shard that stops says so to who asks it.
                life.tasks.spawn(async move { drop(task.await) });
            }
            *slot.lock().expect("one thread") = Some(broker);
        });
        let is_open = || opened.lock().expect("one thread").is_some();
        self.run_until(is_open);
        opened.lock().expect("one thread").take()
    }

    fn random(&self) -> MutexGuard<'_, Random> {
        self.random.lock().expect("one thread")
    }

    fn actors(&self) -> MutexGuard<'_, Actors> {
        self.actors.lock().expect("one thread")
    }

    pub(crate) fn state(&self) -> State {
        if self.disk.is_dead() {
            State::Dead
        } else if self.stopped.load(SeqCst) {
            State::Stopped
        } else {
            State::Running
        }
    }

    /// Steps until `is_done`, or until it does not run any more.
    pub(crate) fn run_until(&self, is_done: impl Fn() -> bool) -> State {
        for _ in 0..STEPS_MAX {
            let state = self.state();
            if state != State::Running || is_done() {
                return state;
            }
            self.step();
        }
        panic!("a world that is stuck: nothing came to an end in {STEPS_MAX} steps");
    }

    /// What is still told to clients between the end of the log and that of the process.
    pub(crate) fn linger(&self, steps: u64) {
        for _ in 0..steps {
            if self.state() != State::Dead {
                self.step();
            }
        }
    }

    fn step(&self) {
        let choice = self.random().below(32);
        let acted = match choice {
            0..=9 => self.turn_writer(),
            10 | 11 => self.turn_packer(),
            12 => self.turn_preparer(),
            13 if self.is_scarce.load(SeqCst) && !self.random().one_in(4) => self.fill_disk(),
            13 => self.enforce(),
            14 => self.pass_some_time(),
            _ => self.poll(),
        };
        if !acted
            && !self.poll()
            && !self.turn_writer()
            && !self.turn_packer()
            && !self.clock.jump()
        {
            self.pass_some_time();
        }
    }

    /// What others do while this sync waits for the disk.
    fn during_sync(&self) {
        if self.nested.load(SeqCst) >= 2 || self.disk.is_dead() {
            return;
        }
        self.nested.fetch_add(1, SeqCst);
        let steps = self.random().below(4);
        for _ in 0..steps {
            let choice = self.random().below(8);
            match choice {
                0 => self.turn_packer(),
                1 => self.turn_writer(),
                _ => self.poll(),
            };
        }
        self.nested.fetch_sub(1, SeqCst);
    }

    fn poll(&self) -> bool {
        let mut random = self.random().split();
        self.tasks.poll_one(&mut random)
    }

    fn turn_writer(&self) -> bool {
        // Who makes a file ahead holds what the writer would wait for.
        if self.preparing.load(SeqCst) || self.stopped.load(SeqCst) {
            return false;
        }
        let Some(mut writer) = self.actors().writer.take() else {
            return false;
        };
        let acted = self.woken.swap(false, SeqCst);
        if acted {
            match writer.turn() {
                Ok(true) => self.woken.store(true, SeqCst),
                Ok(false) => {}
                Err(_) => self.stopped.store(true, SeqCst),
            }
        }
        self.actors().writer = Some(writer);
        acted
    }

    fn turn_packer(&self) -> bool {
        let Some(mut packer) = self.actors().packer.take() else {
            return false;
        };
        // After an error it begins anew.
        let acted = packer.turn().unwrap_or(false);
        self.actors().packer = Some(packer);
        acted
    }

    fn turn_preparer(&self) -> bool {
        let wants = self
            .actors()
            .writer
            .as_ref()
            .is_some_and(Writer::wants_file);
        if !wants {
            return false;
        }
        let Some(mut preparer) = self.actors().preparer.take() else {
            return false;
        };
        self.preparing.store(true, SeqCst);
        let acted = preparer.turn().unwrap_or(false);
        self.preparing.store(false, SeqCst);
        self.actors().preparer = Some(preparer);
        acted
    }

    fn enforce(&self) -> bool {
        let now = self.clock.now().wall;
        if let Some(writer) = self.actors().writer.as_mut() {
            writer.enforce(now);
            self.woken.store(true, SeqCst);
        }
        true
    }

    /// Others take the room of the disk, or give it back.
    fn fill_disk(&self) -> bool {
        let (is_full, left) = {
            let mut random = self.random();
            (!random.one_in(4), random.below(48 << 10) as usize)
        };
        // Less than a file, or several: what is left is below the reserve, or gone.
        let left = if left.is_multiple_of(2) {
            left
        } else {
            left * 12
        };
        let capacity = is_full.then(|| self.disk.used_bytes() + left);
        self.disk.set_capacity(capacity);
        true
    }

    fn pass_some_time(&self) -> bool {
        let delay = self.random().within(1..30);
        self.clock.pass(Duration::from_millis(delay));
        true
    }

    /// The process is gone, without a word to anybody.
    pub(crate) fn end(&self) {
        self.disk.during_sync(None);
        self.disk.cut_power_at(0);
        self.tasks.clear();
        let mut actors = self.actors();
        (actors.packer, actors.preparer) = (None, None);
        drop(actors.writer.take());
    }

    /// Ends in order.
    pub(crate) fn close(&self) -> Result<(), mente_log::Stopped> {
        self.disk.during_sync(None);
        self.tasks.clear();
        let mut actors = self.actors();
        (actors.packer, actors.preparer) = (None, None);
        actors.writer.take().map_or(Ok(()), Writer::close)
    }
}
