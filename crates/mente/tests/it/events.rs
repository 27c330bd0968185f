//! Publishing in every mode, and reading back by position.

use hyper::HeaderMap;
use serde_json::json;

use crate::server::{Server, ids, parsed, place};

const BATCH: &str = "application/cloudevents-batch+json";

#[tokio::test]
async fn events_of_every_mode_read_back_as_they_came() {
    let server = Server::start();
    let path = "/topics/orders/events";
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "binary"),
        ("ce-source", "/shop"),
        ("ce-type", "placed"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("content-type", "text/plain"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let sent = server
        .client
        .request_with("POST", path, headers, "hällo")
        .await
        .unwrap();
    assert_eq!((sent.status, place(&parsed(&sent))), (200, (0, 0)));

    assert_eq!(
        server
            .publish("orders", "structured", r#"{"b":1.50, "a":[]}"#)
            .await,
        (0, 1)
    );

    let body = r#"[{"specversion":"1.0","id":"x","source":"/t","type":"test","data":null},
                   {"specversion":"1.0","id":"y","source":"/t","type":"test","level":3,"data_base64":"AP8="}]"#;
    let sent = server
        .client
        .request("POST", path, Some(BATCH), body)
        .await
        .unwrap();
    let expect = json!({"events": [{"partition":0,"offset":2}, {"partition":0,"offset":3}]});
    assert_eq!((sent.status, parsed(&sent)), (200, expect));

    let read = server.call("GET", path, "").await;
    assert_eq!(read.headers["content-type"], BATCH);
    assert_eq!(read.headers["mente-next-offset"], "4");
    let batch = parsed(&read);
    assert_eq!(ids(&batch), ["binary", "structured", "x", "y"]);
    let first = json!({"specversion":"1.0","id":"binary","source":"/shop","type":"placed",
        "subject":"Euro €","datacontenttype":"text/plain","data":"hällo"});
    assert_eq!(batch[0], first);
    assert!(
        read.text().contains(r#""data":{"b":1.50, "a":[]}"#),
        "{}",
        read.text()
    );
    assert!(read.text().contains(r#""data":null"#));
    assert_eq!(
        (&batch[3]["level"], &batch[3]["data_base64"]),
        (&json!(3), &json!("AP8="))
    );
}

#[tokio::test]
async fn reading_goes_on_where_it_stopped() {
    let server = Server::start();
    for id in ["0", "1", "2", "3", "4"] {
        server.publish("t", id, "1").await;
    }
    let mut from = "earliest".to_owned();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let path = format!("/topics/t/events?limit=2&from={from}");
        let read = server.call("GET", &path, "").await;
        from = read.headers["mente-next-offset"]
            .to_str()
            .unwrap()
            .to_owned();
        seen.extend(ids(&parsed(&read)).into_iter().map(str::to_owned));
    }
    assert_eq!((seen.concat(), &*from), ("01234".to_owned(), "5"));

    let latest = server.ok("GET", "/topics/t/events?from=latest", "").await;
    assert_eq!(ids(&latest), [""; 0]);
    let read = server
        .ok(
            "GET",
            "/topics/t/events?from=2000-01-01T00:00:00Z&limit=1",
            "",
        )
        .await;
    assert_eq!(ids(&read), ["0"]);
    let read = server
        .ok("GET", "/topics/t/events?from=4102444800000ms", "")
        .await;
    assert_eq!(ids(&read), [""; 0]);

    // A wait ends with the first event that comes.
    let waiting = server.ok("GET", "/topics/t/events?from=5&wait_ms=60000", "");
    let publish = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        server.publish("t", "5", "1").await;
    };
    let (read, ()) = tokio::join!(waiting, publish);
    assert_eq!(ids(&read), ["5"]);
}

#[tokio::test]
async fn partitions_keep_the_order_of_their_keys() {
    let server = Server::start();
    let created = server
        .call("PUT", "/topics/wide", r#"{"partitions":4}"#)
        .await;
    assert_eq!(created.status, 201);
    assert_eq!(server.call("PUT", "/topics/wide", "").await.status, 200);
    let body: Vec<_> = (0..40)
        .map(|n| {
            json!({"specversion":"1.0","id":n.to_string(),"source":"/t","type":"test",
                   "partitionkey":format!("key {}", n % 7),"data":n})
        })
        .collect();
    let body = json!(body).to_string();
    let sent = server
        .client
        .request("POST", "/topics/wide/events", Some(BATCH), body)
        .await;
    let sent = parsed(&sent.unwrap());
    let partitions: std::collections::BTreeSet<_> = sent["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| place(e).0)
        .collect();
    assert!(partitions.len() > 1, "{sent}");

    // All partitions are read in pieces, with one text that says where to go on.
    let mut from = "earliest".to_owned();
    let mut seen = Vec::new();
    loop {
        let read = server
            .call(
                "GET",
                &format!("/topics/wide/events?limit=7&from={from}"),
                "",
            )
            .await;
        let batch = parsed(&read);
        if ids(&batch).is_empty() {
            break;
        }
        from = read.headers["mente-next-offset"]
            .to_str()
            .unwrap()
            .to_owned();
        seen.extend(ids(&batch).into_iter().map(|id| id.parse::<u32>().unwrap()));
    }
    for key in 0..7 {
        let of_key: Vec<_> = seen.iter().filter(|n| *n % 7 == key).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    let one = server.call("GET", "/topics/wide/events?from=5", "").await;
    assert_eq!(one.status, 400, "{}", one.text());
    assert_eq!(
        server
            .call("GET", "/topics/wide/events?partition=4", "")
            .await
            .status,
        416
    );
}

#[tokio::test]
async fn topics_come_and_go() {
    let server = Server::start_with(&[]);
    assert_eq!(server.call("GET", "/topics/a", "").await.status, 404);
    server.ok("PUT", "/topics/a", "").await;
    server.publish("a", "1", "1").await;
    let expect = json!({"name":"a","partitions":1,"bounds":[{"partition":0,"start":0,"end":1}]});
    assert_eq!(server.ok("GET", "/topics/a", "").await, expect);
    let expect = json!({"topics":[{"name":"a","partitions":1}]});
    assert_eq!(server.ok("GET", "/topics", "").await, expect);
    assert_eq!(
        server
            .call("PUT", "/topics/a", r#"{"partitions":2}"#)
            .await
            .status,
        409
    );
    assert_eq!(server.call("DELETE", "/topics/a", "").await.status, 204);
    assert_eq!(server.call("DELETE", "/topics/a", "").await.status, 404);
    server.ok("PUT", "/topics/a", "").await;
    let empty = server.ok("GET", "/topics/a/events", "").await;
    assert_eq!(ids(&empty), [""; 0]);
}

#[tokio::test]
async fn a_topic_says_how_long_its_events_stay() {
    let server = Server::start();
    let wanted = [
        (r#"{"retention_ms":3600000,"retention_bytes":1000000}"#, 201),
        (r#"{"retention_bytes":2000000}"#, 200),
    ];
    for (body, status) in wanted {
        let put = server
            .client
            .request("PUT", "/topics/short", Some("application/json"), body);
        assert_eq!(put.await.unwrap().status, status);
    }
    let server = server.crash_and_restart();
    let topic = server
        .client
        .request("GET", "/topics/short", None, "")
        .await;
    let topic = parsed(&topic.unwrap());
    assert_eq!(topic["retention_ms"], 3_600_000);
    assert_eq!(topic["retention_bytes"], 2_000_000);
}

/// The owner of the name decides, so of many at the same time one made it.
#[tokio::test]
async fn who_made_a_thing_is_told_201_and_the_others_200() {
    let server = Server::start();
    for round in 0..5 {
        let topic = format!("/topics/t{round}");
        let subscription = format!("{topic}/subscriptions/s");
        for path in [&topic, &subscription] {
            let put = async |_| server.call("PUT", path, "{}").await.status;
            let mut found = futures::future::join_all((0..16).map(put)).await;
            found.sort_unstable();
            let expected: Vec<u16> = (0..16).map(|n| if n < 15 { 200 } else { 201 }).collect();
            assert_eq!(found, expected, "{path}");
        }
    }
}
