//! Broker and embedded log cranked by hand on one thread, and the power cut in between.
//!
//! A producer, a receiver and a stream run; at some storage operation the power goes. Whatever
//! was answered before must be there after it: nothing lost, nothing invented, nothing that
//! was settled delivered again.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::LocalPool;
use futures::task::SpawnExt;
use mente_broker::queue::{Settings, Settlement};
use mente_broker::{
    Broker, EntityName, Expected, Options, Principal, Start, StreamName, SubscriptionName,
};
use mente_engine::{Clock, Engine, Event, Offset};
use mente_log::{Embedded, MemDisk, Writer};

use crate::clock::HandClock;

const ME: Principal = Principal::Anonymous;

pub(crate) struct Crank {
    pool: LocalPool,
    writer: Writer,
    engine: Arc<Embedded>,
    pub(crate) broker: Broker,
    clock: HandClock,
}

/// What outside clients were told.
#[derive(Debug, Default)]
struct Answered {
    attempted: BTreeSet<String>,
    published: BTreeSet<String>,
    completed: BTreeSet<String>,
    /// Settles that were called and not answered.
    unsure: BTreeSet<String>,
    stream: u64,
}

pub(crate) fn name() -> SubscriptionName {
    SubscriptionName {
        topic: EntityName::new("orders").unwrap(),
        name: EntityName::new("all").unwrap(),
    }
}

pub(crate) fn stream() -> StreamName {
    StreamName::new("order-1").unwrap()
}

pub(crate) fn event(id: String) -> Event {
    Event {
        id,
        source: "/shop".into(),
        kind: "OrderPlaced".into(),
        ..Event::default()
    }
}

impl Crank {
    /// `None`: the power went while it came up.
    fn open(disk: &MemDisk) -> Option<Self> {
        Self::open_with(disk, 0)
    }

    pub(crate) fn open_with(disk: &MemDisk, reserve_bytes: u64) -> Option<Self> {
        let options = mente_log::Options {
            file_bytes: 256 << 10,
            reserve_bytes,
            ..mente_log::Options::default()
        };
        let (engine, mut writer) =
            mente_log::open(Arc::new(disk.clone()), options, Arc::new(|| {})).ok()?;
        let mut pool = LocalPool::new();
        let clock = HandClock::default();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let options = Options {
            shards: 2,
            create_topics: true,
            // Every few decisions, so that the power goes at snapshots too.
            snapshot_bytes: 600,
            // And at the sealing of the store.
            tail_events: 3,
            ..Options::default()
        };
        let engine = Arc::new(engine);
        let open = Broker::open(engine.clone(), shared, options);
        let (broker, tasks) = turn_until(&mut pool, &mut writer, open)?.ok()?;
        let spawner = pool.spawner();
        for task in tasks {
            spawner
                .spawn(async { assert_eq!(task.await, Ok(())) })
                .unwrap();
        }
        Some(Self {
            pool,
            writer,
            engine,
            broker,
            clock,
        })
    }

    pub(crate) fn run<T>(
        &mut self,
        work: impl Future<Output = mente_broker::Result<T>>,
    ) -> Option<T> {
        turn_until(&mut self.pool, &mut self.writer, work)?.ok()
    }

    /// Publishes, receives, settles and appends until something is not answered.
    fn work(&mut self, round: u64, told: &mut Answered) -> Option<()> {
        let broker = self.broker.clone();
        self.run(broker.ready())?;
        self.run(broker.create_subscription(&ME, &name(), Settings::default(), Start::Earliest))?;
        for step in 0..6 {
            let id = format!("{round}-{step}");
            told.attempted.insert(id.clone());
            let published =
                self.run(broker.publish(&ME, &name().topic, vec![event(id.clone())]))?;
            published[0].as_ref().ok()?;
            told.published.insert(id.clone());
            let expected = if told.stream == 0 {
                Expected::Any
            } else {
                Expected::Revision(told.stream - 1)
            };
            let appended =
                self.run(broker.append_stream(&ME, &stream(), expected, vec![event(id)]));
            told.stream = appended?.last_revision + 1;
            let received = self.run(broker.receive(&ME, &name(), 2, Duration::from_secs(1)))?;
            for received in received {
                let id = received.stored.event.id.clone();
                assert!(told.attempted.contains(&id), "{id} was never published");
                assert!(
                    !told.completed.contains(&id),
                    "{id} was settled and comes again"
                );
                told.unsure.insert(id.clone());
                let tokens = vec![received.token];
                let held = self.run(broker.settle(&ME, &name(), tokens, Settlement::Complete))?;
                assert_eq!(held, [true]);
                told.unsure.remove(&id);
                told.completed.insert(id);
            }
        }
        Some(())
    }

    /// Journals whose first decisions went with a snapshot.
    fn trimmed_journals(&mut self) -> usize {
        let engine = Arc::clone(&self.engine);
        let count = async {
            let sets = engine.list("default/$journal").await?;
            let journals = sets
                .iter()
                .find(|set| set.name.as_str().contains("$journal"));
            let journals = journals.expect("the broker made them");
            let mut trimmed = 0;
            for index in 0..journals.logs {
                let bounds = engine.bounds(journals.id.log(index)).await?;
                trimmed += usize::from(bounds.start > Offset(0));
            }
            Ok(trimmed)
        };
        self.run(count).expect("journals can be looked at")
    }

    /// Looks at everything that is left.
    fn check(&mut self, told: &Answered) {
        let broker = self.broker.clone();
        self.run(broker.ready()).expect("ready");
        if told.published.is_empty() {
            return;
        }
        let (stored, _) = self
            .run(broker.read(&ME, &name().topic, 0, Offset(0), 10_000))
            .expect("read");
        let stored: Vec<_> = stored.into_iter().map(|s| s.event.id).collect();
        let there: BTreeSet<_> = stored.iter().cloned().collect();
        assert_eq!(stored.len(), there.len(), "something is there twice");
        assert!(
            there.is_superset(&told.published),
            "lost: {:?}",
            told.published.difference(&there)
        );
        assert!(
            there.is_subset(&told.attempted),
            "invented: {:?}",
            there.difference(&told.attempted)
        );
        let mut waiting = BTreeSet::new();
        loop {
            self.clock.pass(Duration::from_millis(1));
            let received = self
                .run(broker.receive(&ME, &name(), 100, Duration::ZERO))
                .expect("receive");
            if received.is_empty() {
                break;
            }
            waiting.extend(received.into_iter().map(|r| r.stored.event.id));
        }
        let gone: BTreeSet<_> = there.difference(&waiting).cloned().collect();
        assert!(
            gone.is_superset(&told.completed),
            "settled, but there again"
        );
        let may_be_gone = told.completed.union(&told.unsure).cloned().collect();
        assert!(
            gone.is_subset(&may_be_gone),
            "gone without being settled: {gone:?}"
        );
        let length = match self.run(broker.read_stream(&ME, &stream(), 0, 10_000)) {
            Some(events) => events.len() as u64,
            None => 0,
        };
        assert!(
            length >= told.stream,
            "the stream lost {length} < {}",
            told.stream
        );
        for part in self.run(broker.verify(&ME)).expect("verify") {
            assert!(part.equal, "{part:?}");
        }
    }
}

/// Cranks executor and log in turn until `work` is done; `None` if the log stopped first.
fn turn_until<T>(
    pool: &mut LocalPool,
    writer: &mut Writer,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = Box::pin(work);
    for _ in 0..10_000 {
        // The disk gets its turn only when nothing else can go on, so that an answer that
        // leaves too early is seen before the sync that it should have waited for.
        for _ in 0..3 {
            let polled = pool.run_until(async { futures::poll!(&mut work) });
            if let std::task::Poll::Ready(done) = polled {
                return Some(done);
            }
            pool.run_until_stalled();
        }
        writer.turn().ok()?;
    }
    None
}

#[test]
fn what_was_answered_outlives_the_power() {
    let clean = MemDisk::default();
    let mut crank = Crank::open(&clean).unwrap();
    crank.work(0, &mut Answered::default()).unwrap();
    assert!(crank.trimmed_journals() > 0, "no snapshot was taken");
    let operations = clean.ops();
    assert!(
        operations > 30,
        "the workload touches the disk: {operations}"
    );
    for cut in 1..operations {
        for seed in 0..4 {
            let disk = MemDisk::default();
            disk.cut_power_at(cut);
            let mut told = Answered::default();
            if let Some(mut crank) = Crank::open(&disk) {
                assert!(crank.work(0, &mut told).is_none(), "the power went");
            }
            let disk = disk.after_crash(seed * 7 + cut);
            let mut crank = Crank::open(&disk).expect("comes up after a crash");
            crank.check(&told);
        }
    }
}
