//! Runs the targets: `cargo test -p mente-fuzz -- [--seconds N] [WORD]`, those whose names hold
//! the word. Without seconds a short, equal run each time.

use std::process::ExitCode;
use std::time::Duration;

use mente_fuzz::{Budget, Meter, TARGETS, run};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Inputs for each target in a short run.
const INPUTS: u64 = 30_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut budget, mut words) = (Budget::Inputs(INPUTS), Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => match args.next().and_then(|seconds| seconds.parse().ok()) {
                Some(seconds) => budget = Budget::Time(Duration::from_secs(seconds)),
                None => {
                    eprintln!("--seconds takes a number");
                    return ExitCode::from(2);
                }
            },
            // What test runners say to every test.
            flag if flag.starts_with('-') => {}
            word => words.push(word.to_owned()),
        }
    }
    let meter = Meter {
        restart: || MEMORY.reset_peak_usage(),
        peak_bytes: || MEMORY.peak_usage(),
        now_bytes: || MEMORY.current_usage(),
    };
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let chosen = TARGETS
        .iter()
        .filter(|target| words.is_empty() || words.iter().any(|word| target.name.contains(word)));
    let mut failed = 0;
    for target in chosen {
        match run(target, budget, &meter) {
            Ok(report) => println!("{report}"),
            Err(found) => {
                eprintln!("{found}");
                failed += 1;
            }
        }
    }
    std::panic::set_hook(said);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
