//! Sagas: pay, reserve, ship, and what undoes them, over kills of the server and with each service failing in turn;
//! every order takes exactly the course that follows from what the services said.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mente::client::Client;
use serde_json::{Value, json};

use crate::server::{SOON, Server, eventually, parsed};
use crate::verbs::{mente, ok};

const ORDERS: usize = 60;
const KILLS: usize = 5;

const FULFILMENT: &str = r#"
const undoing = { payment: "RefundAsked", stock: "ReleaseAsked" };
function react(state, event) {
  const order = (state.order ??= event.data.order);
  const ask = (service, type, timers) => ({ events: [{ stream: `${service}-${order}`, type, data: { order } }], timers });
  const undo = (why) => {
    const undone = state.done.reverse().map((service) => ask(service, undoing[service]).events[0]);
    state.step = "cancelled";
    state.done = [];
    return { events: [...undone, { stream: `order-${order}`, type: "Cancelled", data: { why } }], timers: { silence: null } };
  };
  switch (event.type) {
    case "Placed":
      state.step = "paying";
      state.done = [];
      return ask("payment", "PaymentAsked", { silence: event.data.patience });
    case "PaymentTaken":
      // Too late is taken back.
      if (state.step === "cancelled") return ask("payment", "RefundAsked");
      state.step = "reserving";
      state.done.push("payment");
      return ask("stock", "ReservationAsked", { silence: null });
    case "Reserved":
      state.step = "shipping";
      state.done.push("stock");
      return ask("parcel", "ParcelAsked");
    case "ParcelSent":
      state.step = "done";
      return { events: [{ stream: `order-${order}`, type: "Fulfilled", data: { order } }] };
    case "PaymentDeclined": return undo("no money");
    case "OutOfStock": return undo("nothing there");
    case "ParcelLost": return undo("lost");
    case "Mente.Timer": return undo(event.subject);
  }
}
"#;

/// What becomes of an order, by its number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    Declined,
    OutOfStock,
    Lost,
    /// The payment is taken after it was given up.
    Silent,
}

fn fate(order: usize) -> Fate {
    [
        Fate::Good,
        Fate::Declined,
        Fate::OutOfStock,
        Fate::Lost,
        Fate::Silent,
    ][order % 5]
}

/// Types by stream, in order: the test's own fold of what the services say.
fn expected(order: usize) -> BTreeMap<&'static str, Vec<&'static str>> {
    let (taken, refunded) = (
        ["PaymentAsked", "PaymentTaken"],
        ["RefundAsked", "Refunded"],
    );
    let back = [&taken[..], &refunded[..]].concat();
    let streams: Vec<(&str, Vec<&str>)> = match fate(order) {
        Fate::Good => vec![
            ("order", vec!["Placed", "Fulfilled"]),
            ("payment", taken.into()),
            ("stock", vec!["ReservationAsked", "Reserved"]),
            ("parcel", vec!["ParcelAsked", "ParcelSent"]),
        ],
        Fate::Declined => vec![
            ("order", vec!["Placed", "Cancelled"]),
            ("payment", vec!["PaymentAsked", "PaymentDeclined"]),
        ],
        Fate::OutOfStock => vec![
            ("order", vec!["Placed", "Cancelled"]),
            ("payment", back),
            ("stock", vec!["ReservationAsked", "OutOfStock"]),
        ],
        Fate::Lost => vec![
            ("order", vec!["Placed", "Cancelled"]),
            ("payment", back),
            (
                "stock",
                vec!["ReservationAsked", "Reserved", "ReleaseAsked", "Released"],
            ),
            ("parcel", vec!["ParcelAsked", "ParcelLost"]),
        ],
        Fate::Silent => vec![("order", vec!["Placed", "Cancelled"]), ("payment", back)],
    };
    streams.into_iter().collect()
}

/// The server as it is now, for who outlives its kills.
#[derive(Clone)]
struct Outside {
    client: Arc<Mutex<Arc<Client>>>,
    over: Arc<AtomicBool>,
    /// Which of the services does nothing now.
    away: Arc<AtomicUsize>,
}

impl Outside {
    async fn call(&self, method: &str, path: &str, body: Value) -> Option<Value> {
        let client = Arc::clone(&self.client.lock().unwrap());
        let kind = match body.get("specversion") {
            Some(_) => Some("application/cloudevents+json"),
            None => (!body.is_null()).then_some("application/json"),
        };
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let response = client.request(method, path, kind, text).await.ok()?;
        (response.status < 300).then(|| serde_json::from_slice(&response.body).unwrap_or_default())
    }

    async fn append(&self, stream: &str, id: &str, kind: &str, data: Value) -> Option<Value> {
        let event =
            json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind, "data": data});
        self.call("POST", &format!("/streams/{stream}"), event)
            .await
    }

    async fn types(&self, stream: &str) -> Option<Vec<String>> {
        let page = self
            .call("GET", &format!("/streams/{stream}"), Value::Null)
            .await?;
        let events = page["events"].as_array()?.iter();
        Some(
            events
                .map(|event| event["event"]["type"].as_str().unwrap().to_owned())
                .collect(),
        )
    }

    /// Answers what it is asked, at least once, by ids that follow from the question's.
    async fn serve(self, number: usize, service: &str) {
        while !self.over.load(Ordering::Relaxed) {
            if self.away.load(Ordering::Relaxed) == number || !self.turn(service).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn turn(&self, service: &str) -> bool {
        let at = format!("/topics/$store/eventsubscriptions/{service}");
        let receive = format!("{at}:receive?api-version=2024-06-01&maxEvents=5&maxWaitTime=10");
        let Some(answer) = self.call("POST", &receive, Value::Null).await else {
            return false;
        };
        let mut done = Vec::new();
        for delivery in answer["value"].as_array().into_iter().flatten() {
            if self.answer(&delivery["event"]).await.is_some() {
                done.push(delivery["brokerProperties"]["lockToken"].clone());
            }
        }
        let settle = format!("{at}:acknowledge?api-version=2024-06-01");
        let _ = self
            .call("POST", &settle, json!({ "lockTokens": done }))
            .await;
        true
    }

    async fn answer(&self, asked: &Value) -> Option<Value> {
        let order = asked["data"]["order"].as_u64()?;
        let fate = fate(usize::try_from(order).unwrap());
        let (service, kind) = match (asked["type"].as_str()?, fate) {
            ("PaymentAsked", Fate::Declined) => ("payment", "PaymentDeclined"),
            ("PaymentAsked", fate) => {
                if fate == Fate::Silent {
                    let types = self.types(&format!("order-{order}")).await?;
                    types.contains(&"Cancelled".to_owned()).then_some(())?;
                }
                ("payment", "PaymentTaken")
            }
            ("RefundAsked", _) => ("payment", "Refunded"),
            ("ReservationAsked", Fate::OutOfStock) => ("stock", "OutOfStock"),
            ("ReservationAsked", _) => ("stock", "Reserved"),
            ("ReleaseAsked", _) => ("stock", "Released"),
            ("ParcelAsked", Fate::Lost) => ("parcel", "ParcelLost"),
            ("ParcelAsked", _) => ("parcel", "ParcelSent"),
            other => panic!("{other:?}"),
        };
        let id = format!("to {}", asked["id"].as_str()?);
        let stream = format!("{service}-{order}");
        self.append(&stream, &id, kind, json!({ "order": order }))
            .await
    }
}

fn to(server: &Server) -> Arc<Client> {
    Arc::new(Client::new(&server.url()).unwrap())
}

async fn declare(server: &Server) {
    let on = [
        "Placed",
        "PaymentTaken",
        "PaymentDeclined",
        "Reserved",
        "OutOfStock",
        "ParcelSent",
        "ParcelLost",
    ];
    let on: BTreeMap<_, _> = on.into_iter().map(|kind| (kind, "data.order")).collect();
    let saga = json!({"on": on, "javascript": FULFILMENT}).to_string();
    server.ok("PUT", "/sagas/fulfilment", &saga).await;
    for (service, asked) in [
        ("payment", ["PaymentAsked", "RefundAsked"]),
        ("stock", ["ReservationAsked", "ReleaseAsked"]),
        ("parcel", ["ParcelAsked", "-"]),
    ] {
        let any = asked.map(|kind| json!({"exact": {"type": kind}}));
        let settings = json!({"from": "earliest", "filter": {"any": any}, "lock_duration_ms": 1_000, "max_delivery_count": 1_000});
        let path = format!("/topics/$store/subscriptions/{service}");
        server.ok("PUT", &path, &settings.to_string()).await;
    }
}

#[tokio::test]
async fn every_order_takes_the_course_that_follows_whoever_fails() {
    let mut server = Server::start();
    declare(&server).await;
    let outside = Outside {
        client: Arc::new(Mutex::new(to(&server))),
        over: Arc::default(),
        away: Arc::default(),
    };
    let services = ["payment", "stock", "parcel"];
    let mut work = Vec::new();
    for (number, service) in (0..).zip(services) {
        let outside = outside.clone();
        work.push(tokio::spawn(
            async move { outside.serve(number, service).await },
        ));
    }
    let customers = outside.clone();
    work.push(tokio::spawn(async move {
        for order in 0..ORDERS {
            let patience = if fate(order) == Fate::Silent {
                100
            } else {
                600_000
            };
            let data = json!({"order": order, "patience": patience});
            let stream = format!("order-{order}");
            // Placed until somebody says so, by one id.
            while customers
                .append(&stream, &format!("p{order}"), "Placed", data.clone())
                .await
                .is_none()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }));
    for kill in 0..KILLS {
        outside.away.store(kill % 4, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(200..700))).await;
        server = server.crash_and_restart();
        *outside.client.lock().unwrap() = to(&server);
    }
    outside.away.store(usize::MAX, Ordering::Relaxed);
    let began = Instant::now();
    for order in 0..ORDERS {
        for (stream, types) in expected(order) {
            let stream = format!("{stream}-{order}");
            loop {
                let found = outside.types(&stream).await.unwrap_or_default();
                if found == types {
                    break;
                }
                let status = server.ok("GET", "/sagas/fulfilment", "").await;
                assert!(
                    began.elapsed() < 4 * SOON && found.len() < types.len(),
                    "{stream} of {:?}: {found:?}, not {types:?}; {status}",
                    fate(order)
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    outside.over.store(true, Ordering::Relaxed);
    futures::future::join_all(work).await;
    // It is all there, and nothing more comes of it, here or by a server that reads on from what is written.
    let counted = count(&server).await;
    server = server.crash_and_restart();
    let status = caught_up(&server, "fulfilment").await;
    assert_eq!(
        (&status["stuck"], &status["timers"], &status["withoutKey"]),
        (&json!(0), &json!(0), &json!(0)),
        "{status}"
    );
    assert_eq!(count(&server).await, counted);
    check_moves(&server).await;
}

/// Events of the store by type.
async fn count(server: &Server) -> Value {
    let sql = json!({"sql": "SELECT type, count(*) FROM events GROUP BY type ORDER BY type"});
    server.ok("POST", "/sql", &sql.to_string()).await["rows"].clone()
}

/// Each move is in one piece with what it led to, which names what caused it.
async fn check_moves(server: &Server) {
    let page = server.ok("GET", "/streams/fulfilment-3", "").await;
    let moves = page["events"].as_array().unwrap();
    let steps: Vec<_> = moves
        .iter()
        .map(|moved| &moved["event"]["data"]["state"]["step"])
        .collect();
    assert_eq!(steps, ["paying", "reserving", "shipping", "cancelled"]);
    let asked = server.ok("GET", "/streams/payment-3", "").await;
    let (asked, moved) = (&asked["events"][0], &moves[0]);
    assert_eq!(
        asked["position"].as_u64().unwrap() + 1,
        moved["position"].as_u64().unwrap()
    );
    for event in [asked, moved] {
        assert_eq!(event["event"]["causationid"], "p3");
        assert_eq!(event["event"]["correlationid"], "p3");
    }
}

/// The status once everything that there is was read, and told to those that go on, too.
pub(crate) async fn caught_up(server: &Server, saga: &str) -> Value {
    let sql = json!({"sql": "SELECT max(position) FROM events"}).to_string();
    let last = server.ok("POST", "/sql", &sql).await["rows"][0][0].as_u64();
    until(server, saga, |status| {
        status["position"].as_u64() > last && status["goingOn"] == 0
    })
    .await
}

pub(crate) async fn until(server: &Server, saga: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let status = server.ok("GET", &format!("/sagas/{saga}"), "").await;
        if status["here"] == true && is_so(&status) {
            return status;
        }
        assert!(began.elapsed() < SOON, "{status}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

pub(crate) async fn append(server: &Server, stream: &str, event: &Value) {
    let (path, kind) = (
        format!("/streams/{stream}"),
        Some("application/cloudevents+json"),
    );
    let sent = server
        .client
        .request("POST", &path, kind, event.to_string())
        .await
        .unwrap();
    assert!(sent.status < 300, "{}", sent.text());
}

pub(crate) async fn say(server: &Server, stream: &str, kind: &str, data: Value) {
    let id = format!("{}-{}", kind, fastrand::u64(..));
    let event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind, "data": data});
    append(server, stream, &event).await;
}

pub(crate) async fn data_of(server: &Server, stream: &str, kind: &str) -> Vec<Value> {
    let page = parsed(
        &server
            .call("GET", &format!("/streams/{stream}?limit=1000"), "")
            .await,
    );
    let events = page["events"].as_array().cloned().unwrap_or_default();
    let of_kind = events
        .into_iter()
        .filter(|event| event["event"]["type"] == kind);
    of_kind
        .map(|event| event["event"]["data"].clone())
        .collect()
}

/// One that cannot take an event waits there with all that follows, over a kill, and the others go on; retried it is
/// stuck again until its program is mended, skipped it goes on behind.
#[tokio::test]
async fn a_course_that_is_stuck_holds_up_nobody_and_misses_nothing() {
    let mut server = Server::start();
    let program = |bad: &str| {
        let javascript = format!(
            "function react(state, event) {{
               if (event.data.n === {bad}) return state.missing.field;
               state.sum = (state.sum ?? 0) + event.data.n;
               return {{ events: [{{ stream: 'out-' + event.subject, type: 'Summed', data: state.sum }}] }};
             }}"
        );
        json!({"on": {"Added": "subject"}, "javascript": javascript}).to_string()
    };
    // What was before it was declared is none of its business.
    let event = |key: &str, n: u64| json!({"specversion": "1.0", "id": format!("{key}{n}"), "source": "/t", "type": "Added", "subject": key, "data": {"n": n}});
    let add = async |server: &Server, key: &str, n: u64| {
        append(server, "in-1", &event(key, n)).await;
    };
    add(&server, "a", 1_000).await;
    server.ok("PUT", "/sagas/sum", &program("3")).await;
    for n in 1..=5 {
        add(&server, "a", n).await;
        add(&server, "b", n * 10).await;
    }
    let status = caught_up(&server, "sum").await;
    let stuck = &status["stuckAt"][0];
    assert_eq!((&status["stuck"], &stuck["key"]), (&json!(1), &json!("a")));
    assert!(
        stuck["why"].as_str().unwrap().contains("TypeError"),
        "{stuck}"
    );
    assert_eq!(data_of(&server, "out-a", "Summed").await, [1, 3]);
    assert_eq!(
        data_of(&server, "out-b", "Summed").await,
        [10, 30, 60, 100, 150]
    );
    let refused = server.call("POST", "/sagas/sum/b/retry", "").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(
        server.call("POST", "/sagas/none/b/retry", "").await.status,
        404
    );

    server = server.crash_and_restart();
    add(&server, "a", 6).await;
    let status = caught_up(&server, "sum").await;
    assert_eq!(
        status["stuckAt"][0]["position"], stuck["position"],
        "{status}"
    );
    ok(&server, &["saga", "retry", "sum", "a"]);
    caught_up(&server, "sum").await;
    let shown = ok(&server, &["saga", "get", "sum"]);
    assert!(shown.contains("TypeError"), "{shown}");
    assert_eq!(data_of(&server, "out-a", "Summed").await, [1, 3]);

    // By a mended program, which is stuck at a later one.
    server.ok("PUT", "/sagas/sum", &program("5")).await;
    ok(&server, &["saga", "retry", "sum", "a"]);
    until(&server, "sum", |status| {
        let at = &status["stuckAt"][0]["position"];
        at.is_u64() && *at != stuck["position"]
    })
    .await;
    assert_eq!(data_of(&server, "out-a", "Summed").await, [1, 3, 6, 10]);
    ok(&server, &["saga", "skip", "sum", "a"]);
    add(&server, "a", 7).await;
    let status = caught_up(&server, "sum").await;
    assert_eq!(status["stuck"], 0, "{status}");
    assert_eq!(
        data_of(&server, "out-a", "Summed").await,
        [1, 3, 6, 10, 16, 23]
    );

    say(&server, "gone-1", "T", json!(1)).await;
    server
        .ok("DELETE", "/streams/gone-1?forever=true", "")
        .await;
    // What it may not ask for makes it stuck too: of its own streams, of names that are none, of deleted streams.
    for (stream, says) in [
        ("'sum-a'", "only the saga writes"),
        ("'$$a'", "stream name"),
        ("'gone-1'", "deleted for good"),
    ] {
        let key = stream.replace(['\'', '$'], "");
        let source = format!(
            "function react() {{ return {{ events: [{{ stream: {stream}, type: 'T' }}] }}; }}"
        );
        let saga = json!({"on": {"Added": "subject"}, "javascript": source}).to_string();
        server.ok("PUT", "/sagas/sum", &saga).await;
        add(&server, &key, 9).await;
        let status = until(&server, "sum", |status| status["stuck"] == 1).await;
        assert!(
            status["stuckAt"][0]["why"].as_str().unwrap().contains(says),
            "{status}"
        );
        ok(&server, &["saga", "skip", "sum", &key]);
        until(&server, "sum", |status| status["stuck"] == 0).await;
        server = server.crash_and_restart();
    }
    assert!(mente(&server, &["saga", "skip", "sum", "a"]).0 != 0);
    // Without a subject it is nobody's.
    let nobody = json!({"specversion": "1.0", "id": "nobody", "source": "/t", "type": "Added", "data": {"n": 1}});
    append(&server, "in-1", &nobody).await;
    let status = caught_up(&server, "sum").await;
    assert_eq!(status["withoutKey"], 1, "{status}");
    let shown = ok(&server, &["saga", "get", "sum"]);
    assert!(shown.contains("1 events named no course"), "{shown}");
    ok(&server, &["saga", "rm", "sum"]);
    assert_eq!(server.call("GET", "/sagas/sum", "").await.status, 404);
}

/// Timers are set again and taken back, outlive a kill, and one that was due while nobody was there is told soon.
#[tokio::test]
async fn timers_outlive_the_server() {
    let mut server = Server::start();
    let source = "function react(state, event) {
        if (event.type === 'Mente.Timer') {
            state.fired = [...(state.fired ?? []), event.subject];
            const again = event.subject === 'twice' && state.fired.length < 3 ? { twice: 0 } : {};
            return { events: [{ stream: 'out-' + event.stream.slice(6), type: 'Fired', data: event.subject }], timers: again };
        }
        return { timers: event.data };
    }";
    let saga = json!({"on": {"Set": "subject"}, "javascript": source}).to_string();
    server.ok("PUT", "/sagas/clock", &saga).await;
    let set = async |server: &Server, key: &str, timers: Value| {
        let id = fastrand::u64(..).to_string();
        let event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": "Set", "subject": key, "data": timers});
        append(server, "in-1", &event).await;
    };
    set(&server, "kept", json!({"far": 3_600_000, "near": 1_500})).await;
    set(&server, "taken", json!({"near": 1_500, "far": 3_600_000})).await;
    set(&server, "taken", json!({"near": null, "far": null})).await;
    set(&server, "again", json!({"twice": 0})).await;
    eventually(async || data_of(&server, "out-again", "Fired").await.len() == 3).await;
    let status = caught_up(&server, "clock").await;
    assert_eq!(status["timers"], 1, "{status}");
    server = server.crash_and_restart();
    let status = until(&server, "clock", |_| true).await;
    assert_eq!(status["timers"], 1, "{status}");
    eventually(async || data_of(&server, "out-kept", "Fired").await == ["near"]).await;
    // Others move on and on, and the far one is still known after them.
    for n in 0..20 {
        set(&server, &format!("other-{n}"), json!({"t": 0})).await;
    }
    eventually(async || !data_of(&server, "out-other-19", "Fired").await.is_empty()).await;
    server = server.crash_and_restart();
    let status = caught_up(&server, "clock").await;
    assert_eq!(status["timers"], 1, "{status}");
    assert!(data_of(&server, "out-taken", "Fired").await.is_empty());
    for (path, bad, says) in [
        ("/sagas/a-b", saga.as_str(), "no -"),
        (
            "/sagas/bad",
            r#"{"on":{"A":"stream"},"javascript":"function react( {"}"#,
            "line 1",
        ),
        (
            "/sagas/bad",
            r#"{"on":{"A":"stream"},"javascript":"1"}"#,
            "no function react",
        ),
        ("/sagas/bad", "{}", "saga bad is"),
    ] {
        let refused = server.call("PUT", path, bad).await;
        assert!(
            refused.status == 400 && refused.text().contains(says),
            "{}",
            refused.text()
        );
    }
}

/// A backlog that is told while the server is killed: each event once, in order, to each course.
#[tokio::test]
async fn a_backlog_is_told_once_over_kills() {
    const KEYS: usize = 40;
    const EVENTS: usize = 100;
    let mut server = Server::start();
    for n in 0..EVENTS {
        let batch = (0..KEYS).map(|key| {
            let data = json!({"n": n});
            json!({"specversion": "1.0", "id": format!("{key}/{n}"), "source": "/t", "type": "Added", "subject": key.to_string(), "data": data})
        });
        let batch = Value::from(batch.collect::<Vec<_>>()).to_string();
        let kind = Some("application/cloudevents-batch+json");
        let sent = server.client.request("POST", "/streams/in-1", kind, batch);
        assert_eq!(sent.await.unwrap().status, 200);
    }
    let source = "function react(state, event) {
        state.told = (state.told ?? 0) + 1;
        return { events: [{ stream: 'out-' + event.subject, type: 'Told', data: [event.data.n, state.told] }] };
    }";
    let saga = json!({"on": {"Added": "subject"}, "javascript": source, "from": 0}).to_string();
    server.ok("PUT", "/sagas/tell", &saga).await;
    let (mut cut_off, mut before) = (0, 0);
    for _ in 0..8 {
        // As soon as it is a page further, so that it is at work on the next one.
        let is_further = |status: &Value| status["position"].as_u64() > Some(before);
        let status = until(&server, "tell", is_further).await;
        before = status["position"].as_u64().unwrap();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=cut_off * 20))).await;
        server = server.crash_and_restart();
        let told = told(&server, KEYS).await;
        if told == KEYS * EVENTS {
            break;
        }
        cut_off += 1;
    }
    // Or nothing was shown.
    assert!(cut_off > 0, "no kill hit the saga at work");
    caught_up(&server, "tell").await;
    for key in 0..KEYS {
        let found = data_of(&server, &format!("out-{key}"), "Told").await;
        let all: Vec<_> = (0..EVENTS).map(|n| json!([n, n + 1])).collect();
        assert_eq!(found, all, "{key}");
    }
}

/// How many events the backlog led to so far.
async fn told(server: &Server, keys: usize) -> usize {
    let mut told = 0;
    for key in 0..keys {
        told += data_of(server, &format!("out-{key}"), "Told").await.len();
    }
    told
}
