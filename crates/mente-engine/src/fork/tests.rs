use futures::executor::block_on;

use super::*;
use crate::conformance::{self, batch, read_all};
use crate::engine::Takes;
use crate::memory::MemoryEngine;

const PLAIN: LogConfig = LogConfig {
    owned: false,
    retention: engine::Retention {
        age: None,
        bytes: None,
    },
};
const OWNED: LogConfig = LogConfig {
    owned: true,
    ..PLAIN
};

fn name(text: &str) -> SetName {
    SetName::new(text).unwrap()
}

async fn make(engine: &dyn Engine, set: &str, config: LogConfig) -> LogId {
    engine.create(&name(set), 1, config).await.unwrap().log(0)
}

async fn put(engine: &dyn Engine, log: LogId, value: &str) -> Offset {
    let appended = engine.append(&[], vec![(log, batch(&[value]))]).await;
    appended.unwrap()[0].base
}

async fn values(engine: &dyn Engine, log: LogId) -> Vec<String> {
    let read = read_all(engine, log, Limit { bytes: 100 }).await;
    read.into_iter().map(|(_, value)| value).collect()
}

/// All sets of `default`, forked as they are now.
async fn fork(engine: &MemoryEngine) -> Fork {
    fork_at(engine, None).await
}

async fn fork_at(engine: &MemoryEngine, upto: Option<Timestamp>) -> Fork {
    let sets = engine.list("default/").await.unwrap();
    let share = |info| Share { info, upto };
    let sets: Vec<_> = sets.into_iter().map(share).collect();
    let inner: Arc<dyn Engine> = Arc::new(engine.clone());
    Fork::create(inner, "b", "default", &sets).await.unwrap()
}

async fn again(engine: &MemoryEngine) -> Fork {
    let inner: Arc<dyn Engine> = Arc::new(engine.clone());
    Fork::open(inner, "b", "default").await.unwrap()
}

#[test]
fn conforms() {
    for seed in 1..20 {
        let engine = MemoryEngine::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let inner: Arc<dyn Engine> = Arc::new(engine.clone());
        block_on(async {
            make(&engine, "conformance/before", PLAIN).await;
            let sets = engine.list("").await.unwrap();
            let share = |info| Share { info, upto: None };
            let sets: Vec<_> = sets.into_iter().map(share).collect();
            let made = Fork::create(Arc::clone(&inner), "b", "conformance", &sets);
            made.await.unwrap();
            let open = || -> Arc<dyn Engine> {
                let opened = Fork::open(Arc::clone(&inner), "b", "conformance");
                Arc::new(block_on_memory(opened).unwrap())
            };
            conformance::run(&open, "fork").await;
        });
    }
}

/// The memory engine answers at once, so this needs no executor inside of one.
fn block_on_memory<T>(future: impl Future<Output = T>) -> T {
    futures::FutureExt::now_or_never(future).expect("answered at once")
}

#[test]
fn both_go_on_from_the_cut_and_neither_sees_the_other() {
    block_on(async {
        let engine = MemoryEngine::new(5);
        let log = make(&engine, "default/a", PLAIN).await;
        for value in ["1", "2"] {
            put(&engine, log, value).await;
        }
        let fork = fork(&engine).await;
        let noted = fork.bounds(log).await.unwrap().end;
        put(&engine, log, "parent").await;
        assert!(put(&fork, log, "fork").await >= noted);
        put(&engine, log, "parent too").await;
        assert_eq!(values(&fork, log).await, ["1", "2", "fork"]);
        let chunk = fork.read(log, Offset(0), Limit::default()).await.unwrap();
        assert_eq!(chunk.batches.len(), 3, "the cut is no end of a page");
        let chunk = fork
            .read(log, Offset(0), Limit { bytes: 150 })
            .await
            .unwrap();
        assert_eq!(chunk.batches.len(), 2);
        let parents = ["1", "2", "parent", "parent too"];
        assert_eq!(values(&engine, log).await, parents);
        assert_eq!(values(&again(&engine).await, log).await, ["1", "2", "fork"]);
        let listed = fork.list("").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (listed[0].name.as_str(), listed[0].id),
            ("default/a", log.set)
        );
    });
}

/// Positions that were noted of what the fork does not show are not used again.
#[test]
fn a_cut_in_the_past_leaves_a_hole() {
    block_on(async {
        for seed in 1..20 {
            let engine = MemoryEngine::new(seed);
            let log = make(&engine, "default/a", PLAIN).await;
            put(&engine, log, "1").await;
            // Times of a batch are 1000 and on.
            let later = batch(&["2", "3", "4"]);
            let later = engine.append(&[], vec![(log, later)]).await.unwrap()[0];
            put(&engine, log, "5").await;
            let end = engine.bounds(log).await.unwrap().end;
            let fork = fork_at(&engine, Some(Timestamp(1001))).await;
            assert_eq!(values(&fork, log).await, ["1"]);
            assert_eq!(
                fork.cut(log).unwrap(),
                Bounds {
                    start: later.base,
                    end
                }
            );
            for from in later.base.0..end.0 {
                let chunk = fork
                    .read(log, Offset(from), Limit::default())
                    .await
                    .unwrap();
                assert!(chunk.batches.is_empty() && chunk.next == end, "{chunk:?}");
            }
            assert_eq!(fork.watch(log, later.base).await, Ok(end));
            assert!(put(&fork, log, "fork").await >= end);
            assert_eq!(values(&fork, log).await, ["1", "fork"]);
            let chunk = fork
                .read(log, later.base, Limit { bytes: 1 })
                .await
                .unwrap();
            assert_eq!(chunk.batches.len(), 1, "the hole is no end: {chunk:?}");
            assert!(fork.offset_at(log, Timestamp(1001)).await.unwrap() >= end);
            assert!(fork.offset_at(log, Timestamp(0)).await.unwrap() < later.base);
        }
    });
}

#[test]
fn a_set_that_is_deleted_or_trimmed_in_the_fork_stays_in_the_parent() {
    block_on(async {
        let engine = MemoryEngine::new(5);
        let (log, gone) = (
            make(&engine, "default/a", PLAIN).await,
            make(&engine, "default/gone", PLAIN).await,
        );
        put(&engine, log, "1").await;
        let second = put(&engine, log, "2").await;
        put(&engine, gone, "kept").await;
        let fork = fork(&engine).await;
        fork.trim(log, second).await.unwrap();
        fork.delete(gone.set).await.unwrap();
        put(&fork, log, "3").await;
        let new = make(&fork, "default/gone", PLAIN).await;
        assert_ne!(new.set, gone.set);
        put(&fork, new, "new").await;
        for fork in [fork, again(&engine).await] {
            assert_eq!(values(&fork, log).await, ["2", "3"]);
            let below = fork.read(log, Offset(0), Limit::default()).await;
            assert_eq!(below.unwrap_err(), Error::Trimmed(second));
            assert_eq!(fork.bounds(gone).await, Err(Error::Gone));
            assert_eq!(values(&fork, new).await, ["new"]);
            assert_eq!(fork.list("default/").await.unwrap().len(), 2);
        }
        let fork = again(&engine).await;
        let end = fork.bounds(log).await.unwrap().end;
        fork.trim(log, end).await.unwrap();
        for fork in [fork, again(&engine).await] {
            assert!(values(&fork, log).await.is_empty());
        }
        assert_eq!(values(&engine, log).await, ["1", "2"]);
        assert_eq!(values(&engine, gone).await, ["kept"]);
    });
}

#[test]
fn what_the_parent_lets_go_of_reads_as_trimmed() {
    block_on(async {
        let engine = MemoryEngine::new(5);
        let log = make(&engine, "default/a", PLAIN).await;
        put(&engine, log, "1").await;
        let second = put(&engine, log, "2").await;
        let fork = fork(&engine).await;
        let own = put(&fork, log, "3").await;
        engine.trim(log, second).await.unwrap();
        assert_eq!(values(&fork, log).await, ["2", "3"]);
        engine.delete(log.set).await.unwrap();
        assert_eq!(values(&fork, log).await, ["3"]);
        let below = fork.read(log, second, Limit::default()).await;
        let Err(Error::Trimmed(start)) = below else {
            panic!("{below:?}")
        };
        assert!(start <= own && start > second);
        // And a name made again is not the fork's.
        let other = make(&engine, "default/a", PLAIN).await;
        assert_eq!(fork.bounds(other).await, Err(Error::Gone));
        assert_eq!(
            fork.append(&[], vec![(other, batch(&["x"]))]).await,
            Err(Error::Gone)
        );
    });
}

/// Retention of the fork's own part: what comes before what is gone is gone too, or there were a gap.
#[test]
fn a_fork_that_lost_some_of_its_own_begins_behind_it() {
    block_on(async {
        let engine = MemoryEngine::new(5);
        let log = make(&engine, "default/a", PLAIN).await;
        put(&engine, log, "1").await;
        let fork = fork(&engine).await;
        put(&fork, log, "2").await;
        let kept = put(&fork, log, "3").await;
        let own = engine.list("b/$of/").await.unwrap()[0].id.log(0);
        let goes_on = fork.cut(log).unwrap().end;
        engine.trim(own, Offset(kept.0 - goes_on.0)).await.unwrap();
        assert_eq!(fork.bounds(log).await.unwrap().start, kept);
        assert_eq!(values(&fork, log).await, ["3"]);
        for from in 0..kept.0 {
            let read = fork.read(log, Offset(from), Limit::default()).await;
            assert_eq!(read.unwrap_err(), Error::Trimmed(kept));
        }
    });
}

#[test]
fn an_owned_log_has_an_owner_on_either_side() {
    block_on(async {
        let engine = MemoryEngine::new(5);
        let log = make(&engine, "default/s", OWNED).await;
        let parents = engine.claim(log).await.unwrap();
        let append = |fence| vec![(log, batch(&[fence]))];
        engine.append(&[parents], append("1")).await.unwrap();
        let fork = fork(&engine).await;
        let own = fork.claim(log).await.unwrap();
        let chunk = fork.read(log, own.at, Limit::default()).await.unwrap();
        assert_eq!(chunk.batches[0].term(), Some(own.term));
        let appended = fork.append(&[own], append("fork")).await.unwrap();
        assert!(appended[0].base > own.at);
        engine.append(&[parents], append("2")).await.unwrap();
        let later = fork.claim(log).await.unwrap();
        let late = fork.append(&[own], append("late")).await;
        assert_eq!(late, Err(Error::Fenced));
        fork.append(&[later], append("fork too")).await.unwrap();
        assert_eq!(values(&fork, log).await, ["1", "fork", "fork too"]);
        assert_eq!(values(&engine, log).await, ["1", "2"]);
        engine.set_takes(Takes::Nothing);
        assert_eq!(fork.room().takes, Takes::Nothing);
    });
}

#[test]
fn nothing_of_a_removed_fork_is_left_and_all_of_the_parent() {
    block_on(async {
        let engine = MemoryEngine::new(5);
        let log = make(&engine, "default/a", PLAIN).await;
        put(&engine, log, "1").await;
        let fork = fork(&engine).await;
        put(&fork, log, "fork").await;
        make(&fork, "default/new", PLAIN).await;
        let inner: Arc<dyn Engine> = Arc::new(engine.clone());
        Fork::remove(&*inner, "b").await.unwrap();
        let left = engine.list("").await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(values(&engine, log).await, ["1"]);
        let gone = Fork::open(Arc::clone(&inner), "b", "default").await;
        assert_eq!(gone.unwrap_err(), Error::Gone);
        Fork::remove(&*inner, "b").await.unwrap();
    });
}

/// A fork is told apart from a copy by nothing but its offsets.
#[test]
fn a_fork_and_a_copy_are_the_same() {
    block_on(async {
        for seed in 1..200_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut draw = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 20) % below
            };
            let engine = MemoryEngine::new(seed);
            let mut logs = Vec::new();
            for set in ["default/a", "default/b", "default/c"] {
                logs.push(make(&engine, set, PLAIN).await);
            }
            let mut told = vec![Vec::new(); 3];
            for at in 0..draw(30) {
                let (log, value) = (draw(3) as usize, format!("p{at}"));
                put(&engine, logs[log], &value).await;
                told[log].push(value);
            }
            let mut forked = fork(&engine).await;
            for at in 0..40 {
                let (log, value) = (draw(3) as usize, format!("f{at}"));
                match draw(10) {
                    0..3 => drop(put(&engine, logs[log], &value).await),
                    3 => {
                        let all = read_all(&forked, logs[log], Limit::default()).await;
                        let keep = draw(all.len() as u64 + 1) as usize;
                        if let Some((before, _)) = all.get(keep) {
                            forked.trim(logs[log], *before).await.unwrap();
                            told[log].drain(..keep);
                        }
                    }
                    4 => forked = again(&engine).await,
                    _ => {
                        put(&forked, logs[log], &value).await;
                        told[log].push(value);
                    }
                }
                for (log, told) in logs.iter().zip(&told) {
                    assert_eq!(values(&forked, *log).await, *told, "seed {seed}");
                }
            }
        }
    });
}
