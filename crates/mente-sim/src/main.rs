//! `mente-sim`: worlds by the thousand.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use mente_sim::{Scenario, Violation, faults, history, rot, sweep, world};

#[derive(Parser)]
#[command(
    about = "Runs Mente's broker and log in simulated worlds that lose power, and checks what clients saw"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Random worlds, until one is red.
    Seeds {
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[arg(long, default_value_t = threads())]
        jobs: usize,
        /// Stop after this long, and say how many were run.
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// A power cut before every storage operation of one run, under every policy.
    Points {
        #[arg(long, default_value_t = 200)]
        calls: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Every so many points.
        #[arg(long, default_value_t = 1)]
        step: u64,
        /// Also a second cut before every operation of the recovery.
        #[arg(long)]
        twice: bool,
        #[arg(long, default_value_t = threads())]
        jobs: usize,
    },
    /// Random worlds, then the points of some runs, rot and faults.
    All {
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
        #[arg(long, default_value_t = threads())]
        jobs: usize,
        /// For the seeds.
        #[arg(long)]
        minutes: Option<u64>,
        /// More runs, and every point of them twice.
        #[arg(long)]
        thorough: bool,
    },
    /// Hurts logs that were closed in order: what is served is what was written, and what is not is named.
    Rot {
        #[arg(long, default_value_t = 1_000)]
        injuries: u64,
        /// Of the first world whose log is hurt.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = threads())]
        jobs: usize,
    },
    /// Lets every call of the disk in one run of the log fail, one at a time.
    Faults {
        /// Every so many calls.
        #[arg(long, default_value_t = 1)]
        step: usize,
        #[arg(long, default_value_t = threads())]
        jobs: usize,
    },
    /// One world again, its history as JSON lines.
    Replay {
        #[arg(long)]
        seed: Option<u64>,
        /// A scenario file instead.
        #[arg(long)]
        scenario: Option<PathBuf>,
        #[arg(long)]
        history: Option<PathBuf>,
    },
    /// Plants each known bug and runs seeds until it is found.
    #[cfg(feature = "planted")]
    Planted {
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
        #[arg(long, default_value_t = threads())]
        jobs: usize,
    },
    /// Checks a history of JSON lines.
    Check { history: PathBuf },
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Seeds {
            seeds,
            from,
            jobs,
            minutes,
        } => run_seeds(from..from + seeds, jobs, minutes),
        Command::All {
            seeds,
            jobs,
            minutes,
            thorough,
        } => all(seeds, jobs, minutes, thorough),
        Command::Points {
            calls,
            seed,
            step,
            twice,
            jobs,
        } => run_points(seed, calls, step, twice, jobs),
        Command::Rot {
            injuries,
            seed,
            jobs,
        } => run_rot(injuries, seed, jobs),
        Command::Faults { step, jobs } => run_faults(step, jobs),
        Command::Replay {
            seed,
            scenario,
            history,
        } => replay(seed, scenario, history),
        #[cfg(feature = "planted")]
        Command::Planted { seeds, jobs } => hunt(seeds, jobs),
        Command::Check { history } => check(&history),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mente-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn red(violations: &[Violation]) -> anyhow::Result<()> {
    for violation in violations.iter().take(12) {
        println!("  {violation}");
    }
    bail!("{} violations", violations.len())
}

fn show(scenario: &Scenario) -> anyhow::Result<()> {
    println!(
        "{}",
        serde_json::to_string(scenario).context("a scenario is JSON")?
    );
    Ok(())
}

/// Keeps what was red: a test replays it from now on.
fn keep(name: &str, scenario: &Scenario) -> anyhow::Result<()> {
    show(scenario)?;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec(scenario)?)
        .with_context(|| format!("write {}", path.display()))?;
    println!("kept as {}", path.display());
    Ok(())
}

fn run_seeds(seeds: std::ops::Range<u64>, jobs: usize, minutes: Option<u64>) -> anyhow::Result<()> {
    let began = Instant::now();
    let until = minutes.map(|minutes| began + Duration::from_secs(minutes * 60));
    let (operations, packs) = (counter(), counter());
    let (skipped, of) = (counter(), seeds.end - seeds.start);
    let (found, ran) = sweep::first(jobs, seeds, |seed| {
        if until.is_some_and(|until| Instant::now() > until) {
            add(&skipped, 1);
            return None;
        }
        let outcome = sweep::caught(|| world::run(&Scenario::of_seed(seed)));
        let violations = match outcome {
            Ok(outcome) => {
                add(&operations, outcome.disk_operations);
                add(&packs, outcome.packs);
                outcome.violations
            }
            Err(panicked) => vec![panicked],
        };
        (!violations.is_empty()).then_some(violations)
    });
    let seconds = began.elapsed().as_secs_f64();
    let ran = ran - get(&skipped);
    println!(
        "{ran} of {of} seeds in {seconds:.1} s, {:.0} seeds/s on {jobs} threads; {} storage operations, {} packs",
        ran as f64 / seconds,
        get(&operations),
        get(&packs)
    );
    let Some((seed, violations)) = found else {
        println!(
            "0 acknowledged lost, 0 invented, 0 offsets reused, 0 logs that do not open, no other law broken"
        );
        return Ok(());
    };
    println!("red: mente-sim replay --seed {seed}");
    keep(&format!("seed-{seed}"), &Scenario::of_seed(seed))?;
    red(&violations)
}

fn run_points(seed: u64, calls: u32, step: u64, twice: bool, jobs: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let scenario = Scenario {
        seed,
        clients: 4,
        calls,
        ends: Vec::new(),
        rots: 0,
        is_scarce: false,
    };
    // How many operations the run has: the first point that it does not reach.
    let whole = Scenario {
        ends: vec![mente_sim::End::Close],
        ..scenario
    };
    let whole = world::run(&whole);
    let (crashes, last) = (counter(), whole.first_life_operations);
    let points = last.div_ceil(step) + 1;
    let (found, _) = sweep::first(jobs, 0..points, |point| {
        let at = point * step;
        let outcomes = sweep::caught(|| {
            if twice {
                world::run_recoveries(&scenario, at)
            } else {
                world::run_policies(&scenario, at)
            }
        });
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(panicked) => return Some((None, vec![panicked])),
        };
        add(&crashes, outcomes.len() as u64);
        let red = outcomes
            .into_iter()
            .find(|(_, violations)| !violations.is_empty());
        red.map(|(end, violations)| (Some(end), violations))
    });
    println!(
        "{points} crash points of {last} storage operations, {} crashes in {:.1} s",
        get(&crashes),
        began.elapsed().as_secs_f64()
    );
    let Some((point, (end, violations))) = found else {
        println!("every law holds");
        return Ok(());
    };
    let at = point * step;
    println!("red: operation {at}, {end:?}");
    let cut = |second: mente_sim::End| match second {
        _ if !twice => vec![second],
        second => vec![world::first_cut(at), second],
    };
    let scenario = Scenario {
        ends: end.map_or(Vec::new(), cut),
        ..scenario
    };
    keep(&format!("seed-{seed}-point-{at}"), &scenario)?;
    red(&violations)
}

fn run_rot(injuries: u64, seed: u64, jobs: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let tally = rot::many(injuries, seed, jobs);
    let seconds = began.elapsed().as_secs_f64();
    print!("{injuries} injuries from seed {seed} on, in {seconds:.1} s; {tally}");
    if !tally.broken.is_empty() {
        bail!("{} injuries broke a law", tally.broken.len());
    }
    Ok(())
}

fn run_faults(step: usize, jobs: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let report = faults::all(step, jobs);
    print!("{report}");
    println!("{:.1} s", began.elapsed().as_secs_f64());
    if !report.broken.is_empty() {
        bail!("{} laws broken", report.broken.len());
    }
    println!(
        "0 acknowledged lost, 0 refused that is there, 0 failed syncs repeated, every promise kept"
    );
    Ok(())
}

fn all(seeds: u64, jobs: usize, minutes: Option<u64>, thorough: bool) -> anyhow::Result<()> {
    run_seeds(0..seeds, jobs, minutes)?;
    let (runs, calls, step) = if thorough { (4, 200, 1) } else { (1, 60, 3) };
    for seed in 1..=runs {
        run_points(seed, 200, 1, false, jobs)?;
        run_points(seed, calls, step, true, jobs)?;
    }
    run_rot(if thorough { 10_000 } else { 1_000 }, 1, jobs)?;
    run_faults(1, jobs)
}

fn replay(seed: Option<u64>, file: Option<PathBuf>, to: Option<PathBuf>) -> anyhow::Result<()> {
    let scenario = match (seed, file) {
        (Some(seed), None) => Scenario::of_seed(seed),
        (None, Some(path)) => {
            let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?
        }
        _ => bail!("give --seed or --scenario"),
    };
    show(&scenario)?;
    let outcome = world::run(&scenario);
    if let Some(path) = to {
        history::write(&outcome.history, File::create(&path)?)?;
        println!("{} entries in {}", outcome.history.len(), path.display());
    }
    println!("trace {:016x}", outcome.trace);
    if outcome.violations.is_empty() {
        println!("every law holds");
        return Ok(());
    }
    red(&outcome.violations)
}

fn check(path: &PathBuf) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let history = history::read(BufReader::new(file))?;
    let violations = mente_sim::check(&history);
    println!("{} entries", history.len());
    if violations.is_empty() {
        println!("every law holds");
        return Ok(());
    }
    red(&violations)
}

#[cfg(feature = "planted")]
fn hunt(seeds: u64, jobs: usize) -> anyhow::Result<()> {
    use mente_sim::planted;
    // Panics are findings here, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    let claims = planted::CLAIMS
        .iter()
        .flat_map(|(bug, laws)| laws.iter().map(move |law| (*bug, *law)));
    for (bug, law) in claims {
        match planted::hunt(bug, law, seeds, jobs) {
            (Some((seed, violation)), ran) => {
                println!("{bug:?}: seed {seed}, after {ran}: {violation}");
            }
            (None, ran) => {
                println!("{bug:?}: {law:?} not broken in {ran} seeds");
                missed.push(bug);
            }
        }
    }
    for (bug, told) in planted::FAULTS {
        match planted::hunt_faults(bug, told, jobs) {
            Some(broken) => println!("{bug:?}: {broken}"),
            None => {
                println!("{bug:?}: no fault shows it");
                missed.push(planted::Planted::Log(bug));
            }
        }
    }
    if !missed.is_empty() {
        bail!("not found: {missed:?}");
    }
    Ok(())
}

type Counter = std::sync::atomic::AtomicU64;

fn counter() -> Counter {
    Counter::new(0)
}

fn add(counter: &Counter, more: u64) {
    counter.fetch_add(more, std::sync::atomic::Ordering::SeqCst);
}

fn get(counter: &Counter) -> u64 {
    counter.load(std::sync::atomic::Ordering::SeqCst)
}
