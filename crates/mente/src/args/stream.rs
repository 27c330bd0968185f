//! The verbs of streams: events, what they make, and what that would be otherwise.

use clap::{Args as Group, Subcommand};

use super::{Causes, Connection};

#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// List the streams in the order in which they began, 1,000 at a time
    Ls {
        /// Those that began at this position of the store or later
        #[arg(long, value_name = "POSITION", default_value_t = 0)]
        from: u64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Append one event
    Append {
        stream: String,
        /// The data
        json: String,
        #[arg(long = "type", value_name = "TYPE")]
        kind: String,
        /// Made up if absent; the same id again changes nothing
        #[arg(long)]
        id: Option<String>,
        /// What the stream must be like: any, none, exists, or its last revision
        #[arg(long, default_value = "any")]
        expected: String,
        /// What queries find it by, with commas between them
        #[arg(long, value_name = "TAG,…")]
        tags: Option<String>,
        #[command(flatten)]
        causes: Causes,
        #[command(flatten)]
        connection: Connection,
    },
    /// Send a command: the decider of the stream's category decides it on the stream's state
    Command {
        stream: String,
        /// The data
        #[arg(default_value = "null")]
        json: String,
        #[arg(long = "type", value_name = "TYPE")]
        kind: String,
        /// Made up if absent; the same id again tells what was decided, unless that was nothing
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        causes: Causes,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the position of the store's last event and the hash over all events up to it: kept elsewhere,
    /// it lets mente verify find whatever is changed later
    Head {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what readers see of a stream, or set it
    Metadata {
        stream: String,
        /// A file ("-" for standard input) such as {"maxCount": 100, "maxAgeSeconds": 86400, "truncateBefore": 5,
        /// "custom": {}}; it takes the place of all that was set before
        #[arg(long, value_name = "FILE")]
        set: Option<String>,
        /// The revision of the metadata that are replaced: any, none or a number
        #[arg(long, default_value = "any", requires = "set")]
        expected: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Hide the events before a revision from the readers of a stream
    Truncate {
        stream: String,
        /// The first revision that is still to be seen
        #[arg(long, value_name = "REVISION")]
        before: u64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a stream
    Rm {
        stream: String,
        /// Nobody may ever append to it again
        #[arg(long)]
        forever: bool,
        /// What the stream must be like: any, exists, or its last revision
        #[arg(long, default_value = "any")]
        expected: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the events of all streams that match, by their position in the store
    Find {
        /// Of one of these types, with commas between them
        #[arg(long = "type", value_name = "TYPE,…")]
        kind: Option<String>,
        /// With all of these tags, with commas between them
        #[arg(long, value_name = "TAG,…")]
        tags: Option<String>,
        /// In streams of this category (order, for streams such as order-17)
        #[arg(long)]
        category: Option<String>,
        /// With this correlationid
        #[arg(long, value_name = "ID")]
        correlation: Option<String>,
        /// Caused by the event of this id (their causationid)
        #[arg(long, value_name = "ID")]
        causation: Option<String>,
        /// First position; backwards the end if absent
        #[arg(long, value_name = "POSITION")]
        from: Option<u64>,
        /// In place of a position: what was appended then or later (2026-11-30T12:00:00Z)
        #[arg(long, value_name = "TIME", conflicts_with = "from")]
        time: Option<String>,
        /// The newest first
        #[arg(long, conflicts_with = "follow")]
        backwards: bool,
        /// Go on as events come
        #[arg(long)]
        follow: bool,
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the events of a stream
    Read {
        stream: String,
        /// First revision
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what the events make of a stream, now or as of then
    State {
        stream: String,
        #[command(flatten)]
        when: When,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the last events of a stream, the newest first, and what each changed
    Log {
        stream: String,
        /// Only what comes before this revision
        #[arg(long, value_name = "REVISION")]
        before: Option<u64>,
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what differs between the states at two revisions
    Diff {
        stream: String,
        from: u64,
        to: u64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show which event gave each field of the state its value
    Blame {
        stream: String,
        /// Only this field and those below it, names with dots between them; then also what took fields
        /// away
        field: Option<String>,
        #[command(flatten)]
        when: When,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what the state would be if the events were others; nothing is written or sent
    Whatif {
        stream: String,
        /// As if the event of this revision had not happened
        #[arg(long, value_name = "REVISION")]
        drop: Vec<u64>,
        /// As if this had happened in its place: a CloudEvent in JSON; - reads standard input
        #[arg(long, value_name = "REVISION=FILE")]
        replace: Vec<String>,
        /// As if this happened now
        #[arg(long, value_name = "FILE")]
        append: Vec<String>,
        /// Keep it under this name, to be seen and made true later (mente alternative)
        #[arg(long, value_name = "NAME", conflicts_with = "time")]
        keep: Option<String>,
        #[command(flatten)]
        when: When,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make the state what it would be if the events were others: events are appended, none is written anew
    Promote {
        stream: String,
        /// As if the event of this revision had not happened
        #[arg(long, value_name = "REVISION")]
        drop: Vec<u64>,
        /// As if this had happened in its place: a CloudEvent in JSON; - reads standard input
        #[arg(long, value_name = "REVISION=FILE")]
        replace: Vec<String>,
        /// This happens now
        #[arg(long, value_name = "FILE")]
        append: Vec<String>,
        /// Only if this is the last revision; then it can be repeated with the same --id
        #[arg(long, value_name = "REVISION")]
        at: Option<u64>,
        /// Of the correction that is appended
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

/// What-ifs that are kept.
#[derive(Debug, Subcommand)]
pub(crate) enum Alternative {
    /// List them
    Ls(Connection),
    /// Show what one comes to by now
    Get {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make one true: events are appended, none is written anew
    Promote {
        name: String,
        /// Of the correction that is appended: the same one again changes nothing, if it was kept with --at
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Keep one no longer
    Rm {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Up to where a stream is folded.
#[derive(Debug, Group)]
pub(crate) struct When {
    /// With this revision as the last one
    #[arg(long, value_name = "REVISION")]
    pub(crate) at: Option<u64>,
    /// As it was known at this time (2026-11-30T12:00:00Z): without what was appended later
    #[arg(long, value_name = "TIME", conflicts_with = "at")]
    pub(crate) time: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Fold {
    /// Declare the fold of a category (order, for streams such as order-17)
    Set {
        category: String,
        /// JSON: operations by event type; or a file.js that declares function reduce(state, event); - reads standard input, as JSON
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the declared fold of a category
    Get {
        category: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Decider {
    /// List the categories of streams that take commands
    Ls(Connection),
    /// Declare who decides the commands of a category (order, for streams such as order-17)
    Set {
        category: String,
        /// A file.js that declares function decide(state, command), which returns events, {refuse: "why"} or nothing; or
        /// JSON: {"webhook": URL, "timeoutMs": 5000}; - reads standard input, as JSON
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show who decides the commands of a category
    Get {
        category: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Take no more commands for a category
    Rm {
        category: String,
        #[command(flatten)]
        connection: Connection,
    },
}
