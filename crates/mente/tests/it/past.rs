//! What a stream was, what changed it, and what it would be otherwise: held against a fold that the
//! test makes itself.

use serde_json::{Map, Value, json};

use crate::server::Server;
use crate::verbs::{mente, ok};

const STREAM: &str = "/streams/cart-1";

fn event(id: usize, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": format!("e{id}"), "source": "/t", "type": "t", "data": data})
}

async fn append(server: &Server, datas: &[Value]) {
    for (id, data) in datas.iter().enumerate() {
        let batch = json!([event(id, data)]).to_string();
        let content_type = "application/cloudevents-batch+json";
        let client = mente::client::Client::new(&server.url()).unwrap();
        let answer = client.request("POST", STREAM, Some(content_type), batch);
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

/// RFC 7386, written once more.
fn merged(mut target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    if !target.is_object() {
        target = json!({});
    }
    let fields = target.as_object_mut().unwrap();
    for (name, value) in patch {
        match value {
            Value::Null => {
                fields.remove(name);
            }
            value => {
                let old = fields.remove(name).unwrap_or(Value::Null);
                fields.insert(name.clone(), merged(old, value));
            }
        }
    }
    target
}

/// The state after each event.
fn states(datas: &[Value]) -> Vec<Value> {
    let mut state = json!({});
    let states = datas.iter().map(|data| {
        state = merged(state.take(), data);
        state.clone()
    });
    states.collect()
}

/// Every plain value of a state by its dotted path.
fn leaves(value: &Value) -> Map<String, Value> {
    fn walk(path: &str, value: &Value, found: &mut Map<String, Value>) {
        match value {
            Value::Object(members) if !members.is_empty() || path.is_empty() => {
                for (name, member) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(&format!("{path}{dot}{name}"), member, found);
                }
            }
            value => {
                found.insert(path.to_owned(), value.clone());
            }
        }
    }
    let mut found = Map::new();
    walk("", value, &mut found);
    found
}

fn dotted(of: &Value) -> String {
    let names = of["path"].as_array().unwrap().iter();
    names
        .map(|name| name.as_str().unwrap())
        .collect::<Vec<_>>()
        .join(".")
}

/// Changes as the leaves that they turn `before` into.
fn applied(mut leaves: Map<String, Value>, changes: &Value) -> Map<String, Value> {
    for change in changes.as_array().unwrap() {
        let path = dotted(change);
        assert_eq!(
            leaves.remove(&path),
            change.get("before").cloned(),
            "{change}"
        );
        if let Some(after) = change.get("after") {
            leaves.insert(path, after.clone());
        }
    }
    leaves
}

fn datas() -> Vec<Value> {
    let mut datas: Vec<Value> = (0..40)
        .map(|n| match n % 5 {
            0 => json!({"items": {format!("sku{}", n % 7): {"count": n, "price": n * 2}}}),
            1 => json!({"items": {format!("sku{}", n % 7): null}, "note": {"text": n}}),
            2 => json!({"note": n, "address": {"city": "A", "zip": [n]}}),
            3 => json!({"note": null, "address": {"city": {"name": n}}}),
            _ => json!({"items": {"a.b": n}, "empty": {}}),
        })
        .collect();
    datas.push(json!("no object"));
    datas.push(json!({"address": {"city": null, "zip": null}}));
    datas
}

#[tokio::test]
async fn every_moment_of_a_stream_is_told_alike() {
    let server = Server::start();
    let mut datas = datas();
    append(&server, &datas).await;
    // Data that is no object is merged into nothing.
    datas[40] = json!({});
    let states = states(&datas);
    let last = states.len() - 1;
    for (at, state) in states.iter().enumerate() {
        let told = server
            .ok("GET", &format!("{STREAM}/state?at={at}"), "")
            .await;
        assert_eq!((&told["state"], &told["revision"]), (state, &json!(at)));
    }
    for (from, to) in [(0, last), (last, 0), (7, 12), (12, 12), (30, 29)] {
        let told = server
            .ok("GET", &format!("{STREAM}/diff?from={from}&to={to}"), "")
            .await;
        let after = applied(leaves(&states[from]), &told["changes"]);
        assert_eq!(after, leaves(&states[to]), "{from} {to}");
    }
    // Two pages of the log, newest first, lead back through every state.
    let mut at = last;
    let mut before = String::new();
    while at > 0 {
        let told = server
            .ok("GET", &format!("{STREAM}/log?limit=25{before}"), "")
            .await;
        for step in told["steps"].as_array().unwrap() {
            assert_eq!(
                (&step["revision"], &step["id"]),
                (&json!(at), &json!(format!("e{at}")))
            );
            assert_eq!(
                step["changed"],
                json!(step["changes"].as_array().unwrap().len())
            );
            let earlier = at
                .checked_sub(1)
                .map_or(Map::new(), |earlier| leaves(&states[earlier]));
            assert_eq!(
                applied(earlier, &step["changes"]),
                leaves(&states[at]),
                "{at}"
            );
            at = at.saturating_sub(1);
        }
        before = format!("&before={}", at + 1);
    }
    for at in [5, last] {
        let told = server
            .ok("GET", &format!("{STREAM}/blame?at={at}"), "")
            .await;
        let fields = told["fields"].as_array().unwrap();
        assert_eq!(fields.len(), leaves(&states[at]).len());
        for field in fields {
            let path = dotted(field);
            let value = |state: &Value| leaves(state).get(&path).cloned();
            let since = (0..=at)
                .rev()
                .take_while(|n| value(&states[*n]) == value(&states[at]));
            assert_eq!(
                field["revision"],
                json!(since.last().unwrap()),
                "{path} at {at}"
            );
            assert_eq!(Some(&field["value"]), value(&states[at]).as_ref());
        }
    }
    let told = server
        .ok("GET", &format!("{STREAM}/blame?field=address.city"), "")
        .await;
    let name = told["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| dotted(field) == "address.city.name");
    let name = name.unwrap();
    assert_eq!(
        (name.get("value"), &name["revision"]),
        (None, &json!(last)),
        "it went with the last event"
    );
}

#[tokio::test]
async fn a_what_if_changes_the_answer_and_nothing_else() {
    let server = Server::start();
    let datas = datas();
    append(&server, &datas[..10]).await;
    let state = states(&datas[..10])[9].clone();
    let asked = json!({
        "drop": [4, 7],
        "replace": [{"revision": 2, "event": event(2, &json!({"note": "other"}))}],
        "append": [event(10, &json!({"note": {"late": true}}))],
    });
    let told = server
        .ok("POST", &format!("{STREAM}/whatif"), &asked.to_string())
        .await;
    let mut other = datas[..10].to_vec();
    other[2] = json!({"note": "other"});
    other.remove(7);
    other.remove(4);
    other.push(json!({"note": {"late": true}}));
    let after = states(&other).pop().unwrap();
    assert_eq!((&told["before"], &told["after"]), (&state, &after));
    assert_eq!(applied(leaves(&state), &told["changes"]), leaves(&after));
    let told = server
        .ok("POST", &format!("{STREAM}/whatif?at=4"), r#"{"drop":[4]}"#)
        .await;
    assert_eq!(
        (&told["before"], &told["after"]),
        (&states(&datas)[4], &states(&datas)[3])
    );
    // As it was.
    let told = server.ok("GET", &format!("{STREAM}/state"), "").await;
    assert_eq!((&told["state"], &told["revision"]), (&state, &json!(9)));

    for (asked, refusal) in [
        (json!({"drop": [10]}), "up to revision 9, without 10"),
        (
            json!({"drop": [1], "replace": [{"revision": 1, "event": event(1, &json!(1))}]}),
            "two things",
        ),
        (json!({"append": [{"id": "1"}]}), "specversion"),
        (json!({"drop": ["x"]}), "the body"),
        (json!({"dorp": [1]}), "dorp"),
    ] {
        let answer = server
            .call("POST", &format!("{STREAM}/whatif"), &asked.to_string())
            .await;
        let is_beyond = refusal.starts_with("up to");
        assert_eq!(
            answer.status,
            if is_beyond { 416 } else { 400 },
            "{}",
            answer.text()
        );
        assert!(answer.text().contains(refusal), "{}", answer.text());
    }
}

#[tokio::test]
async fn the_command_line_tells_the_past() {
    let server = Server::start();
    append(&server, &datas()[..4]).await;
    let log = ok(&server, &["stream", "log", "cart-1", "--limit", "2"]);
    let lines: Vec<&str> = log.lines().collect();
    assert!(
        lines[0].starts_with("3  20") && lines[0].ends_with("  t  e3"),
        "{log}"
    );
    assert_eq!(
        lines[1..4],
        [
            "    - address.city  \"A\"",
            "    + address.city.name  3",
            "    - note  2"
        ]
    );
    let diff = ok(&server, &["stream", "diff", "cart-1", "1", "0"]);
    assert_eq!(diff, "- note.text  1\n");
    let blame = ok(&server, &["stream", "blame", "cart-1", "note"]);
    assert!(blame.contains("note") && blame.contains("gone"), "{blame}");
    let what_if = ok(&server, &["stream", "whatif", "cart-1", "--drop", "3"]);
    assert!(what_if.contains("+ note  2"), "{what_if}");
    let (code, _, err) = mente(&server, &["stream", "whatif", "cart-1"]);
    assert!(code == 2 && err.contains("--drop REVISION"), "{code} {err}");
    let time = ok(
        &server,
        &[
            "stream",
            "state",
            "cart-1",
            "--time",
            "2100-01-01T00:00:00Z",
        ],
    );
    assert!(time.starts_with("revision 3\n"), "{time}");
    let (code, _, err) = mente(
        &server,
        &[
            "stream",
            "state",
            "cart-1",
            "--time",
            "2001-01-01T00:00:00Z",
        ],
    );
    assert!(
        code != 0 && err.contains("had no event at 2001-01-01T00:00:00.000Z"),
        "{err}"
    );
    let (code, _, err) = mente(&server, &["stream", "blame", "cart-1", "nothing"]);
    assert!(code != 0 && err.contains("never had a field"), "{err}");
}
