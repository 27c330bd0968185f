//! Rows that were live before: gone back to at once, in SQLite and in PostgreSQL; and rebuilt rows that wait.

use mente_broker::Kind;
use mente_server::projection::State;
use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::views::{ME, World, name, shop};

/// How the rows are asked from outside.
enum Rows<'a> {
    File,
    Outside(&'a Postgres),
}

impl Rows<'_> {
    /// Of which version the totals are, `times` those of the events, and how many orders there are.
    fn declared(&self, times: u64) -> Value {
        let (total, place, key) = match self {
            Rows::File => (
                "json_extract(:data, '$.total')",
                json!("orders.db"),
                "database",
            ),
            Rows::Outside(postgres) => (
                "(:data ->> 'total')::integer",
                json!({"postgres": postgres.url(), "schema": "orders"}),
                "target",
            ),
        };
        let insert = format!("INSERT INTO orders VALUES (:subject, {times} * {total})");
        let mut declared = json!({
            "source": {"topic": "orders"},
            "init": ["CREATE TABLE orders (id TEXT PRIMARY KEY, total INTEGER)"],
            "on": {"OrderPlaced": [insert]},
        });
        declared[key] = place;
        declared
    }

    async fn sums(&self, world: &World) -> (u64, u64) {
        match self {
            Rows::File => {
                let asked = "SELECT count(*), coalesce(sum(total), 0) FROM orders";
                let rows = world.query(asked).await.unwrap();
                (rows[0][0].as_u64().unwrap(), rows[0][1].as_u64().unwrap())
            }
            Rows::Outside(postgres) => {
                let asked = "SELECT count(*), coalesce(sum(total), 0) FROM orders.orders";
                let told = postgres.ask(asked);
                let (count, sum) = told.split_once('|').unwrap();
                (count.parse().unwrap(), sum.parse().unwrap())
            }
        }
    }

    async fn tamper(&self, world: &World) {
        match self {
            Rows::File => world.tamper("UPDATE orders SET total = total + 1 WHERE id = 'order-5'"),
            Rows::Outside(postgres) => {
                postgres.ask("UPDATE orders.orders SET total = total + 1 WHERE id = 'order-5'");
            }
        }
    }

    /// Waits until there are so many orders, and holds the rows to be of this version.
    async fn are(&self, world: &World, orders: u64, times: u64) {
        world.caught_up_slowly().await;
        let total: u64 = (0..orders).map(|id| id * 10 * times).sum();
        let mut looks = 0..500;
        while self.sums(world).await != (orders, total) {
            assert!(looks.next().is_some(), "{:?}", self.sums(world).await);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        world.caught_up_slowly().await;
        let verified = world.projections.verify(&ME, &name()).await.unwrap();
        assert!(verified.equal, "{verified:?}");
    }
}

/// What is live at any moment is whole: one version, and no fewer orders than there were.
async fn is_whole(rows: &Rows<'_>, world: &World, least: u64) {
    let (orders, total) = rows.sums(world).await;
    let one: u64 = (0..orders).map(|id| id * 10).sum();
    assert!(
        orders >= least && (total == one || total == 2 * one),
        "{orders}: {total}"
    );
}

async fn back_and_forth(mut world: World, rows: Rows<'_>) {
    let none =
        |error: mente_broker::Error| (error.kind, error.message.contains("nothing to go back to"));
    world.publish(shop(0..30)).await;
    world.define(rows.declared(1)).await.unwrap();
    rows.are(&world, 30, 1).await;
    let refused = world.projections.roll_back(&ME, &name()).await.unwrap_err();
    assert_eq!(none(refused), (Kind::Conflict, true));
    assert!(world.status().await.kept.is_none());
    world.define(rows.declared(2)).await.unwrap();
    world.until("rebuilt", |s| s.rebuilds == 1).await;
    rows.are(&world, 30, 2).await;
    let kept = world
        .until("kept", |s| s.kept.is_some())
        .await
        .kept
        .unwrap();
    assert_eq!((kept.applied, kept.is_other_declaration), (30, true));
    assert!(
        kept.bytes > 0 && kept.partitions[0].next_offset > 0,
        "{kept:?}"
    );
    // What was published since then is not in the kept rows yet.
    world.publish(shop(30..40)).await;
    rows.are(&world, 40, 2).await;
    for round in 0..4 {
        world.projections.roll_back(&ME, &name()).await.unwrap();
        for _ in 0..5 {
            is_whole(&rows, &world, 30).await;
        }
        if round % 2 == 1 {
            world = world.crash().await;
        }
        rows.are(&world, 40, 1 + round % 2).await;
        assert_eq!(world.status().await.rebuilds, 0, "nothing is folded anew");
        let listed = world.projections.list(&ME).unwrap();
        let expect = rows.declared(1 + round % 2);
        assert_eq!(listed[0].1, expect, "what is declared is what is live");
    }
    // Of the same declaration too.
    rows.tamper(&world).await;
    let tampered = rows.sums(&world).await;
    world.projections.rebuild(&ME, &name()).await.unwrap();
    world.until("rebuilt", |s| s.rebuilds == 1).await;
    rows.are(&world, 40, 2).await;
    let kept = world.until("kept", |s| {
        s.kept.as_ref().is_some_and(|k| !k.is_other_declaration)
    });
    assert_eq!(kept.await.kept.unwrap().applied, 40);
    world.projections.roll_back(&ME, &name()).await.unwrap();
    let mut looks = 0..500;
    while rows.sums(&world).await != tampered {
        assert!(looks.next().is_some(), "not gone back");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    world.caught_up().await;
    assert!(!world.projections.verify(&ME, &name()).await.unwrap().equal);
    world.projections.roll_back(&ME, &name()).await.unwrap();
    rows.are(&world, 40, 2).await;
    world.projections.undefine(&ME, &name()).await.unwrap();
    match &rows {
        Rows::File => {
            let left = std::fs::read_dir(world.file("")).unwrap();
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        Rows::Outside(postgres) => {
            let asked = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'orders%'";
            assert_eq!(postgres.ask(asked), "0");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_before_is_gone_back_to() {
    back_and_forth(World::new().await, Rows::File).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_before_is_gone_back_to() {
    let postgres = Postgres::start();
    back_and_forth(World::new().await, Rows::Outside(&postgres)).await;
}

async fn waits(mut world: World, rows: Rows<'_>) {
    let mut first = rows.declared(1);
    first["switch"] = json!("manual");
    let mut second = rows.declared(2);
    second["switch"] = json!("manual");
    world.publish(shop(0..10)).await;
    world.define(first).await.unwrap();
    rows.are(&world, 10, 1).await;
    let refused = world.projections.switch(&ME, &name()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict);
    world.define(second).await.unwrap();
    world
        .until("ready", |s| s.ready && s.state == State::Rebuilding)
        .await;
    let refused = world.projections.roll_back(&ME, &name()).await.unwrap_err();
    assert!(refused.message.contains("no earlier rows"), "{refused}");
    world = world.crash().await;
    world.publish(shop(10..20)).await;
    let ready = world.until("ready again", |s| {
        let side = s.rebuild.as_ref().and_then(|side| side.first());
        s.ready && side.is_some_and(|side| side.next_offset == side.end && side.applied == 20)
    });
    ready.await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(world.status().await.rebuilds, 0, "it waits");
    // Meanwhile the rows that are live go on too, as they were declared.
    rows_go_on(&rows, &world, 20).await;
    world.projections.switch(&ME, &name()).await.unwrap();
    world
        .until("switched", |s| s.rebuilds == 1 && !s.ready)
        .await;
    rows.are(&world, 20, 2).await;
    world.projections.rebuild(&ME, &name()).await.unwrap();
    // Said before it is ready: as soon as it can.
    world.projections.switch(&ME, &name()).await.unwrap();
    world.until("switched", |s| s.rebuilds == 2).await;
    rows.are(&world, 20, 2).await;
    // Another way to switch makes no other rows.
    world.define(rows.declared(2)).await.unwrap();
    rows.are(&world, 20, 2).await;
    assert_eq!(world.status().await.rebuilds, 0);
}

async fn rows_go_on(rows: &Rows<'_>, world: &World, orders: u64) {
    let total: u64 = (0..orders).map(|id| id * 10).sum();
    let mut looks = 0..500;
    while rows.sums(world).await != (orders, total) {
        assert!(looks.next().is_some(), "{:?}", rows.sums(world).await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_file_waits_until_it_is_told() {
    waits(World::new().await, Rows::File).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_schema_waits_until_it_is_told() {
    let postgres = Postgres::start();
    waits(World::new().await, Rows::Outside(&postgres)).await;
}

/// Somebody's view would show the other rows without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_on_the_rows_keeps_them_where_they_are() {
    let postgres = Postgres::start();
    let (world, rows) = (World::new().await, Rows::Outside(&postgres));
    world.publish(shop(0..10)).await;
    world.define(rows.declared(1)).await.unwrap();
    rows.are(&world, 10, 1).await;
    rows.tamper(&world).await;
    let tampered = rows.sums(&world).await;
    world.projections.rebuild(&ME, &name()).await.unwrap();
    world.until("rebuilt", |s| s.rebuilds == 1).await;
    rows.are(&world, 10, 1).await;
    let before = rows.sums(&world).await;
    postgres.ask("CREATE VIEW public.mine AS SELECT id FROM orders.orders");
    world.projections.roll_back(&ME, &name()).await.unwrap();
    let waits = world.until("waits", |s| s.error.is_some()).await;
    let error = waits.error.unwrap();
    assert!(
        error.retry && error.message.contains("public.mine"),
        "{error:?}"
    );
    assert_eq!(rows.sums(&world).await, before);
    postgres.ask("DROP VIEW public.mine");
    let mut looks = 0..1_000;
    while rows.sums(&world).await != tampered {
        assert!(looks.next().is_some(), "not gone back");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.caught_up_slowly().await;
}
