//! Damage of what was synced long ago. The law: whatever is served is what was written, and what is not
//! served is named: nothing is cut silently, neither at the first opening nor at a later one.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mente_engine::{Engine, Error, Limit, LogId, Offset};
use mente_log::{Embedded, MemDisk, Options, Recovered, Writer};

use crate::check::{Law, Violation};
use crate::random::Random;

/// The bytes of every batch by log and offset.
type Contents = BTreeMap<LogId, BTreeMap<u64, bytes::Bytes>>;

struct Opened {
    engine: Embedded,
    writer: Writer,
}

fn open(disk: &MemDisk) -> Result<Opened, String> {
    let options = Options {
        file_bytes: 64 << 10,
        wal_files: 3,
        recent_bytes: 1,
        seed: 0x0007,
        ..Options::default()
    };
    let opened = mente_log::open(Arc::new(disk.clone()), options, Arc::new(|| {}));
    let (engine, writer) = opened.map_err(|error| error.to_string())?;
    Ok(Opened { engine, writer })
}

/// What needs no waking answers at once.
fn now<T>(answer: impl Future<Output = T>) -> Option<T> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Everything that can be read of a log, and the error that ended it.
fn read(engine: &Embedded, log: LogId) -> (BTreeMap<u64, bytes::Bytes>, Option<Error>) {
    let mut found = BTreeMap::new();
    let mut from = match now(engine.bounds(log)) {
        Some(Ok(bounds)) => bounds.start,
        Some(Err(error)) => return (found, Some(error)),
        None => return (found, None),
    };
    loop {
        let chunk = match now(engine.read(log, from, Limit { bytes: 8 << 10 })) {
            Some(Ok(chunk)) if !chunk.batches.is_empty() => chunk,
            Some(Err(error)) => return (found, Some(error)),
            _ => return (found, None),
        };
        for batch in chunk.batches {
            found.insert(batch.base_offset().0, batch.as_bytes().clone());
        }
        from = chunk.next;
    }
}

fn contents(engine: &Embedded) -> Contents {
    let sets = now(engine.list(""))
        .and_then(Result::ok)
        .unwrap_or_default();
    let logs = sets
        .iter()
        .flat_map(|set| (0..set.logs).map(|index| set.id.log(index)));
    logs.map(|log| (log, read(engine, log).0)).collect()
}

const BLOCK: usize = 4096;

/// Hurts a log that was closed in order: turns one bit, or misplaces what was one write.
pub(crate) fn hurt(disk: &MemDisk, random: &mut Random) -> Vec<Violation> {
    let Ok(honest) = open(&disk.after_kill()) else {
        return vec![fault("the log does not open before it is hurt".into())];
    };
    let honest = contents(&honest.engine);
    let mut names = mente_log::Disk::list(disk).unwrap_or_default();
    names.retain(|name| name.ends_with(".wal") || name.ends_with(".pack"));
    let hurt = disk.after_kill();
    let what = if random.one_in(3) {
        misplace(&hurt, &names, random)
    } else {
        flip(&hurt, &names, random)
    };
    check(&honest, &hurt, &what)
}

fn flip(hurt: &MemDisk, names: &[String], random: &mut Random) -> String {
    let name = random.pick(names);
    let bytes = hurt.contents(name).unwrap_or_default();
    let mut at = random.below(bytes.len() as u64) as usize;
    // Most of a file may be zeros; those are tried as well, but less.
    for _ in 0..random.below(40) {
        if bytes[at] == 0 {
            at = random.below(bytes.len() as u64) as usize;
        }
    }
    let bit = random.below(8) as u8;
    hurt.flip(name, at, bit);
    format!("bit {bit} of byte {at} of {name}")
}

/// Some blocks lie elsewhere, and where they should be is what was there before.
fn misplace(hurt: &MemDisk, names: &[String], random: &mut Random) -> String {
    let (from_name, to_name) = (random.pick(names).clone(), random.pick(names).clone());
    let mut from = hurt.contents(&from_name).unwrap_or_default();
    // Up to the commit of the closing, which was the last write of all: what one write too many took from the
    // end looks like a write that was never answered.
    let blocks = last_block(&from).unwrap_or(1).max(1);
    let first = random.below(blocks as u64) as usize;
    let count = (1 + random.below(3) as usize).min(blocks - first);
    let moved = from[first * BLOCK..][..count * BLOCK].to_vec();
    from[first * BLOCK..][..count * BLOCK].fill(0);
    hurt.plant(&from_name, from);
    let mut to = hurt.contents(&to_name).unwrap_or_default();
    let room = (to.len() / BLOCK).saturating_sub(count);
    let target = random.below(room as u64 + 1) as usize;
    // The commit of the closing was the last write of all: nothing lies over it.
    let last = to
        .chunks(BLOCK)
        .rposition(|block| block.iter().any(|byte| *byte != 0));
    if last.is_none_or(|last| !(target..target + count).contains(&last))
        && to.len() >= (target + count) * BLOCK
    {
        to[target * BLOCK..][..moved.len()].copy_from_slice(&moved);
        hurt.plant(&to_name, to);
    }
    format!("{count} blocks from {first} of {from_name} at {target} of {to_name}")
}

/// The last block that is not zeros.
fn last_block(bytes: &[u8]) -> Option<usize> {
    bytes
        .chunks(BLOCK)
        .rposition(|block| block.iter().any(|byte| *byte != 0))
}

/// Opens a hurt log three times: as it is, after a while of work, and after a kill.
pub(crate) fn check(honest: &Contents, hurt: &MemDisk, what: &str) -> Vec<Violation> {
    let mut faults = Vec::new();
    for opening in 0..3 {
        let mut opened = match open(hurt) {
            Ok(opened) => opened,
            Err(error) => {
                faults.push(fault(format!("{what}, opening {opening}: {error}")));
                return faults;
            }
        };
        let told = opened.writer.recovered().clone();
        for (log, expected) in honest {
            if let Err(why) = compare(&opened.engine, *log, expected, &told) {
                faults.push(fault(format!(
                    "{what}, opening {opening}, log {log}: {why}"
                )));
            }
        }
        let mut packer = opened.writer.packer();
        for _ in 0..20 {
            let wrote = opened.writer.turn().unwrap_or(false);
            if !packer.turn().unwrap_or(false) && !wrote {
                break;
            }
        }
    }
    faults
}

fn fault(detail: String) -> Violation {
    Violation {
        law: Law::RotNotNamed,
        at: usize::MAX,
        detail,
    }
}

fn compare(
    engine: &Embedded,
    log: LogId,
    expected: &BTreeMap<u64, bytes::Bytes>,
    told: &Recovered,
) -> Result<(), String> {
    let (found, error) = read(engine, log);
    let catalogue_told = told.damaged.iter().any(|damage| damage.log.is_none());
    for (offset, bytes) in &found {
        match expected.get(offset) {
            Some(honest) if honest == bytes => {}
            // What a trim had taken may show again where the record of the trim is gone.
            None if catalogue_told => {}
            _ => return Err(format!("other bytes at {offset}")),
        }
    }
    let Some(missing) = expected.keys().find(|offset| !found.contains_key(offset)) else {
        return Ok(());
    };
    let named_from = told.damaged.iter().filter(|damage| damage.log == Some(log));
    let named_from = named_from.map(|damage| damage.at).chain(match error {
        Some(Error::Corrupt(at)) => Some(at),
        Some(Error::Gone) if catalogue_told => Some(Offset(0)),
        _ => None,
    });
    // A batch is named by any offset in it.
    let next = expected
        .range(missing + 1..)
        .next()
        .map_or(u64::MAX, |(offset, _)| *offset);
    match named_from.min() {
        Some(at) if at.0 < next => Ok(()),
        named => Err(format!(
            "{missing} is not there, damage is named from {named:?}, {error:?}"
        )),
    }
}
