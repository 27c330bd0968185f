//! Rows in a real PostgreSQL: the same fold, whoever dies, and whoever believes to be the owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mente_broker::{EntityName, Expected, Kind, StreamName};
use mente_server::projection::{Projections, Reach, State};
use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::views::{ME, World, name, order, shop, topic};

/// What `views::declared` says, in PostgreSQL's words.
fn declared(server: &Postgres) -> Value {
    json!({
        "source": {"topic": "orders"},
        "target": {"postgres": server.url(), "schema": "orders"},
        "init": [
            "CREATE TABLE orders (id text PRIMARY KEY, total integer, status text, seen integer)",
            "CREATE INDEX by_status ON orders (status)",
            "CREATE TABLE counts (type text PRIMARY KEY, n bigint)",
        ],
        "on": {
            "OrderPlaced": [
                "INSERT INTO orders VALUES (:subject, (:data ->> 'total')::integer, 'placed', 1)",
                "INSERT INTO counts VALUES (:type, 1) ON CONFLICT (type) DO UPDATE SET n = counts.n + 1",
            ],
            "OrderShipped": [
                "UPDATE orders SET status = 'shipped', seen = seen + 1 WHERE id = :subject",
                "INSERT INTO counts VALUES (:type, 1) ON CONFLICT (type) DO UPDATE SET n = counts.n + 1",
            ],
        },
    })
}

fn changed(server: &Postgres, pointer: &str, to: Value) -> Value {
    let mut declared = declared(server);
    *declared.pointer_mut(pointer).unwrap() = to;
    declared
}

const SUMS: &str = "SELECT count(*), sum(total), sum(seen), count(*) FILTER (WHERE status = 'shipped') FROM orders.orders";

/// What [`SUMS`] says of the orders 0 to `n`, told without any projection.
fn sums(n: u64) -> String {
    let shipped = n.div_ceil(3);
    let total: u64 = (0..n).map(|id| id * 10).sum();
    format!("{n}|{total}|{}|{shipped}", n + shipped)
}

/// Waits until somebody, whoever it is, has brought the rows so far.
async fn until_rows(server: &Postgres, orders: u64) {
    let mut looks = 0..1_000;
    while server.ask(SUMS) != sums(orders) {
        assert!(
            looks.next().is_some(),
            "nobody goes on: {}",
            server.ask(SUMS)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_there_and_each_event_once_whatever_crashes() {
    let server = Postgres::start();
    let mut world = World::new().await;
    world.broker.create_topic(&ME, &topic(), 3).await.unwrap();
    world.publish(shop(0..30)).await;
    world.define(declared(&server)).await.unwrap();
    let status = world.caught_up().await;
    assert_eq!((status.applied, status.partitions.len()), (40, 3));
    assert_eq!(server.ask(SUMS), sums(30));
    for round in 0..10 {
        let before = world.status().await.applied;
        world
            .publish(shop(30 + round * 100..30 + (round + 1) * 100))
            .await;
        if round % 3 == 1 {
            world.until("some progress", |s| s.applied > before).await;
        }
        world = world.crash().await;
    }
    world.caught_up().await;
    assert_eq!(server.ask(SUMS), sums(1_030));
    let counted = "SELECT sum(n) FROM orders.counts";
    let applied = "SELECT sum(applied) FROM orders.mente_checkpoint";
    assert_eq!(server.ask(counted), server.ask(applied));
    let verified = world.projections.verify(&ME, &name()).await.unwrap();
    assert!(verified.equal && verified.events == 1_374, "{verified:?}");
    server.ask("UPDATE orders.orders SET total = total + 1 WHERE id = 'order-17'");
    let tampered = world.projections.verify(&ME, &name()).await.unwrap();
    assert!(!tampered.equal, "a changed row is not found");
    let query = world.query("SELECT 1").await.unwrap_err();
    assert_eq!(query.kind, Kind::Unsupported);
    world.projections.undefine(&ME, &name()).await.unwrap();
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'orders%'";
    assert_eq!(server.ask(schemas), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_die_and_come_back() {
    let mut server = Postgres::start();
    let world = World::new().await;
    world.define(declared(&server)).await.unwrap();
    for round in 0..4 {
        let publishing = world.publish(shop(round * 500..round * 500 + 400));
        let kill = async {
            tokio::time::sleep(Duration::from_millis(60 + 40 * round as u64)).await;
            tokio::task::block_in_place(|| server.kill());
        };
        tokio::join!(publishing, kill);
        world
            .publish(shop(round * 500 + 400..(round + 1) * 500))
            .await;
        let away = world.until("away", |s| s.error.is_some()).await;
        let error = away.error.unwrap();
        assert!(error.retry && away.state == State::Running, "{error:?}");
        tokio::task::block_in_place(|| server.start_again());
    }
    world.caught_up_slowly().await;
    assert_eq!(server.ask(SUMS), sums(2_000));
    assert!(world.projections.verify(&ME, &name()).await.unwrap().equal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_takes_the_place_of_the_rows_in_one_step() {
    let server = Postgres::start();
    let mut world = World::new().await;
    world.publish(shop(0..1_000)).await;
    world.define(declared(&server)).await.unwrap();
    world.caught_up().await;
    world.projections.rebuild(&ME, &name()).await.unwrap();
    while world.status().await.rebuilds == 0 {
        assert_eq!(server.ask(SUMS), sums(1_000), "readers see whole rows");
    }
    for ms in [0, 30, 100, 300] {
        world.projections.rebuild(&ME, &name()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        world = world.crash().await;
        world.caught_up_slowly().await;
        assert_eq!(server.ask(SUMS), sums(1_000), "cut off after {ms} ms");
    }
    // A changed declaration is built beside the old rows, unless somebody's view stands on them.
    server.ask("CREATE VIEW public.mine AS SELECT id FROM orders.orders");
    let doubled =
        "INSERT INTO orders VALUES (:subject, 2 * (:data ->> 'total')::integer, 'placed', 1)";
    let again = changed(&server, "/on/OrderPlaced/0", json!(doubled));
    world.define(again).await.unwrap();
    let waits = world.until("waits", |s| s.error.is_some()).await;
    assert!(waits.error.unwrap().message.contains("public.mine"));
    assert_eq!(server.ask(SUMS), sums(1_000));
    server.ask("DROP VIEW public.mine");
    world.caught_up_slowly().await;
    let total: u64 = (0..1_000).map(|id| id * 20).sum();
    let asked = "SELECT sum(total) FROM orders.orders";
    assert_eq!(server.ask(asked), total.to_string());
    let left = "SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace WHERE nspname LIKE 'orders%'";
    assert_eq!(server.ask(left), "orders,orders__old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_owners_the_later_one_writes() {
    let server = Postgres::start();
    let world = World::new().await;
    world.define(declared(&server)).await.unwrap();
    world.publish(shop(0..10)).await;
    world.caught_up().await;
    // Another server of the same log, with views of its own.
    let directory = tempfile::tempdir().unwrap();
    let second = Projections::open(world.broker.clone(), directory.path()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = second.clone();
    let task = tokio::spawn(async move { running.run(stopped).await });
    let mut looks = 0..1_000;
    loop {
        let status = second.status(&ME, &name()).await.unwrap();
        if let Some(error) = status.error.filter(|e| e.message.contains("stands by")) {
            assert!(error.retry);
            break;
        }
        assert!(looks.next().is_some(), "the second does not stand by");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The owner's term ends behind its back: what it folds then is not committed.
    let term = "UPDATE orders.mente_projection SET term = term + 100 RETURNING term";
    let term: i64 = server.ask(term).parse().unwrap();
    world.publish(shop(10..20)).await;
    until_rows(&server, 20).await;
    let now: i64 = server
        .ask("SELECT term FROM orders.mente_projection")
        .parse()
        .unwrap();
    assert!(now > term, "somebody had to take the rows over: {now}");
    // The owner's sessions end: somebody goes on, and the rows stay a fold.
    for round in 2..6 {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE application_name LIKE 'mente %'";
        server.ask(end);
        world.publish(shop(round * 10..round * 10 + 10)).await;
    }
    until_rows(&server, 60).await;
    stop.send(true).unwrap();
    task.await.unwrap();
    world.caught_up_slowly().await;
    assert!(world.projections.verify(&ME, &name()).await.unwrap().equal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_another_log_stop_it_until_it_is_said_what_to_do() {
    let server = Postgres::start();
    let world = World::new().await;
    world.define(declared(&server)).await.unwrap();
    world.publish(shop(0..50)).await;
    world.caught_up().await;
    let failed = |says: &'static str| {
        let world = &world;
        async move {
            let failed = world.until("failed", |s| s.state == State::Failed).await;
            let message = failed.error.unwrap().message;
            assert!(
                message.contains(says) && message.contains("rebuild"),
                "{message}"
            );
        }
    };
    // Beyond the end, as of a log that was restored from a backup.
    let kept = "SELECT next_offset FROM orders.mente_checkpoint";
    let kept = server.ask(kept);
    server.ask("UPDATE orders.mente_checkpoint SET next_offset = 100000");
    world.projections.resume(&ME, &name()).await.unwrap();
    world.publish(shop(50..51)).await;
    failed("ahead of the log").await;
    server.ask(&format!(
        "UPDATE orders.mente_checkpoint SET next_offset = {kept}"
    ));
    world.projections.resume(&ME, &name()).await.unwrap();
    world.caught_up_slowly().await;
    assert_eq!(server.ask(SUMS), sums(51), "nothing was lost by it");
    // Grown as far, but with other events.
    server.ask("UPDATE orders.mente_checkpoint SET last_time = last_time - 1");
    let world_again = world.crash().await;
    let world = &world_again;
    let stopped = world.until("failed", |s| s.state == State::Failed).await;
    let message = stopped.error.unwrap().message;
    assert!(message.contains("another log"), "{message}");
    world.projections.rebuild(&ME, &name()).await.unwrap();
    world.until("rebuilt", |s| s.rebuilds == 1).await;
    world.caught_up_slowly().await;
    assert_eq!(server.ask(SUMS), sums(51));
    // A topic of the same name.
    world.broker.delete_topic(&ME, &topic()).await.unwrap();
    world.publish(shop(0..3)).await;
    let stopped = world.until("failed", |s| s.state == State::Failed).await;
    let message = stopped.error.unwrap().message;
    assert!(message.contains("another log"), "{message}");
    assert_eq!(server.ask(SUMS), sums(51), "and its rows stay");
    world.projections.rebuild(&ME, &name()).await.unwrap();
    world.until("rebuilt", |s| s.rebuilds == 2).await;
    world.caught_up_slowly().await;
    assert_eq!(server.ask(SUMS), sums(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_fold_is_refused_before_it_is_kept() {
    let server = Postgres::start();
    let world = World::new().await;
    for (pointer, sql, says) in [
        ("/init/0", "COMMIT", "begins with"),
        ("/init/0", "CREATE TABLE orders (id serial)", "rebuild"),
        (
            "/init/0",
            "CREATE TABLE a (b text); CREATE TABLE c (d text)",
            "multiple",
        ),
        ("/init/0", "CREATE TABLE mente_x (a text)", "Mente's own"),
        (
            "/on/OrderPlaced/0",
            "INSERT INTO orders VALUES (now())",
            "rebuild",
        ),
        ("/on/OrderPlaced/0", "COMMIT", "begins with"),
        (
            "/on/OrderPlaced/0",
            "INSERT INTO missing VALUES (:id)",
            "missing",
        ),
        (
            "/on/OrderPlaced/0",
            "INSERT INTO orders VALUES (:typo)",
            "no parameter",
        ),
        (
            "/on/OrderPlaced/0",
            "INSERT INTO orders VALUES (:id) RETURNING id",
            "RETURNING",
        ),
        (
            "/on/OrderPlaced/0",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "answers rows",
        ),
        (
            "/target/postgres",
            "postgres://me:hush@127.0.0.1:1/d",
            "cannot be reached",
        ),
        ("/target/schema", "public", "schema"),
    ] {
        let define = world.define(changed(&server, pointer, json!(sql)));
        let error = define.await.expect_err(sql);
        assert!(error.message.contains(says), "{sql}: {error}");
        assert!(!error.message.contains("hush"), "{error}");
    }
    let mut both = declared(&server);
    both["database"] = json!("x.db");
    assert!(world.define(both).await.is_err());
    assert!(world.projections.list(&ME).unwrap().is_empty());
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'orders%'";
    assert_eq!(server.ask(left), "0", "nothing stays of a check");

    server.ask("CREATE SCHEMA orders; CREATE TABLE orders.precious (a text)");
    world.define(declared(&server)).await.unwrap();
    world.publish(shop(0..1)).await;
    let failed = world.until("failed", |s| s.state == State::Failed).await;
    assert!(
        failed
            .error
            .unwrap()
            .message
            .contains("no projection's rows")
    );
    world.projections.rebuild(&ME, &name()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    world
        .until("failed again", |s| s.state == State::Failed)
        .await;
    world.projections.undefine(&ME, &name()).await.unwrap();
    assert_eq!(
        server.ask("SELECT count(*) FROM orders.precious"),
        "0",
        "it is there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_event_stops_before_it() {
    let server = Postgres::start();
    let world = World::new().await;
    let mut declared = declared(&server);
    declared["target"]["postgres"] = json!(server.url().replace("postgres@", "postgres:hush@"));
    world.define(declared.clone()).await.unwrap();
    let mut events = shop(0..5);
    events.push(order(3, "OrderPlaced", json!({"total": 1})));
    events.extend(shop(5..9));
    world.publish(events).await;
    let status = world.until("failed", |s| s.state == State::Failed).await;
    let error = status.error.clone().unwrap();
    assert_eq!(error.at.as_ref().unwrap().event_id, "OrderPlaced-3");
    assert!(error.message.contains("duplicate key"), "{}", error.message);
    assert_eq!(server.ask(SUMS), sums(5), "all before it is in the rows");
    let shown = serde_json::to_string(&status).unwrap();
    assert!(!shown.contains("hush"), "{shown}");
    let stored = server.ask("SELECT declared FROM orders.mente_projection");
    assert!(!stored.contains("hush"), "{stored}");
    declared["on"]["OrderPlaced"][0] = json!(
        "INSERT INTO orders VALUES (:subject, (:data ->> 'total')::integer, 'placed', 1) ON CONFLICT DO NOTHING"
    );
    world.define(declared).await.unwrap();
    world.caught_up_slowly().await;
    assert_eq!(server.ask(SUMS), sums(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_parallel_stay_in_order() {
    let server = Postgres::start();
    let mut world = World::new().await;
    world.broker.create_topic(&ME, &topic(), 2).await.unwrap();
    // Each event names the one before it with its key: out of order, or twice, it fails.
    let declared = json!({
        "source": {"topic": "orders"},
        "target": {"postgres": server.url(), "schema": "orders"},
        "parallel": 4,
        "init": [
            "CREATE TABLE chain (key text PRIMARY KEY, n integer)",
            "CREATE TABLE seen (key text, n integer, CHECK (n >= 0), PRIMARY KEY (key, n))",
        ],
        "on": {"Step": [
            "INSERT INTO chain VALUES (:subject, 0) ON CONFLICT (key) DO UPDATE
             SET n = CASE WHEN chain.n + 1 = (:data ->> 'n')::integer THEN chain.n + 1 END",
            "INSERT INTO seen SELECT :subject, n FROM chain WHERE key = :subject",
        ]},
    });
    world.define(declared).await.unwrap();
    let (keys, steps) = (40, 60);
    for from in (0..steps).step_by(20) {
        let step = |n: usize| (0..keys).map(move |key| order(key, "Step", json!({"n": n})));
        world
            .publish((from..from + 20).flat_map(step).collect())
            .await;
        world = world.crash().await;
    }
    world.caught_up_slowly().await;
    let all = "SELECT count(*), min(n), max(n) FROM orders.seen";
    assert_eq!(server.ask(all), format!("{}|0|{}", keys * steps, steps - 1));
    let lanes = "SELECT count(DISTINCT lane) FROM orders.mente_checkpoint WHERE applied > 0";
    assert_eq!(server.ask(lanes), "4", "all of them work");
    let verified = world.projections.verify(&ME, &name()).await.unwrap();
    assert!(verified.equal && verified.events == 2_400, "{verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_project_into_both() {
    let server = Postgres::start();
    let world = World::new().await;
    let source = "
        function project(event) {
          if (event.type !== 'Moved') return;
          const params = {id: event.stream, at: event.data.at, n: event.revision, whole: event.data};
          return [
            {sql: 'INSERT INTO places VALUES (:id, :at, 1) ON CONFLICT (id) DO UPDATE SET at = :at, moves = places.moves + 1', params},
            {sql: 'INSERT INTO log VALUES (:id, :n, :whole)', params},
          ];
        }";
    let file = json!({
        "source": {"store": true},
        "database": "places.db",
        "init": ["CREATE TABLE places (id TEXT PRIMARY KEY, at TEXT, moves INTEGER)",
                 "CREATE TABLE log (id TEXT, n INTEGER, whole TEXT)"],
        "javascript": source,
    });
    let mut outside = file.clone();
    outside.as_object_mut().unwrap().remove("database");
    outside["target"] = json!({"postgres": server.url(), "schema": "places"});
    outside["parallel"] = json!(3);
    let other = EntityName::new("places").unwrap();
    world.define(file).await.unwrap();
    world
        .projections
        .define(&ME, &other, outside.clone())
        .await
        .unwrap();
    for n in 0..60 {
        let stream = StreamName::new(format!("box-{}", n % 7)).unwrap();
        let kind = if n % 5 == 0 { "Looked" } else { "Moved" };
        let event = order(n, kind, json!({"at": format!("shelf {n}")}));
        let appended = world
            .broker
            .append_stream(&ME, &stream, Expected::Any, vec![event]);
        appended.await.unwrap();
    }
    world.caught_up().await;
    let rows = world
        .query("SELECT id, at, moves FROM places ORDER BY id")
        .await
        .unwrap();
    let texts: Vec<String> = rows
        .iter()
        .map(|row| {
            row.iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    let mut looks = 0..1_000;
    while server.ask("SELECT count(*) FROM places.log") != "48" {
        assert!(
            looks.next().is_some(),
            "{:?}",
            world.projections.status(&ME, &other).await
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        server.ask("SELECT * FROM places.places ORDER BY id COLLATE \"C\""),
        texts.join("\n")
    );
    for name in [name(), other.clone()] {
        assert!(world.projections.verify(&ME, &name).await.unwrap().equal);
    }
    // Beyond the walls, and wrong in what it returns.
    for (odd, says) in [
        (
            "function project(event) { return {sql: 'COMMIT'} }",
            "begins with",
        ),
        (
            "function project(event) { return {sql: 'INSERT INTO log VALUES (:x)'} }",
            ":x",
        ),
        (
            "function project(event) { return 'INSERT' }",
            "something else",
        ),
        ("function project(event) { Date.now() }", "clock"),
        ("function project(event) { for (;;) {} }", "does not end"),
    ] {
        let mut odd_one = outside.clone();
        odd_one["javascript"] = json!(odd);
        world
            .projections
            .define(&ME, &other, odd_one)
            .await
            .unwrap();
        let mut looks = 0..1_000;
        loop {
            let status = world.projections.status(&ME, &other).await.unwrap();
            if let Some(error) = status.error.filter(|_| status.state == State::Failed) {
                assert!(error.message.contains(says), "{odd}: {}", error.message);
                assert!(error.at.is_some(), "{error:?}");
                break;
            }
            assert!(looks.next().is_some(), "{odd} goes on: {:?}", status.state);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut undeclared = outside;
    undeclared["javascript"] = json!("function reduce() {}");
    let error = world
        .projections
        .define(&ME, &other, undeclared)
        .await
        .unwrap_err();
    assert!(error.message.contains("project(event)"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_leaves_the_rows_alone() {
    let server = Postgres::start();
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let branch = Projections::open_within(world.broker.clone(), directory.path(), Reach::Files);
    let branch = branch.unwrap();
    let error = branch
        .define(&ME, &name(), declared(&server))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
    world.define(declared(&server)).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = branch.clone();
    let task = tokio::spawn(async move { running.run(stopped).await });
    let mut looks = 0..500;
    while branch.status(&ME, &name()).await.unwrap().state != State::Failed {
        assert!(looks.next().is_some(), "it keeps them");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(true).unwrap();
    task.await.unwrap();
}

/// How often somebody who looks sees rows that are not the fold of what the checkpoint says.
async fn torn_views() -> u32 {
    let server = Arc::new(Postgres::start());
    let world = World::new().await;
    world.define(declared(&server)).await.unwrap();
    world.publish(shop(0..1)).await;
    world.caught_up().await;
    let done = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (done, server) = (Arc::clone(&done), Arc::clone(&server));
        std::thread::spawn(move || {
            // One statement sees one moment.
            let both = "SELECT coalesce((SELECT sum(n) FROM orders.counts), 0)
                        - coalesce((SELECT sum(applied) FROM orders.mente_checkpoint), 0)";
            let mut torn = 0;
            while !done.load(Ordering::SeqCst) {
                torn += u32::from(server.ask(both) != "0");
            }
            torn
        })
    };
    for round in 0..30 {
        world
            .publish(shop(round * 100 + 1..round * 100 + 101))
            .await;
        world.caught_up().await;
    }
    done.store(true, Ordering::SeqCst);
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
    plant(true);
    let torn = torn_views().await;
    plant(false);
    assert!(torn > 0, "the planted bug was not found");
}
