//! The store over all its streams: appends under checks, reads by what events are, and tails.

use std::collections::BTreeSet;

use futures::future::join_all;
use mente::client::Client;
use serde_json::{Value, json};

use crate::server::Server;
use crate::verbs::{mente, ok};

fn event(id: &str, kind: &str, tags: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind, "tags": tags, "data": {"id": id}})
}

async fn append(server: &Server, told: &[(&str, Value)], checks: Value) -> (u16, Value) {
    let events: Vec<_> = told
        .iter()
        .map(|(stream, event)| json!({"stream": stream, "event": event}))
        .collect();
    let body = json!({"events": events, "checks": checks}).to_string();
    let answer = server.call("POST", "/store/events", &body).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// Positions that a read of the store answers, page by page.
async fn positions(server: &Server, query: &str) -> Vec<u64> {
    let mut found = Vec::new();
    let mut from = String::new();
    loop {
        let page = server
            .ok("GET", &format!("/store/events?limit=7{query}{from}"), "")
            .await;
        let events = page["events"].as_array().unwrap();
        found.extend(
            events
                .iter()
                .map(|event| event["position"].as_u64().unwrap()),
        );
        match page.get("next") {
            Some(next) => from = format!("&from={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn a_transfer_is_whole_and_a_retry_over_a_kill_answers_the_first_position() {
    let server = Server::start();
    let transfer = [
        ("account-1", event("t1", "Withdrawn", "")),
        ("account-2", event("t1", "Deposited", "")),
    ];
    let checks = json!([{"stream": "account-1", "expected": "none"}, {"stream": "account-2", "expected": "none"}]);
    let (status, first) = append(&server, &transfer, checks.clone()).await;
    assert_eq!(
        (status, &first["lastPosition"], &first["repeated"]),
        (200, &json!(1), &json!(false))
    );
    let server = server.crash_and_restart();
    let (status, again) = append(&server, &transfer, checks.clone()).await;
    assert_eq!(
        (status, &again["lastPosition"], &again["repeated"]),
        (200, &json!(1), &json!(true))
    );
    let other = [
        ("account-3", event("t2", "Opened", "")),
        ("account-2", event("t2", "Deposited", "")),
    ];
    let (status, refused) = append(&server, &other, checks).await;
    assert_eq!(status, 409, "{refused}");
    assert_eq!(
        server.call("GET", "/streams/account-3", "").await.status,
        404
    );
    assert_eq!(positions(&server, "").await, [0, 1]);
}

/// Seats of a course are given out by a check of a query alone: one winner for each.
#[tokio::test]
async fn a_dynamic_consistency_boundary_has_one_winner_at_a_time() {
    const SEATS: usize = 10;
    let server = Server::start();
    let enrol = async |student: usize| {
        let mut tries = 0;
        loop {
            let page = server
                .ok("GET", "/store/events?tag=course:c1&type=Enrolled", "")
                .await;
            if page["events"].as_array().unwrap().len() >= SEATS {
                return (false, tries);
            }
            let tags = format!("course:c1,student:s{student}");
            let told = [(
                &*format!("student-{student}"),
                event(&format!("s{student}"), "Enrolled", &tags),
            )];
            let mut check = json!({"query": [{"types": ["Enrolled"], "tags": ["course:c1"]}]});
            if let Some(head) = page.get("head") {
                check["after"] = head.clone();
            }
            match append(&server, &told, json!([check])).await {
                (200, _) => return (true, tries),
                (409, _) => tries += 1,
                other => panic!("{other:?}"),
            }
        }
    };
    let all = join_all((0..32).map(enrol)).await;
    assert_eq!(all.iter().filter(|(is_in, _)| *is_in).count(), SEATS);
    assert!(
        all.iter().any(|(_, tries)| *tries > 0),
        "somebody was beaten: {all:?}"
    );
    assert_eq!(positions(&server, "&tag=course:c1").await.len(), SEATS);
    // Events of another course do not stand in the way.
    let check = json!([{"query": [{"tags": ["course:c2"]}]}]);
    let told = [("student-0", event("x", "Enrolled", "course:c2,student:s0"))];
    assert_eq!(append(&server, &told, check).await.0, 200);
}

#[tokio::test]
async fn events_are_found_by_what_they_are() {
    let server = Server::start();
    for id in 0..60_u64 {
        let kind = if id % 3 == 0 { "Fizz" } else { "Other" };
        let tags = if id % 5 == 0 { "buzz,all" } else { "all" };
        let mut event = event(&id.to_string(), kind, tags);
        event["correlationid"] = json!(format!("c{}", id % 4));
        let stream = format!("{}-{}", ["number", "figure"][id as usize % 2], id % 7);
        assert_eq!(append(&server, &[(&stream, event)], json!([])).await.0, 200);
    }
    let numbers = |is: fn(u64) -> bool| (0..60).filter(|id| is(*id)).collect::<Vec<_>>();
    let down = |mut up: Vec<u64>| {
        up.reverse();
        up
    };
    for server in [&server] {
        assert_eq!(positions(server, "").await, numbers(|_| true));
        assert_eq!(
            positions(server, "&direction=backwards").await,
            down(numbers(|_| true))
        );
        assert_eq!(
            positions(server, "&type=Fizz&tag=buzz").await,
            numbers(|id| id % 15 == 0)
        );
        assert_eq!(
            positions(server, "&type=Fizz,Other").await,
            numbers(|_| true)
        );
        assert_eq!(
            positions(server, "&category=figure").await,
            numbers(|id| id % 2 == 1)
        );
        let found = positions(server, "&correlation=c3&direction=backwards").await;
        assert_eq!(found, down(numbers(|id| id % 4 == 3)));
        let query = "&query=[{%22types%22:[%22Fizz%22]},{%22tags%22:[%22buzz%22,%22all%22]}]";
        assert_eq!(
            positions(server, query).await,
            numbers(|id| id % 3 == 0 || id % 5 == 0)
        );
        assert_eq!(positions(server, "&tag=nothing").await, [0; 0]);
    }
    let page = server.ok("GET", "/store/events?from=20&limit=1", "").await;
    let time = page["events"][0]["appended"].as_str().unwrap().to_owned();
    let since = server
        .ok("GET", &format!("/store/events?time={time}"), "")
        .await;
    let since = since["events"].as_array().unwrap();
    let first = since[0]["position"].as_u64().unwrap();
    assert!(
        first <= 20 && since[0]["appended"].as_str() >= Some(&*time),
        "{since:?}"
    );
    let revisions = server
        .ok("GET", "/streams/number-0?direction=backwards&limit=2", "")
        .await;
    let told: Vec<_> = revisions["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["position"])
        .collect();
    assert_eq!(
        (told, &revisions["next"]),
        (vec![&json!(56), &json!(42)], &json!(2))
    );
}

/// Catch-up subscriptions: what was there, then what comes, each event once and in order.
#[tokio::test]
async fn tails_of_the_store_and_of_a_stream_have_no_gap() {
    let server = Server::start();
    let write = async |from: usize, to: usize| {
        for id in from..to {
            let kind = ["Odd", "Even"][(id + 1) % 2];
            let stream = format!("n-{}", id % 3);
            let told = [(&*stream, event(&id.to_string(), kind, ""))];
            assert_eq!(append(&server, &told, json!([])).await.0, 200);
        }
    };
    write(0, 20).await;
    let client = Client::new(&server.url()).unwrap();
    let follow = async |path: &str, count: usize| {
        let mut lines = client.lines(path, "application/x-ndjson").await.unwrap();
        let mut ids = Vec::new();
        while ids.len() < count {
            let line = lines.next().await.unwrap().expect("it goes on");
            let event: Value = serde_json::from_str(&line).unwrap();
            ids.push(
                event["event"]["id"]
                    .as_str()
                    .unwrap()
                    .parse::<usize>()
                    .unwrap(),
            );
        }
        ids
    };
    let (all, even, stream, ()) = tokio::join!(
        follow("/store/events?follow=true", 200),
        follow("/store/events?follow=true&type=Even&from=10", 95),
        follow("/streams/n-1?follow=true&from=2", 65),
        write(20, 200)
    );
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    assert_eq!(even, (10..200).filter(|id| id % 2 == 0).collect::<Vec<_>>());
    assert_eq!(
        stream,
        (0..200)
            .filter(|id| id % 3 == 1)
            .skip(2)
            .collect::<Vec<_>>()
    );
    // Server-sent events name positions, and resume behind them.
    let mut lines = client
        .lines("/store/events?from=198&follow=false", "text/event-stream")
        .await
        .unwrap();
    let mut ids = BTreeSet::new();
    while let Some(line) = lines.next().await.unwrap() {
        ids.extend(line.strip_prefix("id: ").map(str::to_owned));
    }
    assert_eq!(ids, ["198", "199"].map(str::to_owned).into());
    let missing = server
        .call("GET", "/streams/nobody-1?follow=true", "")
        .await;
    assert_eq!(missing.status, 404);
    let backwards = server
        .call("GET", "/store/events?direction=backwards&follow=true", "")
        .await;
    assert_eq!(backwards.status, 400);
}

#[tokio::test]
async fn the_command_line_finds_events_by_tags() {
    let server = Server::start();
    for (stream, id, tags) in [
        ("cart-1", "1", "x"),
        ("cart-2", "2", "x,y"),
        ("order-1", "3", "y"),
    ] {
        let words = [
            "stream",
            "append",
            stream,
            r#"{"n":1}"#,
            "--type",
            "Added",
            "--id",
            id,
            "--tags",
            tags,
        ];
        ok(&server, &words);
    }
    let found = ok(&server, &["stream", "find", "--tags", "x", "--backwards"]);
    assert_eq!(
        found,
        "1  0@cart-2  Added    {\"n\":1}\n0  0@cart-1  Added    {\"n\":1}\n"
    );
    let found = ok(
        &server,
        &[
            "stream",
            "find",
            "--category",
            "order",
            "--type",
            "Added,Other",
            "-o",
            "json",
        ],
    );
    assert!(
        found.starts_with(r#"{"stream":"order-1","revision":0,"position":2,"#),
        "{found}"
    );
    let listed = ok(&server, &["stream", "ls", "--from", "1"]);
    assert_eq!(
        listed,
        "STREAM   EVENTS  BEGAN AT\ncart-2   1       1\norder-1  1       2\n"
    );
    let (code, _, err) = mente(&server, &["stream", "find", "--time", "yesterday"]);
    assert!(code == 2 && err.contains("say a time"), "{code} {err}");
}

#[tokio::test]
async fn what_an_append_cannot_mean_is_refused() {
    let server = Server::start();
    let bad = [
        (json!({}), "missing field `events`"),
        (json!({"events": []}), "at least one event"),
        (
            json!({"events": [{"stream": "", "event": event("1", "t", "")}]}),
            "stream name",
        ),
        (
            json!({"events": [{"stream": "$x", "event": event("1", "t", "")}]}),
            "stream name",
        ),
        (
            json!({"events": [{"stream": "a-1", "event": {"id": "1"}}]}),
            "specversion",
        ),
        (
            json!({"events": [{"stream": "a-1", "event": event("1", "t", "a, b")}]}),
            "space at an end",
        ),
        (
            json!({"events": [{"stream": "a-1", "event": event("1", "t", "")}], "checks": [{}]}),
            "a check is",
        ),
        (
            json!({"events": [{"stream": "a-1", "event": event("1", "t", "")}], "check": []}),
            "unknown field",
        ),
    ];
    for (body, said) in bad {
        let answer = server
            .call("POST", "/store/events", &body.to_string())
            .await;
        assert!(
            answer.status == 400 && answer.text().contains(said),
            "{body}: {}",
            answer.text()
        );
    }
    let many: Vec<_> = (0..5_001)
        .map(|n| json!({"stream": "a-1", "event": event(&n.to_string(), "t", "")}))
        .collect();
    let answer = server
        .call(
            "POST",
            "/store/events",
            &json!({"events": many}).to_string(),
        )
        .await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    let types: Vec<_> = (0..100).map(|n| format!("t{n}")).collect();
    let query = vec![json!({"types": types}); 101];
    let (half, told) = (
        &query[..51],
        json!([{"stream": "a-1", "event": event("1", "t", "")}]),
    );
    let checks = json!([{"query": half}, {"query": half}]);
    let asked = json!({"events": told, "checks": checks}).to_string();
    let answer = server.call("POST", "/store/events", &asked).await;
    assert!(
        answer.status == 413 && answer.text().contains("10200"),
        "{}",
        answer.text()
    );
    for (query, status) in [
        ("?query=x", 400),
        ("?limit=0", 400),
        ("?time=x", 400),
        ("?form=1", 400),
    ] {
        assert_eq!(
            server
                .call("GET", &format!("/store/events{query}"), "")
                .await
                .status,
            status,
            "{query}"
        );
    }
    assert_eq!(
        server.ok("GET", "/store/events", "").await,
        json!({"events": []})
    );
}
