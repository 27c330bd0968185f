//! `mente schema`: the versions of event types.

use clap::Subcommand;

use super::Connection;

#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    /// List the types that have versions, and the current one of each
    Ls(Connection),
    /// Declare the versions of a type: from now on readers get all its events in the current one
    Set {
        /// As in events, of letters, digits and . _ - ~
        #[arg(value_name = "TYPE")]
        kind: String,
        /// JSON ("-" for standard input): the version and how events of earlier ones become it, such as
        /// {"version": 2, "upcasters": {"1": [{"rename": {"name": "customer.name"}}]}}; in place of a list of
        /// operations {"split": […]}, "drop", or {"javascript": SOURCE} with function upcast(event), for which
        /// {"file": "upcast.js"} reads a file beside this one
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the versions of a type
    Get {
        #[arg(value_name = "TYPE")]
        kind: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Look at a schema before it is set, without changing anything; fails if an event could not be told
    Check {
        #[arg(value_name = "TYPE")]
        kind: String,
        /// As for mente schema set
        file: String,
        /// Over every event that there is, in topics, dead letters and streams
        #[arg(long)]
        replay: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Forget the versions of a type: readers get its events as they were written
    Rm {
        #[arg(value_name = "TYPE")]
        kind: String,
        #[command(flatten)]
        connection: Connection,
    },
}
