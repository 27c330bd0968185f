//! Every decoder of the house against bytes that mean harm.
//!
//! A [`Target`] is a decoder, seeds made by our own encoders, and a repair that makes checksums
//! right again, without which damage would never get past them. [`run`] damages seeds and what
//! the library keeps, and asks of every input:
//!
//! - it does not panic;
//! - what it allocates at its peak is bounded by the size of the input;
//! - what was decoded is decoded again to the same from what the encoder makes of it.
//!
//! The slowest input by its size is reported, not judged. An input that fails is kept in
//! `library/TARGET`, and everything there is tried first, for ever.
//!
//! This crate refuses to know sockets, clocks of others and disks: decoders only.
//!
//! Start reading at [`run`], then `targets.rs`.

mod damage;
mod targets;

use std::fs;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use damage::Damage;
pub use targets::TARGETS;

/// A decoder and what it takes to attack it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Decodes; panics if what comes out does not come back.
    pub decode: fn(&[u8]),
    /// Makes checksums and lengths right again.
    pub repair: fn(&mut Vec<u8>),
    /// Words that damage puts in.
    pub words: &'static [&'static str],
    /// Bytes that may be allocated at the peak for each byte of input,
    pub factor: usize,
    /// beside these.
    pub floor: usize,
}

/// How to see what is allocated; the program that runs the targets has the allocator.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    pub restart: fn(),
    pub peak_bytes: fn() -> usize,
    pub now_bytes: fn() -> usize,
    /// Processor time of this process until now; none where the system does not say.
    pub cpu: fn() -> Option<Duration>,
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// The same inputs every time.
    Inputs(u64),
    /// Other inputs every time.
    Time(Duration),
}

#[derive(Debug, Default)]
struct Tally {
    inputs: u64,
    slowest: Duration,
    slowest_bytes: usize,
    most_bytes: usize,
}

/// Tries a target; says what was found. The failing input is kept.
pub fn run(target: &Target, budget: Budget, meter: &Meter) -> Result<String, String> {
    let kept = kept(target.name);
    let seeds = (target.seeds)();
    let mut tally = Tally::default();
    for input in seeds.iter().chain(&kept) {
        attempt(target, input, meter, &mut tally)?;
    }
    let seed = match budget {
        Budget::Inputs(_) => 1,
        Budget::Time(_) => fastrand::u64(..),
    };
    let pool: Vec<Vec<u8>> = seeds.into_iter().chain(kept).collect();
    let mut damage = Damage::new(seed, target.words);
    let began = Instant::now();
    while match budget {
        Budget::Inputs(most) => tally.inputs < most,
        Budget::Time(most) => began.elapsed() < most,
    } {
        let mut input = damage.of(&pool);
        if damage.often() {
            (target.repair)(&mut input);
        }
        attempt(target, &input, meter, &mut tally)?;
    }
    let took = began.elapsed().as_secs_f64();
    let cpu = (meter.cpu)().map_or("unknown".to_owned(), |cpu| {
        format!("{:.1}", cpu.as_secs_f64())
    });
    let per_kib =
        tally.slowest.as_secs_f64() * 1e3 / (tally.slowest_bytes as f64 / 1024.0).max(1.0);
    Ok(format!(
        "{:<20} {:>10} inputs, {:>7.0} a second, {cpu} s of CPU, seed {seed:x}; slowest {per_kib:.2} ms per KiB ({} bytes), most allocated {} KiB",
        target.name,
        tally.inputs,
        tally.inputs as f64 / took.max(1e-3),
        tally.slowest_bytes,
        tally.most_bytes >> 10
    ))
}

fn attempt(target: &Target, input: &[u8], meter: &Meter, tally: &mut Tally) -> Result<(), String> {
    let before = (meter.now_bytes)();
    (meter.restart)();
    let began = Instant::now();
    let decoded = catch_unwind(AssertUnwindSafe(|| (target.decode)(input)));
    let took = began.elapsed();
    let taken = (meter.peak_bytes)().saturating_sub(before);
    tally.inputs += 1;
    tally.most_bytes = tally.most_bytes.max(taken);
    let kib = |bytes: usize| (bytes as f64 / 1024.0).max(1.0);
    if took.as_secs_f64() / kib(input.len())
        > tally.slowest.as_secs_f64() / kib(tally.slowest_bytes)
    {
        (tally.slowest, tally.slowest_bytes) = (took, input.len());
    }
    let allowed = target.factor * input.len() + target.floor;
    let what = match decoded {
        Err(panic) => format!("panicked: {}", words(&*panic)),
        Ok(()) if taken > allowed => format!("allocated {taken} bytes, {allowed} are allowed"),
        Ok(()) => return Ok(()),
    };
    let path = keep(target.name, input);
    Err(format!(
        "{}: {what}\n  {} bytes, kept in {}",
        target.name,
        input.len(),
        path.display()
    ))
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

fn library(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("library")
        .join(target)
}

/// What once failed, in the order of the names.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(library(target))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

fn keep(target: &str, input: &[u8]) -> PathBuf {
    let name = BuildHasherDefault::<DefaultHasher>::default().hash_one(input);
    let path = library(target).join(format!("{name:016x}"));
    let written = fs::create_dir_all(library(target)).and_then(|()| fs::write(&path, input));
    if let Err(error) = written {
        eprintln!("not kept: {error}");
    }
    path
}
