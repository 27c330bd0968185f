//! Times are found as a scan over all batches would find them.

use mente_engine::{
    Batch, BatchBuilder, Engine, LogConfig, LogId, Offset, Record, SetName, Timestamp,
};
use mente_log::{Embedded, MemDisk};
use proptest::prelude::*;

use crate::driven::{Cranked, now};

/// One batch with a record for each time.
fn batch(times: &[i64], size: usize) -> Batch {
    let record = |time: &i64| Record {
        timestamp: Timestamp(*time),
        value: Some(vec![b'x'; size].into()),
        ..Record::default()
    };
    let mut builder = BatchBuilder::default();
    times.iter().for_each(|time| builder.push(&record(time)));
    builder.finish()
}

/// Base, end and latest time of every batch in order.
type Scan = Vec<(u64, u64, i64)>;

fn check(engine: &Embedded, log: LogId, scan: &Scan) -> Result<(), TestCaseError> {
    let bounds = now(engine.bounds(log)).unwrap();
    for time in (-3..60).chain([i64::MIN, i64::MAX]) {
        let live = scan.iter().filter(|(_, end, _)| *end > bounds.start.0);
        let found = live.clone().find(|(.., latest)| *latest >= time);
        let expect = found.map_or(bounds.end, |(base, ..)| Offset(*base).max(bounds.start));
        prop_assert_eq!(
            now(engine.offset_at(log, Timestamp(time))),
            Ok(expect),
            "{}",
            time
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_time_is_found_as_by_a_scan(
        batches in proptest::collection::vec(
            (proptest::collection::vec(-2i64..50, 1..4), 1usize..4000, 1usize..5), 1..80),
        trims in proptest::collection::vec(0.0f64..1.0, 0..3),
    ) {
        let disk = MemDisk::default();
        let mut cranked = Cranked::open(&disk);
        let name = SetName::new("t/a").unwrap();
        let set = cranked.engine.create(&name, 1, LogConfig::default());
        let log = cranked.done(set).unwrap().log(0);
        let (mut scan, mut base) = (Scan::new(), 0);
        for (times, size, at_once) in batches {
            let mut answers = Vec::new();
            for _ in 0..at_once {
                answers.push(cranked.engine.append(&[], vec![(log, batch(&times, size))]));
                let end = base + times.len() as u64;
                scan.push((base, end, *times.iter().max().unwrap()));
                base = end;
            }
            for answer in answers {
                cranked.done(answer).unwrap();
            }
        }
        check(&cranked.engine, log, &scan)?;
        for trim in trims {
            let before = Offset((base as f64 * trim) as u64);
            let trim = cranked.engine.trim(log, before);
            cranked.done(trim).unwrap();
            check(&cranked.engine, log, &scan)?;
        }
        let reopened = Cranked::open(&disk.after_crash(7));
        check(&reopened.engine, log, &scan)?;
    }
}
