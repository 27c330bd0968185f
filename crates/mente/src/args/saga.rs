//! Flags of `mente saga`.

use clap::Subcommand;

use super::Connection;

#[derive(Debug, Subcommand)]
pub(crate) enum Saga {
    /// List the sagas, how far they are, their timers, and how many courses are stuck
    Ls(Connection),
    /// Declare a saga: events of some types are told to a program, which says what follows. Declared again it goes on
    /// where it is, by the new program
    Set {
        name: String,
        /// JSON: on (types of events, and where each says which course it belongs to: stream, an attribute, or
        /// data.NAME) and javascript (function react(state, event)); "from": 0 is on what was before, too; - reads
        /// standard input
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a saga, and the courses that are stuck
    Get {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// A course that is stuck goes on with the event at which it is
    Retry {
        name: String,
        key: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// A course that is stuck goes on behind the event at which it is, which it is never told
    Skip {
        name: String,
        key: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Forget a saga; the streams of its courses stay
    Rm {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}
