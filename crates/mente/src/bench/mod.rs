//! `mente bench`: what the design promises, measured beside the disk's own sync and the
//! client's own ceiling.
//!
//! Everything that is counted was acknowledged, and at the end of a row it is read back: the
//! number of what is missing stands in the table.

mod alone;
mod cluster;
mod crowd;
mod load;
mod null;
mod report;
mod rows;
mod steady;
pub(crate) mod sync;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

pub(crate) use report::Row;
pub(crate) use usage::{cpu_seconds, resident_mib};

use crate::args::Output;
use crate::demo::Server;

/// Rows in the order in which they run.
const ROWS: [&str; 14] = [
    "sync",
    "publish-serial",
    "publish-64",
    "publish-batch",
    "sustained",
    "queue",
    "stream",
    "in-process",
    "streams-32",
    "projection",
    "start",
    "topics",
    "spread",
    "backlog",
];

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Only these rows
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(ROWS))]
    rows: Vec<String>,
    /// Shorter rounds, and three instead of five
    #[arg(long)]
    quick: bool,
    /// Where the server keeps its data while it is measured: its disk is the one that is measured
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
    /// Instead: what it costs on a Kafka cluster of three brokers, which this script runs (scripts/kafka of
    /// the repository), and how long a node is missed
    #[arg(long, value_name = "SCRIPT", conflicts_with_all = ["rows", "bare"])]
    kafka: Option<PathBuf>,
    /// Be the server that does nothing but sync in this directory, beside which others are measured
    #[arg(long, value_name = "DIR", hide = true)]
    bare: Option<PathBuf>,
}

/// How much work a row does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    rounds: usize,
    /// Calls of one connection in a round.
    serial: usize,
    /// Events of a round with many connections.
    events: usize,
    /// How long the row lasts that shows what stays.
    sustained: Duration,
    /// Topics of ten logs each where there are many.
    topics: usize,
    /// Events that wait in one queue.
    backlog: usize,
}

pub(crate) fn run(args: BenchArgs) -> crate::failure::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the executor")?;
    if let Some(folder) = &args.bare {
        return Ok(runtime.block_on(null::be_bare(folder))?);
    }
    let rows = runtime.block_on(measure(&args))?;
    report::print(&rows, args.output)
}

async fn measure(args: &BenchArgs) -> Result<Vec<Row>> {
    let scale = match args.quick {
        true => Scale {
            rounds: 3,
            serial: 300,
            events: 6_400,
            sustained: Duration::from_secs(3),
            topics: 1_000,
            backlog: 200_000,
        },
        false => Scale {
            rounds: 5,
            serial: 2_000,
            events: 64_000,
            sustained: Duration::from_secs(60),
            topics: 10_000,
            backlog: 10_000_000,
        },
    };
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(&parent)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    eprintln!(
        "bench: data in {}, {} rounds a row",
        folder.path().display(),
        scale.rounds
    );
    if let Some(script) = &args.kafka {
        return cluster::measure(script, folder.path(), args.quick).await;
    }
    let server = Server::start(folder.path()).await?;
    let floor = sync::floor(folder.path(), scale.serial)?;
    let mut bench = rows::Bench {
        server,
        folder: folder.path().to_owned(),
        scale,
        floor,
    };
    let mut done = Vec::new();
    for name in ROWS {
        if !args.rows.is_empty() && !args.rows.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("bench: {name}");
        done.push(
            bench
                .row(name)
                .await
                .with_context(|| format!("row {name}"))?,
        );
    }
    bench.server.stop().await?;
    Ok(done)
}
