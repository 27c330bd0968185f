//! The binary's inside: the composition root and the command line. The HTTP client behind its verbs, which demos
//! and benches use too, is `mente-client`'s.
//!
//! This is the one place that names a concrete engine, brings threads and an executor, and
//! reads flags and the environment. It decides nothing about events.
//!
//! Start reading at `run/mod.rs` (how a server is put together) or [`client`].

pub use mente_client as client;

mod archive;
mod args;
mod bench;
mod chaos;
mod demo;
mod doctor;
mod failure;
mod output;
#[cfg(feature = "planted")]
mod planted;
mod run;
mod soak;
mod verb;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// Runs the command line; the process should exit with what comes back.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command {
        Command::Dev(dev) => run::dev(dev),
        Command::Server(server) => run::server(server),
        Command::Bench(bench) => bench::run(bench),
        Command::Soak(soak) => soak::run(&soak),
        Command::Chaos(chaos) => chaos::run(&chaos),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Demo(args::Demo::Shop(shop)) => demo::shop(shop),
        Command::Demo(args::Demo::Git(git)) => demo::git(git),
        Command::Demo(args::Demo::Ledger(ledger)) => demo::ledger(ledger),
        Command::Restore { file, data_dir } => verb::restore(&file, &data_dir),
        Command::Verb(verb) => verb::run(verb),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mente: {failure}");
            failure.code.into()
        }
    }
}
