//! Views that appends wait for, over an engine whose appends now and then are lost or not answered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use mente_broker::{
    Append, Broker, Check, EntityName, Error, Expected, Inline, Kind, Result, StreamEvent,
    StreamName,
};
use mente_engine::memory::Fault;
use mente_engine::{Event, Offset};

use crate::rounds::{ME, World};

/// A list of ids. It refuses events of one type, and finds what it has missed in the log.
struct Ids {
    broker: Broker,
    refuses: &'static str,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    kept: Vec<String>,
    next: u64,
    /// Of each append that was applied and not kept.
    open: Vec<Vec<String>>,
    /// Keeping fails as often.
    failures: usize,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.refuses)
    }
}

impl Ids {
    fn lists(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.lists.lock().unwrap()
    }
}

fn ids(events: &[StreamEvent]) -> Vec<String> {
    events.iter().map(|event| event.event.id.clone()).collect()
}

impl Inline for Ids {
    fn reach(&self, end: Offset) -> BoxFuture<'_, Result<()>> {
        async move {
            self.lists().open.clear();
            loop {
                let next = self.lists().next;
                if next >= end.0 {
                    return Ok(());
                }
                let (events, next) = self.broker.read_store(&ME, Offset(next)).await?;
                let mut lists = self.lists();
                lists.kept.extend(ids(&events));
                lists.next = next.0;
            }
        }
        .boxed()
    }

    fn apply(&self, events: Arc<[StreamEvent]>) -> BoxFuture<'_, Result<()>> {
        async move {
            if events.iter().any(|event| event.event.kind == self.refuses) {
                return Err(Error::new(Kind::Refused, "no"));
            }
            self.lists().open.push(ids(&events));
            Ok(())
        }
        .boxed()
    }

    fn take_back(&self) -> BoxFuture<'_, ()> {
        async { drop(self.lists().open.pop()) }.boxed()
    }

    fn keep(&self, next: Offset) -> BoxFuture<'_, Result<()>> {
        async move {
            let mut lists = self.lists();
            let open = std::mem::take(&mut lists.open);
            if lists.failures > 0 {
                lists.failures -= 1;
                return Err(Error::new(Kind::Throttled, "full"));
            }
            lists.kept.extend(open.into_iter().flatten());
            lists.next = next.0;
            Ok(())
        }
        .boxed()
    }

    fn undo(&self) -> BoxFuture<'_, ()> {
        async { self.lists().open.clear() }.boxed()
    }
}

fn event(id: &str, kind: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/bank".into(),
        kind: kind.to_owned(),
        ..Event::default()
    }
}

fn view(world: &World, name: &str, refuses: &'static str) -> Arc<Ids> {
    let view = Arc::new(Ids {
        broker: world.broker.clone(),
        refuses,
        lists: Mutex::default(),
    });
    let shared: Arc<dyn Inline> = Arc::clone(&view) as _;
    let inlines = world.broker.inlines();
    inlines.join(EntityName::new(name).unwrap(), shared);
    view
}

fn log(world: &mut World) -> Vec<String> {
    let broker = world.broker.clone();
    let all = async {
        let (mut found, mut from) = (Vec::new(), Offset(0));
        loop {
            let (events, next) = broker.read_store(&ME, from).await.unwrap();
            if next == from {
                return found;
            }
            found.extend(ids(&events));
            from = next;
        }
    };
    world.pool.run_until(all)
}

fn stream(number: u64) -> StreamName {
    StreamName::new(format!("account-{number}")).unwrap()
}

#[test]
fn what_is_answered_is_in_every_view_and_what_is_refused_is_in_none() {
    let mut told = (0, 0, 0);
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        let views = [
            view(&world, "first", "Odd"),
            view(&world, "second", "Strange"),
        ];
        for round in 0..30 {
            let store = world.broker.store_log();
            if random.u8(..8) == 0 {
                let faults = [Fault::UnknownButDone, Fault::UnknownAndLost];
                world.engine.inject(store, faults[random.usize(..2)]);
            }
            if random.u8(..8) == 0 {
                views[random.usize(..2)].lists().failures = 1;
            }
            let broker = world.broker.clone();
            let calls = (0..random.u64(1..6)).map(|call| {
                let kinds = ["Paid", "Paid", "Paid", "Paid", "Odd", "Strange"];
                let id = format!("{round}-{call}");
                let mut events = vec![(stream(random.u64(..3)), event(&id, "Paid"))];
                events.push((
                    stream(random.u64(..3)),
                    event(&format!("{id}b"), random.choice(kinds).unwrap()),
                ));
                let append = Append::new(events, Vec::new());
                let broker = broker.clone();
                async move { (id, broker.append_store(&ME, append).await) }
            });
            let answers = world.pool.run_until(join_all(calls.collect::<Vec<_>>()));
            let is_there =
                |id: &String| views.each_ref().map(|view| view.lists().kept.contains(id));
            for (id, answer) in &answers {
                match answer {
                    Ok(_) => {
                        told.0 += 1;
                        assert_eq!(is_there(id), [true; 2], "seed {seed}: {id} was answered");
                    }
                    Err(error) if error.kind == Kind::Refused => {
                        told.1 += 1;
                        assert_eq!(is_there(id), [false; 2], "seed {seed}: {id} was refused");
                    }
                    Err(error) => {
                        told.2 += 1;
                        assert!(
                            matches!(error.kind, Kind::Unknown | Kind::Throttled),
                            "{error:?}"
                        );
                        world.pass(Duration::from_secs(1));
                    }
                }
            }
            let refused = answers
                .iter()
                .filter(|(_, a)| matches!(a, Err(e) if e.kind == Kind::Refused));
            let logged = log(&mut world);
            for (id, _) in refused {
                assert!(!logged.contains(id), "seed {seed}: {id} was refused");
            }
        }
        // One that is answered: then they have seen everything.
        world.pass(Duration::from_secs(1));
        let broker = world.broker.clone();
        views.iter().for_each(|view| view.lists().failures = 0);
        for _ in 0..2 {
            // A fault may still wait for its append.
            let last = Append::new(vec![(stream(0), event("last", "Paid"))], Vec::new());
            let _ = world.pool.run_until(broker.append_store(&ME, last));
            world.pass(Duration::from_secs(1));
        }
        let logged = log(&mut world);
        for view in &views {
            assert_eq!(view.lists().kept, logged, "seed {seed}");
        }
    }
    assert!(told.0 > 500 && told.1 > 500 && told.2 > 100, "{told:?}");
}

#[test]
fn who_is_refused_leaves_the_stream_as_it_was() {
    let mut world = World::new(1);
    let view = view(&world, "ids", "Odd");
    let broker = world.broker.clone();
    let append = |id: &str, kind: &str, expected| {
        let check = Check::Stream(stream(1), expected);
        broker.append_store(
            &ME,
            Append::new(vec![(stream(1), event(id, kind))], vec![check]),
        )
    };
    // In one round: what comes after the refusal has its revision.
    let (one, odd, two) = world.pool.run_until(async {
        futures::join!(
            append("1", "Paid", Expected::NoStream),
            append("2", "Odd", Expected::Revision(0)),
            append("3", "Paid", Expected::Revision(0)),
        )
    });
    assert_eq!(one.unwrap().last_position, 0);
    assert_eq!(odd.unwrap_err().kind, Kind::Refused);
    assert_eq!(two.unwrap().last_position, 1);
    let again = world
        .pool
        .run_until(append("3", "Paid", Expected::Revision(0)));
    assert!(again.unwrap().repeated);
    assert_eq!(view.lists().kept, ["1", "3"]);
    world
        .broker
        .inlines()
        .leave(&EntityName::new("ids").unwrap());
    world
        .pool
        .run_until(append("4", "Odd", Expected::Any))
        .unwrap();
    assert_eq!(view.lists().kept, ["1", "3"], "nobody asks it any more");
}
