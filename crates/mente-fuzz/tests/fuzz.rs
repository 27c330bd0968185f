//! Runs the targets: `cargo test -p mente-fuzz -- [--seconds N] [--jobs N] [WORD]`, those whose names hold
//! the word. Without seconds a short, equal run each time.
//!
//! Each target has a process of its own, as many at a time as there are cores: what is allocated
//! can only be told of a whole process.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mente_fuzz::{Budget, Meter, TARGETS, Target, run};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Inputs for each target in a short run.
const INPUTS: u64 = 30_000;

struct Args {
    seconds: Option<u64>,
    jobs: usize,
    /// Only this one, here.
    alone: Option<String>,
    words: Vec<String>,
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let failed = match &args.alone {
        Some(name) => usize::from(!attack(name, args.seconds)),
        None => attack_all(&args),
    };
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse() -> Result<Args, &'static str> {
    let mut args = std::env::args().skip(1);
    let mut parsed = Args {
        seconds: None,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        alone: None,
        words: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|number| number.parse::<u64>().ok());
        match arg.as_str() {
            "--seconds" => parsed.seconds = Some(number().ok_or("--seconds takes a number")?),
            "--jobs" => parsed.jobs = number().ok_or("--jobs takes a number")? as usize,
            "--alone" => parsed.alone = Some(args.next().ok_or("--alone takes a target")?),
            // What test runners say to every test.
            flag if flag.starts_with('-') => {}
            word => parsed.words.push(word.to_owned()),
        }
    }
    Ok(parsed)
}

/// Every chosen target in a process of its own; how many failed.
fn attack_all(args: &Args) -> usize {
    let is_chosen = |target: &&Target| {
        args.words.is_empty() || args.words.iter().any(|word| target.name.contains(word))
    };
    let chosen: Vec<_> = TARGETS.iter().filter(is_chosen).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(target) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !spawned(target.name, args.seconds) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} targets, {failed} failed", chosen.len());
    failed
}

/// Whether a process that attacks this target ends well; what it says is shown in one piece.
fn spawned(name: &str, seconds: Option<u64>) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command.args(["--alone", name]).stdin(Stdio::null());
    if let Some(seconds) = seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    match command.output() {
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            // A stack that overflowed says nothing of itself.
            if !output.status.success() {
                eprintln!("{name}: {}", output.status);
            }
            output.status.success()
        }
        Err(error) => {
            eprintln!("{name}: cannot start its process: {error}");
            false
        }
    }
}

fn attack(name: &str, seconds: Option<u64>) -> bool {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("no target {name:?}");
        return false;
    };
    let budget = seconds.map_or(Budget::Inputs(INPUTS), |seconds| {
        Budget::Time(Duration::from_secs(seconds))
    });
    let meter = Meter {
        restart: || MEMORY.reset_peak_usage(),
        peak_bytes: || MEMORY.peak_usage(),
        now_bytes: || MEMORY.current_usage(),
        cpu,
    };
    std::panic::set_hook(Box::new(|_| {}));
    match run(target, budget, &meter) {
        Ok(report) => println!("{report}"),
        Err(found) => {
            eprintln!("{found}");
            return false;
        }
    }
    true
}

/// Of this thread, which is the only one of its process.
fn cpu() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = told.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
