//! The WAL of this crate against plain segments, at steady state: `shapes [--dir DIR] [--seconds N]
//! [--rounds N] [--only TITLE] [--shape NAME] [--scale N]`. It prints the tables of ADR 3; keep
//! the machine quiet meanwhile.
//!
//! Every case first writes three halves of what retention keeps, so that files retire as fast as
//! they are made, then is measured for the given time. The cases of a table run in turn, and the
//! disk's own sync is measured right before each. `--only` takes the tables whose title holds the
//! words, `--shape` the shapes whose name does; `--scale` makes files and retention so many times
//! smaller, for a look at the bench on a slow disk.

mod cases;
mod counted;
mod load;
mod machine;
mod segments;
mod table;
mod wal;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::cases::{Case, Shape};
use self::counted::Counts;
use self::load::{Append, Load};
use self::machine::{Dirty, Meter};
use self::table::Outcome;

/// Three halves of what is kept, so that retention has begun to bite.
const FILL: (u64, u64) = (3, 2);

struct Args {
    dir: PathBuf,
    seconds: u64,
    rounds: usize,
    only: String,
    shape: String,
    /// Everything that is kept is so many times less, for a look at the bench itself.
    scale: u32,
}

fn main() {
    let args = Args::parse();
    let dir = args
        .dir
        .join(format!("mente-shapes-{}", std::process::id()));
    for (title, cases) in cases::tables(args.scale) {
        if !title.contains(&args.only) {
            continue;
        }
        let is_meant = |case: &Case| case.shape.to_string().contains(&args.shape);
        let cases: Vec<_> = cases.into_iter().filter(is_meant).collect();
        let mut outcomes: Vec<Vec<Outcome>> = cases.iter().map(|_| Vec::new()).collect();
        for round in 0..args.rounds {
            for (case, outcomes) in cases.iter().zip(&mut outcomes) {
                eprintln!("{title}, round {round}: {case}");
                std::fs::create_dir_all(&dir).expect("a directory to write to");
                outcomes.push(run(&dir, case, Duration::from_secs(args.seconds)));
                std::fs::remove_dir_all(&dir).expect("the directory is ours");
            }
        }
        let rows: Vec<_> = cases.into_iter().zip(outcomes).collect();
        table::print(title, &rows);
    }
}

impl Args {
    fn parse() -> Self {
        let mut parsed = Self {
            dir: std::env::temp_dir(),
            seconds: 60,
            rounds: 1,
            only: String::new(),
            shape: String::new(),
            scale: 1,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().expect("a value behind every option");
            match name.as_str() {
                "--dir" => parsed.dir = value.into(),
                "--seconds" => parsed.seconds = value.parse().expect("a number of seconds"),
                "--rounds" => parsed.rounds = value.parse().expect("a number of rounds"),
                "--only" => parsed.only = value,
                "--shape" => parsed.shape = value,
                "--scale" => parsed.scale = value.parse().expect("a number"),
                other => panic!("no option {other}; the head of this file names them"),
            }
        }
        parsed
    }
}

fn run(dir: &Path, case: &Case, time: Duration) -> Outcome {
    let floor = machine::floor(dir);
    eprintln!("  the disk's own sync: {:?} on average", mean(&floor));
    let counts = Counts::default();
    let logs = dir.join("logs");
    match case.shape {
        Shape::Wal(options) => {
            let wal = wal::Wal::open(&logs, case, options, &counts);
            let outcome = measure(&logs, case, time, &counts, floor, &wal);
            wal.close();
            outcome
        }
        Shape::Segments { zeroed } => {
            let segments = segments::Segments::open(&logs, case, zeroed, &counts);
            let outcome = measure(&logs, case, time, &counts, floor, &segments);
            segments.close();
            outcome
        }
    }
}

fn measure(
    dir: &Path,
    case: &Case,
    time: Duration,
    counts: &Counts,
    floor: Vec<u32>,
    shape: &dyn Append,
) -> Outcome {
    let load = Load::new(case);
    let begun = Instant::now();
    shape.fill(true);
    load.write(shape, case.kept_bytes * FILL.0 / FILL.1);
    shape.fill(false);
    eprintln!("  filled in {:.1?}", begun.elapsed());
    counts.begin();
    let dirty = Dirty::watch();
    let before = Meter::read(dir);
    let latencies = load.run(shape, time);
    let used = Meter::read(dir).since(&before);
    Outcome::new(case, floor, latencies, &used, dirty.end(), counts, dir)
}

fn mean(nanoseconds: &[u32]) -> Duration {
    let sum: u64 = nanoseconds.iter().map(|time| u64::from(*time)).sum();
    Duration::from_nanos(sum / nanoseconds.len().max(1) as u64)
}
