//! Flags. Each has an environment twin where it makes sense; a flag wins.

mod branch;
mod replica;
mod saga;
mod schema;
mod sql;
mod stream;
mod topology;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use mente_cluster::Prefix;

pub(crate) use branch::Branch;
pub(crate) use replica::Replica;
pub(crate) use saga::Saga;
pub(crate) use schema::Schema;
pub(crate) use sql::{Sql, Waiting};
pub(crate) use stream::{Alternative, Decider, Fold, Stream, When};
pub(crate) use topology::Topology;

/// Where a server listens unless told otherwise.
pub(crate) const HTTP_DEFAULT: &str = "127.0.0.1:8480";

/// Where a developer's server listens for administrators of Service Bus unless told otherwise, as Service Bus'
/// emulator does.
const ADMINISTRATION_DEFAULT: &str = "127.0.0.1:5300";

/// Where a developer's server listens for clients of Service Bus unless told otherwise: at the port that they take
/// without being told another one.
const AMQP_DEFAULT: &str = "127.0.0.1:5672";

/// Parts that a broker decides in unless told otherwise.
const SHARDS_DEFAULT: u32 = 64;

/// One durable event log with every door an event-driven system needs.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine's loopback, with data in ./mente-data
    Dev(Dev),
    /// Run a server: every listener is explicit, an open door needs to be said
    Server(Server),
    /// Show what events are good for, on real processes
    #[command(subcommand)]
    Demo(Demo),
    /// Look at this machine and a data directory for what a server would suffer from, with or without a
    /// server at work there; fails if something is bad
    Doctor(Doctor),
    /// Measure this machine: publish, queue, streams and views, beside the disk's own sync
    Bench(crate::bench::BenchArgs),
    /// Hours of steady load, looked at for loss, order, and what grows
    Soak(crate::soak::SoakArgs),
    /// Make a data directory out of a backup, and read it all once. Readers that had come
    /// further must begin anew: positions are told again
    ///
    /// Relays take no rows there before they are set again: those of the server it was made of may be at work.
    Restore {
        /// What `mente backup` wrote
        file: PathBuf,
        /// Empty, or not there yet
        #[arg(long, value_name = "DIR", env = "MENTE_DATA_DIR")]
        data_dir: PathBuf,
    },
    /// Kill a server of its own and cut its power, again and again, and prove that what it
    /// acknowledged is still there
    Chaos(crate::chaos::ChaosArgs),
    #[command(flatten)]
    Verb(Verb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Demo {
    /// A shop: storefront, stock, shipping, a webhook and a presale with three services, each with its bad moments
    Shop(crate::demo::ShopArgs),
    /// Version control: the history of a Git repository as a stream of events, whose fold is every one
    /// of its trees
    Git(crate::demo::GitArgs),
    /// Accounting: a Beancount journal as a stream of events, whose fold is its balances at any date
    Ledger(crate::demo::LedgerArgs),
}

#[derive(Debug, Group)]
pub(crate) struct Dev {
    /// Where the data is kept
    #[arg(
        long,
        value_name = "DIR",
        env = "MENTE_DATA_DIR",
        default_value = "mente-data"
    )]
    pub(crate) data_dir: PathBuf,
    /// Listener for administration clients of Azure Service Bus, with any key; a busy port is replaced by a free one.
    /// With a certificate it takes HTTPS beside HTTP
    #[arg(long, value_name = "ADDRESS:PORT", env = "MENTE_SERVICEBUS_ADMIN", default_value = ADMINISTRATION_DEFAULT)]
    pub(crate) servicebus_admin: SocketAddr,
    /// HTTP listener; a busy port is replaced by a free one
    #[arg(long, value_name = "ADDRESS:PORT", env = "MENTE_HTTP", default_value = HTTP_DEFAULT)]
    pub(crate) http: SocketAddr,
    /// AMQP listener, for clients of Azure Service Bus with any key, and within WebSockets too; a busy port is
    /// replaced by a free one. With a certificate it takes TLS beside plain AMQP
    #[arg(long, value_name = "ADDRESS:PORT", env = "MENTE_AMQP", default_value = AMQP_DEFAULT)]
    pub(crate) amqp: SocketAddr,
    #[command(flatten)]
    pub(crate) process: Process,
}

#[derive(Debug, Group)]
pub(crate) struct Server {
    /// Where the data is kept
    #[arg(long, value_name = "DIR", env = "MENTE_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// HTTP listener; port 0 is any free one
    #[arg(long, value_name = "ADDRESS:PORT", env = "MENTE_HTTP")]
    pub(crate) http: SocketAddr,
    /// AMQP listener, for clients of Azure Service Bus, and within WebSockets too; none without it. With a
    /// certificate it takes TLS beside plain AMQP. With a keys file it lets in who signs with one of its keys, or
    /// with one of an entity's own
    #[arg(long, value_name = "ADDRESS:PORT", env = "MENTE_AMQP")]
    pub(crate) amqp: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Where the other nodes reach this one's HTTP door, if not where it listens
    #[arg(long, value_name = "HOST:PORT|URL", env = "MENTE_ADVERTISE")]
    pub(crate) advertise: Option<String>,
    /// Trust the doors of other nodes by these authorities too, beside the machine's own (PEM)
    #[arg(long, value_name = "FILE", env = "MENTE_NODE_CA")]
    pub(crate) node_ca: Option<PathBuf>,
    /// Make a topic when somebody first publishes to it
    #[arg(long)]
    pub(crate) create_topics: bool,
    /// Let in only who shows a key of this file: lines NAME=KEY, or NAME Listen Send=KEY of one that may do only
    /// that, # begins a comment
    #[arg(long, value_name = "FILE", env = "MENTE_KEYS_FILE")]
    pub(crate) keys_file: Option<PathBuf>,
    /// Listener for administration clients of Azure Service Bus; none without it. With a certificate it takes HTTPS
    /// beside HTTP. Names and keys are those of the keys file, and of rules that give an entity Manage
    #[arg(long, value_name = "ADDRESS:PORT", env = "MENTE_SERVICEBUS_ADMIN")]
    pub(crate) servicebus_admin: Option<SocketAddr>,
    /// Serve plain HTTP beyond loopback: who is on the way reads events and keys
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) insecure_http: bool,
    /// Serve beyond loopback without a keys file: who reaches the port may do everything
    #[arg(long)]
    pub(crate) insecure_no_keys: bool,
    /// Let webhooks and sources of replicas lead to loopback and private networks too
    #[arg(long)]
    pub(crate) allow_private_webhooks: bool,
    #[command(flatten)]
    pub(crate) process: Process,
}

/// What events are kept in.
#[derive(Clone, Debug, Group)]
pub(crate) struct Choice {
    /// Keep events in files of the data directory, or in a Kafka cluster; then only views are in the
    /// directory
    #[arg(
        long,
        value_name = "ENGINE",
        env = "MENTE_ENGINE",
        default_value = "embedded"
    )]
    pub(crate) engine: Kind,
    /// Some brokers of the Kafka cluster
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "MENTE_KAFKA_BOOTSTRAP",
        value_delimiter = ',',
        required_if_eq("engine", "kafka")
    )]
    pub(crate) kafka_bootstrap: Vec<String>,
    /// What the names of all topics in the Kafka cluster begin with, so that several Mentes share one
    #[arg(
        long,
        value_name = "PREFIX",
        env = "MENTE_KAFKA_PREFIX",
        default_value = ""
    )]
    pub(crate) kafka_prefix: Prefix,
    /// Begin on a Kafka cluster that may lose acknowledged events all the same: one broker, for trying out
    #[arg(long, env = "MENTE_ALLOW_UNSAFE_KAFKA")]
    pub(crate) allow_unsafe_kafka: bool,
    /// How many parts topics and subscriptions are decided in, fixed by the first server on the data
    #[arg(long, value_name = "COUNT", env = "MENTE_SHARDS", default_value_t = SHARDS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) shards: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[default]
    Embedded,
    Kafka,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            engine: Kind::default(),
            kafka_bootstrap: Vec::new(),
            kafka_prefix: Prefix::default(),
            allow_unsafe_kafka: false,
            shards: SHARDS_DEFAULT,
        }
    }
}

impl Choice {
    /// What a server is told to choose the same.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--shards={}", self.shards)];
        match self.engine {
            Kind::Embedded => flags.push("--engine=embedded".to_owned()),
            Kind::Kafka => flags.extend([
                "--engine=kafka".to_owned(),
                format!("--kafka-bootstrap={}", self.kafka_bootstrap.join(",")),
                format!("--kafka-prefix={}", self.kafka_prefix),
            ]),
        }
        if self.allow_unsafe_kafka {
            flags.push("--allow-unsafe-kafka".to_owned());
        }
        flags
    }
}

/// The flags of the server that it is about.
#[derive(Debug, Group)]
pub(crate) struct Doctor {
    /// Where the data is kept, or will be
    #[arg(
        long,
        value_name = "DIR",
        env = "MENTE_DATA_DIR",
        default_value = "mente-data"
    )]
    pub(crate) data_dir: PathBuf,
    /// HTTP listener
    #[arg(long, value_name = "ADDRESS:PORT", env = "MENTE_HTTP", default_value = HTTP_DEFAULT)]
    pub(crate) http: SocketAddr,
    /// What is kept free for consumers, such as 512M or 2G
    #[arg(long, value_name = "SIZE", env = "MENTE_DISK_RESERVE")]
    pub(crate) disk_reserve: Option<crate::run::Reserve>,
    /// Is it readable by those only who should?
    #[arg(long, value_name = "FILE", env = "MENTE_KEYS_FILE")]
    pub(crate) keys_file: Option<PathBuf>,
    /// Is it readable by those only who should?
    #[arg(long, value_name = "FILE", env = "MENTE_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub(crate) output: Output,
}

/// What every server process takes.
#[derive(Debug, Group)]
pub(crate) struct Process {
    /// Speak HTTPS, and AMQP over TLS, with this certificate, those of its issuers behind it (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "MENTE_TLS_CERT",
        requires = "tls_key"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of that certificate, not encrypted (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "MENTE_TLS_KEY",
        requires = "tls_cert"
    )]
    pub(crate) tls_key: Option<PathBuf>,
    /// Trust webhooks and sources of replicas with certificates of these authorities too, beside the machine's own (PEM)
    #[arg(long, value_name = "FILE", env = "MENTE_WEBHOOK_CA")]
    pub(crate) webhook_ca: Option<PathBuf>,
    /// Refuse to publish while less than this is free on the disk of the data, such as 512M or 2G, so
    /// that consumers and deletions go on when it is full. Without it: 2 percent of the disk, 256M at
    /// least and 1G at most, but no more than a quarter of it
    #[arg(long, value_name = "SIZE", env = "MENTE_DISK_RESERVE")]
    pub(crate) disk_reserve: Option<crate::run::Reserve>,
    /// Have the queues and topics of this file when the server begins, or do not begin: the Config.json of Service Bus'
    /// emulator as it is (see mente topology apply --help). Without it, /ServiceBus_Emulator/ConfigFiles/Config.json if
    /// that is there. On the embedded engine
    #[arg(long, value_name = "FILE", env = "MENTE_TOPOLOGY")]
    pub(crate) topology: Option<PathBuf>,
    /// Write the addresses there, as JSON, once the server is ready
    #[arg(long, value_name = "FILE", env = "MENTE_PORTS_FILE")]
    pub(crate) ports_file: Option<PathBuf>,
    /// How log lines look; MENTE_LOG chooses which there are (such as mente=debug)
    #[arg(long, env = "MENTE_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What topics there are
    #[command(subcommand)]
    Topic(Topic),
    /// Who wants the events of a topic, or of all streams: for these TOPIC is '$store', in quotes since the
    /// shell takes it for a variable
    #[command(subcommand)]
    Subscription(Subscription),
    /// State kept as events
    #[command(subcommand)]
    Stream(Stream),
    /// How the events of a category of streams make its state
    #[command(subcommand)]
    Fold(Fold),
    /// Who decides the commands of a category of streams
    #[command(subcommand)]
    Decider(Decider),
    /// What-ifs that were kept (mente stream whatif --keep)
    #[command(subcommand)]
    Alternative(Alternative),
    /// Versions of event types, and how events of earlier ones are told
    #[command(subcommand)]
    Schema(Schema),
    /// SQL views of events
    #[command(subcommand)]
    Projection(Projection),
    /// Outbox tables of applications in PostgreSQL, whose rows become events
    #[command(subcommand)]
    Relay(Relay),
    /// What follows from events, where that takes several steps, each of which may fail
    #[command(subcommand)]
    Saga(Saga),
    /// Keyed copies of topics of other servers, which answer while those do not
    #[command(subcommand)]
    Replica(Replica),
    /// Queues, topics, subscriptions and rules of Service Bus, declared in one file
    #[command(subcommand)]
    Topology(Topology),
    /// Ask events, states and projections by one SELECT
    Sql(Sql),
    /// Everything forked at a moment: an alternative for a whole system
    #[command(subcommand)]
    Branch(Branch),
    /// Fold journals, streams and views again and compare
    Verify {
        /// A directory that no server has open, instead of a server: reads every log too, views
        /// left out. It is opened as a server opens it, so that retention goes on
        #[arg(long, value_name = "DIR", conflicts_with = "server")]
        data_dir: Option<PathBuf>,
        /// What mente stream head said once: the events up to there must be those that were there then
        #[arg(long, value_name = "POSITION:HASH")]
        noted: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what caused an event and what came of it: over streams, topics, subscriptions and webhooks, as far as
    /// events name their causes (causationid, correlationid)
    Trace {
        /// Of an event, or a correlation
        id: String,
        /// Read topics from there on (2026-11-30T12:00:00Z): 20,000 events at most
        #[arg(long, value_name = "TIME")]
        time: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the nodes, which shards each decides for, and which of those are not at work
    Cluster(Connection),
    /// Copy everything that is acknowledged by now into a file, while the server goes on
    Backup {
        /// A new file, a tar
        file: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Publish an event: short for topic publish
    Pub(Publish),
    /// Show events as they come: short for topic tail
    Tail(Tail),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// List the topics
    Ls(Connection),
    /// Make a topic
    Create {
        name: String,
        /// Logs that it is spread over
        #[arg(long, default_value_t = 1)]
        partitions: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a topic and how far its partitions reach
    Get {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a topic with its events and subscriptions
    Rm {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Publish an event
    Publish(Publish),
    /// Show events as they come
    Tail(Tail),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subscription {
    /// List the subscriptions of a topic
    Ls {
        topic: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make a subscription
    Create {
        topic: String,
        name: String,
        /// Where it begins: earliest, latest, or of '$store' a position
        #[arg(long, default_value = "latest")]
        from: Begin,
        /// Which events it wants, such as {"prefix":{"type":"order."}}; of '$store' also by stream and
        /// category, such as {"exact":{"category":"order"}}
        #[arg(long, value_name = "JSON")]
        filter: Option<String>,
        /// How long a received event stays out before it is delivered again
        #[arg(long, value_name = "MS")]
        lock_duration_ms: Option<u64>,
        /// Deliveries before an event goes to the dead letters
        #[arg(long, value_name = "COUNT")]
        max_delivery_count: Option<u32>,
        /// Older events go to the dead letters untried
        #[arg(long, value_name = "MS")]
        time_to_live_ms: Option<u64>,
        /// Never have two events of one key, or of one stream, out at a time
        #[arg(long)]
        ordered: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a subscription and its counts
    Get {
        topic: String,
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a subscription
    Rm {
        topic: String,
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Receive events under locks
    Receive {
        topic: String,
        name: String,
        /// Most events to take
        #[arg(long, default_value_t = 1)]
        max: u32,
        /// How long to wait for the first one
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u32,
        /// Acknowledge them once they are shown
        #[arg(long)]
        ack: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Give the oldest dead letters back, to be delivered again as if for the first time
    Replay {
        topic: String,
        name: String,
        /// Most of them; those that remain are told
        #[arg(long, value_name = "COUNT", default_value_t = mente_engine::limits::REPLAY_LETTERS as u32)]
        limit: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the dead letters
    Dlq {
        topic: String,
        name: String,
        /// First offset; behind those that were given back, if absent
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Relay {
    /// List the relays, how many rows they moved, and what keeps them from it
    Ls(Connection),
    /// Declare a relay: a row is taken out of the table once its event is durable in the store, and is one event whoever is
    /// killed when
    Set {
        name: String,
        /// JSON: postgres (URL), table, order (the column that numbers the rows), and columns where they are not id,
        /// aggregatetype, aggregateid, type, payload; - reads standard input
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a relay
    Get {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Forget a relay; its table stays as it is
    Rm {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Projection {
    /// List the projections and how far they are
    Ls(Connection),
    /// Declare a projection; one that exists is built anew beside its old rows
    Create {
        name: String,
        /// JSON: source, database or target (PostgreSQL), init, and SQL by event type or JavaScript; "inline" if
        /// appends are to wait for the rows; - reads standard input
        file: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show how far a projection is
    Get {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a projection with its rows
    Rm {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Build the rows again from the first event, beside the live ones
    Rebuild {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Go on behind what stopped it
    Resume {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Let rebuilt rows that wait for it take the place of the live ones
    ///
    /// For projections that are declared with "switch": "manual"; said earlier, they do so when they have caught up.
    Switch {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Go back to the rows that were live before the last switch, with their declaration
    ///
    /// At once; they then catch up from where they were. A second time goes forward again.
    Rollback {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show which events failed and are parked, by the keys that they hold up
    ///
    /// For projections that are declared with "onError": "park". At most 10000 events and 64 MiB are parked; with more
    /// the projection stops.
    Parked {
        name: String,
        /// The events of this key, in order
        #[arg(long)]
        key: Option<String>,
        /// Keys or events at most, 1 to 1000
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Try parked events again, each key until one of it fails
    Retry {
        name: String,
        /// This key alone
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Drop the first parked event of a key, and go on with the key
    Skip {
        name: String,
        #[arg(long)]
        key: String,
        /// In the store, or PARTITION:OFFSET in a topic, as `parked` shows it
        #[arg(long)]
        position: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Ask the rows, by one SELECT
    Query {
        name: String,
        sql: String,
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        waiting: Waiting,
        #[command(flatten)]
        connection: Connection,
    },
    /// Try declarations on given events and compare the rows, without a server
    ///
    /// A file has a case or an array of them: {"name": "…", "projection": DECLARATION or {"file": "orders.json"} beside
    /// it, "given": [EVENT, …], "expect": {"TABLE": [ROW, …], "SELECT …": [ROW, …]}, "refuse": {"2": "PART OF THE
    /// MESSAGE"}}. Events are CloudEvents in JSON; id, source, specversion and time follow from their number where they
    /// are left out, and "stream" says where in the store they lie. A topic has one partition, and offsets have holes. A
    /// row is an array, or an object, whose missing columns are NULL; rows of a TABLE are in any order, 3 is 3.0, blobs
    /// are base64. "refuse" names events, counted from 1, that must fail: the first one stops the projection, or is parked
    /// with "onError": "park"; with "inline": true its append is refused, as a server does it. A "target" in PostgreSQL is
    /// not tried. Exit code 1 if a case fails, 2 if a file cannot be read.
    Test {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Group)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    /// The data; - publishes every line of standard input
    pub(crate) json: String,
    #[arg(long = "type", value_name = "TYPE", default_value = "mente.event")]
    pub(crate) kind: String,
    #[arg(long, default_value = "/mente/cli")]
    pub(crate) source: String,
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Made up if absent
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Events of one key keep their order
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) causes: Causes,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Group)]
pub(crate) struct Tail {
    pub(crate) topic: String,
    /// earliest, latest, an offset, or a time such as 2026-11-30T12:00:00Z
    #[arg(long, default_value = "latest")]
    pub(crate) from: String,
    #[arg(long)]
    pub(crate) partition: Option<u32>,
    /// Stop after so many events
    #[arg(long)]
    pub(crate) limit: Option<u64>,
    /// Stop at the end of the topic
    #[arg(long)]
    pub(crate) no_follow: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// What an event names as its causes.
#[derive(Debug, Group)]
pub(crate) struct Causes {
    /// The id of the event that caused it
    #[arg(long, value_name = "ID")]
    pub(crate) causation: Option<String>,
    /// What it belongs to: the same as of what caused it, or the id of that
    #[arg(long, value_name = "ID")]
    pub(crate) correlation: Option<String>,
}

impl Causes {
    /// As attributes of an event.
    pub(crate) fn put(&self, event: &mut serde_json::Value) {
        for (name, id) in [
            ("causationid", &self.causation),
            ("correlationid", &self.correlation),
        ] {
            if let Some(id) = id {
                event[name] = id.as_str().into();
            }
        }
    }
}

/// Where a subscription begins, as the server takes it.
#[derive(Clone, Debug)]
pub(crate) struct Begin(pub(crate) serde_json::Value);

impl std::str::FromStr for Begin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" | "latest" => Ok(Self(text.into())),
            _ => text
                .parse::<u64>()
                .map(|position| Self(position.into()))
                .map_err(|_| "say earliest, latest or a position"),
        }
    }
}

/// How a verb reaches its server and shows what came. A key is taken from MENTE_KEY.
#[derive(Debug, Group)]
pub(crate) struct Connection {
    #[arg(
        long,
        value_name = "URL",
        env = "MENTE_SERVER",
        default_value = "http://127.0.0.1:8480"
    )]
    pub(crate) server: String,
    /// Trust an https server by these authorities instead of the machine's (PEM)
    #[arg(long, value_name = "FILE", env = "MENTE_CA")]
    pub(crate) ca: Option<PathBuf>,
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_hold_together() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
