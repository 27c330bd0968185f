//! SQL over events: held against a plain SQLite table of everything that the store answers.

use std::collections::{BTreeMap, BTreeSet};

use mente::client::Client;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use crate::server::{Server, parsed};

const TYPES: [&str; 4] = ["Opened", "Paid", "Shipped", "Closed"];
pub(crate) const CATEGORIES: [&str; 3] = ["order", "cart", "account"];

/// Appends to streams of the store, all of these at once; the last position.
pub(crate) async fn append(server: &Server, events: &[(String, Value)]) -> u64 {
    let told: Vec<_> = events
        .iter()
        .map(|(stream, event)| json!({"stream": stream, "event": event}))
        .collect();
    let body = json!({ "events": told }).to_string();
    let answer = server.ok("POST", "/store/events", &body).await;
    answer["lastPosition"].as_u64().unwrap()
}

pub(crate) fn event(id: u64, kind: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": format!("e{id}"), "source": "/t", "type": kind, "data": data})
}

/// Events of several streams, types, tags and causes, drawn from a seed.
pub(crate) async fn fill(server: &Server, count: u64, random: &mut fastrand::Rng) {
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
pub(crate) async fn all(server: &Server) -> Vec<Value> {
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
pub(crate) fn plain(events: &[Value]) -> rusqlite::Connection {
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

pub(crate) fn rows(connection: &rusqlite::Connection, sql: &str) -> Vec<Value> {
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

pub(crate) async fn ask(server: &Server, parameters: &str, sql: &str) -> (u16, Value) {
    let body = json!({"sql": sql, "limit": 10_000}).to_string();
    let answer = server
        .call("POST", &format!("/sql{parameters}"), &body)
        .await;
    (answer.status, parsed(&answer))
}

pub(crate) async fn asked(server: &Server, sql: &str) -> Value {
    let (status, answer) = ask(server, "", sql).await;
    assert_eq!(status, 200, "{sql}: {answer}");
    answer
}

pub(crate) async fn refused(server: &Server, parameters: &str, sql: &str, status: u16, says: &str) {
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

/// SQLite takes a text for a name where it looks for one, and some of its keywords too.
#[tokio::test]
async fn odd_names_change_no_answer() {
    let mut random = fastrand::Rng::with_seed(11);
    let server = Server::start();
    fill(&server, 120, &mut random).await;
    let plain = plain(&all(&server).await);
    for sql in [
        "SELECT count(*) FROM 'events'",
        "SELECT count(*) FROM \u{feff}events",
        "SELECT count(*) FROM events 'e' WHERE e.type = 'Paid'",
        "SELECT count(*) FROM events e, (SELECT 1 AS window) h WHERE e.type='Paid' AND h.window = 2 OR e.position >= 0",
        "SELECT count(*) FROM events e, (SELECT 1 AS end) t WHERE CASE WHEN t.end AND e.type='Paid' AND 1 THEN 1 ELSE 1 END",
        "SELECT stream, revision AS 'position' FROM events ORDER BY position DESC, stream LIMIT 5",
        "SELECT revision AS 'position' FROM events ORDER BY position DESC LIMIT 5",
    ] {
        let answer = asked(&server, sql).await;
        assert_eq!(answer["rows"], Value::from(rows(&plain, sql)), "{sql}");
    }
    refused(
        &server,
        "",
        "SELECT count(*) FROM events\0 WHERE type = 'nobody'",
        400,
        "NUL",
    )
    .await;
    let many = format!(
        "SELECT 1 FROM events{} WHERE {} 1",
        ",events".repeat(4_000),
        "a=1 AND ".repeat(4_000)
    );
    refused(&server, "", &many, 400, "FROM clause").await;
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
