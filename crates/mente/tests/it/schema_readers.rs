//! Every way in which an event is read, by every kind of upcaster: all of them tell the same.
//!
//! Each kind has a topic and streams of its own, with three events: one that no schema is about, the one that is
//! told otherwise, and one more. A reader says what it saw as `TYPE:DATA` in the order of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hooks::Hooks;
use crate::server::{Server, eventually, parsed};
use crate::verbs::ok;

/// What is done to the event, and what is told in its place.
struct Kind {
    name: &'static str,
    upcaster: fn(&str) -> Value,
    told: &'static [&'static str],
}

const CHANGED: &[&str] = &[r#"Old:{"customer":"Ann","n":7}"#];
const PARTS: &[&str] = &[r#"Named:{"customer":"Ann"}"#, r#"Old:{"n":7}"#];

const KINDS: [Kind; 6] = [
    Kind {
        name: "declared",
        upcaster: |_| json!([{"rename": {"name": "customer"}}]),
        told: CHANGED,
    },
    Kind {
        name: "program",
        upcaster: |_| {
            json!({"javascript": "function upcast({ data, ...event }) {
                return { ...event, data: { customer: data.name, n: data.n } }
            }"})
        },
        told: CHANGED,
    },
    Kind {
        name: "split",
        upcaster: |kind| {
            json!({"split": [
                {"type": format!("Named.{kind}"), "data": {"customer": "$.data.name"}},
                {"data": {"n": "$.data.n"}},
            ]})
        },
        told: PARTS,
    },
    Kind {
        name: "splitter",
        upcaster: |kind| {
            json!({"types": [format!("Named.{kind}")], "javascript": format!("function upcast(event) {{
                return [
                    {{ ...event, type: 'Named.{kind}', data: {{ customer: event.data.name }} }},
                    {{ ...event, data: {{ n: event.data.n }} }},
                ]
            }}")})
        },
        told: PARTS,
    },
    Kind {
        name: "drop",
        upcaster: |_| json!("drop"),
        told: &[],
    },
    Kind {
        name: "dropper",
        upcaster: |_| json!({"javascript": "function upcast(event) { return null }"}),
        told: &[],
    },
];

/// Longest pause of a reader that follows.
const QUIET: Duration = Duration::from_secs(10);

/// What one way of reading saw; it also says which of the events it is to see.
type Seen = Vec<String>;

/// `TYPE:DATA`, the type without what tells one kind's from another's.
fn shown(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap_or_else(|| panic!("{event}"));
    let kind = kind.split('.').next().unwrap();
    format!("{kind}:{}", event["data"])
}

fn all(kind: &Kind) -> Seen {
    let told = kind.told.iter().map(|told| (*told).to_owned());
    let (before, after) = ("Plain:1".to_owned(), "Plain:3".to_owned());
    std::iter::once(before).chain(told).chain([after]).collect()
}

fn reversed(mut seen: Seen) -> Seen {
    seen.reverse();
    seen
}

fn events(kind: &Kind) -> [Value; 3] {
    let name = kind.name;
    let event = |id: &str, kind: &str, data: Value| {
        json!({"specversion": "1.0", "id": format!("{id}-{name}"), "source": "/t", "type": kind, "data": data,
            "tags": format!("tag-{name}"), "correlationid": format!("c-{name}")})
    };
    [
        event("a", &format!("Plain.{name}"), json!(1)),
        event("b", &format!("Old.{name}"), json!({"name": "Ann", "n": 7})),
        event("c", &format!("Plain.{name}"), json!(3)),
    ]
}

async fn post(server: &Server, path: &str, events: &[Value]) {
    let batch = Some("application/cloudevents-batch+json");
    let body = Value::from(events.to_vec()).to_string();
    let answer = server.client.request("POST", path, batch, body).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Subscriptions, projections and folds of one kind, and the events.
async fn make(server: &Server, kind: &Kind, hooks: &Hooks) {
    let name = kind.name;
    server.ok("PUT", &format!("/topics/{name}"), "{}").await;
    let named = format!("Named.{name}");
    let filter = json!({"exact": {"type": named}});
    let push = json!({"url": hooks.url(name), "concurrency": 1});
    for (topic, prefix) in [(name, ""), ("$store", name)] {
        for (of, settings) in [
            ("pull", json!({})),
            ("dead", json!({"ordered": true})),
            ("filtered", json!({ "filter": filter })),
            ("push", json!({ "push": push })),
        ] {
            let mut settings = settings;
            settings["from"] = json!(if topic == "$store" {
                json!(0)
            } else {
                json!("earliest")
            });
            if topic == "$store" {
                let category = json!({"exact": {"category": name}});
                settings["filter"] = match settings.get("filter") {
                    None => category,
                    Some(filter) => json!({"all": [category, filter]}),
                };
                settings["push"]["url"] = hooks.url(&format!("{name}-store")).into();
                if of != "push" {
                    settings.as_object_mut().unwrap().remove("push");
                }
            }
            let path = format!("/topics/{topic}/subscriptions/{prefix}{of}");
            server.ok("PUT", &path, &settings.to_string()).await;
        }
        let source = match topic {
            "$store" => json!({"store": true, "category": name}),
            topic => json!({"topic": topic}),
        };
        let insert = ["INSERT INTO seen (told) VALUES (:type || ':' || :data)"];
        let types = ["Plain", "Old", "Named"].map(|kind| format!("{kind}.{name}"));
        let on: BTreeMap<_, _> = types.iter().map(|kind| (kind, insert)).collect();
        let init = ["CREATE TABLE seen (n INTEGER PRIMARY KEY, told TEXT)"];
        let view = json!({"source": source, "init": init, "on": on});
        let of = if topic == "$store" { "store" } else { "topic" };
        let path = format!("/projections/{name}-{of}");
        server.ok("PUT", &path, &view.to_string()).await;
    }
    let seen = json!({"javascript": "function reduce(state, event) {
        state.seen = (state.seen ?? []).concat(event.type.split('.')[0] + ':' + JSON.stringify(event.data));
        state[event.type.split('.')[0]] = event.data;
    }"});
    server
        .ok("PUT", &format!("/folds/{name}"), &seen.to_string())
        .await;
    let events = events(kind);
    post(server, &format!("/topics/{name}/events"), &events).await;
    post(server, &format!("/streams/{name}-1"), &events).await;
    post(server, &format!("/streams/plain.{name}-1"), &events).await;
}

async fn set(server: &Server, kind: &Kind) {
    let name = kind.name;
    let schema = json!({"version": 2, "upcasters": {"1": (kind.upcaster)(name)}});
    let path = format!("/schemas/Old.{name}");
    server.ok("PUT", &path, &schema.to_string()).await;
}

async fn lines(server: &Server, path: &str, accept: &str) -> Vec<Value> {
    let mut lines = server.client.lines(path, accept).await.unwrap();
    let mut found = Vec::new();
    // Who follows gets no end: what does not come is missed.
    while let Ok(line) = tokio::time::timeout(QUIET, lines.next()).await {
        let Some(line) = line.unwrap() else { break };
        let text = line.strip_prefix("data: ").unwrap_or(&line);
        if text.starts_with('{') {
            let read: Value = serde_json::from_str(text).unwrap();
            found.push(read["event"].clone());
        }
    }
    found
}

fn shown_all<'a>(events: impl IntoIterator<Item = &'a Value>) -> Seen {
    events.into_iter().map(shown).collect()
}

async fn document(server: &Server, path: &str) -> Seen {
    let answer = server.ok("GET", path, "").await;
    match &answer {
        Value::Array(events) => shown_all(events),
        store => {
            let events = store["events"].as_array().unwrap().iter();
            events.map(|read| shown(&read["event"])).collect()
        }
    }
}

/// Receives until nothing comes, settling each event in this way.
async fn receive(server: &Server, topic: &str, name: &str, verb: &str, expect: usize) -> Seen {
    let path = format!("/topics/{topic}/eventsubscriptions/{name}");
    let mut seen = Vec::new();
    for wait in [10, 0] {
        // What was expected may come one by one; nothing may come behind it.
        while seen.len() < expect || wait == 0 {
            let max = 1 + seen.len() % 3;
            let asked = format!("{path}:receive?maxEvents={max}&maxWaitTime={wait}");
            let received = server.ok("POST", &asked, "").await;
            let received = received["value"].as_array().unwrap().clone();
            if received.is_empty() {
                break;
            }
            let mut tokens = Vec::new();
            for item in &received {
                seen.push(shown(&item["event"]));
                tokens.push(item["brokerProperties"]["lockToken"].clone());
            }
            if verb == "reject" {
                // One part speaks for the record.
                tokens.retain(|token| token.as_str().unwrap().split('-').nth(3) != Some("1"));
            }
            let body = json!({ "lockTokens": tokens }).to_string();
            let settled = server.ok("POST", &format!("{path}:{verb}"), &body).await;
            assert_eq!(settled["failedLockTokens"], json!([]), "{settled}");
        }
    }
    seen
}

async fn rows(server: &Server, name: &str, expect: usize) -> Seen {
    let query = r#"{"sql": "SELECT told FROM seen ORDER BY n"}"#;
    let path = format!("/projections/{name}/query");
    let mut seen = Vec::new();
    eventually(async || {
        let answer = server.call("POST", &path, query).await;
        if answer.status != 200 {
            return false;
        }
        let rows = parsed(&answer)["rows"].as_array().unwrap().clone();
        let row = |row: &Value| {
            let (kind, data) = row[0].as_str().unwrap().split_once(':').unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            shown(&json!({"type": kind, "data": data}))
        };
        seen = rows.iter().map(row).collect();
        seen.len() >= expect
    })
    .await;
    seen
}

/// Reads in one way, of a topic.
async fn of_topic(server: &Server, hooks: Option<&Hooks>, kind: &Kind, rows_seen: &mut Vec<Row>) {
    let name = kind.name;
    let expect = all(kind);
    let count = expect.len();
    let mut row = |way: &'static str, seen: Seen, expect: Seen| {
        rows_seen.push(Row {
            way,
            kind: name,
            seen,
            expect,
        });
    };
    let path = format!("/topics/{name}/events");
    row("topic", document(server, &path).await, expect.clone());
    let mut one_by_one = Vec::new();
    let mut from = "earliest".to_owned();
    for _ in 0..9 {
        let answer = server
            .call("GET", &format!("{path}?limit=1&from={from}"), "")
            .await;
        one_by_one.extend(shown_all(parsed(&answer).as_array().unwrap()));
        from = answer.headers["mente-next-offset"]
            .to_str()
            .unwrap()
            .to_owned();
    }
    row("topic, one by one", one_by_one, expect.clone());
    let ndjson = "application/x-ndjson";
    let found = lines(server, &format!("{path}?follow=false"), ndjson).await;
    row("topic, lines", shown_all(&found), expect.clone());
    let sse = "text/event-stream";
    let found = lines(server, &format!("{path}?follow=false"), sse).await;
    row(
        "topic, server-sent events",
        shown_all(&found),
        expect.clone(),
    );
    let found = lines(server, &format!("{path}?follow=true&limit={count}"), ndjson).await;
    row("topic, followed", shown_all(&found), expect.clone());
    let one = server.call("GET", &format!("{path}/0:1"), "").await;
    let one = match (kind.told.len(), one.status) {
        (0, 404) => Vec::new(),
        (1, 200) => vec![format!("Old:{}", parsed(&one))],
        (_, 200) => shown_all(parsed(&one).as_array().unwrap()),
        _ => panic!("{}", one.text()),
    };
    row("topic, one position", one, expect[1..count - 1].to_vec());
    let said = ok(
        server,
        &[
            "tail",
            name,
            "--from",
            "earliest",
            "--no-follow",
            "-o",
            "json",
        ],
    );
    let said = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let said = said.map(|line| shown(&line["event"])).collect();
    row("mente tail", said, expect.clone());
    let seen = receive(server, name, "pull", "acknowledge", count).await;
    row("pull", seen, expect.clone());
    let seen = receive(
        server,
        name,
        "filtered",
        "acknowledge",
        expect_named(kind).len(),
    )
    .await;
    row("pull, filtered", seen, expect_named(kind));
    if let Some(hooks) = hooks {
        row(
            "webhook",
            shown_all(&hooks.posted(name, count).await),
            expect.clone(),
        );
    }
    let seen = receive(server, name, "dead", "reject", count).await;
    row("pull to reject", seen, expect.clone());
    letters(server, name, "dead", &expect, &mut row).await;
    row(
        "projection",
        rows(server, &format!("{name}-topic"), count).await,
        expect.clone(),
    );
    let written = document(server, &format!("{path}?schema=written")).await;
    row("topic, as written", written, as_written());
}

/// Of dead letters, which are all events, and of those again when they were given back.
async fn letters(
    server: &Server,
    topic: &str,
    name: &str,
    expect: &Seen,
    row: &mut impl FnMut(&'static str, Seen, Seen),
) {
    let path = format!("/topics/{topic}/subscriptions/{name}/deadletters");
    let mut seen = Vec::new();
    eventually(async || {
        seen = document(server, &path).await;
        seen.len() == expect.len()
    })
    .await;
    row("dead letters", seen, expect.clone());
    let mut replayed = 0;
    eventually(async || {
        let replay = server.ok("POST", &format!("{path}:replay"), "").await;
        replayed += replay["replayed"].as_u64().unwrap();
        replay["remaining"] == 0 && replayed > 0
    })
    .await;
    let seen = receive(server, topic, name, "acknowledge", expect.len()).await;
    row("dead letters, replayed", seen, expect.clone());
}

fn as_written() -> Seen {
    ["Plain:1", r#"Old:{"n":7,"name":"Ann"}"#, "Plain:3"]
        .map(str::to_owned)
        .to_vec()
}

/// What a filter of the type `Named` lets through.
fn expect_named(kind: &Kind) -> Seen {
    let named = kind.told.iter().filter(|told| told.starts_with("Named"));
    named.map(|told| (*told).to_owned()).collect()
}

/// Reads in every way, of the store.
async fn of_store(server: &Server, hooks: Option<&Hooks>, kind: &Kind, rows_seen: &mut Vec<Row>) {
    let name = kind.name;
    let expect = all(kind);
    let count = expect.len();
    let mut row = |way: &'static str, seen: Seen, expect: Seen| {
        rows_seen.push(Row {
            way,
            kind: name,
            seen,
            expect,
        });
    };
    let stream = format!("/streams/{name}-1");
    let (ndjson, sse) = ("application/x-ndjson", "text/event-stream");
    row("stream", document(server, &stream).await, expect.clone());
    for (way, from) in [
        ("stream, forwards one by one", 0),
        ("stream, backwards one by one", 2),
    ] {
        let direction = if from == 0 { "forwards" } else { "backwards" };
        let (mut next, mut seen) = (Some(from), Vec::new());
        while let Some(from) = next {
            let path = format!("{stream}?limit=1&direction={direction}&from={from}");
            let page = server.ok("GET", &path, "").await;
            let events = page["events"].as_array().unwrap();
            seen.extend(events.iter().map(|read| shown(&read["event"])));
            next = page["next"].as_u64();
        }
        row(
            way,
            seen,
            if from == 0 {
                expect.clone()
            } else {
                reversed(expect.clone())
            },
        );
    }
    let found = lines(server, &stream, ndjson).await;
    row("stream, lines", shown_all(&found), expect.clone());
    let found = lines(server, &format!("{stream}?follow=false"), sse).await;
    row(
        "stream, server-sent events",
        shown_all(&found),
        expect.clone(),
    );
    let found = lines(
        server,
        &format!("{stream}?follow=true&limit={count}"),
        ndjson,
    )
    .await;
    row("stream, followed", shown_all(&found), expect.clone());
    let said = ok(
        server,
        &["stream", "read", &format!("{name}-1"), "-o", "json"],
    );
    row("mente stream read", said_events(&said), expect.clone());
    let of = expect[1..count - 1].to_vec();
    for (way, query, expect) in [
        (
            "store, by category",
            format!("category={name}"),
            expect.clone(),
        ),
        (
            "store, by tag",
            format!("category={name}&tag=tag-{name}"),
            expect.clone(),
        ),
        (
            "store, by correlation",
            format!("category={name}&correlation=c-{name}"),
            expect.clone(),
        ),
        (
            "store, by type",
            format!("category={name}&type=Old.{name},Named.{name}"),
            of,
        ),
        (
            "store, by a new type",
            format!("category={name}&type=Named.{name}"),
            expect_named(kind),
        ),
    ] {
        let path = format!("/store/events?{query}");
        row(way, document(server, &path).await, expect);
    }
    let path = format!("/store/events?category={name}&limit=1");
    let (mut next, mut seen) = (Some(0), Vec::new());
    while let Some(from) = next {
        let page = server.ok("GET", &format!("{path}&from={from}"), "").await;
        let events = page["events"].as_array().unwrap();
        seen.extend(events.iter().map(|read| shown(&read["event"])));
        next = page["next"].as_u64();
    }
    row("store, one by one", seen, expect.clone());
    let found = lines(server, &format!("/store/events?category={name}"), ndjson).await;
    row("store, lines", shown_all(&found), expect.clone());
    let path = format!("/store/events?category={name}&follow=false");
    row(
        "store, server-sent events",
        shown_all(&lines(server, &path, sse).await),
        expect.clone(),
    );
    let seen = receive(
        server,
        "$store",
        &format!("{name}pull"),
        "acknowledge",
        count,
    )
    .await;
    row("pull of the store", seen, expect.clone());
    let (named, filtered) = (expect_named(kind), format!("{name}filtered"));
    let seen = receive(server, "$store", &filtered, "acknowledge", named.len());
    row("pull of the store, filtered", seen.await, named);
    if let Some(hooks) = hooks {
        let posted = hooks.posted(&format!("{name}-store"), count).await;
        row("webhook of the store", shown_all(&posted), expect.clone());
    }
    let dead = format!("{name}dead");
    let seen = receive(server, "$store", &dead, "reject", count).await;
    row("pull of the store to reject", seen, expect.clone());
    letters(server, "$store", &dead, &expect, &mut row).await;
    let seen = rows(server, &format!("{name}-store"), count).await;
    row("projection of the store", seen, expect.clone());
    for (way, path) in [
        ("stream, as written", format!("{stream}?schema=written")),
        (
            "store, as written",
            format!("/store/events?category={name}&schema=written"),
        ),
    ] {
        row(way, document(server, &path).await, as_written());
    }
}

fn said_events(said: &str) -> Seen {
    let read: Vec<Value> = match serde_json::from_str::<Value>(said) {
        Ok(document) => document["events"].as_array().unwrap().clone(),
        Err(_) => said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    };
    read.iter().map(|read| shown(&read["event"])).collect()
}

/// What the past of a stream says.
async fn of_the_past(server: &Server, kind: &Kind, rows_seen: &mut Vec<Row>) {
    let name = kind.name;
    let expect = all(kind);
    let mut row = |way: &'static str, seen: Seen, expect: Seen| {
        rows_seen.push(Row {
            way,
            kind: name,
            seen,
            expect,
        });
    };
    let told = |state: &Value| -> Seen {
        let seen = state["seen"].as_array().cloned().unwrap_or_default();
        seen.iter()
            .map(|told| told.as_str().unwrap().to_owned())
            .collect()
    };
    let stream = format!("/streams/{name}-1");
    for again in ["state", "state, kept"] {
        let state = server.ok("GET", &format!("{stream}/state"), "").await;
        row(again, told(&state["state"]), expect.clone());
    }
    let before = server.ok("GET", &format!("{stream}/state?at=1"), "").await;
    row(
        "state before the last",
        told(&before["state"]),
        expect[..expect.len() - 1].to_vec(),
    );
    let merged = server
        .ok("GET", &format!("/streams/plain.{name}-1/state"), "")
        .await;
    let fields =
        |told: &str| serde_json::from_str::<Value>(told.split_once(':').unwrap().1).unwrap();
    let mut wanted = json!({});
    for told in kind.told {
        for (field, value) in fields(told).as_object().unwrap() {
            wanted[field] = value.clone();
        }
    }
    row(
        "state by merging",
        vec![merged["state"].to_string()],
        vec![wanted.to_string()],
    );
    let log = server.ok("GET", &format!("{stream}/log"), "").await;
    let types = |steps: &Value| -> Seen {
        let steps = steps["steps"].as_array().unwrap().iter();
        steps
            .map(|step| {
                step["type"]
                    .as_str()
                    .unwrap()
                    .split('.')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let short = |seen: Seen| -> Seen {
        seen.iter()
            .map(|told| told.split(':').next().unwrap().to_owned())
            .collect()
    };
    row("log", types(&log), short(reversed(expect.clone())));
    let (mut seen, mut before) = (Vec::new(), 3);
    while before > 0 {
        let path = format!("{stream}/log?limit=1&before={before}");
        seen.extend(types(&server.ok("GET", &path, "").await));
        before -= 1;
    }
    // One that is dropped has no step of its own: what comes before it is told.
    seen.dedup_by(|a, b| kind.told.is_empty() && a == b);
    let mut wanted = short(reversed(expect.clone()));
    wanted.dedup_by(|a, b| kind.told.is_empty() && a == b);
    row("log, step by step", seen, wanted);
    let paths = |answer: &Value, field: &str| -> Seen {
        let told = answer[field].as_array().unwrap().iter();
        told.filter_map(|told| told["path"][0].as_str())
            .filter(|name| *name != "seen" && *name != "Plain")
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    let mut made = short(expect[1..expect.len() - 1].to_vec());
    made.sort();
    let between = server
        .ok("GET", &format!("{stream}/diff?from=0&to=1"), "")
        .await;
    row("diff", paths(&between, "changes"), made.clone());
    let none = server
        .ok("GET", &format!("{stream}/diff?from=1&to=2"), "")
        .await;
    row("diff behind it", paths(&none, "changes"), Vec::new());
    let blamed = server.ok("GET", &format!("{stream}/blame"), "").await;
    row("blame", paths(&blamed, "fields"), made);
    what_if(server, kind, &told, &mut row).await;
}

async fn what_if(
    server: &Server,
    kind: &Kind,
    told: &impl Fn(&Value) -> Seen,
    row: &mut impl FnMut(&'static str, Seen, Seen),
) {
    let name = kind.name;
    let expect = all(kind);
    let path = format!("/streams/{name}-1/whatif");
    let old = &events(kind)[1];
    let without = server.ok("POST", &path, r#"{"drop":[1]}"#).await;
    row("what if, before", told(&without["before"]), expect.clone());
    let plain = ["Plain:1", "Plain:3"].map(str::to_owned).to_vec();
    row("what if without it", told(&without["after"]), plain);
    let effects = |answer: &Value, would: bool| -> Seen {
        let effects = answer["effects"].as_array().unwrap().iter();
        let of = format!("{name}pull");
        let effects = effects.filter(|e| e["subscription"] == of && e["wouldBeSent"] == would);
        effects
            .map(|e| {
                e["type"]
                    .as_str()
                    .unwrap()
                    .split('.')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let sent: Seen = kind
        .told
        .iter()
        .map(|t| t.split(':').next().unwrap().to_owned())
        .collect();
    row("what if, not sent", effects(&without, false), sent.clone());
    let replaced = json!({"replace": [{"revision": 0, "event": old}]}).to_string();
    let otherwise = server.ok("POST", &path, &replaced).await;
    let mut wanted: Seen = kind.told.iter().map(|told| (*told).to_owned()).collect();
    wanted.extend_from_slice(&expect[1..]);
    row("what if it was first", told(&otherwise["after"]), wanted);
    let appended = json!({ "append": [old] }).to_string();
    let otherwise = server.ok("POST", &path, &appended).await;
    let mut wanted = expect.clone();
    wanted.extend(kind.told.iter().map(|told| (*told).to_owned()));
    row(
        "what if it came again",
        told(&otherwise["after"]),
        wanted.clone(),
    );
    row("what if, sent", effects(&otherwise, true), sent);
}

struct Row {
    way: &'static str,
    kind: &'static str,
    seen: Seen,
    expect: Seen,
}

impl Row {
    /// The order of dead letters is that of their copies, which are made side by side.
    fn is_right(&self) -> bool {
        let [mut seen, mut expect] = [self.seen.clone(), self.expect.clone()];
        if self.way.starts_with("dead letters") {
            seen.sort();
            expect.sort();
        }
        seen == expect
    }
}

/// All rows that are wrong, not only the first.
fn judge(rows: &[Row], least: usize) {
    let wrong = rows.iter().filter(|row| !row.is_right());
    let wrong: Vec<_> = wrong
        .map(|row| {
            format!(
                "{} of {}: {:?}, not {:?}",
                row.way, row.kind, row.seen, row.expect
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    assert!(rows.len() >= least, "{} rows", rows.len());
}

async fn table(kinds: &[Kind], is_set_first: bool) -> Vec<Row> {
    let hooks = Hooks::start();
    let server = Server::start_with(&["--create-topics", "--allow-private-webhooks"]);
    let mut rows = Vec::new();
    for kind in kinds {
        if is_set_first {
            set(&server, kind).await;
        }
        make(&server, kind, &hooks).await;
    }
    let server = match is_set_first {
        true => server,
        false => {
            // Views have looked at everything before there is a schema; webhooks have it as it was written.
            for kind in kinds {
                hooks.posted(kind.name, 3).await;
                hooks.posted(&format!("{}-store", kind.name), 3).await;
            }
            for kind in kinds {
                set(&server, kind).await;
            }
            let server = server.crash_and_restart();
            for kind in kinds {
                for of in ["topic", "store"] {
                    let path = format!("/projections/{}-{of}/rebuild", kind.name);
                    // It is kept a moment after the start.
                    eventually(async || server.call("POST", &path, "").await.status < 300).await;
                    let path = format!("/projections/{}-{of}", kind.name);
                    eventually(async || server.ok("GET", &path, "").await["rebuilds"] == 1).await;
                }
            }
            server
        }
    };
    for kind in kinds {
        let hooks = is_set_first.then_some(&hooks);
        of_topic(&server, hooks, kind, &mut rows).await;
        of_store(&server, hooks, kind, &mut rows).await;
        of_the_past(&server, kind, &mut rows).await;
    }
    rows
}

#[tokio::test]
async fn every_reader_is_told_the_same() {
    judge(&table(&KINDS, true).await, 240);
}

#[tokio::test]
async fn also_when_the_schema_comes_behind_the_events() {
    judge(&table(&KINDS, false).await, 220);
}
