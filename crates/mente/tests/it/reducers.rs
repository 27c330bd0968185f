//! Folds in JavaScript: held against the declared fold of the same events, and against sources that mean harm.

use serde_json::{Value, json};

use crate::server::Server;
use crate::verbs::{mente, ok};

/// Says what [`declared`] says.
const ORDER: &str = r#"// What an order is.
const begun = { PlaceOrder: "placed", ShipOrder: "shipped" };

function reduce(state, event) {
  if (event.type === "PlaceOrder") Object.assign(state, event.data, { placed_at: event.time });
  if (event.type === "AddItem") {
    state.items = [...(state.items ?? []), event.data.item];
    state.total = (state.total ?? 0) + event.data.price;
  }
  if (begun[event.type] !== undefined) state.status = begun[event.type];
  if (event.type === "CancelOrder") return { status: "cancelled", by: event.data.by, at: event.revision };
}
"#;

fn declared() -> Value {
    json!({
        "PlaceOrder": [{"merge": "data"}, {"set": {"placed_at": "$.time", "status": "placed"}}],
        "AddItem": [{"append": {"items": "$.data.item"}}, {"add": {"total": "$.data.price"}}],
        "ShipOrder": [{"set": {"status": "shipped"}}],
        "CancelOrder": [{"remove": ["customer", "placed_at", "status", "items", "total"]},
            {"set": {"status": "cancelled", "by": "$.data.by", "at": "$.revision"}}],
    })
}

fn event(id: usize, kind: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": format!("e{id}"), "source": "/t", "type": kind, "data": data,
        "time": "2026-01-02T03:04:05Z"})
}

async fn append(server: &Server, stream: &str, events: &[Value]) {
    let client = mente::client::Client::new(&server.url()).unwrap();
    let (path, batch) = (format!("/streams/{stream}"), Value::from(events.to_vec()));
    let content_type = Some("application/cloudevents-batch+json");
    let answer = client.request("POST", &path, content_type, batch.to_string());
    assert_eq!(answer.await.unwrap().status, 200);
}

async fn declare(server: &Server, category: &str, source: &str) {
    let body = json!({ "javascript": source }).to_string();
    server.ok("PUT", &format!("/folds/{category}"), &body).await;
}

fn orders() -> Vec<Value> {
    let mut events = vec![event(
        0,
        "PlaceOrder",
        &json!({"customer": {"name": "Ada"}}),
    )];
    for n in 1..30 {
        let kind = ["AddItem", "ShipOrder", "Unrelated", "AddItem"][n % 4];
        let data = json!({"item": {"sku": n, "note": "ü\u{1F600}"}, "price": n * 2});
        events.push(event(n, kind, &data));
    }
    events.push(event(30, "CancelOrder", &json!({"by": "Bo"})));
    events.push(event(31, "AddItem", &json!({"item": "late", "price": 0.5})));
    events
}

/// Every way to ask for the past says the same of a reducer and of the declared fold.
#[tokio::test]
async fn a_reducer_says_what_the_declared_fold_says() {
    let server = Server::start();
    let events = orders();
    for category in ["order", "other"] {
        append(&server, &format!("{category}-1"), &events).await;
    }
    declare(&server, "order", ORDER).await;
    let body = declared().to_string();
    server.ok("PUT", "/folds/other", &body).await;
    let told = server.ok("GET", "/folds/order", "").await;
    assert_eq!(told, json!({ "javascript": ORDER }));
    let what_if = json!({"drop": [30], "replace": [{"revision": 1, "event": event(1, "ShipOrder", &json!(1))}],
        "append": [event(40, "CancelOrder", &json!({"by": "Cy"}))]});
    let mut asked: Vec<(&str, String, String)> = Vec::new();
    for at in 0..events.len() {
        asked.push(("GET", format!("state?at={at}"), String::new()));
    }
    for path in [
        "state",
        "state?time=2100-01-01T00:00:00Z",
        "log?limit=100",
        "log?before=20&limit=3",
        "diff?from=2&to=30",
        "diff?from=30&to=2",
        "blame",
        "blame?at=29",
        "blame?field=items",
    ] {
        asked.push(("GET", path.to_owned(), String::new()));
    }
    asked.push(("POST", "whatif?at=30".to_owned(), what_if.to_string()));
    for (method, path, body) in asked {
        let mut told = Vec::new();
        for stream in ["order-1", "other-1"] {
            let mut answer = server
                .ok(method, &format!("/streams/{stream}/{path}"), &body)
                .await;
            answer["stream"] = Value::Null;
            for part in ["steps", "fields"] {
                for step in answer[part].as_array_mut().into_iter().flatten() {
                    step["appended"] = Value::Null;
                }
            }
            if answer["fields"].is_null() {
                answer.as_object_mut().unwrap().remove("fields");
            }
            told.push(answer);
        }
        assert_eq!(told[0], told[1], "{path}");
    }
    let last = server.ok("GET", "/streams/order-1/state", "").await;
    let expect =
        json!({"status": "cancelled", "by": "Bo", "at": 30, "items": ["late"], "total": 0.5});
    assert_eq!((&last["state"], &last["revision"]), (&expect, &json!(31)));
    // What is declared anew holds from then on, for the whole past.
    declare(
        &server,
        "order",
        "const reduce = (state, event) => ({last: event.id})",
    )
    .await;
    let last = server.ok("GET", "/streams/order-1/state", "").await;
    assert_eq!(last["state"], json!({"last": "e31"}));
    let first = server.ok("GET", "/streams/order-1/state?at=0", "").await;
    assert_eq!(first["state"], json!({"last": "e0"}));
}

#[tokio::test]
async fn what_a_reducer_does_wrong_is_told() {
    let server = Server::start();
    append(&server, "order-1", &orders()[..3]).await;
    for (body, status, says) in [
        (
            "while (true);",
            413,
            "was stopped: look for a loop that does not end",
        ),
        (
            "try { while (true); } catch { while (true); }",
            413,
            "was stopped",
        ),
        (
            "const all = []; while (true) all.push(new Array(1000).fill(1))",
            413,
            "bytes of memory: let it keep less",
        ),
        (
            "(function deep() { deep() })()",
            413,
            "calls itself deeper than its stack",
        ),
        (
            "state.now = Date.now()",
            400,
            "Date is a clock, and a reducer has none: take event.time (line 2)",
        ),
        ("state.id = Math.random()", 400, "Math.random is chance"),
        ("return 7", 400, "returned a number"),
        ("return [state]", 400, "returned an array"),
        ("return null", 400, "returned null"),
        (
            "throw new Error('no such item')",
            400,
            "stream order-1 at revision 0: Error: no such item (line 2)",
        ),
        (
            "if (event.revision === 2) state.a.b.c = 1",
            400,
            "stream order-1 at revision 2: TypeError",
        ),
        (
            "state.x = 'x'.repeat(1 << 20)",
            413,
            "more than the limit of 1048576",
        ),
        ("Object.prototype.seen = true", 400, "TypeError"),
        ("Array.prototype.map = () => 1", 400, "TypeError"),
        (
            "globalThis.seen = (globalThis.seen ?? 0) + 1",
            400,
            "TypeError",
        ),
        ("return (async () => ({}))()", 400, "has no later"),
        (
            "return new Function('return {}')()",
            400,
            "makes no code from text",
        ),
        ("return {toJSON() { return 1 }}", 400, "no object of JSON"),
    ] {
        let source = format!("function reduce(state, event) {{\n{body}\n}}");
        declare(&server, "order", &source).await;
        for path in ["state", "log", "blame", "diff?from=0&to=2"] {
            let answer = server
                .call("GET", &format!("/streams/order-1/{path}"), "")
                .await;
            let text = answer.text();
            assert_eq!(answer.status, status, "{body} {path}: {text}");
            assert!(
                text.contains(says) && text.contains("stream order-1 at revision "),
                "{body}: {text}"
            );
            // One verb is enough for what takes long.
            if status == 413 {
                break;
            }
        }
    }
    // What was meant to stay behind is nowhere.
    declare(
        &server,
        "order",
        "function reduce(state, event) { state.seen = [({}).seen, globalThis.seen] }",
    )
    .await;
    let told = server.ok("GET", "/streams/order-1/state", "").await;
    assert_eq!(told["state"], json!({"seen": [null, null]}));
}

#[tokio::test]
async fn what_is_no_reducer_is_refused_when_it_is_declared() {
    let server = Server::start();
    append(&server, "order-1", &orders()[..1]).await;
    let long = format!("function reduce() {{}} // {}", "x".repeat(100_000));
    let huge = format!("function reduce() {{}} // {}", "x".repeat(1 << 20));
    for (declared, status, says) in [
        (
            json!({"javascript": "function reduce(state, event) {\n  state.x = ;\n}"}),
            400,
            "SyntaxError",
        ),
        (
            json!({"javascript": "function reduce(state, event) {\n  state.x = ;\n}"}),
            400,
            "(line 2)",
        ),
        (
            json!({"javascript": ""}),
            400,
            "declares no function reduce(state, event)",
        ),
        (json!({"javascript": "for (;;);"}), 413, "was stopped"),
        (
            json!({"javascript": "}); const reduce = 1; (() => {"}),
            400,
            "SyntaxError",
        ),
        (
            json!({"javascript": 7}),
            400,
            "a list of operations is needed",
        ),
        (
            json!({"javascript": "const reduce = (s) => s", "T": []}),
            400,
            "alone",
        ),
        (
            json!({"javascript": long}),
            413,
            "more than the limit of 65536",
        ),
        (json!({"javascript": huge}), 413, "at most"),
    ] {
        let answer = server
            .call("PUT", "/folds/order", &declared.to_string())
            .await;
        let text = answer.text();
        assert_eq!(answer.status, status, "{text}");
        assert!(text.contains(says), "{text}");
    }
    // Nothing was declared: data is merged, as before.
    let told = server.ok("GET", "/streams/order-1/state", "").await;
    assert_eq!(told["state"], json!({"customer": {"name": "Ada"}}));
    // A type of this name is folded as declared.
    let by_type = json!({"javascript": [{"set": {"x": 1}}]}).to_string();
    server.ok("PUT", "/folds/order", &by_type).await;
}

/// While reducers loop, the rest of the server answers; and no reducer's turn is lost by it.
#[tokio::test]
async fn others_are_served_while_reducers_loop() {
    let server = Server::start();
    append(&server, "loop-1", &orders()).await;
    append(&server, "order-1", &orders()).await;
    declare(
        &server,
        "loop",
        "function reduce() { for (let n = 0; n < 4e6; n++); }",
    )
    .await;
    let client = mente::client::Client::new(&server.url()).unwrap();
    let loops =
        (0..12).map(|_| client.request("GET", "/streams/loop-1/state", None, String::new()));
    let loops = futures::future::join_all(loops);
    let others = async {
        for _ in 0..50 {
            let begun = std::time::Instant::now();
            server.ok("GET", "/streams/order-1/state", "").await;
            assert!(begun.elapsed() < std::time::Duration::from_secs(2));
        }
    };
    let (loops, ()) = futures::future::join(loops, others).await;
    for answer in loops {
        let answer = answer.unwrap();
        assert!([200, 413].contains(&answer.status), "{}", answer.text());
    }
    declare(&server, "order", ORDER).await;
    server.ok("GET", "/streams/order-1/state", "").await;
}

#[tokio::test]
async fn the_command_line_takes_a_source() {
    let server = Server::start();
    append(&server, "order-1", &orders()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("order.js");
    let file = file.to_str().unwrap();
    std::fs::write(file, ORDER).unwrap();
    let said = ok(&server, &["fold", "set", "order", file]);
    assert!(said.contains("streams order-… are folded so"), "{said}");
    let state = ok(&server, &["stream", "state", "order-1", "--at", "30"]);
    assert!(state.contains("cancelled"), "{state}");
    let blame = ok(&server, &["stream", "blame", "order-1", "status"]);
    assert!(blame.contains("e30"), "{blame}");
    let declared = ok(&server, &["fold", "get", "order"]);
    let declared: Value = serde_json::from_str(&declared).unwrap();
    assert_eq!(declared, json!({ "javascript": ORDER }));
    std::fs::write(file, "function reduce(state, event) {\n\n  state.= 1\n}").unwrap();
    let (code, _, err) = mente(&server, &["fold", "set", "order", file]);
    assert!(
        code != 0 && err.contains("SyntaxError") && err.contains("(line 3)"),
        "{err}"
    );
}
