//! Several nodes on one cluster: whatever node a client comes to, the owner decides; a node that dies is
//! replaced; nodes find each other through Kafka alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, eventually, parsed};

/// Servers on the same topics.
pub(crate) fn nodes(count: usize) -> Vec<Server> {
    let mut flags = crate::engine::flags();
    flags.push("--create-topics".to_owned());
    (0..count)
        .map(|_| Server::spawn(tempfile::tempdir().unwrap(), flags.clone()))
        .collect()
}

/// Who owns each shard, as this node says.
async fn owners(server: &Server) -> BTreeMap<u64, String> {
    let told = server.ok("GET", "/api/cluster", "").await;
    let at_work = |shard: &Value| {
        let owner = shard["owner"].as_str()?.to_owned();
        (shard["state"] == "at_work").then_some((shard["shard"].as_u64()?, owner))
    };
    let shards = told["shards"].as_array().unwrap();
    shards.iter().filter_map(at_work).collect()
}

/// Waits until all nodes say the same: so many owners, each with its share.
async fn settled(nodes: &[&Server]) -> BTreeMap<u64, String> {
    let mut all = BTreeMap::new();
    eventually(async || {
        let mut said = Vec::new();
        for node in nodes {
            said.push(owners(node).await);
        }
        all = said[0].clone();
        let names: BTreeSet<_> = all.values().collect();
        let share = |name: &&String| all.values().filter(|owner| owner == name).count();
        let shares: Vec<_> = names.iter().map(share).collect();
        let spread = shares.iter().max().unwrap_or(&0) - shares.iter().min().unwrap_or(&0);
        all.len() == 8
            && names.len() == nodes.len()
            && spread <= 1
            && said.iter().all(|s| *s == all)
    })
    .await;
    all
}

/// The name of the node that answers here.
async fn name(server: &Server) -> String {
    let told = server.ok("GET", "/api/cluster", "").await;
    let nodes = told["nodes"].as_array().unwrap();
    let this = nodes.iter().find(|node| node["this"] == true).unwrap();
    this["node"].as_str().unwrap().to_owned()
}

/// Receives and acknowledges until all of these were there; each node in turn.
async fn drain(nodes: &[&Server], topic: &str, ids: std::ops::Range<u32>) {
    let pull = format!("/topics/{topic}/eventsubscriptions/s");
    let mut left: BTreeSet<String> = ids.map(|id| id.to_string()).collect();
    let mut turn = nodes.iter().cycle();
    let began = Instant::now();
    while !left.is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{topic}: {left:?}"
        );
        let (at, then) = (turn.next().unwrap(), turn.next().unwrap());
        let path = format!("{pull}:receive?maxEvents=7&maxWaitTime=10");
        let received = at.ok("POST", &path, "").await;
        let items = received["value"].as_array().unwrap();
        let token = |item: &Value| item["brokerProperties"]["lockToken"].clone();
        let tokens: Vec<_> = items.iter().map(token).collect();
        if tokens.is_empty() {
            continue;
        }
        let body = json!({ "lockTokens": tokens }).to_string();
        let settled = then.ok("POST", &format!("{pull}:acknowledge"), &body).await;
        assert_eq!(settled["failedLockTokens"], json!([]), "{settled}");
        for item in items {
            left.remove(item["event"]["id"].as_str().unwrap());
        }
    }
}

#[tokio::test]
async fn any_node_answers_and_a_dead_one_is_replaced() {
    let all = nodes(3);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let before = settled(&[a, b, c]).await;

    // What one makes the next one uses at once, topics of every shard.
    for number in 0..12 {
        let (here, there) = (&all[number % 3], &all[(number + 1) % 3]);
        let topic = format!("t{number}");
        here.ok("PUT", &format!("/topics/{topic}"), "{}").await;
        let path = format!("/topics/{topic}/subscriptions/s");
        there.ok("PUT", &path, r#"{"from":"earliest"}"#).await;
        for id in 0..20 {
            all[id % 3].publish(&topic, &id.to_string(), "1").await;
        }
        drain(&[a, b, c], &topic, 0..20).await;
        // A long poll at one node ends with a publish at another.
        let pull = format!("/topics/{topic}/eventsubscriptions/s");
        let path = format!("{pull}:receive?maxEvents=1&maxWaitTime=20");
        let (received, _) = tokio::join!(here.ok("POST", &path, ""), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            there.publish(&topic, "late", "1").await
        });
        assert_eq!(received["value"][0]["event"]["id"], "late");
    }
    // One stream, written at all of them.
    for revision in 0..9 {
        let expected = if revision == 0 {
            "none".to_owned()
        } else {
            (revision - 1).to_string()
        };
        let path = format!("/streams/order-1?expected={expected}");
        let event = json!({"specversion": "1.0", "id": revision.to_string(), "source": "/t", "type": "t", "data": 1});
        let node = &all[revision % 3];
        let appended = node
            .client
            .request(
                "POST",
                &path,
                Some("application/cloudevents+json"),
                event.to_string(),
            )
            .await
            .unwrap();
        assert_eq!(appended.status, 200, "{}", appended.text());
    }
    let read = parsed(&c.call("GET", "/streams/order-1", "").await);
    assert_eq!(read["events"].as_array().map(Vec::len), Some(9), "{read}");
    assert_eq!(b.ok("POST", "/verify", "").await["equal"], true);

    // The owner of some dies with 30 events unsettled in each topic.
    for number in 0..12 {
        for id in 100..130 {
            a.publish(&format!("t{number}"), &id.to_string(), "1").await;
        }
    }
    let dead = name(c).await;
    let mut all = all;
    let mut killed = all.pop().unwrap();
    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    let began = Instant::now();
    let [a, b] = [&all[0], &all[1]];
    for number in 0..12 {
        drain(&[a, b], &format!("t{number}"), 100..130).await;
    }
    let took = began.elapsed();
    let after = settled(&[a, b]).await;
    assert!(after.values().all(|owner| *owner != dead));
    let kept = before
        .iter()
        .filter(|(shard, owner)| **owner != dead && after[*shard] == **owner);
    assert_eq!(
        kept.count(),
        before.values().filter(|owner| **owner != dead).count(),
        "who lives keeps what it has"
    );
    println!("all 12 topics drained {took:?} after the kill");
    // It comes again, and has its share.
    let again = killed.crash_and_restart();
    settled(&[a, b, &again]).await;
    assert_eq!(a.ok("POST", "/verify", "").await["equal"], true);
}

/// A subscription of the store is made at one node, received from and replayed at the others.
#[tokio::test]
async fn the_store_is_subscribed_to_at_any_node() {
    let all = nodes(3);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    settled(&[a, b, c]).await;
    a.ok(
        "PUT",
        "/topics/$store/subscriptions/s",
        r#"{"from":"earliest"}"#,
    )
    .await;
    for id in 0..12 {
        let stream = format!("s-{}", id % 4);
        let node = &all[id % 3];
        crate::store_subscriptions::append(node, &stream, &id.to_string(), "t").await;
    }
    // Each node gives up on one.
    for (at, then) in [(a, b), (b, c), (c, a)] {
        let pull = "/topics/$store/eventsubscriptions/s";
        let path = format!("{pull}:receive?maxEvents=1&maxWaitTime=20");
        let received = at.ok("POST", &path, "").await;
        let token = &received["value"][0]["brokerProperties"]["lockToken"];
        let body = json!({ "lockTokens": [token] }).to_string();
        then.ok("POST", &format!("{pull}:reject"), &body).await;
    }
    let letters = async |node: &Server| {
        let path = "/topics/$store/subscriptions/s/deadletters";
        let read = parsed(&node.call("GET", path, "").await);
        read.as_array().map_or(0, Vec::len)
    };
    eventually(async || letters(a).await == 3).await;
    let mut replayed = 0;
    for node in &all {
        let path = "/topics/$store/subscriptions/s/deadletters:replay?limit=1";
        let done = node.ok("POST", path, "").await;
        replayed += done["replayed"].as_u64().unwrap();
    }
    assert_eq!((replayed, letters(b).await), (3, 0));
    drain(&[a, b, c], "$store", 0..12).await;
    for node in &all {
        let list = node.ok("GET", "/topics/$store/subscriptions", "").await;
        let counts = &list["subscriptions"][0]["counts"];
        assert_eq!(
            (&counts["ready"], &counts["completed"]),
            (&json!(0), &json!(12))
        );
    }
    assert_eq!(b.ok("POST", "/verify", "").await["equal"], true);
}

/// Whoever does not know the secret that went through Kafka is no node.
#[tokio::test]
async fn nodes_know_each_other_by_their_secrets() {
    let server = Server::start();
    for (method, path) in [("POST", "/nodes/answer"), ("GET", "/nodes/progress")] {
        let refused = server.call(method, path, "{}").await;
        assert_eq!(refused.status, 401, "{}", refused.text());
    }
}
