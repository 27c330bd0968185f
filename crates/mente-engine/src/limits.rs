//! Every limit of the house in one file, with its unit last in the name.

/// Longest name of a set, namespace included: those of pieces beside a subscription's dead letters have the longest.
pub const SET_NAME_BYTES: usize = 400;
/// Longest name of a topic or queue, as Service Bus has it. On Kafka some of that is needed for names of sets beside it.
pub const ENTITY_NAME_BYTES: usize = 260;
/// Longest name of a subscription, and of what is declared beside topics: a projection, a fold, a saga. Some are
/// names of files.
pub const DECLARED_NAME_BYTES: usize = 80;
/// Longest name of a stream.
pub const STREAM_NAME_BYTES: usize = 200;
/// Most logs in one set.
pub const LOGS_PER_SET: u32 = 1_024;
/// Largest record batch an engine takes.
pub const BATCH_BYTES: usize = 4 << 20;
/// Most that the records of one compressed batch unpack to.
pub const UNPACKED_BYTES: usize = 16 << 20;
/// After so many bytes of unpacked records a read ends with the batch: batches that came packed are much
/// larger than what was read of the log.
pub const UNPACKED_PER_READ_BYTES: usize = 8 << 20;
/// Largest single event, attributes included.
pub const EVENT_BYTES: usize = 1 << 20;
/// Largest message whose data is kept beside its event, in pieces.
pub const MESSAGE_BYTES: u64 = 100 << 20;
/// Largest such piece, but for its record: small ones, since others' commits wait for one of them.
pub const PIECE_BYTES: usize = 128 << 10;
/// How long the pieces of one message may take, from the first one to the message's own record.
pub const UPLOAD_SECONDS: u64 = 600;
/// Events of the store whose places are kept in memory before they are sealed.
pub const TAIL_EVENTS: usize = 64 << 10;
/// Keys that one block of the store's index holds before the next one begins.
pub const BLOCK_KEYS: usize = 512 << 10;
/// Most looks into the index of the store that one query takes.
pub const QUERY_LOOKS: u64 = 2_000_000;
/// Appends that are looked up in the sealed part of the store at a time.
pub const LOOKUPS: usize = 256;
/// Most bytes that a look at one record reads beside it.
pub const LOOK_BYTES: usize = 4 << 10;
/// Most tags of one event.
pub const TAGS_PER_EVENT: usize = 64;
/// Most items of one query of the store.
pub const QUERY_ITEMS: usize = 100;
/// Most types and tags that one item of a query names.
pub const QUERY_VALUES: usize = 100;
/// Most types and tags that the queries of one append name: each is looked for in every block.
pub const VALUES_PER_APPEND: usize = 10_000;
/// Most checks of one append.
pub const CHECKS_PER_APPEND: usize = 1_000;
/// Largest append to a stream: one batch holds it whole.
pub const APPEND_BYTES: usize = 2 << 20;
/// Most events in one published batch.
pub const EVENTS_PER_BATCH: usize = 5_000;
/// Most headers of one record.
pub const HEADERS_PER_RECORD: usize = 256;
/// Longest attribute name of an event.
pub const ATTRIBUTE_NAME_BYTES: usize = 64;
/// Longest attribute value of an event.
pub const ATTRIBUTE_VALUE_BYTES: usize = 32 << 10;
/// Most bytes that one read of a log returns.
pub const READ_BYTES: usize = 1 << 20;
/// Deepest nesting of JSON and of a filter.
pub const NESTING_DEPTH: usize = 32;
/// Most values within one AMQP value that is decoded; Service Bus' SDK for Python has the same bound for a list.
pub const AMQP_ELEMENTS: usize = 64 << 10;
/// Largest HTTP request body.
pub const HTTP_BODY_BYTES: usize = 4 << 20;
/// Largest body that declares something (a topic, a subscription, a fold) or asks in SQL.
pub const DECLARATION_BYTES: usize = 256 << 10;
/// Files that the embedded log keeps open for its readers.
pub const LOG_OPEN_FILES: usize = 128;
/// WAL files that the embedded log keeps before it packs the oldest.
pub const LOG_WAL_FILES: usize = 8;
/// All request bodies held in memory at one time.
pub const HTTP_BODIES_BYTES: usize = 256 << 20;
/// Decisions that a journal gathers before its state is told anew, so that they can go.
pub const JOURNAL_SNAPSHOT_BYTES: usize = 1 << 20;
/// Commands waiting for one shard.
pub const SHARD_MAILBOX: usize = 4_096;
/// Subscriptions of one topic.
pub const SUBSCRIPTIONS_PER_TOPIC: usize = 2_000;
/// Ids of messages that one view remembers, so that duplicates are dropped.
pub const DUPLICATE_IDS_PER_VIEW: usize = 50_000_000;
/// Memory that they take: 2.25 bytes for each that is on the disk, 20 more for others.
pub const DUPLICATE_BYTES_PER_VIEW: usize = 128 << 20;
/// Memory that those of all views of a broker take, before those that have more than an equal share forget some; there
/// may be twice as much where nothing comes to the largest ones. A branch counts its own.
pub const DUPLICATE_BYTES: usize = 512 << 20;
/// What ids take of the disk, those of branches too.
pub const SHELF_BYTES: u64 = 4 << 30;
/// Files in which they lie there.
pub const SHELF_FILES: u64 = 1_000;
/// Records that one queue view may have out or waiting for another try.
pub const TOUCHED_PER_VIEW: usize = 100_000;
/// Events that one receive call hands out.
pub const RECEIVE_EVENTS: u32 = 100;
/// Data that one receive call hands out, but one event at least.
pub const RECEIVE_BYTES: usize = 8 << 20;
/// Lock tokens that one settle call names.
pub const LOCK_TOKENS_PER_SETTLE: usize = 5_000;
/// Longest lock token that is looked at.
pub const LOCK_TOKEN_BYTES: usize = 256;
/// Longest wait of a receive call.
pub const RECEIVE_WAIT_SECONDS: u32 = 120;
/// Largest head of an HTTP request: request line and headers.
pub const HTTP_HEAD_BYTES: usize = 64 << 10;
/// How long the head of an HTTP request, and then its body, may take to arrive.
pub const HTTP_SENDER_SECONDS: u64 = 30;
/// How long a TLS handshake may take, from the accept on.
pub const TLS_HANDSHAKE_SECONDS: u64 = 10;
/// HTTP connections open at one time.
pub const HTTP_CONNECTIONS: usize = 10_000;
/// How long requests under way may take to finish when the server stops.
pub const HTTP_DRAIN_SECONDS: u64 = 10;
/// How long the receiver of a backup may take nothing: files are kept for it meanwhile.
pub const BACKUP_STALL_SECONDS: u64 = 60;
/// Branches of one server.
pub const BRANCHES: usize = 16;
/// Events that a comparison of a branch looks at, of both sides together.
pub const DIFFERENCE_EVENTS: u64 = 200_000;
/// That it keeps of them.
pub const DIFFERENCE_BYTES: usize = 128 << 20;
/// Things of each kind that it names at most.
pub const DIFFERENCES: usize = 1_000;
/// Dead letters that one call gives back.
pub const REPLAY_LETTERS: usize = 1_000;
/// Most events that one read of a topic answers as one document.
pub const READ_EVENTS: usize = 5_000;
/// Longest wait of a read for its first event.
pub const READ_WAIT_MS: u64 = 120_000;
/// Events of an alternative of which is told to whom they would have been sent, and how often that is told.
pub const EFFECTS: usize = 1_000;
/// Largest declaration of a fold, a projection or a subscription.
pub const DEFINITION_BYTES: usize = 64 << 10;
/// Largest state that a stream is folded to.
pub const STATE_BYTES: usize = 1 << 20;
/// A read of a stream ends behind the event that takes its data over this.
pub const STREAM_READ_BYTES: usize = 8 << 20;
/// Most that is told of the fields of a stream and what changed them.
pub const BLAME_BYTES: usize = 16 << 20;
/// Most events that the log of a stream tells at a time.
pub const LOG_STEPS: usize = 1_000;
/// Most changes that it names of one event.
pub const CHANGES_PER_STEP: usize = 100;
/// Most events that a stream is folded from in one request.
pub const STATE_EVENTS: u64 = 1_000_000;
/// Memory for states of streams that were folded, so that the next fold goes on from there.
pub const STATES_BYTES: usize = 64 << 20;
/// Streams of which such states are kept.
pub const STATES: usize = 100_000;
/// Events after which a fold keeps its state while it goes on.
pub const STATE_EVERY_EVENTS: u64 = 8_192;
/// Memory that a reducer in JavaScript may take, its state and the event included.
pub const REDUCER_MEMORY_BYTES: usize = 64 << 20;
/// Stack of a reducer; it is a part of the stack of the thread that runs it.
pub const REDUCER_STACK_BYTES: usize = 256 << 10;
/// Most that a reducer does for one event, counted in loops and calls.
pub const REDUCER_EVENT_STEPS: u64 = 10_000_000;
/// The same for all events of one request.
pub const REDUCER_REQUEST_STEPS: u64 = 400_000_000;
/// How long a reducer may take for the events of one page, should its steps be slow ones.
pub const REDUCER_PAGE_MS: u64 = 5_000;
/// Reducers that run at one time; each has a thread meanwhile.
pub const REDUCERS: usize = 4;
/// Requests that wait for a reducer's turn.
pub const REDUCERS_WAITING: usize = 256;
/// Most events that one command leads to.
pub const DECIDED_EVENTS: usize = 1_000;
/// Largest body of a command.
pub const COMMAND_BYTES: usize = 256 << 10;
/// Largest text of a decision.
pub const DECISION_BYTES: usize = 4 << 20;
/// Commands that webhooks decide at one time.
pub const DECIDING: usize = 64;
/// Commands that wait for such a turn.
pub const DECIDING_WAITING: usize = 1_024;
/// Longest that a webhook may be given for it.
pub const DECIDER_TIMEOUT_MS: u64 = 60_000;
/// How long a command waits for its turn, and is decided again because others write to its stream meanwhile.
pub const COMMAND_MS: u64 = 30_000;
/// Commands that wait for one stream.
pub const COMMANDS_WAITING: usize = 256;
/// Longest message of what a reducer threw.
pub const THROWN_CHARS: usize = 300;
/// Most places of events that one trace tells.
pub const TRACE_PLACES: usize = 1_000;
/// Most events of topics that are read for one trace, all topics together.
pub const TRACE_EVENTS: usize = 20_000;
/// Most that these events have in bytes, but for what the last read took it over.
pub const TRACE_BYTES: usize = 64 << 20;
/// Most deliveries to subscriptions that one trace tells.
pub const TRACE_DELIVERIES: usize = 5_000;
/// Traces that are made at one time.
pub const TRACES: usize = 2;
/// Traces that wait for their turn.
pub const TRACES_WAITING: usize = 64;
/// Event types that have a schema.
pub const SCHEMAS: usize = 1_000;
/// Most versions of one event type.
pub const SCHEMA_VERSIONS: u32 = 100;
/// Most events that one event is told as.
pub const UPCAST_PARTS: usize = 16;
/// Most upcasters that one event goes through.
pub const UPCAST_STEPS: usize = 256;
/// Most bytes of all that one event is told as.
pub const UPCAST_BYTES: usize = 2 << 20;
/// A page of events is told as far as it is once it has become so much.
pub const UPCAST_PAGE_BYTES: usize = 8 << 20;
/// After so long a page of events is told as far as it is.
pub const UPCAST_PAGE_MS: u64 = 2_000;
/// Failures that a check of a schema names.
pub const CHECK_FAILURES: usize = 20;
/// Projections that are kept at one time; each has a thread.
pub const PROJECTIONS: usize = 100;
/// Most instructions of SQLite's machine for one statement of a projection.
pub const PROJECTION_STATEMENT_STEPS: u64 = 200_000_000;
/// The same for an inline projection: appends wait for it.
pub const INLINE_STATEMENT_STEPS: u64 = 2_000_000;
/// How long an append waits for the inline projections.
pub const INLINE_WAIT_MS: u64 = 5_000;
/// Largest text, blob or row of a projection.
pub const PROJECTION_VALUE_BYTES: i32 = 16 << 20;
/// Largest database of a projection.
pub const PROJECTION_DATABASE_BYTES: u64 = 64 << 30;
/// Memory that SQLite may take for all projections and queries together.
pub const SQLITE_HEAP_BYTES: u64 = 256 << 20;
/// Batches of events that wait for a projection's thread; each is one read of a log.
pub const PROJECTION_BATCHES: usize = 2;
/// How long a projection waits for somebody else's lock on its database.
pub const PROJECTION_BUSY_MS: u64 = 5_000;
/// Most bytes of the statements that a projection in JavaScript returns for one event.
pub const PROJECTED_BYTES: usize = 4 << 20;
/// Relays that are kept at one time; each has a connection.
pub const RELAYS: usize = 16;
/// Rows of an outbox that a relay takes at one time, and the bytes of their data behind the first one.
pub const RELAY_ROWS: usize = 500;
pub const RELAY_BYTES: usize = 4 << 20;
/// Streams that a relay appends to at one time.
pub const RELAY_STREAMS: usize = 32;
/// Sagas that are kept at one time.
pub const SAGAS: usize = 64;
/// Types of events that a saga reacts to.
pub const SAGA_TYPES: usize = 64;
/// Events that one event leads to in a saga, and timers that one course of it has open.
pub const SAGA_EVENTS: usize = 100;
pub const SAGA_TIMERS: usize = 16;
/// The longest time of a timer: ten years.
pub const SAGA_TIMER_MS: u64 = 10 * 366 * 24 * 3_600_000;
/// The shortest of one that is set when another one is told.
pub const SAGA_TICK_MS: u64 = 10;
/// Largest state of a course. With all else that it says of itself it is to fit into one event.
pub const SAGA_STATE_BYTES: usize = 256 << 10;
/// What a program may return for one event.
pub const REACTED_BYTES: usize = 1 << 20;
/// Events that a saga takes at one time, and bytes of what follows from them before that is appended.
pub const SAGA_PAGE: usize = 256;
pub const SAGA_PAGE_BYTES: usize = 8 << 20;
/// Courses that a saga keeps in memory, and the bytes of their states; those that it moves beside each other.
pub const SAGA_COURSES: usize = 4_096;
pub const SAGA_COURSES_BYTES: usize = 16 << 20;
pub const SAGA_APPENDS: usize = 64;
/// Events that a projection keeps parked because they, or one before them of their key, failed.
pub const PARKED_EVENTS: u64 = 10_000;
/// Most bytes of those events.
pub const PARKED_BYTES: u64 = 64 << 20;
/// Events that were skipped by name and are remembered, so that a fold again skips them as well.
pub const SKIPPED_EVENTS: u64 = 10_000;
/// Keys with parked events that one answer shows.
pub const PARKED_SHOWN: usize = 1_000;
/// Events of a projection in PostgreSQL that are folded in at one time; each has a connection.
pub const PROJECTION_LANES: u32 = 16;
/// How long a connection to PostgreSQL may take to come to be.
pub const POSTGRES_CONNECT_MS: u64 = 5_000;
/// How long one statement may run in PostgreSQL.
pub const POSTGRES_STATEMENT_MS: u64 = 30_000;
/// Most rows that one query of a projection answers.
pub const QUERY_ROWS: usize = 10_000;
/// Most bytes that one query of a projection answers.
pub const QUERY_BYTES: usize = 8 << 20;
/// How long one query of a projection may run.
pub const QUERY_MS: u64 = 5_000;
/// Queries of projections that run at one time.
pub const QUERIES: usize = 8;
/// Queries in SQL over everything that run at one time; each has a thread.
pub const SQL_QUERIES: usize = 4;
/// How long one of them may run.
pub const SQL_MS: u64 = 20_000;
/// Projections that one of them reads; SQLite has room for no more.
pub const SQL_PROJECTIONS: usize = 10;
/// Events of the store that it takes in.
pub const SQL_EVENTS: u64 = 500_000;
/// Events that it asks the store for at a time.
pub const SQL_PAGE_EVENTS: usize = 1_000;
/// Streams whose states it takes in.
pub const SQL_STATES: usize = 10_000;
/// Most bytes of what it takes in, in memory or in a file that has no name.
pub const SQL_TABLE_BYTES: usize = 128 << 20;
/// Most rows of a query that go into one file.
pub const EXPORT_ROWS: usize = 500_000;
/// Most bytes of their values.
pub const EXPORT_BYTES: usize = 64 << 20;
/// Snapshots of topics that are made at one time; each has a temporary file.
pub const SNAPSHOTS: usize = 2;
/// Largest such file: about the latest events of all keys together.
pub const SNAPSHOT_BYTES: u64 = 4 << 30;
/// How long the receiver of a snapshot may take nothing.
pub const SNAPSHOT_STALL_SECONDS: u64 = 60;
/// How fast it takes the items at least, but for that time.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 64 << 10;
/// Replicas that one server keeps; each asks its source every other second.
pub const REPLICAS: usize = 100;
/// Longest URL of the source of a replica, and longest key that is shown there.
pub const REPLICA_URL_BYTES: usize = 2_000;
pub const REPLICA_KEY_BYTES: usize = 1_000;
/// AMQP connections open at one time.
pub const AMQP_CONNECTIONS: usize = 5_000;
/// Messages on their way from AMQP connections to the broker, all together, in bytes.
pub const AMQP_MESSAGES_BYTES: usize = 256 << 20;
/// What one transaction of Service Bus does at most: messages that are sent, and locks that end.
pub const TRANSACTION_OPERATIONS: usize = 100;
/// How long it may be open.
pub const TRANSACTION_SECONDS: u64 = 120;
/// Its messages, in bytes.
pub const TRANSACTION_BYTES: usize = 3 << 20;
/// Messages of all open transactions, in bytes.
pub const TRANSACTIONS_BYTES: usize = 64 << 20;
/// Of messages that are larger than an event, what is in memory at one time, on their way in and out, in bytes.
pub const AMQP_LARGE_BYTES: usize = 256 << 20;
