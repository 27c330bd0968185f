//! Flags of `mente replica`.

use clap::Subcommand;
use mente_client::replica::ITEMS_MAX;

use super::Connection;

#[derive(Debug, Subcommand)]
pub(crate) enum Replica {
    /// List the replicas, how far they are and how old
    Ls(Connection),
    /// Declare a replica of a topic, 100 on a server at most: the latest event of each key
    ///
    /// The key is an event's partitionkey, else its subject; an event without data takes its key away. The environment
    /// variable MENTE_SOURCE_KEY holds the key that is shown to the source, if it asks for one. With another source
    /// the copy begins anew.
    Create {
        name: String,
        /// The server that has the topic, with https:// or http://; this one is possible too
        #[arg(long, value_name = "URL")]
        from: String,
        #[arg(long)]
        topic: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show how far a replica is, or the event that it has of a key, and how many seconds old that may be
    Get {
        name: String,
        key: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List items in the order of their keys
    Items {
        name: String,
        /// Behind this key
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=ITEMS_MAX as i64))]
        limit: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a replica with its copy; the source does not notice
    Rm {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: Connection,
    },
}
