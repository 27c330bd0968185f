//! Events that fail, set aside by key: in SQLite and in a real PostgreSQL, against a fold of the test's own.

use std::collections::BTreeMap;
use std::time::Duration;

use mente_broker::Kind;
use mente_engine::Event;
use mente_server::projection::{Held, Position, State, Status};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::views::{ME, World, name, order, topic};

const KEYS: usize = 5;

/// The second statement fails unless a row of another event is there; then the first one is undone.
fn declared() -> Value {
    json!({
        "source": {"topic": "orders"},
        "database": "orders.db",
        "onError": "park",
        "init": [
            "CREATE TABLE gates (name TEXT PRIMARY KEY, open INTEGER NOT NULL)",
            "INSERT INTO gates VALUES ('always', 1)",
            "CREATE TABLE trails (id TEXT PRIMARY KEY, trail TEXT NOT NULL)",
            "CREATE TABLE notes (id TEXT PRIMARY KEY, open INTEGER NOT NULL)",
        ],
        "on": {
            "Opened": ["INSERT INTO gates VALUES (:data ->> 'gate', 1)"],
            "Walked": [
                "INSERT INTO trails VALUES (:subject, :id)
                 ON CONFLICT (id) DO UPDATE SET trail = trails.trail || ',' || excluded.trail",
                "INSERT INTO notes VALUES (:id, (SELECT open FROM gates WHERE name = :data ->> 'gate'))",
            ],
        },
    })
}

fn declared_outside(postgres: &Postgres) -> Value {
    let mut declared = declared();
    let fields = declared.as_object_mut().unwrap();
    fields.remove("database");
    fields.insert(
        "target".into(),
        json!({"postgres": postgres.url(), "schema": "orders"}),
    );
    fields.insert("parallel".into(), json!(3));
    declared
}

/// Events of every key, in turns; `gate` says which gate the `n`th one of a key needs.
fn walks(from: usize, to: usize, gate: impl Fn(usize, usize) -> &'static str) -> Vec<Event> {
    let one = |n: usize, key: usize| {
        let mut event = order(key, "Walked", json!({"gate": gate(key, n)}));
        event.id = format!("{key}.{n}");
        event
    };
    (from..to)
        .flat_map(|n| (0..KEYS).map(move |key| (n, key)))
        .map(|(n, key)| one(n, key))
        .collect()
}

fn gates(key: usize, n: usize) -> &'static str {
    match (key, n) {
        (2, 6) => "later",
        (4, 2) => "never",
        _ => "always",
    }
}

/// What the rows should be: of each key the events before `stop`, less those that are skipped.
fn trails(
    events: usize,
    stops: &[(usize, usize)],
    skipped: &[(usize, usize)],
) -> BTreeMap<String, String> {
    let stops: BTreeMap<_, _> = stops.iter().copied().collect();
    let of = |key: usize| {
        let end = stops.get(&key).copied().unwrap_or(events);
        let walked = (0..end).filter(|n| !skipped.contains(&(key, *n)));
        let trail: Vec<_> = walked.map(|n| format!("{key}.{n}")).collect();
        (format!("order-{key}"), trail.join(","))
    };
    (0..KEYS).map(of).collect()
}

/// Where the rows of a test are, and how they are asked from outside.
enum Rows<'a> {
    File,
    Outside(&'a Postgres),
}

impl Rows<'_> {
    async fn trails(&self, world: &World) -> BTreeMap<String, String> {
        match self {
            Rows::File => {
                let rows = world.query("SELECT id, trail FROM trails").await.unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                rows.iter()
                    .map(|row| (text(&row[0]), text(&row[1])))
                    .collect()
            }
            Rows::Outside(postgres) => {
                let rows = postgres.ask("SELECT id, trail FROM orders.trails");
                let pair = |line: &str| {
                    let (id, trail) = line.split_once('|').unwrap();
                    (id.to_owned(), trail.to_owned())
                };
                rows.lines().map(pair).collect()
            }
        }
    }

    async fn notes(&self, world: &World) -> u64 {
        match self {
            Rows::File => {
                let rows = world.query("SELECT count(*) FROM notes").await.unwrap();
                rows[0][0].as_u64().unwrap()
            }
            Rows::Outside(postgres) => {
                let count = postgres.ask("SELECT count(*) FROM orders.notes");
                count.parse().unwrap()
            }
        }
    }

    /// Rows, notes and what is told of them fit together.
    async fn hold(&self, world: &World, expect: BTreeMap<String, String>, parked: Held) {
        let status = world.caught_up_slowly().await;
        assert_eq!(self.trails(world).await, expect);
        let walked: usize = expect.values().map(|t| t.split(',').count()).sum();
        assert_eq!(
            self.notes(world).await,
            walked as u64,
            "nothing is half done"
        );
        let told = status.parked.unwrap();
        let bytes = told.bytes;
        assert_eq!(told, Held { bytes, ..parked });
        assert_eq!(bytes > 0, parked.events > 0);
        let verified = world.projections.verify(&ME, &name()).await.unwrap();
        assert!(verified.equal && verified.parked_equal, "{verified:?}");
        assert_eq!(
            (verified.parked, verified.skipped),
            (parked.events, parked.skipped)
        );
    }
}

fn held(keys: u64, events: u64, skipped: u64) -> Held {
    Held {
        events,
        keys,
        bytes: 0,
        skipped,
    }
}

/// The whole life of two events that fail.
async fn live(mut world: World, rows: Rows<'_>, declared: Value) {
    world.broker.create_topic(&ME, &topic(), 3).await.unwrap();
    world.publish(walks(0, 20, gates)).await;
    world.define(declared).await.unwrap();
    let stops = [(2, 6), (4, 2)];
    rows.hold(&world, trails(20, &stops, &[]), held(2, 14 + 18, 0))
        .await;
    // What is parked survives, and holds up what comes behind it.
    world = world.crash().await;
    world.publish(walks(20, 25, gates)).await;
    rows.hold(&world, trails(25, &stops, &[]), held(2, 19 + 23, 0))
        .await;
    let shown = world
        .projections
        .parked(&ME, &name(), None, 1)
        .await
        .unwrap();
    assert!(shown.truncated);
    let shown = world
        .projections
        .parked(&ME, &name(), None, 9)
        .await
        .unwrap();
    assert!(!shown.truncated);
    let keys = shown.keys.unwrap();
    let told: Vec<_> = keys.iter().map(|k| (k.key.as_str(), k.events)).collect();
    assert_eq!(told, [("order-2", 19), ("order-4", 23)]);
    let first = &keys[0].first;
    assert_eq!(
        (first.event_id.as_str(), first.event_type.as_str()),
        ("2.6", "Walked")
    );
    let why = first.error.as_deref().unwrap().to_lowercase();
    assert!(why.contains("open") && why.contains("null"), "{why}");
    assert_eq!(
        first.event.as_ref().unwrap()["data"],
        json!({"gate": "later"})
    );
    let one = Some("order-4".to_owned());
    let one = world
        .projections
        .parked(&ME, &name(), one, 3)
        .await
        .unwrap();
    let ids: Vec<_> = one
        .events
        .unwrap()
        .into_iter()
        .map(|e| (e.event_id, e.error.is_some()))
        .collect();
    assert_eq!(
        ids,
        [
            ("4.2".into(), true),
            ("4.3".into(), false),
            ("4.4".into(), false)
        ]
    );
    // Nothing was mended.
    let retried = world.projections.retry(&ME, &name(), None).await.unwrap();
    assert_eq!((retried.applied, retried.parked.events), (0, 42));
    rows.hold(&world, trails(25, &stops, &[]), held(2, 42, 0))
        .await;
    // An event of another key mends one of them.
    let mut opened = order(77, "Opened", json!({"gate": "later"}));
    opened.id = "opened".into();
    world.publish(vec![opened]).await;
    world.caught_up().await;
    let key = Some("order-2".to_owned());
    let retried = world
        .projections
        .retry(&ME, &name(), key.clone())
        .await
        .unwrap();
    assert_eq!((retried.applied, retried.parked.keys), (19, 1));
    rows.hold(&world, trails(25, &stops[1..], &[]), held(1, 23, 0))
        .await;
    let none = world
        .projections
        .retry(&ME, &name(), key)
        .await
        .unwrap_err();
    assert_eq!(none.kind, Kind::Conflict);
    // Only the first of a key is skipped, by its name.
    let first = Position::parse(&keys[1].first.position).unwrap();
    let Position::Topic { partition, offset } = first else {
        panic!("{first}");
    };
    let second = Position::Topic {
        partition,
        offset: offset + 1,
    };
    let key = || "order-4".to_owned();
    let refused = world
        .projections
        .skip(&ME, &name(), key(), second)
        .await
        .unwrap_err();
    assert!(
        refused.message.contains(&keys[1].first.position),
        "{refused}"
    );
    let skipped = world
        .projections
        .skip(&ME, &name(), key(), first)
        .await
        .unwrap();
    assert_eq!(
        (skipped.applied, skipped.skipped, skipped.parked.events),
        (22, 1, 0)
    );
    world.publish(walks(25, 30, gates)).await;
    world = world.crash().await;
    rows.hold(&world, trails(30, &[], &[(4, 2)]), held(0, 0, 1))
        .await;
    // A rebuild is a fold of its own.
    world.projections.rebuild(&ME, &name()).await.unwrap();
    world.until("rebuilt", |s| s.rebuilds == 1).await;
    world.caught_up_slowly().await;
    // Partitions have no order between them: the gate may be open by now when somebody comes to it.
    let retried = world.projections.retry(&ME, &name(), None).await.unwrap();
    assert!(matches!(retried.applied, 0 | 24), "{retried:?}");
    assert_eq!(retried.parked.events, 28);
    rows.hold(&world, trails(30, &stops[1..], &[]), held(1, 28, 0))
        .await;
    world.projections.undefine(&ME, &name()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_key_that_fails_the_rest_waits_and_other_keys_go_on() {
    live(World::new().await, Rows::File, declared()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_in_postgres_several_keys_at_a_time() {
    let postgres = Postgres::start();
    let declared = declared_outside(&postgres);
    live(World::new().await, Rows::Outside(&postgres), declared).await;
}

/// A database that is away or locked fails every event, and is nobody's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_parks_nothing() {
    let mut postgres = Postgres::start();
    let world = World::new().await;
    world.define(declared_outside(&postgres)).await.unwrap();
    for round in 0..3 {
        let publishing = world.publish(walks(round * 100, round * 100 + 100, gates));
        let kill = async {
            tokio::time::sleep(Duration::from_millis(30 + 40 * round as u64)).await;
            tokio::task::block_in_place(|| postgres.kill());
        };
        tokio::join!(publishing, kill);
        // Something to fail while it is away.
        let more = order(9, "Unrelated", json!(null));
        world.publish(vec![more]).await;
        world.until("away", |s| s.error.is_some()).await;
        tokio::task::block_in_place(|| postgres.start_again());
    }
    let stops = [(2, 6), (4, 2)];
    let rows = Rows::Outside(&postgres);
    rows.hold(&world, trails(300, &stops, &[]), held(2, 294 + 298, 0))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_locked_parks_nothing() {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    world.publish(walks(0, 4, gates)).await;
    world.caught_up().await;
    let somebody = Connection::open(world.file("orders.db")).unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.publish(walks(4, 10, gates)).await;
    let locked = world.until("locked", |s| s.error.is_some()).await;
    assert!(locked.error.unwrap().retry, "it passes by itself");
    assert!(
        locked.lag > 0 && locked.lag_seconds.unwrap() > 1.0,
        "{:?}",
        locked.lag_seconds
    );
    somebody.execute_batch("ROLLBACK").unwrap();
    let stops = [(2, 6), (4, 2)];
    Rows::File
        .hold(&world, trails(10, &stops, &[]), held(2, 4 + 8, 0))
        .await;
    let status = world.caught_up().await;
    assert_eq!((status.lag, status.lag_seconds), (0, Some(0.0)));
}

/// A statement that is none fails for every event: the declaration is to be mended.
#[tokio::test]
async fn what_no_event_is_to_blame_for_stops_it() {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    world.publish(walks(0, 3, |_, _| "always")).await;
    world.caught_up().await;
    let somebody = Connection::open(world.file("orders.db")).unwrap();
    somebody.execute_batch("DROP TABLE notes").unwrap();
    world.publish(walks(3, 4, |_, _| "always")).await;
    let failed = world.until("failed", |s| s.state == State::Failed).await;
    assert_eq!(failed.parked.unwrap(), Held::default());
    drop(somebody);
    let none = "parks nothing";
    let mut stops = declared();
    stops["onError"] = json!("stop");
    world.define(stops).await.unwrap();
    world.caught_up().await;
    let refused = world
        .projections
        .retry(&ME, &name(), None)
        .await
        .unwrap_err();
    assert!(refused.message.contains(none), "{refused}");
    assert_eq!(world.status().await.parked, None);
}

/// A statement may end the transaction that it is in, and the checkpoint with it.
#[tokio::test]
async fn programs_and_statements_that_roll_back() {
    let world = World::new().await;
    let mut rolls = declared();
    rolls["on"]["Walked"][1] = json!(
        "INSERT OR ROLLBACK INTO notes VALUES (:id, (SELECT open FROM gates WHERE name = :data ->> 'gate'))"
    );
    world.publish(walks(0, 10, gates)).await;
    world.define(rolls).await.unwrap();
    let stops = [(2, 6), (4, 2)];
    Rows::File
        .hold(&world, trails(10, &stops, &[]), held(2, 12, 0))
        .await;
    let mut program = declared();
    program.as_object_mut().unwrap().remove("on");
    program["javascript"] = json!(
        "function project({type, id, subject, data}) {
            if (type !== 'Walked') return null;
            if (data.gate === 'never') throw new Error('no such gate');
            return [{sql: \"INSERT INTO trails VALUES (:subject, :id) ON CONFLICT (id) DO UPDATE SET trail = trails.trail || ',' || excluded.trail\", params: {subject, id}},
                    {sql: data.gate === 'later' ? 'INSERT INTO nowhere VALUES (1)' : 'INSERT INTO notes VALUES (:id, 1)', params: {id}}];
        }"
    );
    world.define(program).await.unwrap();
    world.until("rebuilt", |s| s.rebuilds == 1).await;
    Rows::File
        .hold(&world, trails(10, &stops, &[]), held(2, 12, 0))
        .await;
    let shown = world
        .projections
        .parked(&ME, &name(), None, 9)
        .await
        .unwrap();
    let why: Vec<_> = shown
        .keys
        .unwrap()
        .into_iter()
        .map(|k| k.first.error.unwrap())
        .collect();
    assert!(
        why[0].contains("nowhere") && why[1].contains("no such gate"),
        "{why:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_wait_and_no_more() {
    let world = World::new().await;
    world.define(declared()).await.unwrap();
    let of_one = |n: usize| {
        let mut event = order(
            1,
            "Walked",
            json!({"gate": if n == 0 { "never" } else { "always" }}),
        );
        event.id = n.to_string();
        event
    };
    world.publish((0..10_050).map(of_one).collect()).await;
    let full = |status: &Status| status.state == State::Failed;
    let mut looks = 0..600;
    let failed = loop {
        let status = world.status().await;
        if full(&status) {
            break status;
        }
        assert!(looks.next().is_some(), "never full: {status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let parked = failed.parked.unwrap();
    assert!(parked.events <= 10_000, "{parked:?}");
    assert!(failed.error.unwrap().message.contains("as can be"));
    let shown = world
        .projections
        .parked(&ME, &name(), None, 1)
        .await
        .unwrap();
    let first = shown.keys.unwrap().remove(0).first.position;
    let position = Position::parse(&first).unwrap();
    let key = "order-1".to_owned();
    let skipped = world
        .projections
        .skip(&ME, &name(), key, position)
        .await
        .unwrap();
    assert_eq!(
        (skipped.parked.events, skipped.applied),
        (0, parked.events - 1)
    );
    world.caught_up_slowly().await;
    let rows = world.query("SELECT count(*) FROM notes").await.unwrap();
    assert_eq!(json!(rows), json!([[10_049]]));
}

/// Rows that were changed by hand are not called equal because something is parked.
#[tokio::test]
async fn a_changed_row_is_found_beside_what_is_parked() {
    let world = World::new().await;
    world.publish(walks(0, 10, gates)).await;
    world.define(declared()).await.unwrap();
    world.caught_up().await;
    world.tamper("UPDATE trails SET trail = trail || '!' WHERE id = 'order-2'");
    let verified = world.projections.verify(&ME, &name()).await.unwrap();
    assert!(!verified.equal && verified.parked_equal, "{verified:?}");
    world.tamper("UPDATE trails SET trail = rtrim(trail, '!') WHERE id = 'order-2'");
    assert!(world.projections.verify(&ME, &name()).await.unwrap().equal);
    // Nor when something that was parked is gone and not in the rows.
    world.tamper("DELETE FROM mente_parked WHERE event_id = '4.2'");
    let verified = world.projections.verify(&ME, &name()).await.unwrap();
    assert!(!verified.equal && !verified.parked_equal, "{verified:?}");
}
