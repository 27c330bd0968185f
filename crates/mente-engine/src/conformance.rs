//! What an engine is: a suite that every engine passes, each case a promise of [`Engine`].
//!
//! The cases use sets of their own names only, so that they run on a shared cluster too, and
//! they open the engine anew where a promise is about staying.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::{Batch, BatchBuilder};
use crate::clock::Timestamp;
use crate::engine::{Change, Engine, Limit, LogConfig, Retention};
use crate::error::Error;
use crate::id::{LogId, Offset, SetName};
use crate::limits;
use crate::record::Record;

/// Opens the engine on the same data, as after a restart.
pub type Open<'a> = &'a dyn Fn() -> Arc<dyn Engine>;
type Case = (
    &'static str,
    for<'a> fn(World<'a>) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
);

macro_rules! cases {
    ($($case:ident),+ $(,)?) => { &[$((stringify!($case), |world| Box::pin($case(world)))),+] };
}

const CASES: &[Case] = cases![
    a_set_is_made_once_and_listed,
    a_name_made_again_gets_a_new_id,
    what_was_appended_is_read_back_byte_for_byte,
    what_was_read_is_appended_elsewhere,
    reads_go_on_where_the_last_one_stopped,
    a_read_from_inside_a_batch_gives_that_batch,
    a_watch_wakes_for_the_next_append,
    a_time_is_found,
    logs_of_a_set_are_apart_and_grow_in_number,
    a_retention_is_told_once_it_is_changed,
    appends_land_in_call_order,
    an_owned_log_needs_its_fence,
    a_later_claim_shuts_out_the_earlier_one,
    a_failed_append_ends_its_fence,
    terms_rise_over_a_restart,
    several_logs_are_atomic_or_unsupported,
    trim_moves_the_start_or_nothing,
    what_was_answered_is_there_after_a_restart,
];

/// Runs every case; `run` must differ between runs on the same data.
///
/// # Panics
/// If a promise is broken.
pub async fn run(open: Open<'_>, run: &str) {
    for (name, case) in CASES {
        // One line a case, shown when a test fails, to tell where.
        println!("conformance: {name}");
        case(World {
            open,
            prefix: format!("conformance/{run}.{name}"),
        })
        .await;
    }
}

struct World<'a> {
    open: Open<'a>,
    prefix: String,
}

impl World<'_> {
    fn open(&self) -> Arc<dyn Engine> {
        (self.open)()
    }

    fn name(&self, name: &str) -> SetName {
        SetName::new(format!("{}.{name}", self.prefix)).expect("a plain name")
    }

    async fn log(&self, engine: &dyn Engine, name: &str, owned: bool) -> LogId {
        let config = LogConfig {
            owned,
            ..LogConfig::default()
        };
        engine
            .create(&self.name(name), 1, config)
            .await
            .expect("create")
            .log(0)
    }
}

/// A batch of these values, timestamps 1000, 1001 and on.
pub fn batch(values: &[&str]) -> Batch {
    let record = |(at, value): (usize, &&str)| Record {
        timestamp: Timestamp(1000 + at as i64),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    };
    BatchBuilder::from_iter(&values.iter().enumerate().map(record).collect::<Vec<_>>()).finish()
}

/// Reads the whole log, in steps of at most `limit`; term records are left out.
pub async fn read_all(engine: &dyn Engine, log: LogId, limit: Limit) -> Vec<(Offset, String)> {
    let bounds = engine.bounds(log).await.expect("bounds");
    let (mut from, mut found) = (bounds.start, Vec::new());
    while from < bounds.end {
        let chunk = engine.read(log, from, limit).await.expect("read");
        assert!(chunk.next > from, "a read below the end makes progress");
        for batch in chunk
            .batches
            .iter()
            .filter(|b| b.term().is_none() && !b.is_control())
        {
            for record in batch.records() {
                let (offset, record) = record.expect("a well-formed record");
                let value = record.value.expect("a value");
                found.push((offset, String::from_utf8(value.to_vec()).expect("text")));
            }
        }
        from = chunk.next;
    }
    found
}

async fn values(engine: &dyn Engine, log: LogId) -> Vec<String> {
    read_all(engine, log, Limit::default())
        .await
        .into_iter()
        .map(|(_, v)| v)
        .collect()
}

async fn a_set_is_made_once_and_listed(world: World<'_>) {
    let engine = world.open();
    let (name, plain) = (world.name("a"), LogConfig::default());
    let id = engine.create(&name, 3, plain).await.unwrap();
    assert_eq!(engine.create(&name, 3, plain).await, Ok(id));
    let fewer = engine.create(&name, 2, plain).await;
    assert!(matches!(fewer, Err(Error::NotDone(_))), "{fewer:?}");
    let more = engine.create(&name, 4, plain).await;
    assert!(matches!(more, Err(Error::NotDone(_))), "{more:?}");
    let other = engine
        .create(
            &name,
            3,
            LogConfig {
                owned: true,
                ..plain
            },
        )
        .await;
    assert!(matches!(other, Err(Error::NotDone(_))), "{other:?}");
    for logs in [0, limits::LOGS_PER_SET + 1] {
        let answer = engine.create(&world.name("b"), logs, plain).await;
        assert!(matches!(answer, Err(Error::NotDone(_))), "{answer:?}");
    }
    let listed = engine.list("").await.unwrap();
    let found = listed
        .iter()
        .find(|info| info.name == name)
        .expect("listed");
    assert_eq!((found.id, found.logs, found.config.owned), (id, 3, false));
    assert!(found.batch_bytes_max >= limits::EVENT_BYTES);
    assert!((1..=found.batch_bytes_max).contains(&found.batch_bytes_good));
    assert!(listed.is_sorted_by(|a, b| a.name < b.name));
    let same = engine.list(name.as_str()).await.unwrap();
    assert!(same.iter().any(|info| info.id == id), "{same:?}");
    let begin = |info: &crate::SetInfo| info.name.as_str().starts_with(name.as_str());
    assert!(same.iter().all(begin), "{same:?}");
    assert_eq!(engine.list("nobody/").await, Ok(vec![]));
}

async fn a_name_made_again_gets_a_new_id(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", false).await;
    engine
        .append(&[], vec![(log, batch(&["old"]))])
        .await
        .unwrap();
    engine.delete(log.set).await.unwrap();
    assert_eq!(engine.bounds(log).await, Err(Error::Gone));
    assert_eq!(
        engine.append(&[], vec![(log, batch(&["x"]))]).await,
        Err(Error::Gone)
    );
    let again = world.log(&*engine, "a", false).await;
    assert_ne!(again, log);
    assert!(values(&*engine, again).await.is_empty());
    assert_eq!(engine.delete(log.set).await, Err(Error::Gone));
}

async fn what_was_appended_is_read_back_byte_for_byte(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", false).await;
    let sent = [batch(&["a", "b"]), batch(&["c"])];
    for batch in &sent {
        let appended = engine
            .append(&[], vec![(log, batch.clone())])
            .await
            .unwrap();
        assert_eq!(appended.len(), 1);
        assert_eq!(
            appended[0].last.0 - appended[0].base.0 + 1,
            u64::from(batch.count())
        );
        let chunk = engine
            .read(log, appended[0].base, Limit::default())
            .await
            .unwrap();
        assert_eq!(chunk.batches[0].base_offset(), appended[0].base);
        assert!(chunk.next > appended[0].last);
    }
    let chunk = engine.read(log, Offset(0), Limit::default()).await.unwrap();
    // The log may patch base offset and length's neighbour, the leader epoch, nothing else.
    for (sent, read) in sent.iter().zip(&chunk.batches) {
        assert_eq!(sent.as_bytes()[8..12], read.as_bytes()[8..12]);
        assert_eq!(sent.as_bytes()[16..], read.as_bytes()[16..]);
    }
}

async fn what_was_read_is_appended_elsewhere(world: World<'_>) {
    let engine = world.open();
    let (from, to) = (
        world.log(&*engine, "from", false).await,
        world.log(&*engine, "to", true).await,
    );
    for value in ["a", "b"] {
        engine
            .append(&[], vec![(from, batch(&[value]))])
            .await
            .unwrap();
    }
    let fence = engine.claim(to).await.unwrap();
    // A batch out of a log carries the offset it has there.
    for read in engine
        .read(from, Offset(0), Limit::default())
        .await
        .unwrap()
        .batches
    {
        engine
            .append(&[fence], vec![(to, read.clone())])
            .await
            .unwrap();
        engine.append(&[], vec![(from, read)]).await.unwrap();
    }
    assert_eq!(values(&*engine, to).await, ["a", "b"]);
    assert_eq!(values(&*engine, from).await, ["a", "b", "a", "b"]);
}

async fn reads_go_on_where_the_last_one_stopped(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", false).await;
    let end = engine.bounds(log).await.unwrap().end;
    let chunk = engine.read(log, end, Limit::default()).await.unwrap();
    assert!(chunk.batches.is_empty());
    let mut sent = Vec::new();
    for i in 0..40 {
        let value = format!("value {i}");
        engine
            .append(&[], vec![(log, batch(&[&value]))])
            .await
            .unwrap();
        sent.push(value);
    }
    for bytes in [1, 100, 300, 1 << 20] {
        let found = read_all(&*engine, log, Limit { bytes }).await;
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b), "offsets rise");
        assert_eq!(found.into_iter().map(|(_, v)| v).collect::<Vec<_>>(), sent);
    }
}

async fn a_read_from_inside_a_batch_gives_that_batch(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", false).await;
    engine
        .append(&[], vec![(log, batch(&["x"]))])
        .await
        .unwrap();
    let appended = engine
        .append(&[], vec![(log, batch(&["a", "b", "c"]))])
        .await
        .unwrap()[0];
    let chunk = engine
        .read(log, appended.last, Limit { bytes: 1 })
        .await
        .unwrap();
    assert_eq!(chunk.batches[0].base_offset(), appended.base);
}

async fn a_watch_wakes_for_the_next_append(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", false).await;
    let seen = engine.bounds(log).await.unwrap().end;
    let watch = engine.watch(log, seen);
    let append = engine.append(&[], vec![(log, batch(&["a"]))]);
    let (end, appended) = futures::join!(watch, append);
    let (end, last) = (end.unwrap(), appended.unwrap()[0].last);
    assert!(end > last);
    assert_eq!(engine.watch(log, last).await, Ok(end));
}

async fn a_time_is_found(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", false).await;
    let early = engine
        .append(&[], vec![(log, batch(&["a"]))])
        .await
        .unwrap()[0];
    let late = engine
        .append(&[], vec![(log, batch(&["b", "c", "d"]))])
        .await
        .unwrap()[0];
    assert_eq!(engine.offset_at(log, Timestamp(1)).await, Ok(early.base));
    let found = engine.offset_at(log, Timestamp(1002)).await.unwrap();
    assert!(
        (late.base..=late.last).contains(&found),
        "{found} is in {late:?}"
    );
    let end = engine.bounds(log).await.unwrap().end;
    assert_eq!(engine.offset_at(log, Timestamp(5000)).await, Ok(end));
}

async fn logs_of_a_set_are_apart_and_grow_in_number(world: World<'_>) {
    let engine = world.open();
    let set = engine
        .create(&world.name("a"), 2, LogConfig::default())
        .await
        .unwrap();
    engine
        .append(&[], vec![(set.log(0), batch(&["zero"]))])
        .await
        .unwrap();
    engine
        .append(&[], vec![(set.log(1), batch(&["one"]))])
        .await
        .unwrap();
    assert_eq!(engine.bounds(set.log(2)).await, Err(Error::Gone));
    engine.alter(set, Change::Logs(3)).await.unwrap();
    engine
        .append(&[], vec![(set.log(2), batch(&["two"]))])
        .await
        .unwrap();
    let fewer = engine.alter(set, Change::Logs(2)).await;
    assert!(matches!(fewer, Err(Error::NotDone(_))), "{fewer:?}");
    for (index, value) in ["zero", "one", "two"].into_iter().enumerate() {
        assert_eq!(values(&*engine, set.log(index as u32)).await, [value]);
    }
}

/// Often, since a change that takes a moment to show would be seen at most calls only.
async fn a_retention_is_told_once_it_is_changed(world: World<'_>) {
    let engine = world.open();
    let name = world.name("a");
    let set = engine.create(&name, 1, LogConfig::default()).await.unwrap();
    for round in 1..=40 {
        let retention = Retention {
            age: (round % 3 > 0).then(|| Duration::from_hours(round)),
            bytes: (round % 3 > 1).then_some(round << 20),
        };
        engine
            .alter(set, Change::Retention(retention))
            .await
            .unwrap();
        let listed = engine.list(name.as_str()).await.unwrap();
        let told = listed.iter().find(|info| info.id == set);
        assert_eq!(told.unwrap().config.retention, retention, "change {round}");
    }
}

async fn appends_land_in_call_order(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", true).await;
    let fence = engine.claim(log).await.unwrap();
    let sent: Vec<_> = (0..20).map(|i| format!("value {i}")).collect();
    // Called in order, awaited in the opposite one.
    let calls: Vec<_> = sent
        .iter()
        .map(|v| engine.append(&[fence], vec![(log, batch(&[v]))]))
        .collect();
    for call in calls.into_iter().rev() {
        call.await.unwrap();
    }
    assert_eq!(values(&*engine, log).await, sent);
}

async fn an_owned_log_needs_its_fence(world: World<'_>) {
    let engine = world.open();
    let (log, other) = (
        world.log(&*engine, "a", true).await,
        world.log(&*engine, "b", true).await,
    );
    let fence = engine.claim(other).await.unwrap();
    for fences in [&[][..], &[fence]] {
        let answer = engine.append(fences, vec![(log, batch(&["a"]))]).await;
        assert!(matches!(answer, Err(Error::NotDone(_))), "{answer:?}");
    }
    assert!(values(&*engine, log).await.is_empty());
    let plain = world.log(&*engine, "c", false).await;
    let claim = engine.claim(plain).await;
    assert!(matches!(claim, Err(Error::NotDone(_))), "{claim:?}");
}

async fn a_later_claim_shuts_out_the_earlier_one(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", true).await;
    let first = engine.claim(log).await.unwrap();
    engine
        .append(&[first], vec![(log, batch(&["a"]))])
        .await
        .unwrap();
    let second = engine.claim(log).await.unwrap();
    assert!(second.term > first.term && second.at > first.at);
    let chunk = engine.read(log, second.at, Limit::default()).await.unwrap();
    assert_eq!(
        chunk.batches[0].term(),
        Some(second.term),
        "the term record lies at `at`"
    );
    let late = engine.append(&[first], vec![(log, batch(&["late"]))]).await;
    assert_eq!(late, Err(Error::Fenced));
    engine
        .append(&[second], vec![(log, batch(&["b"]))])
        .await
        .unwrap();
    assert_eq!(values(&*engine, log).await, ["a", "b"]);
}

async fn a_failed_append_ends_its_fence(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", true).await;
    let fence = engine.claim(log).await.unwrap();
    let huge = batch(&[&"x".repeat(limits::BATCH_BYTES)]);
    let refused = engine.append(&[fence], vec![(log, huge)]);
    // Called before the failure is known: it must not land behind the gap.
    let next = engine.append(&[fence], vec![(log, batch(&["behind the gap"]))]);
    assert!(matches!(refused.await, Err(Error::TooBig { .. })));
    assert_eq!(next.await, Err(Error::Fenced));
    let fence = engine.claim(log).await.unwrap();
    engine
        .append(&[fence], vec![(log, batch(&["a"]))])
        .await
        .unwrap();
    assert_eq!(values(&*engine, log).await, ["a"]);
}

async fn terms_rise_over_a_restart(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", true).await;
    let before = engine.claim(log).await.unwrap();
    drop(engine);
    let engine = world.open();
    let after = engine.claim(log).await.unwrap();
    assert!(after.term > before.term);
    let late = engine
        .append(&[before], vec![(log, batch(&["late"]))])
        .await;
    assert_eq!(late, Err(Error::Fenced));
}

async fn several_logs_are_atomic_or_unsupported(world: World<'_>) {
    let engine = world.open();
    let set = engine
        .create(&world.name("a"), 2, LogConfig::default())
        .await
        .unwrap();
    let both = vec![
        (set.log(0), batch(&["zero"])),
        (set.log(1), batch(&["one"])),
    ];
    match engine.append(&[], both).await {
        Ok(appended) => {
            assert_eq!(appended.len(), 2);
            assert_eq!(values(&*engine, set.log(1)).await, ["one"]);
        }
        Err(error) => {
            assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
            assert!(values(&*engine, set.log(0)).await.is_empty());
        }
    }
    let gone = LogId {
        index: 9,
        ..set.log(0)
    };
    let half = engine.append(
        &[],
        vec![(set.log(0), batch(&["half"])), (gone, batch(&["x"]))],
    );
    half.await.expect_err("the second log does not exist");
    assert!(
        !values(&*engine, set.log(0))
            .await
            .contains(&"half".to_owned())
    );
}

async fn trim_moves_the_start_or_nothing(world: World<'_>) {
    let engine = world.open();
    let log = world.log(&*engine, "a", false).await;
    engine
        .append(&[], vec![(log, batch(&["a"]))])
        .await
        .unwrap();
    let kept = engine
        .append(&[], vec![(log, batch(&["b"]))])
        .await
        .unwrap()[0];
    let size = async |offsets| engine.size(log, offsets).await.unwrap();
    let end = Offset(kept.last.0 + 1);
    let (all, behind) = (size(Offset(0).on()).await, size(kept.base.on()).await);
    let (before, nothing) = (size(Offset(0)..kept.base).await, size(end.on()).await);
    // An engine may know at one time and not at another.
    if let (Some(all), Some(before), Some(behind)) = (all, before, behind) {
        assert!(0 < before && 0 < behind && before + behind <= all);
    }
    assert!(nothing.is_none_or(|bytes| bytes == 0), "{nothing:?}");
    engine.trim(log, kept.base).await.unwrap();
    let bounds = engine.bounds(log).await.unwrap();
    assert!(bounds.start <= kept.base, "nothing above the trim is lost");
    assert_eq!(
        values(&*engine, log).await.last().map(String::as_str),
        Some("b")
    );
    if bounds.start > Offset(0) {
        let below = engine.read(log, Offset(0), Limit::default()).await;
        assert_eq!(below.unwrap_err(), Error::Trimmed(bounds.start));
    }
}

async fn what_was_answered_is_there_after_a_restart(world: World<'_>) {
    let engine = world.open();
    let set = engine
        .create(&world.name("a"), 2, LogConfig::default())
        .await
        .unwrap();
    let mut sent = Vec::new();
    for round in 0..3 {
        let engine = world.open();
        assert_eq!(
            engine
                .create(&world.name("a"), 2, LogConfig::default())
                .await,
            Ok(set)
        );
        for i in 0..5 {
            let value = format!("round {round} value {i}");
            let appended = engine
                .append(&[], vec![(set.log(1), batch(&[&value]))])
                .await
                .unwrap()[0];
            sent.push((appended.base, value));
        }
    }
    let engine = world.open();
    assert_eq!(read_all(&*engine, set.log(1), Limit::default()).await, sent);
    let end = engine.bounds(set.log(1)).await.unwrap().end;
    assert!(end > sent.last().unwrap().0, "no offset is used again");
}
