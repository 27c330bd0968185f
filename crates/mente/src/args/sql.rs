//! `mente sql …`

use std::path::PathBuf;

use clap::Args;

use super::Connection;

/// One SELECT over everything.
#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// Such as SELECT type, count(*) FROM events WHERE category = 'order' GROUP BY type. There are the tables
    /// events, states (WHERE stream = or category = says whose) and PROJECTION.TABLE
    pub(crate) sql: String,
    /// Most rows to show; in a file all of them without it
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    /// Events and states as of then: a position, or a time such as 2026-11-30T12:00:00Z
    #[arg(long, value_name = "POSITION|TIME")]
    pub(crate) as_of: Option<String>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// Write the rows there, as Apache Parquet, in place of showing them
    #[arg(long, value_name = "FILE")]
    pub(crate) parquet: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// What a query waits for.
#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Wait until everything up to there is in the rows: what an append answered, or of a topic
    /// PARTITION:OFFSET
    #[arg(long, value_name = "POSITION")]
    pub(crate) min_position: Option<String>,
    /// How long to wait for it
    #[arg(long, value_name = "MS", requires = "min_position")]
    pub(crate) wait_ms: Option<u64>,
}
