//! Alternatives of the past: kept, looked at again, made true.

use serde_json::{Value, json};

use crate::server::Server;
use crate::verbs::{mente, ok};

fn event(id: &str, kind: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind, "data": data})
}

async fn append(server: &Server, stream: &str, events: Vec<Value>) {
    let client = mente::client::Client::new(&server.url()).unwrap();
    let batch = Some("application/cloudevents-batch+json");
    let body = Value::from(events).to_string();
    let path = format!("/streams/{stream}");
    let answer = client.request("POST", &path, batch, body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A cart: three items, a coupon by mistake.
async fn cart(server: &Server, stream: &str) {
    let item = |id: &str, price: u64| event(id, "ItemAdded", &json!({"sku": id, "price": price}));
    let coupon = event(
        "coupon",
        "CouponUsed",
        &json!({"coupon": {"code": "X", "off": {"eur": 5}}}),
    );
    append(
        server,
        stream,
        vec![item("a", 10), item("b", 20), coupon, item("c", 30)],
    )
    .await;
}

async fn state(server: &Server, stream: &str) -> Value {
    let told = server
        .ok("GET", &format!("/streams/{stream}/state"), "")
        .await;
    told["state"].clone()
}

const DECLARED: &str = r#"{"ItemAdded": [{"append": {"items": "$.data.sku"}}, {"add": {"total": "$.data.price"}}],
    "CouponUsed": [{"merge": "data"}]}"#;
const REDUCER: &str = "function reduce(state, event) {
    if (event.type === 'ItemAdded') {
        state.items = (state.items ?? []).concat(event.data.sku);
        state.total = (state.total ?? 0) + event.data.price;
    } else if (event.type === 'CouponUsed') {
        state.coupon = event.data.coupon;
    }
    return state;
}";

async fn what_is_promoted_is_the_state(fold: Option<String>) {
    let server = Server::start();
    if let Some(fold) = fold {
        server.ok("PUT", "/folds/cart", &fold).await;
    }
    let later = event("d", "ItemAdded", &json!({"sku": "d", "price": 1}));
    let other = event(
        "b2",
        "ItemAdded",
        &json!({"sku": "b2", "price": 7, "gift": true}),
    );
    for (number, otherwise) in [
        json!({"drop": [2]}),
        json!({"drop": [0, 1, 2, 3]}),
        json!({"replace": [{"revision": 1, "event": other}]}),
        json!({"append": [later]}),
        json!({"drop": [0], "replace": [{"revision": 1, "event": other}], "append": [later]}),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = format!("cart-{number}");
        cart(&server, &stream).await;
        let body = otherwise.to_string();
        let told = server
            .ok("POST", &format!("/streams/{stream}/whatif"), &body)
            .await;
        let path = format!("/streams/{stream}/promote?at=3&id=because");
        let promoted = server.ok("POST", &path, &body).await;
        assert_eq!(state(&server, &stream).await, told["after"], "{otherwise}");
        // The past is what it was.
        let before = server
            .ok("GET", &format!("/streams/{stream}/state?at=3"), "")
            .await;
        assert_eq!(before["state"], told["before"]);
        let again = server.ok("POST", &path, &body).await;
        assert_eq!(again["repeated"], true);
        assert_eq!(again["lastRevision"], promoted["lastRevision"]);
        // Blame names the correction for what it changed.
        for change in promoted["changes"].as_array().unwrap() {
            if change.get("after").is_none() {
                continue;
            }
            let names = change["path"].as_array().unwrap().iter();
            let field = names
                .map(|name| name.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(".");
            let path = format!("/streams/{stream}/blame?field={field}");
            let blamed = server.ok("GET", &path, "");
            assert_eq!(
                blamed.await["fields"][0]["type"],
                "Mente.Correction",
                "{field}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_promoted_is_the_state_where_data_is_merged() {
    what_is_promoted_is_the_state(None).await;
}

#[tokio::test]
async fn what_is_promoted_is_the_state_of_a_declared_fold() {
    what_is_promoted_is_the_state(Some(DECLARED.to_owned())).await;
}

#[tokio::test]
async fn what_is_promoted_is_the_state_of_a_reducer() {
    let reducer = json!({ "javascript": REDUCER }).to_string();
    what_is_promoted_is_the_state(Some(reducer)).await;
}

#[tokio::test]
async fn what_was_decided_on_another_past_is_not_promoted() {
    let server = Server::start();
    cart(&server, "cart-1").await;
    append(
        &server,
        "cart-1",
        vec![event("z", "CouponUsed", &json!({}))],
    )
    .await;
    let refused = async |path: &str, body: &str| {
        let answer = server.call("POST", &format!("/streams/{path}"), body).await;
        (answer.status, answer.text())
    };
    let drop = r#"{"drop":[2]}"#;
    let (status, why) = refused("cart-1/promote?at=3", drop).await;
    assert_eq!(status, 409, "{why}");
    let (status, why) = refused("cart-1/promote", "{}").await;
    assert_eq!(status, 400, "{why}");
    assert!(why.contains("nothing to make true"), "{why}");
    assert_eq!(refused("cart-2/promote", drop).await.0, 404);
    assert_eq!(refused("cart-1/promote", r#"{"drop":[9]}"#).await.0, 416);
    let events = server.ok("GET", "/streams/cart-1", "").await;
    assert_eq!(events["events"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_kept_alternative_follows_its_stream_until_it_is_made_true() {
    let server = Server::start();
    cart(&server, "cart-1").await;
    let words = [
        "stream",
        "whatif",
        "cart-1",
        "--drop",
        "2",
        "--keep",
        "no-coupon",
    ];
    let said = ok(&server, &words);
    assert!(said.contains("mente alternative get no-coupon"), "{said}");
    let server = server.crash_and_restart();
    assert!(ok(&server, &["alternative", "ls"]).contains("no-coupon"));
    append(
        &server,
        "cart-1",
        vec![event("e", "Paid", &json!({"paid": true}))],
    )
    .await;
    let told = server.ok("GET", "/alternatives/no-coupon", "").await;
    assert_eq!(
        (&told["revision"], &told["after"]["paid"]),
        (&json!(4), &json!(true))
    );
    assert!(told["after"].get("coupon").is_none(), "{told}");
    let shown = ok(&server, &["alternative", "get", "no-coupon"]);
    assert!(shown.contains("- coupon.code"), "{shown}");
    let said = ok(&server, &["alternative", "promote", "no-coupon"]);
    assert!(said.contains("true as of revision 5"), "{said}");
    assert_eq!(state(&server, "cart-1").await, told["after"]);
    // Once it is true there is nothing left to do.
    let (code, _, why) = mente(&server, &["alternative", "promote", "no-coupon"]);
    assert_ne!(code, 0);
    assert!(why.contains("nothing to make true"), "{why}");
    ok(&server, &["alternative", "rm", "no-coupon"]);
    assert_ne!(mente(&server, &["alternative", "get", "no-coupon"]).0, 0);
    // What is kept keeps its bytes.
    let exact = r#"{"stream":"cart-1","append":[{"specversion":"1.0","id":"n","source":"/t","type":"T","data":{"n":1.10}}]}"#;
    server.ok("PUT", "/alternatives/exact", exact).await;
    server.ok("POST", "/alternatives/exact/promote", "").await;
    let events = server.call("GET", "/streams/cart-1", "").await.text();
    assert!(events.contains(r#"{"n":1.10}"#), "{events}");
    let put = server.call(
        "PUT",
        "/alternatives/x",
        r#"{"stream":"$$cart-1","drop":[0]}"#,
    );
    assert_eq!(put.await.status, 400);
    let large =
        json!({"stream": "cart-1", "append": [event("x", "T", &json!("x".repeat(70_000)))]});
    let large = large.to_string();
    let put = server.call("PUT", "/alternatives/x", &large);
    assert_eq!(put.await.status, 413);
}

/// What is allowed is as large for a reducer's state as it is for a correction of it.
#[tokio::test]
async fn a_correction_of_a_large_state_can_be_folded() {
    let server = Server::start();
    let reducer = json!({ "javascript": "function reduce(state, event) {
        if (event.type === 'Many') { state.many = new Array(event.data).fill(7); }
        else { state.last = event.data; }
        return state;
    }" });
    server.ok("PUT", "/folds/big", &reducer.to_string()).await;
    let many = event("m", "Many", &json!(150_000));
    let one = event("x", "One", &json!("x"));
    append(&server, "big-1", vec![many, one]).await;
    let promoted = server
        .ok("POST", "/streams/big-1/promote", r#"{"drop":[1]}"#)
        .await;
    assert_eq!(promoted["lastRevision"], 2);
    let told = state(&server, "big-1").await;
    assert_eq!(
        (told["many"].as_array().unwrap().len(), told.get("last")),
        (150_000, None)
    );
}

#[tokio::test]
async fn what_would_have_been_sent_is_told_and_not_sent() {
    let server = Server::start();
    let mail = r#"{"from": 0, "filter": {"exact": {"type": "CouponUsed"}}}"#;
    server
        .ok("PUT", "/topics/$store/subscriptions/mail", mail)
        .await;
    let all = "/topics/$store/subscriptions/all";
    server
        .ok(
            "PUT",
            all,
            r#"{"from": 0, "filter": {"exact": {"category": "cart"}}}"#,
        )
        .await;
    let others = r#"{"from": 0, "filter": {"exact": {"category": "order"}}}"#;
    server
        .ok("PUT", "/topics/$store/subscriptions/orders", others)
        .await;
    cart(&server, "cart-1").await;
    let coupon = event("late", "CouponUsed", &json!({}));
    let other = event("b2", "ItemAdded", &json!({"sku": "b2"}));
    let otherwise =
        json!({"drop": [2], "replace": [{"revision": 1, "event": other}], "append": [coupon]});
    let told = server
        .ok("POST", "/streams/cart-1/whatif", &otherwise.to_string())
        .await;
    let told: Vec<_> = told["effects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            format!(
                "{} {} {} {}",
                e["subscription"], e["revision"], e["id"], e["wouldBeSent"]
            )
        })
        .collect();
    let expect = [
        r#""all" 1 "b" false"#,
        r#""all" 1 "b2" true"#,
        r#""all" 2 "coupon" false"#,
        r#""mail" 2 "coupon" false"#,
        r#""all" 4 "late" true"#,
        r#""mail" 4 "late" true"#,
    ];
    assert_eq!(told, expect);
    let counts = server.ok("GET", all, "").await;
    assert_eq!(counts["counts"]["ready"], 4, "{counts}");
    let shown = ok(&server, &["stream", "whatif", "cart-1", "--drop", "2"]);
    assert!(
        shown.contains("would not be sent to mail: CouponUsed coupon"),
        "{shown}"
    );
}
