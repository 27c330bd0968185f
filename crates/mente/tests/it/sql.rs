//! SQL over events, states and read models: held against a plain SQLite table of everything that the store
//! answers, and against folds of the test's own.

use std::collections::{BTreeMap, BTreeSet};

use mente::client::Client;
use mente_engine::limits;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::server::{Server, eventually, parsed};
use crate::verbs::{mente, ok};

const TYPES: [&str; 4] = ["Opened", "Paid", "Shipped", "Closed"];
const CATEGORIES: [&str; 3] = ["order", "cart", "account"];

/// Appends to streams of the store, all of these at once; the last position.
async fn append(server: &Server, events: &[(String, Value)]) -> u64 {
    let told: Vec<_> = events
        .iter()
        .map(|(stream, event)| json!({"stream": stream, "event": event}))
        .collect();
    let body = json!({ "events": told }).to_string();
    let answer = server.ok("POST", "/store/events", &body).await;
    answer["lastPosition"].as_u64().unwrap()
}

fn event(id: u64, kind: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": format!("e{id}"), "source": "/t", "type": kind, "data": data})
}

/// Events of several streams, types, tags and causes, drawn from a seed.
async fn fill(server: &Server, count: u64, random: &mut fastrand::Rng) {
    let mut events = Vec::new();
    for id in 0..count {
        let mut event = event(
            id,
            TYPES[random.usize(..4).min(random.usize(..4))],
            json!({"n": id % 17}),
        );
        if id > 0 && random.bool() {
            event["causationid"] = json!(format!("e{}", random.u64(..id)));
        }
        event["correlationid"] = json!(format!("c{}", random.u64(..6)));
        if random.bool() {
            event["subject"] = json!(format!("s{}", random.u64(..5)));
        }
        let tags: Vec<_> = ["red", "big", "redder"]
            .into_iter()
            .filter(|_| random.bool())
            .collect();
        if !tags.is_empty() {
            event["tags"] = json!(tags.join(","));
        }
        let stream = format!("{}-{}", CATEGORIES[random.usize(..3)], random.u64(..6));
        events.push((stream, event));
        if random.u64(..4) == 0 {
            append(server, &std::mem::take(&mut events)).await;
        }
    }
    if !events.is_empty() {
        append(server, &events).await;
    }
}

/// All events of the store, as documents.
async fn all(server: &Server) -> Vec<Value> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let page = server
            .ok("GET", &format!("/store/events?from={from}"), "")
            .await;
        found.extend(page["events"].as_array().unwrap().iter().cloned());
        match page.get("next").and_then(Value::as_u64) {
            Some(next) => from = next,
            None => return found,
        }
    }
}

/// A plain table of those, which knows nothing of Mente.
fn plain(events: &[Value]) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "CREATE TABLE events (position INTEGER, stream TEXT, revision INTEGER, category TEXT, type TEXT,
                 id TEXT, subject TEXT, correlationid TEXT, causationid TEXT, tags TEXT, appended TEXT,
                 appended_ms INTEGER, data TEXT)",
        )
        .unwrap();
    let flags = FunctionFlags::SQLITE_UTF8;
    connection
        .create_scalar_function("has_tag", 2, flags, |call| {
            let (tags, tag) = (call.get::<Option<String>>(0)?, call.get::<String>(1)?);
            Ok(tags.map(|tags| tags.split(',').any(|there| there == tag)))
        })
        .unwrap();
    for told in events {
        let event = &told["event"];
        let text = |of: &Value, name: &str| of[name].as_str().map(str::to_owned);
        let stream = told["stream"].as_str().unwrap();
        let appended = told["appended"].as_str().unwrap();
        let ms = appended
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_millisecond();
        let insert =
            "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let row = rusqlite::params![
            told["position"].as_i64(),
            stream,
            told["revision"].as_i64(),
            stream.split('-').next(),
            text(event, "type"),
            text(event, "id"),
            text(event, "subject"),
            text(event, "correlationid"),
            text(event, "causationid"),
            text(event, "tags"),
            appended,
            ms,
            event["data"].to_string(),
        ];
        connection.execute(insert, row).unwrap();
    }
    connection
}

fn rows(connection: &rusqlite::Connection, sql: &str) -> Vec<Value> {
    let mut statement = connection
        .prepare(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let count = statement.column_count();
    let mut found = statement.raw_query();
    let mut rows = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let value = |index| match row.get_ref(index).unwrap() {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(integer) => integer.into(),
            ValueRef::Real(real) => real.into(),
            ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap().into(),
            ValueRef::Blob(_) => panic!("{sql}: a blob"),
        };
        rows.push((0..count).map(value).collect());
    }
    rows
}

async fn ask(server: &Server, parameters: &str, sql: &str) -> (u16, Value) {
    let body = json!({"sql": sql, "limit": 10_000}).to_string();
    let answer = server
        .call("POST", &format!("/sql{parameters}"), &body)
        .await;
    (answer.status, parsed(&answer))
}

async fn asked(server: &Server, sql: &str) -> Value {
    let (status, answer) = ask(server, "", sql).await;
    assert_eq!(status, 200, "{sql}: {answer}");
    answer
}

async fn refused(server: &Server, parameters: &str, sql: &str, status: u16, says: &str) {
    let (found, answer) = ask(server, parameters, sql).await;
    assert_eq!(found, status, "{sql}: {answer}");
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(says), "{sql}: {message}");
}

fn sorted(rows: &[Value]) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// A condition on the columns of `events`, qualified so.
fn condition(of: &str, count: i64, random: &mut fastrand::Rng, depth: u32) -> String {
    if depth > 0 && random.u32(..3) > 0 {
        let (left, right) = (
            condition(of, count, random, depth - 1),
            condition(of, count, random, depth - 1),
        );
        return match random.u32(..8) {
            0 => format!("({left} OR {right})"),
            1 => format!("{left} OR {right}"),
            2 => format!("NOT ({left} AND {right})"),
            3 => format!("NOT {left} AND {right}"),
            4 => format!("({left}) AND ({right})"),
            _ => format!("{left} AND {right}"),
        };
    }
    let kind = TYPES[random.usize(..4)];
    let other = TYPES[random.usize(..4)];
    let category = CATEGORIES[random.usize(..3)];
    let stream = format!("{category}-{}", random.u64(..7));
    let (low, high) = (random.i64(-3..count + 5), random.i64(0..count + 5));
    match random.u32(..24) {
        0 | 1 => format!("{of}type = '{kind}'"),
        2 => format!("'{kind}' == {of}Type"),
        3 => format!("{of}type IN ('{kind}', '{other}')"),
        4 => format!("{of}type NOT IN ('{kind}')"),
        5 => format!("{of}category = '{category}'"),
        6 | 7 => format!("{of}stream = '{stream}'"),
        8 => format!("{of}stream IN ('{stream}', 'cart-1', 'nobody-1', '')"),
        9 => format!("{of}position > {low}"),
        10 => format!("{of}position <= {high}"),
        11 => format!("{of}position BETWEEN {low} AND {high}"),
        12 => format!("{high} >= {of}position"),
        13 => format!("{of}correlationid = 'c{}'", random.u32(..7)),
        14 => format!("{of}causationid IN ('e1', 'e{high}')"),
        15 => format!("has_tag({of}tags, 'red')"),
        16 => format!("NOT has_tag({of}tags, 'big')"),
        17 => format!("{of}type = '{}' COLLATE NOCASE", kind.to_lowercase()),
        18 => format!("{of}type || '' = '{kind}'"),
        19 => format!("{of}subject IS NULL"),
        20 => format!("CASE WHEN {of}position > {low} AND 1 OR 0 THEN {of}type END = '{kind}'"),
        21 => format!("{of}data ->> '$.n' < {}", random.u32(..17)),
        22 => format!("{of}\"type\" <> '{kind}' /* OR {of}type = '{other}' */"),
        _ => format!("{of}id = 'e{high}'"),
    }
}

fn statement(count: i64, random: &mut fastrand::Rng) -> String {
    let mut of = |of: &str| condition(of, count, random, 3);
    let (plain, a, b, sub) = (of(""), of("a."), of("b."), of("events."));
    match random.u32(..12) {
        0 | 1 => format!("SELECT position, type, stream, revision FROM events WHERE {plain}"),
        2 => format!(
            "SELECT type, count(*), sum(revision) FROM events WHERE {plain} GROUP BY type HAVING count(*) > 1"
        ),
        3 | 4 => {
            let (limit, offset) = (random.u32(..40), random.u32(..20));
            let way = if random.bool() { "DESC" } else { "ASC" };
            format!(
                "SELECT position, upper(type) FROM events WHERE {plain} ORDER BY position {way} LIMIT {limit} OFFSET {offset}"
            )
        }
        5 => format!(
            "SELECT a.position, b.position FROM events a JOIN events b ON a.id = b.causationid WHERE {a} AND {b}"
        ),
        6 => format!(
            "SELECT a.position, b.type FROM events a LEFT JOIN events b ON a.id = b.causationid AND b.type = 'Paid' WHERE {a}"
        ),
        7 => format!(
            "SELECT a.position, b.type FROM events a LEFT JOIN events b ON a.id = b.causationid WHERE {b}"
        ),
        8 => format!(
            "SELECT position, (SELECT count(*) FROM events b WHERE b.causationid = events.id AND {b}) FROM events WHERE {sub}"
        ),
        9 => format!(
            "SELECT position FROM events WHERE {plain} UNION ALL SELECT -position FROM events a WHERE {a}"
        ),
        10 => format!(
            "WITH a AS (SELECT * FROM events WHERE {plain}) SELECT a.type, max(a.position) FROM a WHERE {a} GROUP BY 1"
        ),
        _ => format!(
            "SELECT count(*) FROM events a WHERE {a} AND EXISTS (SELECT 1 FROM events b WHERE b.correlationid = a.correlationid AND {b})"
        ),
    }
}

#[tokio::test]
async fn answers_are_those_of_a_plain_table_of_all_events() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Server::start();
    fill(&server, 240, &mut random).await;
    let server = server.crash_and_restart();
    let events = all(&server).await;
    let plain = plain(&events);
    let count = events.len() as u64;
    let mut fewer = 0;
    for _ in 0..400 {
        let sql = statement(count as i64, &mut random);
        let answer = asked(&server, &sql).await;
        let found = answer["rows"].as_array().unwrap();
        assert_eq!(sorted(found), sorted(&rows(&plain, &sql)), "{sql}");
        if sql.contains("ORDER BY") {
            assert_eq!(found, &rows(&plain, &sql), "{sql}");
        }
        let looked = answer["looked"]["events"].as_u64().unwrap();
        assert!(looked <= count, "{sql}: {looked}");
        fewer += u64::from(looked < count);
    }
    assert!(
        (80..400).contains(&fewer),
        "{fewer} of 400 looked at fewer events than there are"
    );
}

/// What is looked for by the index is not read beside it: the answer tells how many events were looked at.
#[tokio::test]
async fn conditions_are_pushed_down_to_the_index() {
    let mut random = fastrand::Rng::with_seed(7);
    let server = Server::start();
    fill(&server, 300, &mut random).await;
    let events = all(&server).await;
    let count = |is: &dyn Fn(&Value) -> bool| events.iter().filter(|event| is(event)).count();
    let kind = |event: &Value, kind: &str| event["event"]["type"] == kind;
    let has = |event: &Value, tag: &str| {
        let tags = event["event"]["tags"].as_str().unwrap_or_default();
        tags.split(',').any(|there| there == tag)
    };
    let time = events[250]["appended"].as_str().unwrap();
    let at_or_behind = events
        .iter()
        .position(|e| e["appended"].as_str() >= Some(time))
        .unwrap();
    let in_category = |e: &Value, c: &str| e["stream"].as_str().unwrap().starts_with(c);
    for (sql, looked) in [
        ("type = 'Closed'".to_owned(), count(&|e| kind(e, "Closed"))),
        (
            "type IN ('Closed', 'Paid') AND revision > 3".to_owned(),
            count(&|e| kind(e, "Closed") || kind(e, "Paid")),
        ),
        (
            "category = 'cart' AND type = 'Paid'".to_owned(),
            count(&|e| in_category(e, "cart-") && kind(e, "Paid")),
        ),
        (
            "stream = 'order-3'".to_owned(),
            count(&|e| e["stream"] == "order-3"),
        ),
        (
            "stream IN ('order-3', 'cart-1') AND type = 'Paid'".to_owned(),
            count(&|e| e["stream"] == "order-3" || e["stream"] == "cart-1"),
        ),
        (
            "has_tag(tags, 'red') AND has_tag(tags, 'big')".to_owned(),
            count(&|e| has(e, "red") && has(e, "big")),
        ),
        (
            "correlationid = 'c2' AND type = 'Opened'".to_owned(),
            count(&|e| kind(e, "Opened") && e["event"]["correlationid"] == "c2"),
        ),
        ("position BETWEEN 20 AND 29".to_owned(), 10),
        ("position >= 290 AND position < 295".to_owned(), 5),
        ("type = 'Paid' AND type = 'Closed'".to_owned(), 0),
        ("position < 0".to_owned(), 0),
        (format!("appended >= '{time}'"), 300 - at_or_behind),
        // Not by the index, but right.
        ("type = 'Closed' OR type = 'Paid'".to_owned(), 300),
    ] {
        let answer = asked(&server, &format!("SELECT count(*) FROM events WHERE {sql}")).await;
        assert_eq!(answer["looked"]["events"], json!(looked), "{sql}");
        // The same in words that nothing is read from.
        let whole = asked(
            &server,
            &format!("SELECT count(*) FROM events WHERE ({sql}) IS TRUE"),
        )
        .await;
        assert_eq!(
            (&answer["rows"], &whole["looked"]["events"]),
            (&whole["rows"], &json!(300)),
            "{sql}"
        );
    }
    for (sql, looked) in [
        (
            "SELECT position FROM events ORDER BY position DESC LIMIT 5",
            5,
        ),
        (
            "SELECT * FROM events WHERE type = 'Opened' ORDER BY position LIMIT 5 OFFSET 2",
            7,
        ),
        (
            "SELECT position FROM events WHERE stream = 'order-3' ORDER BY position DESC LIMIT 2",
            2,
        ),
        ("SELECT max(position) FROM events", 300),
    ] {
        let answer = asked(&server, sql).await;
        assert_eq!(answer["looked"]["events"], json!(looked), "{sql}");
    }
    // Of several streams the first ones by position are not those that come first.
    let of_two = "FROM events WHERE stream IN ('order-3', 'cart-1') ORDER BY position DESC LIMIT 6";
    let answer = asked(&server, &format!("SELECT position {of_two}")).await;
    let whole = of_two.replace("')", "') AND 1 OR 0");
    let expected = asked(&server, &format!("SELECT position {whole}")).await;
    assert_eq!(
        (&answer["rows"], &expected["looked"]["events"]),
        (&expected["rows"], &json!(300))
    );
    // Functions of many rows see them all, however few rows are answered.
    for sql in [
        "SELECT count(*) FROM events",
        "SELECT min(position), count(*) FROM events LIMIT 1",
    ] {
        let body = json!({"sql": sql, "limit": 10}).to_string();
        let answer = server.ok("POST", "/sql", &body).await;
        assert!(answer["rows"].to_string().contains("300"), "{answer}");
    }
    let body = json!({"sql": "SELECT type FROM events", "limit": 10}).to_string();
    let answer = server.ok("POST", "/sql", &body).await;
    assert_eq!(
        (
            &answer["truncated"],
            &answer["looked"]["events"],
            &answer["asOf"]
        ),
        (&json!(true), &json!(11), &json!(299))
    );
}

const TOTALS: &str = r#"{"source": {"store": true, "category": "order"},
    "init": ["CREATE TABLE totals (stream TEXT PRIMARY KEY, n INTEGER)"],
    "on": {"Paid": ["INSERT INTO totals VALUES (:stream, 1) ON CONFLICT DO UPDATE SET n = n + 1"]}}"#;

#[tokio::test]
async fn read_models_stand_beside_events() {
    let mut random = fastrand::Rng::with_seed(3);
    let server = Server::start();
    fill(&server, 200, &mut random).await;
    server.ok("PUT", "/projections/sales", TOTALS).await;
    server
        .ok(
            "PUT",
            "/projections/my-sales.2",
            &TOTALS.replace("order", "cart"),
        )
        .await;
    let sql = "SELECT t.stream, t.n, (SELECT count(*) FROM events e WHERE e.type = 'Paid' AND e.stream = t.stream)
        FROM (SELECT * FROM sales.totals UNION ALL SELECT * FROM \"My-Sales.2\".totals) t ORDER BY 1";
    let (status, answer) = ask(&server, "?min-position=199", sql).await;
    assert_eq!(status, 200, "{answer}");
    let plain = plain(&all(&server).await);
    let counted = "SELECT stream, count(*), count(*) FROM events WHERE type = 'Paid' AND category <> 'account' GROUP BY 1 ORDER BY 1";
    assert_eq!(answer["rows"].as_array().unwrap(), &rows(&plain, counted));
    // Without a store's table no event is looked at, and no position is told.
    let answer = asked(&server, "SELECT count(*) FROM sales.totals").await;
    assert_eq!(
        (&answer["looked"], answer.get("asOf")),
        (&json!({"events": 0, "states": 0}), None)
    );
    server.ok("PUT", "/projections/main", TOTALS).await;
    refused(
        &server,
        "",
        "SELECT * FROM main.totals",
        501,
        "mente projection query main",
    )
    .await;
    refused(&server, "", "SELECT * FROM totals", 400, "PROJECTION.TABLE").await;
    refused(
        &server,
        "",
        "SELECT * FROM nobody.totals",
        400,
        "no such table: nobody.totals",
    )
    .await;
    for n in 0..limits::SQL_PROJECTIONS {
        server
            .ok("PUT", &format!("/projections/p{n}"), TOTALS)
            .await;
    }
    let each = |count: usize| {
        (0..count)
            .map(|n| format!("SELECT * FROM p{n}.totals"))
            .collect::<Vec<_>>()
            .join(" UNION ")
    };
    asked(&server, &each(limits::SQL_PROJECTIONS)).await;
    let more = format!(
        "{} UNION SELECT * FROM sales.totals",
        each(limits::SQL_PROJECTIONS)
    );
    refused(&server, "", &more, 413, "at most 10 projections").await;
}

/// Who says what it wrote reads it, at once and every time.
#[tokio::test]
async fn reads_see_the_writes_that_they_name() {
    let server = Server::start();
    server.ok("PUT", "/projections/sales", TOTALS).await;
    for n in 0..60 {
        let position = append(
            &server,
            &[("order-1".to_owned(), event(n, "Paid", json!({})))],
        )
        .await;
        let query = json!({"sql": "SELECT n FROM totals"}).to_string();
        let path = format!("/projections/sales/query?min-position={position}");
        let answer = server.ok("POST", &path, &query).await;
        assert_eq!(answer["rows"], json!([[n + 1]]));
        let (_, answer) = ask(
            &server,
            &format!("?min-position={position}"),
            "SELECT n, (SELECT count(*) FROM events) FROM sales.totals",
        )
        .await;
        assert_eq!(answer["rows"], json!([[n + 1, n + 1]]));
    }
    let began = std::time::Instant::now();
    refused(
        &server,
        "?min-position=60&wait_ms=300",
        "SELECT * FROM sales.totals",
        504,
        "the store has not come to 60 within 300 ms",
    )
    .await;
    assert!(began.elapsed() >= std::time::Duration::from_millis(300));
    // Of topics each partition has offsets.
    let view = json!({"source": {"topic": "clicks"}, "init": ["CREATE TABLE t (id)"], "on": {"test": ["INSERT INTO t VALUES (:id)"]}});
    server
        .ok("PUT", "/topics/clicks", r#"{"partitions":3}"#)
        .await;
    server
        .ok("PUT", "/projections/clicks", &view.to_string())
        .await;
    for n in 0..20 {
        let (partition, offset) = server.publish("clicks", &format!("click {n}"), "1").await;
        let sql = format!("SELECT count(*) FROM clicks.t WHERE id = 'click {n}'");
        let (_, answer) = ask(
            &server,
            &format!("?min-position={partition}:{offset}"),
            &sql,
        )
        .await;
        assert_eq!(answer["rows"], json!([[1]]), "{partition}:{offset}");
    }
    let of_topic = "SELECT * FROM clicks.t";
    refused(
        &server,
        "?min-position=3",
        of_topic,
        400,
        "has no positions",
    )
    .await;
    refused(
        &server,
        "?min-position=0:999&wait_ms=50",
        of_topic,
        504,
        "projection clicks has not come to 0:999",
    )
    .await;
    refused(
        &server,
        "?min-position=0:1",
        "SELECT * FROM sales.totals",
        400,
        "which has positions",
    )
    .await;
    refused(
        &server,
        "?min-position=0:1",
        "SELECT * FROM events",
        400,
        "events have positions",
    )
    .await;
    refused(&server, "?min-position=1", "SELECT 1", 400, "names none").await;
    refused(
        &server,
        "?min-position=x",
        "SELECT * FROM events",
        400,
        "say a position",
    )
    .await;
    refused(
        &server,
        "?wait_ms=5",
        "SELECT * FROM events",
        400,
        "min-position",
    )
    .await;
    refused(
        &server,
        "?min-position=1&wait_ms=999999",
        "SELECT * FROM events",
        400,
        "wait_ms",
    )
    .await;
    let path = "/projections/sales/rebuild?min-position=1";
    assert_eq!(server.call("POST", path, "").await.status, 400);
    // What has stopped is not waited for.
    let broken = json!({"source": {"store": true}, "init": ["CREATE TABLE t (n NOT NULL)"], "on": {"Paid": ["INSERT INTO t VALUES (NULL)"]}});
    server
        .ok("PUT", "/projections/broken", &broken.to_string())
        .await;
    eventually(async || server.ok("GET", "/projections/broken", "").await["state"] == "failed")
        .await;
    refused(
        &server,
        "?min-position=5&wait_ms=20000",
        "SELECT * FROM broken.t",
        409,
        "has stopped before that",
    )
    .await;
}

/// RFC 7386, as the default fold.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.as_object_mut().unwrap().remove(name);
            }
            value => merge(&mut target[name], value),
        }
    }
}

/// The rows of `states` as of a position, folded here.
fn folded(events: &[Value], category: &str, last: u64) -> BTreeMap<String, (u64, u64, Value)> {
    let mut states = BTreeMap::new();
    for told in events
        .iter()
        .take_while(|told| told["position"].as_u64().unwrap() <= last)
    {
        let stream = told["stream"].as_str().unwrap();
        if stream.starts_with(&format!("{category}-")) {
            let state = states.entry(stream.to_owned()).or_insert((0, 0, json!({})));
            (state.0, state.1) = (
                told["revision"].as_u64().unwrap(),
                told["position"].as_u64().unwrap(),
            );
            merge(&mut state.2, &told["event"]["data"]);
        }
    }
    states
}

#[tokio::test]
async fn events_and_states_are_as_of_any_moment() {
    let server = Server::start();
    let mut random = fastrand::Rng::with_seed(11);
    for id in 0..120 {
        let stream = format!("{}-{}", CATEGORIES[random.usize(..2)], random.u64(..4));
        let data = match random.u32(..4) {
            0 => json!({"gone": null, "n": id}),
            1 => json!({"gone": {"deep": id}}),
            2 => json!({"list": [id], "gone": {"other": 1}}),
            _ => json!({"n": {"a": id}}),
        };
        append(&server, &[(stream, event(id, "Set", data))]).await;
    }
    let events = all(&server).await;
    let sql = "SELECT stream, revision, position, state FROM states WHERE category = 'cart' ORDER BY stream";
    let told = |answer: &Value| {
        let rows = answer["rows"].as_array().unwrap().iter();
        let row = |row: &Value| {
            let number = |at: usize| row[at].as_u64().unwrap();
            let state = serde_json::from_str(row[3].as_str().unwrap()).unwrap();
            (
                row[0].as_str().unwrap().to_owned(),
                (number(1), number(2), state),
            )
        };
        rows.map(row)
            .collect::<BTreeMap<String, (u64, u64, Value)>>()
    };
    for last in (0..120).step_by(7).chain([119]) {
        let (status, answer) = ask(&server, &format!("?as_of={last}"), sql).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(told(&answer), folded(&events, "cart", last), "as of {last}");
        assert_eq!(answer["asOf"], json!(last));
        let (_, answer) = ask(
            &server,
            &format!("?as_of={last}"),
            "SELECT count(*), max(position) FROM events",
        )
        .await;
        assert_eq!(answer["rows"], json!([[last + 1, last]]));
    }
    assert_eq!(
        told(&asked(&server, sql).await),
        folded(&events, "cart", 119)
    );
    // A moment is that of the last event that was there by then.
    let time = events[60]["appended"].as_str().unwrap();
    let last = events
        .iter()
        .position(|e| e["appended"].as_str() > Some(time))
        .map_or(119, |behind| behind - 1);
    let (_, answer) = ask(&server, &format!("?as_of={time}"), sql).await;
    assert_eq!(
        (told(&answer), &answer["asOf"]),
        (folded(&events, "cart", last as u64), &json!(last))
    );
    let (_, answer) = ask(
        &server,
        "?as_of=2001-01-01T00:00:00Z",
        "SELECT count(*) FROM events",
    )
    .await;
    assert_eq!((&answer["rows"], answer.get("asOf")), (&json!([[0]]), None));
    // By name, and beside the events that made it.
    let joined = "SELECT e.position, s.state ->> '$.n' FROM states s JOIN events e ON e.stream = s.stream AND e.revision = s.revision
        WHERE s.stream IN ('cart-1', 'order-2') AND e.category IN ('cart', 'order') ORDER BY 1";
    let answer = asked(&server, joined).await;
    assert_eq!(
        (
            answer["rows"].as_array().unwrap().len(),
            &answer["looked"]["states"]
        ),
        (2, &json!(2))
    );
    refused(&server, "", "SELECT * FROM states", 400, "say which").await;
    refused(
        &server,
        "",
        "SELECT * FROM states WHERE stream LIKE 'cart-%'",
        400,
        "say which",
    )
    .await;
    refused(
        &server,
        "?as_of=120",
        "SELECT * FROM events",
        416,
        "beyond the end",
    )
    .await;
    refused(
        &server,
        "?as_of=soon",
        "SELECT * FROM events",
        400,
        "say a position",
    )
    .await;
    refused(&server, "?as_of=3", "SELECT 1", 400, "names neither").await;
    server.ok("PUT", "/projections/sales", TOTALS).await;
    let both = "SELECT * FROM sales.totals, events";
    refused(
        &server,
        "?as_of=3",
        both,
        501,
        "projection sales are those of now",
    )
    .await;
    // What is hidden or deleted has no state; of the past that is no answer.
    server.ok("DELETE", "/streams/cart-0", "").await;
    let without = folded(&events, "cart", 119)
        .into_iter()
        .filter(|(stream, _)| stream != "cart-0");
    assert_eq!(told(&asked(&server, sql).await), without.collect());
    refused(&server, "?as_of=100", sql, 416, "cart-0").await;
}

#[tokio::test]
async fn events_are_shown_as_readers_are_told_them() {
    let server = Server::start();
    append(
        &server,
        &[
            ("a-1".to_owned(), event(0, "Old", json!({"n": 1}))),
            ("a-1".to_owned(), event(1, "Gone", json!({}))),
        ],
    )
    .await;
    append(
        &server,
        &[("a-1".to_owned(), event(2, "Both", json!({"x": 1, "y": 2})))],
    )
    .await;
    for (kind, upcasters) in [
        ("Old", json!([{"rename": {"n": "number"}}, {"type": "New"}])),
        ("Gone", json!("drop")),
        (
            "Both",
            json!({"split": [{"type": "X", "data": {"v": "$.data.x"}}, {"type": "Y", "data": {"v": "$.data.y"}}]}),
        ),
    ] {
        let schema = json!({"version": 2, "upcasters": {"1": upcasters}});
        server
            .ok("PUT", &format!("/schemas/{kind}"), &schema.to_string())
            .await;
    }
    let told = asked(
        &server,
        "SELECT type, position, data FROM events ORDER BY position, type",
    )
    .await;
    let expected = json!([
        ["New", 0, "{\"number\":1}"],
        ["X", 2, "{\"v\":1}"],
        ["Y", 2, "{\"v\":2}"]
    ]);
    assert_eq!(told["rows"], expected);
    for (kind, count) in [("New", 1), ("Old", 0), ("Y", 1), ("Gone", 0), ("Both", 0)] {
        for of in ["", "AND stream = 'a-1'", "AND category = 'a'"] {
            let sql = format!("SELECT count(*) FROM events WHERE type = '{kind}' {of}");
            assert_eq!(
                asked(&server, &sql).await["rows"],
                json!([[count]]),
                "{sql}"
            );
        }
    }
}

/// What a stream hides from its readers is still in the store, by whichever way it is looked for.
#[tokio::test]
async fn what_a_stream_hides_the_store_has() {
    let server = Server::start();
    for n in 0..6 {
        append(
            &server,
            &[("a-1".to_owned(), event(n, "T", json!({"n": n})))],
        )
        .await;
    }
    server
        .ok("PUT", "/streams/a-1/metadata", r#"{"truncateBefore": 4}"#)
        .await;
    for sql in ["stream = 'a-1'", "category = 'a'", "stream || '' = 'a-1'"] {
        let answer = asked(&server, &format!("SELECT count(*) FROM events WHERE {sql}")).await;
        assert_eq!(answer["rows"], json!([[6]]), "{sql}");
    }
    let metadata = asked(&server, "SELECT stream FROM events WHERE stream = '$$a-1'").await;
    assert_eq!(metadata["rows"], json!([["$$a-1"]]));
    let sql = "SELECT revision, state FROM states WHERE category = 'a'";
    assert_eq!(asked(&server, sql).await["rows"], json!([[5, "{\"n\":5}"]]));
    refused(&server, "?as_of=2", sql, 416, "a-1").await;
}

#[tokio::test]
async fn every_column_holds_what_it_says() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("keys");
    std::fs::write(&file, "anna=secret\n").unwrap();
    let server = Server::start_with(&["--keys-file", file.to_str().unwrap()]);
    let client = Client::new(&server.url())
        .unwrap()
        .with_key("secret")
        .unwrap();
    let call = async |path: &str, body: Value| {
        let answer = client
            .request("POST", path, Some("application/json"), body.to_string())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        parsed(&answer)
    };
    let told = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "T", "subject": "u", "time": "2020-01-01T00:00:00Z",
        "datacontenttype": "application/json", "dataschema": "x:y", "correlationid": "c", "causationid": "b", "tags": "p,q",
        "odd": 5, "yes": true, "data": {"a": [1]}});
    let raw = json!({"specversion": "1.0", "id": "2", "source": "/s", "type": "T", "data_base64": "AP8="});
    call(
        "/store/events",
        json!({"events": [{"stream": "a-b-c", "event": told}, {"stream": "a-b-c", "event": raw}]}),
    )
    .await;
    let answer = call("/sql", json!({"sql": "SELECT * FROM events"})).await;
    let names: Vec<&str> = answer["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let of = |row: usize| -> BTreeMap<&str, &Value> {
        names
            .iter()
            .copied()
            .zip(answer["rows"][row].as_array().unwrap())
            .collect()
    };
    let (first, second) = (of(0), of(1));
    for (name, value) in [
        ("position", json!(0)),
        ("stream", json!("a-b-c")),
        ("revision", json!(0)),
        ("category", json!("a")),
        ("type", json!("T")),
        ("id", json!("1")),
        ("source", json!("/s")),
        ("subject", json!("u")),
        ("time", json!("2020-01-01T00:00:00Z")),
        ("datacontenttype", json!("application/json")),
        ("dataschema", json!("x:y")),
        ("actor", json!("anna")),
        ("correlationid", json!("c")),
        ("causationid", json!("b")),
        ("tags", json!("p,q")),
        ("data", json!("{\"a\":[1]}")),
    ] {
        assert_eq!(first[name], &value, "{name}");
    }
    let extensions: Value = serde_json::from_str(first["extensions"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&extensions["odd"], &extensions["yes"], &extensions["tags"]),
        (&json!(5), &json!(true), &json!("p,q"))
    );
    let appended: jiff::Timestamp = first["appended"].as_str().unwrap().parse().unwrap();
    assert_eq!(first["appended_ms"], &json!(appended.as_millisecond()));
    assert_eq!(
        (second["data"], second["subject"], second["time"]),
        (&json!("AP8="), &Value::Null, second["appended"])
    );
    let keyless = server.call("POST", "/sql", r#"{"sql":"SELECT 1"}"#).await;
    assert_eq!(keyless.status, 401);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[tokio::test]
async fn the_command_line_asks() {
    let server = Server::start();
    for (n, kind) in ["Opened", "Paid", "Paid"].into_iter().enumerate() {
        append(
            &server,
            &[("order-1".to_owned(), event(n as u64, kind, json!({"n": n})))],
        )
        .await;
    }
    let sql = "SELECT type, count(*) AS n FROM events WHERE category = 'order' GROUP BY type ORDER BY type";
    assert_eq!(
        ok(&server, &["sql", sql]),
        "type    n\nOpened  1\nPaid    2\n"
    );
    assert_eq!(
        ok(&server, &["sql", sql, "--as-of", "1"]),
        "type    n\nOpened  1\nPaid    1\n"
    );
    let answer: Value = serde_json::from_str(&ok(
        &server,
        &["sql", sql, "-o", "json", "--min-position", "2"],
    ))
    .unwrap();
    assert_eq!(answer["looked"], json!({"events": 3, "states": 0}));
    let (code, _, err) = mente(&server, &["sql", "SELECT * FROM events", "--limit", "2"]);
    assert!(code != 0 && err.contains("raise --limit"), "{code} {err}");
    let (code, _, err) = mente(
        &server,
        &[
            "sql",
            "SELECT 1 FROM events",
            "--min-position",
            "9",
            "--wait-ms",
            "50",
        ],
    );
    assert!(
        code != 0 && err.contains("has not come to 9"),
        "{code} {err}"
    );
    server.ok("PUT", "/projections/sales", TOTALS).await;
    let asked = [
        "projection",
        "query",
        "sales",
        "SELECT n FROM totals",
        "--min-position",
        "2",
    ];
    assert_eq!(ok(&server, &asked), "n\n2\n");
}

/// More rows than one part of a file holds.
const EXPORTED: u64 = 120_000;

#[tokio::test]
async fn duckdb_reads_what_is_exported() {
    let mut random = fastrand::Rng::with_seed(5);
    let server = Server::start();
    fill(&server, 150, &mut random).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events.parquet");
    let file = file.to_str().unwrap();
    let sql = "SELECT position, type, stream, appended_ms, data FROM events";
    let said = ok(&server, &["sql", sql, "--parquet", file]);
    assert!(said.ends_with(&format!("bytes in {file}\n")), "{said}");
    let root = workspace();
    let output = std::process::Command::new(python(&root))
        .arg(root.join("tests/python/parquet.py"))
        .args([&server.url(), file])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out == "150 events ok\n",
        "{out}{err}"
    );
    // Rows of several parts of a file.
    let many = format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {EXPORTED}) SELECT x, iif(x % 7, x || '', NULL) AS t FROM n"
    );
    ok(&server, &["sql", &many, "--parquet", file]);
    let ask = format!(
        "import duckdb; print(duckdb.sql(\"SELECT count(*), sum(x), count(t), sum(CAST(t AS BIGINT)) FROM '{file}'\").fetchall()[0])"
    );
    let output = std::process::Command::new(python(&root))
        .args(["-c", &ask])
        .output()
        .unwrap();
    let sevenths: u64 = (1..=EXPORTED).filter(|x| x % 7 == 0).sum();
    let sum = EXPORTED * (EXPORTED + 1) / 2;
    let expected = format!(
        "({EXPORTED}, {sum}, {}, {})\n",
        EXPORTED - EXPORTED / 7,
        sum - sevenths
    );
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{err}");
    let twice = ["sql", "SELECT type, type FROM events", "--parquet", file];
    let (code, _, err) = mente(&server, &twice);
    assert!(
        code == 2 && err.contains("another name by AS"),
        "{code} {err}"
    );
    let much = format!(
        "{} SELECT x FROM n",
        many.split(" SELECT x, iif")
            .next()
            .unwrap()
            .replace(&EXPORTED.to_string(), "600000")
    );
    let (code, _, err) = mente(&server, &["sql", &much, "--parquet", file]);
    assert!(
        code == 2 && err.contains("at most 500000 rows"),
        "{code} {err}"
    );
    ok(&server, &["sql", &much, "--parquet", file, "--limit", "10"]);
}
