//! The limits of this room, each with its unit last in the name. Those that every engine
//! shares stand in `mente_engine::limits`.

use std::time::Duration;

/// To open a connection and ask for its versions.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);
/// To get one request onto the socket.
pub(crate) const WRITE: Duration = Duration::from_secs(30);
/// From a request to its answer. After that the connection is closed: its answers come in
/// order, so nothing behind the late one would arrive either.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// What a broker may take for an append or a change of topics; below [`ANSWER`].
pub(crate) const BROKER_MS: i32 = 20_000;
/// How long a question without effects is asked again while brokers move or restart.
pub(crate) const ASK: Duration = Duration::from_secs(15);
/// How long a change of settings that is made is waited for to show at every broker.
pub(crate) const SHOWN: Duration = Duration::from_secs(5);
/// How long what a broker said of the size of a log is good: it is asked no more often.
pub(crate) const SIZE_GOOD: Duration = Duration::from_secs(1);
/// How long somebody waits to be told it.
pub(crate) const SIZE_WAIT: Duration = Duration::from_millis(100);
/// After so long without a look files may have gone unseen: twice the time after which brokers look for some to delete.
pub(crate) const SIZE_REMEMBERED: Duration = Duration::from_secs(600);
/// Logs whose size is known.
pub(crate) const SIZES: usize = 10_000;
/// Of a log that is trimmed: a file goes as a whole.
pub(crate) const TRIMMED_FILE_BYTES: u32 = 16 << 20;
/// First and last pause between two tries.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(10);
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Largest answer of a broker: one read and a first batch that comes whole, with room for
/// the metadata of many topics.
pub(crate) const ANSWER_BYTES: usize = 64 << 20;
/// Requests of one connection that wait for their answers.
pub(crate) const PIPELINE: usize = 64;
/// Connections to one broker that carry appends. Kafka works on one request of a connection
/// at a time, so logs that wait for replicas would else wait for each other.
pub(crate) const APPEND_CONNECTIONS: u8 = 4;
/// Batches of one log under way. Kafka remembers five per producer to tell a repeat.
pub(crate) const IN_FLIGHT: u32 = 5;
/// Appends to a log without owner that go as one batch, and how large that is: every topic takes that.
pub(crate) const TOGETHER: usize = 256;
pub(crate) const TOGETHER_BYTES: usize = 512 << 10;
/// Appends of one log that wait for their turn.
pub(crate) const LANE_APPENDS: usize = 1_024;
/// Longest topic name that Kafka takes.
pub(crate) const TOPIC_NAME_BYTES: usize = 249;
/// Longest prefix of all topics.
pub(crate) const PREFIX_BYTES: usize = 100;
/// Longest time that a fence goes unproven, whatever longer time the brokers would allow.
pub(crate) const RENEW: Duration = Duration::from_secs(6 * 3600);
/// Shortest time that a fence can go unproven: brokers that forget faster are refused.
pub(crate) const RENEW_MIN: Duration = Duration::from_millis(500);
/// Claims of one log that may overtake each other before a claim gives up.
pub(crate) const CLAIM_TRIES: u32 = 8;
/// The transaction time-out that the coordinator wants to hear; no transaction is begun.
pub(crate) const TRANSACTION_MS: i32 = 60_000;
/// How long a node that is not heard of stays in the group; at least what brokers allow
/// (`group.min.session.timeout.ms`).
pub(crate) const SESSION: Duration = Duration::from_secs(6);
/// How long the group waits for its members to join again; below [`ANSWER`].
pub(crate) const REBALANCE: Duration = Duration::from_secs(10);
/// Between two heartbeats.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// From a heartbeat, or the search for the coordinator, to its answer: short enough for a few
/// tries within [`SESSION`].
pub(crate) const GROUP_ANSWER: Duration = Duration::from_secs(2);
/// How long a node may take to let go of shards; the group waits longer than that.
pub(crate) const LET_GO: Duration = Duration::from_secs(5);
/// To say good-bye to the group.
pub(crate) const LEAVE: Duration = Duration::from_millis(1_500);
/// Longest pause between two tries to reach the group.
pub(crate) const GROUP_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Before the next try once the group refused us, which time alone seldom heals.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Largest form of a node or of an assignment that is read.
pub(crate) const FORM_BYTES: usize = 1 << 20;
/// Longest name, address or secret of a node.
pub(crate) const NODE_TEXT_BYTES: usize = 1_024;
