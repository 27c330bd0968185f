//! Rows that are kept with the store, against the store itself: nothing that is acknowledged is missing in them, nothing
//! is there that was refused, whatever becomes of an append in the engine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use mente_broker::{Error, Expected, Inline, Kind, Result, StreamEvent, StreamName};
use mente_engine::memory::Fault;
use mente_engine::{Engine, Event, Offset};

use crate::rounds::{ME, World, event};

#[derive(Debug, Default)]
struct Rows {
    kept: Vec<(u64, String)>,
    applied: Vec<(u64, String)>,
    /// Behind the log: what was applied is not known to be written.
    is_undone: bool,
}

struct Keeper(Arc<Mutex<Rows>>);

impl Inline for Keeper {
    fn is_wanted(&self) -> bool {
        true
    }

    fn apply(&mut self, events: &[StreamEvent]) -> Result<()> {
        let rows = &mut *self.0.lock().unwrap();
        assert!(!rows.is_undone, "it was mended before anybody came");
        // A statement that fails leaves nothing of its append.
        if let Some(bad) = events.iter().find(|event| event.event.kind == "Bad") {
            return Err(Error::new(Kind::Refused, bad.event.id.clone()));
        }
        let event = |event: &StreamEvent| (event.place.position, event.event.id.clone());
        rows.applied.extend(events.iter().map(event));
        Ok(())
    }

    fn keep(&mut self, _: Offset) {
        let rows = &mut *self.0.lock().unwrap();
        rows.kept.append(&mut rows.applied);
    }

    fn undo(&mut self) {
        let rows = &mut *self.0.lock().unwrap();
        rows.applied.clear();
        rows.is_undone = true;
    }
}

fn stream(number: u8) -> StreamName {
    StreamName::new(format!("order-{number}")).unwrap()
}

fn stored(world: &mut World) -> Vec<(u64, String)> {
    let broker = world.broker.clone();
    let read = async {
        let (mut all, mut from) = (Vec::new(), Offset(0));
        loop {
            let (events, next) = broker.read_store(&ME, from).await.unwrap();
            if next == from {
                return all;
            }
            let told = |event: StreamEvent| (event.place.position, event.event.id);
            all.extend(events.into_iter().map(told));
            from = next;
        }
    };
    world.pool.run_until(read)
}

/// Several appends at once, some refused by the rows, in a world that crashes and loses answers.
#[test]
fn rows_are_the_log_after_every_round() {
    let (mut refused, mut unknown) = (0, 0);
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        let rows: Arc<Mutex<Rows>> = Arc::default();
        let mend = |world: &mut World| {
            let there = stored(world);
            *rows.lock().unwrap() = Rows {
                kept: there,
                ..Rows::default()
            };
            world
                .broker
                .keep_inline(Box::new(Keeper(Arc::clone(&rows))));
        };
        mend(&mut world);
        let sets = world.pool.run_until(world.engine.list("")).unwrap();
        let store = sets
            .iter()
            .find(|set| set.name.as_str().ends_with("$store"));
        let log = store.unwrap().id.log(0);
        let mut id = 0;
        for _ in 0..20 {
            if random.u8(0..6) == 0 {
                let fault = [Fault::UnknownButDone, Fault::UnknownAndLost][random.usize(0..2)];
                world.engine.inject(log, fault);
            }
            let broker = world.broker.clone();
            let appends: Vec<_> = (0..random.usize(1..5))
                .map(|_| {
                    let events: Vec<Event> = (0..random.usize(1..4))
                        .map(|_| {
                            id += 1;
                            let kind = if random.u8(0..8) == 0 { "Bad" } else { "Good" };
                            let kind = kind.to_owned();
                            Event { kind, ..event(id) }
                        })
                        .collect();
                    (stream(random.u8(0..3)), events)
                })
                .collect();
            let calls = appends.iter().map(|(stream, events)| {
                broker.append_stream(&ME, stream, Expected::Any, events.clone())
            });
            let answers = world.pool.run_until(join_all(calls));
            world.pass(Duration::from_secs(1));
            let there = stored(&mut world);
            for ((_, events), answer) in appends.iter().zip(answers) {
                let is_there = |event: &Event| there.iter().any(|(_, id)| *id == event.id);
                match answer {
                    Ok(_) => {
                        let kept = rows.lock().unwrap();
                        for event in events {
                            assert!(is_there(event), "seed {seed}: {} is lost", event.id);
                            let is_kept = kept.kept.iter().any(|(_, id)| *id == event.id);
                            assert!(is_kept, "seed {seed}: no row of {}", event.id);
                        }
                    }
                    Err(error) if error.kind == Kind::Refused => {
                        refused += 1;
                        assert!(
                            !events.iter().any(is_there),
                            "seed {seed}: {error} and there"
                        );
                    }
                    Err(_) => unknown += 1,
                }
            }
            if rows.lock().unwrap().is_undone {
                mend(&mut world);
            }
            assert_eq!(rows.lock().unwrap().kept, there, "seed {seed}");
        }
    }
    assert!(
        refused > 100 && unknown > 50,
        "{refused} refused, {unknown} unknown"
    );
}
