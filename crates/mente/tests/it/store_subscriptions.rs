//! Subscriptions of the store: competing consumers over the events of all streams.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::server::{Server, eventually, ids, parsed};
use crate::verbs::{mente, ok};

const MAIL: &str = "/topics/$store/subscriptions/mail";

/// An event of a subscription as it was delivered.
#[derive(Clone, Debug)]
struct Got {
    token: String,
    count: u64,
    stream: String,
    revision: u64,
    position: u64,
    event: Value,
}

pub(crate) async fn append(server: &Server, stream: &str, id: &str, kind: &str) {
    let event =
        json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind, "data": {"id": id}});
    let path = format!("/streams/{stream}");
    let structured = Some("application/cloudevents+json");
    let answer = server
        .client
        .request("POST", &path, structured, event.to_string())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn subscribe(server: &Server, name: &str, settings: Value) {
    let path = format!("/topics/$store/subscriptions/{name}");
    let answer = server.call("PUT", &path, &settings.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

async fn receive(server: &Server, name: &str, max: u32, wait: u32) -> Vec<Got> {
    let path = format!(
        "/topics/$store/eventsubscriptions/{name}:receive?maxEvents={max}&maxWaitTime={wait}"
    );
    let answer = server.ok("POST", &path, "").await;
    let got = |item: &Value| Got {
        token: item["brokerProperties"]["lockToken"]
            .as_str()
            .unwrap()
            .into(),
        count: item["brokerProperties"]["deliveryCount"].as_u64().unwrap(),
        stream: item["stream"].as_str().unwrap().into(),
        revision: item["revision"].as_u64().unwrap(),
        position: item["position"].as_u64().unwrap(),
        event: item["event"].clone(),
    };
    answer["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(got)
        .collect()
}

/// Receives until there are so many; a call may answer with some of them.
async fn receive_all(server: &Server, name: &str, count: usize) -> Vec<Got> {
    let mut found = Vec::new();
    while found.len() < count {
        let more = receive(server, name, 100, 10).await;
        assert!(!more.is_empty(), "{} of {count} came", found.len());
        found.extend(more);
    }
    assert!(receive(server, name, 1, 0).await.is_empty());
    found
}

async fn settle(server: &Server, name: &str, verb: &str, tokens: &[&str]) -> usize {
    let path = format!("/topics/$store/eventsubscriptions/{name}:{verb}");
    let body = json!({ "lockTokens": tokens }).to_string();
    let answer = server.ok("POST", &path, &body).await;
    answer["succeededLockTokens"].as_array().unwrap().len()
}

fn id(got: &Got) -> &str {
    got.event["id"].as_str().unwrap()
}

#[tokio::test]
async fn events_are_delivered_as_they_are_read() {
    let server = Server::start();
    append(&server, "order-1", "a", "Placed").await;
    append(&server, "order-2", "b", "Placed").await;
    append(&server, "order-1", "c", "Paid").await;
    append(&server, "a%20b%2F%C3%A4", "d", "Odd").await;
    subscribe(&server, "mail", json!({"from": "earliest"})).await;
    let got = receive_all(&server, "mail", 4).await;
    let read = server.ok("GET", "/store/events", "").await;
    let path = "/topics/$store/eventsubscriptions/mail:receive?maxEvents=1&maxWaitTime=0";
    for (got, read) in got.iter().zip(read["events"].as_array().unwrap()) {
        assert_eq!(read["stream"], got.stream);
        assert_eq!(read["revision"], got.revision);
        assert_eq!(read["position"], got.position);
        assert_eq!(read["event"], got.event);
        assert_eq!(got.count, 1);
    }
    assert_eq!(got[3].stream, "a b/\u{e4}");
    // One that is given back comes with all its members.
    assert_eq!(
        settle(&server, "mail", "release", &[&got[2].token]).await,
        1
    );
    let again = server.ok("POST", path, "").await;
    let members: BTreeSet<_> = again["value"][0]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let expected = [
        "appended",
        "brokerProperties",
        "event",
        "position",
        "revision",
        "stream",
    ];
    assert_eq!(members, expected.map(str::to_owned).into());
    let appended = &read["events"][2]["appended"];
    assert_eq!(&again["value"][0]["appended"], appended);
    let tokens: Vec<_> = [0, 1, 3].map(|at: usize| &*got[at].token).into();
    assert_eq!(settle(&server, "mail", "acknowledge", &tokens).await, 3);
    let shown = server.ok("GET", MAIL, "").await;
    assert_eq!(
        (&shown["topic"], &shown["name"]),
        (&json!("$store"), &json!("mail"))
    );
    let counts = &shown["counts"];
    assert_eq!(
        (&counts["completed"], &counts["leased"], &counts["exact"]),
        (&json!(3), &json!(1), &json!(true))
    );
    let list = server.ok("GET", "/topics/%24store/subscriptions", "").await;
    assert_eq!(list["subscriptions"][0]["name"], "mail");
}

/// Two consumers, one of whom is killed with the server: every event is done with once by those who remember,
/// and no stream has two events out or comes out of its order.
#[tokio::test]
async fn two_consumers_compete_over_a_kill_and_every_stream_keeps_its_order() {
    const STREAMS: usize = 5;
    const EVENTS: usize = 40;
    let mut server = Server::start();
    subscribe(&server, "mail", json!({"from": "latest", "ordered": true})).await;
    for n in 0..EVENTS {
        append(&server, &format!("s-{}", n % STREAMS), &n.to_string(), "t").await;
    }
    let mut done: Vec<Got> = Vec::new();
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0.. {
        let both = futures::future::join(
            receive(&server, "mail", 2, 10),
            receive(&server, "mail", 2, 10),
        );
        let (one, two) = both.await;
        let streams: Vec<_> = one.iter().chain(&two).map(|got| &got.stream).collect();
        let apart: BTreeSet<_> = streams.iter().collect();
        assert_eq!(apart.len(), streams.len(), "{streams:?}");
        if round == 4 {
            // What is out is delivered again, what was acknowledged is not.
            server = server.crash_and_restart();
            continue;
        }
        for got in one.into_iter().chain(two) {
            let expected = next.entry(got.stream.clone()).or_default();
            assert_eq!(got.revision, *expected, "{got:?}");
            *expected += 1;
            assert_eq!(
                settle(&server, "mail", "acknowledge", &[&got.token]).await,
                1
            );
            done.push(got);
        }
        if done.len() == EVENTS {
            break;
        }
    }
    assert!(receive(&server, "mail", 1, 0).await.is_empty());
    let distinct: BTreeSet<_> = done.iter().map(id).collect();
    assert_eq!(distinct.len(), EVENTS);
    assert_eq!(server.ok("POST", "/verify", "").await["equal"], true);
}

#[tokio::test]
async fn filters_see_types_streams_and_categories() {
    let server = Server::start();
    let filters = [
        (
            "types",
            json!({"any": [{"exact": {"type": "Paid"}}, {"exact": {"type": "Sent"}}]}),
        ),
        ("category", json!({"exact": {"category": "order"}})),
        ("stream", json!({"exact": {"stream": "order-2"}})),
        (
            "streams",
            json!({"all": [{"prefix": {"stream": "order-"}}, {"not": {"exact": {"type": "Paid"}}}]}),
        ),
    ];
    for (name, filter) in &filters {
        subscribe(&server, name, json!({"filter": filter})).await;
    }
    for (stream, id, kind) in [
        ("order-1", "a", "Placed"),
        ("bill-1", "b", "Sent"),
        ("order-2", "c", "Paid"),
        ("orders", "d", "Placed"),
    ] {
        append(&server, stream, id, kind).await;
    }
    // Of its own attributes those that have these names are not seen.
    let forged = json!({"specversion": "1.0", "id": "e", "source": "/t", "type": "x", "stream": "order-2", "category": "order"});
    let body = json!({"events": [{"stream": "bill-2", "event": forged}]}).to_string();
    server.ok("POST", "/store/events", &body).await;
    let expected = [
        ("types", "b c"),
        ("category", "a c"),
        ("stream", "c"),
        ("streams", "a"),
    ];
    for (name, expected) in expected {
        let count = expected.split(' ').count();
        let got = receive_all(&server, name, count).await;
        assert_eq!(
            got.iter().map(id).collect::<Vec<_>>().join(" "),
            expected,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_subscription_begins_where_it_says() {
    let server = Server::start();
    for n in 0..5 {
        append(&server, "a-1", &n.to_string(), "t").await;
    }
    for (name, from) in [
        ("all", json!("earliest")),
        ("three", json!(3)),
        ("new", json!("latest")),
        ("next", json!(5)),
    ] {
        subscribe(&server, name, json!({"from": from})).await;
    }
    append(&server, "a-2", "5", "t").await;
    for (name, expected) in [
        ("all", "0 1 2 3 4 5"),
        ("three", "3 4 5"),
        ("new", "5"),
        ("next", "5"),
    ] {
        let got = receive_all(&server, name, expected.split(' ').count()).await;
        assert_eq!(
            got.iter().map(id).collect::<Vec<_>>().join(" "),
            expected,
            "{name}"
        );
    }
    // The same again is the same, wherever the end is by now; nobody begins in the future.
    assert_eq!(
        server
            .call("PUT", "/topics/$store/subscriptions/new", "{}")
            .await
            .status,
        200
    );
    let path = "/topics/$store/subscriptions/late";
    for (from, status, says) in [
        ("99", 416, "beyond the end"),
        ("-1", 400, "position of the store"),
        ("1.5", 400, "position of the store"),
        ("\"3\"", 400, "position of the store"),
    ] {
        let refused = server
            .call("PUT", path, &format!("{{\"from\":{from}}}"))
            .await;
        assert_eq!(refused.status, status, "{from}: {}", refused.text());
        assert!(refused.text().contains(says), "{}", refused.text());
    }
    server.call("PUT", "/topics/t", "").await;
    let refused = server
        .call("PUT", "/topics/t/subscriptions/s", r#"{"from":3}"#)
        .await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("no positions"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn the_store_is_no_topic() {
    let server = Server::start();
    append(&server, "a-1", "1", "t").await;
    for topic in ["$store", "%24store", "%24%73tore"] {
        let path = format!("/topics/{topic}");
        for (method, rest) in [
            ("GET", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("GET", "/events"),
            ("GET", "/events/0:0"),
        ] {
            let answer = server.call(method, &format!("{path}{rest}"), "").await;
            assert_eq!(answer.status, 400, "{method} {rest}: {}", answer.text());
            assert!(answer.text().contains("is no topic"), "{}", answer.text());
        }
        let event = r#"{"specversion":"1.0","id":"1","source":"/t","type":"t"}"#;
        for rest in ["/events", ":publish"] {
            let structured = Some("application/cloudevents+json");
            let path = format!("{path}{rest}");
            let posted = server
                .client
                .request("POST", &path, structured, event)
                .await;
            assert_eq!(posted.unwrap().status, 400);
        }
    }
    for name in ["$store", "$journal", "a%2Fb", "", "%00", &"x".repeat(81)] {
        let put = server
            .call("PUT", &format!("/topics/$store/subscriptions/{name}"), "{}")
            .await;
        assert!((400..500).contains(&put.status), "{name}: {}", put.status);
    }
    for topic in ["$journal", "$index", "$store2", "$Store", "$store%2Fa"] {
        let put = server
            .call("PUT", &format!("/topics/{topic}/subscriptions/s"), "{}")
            .await;
        assert!((400..500).contains(&put.status), "{topic}: {}", put.status);
    }
    let view = r#"{"source":{"topic":"$store"},"init":["CREATE TABLE t (a)"],"on":{}}"#;
    assert_eq!(server.call("PUT", "/projections/p", view).await.status, 400);
    assert_eq!(server.ok("GET", "/topics", "").await["topics"], json!([]));
    assert_eq!(
        server.ok("GET", "/streams/a-1", "").await["events"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let gone = server
        .call(
            "POST",
            "/topics/$store/eventsubscriptions/nobody:receive?maxWaitTime=0",
            "",
        )
        .await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn what_is_given_up_on_says_where_it_stood_and_goes_with_its_subscription() {
    let server = Server::start();
    subscribe(&server, "mail", json!({"max_delivery_count": 1})).await;
    append(&server, "a-1", "1", "t").await;
    append(&server, "a-2", "2", "t").await;
    let got = receive_all(&server, "mail", 2).await;
    assert_eq!(settle(&server, "mail", "reject", &[&got[1].token]).await, 1);
    let path = format!("{MAIL}/deadletters");
    let letters = async || parsed(&server.call("GET", &path, "").await);
    eventually(async || !ids(&letters().await).is_empty()).await;
    let letter = &letters().await[0];
    let of = |name: &str| letter[format!("deadletter{name}")].as_str().unwrap();
    assert_eq!(
        (of("stream"), of("revision"), of("position")),
        ("a-2", "0", "1")
    );
    assert_eq!(of("reason"), "Rejected");
    assert_eq!(server.call("DELETE", MAIL, "").await.status, 204);
    subscribe(&server, "mail", json!({"from": "earliest"})).await;
    assert_eq!(letters().await, json!([]));
    assert_eq!(receive_all(&server, "mail", 2).await.len(), 2);
}

/// What a webhook posts, one request after the other, each answered with 200.
fn posts() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut text = String::new();
            let mut some = [0; 4_096];
            while !text.ends_with('}') {
                let count = stream.read(&mut some).unwrap();
                text.push_str(std::str::from_utf8(&some[..count]).unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).unwrap();
            if tell.send(text).is_err() {
                return;
            }
        }
    });
    (url, told)
}

#[tokio::test]
async fn a_webhook_of_the_store_is_told_where_an_event_stands() {
    let (url, posts) = posts();
    let server = Server::start_with(&["--allow-private-webhooks"]);
    let push = json!({"url": url, "concurrency": 1});
    subscribe(&server, "hook", json!({"from": "earliest", "push": push})).await;
    append(&server, "a-1", "1", "t").await;
    append(&server, "a%20%C3%A4", "2", "t").await;
    append(&server, "a-1", "3", "t").await;
    for (stream, revision, position) in [("a-1", 0, 0), ("a%20%C3%A4", 0, 1), ("a-1", 1, 2)] {
        let post = posts.recv_timeout(crate::server::SOON).unwrap();
        for header in [
            format!("mente-stream: {stream}\r\n"),
            format!("mente-revision: {revision}\r\n"),
            format!("mente-position: {position}\r\n"),
            "mente-subscription: $store/hook\r\n".to_owned(),
        ] {
            assert!(post.contains(&header), "{header} {post}");
        }
    }
}

#[test]
fn verbs_work_on_the_store() {
    let server = Server::start();
    ok(
        &server,
        &[
            "stream",
            "append",
            "order-1",
            "{\"n\":1}",
            "--type",
            "Placed",
        ],
    );
    ok(
        &server,
        &["stream", "append", "order-1", "{\"n\":2}", "--type", "Paid"],
    );
    let made = [
        "subscription",
        "create",
        "$store",
        "mail",
        "--from",
        "1",
        "--ordered",
    ];
    assert_eq!(ok(&server, &made), "subscription $store/mail from 1\n");
    let shown = ok(
        &server,
        &[
            "subscription",
            "receive",
            "$store",
            "mail",
            "--ack",
            "--wait",
            "10",
        ],
    );
    assert!(shown.contains("order-1@1  Paid"), "{shown}");
    let list = ok(&server, &["subscription", "ls", "$store"]);
    assert!(list.contains("mail"), "{list}");
    let (code, _, err) = mente(
        &server,
        &["subscription", "create", "$store", "x", "--from", "noon"],
    );
    assert_ne!(code, 0);
    assert!(err.contains("earliest, latest or a position"), "{err}");
    ok(&server, &["subscription", "rm", "$store", "mail", "--yes"]);
}
