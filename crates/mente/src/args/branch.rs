//! `mente branch …`

use clap::Subcommand;

use super::Connection;

/// Everything as it was at a moment, to go on otherwise.
#[derive(Debug, Subcommand)]
pub(crate) enum Branch {
    /// Fork everything: clients use the branch by its address, webhooks are not called from it
    Create {
        /// At most 24 letters, digits or . _ - ~
        name: String,
        /// default as it is now, or default@TIME, such as default@2026-11-30T12:00:00Z
        #[arg(long, value_name = "default[@TIME]", default_value = "default")]
        from: String,
        /// Where it listens, whenever the server starts; a free port without
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List them, and where they are served
    Ls(Connection),
    /// Compare events, states of streams and rows of projections with default
    Diff {
        name: String,
        /// Of each kind, name at most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        limit: u64,
        #[command(flatten)]
        connection: Connection,
    },
    /// End one and delete what was only its own
    Rm {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: Connection,
    },
}
