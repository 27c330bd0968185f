//! Development commands: `cargo xtask COMMAND`. The standard library and next to nothing else, so that
//! it builds in seconds on a machine that has nothing yet.

mod advisories;
mod long;
mod release;
mod setup;
mod supply;
mod tidy;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  test [ARGS]   set up what the tests need, then run them all; ARGS go to `cargo test`
  setup         only set up: Python packages, JDK, Maven, Go, Node, Chromium, faketime, strace, xfsprogs, m4
  tidy          format, lints, the rules of the house that no tool knows, and where packages come
                from, under which licence, and what is known to be wrong with them
  release       the binary, of the same bytes wherever it is built
  reproduce     build the last commit twice, in two places, and compare
  advisories DIR
                write the table of what is known from a checkout of rustsec/advisory-db
  sim [ARGS]    broker and log in simulated worlds that lose power, rot, and a disk whose every call
                fails once; then every planted bug hunted, two of them in real servers;
                ARGS go to `mente-sim all`, such as --seeds 20000 --minutes 5
  fuzz [--seconds N] [--jobs N] [WORD]
                every decoder against other inputs each time, 60 s each, one for each core at a time;
                with a word, those whose names hold it
  long NAME     a long proof, its report in docs/proof: chaos, planted, cluster, kill, git, sim, rot, faults, fuzz, soak,
                servicebus-live, bench, bench-cluster, bench-eventstore;
                flags behind the name take the place of its own
";

/// Why a command ended; the message says what to do.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.split_first() {
        Some((&"test", rest)) => test(rest),
        Some((&"setup", _)) => setup::run(),
        Some((&"tidy", _)) => tidy::run(),
        Some((&"advisories", [checkout])) => advisories::update(checkout),
        Some((&"release", [])) => release::build(),
        Some((&"reproduce", [])) => release::reproduce(),
        Some((&"sim", rest)) => sim(rest),
        Some((&"fuzz", rest)) => fuzz(rest),
        Some((&"long", [name, flags @ ..])) => long::run(name, flags),
        _ => {
            print!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn test(args: &[&str]) -> Outcome {
    // What is missing is named here and fails the tests that need it, never silently.
    if let Err(missing) = setup::run() {
        eprintln!("xtask: {missing}");
    }
    execute(
        Command::new("cargo")
            .args(["test", "--workspace"])
            .args(args),
    )
}

/// Worlds of the code as it is, then worlds of the code with bugs planted in it.
fn sim(args: &[&str]) -> Outcome {
    let run = ["run", "--release", "--quiet", "--package", "mente-sim"];
    execute(
        Command::new("cargo")
            .args(run)
            .args(["--", "all"])
            .args(args),
    )?;
    let planted = ["--features", "planted", "--", "planted"];
    execute(Command::new("cargo").args(run).args(planted))?;
    let views = [
        "--features",
        "planted",
        "--test",
        "projection",
        "checkpoint_before",
        // The bug is planted in the whole process.
        "--",
        "--test-threads=1",
    ];
    let test = ["test", "--quiet", "--package"];
    execute(
        Command::new("cargo")
            .args(test)
            .arg("mente-server")
            .args(views),
    )?;
    let nodes = ["--features", "planted", "--test", "it", "nodes"];
    execute(
        Command::new("cargo")
            .args(test)
            .arg("mente-broker")
            .args(nodes),
    )?;
    // Those that a server shows at once; `long planted` hunts all.
    let server = ["run", "--quiet", "--package", "mente", "--features"];
    let bugs = ["settle-not-journaled", "half-a-lock"];
    execute(
        Command::new("cargo")
            .args(server)
            .args(["planted", "--", "chaos", "--planted"])
            .args(bugs),
    )
}

/// `cargo test` runs the same targets with the same few inputs each time.
fn fuzz(args: &[&str]) -> Outcome {
    let mut command = Command::new("cargo");
    command.args([
        "test",
        "--release",
        "--package",
        "mente-fuzz",
        "--test",
        "fuzz",
        "--",
    ]);
    if !args.contains(&"--seconds") {
        command.args(["--seconds", "60"]);
    }
    execute(command.args(args))
}

/// Runs a command in the checkout, its output shown.
fn execute(command: &mut Command) -> Outcome {
    let line = format!("{command:?}").replace('"', "");
    eprintln!("xtask: {line}");
    let status = command
        .current_dir(root())
        .status()
        .map_err(|e| format!("cannot run {line}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}"))
    }
}
