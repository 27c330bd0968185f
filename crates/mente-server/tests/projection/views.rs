//! Projections: what their rows are, before and after every kind of end.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use mente_broker::{Expected, Options, StreamName};
use mente_engine::{Clock, Data, Engine, Event, Now, Timestamp};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use mente_broker::{Broker, Definition, EntityName, Kind, Principal, Result};
use mente_server::projection::{Projections, State, Status, TableDigest};
use serde_json::Value;
use tokio::sync::watch;

pub(crate) const ME: Principal = Principal::Anonymous;

struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let monotone = self.0.elapsed();
        Now {
            monotone,
            wall: Timestamp(1_700_000_000_000 + monotone.as_millis() as i64),
        }
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let left = at.saturating_sub(self.0.elapsed());
        Box::pin(tokio::time::sleep(left))
    }
}

/// A broker and its projections; dropping them is the crash.
pub(crate) struct World {
    engine: Arc<dyn Engine>,
    directory: Arc<TempDir>,
    pub(crate) broker: Broker,
    pub(crate) projections: Projections,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Self::open(crate::engine::open(), directory).await
    }

    pub(crate) async fn open(engine: Arc<dyn Engine>, directory: Arc<TempDir>) -> Self {
        let options = Options {
            shards: 2,
            create_topics: true,
            ..Options::default()
        };
        let shared = Arc::clone(&engine);
        let clock = Arc::new(TestClock(Instant::now()));
        let (broker, shards) = Broker::open(shared, clock, options).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for shard in shards {
            tasks.spawn(async { drop(shard.await) });
        }
        broker.ready().await.unwrap();
        let projections = Projections::open(broker.clone(), directory.path()).unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = projections.clone();
        tasks.spawn(async move { running.run(stopped).await });
        tokio::task::yield_now().await;
        Self {
            engine,
            directory,
            broker,
            projections,
            stop,
            tasks,
        }
    }

    /// Everything is dropped where it is; the files are opened again at once.
    pub(crate) async fn crash(mut self) -> Self {
        let (engine, directory) = (Arc::clone(&self.engine), Arc::clone(&self.directory));
        // Of who is dead nobody writes on.
        self.tasks.shutdown().await;
        drop(self);
        Self::open(engine, directory).await
    }

    pub(crate) async fn shut_down(mut self) -> (Arc<dyn Engine>, Arc<TempDir>) {
        self.stop.send(true).unwrap();
        while self.tasks.len() > 2 {
            self.tasks.join_next().await;
        }
        (Arc::clone(&self.engine), Arc::clone(&self.directory))
    }

    pub(crate) async fn define(&self, declared: Value) -> Result<()> {
        self.projections.define(&ME, &name(), declared).await
    }

    pub(crate) async fn publish(&self, events: Vec<Event>) {
        for events in events.chunks(100) {
            let sent = self
                .broker
                .publish(&ME, &topic(), events.to_vec())
                .await
                .unwrap();
            assert!(sent.iter().all(|sent| sent.is_ok()));
        }
    }

    pub(crate) async fn status(&self) -> Status {
        self.projections.status(&ME, &name()).await.unwrap()
    }

    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..2_000 {
            let status = self.status().await;
            if reached(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {what}: {:#?}", self.status().await);
    }

    /// Waits until the rows hold all there is.
    pub(crate) async fn caught_up(&self) -> Status {
        self.until("caught up", |s| {
            s.state == State::Running && s.error.is_none() && s.lag == 0 && !s.partitions.is_empty()
        })
        .await
    }

    /// The same where a server elsewhere has to be found again first.
    pub(crate) async fn caught_up_slowly(&self) -> Status {
        for _ in 0..15 {
            let status = self.status().await;
            if status.lag == 0 && status.error.is_none() && !status.partitions.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.caught_up().await
    }

    pub(crate) async fn query(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let answer = self
            .projections
            .query(&ME, &name(), sql.to_owned(), 1_000)
            .await;
        answer.map(|answer| answer.rows)
    }

    pub(crate) async fn digest(&self) -> Vec<TableDigest> {
        self.projections.digest(&ME, &name()).await.unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Somebody changes rows by hand.
    pub(crate) fn tamper(&self, sql: &str) {
        let connection = Connection::open(self.file("orders.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
    }
}

pub(crate) fn name() -> EntityName {
    EntityName::new("orders-by-id").unwrap()
}

pub(crate) fn topic() -> EntityName {
    EntityName::new("orders").unwrap()
}

pub(crate) fn order(id: usize, kind: &str, data: Value) -> Event {
    Event {
        id: format!("{kind}-{id}"),
        source: "/shop".into(),
        kind: kind.into(),
        subject: Some(format!("order-{id}")),
        datacontenttype: Some("application/json".into()),
        data: Data::Json(Bytes::from(data.to_string())),
        ..Event::default()
    }
}

/// Orders that are placed; every third is shipped.
pub(crate) fn shop(orders: std::ops::Range<usize>) -> Vec<Event> {
    let events = orders.flat_map(|id| {
        let placed = order(id, "OrderPlaced", json!({"total": id * 10}));
        let shipped = (id % 3 == 0).then(|| order(id, "OrderShipped", json!({})));
        [
            Some(placed),
            shipped,
            Some(order(id, "Unrelated", json!(null))),
        ]
    });
    events.flatten().collect()
}

pub(crate) fn declared() -> Value {
    json!({
        "source": {"topic": "orders"},
        "database": "orders.db",
        "init": [
            "CREATE TABLE orders (id TEXT PRIMARY KEY, total INTEGER, status TEXT, seen INTEGER)",
            "CREATE INDEX by_status ON orders (status)",
            "CREATE TABLE counts (type TEXT PRIMARY KEY, n INTEGER)",
        ],
        "on": {
            "OrderPlaced": [
                "INSERT INTO orders VALUES (:subject, json_extract(:data, '$.total'), 'placed', 1)",
                "INSERT INTO counts VALUES (:type, 1) ON CONFLICT DO UPDATE SET n = n + 1",
            ],
            "OrderShipped": [
                "UPDATE orders SET status = 'shipped', seen = seen + 1 WHERE id = :subject",
                "INSERT INTO counts VALUES (:type, 1) ON CONFLICT DO UPDATE SET n = n + 1",
            ],
        },
    })
}

/// The declaration with something else in one place.
pub(crate) fn changed(pointer: &str, to: Value) -> Value {
    let mut declared = declared();
    *declared.pointer_mut(pointer).unwrap() = to;
    declared
}

#[tokio::test]
async fn rows_follow_the_topic_over_all_its_partitions() {
    let world = World::new().await;
    world.broker.create_topic(&ME, &topic(), 3).await.unwrap();
    world.publish(shop(0..30)).await;
    world.define(declared()).await.unwrap();
    let status = world.caught_up().await;
    assert_eq!((status.applied, status.partitions.len()), (40, 3));
    world.publish(shop(30..60)).await;
    world.caught_up().await;
    let counts = world
        .query("SELECT type, n FROM counts ORDER BY type")
        .await
        .unwrap();
    assert_eq!(
        json!(counts),
        json!([["OrderPlaced", 60], ["OrderShipped", 20]])
    );
    let row = world.query("SELECT total, status, seen FROM orders WHERE id = 'order-57'");
    assert_eq!(json!(row.await.unwrap()), json!([[570, "shipped", 2]]));
    let some = "SELECT id FROM orders".to_owned();
    let answer = world
        .projections
        .query(&ME, &name(), some, 7)
        .await
        .unwrap();
    assert_eq!((answer.rows.len(), answer.truncated), (7, true));
    assert!(world.projections.verify(&ME, &name()).await.unwrap().equal);
    world.shut_down().await;
}

#[tokio::test]
async fn rows_of_the_store_know_stream_revision_and_position() {
    let world = World::new().await;
    for stream in ["order-1", "cart-1", "order-2", "order-1"] {
        let (streams, _) = world.broker.streams(&ME, 0, 9).await.unwrap();
        let event = order(
            streams.iter().map(|(_, _, n)| *n as usize).sum(),
            "E",
            json!({"a": 1}),
        );
        let stream = StreamName::new(stream).unwrap();
        world
            .broker
            .append_stream(&ME, &stream, Expected::Any, vec![event])
            .await
            .unwrap();
    }
    let declared = json!({
        "source": {"store": true, "category": "order"},
        "init": ["CREATE TABLE log (stream, revision, position, data, time)"],
        "on": {"E": ["INSERT INTO log VALUES (:stream, :revision, :position, :data, :time)"]},
    });
    world.define(declared).await.unwrap();
    world.until("3 events", |status| status.applied == 3).await;
    let rows = world
        .query("SELECT stream, revision, position, data FROM log")
        .await
        .unwrap();
    let data = "{\"a\":1}";
    let expect = json!([
        ["order-1", 0, 0, data],
        ["order-2", 0, 2, data],
        ["order-1", 1, 3, data]
    ]);
    assert_eq!(json!(rows), expect);
    let time = world
        .query("SELECT DISTINCT substr(time, 1, 10) FROM log")
        .await
        .unwrap();
    assert_eq!(json!(time), json!([["2023-11-14"]]));
    assert!(world.projections.verify(&ME, &name()).await.unwrap().equal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_in_the_rows_once_whatever_crashes() {
    let mut world = World::new().await;
    world.define(declared()).await.unwrap();
    for round in 0..12 {
        let before = world.status().await.applied;
        world.publish(shop(round * 100..(round + 1) * 100)).await;
        if round % 3 == 1 {
            world
                .until("some progress", |status| status.applied > before)
                .await;
        }
        world = world.crash().await;
    }
    world.caught_up().await;
    let odd = "SELECT count(*), sum(seen) FROM orders";
    assert_eq!(
        json!(world.query(odd).await.unwrap()),
        json!([[1200, 1600]])
    );
    let counts = world
        .query("SELECT n FROM counts ORDER BY type")
        .await
        .unwrap();
    assert_eq!(json!(counts), json!([[1200], [400]]));
    let connection = Connection::open(world.file("orders.db")).unwrap();
    let applied = "SELECT applied FROM mente_checkpoint WHERE projection = 'orders-by-id'";
    let applied: i64 = connection.query_row(applied, [], |row| row.get(0)).unwrap();
    assert_eq!(applied, 1_600, "rows and checkpoint moved together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_gives_the_same_rows_and_serves_the_old_ones_meanwhile() {
    let mut world = World::new().await;
    world.publish(shop(0..2_000)).await;
    world.define(declared()).await.unwrap();
    world.caught_up().await;
    let before = world.digest().await;
    assert_eq!(
        before
            .iter()
            .map(|t| (t.table.as_str(), t.rows))
            .collect::<Vec<_>>(),
        [("counts", 2), ("orders", 2_000)]
    );
    world.projections.rebuild(&ME, &name()).await.unwrap();
    let mut served = 0;
    while world.status().await.rebuilds == 0 {
        let rows = world.query("SELECT count(*) FROM orders").await.unwrap();
        assert_eq!(json!(rows), json!([[2_000]]));
        served += 1;
    }
    assert!(served > 0);
    world.caught_up().await;
    assert_eq!(world.digest().await, before);
    assert!(!world.file("orders.db.rebuild").exists());
    // Cut off at different moments; what was begun is begun again.
    for ms in [0, 1, 3, 8, 20, 60] {
        world.projections.rebuild(&ME, &name()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        world = world.crash().await;
        world.caught_up().await;
        assert_eq!(world.digest().await, before, "cut off after {ms} ms");
    }
    world.publish(shop(2_000..2_010)).await;
    world.caught_up().await;
    assert_ne!(world.digest().await, before);
    assert!(world.projections.verify(&ME, &name()).await.unwrap().equal);
}

#[tokio::test]
async fn a_changed_declaration_is_built_beside_the_old_rows() {
    let world = World::new().await;
    world.publish(shop(0..10)).await;
    world.define(declared()).await.unwrap();
    world.caught_up().await;
    let sql = "INSERT INTO orders VALUES (:subject, json_extract(:data, '$.total') * 2, 'new', 1)";
    world
        .define(changed("/on/OrderPlaced/0", json!(sql)))
        .await
        .unwrap();
    world.until("rebuilt", |status| status.rebuilds == 1).await;
    world.caught_up().await;
    let rows = world.query("SELECT sum(total) FROM orders").await.unwrap();
    assert_eq!(json!(rows), json!([[900]]));
}

#[tokio::test]
async fn a_failing_statement_stops_before_its_event_until_it_is_mended() {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    let mut events = shop(0..5);
    events.push(order(3, "OrderPlaced", json!({"total": 1})));
    events.extend(shop(5..9));
    world.publish(events).await;
    let failed = |status: &Status| status.state == State::Failed;
    let status = world.until("failed", failed).await;
    let error = status.error.unwrap();
    let at = error.at.unwrap();
    assert_eq!(
        (at.event_id.as_str(), at.event_type.as_str()),
        ("OrderPlaced-3", "OrderPlaced")
    );
    assert!(error.message.contains("UNIQUE"), "{}", error.message);
    assert!(error.statement.unwrap().starts_with("INSERT INTO orders"));
    assert_eq!(
        status.partitions[0].next_offset, at.offset,
        "all before it is in the rows"
    );
    assert_eq!(
        json!(world.query("SELECT count(*) FROM orders").await.unwrap()),
        json!([[5]])
    );
    world.projections.resume(&ME, &name()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.until("failed again", failed).await;
    // A restart does not forget it either.
    let world = world.crash().await;
    world.until("failed after a restart", failed).await;
    let sql = "INSERT OR IGNORE INTO orders VALUES (:subject, :data ->> '$.total', 'placed', 1)";
    world
        .define(changed("/on/OrderPlaced/0", json!(sql)))
        .await
        .unwrap();
    world.caught_up().await;
    assert_eq!(
        json!(world.query("SELECT count(*) FROM orders").await.unwrap()),
        json!([[9]])
    );
}

#[tokio::test]
async fn resuming_goes_on_where_it_stopped() {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    world
        .publish(vec![
            order(1, "OrderPlaced", json!({})),
            order(1, "OrderPlaced", json!({})),
        ])
        .await;
    world
        .until("failed", |status| status.state == State::Failed)
        .await;
    world.tamper("DELETE FROM orders");
    world.projections.resume(&ME, &name()).await.unwrap();
    assert_eq!(world.caught_up().await.applied, 2);
}

#[tokio::test]
async fn a_planted_difference_is_found() {
    let world = World::new().await;
    world.publish(shop(0..50)).await;
    world.define(declared()).await.unwrap();
    world.caught_up().await;
    let sound = world.projections.verify(&ME, &name()).await.unwrap();
    assert_eq!((sound.equal, sound.events), (true, 67));
    world.tamper("UPDATE orders SET total = total + 1 WHERE id = 'order-17'");
    let found = world.projections.verify(&ME, &name()).await.unwrap();
    let unequal: Vec<_> = found.tables.iter().filter(|table| !table.equal).collect();
    assert_eq!(
        (found.equal, unequal.len(), unequal[0].table.as_str()),
        (false, 1, "orders")
    );
    let (live, folded) = (
        unequal[0].live.as_ref().unwrap(),
        unequal[0].folded.as_ref().unwrap(),
    );
    assert_eq!(live.rows, folded.rows);
    assert_ne!(live.digest, folded.digest);
    assert!(!world.file("orders.db.verify").exists());
    world.projections.rebuild(&ME, &name()).await.unwrap();
    world.until("rebuilt", |status| status.rebuilds == 1).await;
    world.caught_up().await;
    assert!(world.projections.verify(&ME, &name()).await.unwrap().equal);
}

#[tokio::test]
async fn hostile_statements_are_refused_before_they_are_kept() {
    let world = World::new().await;
    let outside = world.file("stolen.db");
    let refused = |pointer: &'static str, sql: String| {
        let define = world.define(changed(pointer, json!(sql)));
        async move { define.await.expect_err(&sql).message }
    };
    for sql in [
        format!("ATTACH '{}' AS x", outside.display()),
        format!("VACUUM INTO '{}'", outside.display()),
        "PRAGMA journal_mode = OFF".into(),
        "CREATE TEMP TABLE t (x)".into(),
        "CREATE VIRTUAL TABLE t USING fts5(x)".into(),
        "CREATE TABLE mente_x (x)".into(),
        "DROP TABLE mente_checkpoint".into(),
        "UPDATE mente_checkpoint SET next_offset = 9".into(),
        "CREATE TABLE x AS SELECT random() AS r".into(),
        "CREATE TABLE x (t DEFAULT CURRENT_TIMESTAMP)".into(),
        "COMMIT".into(),
        "CREATE TABLE x (y); CREATE TABLE z (y)".into(),
    ] {
        let message = refused("/init/0", sql.clone()).await;
        assert!(message.len() > 20, "{sql}: {message}");
    }
    for sql in [
        "SELECT load_extension('x')",
        "INSERT INTO counts VALUES (load_extension('x'), 1)",
        "INSERT INTO counts SELECT name, 1 FROM sqlite_schema",
        "INSERT INTO counts SELECT projection, 1 FROM mente_checkpoint",
        "INSERT INTO counts VALUES (hex(randomblob(4)), 1)",
        "INSERT INTO counts VALUES (datetime('now'), 1)",
        "INSERT INTO counts SELECT name, 1 FROM pragma_database_list",
        "INSERT INTO counts SELECT name, pgno FROM dbstat",
        "DELETE FROM mente_projection",
        "DROP TABLE orders",
        "COMMIT",
        "SAVEPOINT a",
        "SELECT 1",
        "INSERT INTO counts VALUES (:typo, 1)",
        "INSERT INTO counts VALUES (?1, 1)",
        "INSERT INTO counts VALUES (:id, 1) RETURNING n",
        "INSERT INTO count VALUES (:id, 1)",
        "",
    ] {
        let message = refused("/on/OrderPlaced/0", sql.into()).await;
        assert!(message.len() > 20, "{sql}: {message}");
    }
    assert!(world.projections.list(&ME).unwrap().is_empty());
    world.define(declared()).await.unwrap();
    world.publish(shop(0..3)).await;
    world.caught_up().await;
    for sql in [
        format!("ATTACH '{}' AS x", outside.display()),
        format!("VACUUM INTO '{}'", outside.display()),
        "DELETE FROM orders".into(),
        "PRAGMA query_only = 0".into(),
        "SELECT load_extension('x')".into(),
        "SELECT 1; SELECT 2".into(),
        "SELECT :id".into(),
        "BEGIN".into(),
    ] {
        assert_eq!(world.query(&sql).await.expect_err(&sql).kind, Kind::Invalid);
    }
    assert!(!outside.exists());
}

#[tokio::test]
async fn endless_statements_end() {
    let world = World::new().await;
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)";
    let sql = format!("INSERT INTO counts {endless} SELECT 'n', count(*) FROM n");
    world
        .define(changed("/on/OrderPlaced/1", json!(sql)))
        .await
        .unwrap();
    world.publish(shop(1..2)).await;
    let status = world
        .until("failed", |status| status.state == State::Failed)
        .await;
    assert!(status.error.unwrap().message.contains("too long"));
    let error = world
        .query(&format!("{endless} SELECT count(*) FROM n"))
        .await
        .unwrap_err();
    assert!(error.message.contains("too long"), "{error}");
}

#[tokio::test]
async fn files_belong_to_one_projection_and_go_with_it() {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    let other = EntityName::new("other").unwrap();
    let taken = world
        .projections
        .define(&ME, &other, declared())
        .await
        .unwrap_err();
    assert_eq!(taken.kind, Kind::Conflict);
    // Declared behind the service's back, it finds out by itself.
    world
        .broker
        .define(&ME, Definition::Projection, &other, json!({"on": 1}))
        .await
        .unwrap();
    let mut looks = 0..500;
    loop {
        let found = world.projections.status(&ME, &other).await;
        if found.as_ref().is_ok_and(|s| s.state == State::Failed) {
            break;
        }
        assert!(looks.next().is_some(), "never found: {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let missing = world.until("waits", |status| status.error.is_some()).await;
    assert_eq!(missing.state, State::Running, "the topic may come yet");
    world.publish(shop(0..4)).await;
    world.caught_up().await;
    assert!(world.file("orders.db").exists());
    world.projections.undefine(&ME, &name()).await.unwrap();
    assert!(!world.file("orders.db").exists());
    let error = world.projections.status(&ME, &name()).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
}

#[tokio::test]
async fn a_topic_made_anew_is_folded_anew() {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    world.publish(shop(0..9)).await;
    world.caught_up().await;
    world.broker.delete_topic(&ME, &topic()).await.unwrap();
    world.publish(shop(0..2)).await;
    world.until("rebuilt", |status| status.rebuilds == 1).await;
    world.caught_up().await;
    assert_eq!(
        json!(world.query("SELECT count(*) FROM orders").await.unwrap()),
        json!([[2]])
    );
}

/// Whoever looks at the database while it is written, or has it as a crash left it, sees rows
/// that are the fold of exactly what the checkpoint says. Gives how often he saw anything else.
async fn torn_views() -> u32 {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    world.publish(shop(0..1)).await;
    world.caught_up().await;
    let file = world.file("orders.db");
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watcher = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let connection = Connection::open_with_flags(file, flags).unwrap();
            connection.busy_timeout(Duration::from_secs(5)).unwrap();
            // One statement sees one moment.
            let both =
                "SELECT (SELECT sum(n) FROM counts), (SELECT sum(applied) FROM mente_checkpoint)";
            let (mut looks, mut torn) = (0, 0);
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let seen = connection.query_row(both, [], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
                });
                let (rows, applied) = seen.unwrap();
                looks += 1;
                torn += u32::from(rows != applied);
            }
            assert!(looks > 10, "it was hardly looked at: {looks}");
            torn
        })
    };
    for round in 0..30 {
        world
            .publish(shop(round * 100 + 1..round * 100 + 101))
            .await;
        world.caught_up().await;
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    watcher.join().unwrap()
}

#[cfg(not(feature = "planted"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_checkpoint_are_one_at_every_moment() {
    assert_eq!(torn_views().await, 0);
}

/// The same look finds the bug that it is for.
#[cfg(feature = "planted")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_before_its_rows_is_found() {
    use mente_server::projection::planted::plant;
    assert_eq!(torn_views().await, 0, "without the bug");
    plant(true);
    let torn = torn_views().await;
    plant(false);
    assert!(torn > 0, "the planted bug was not found");
}
