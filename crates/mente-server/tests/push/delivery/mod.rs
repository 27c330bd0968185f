//! Webhooks against a receiver that misbehaves.

mod tls;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use mente_broker::queue::{Push, RetrySchedule, Settings};
use mente_broker::{Broker, EntityName, Options, Principal, Start, SubscriptionName};
use mente_engine::{Clock, Data, Event, Now, Offset, Timestamp};
use mente_server::push::{self, Reach};
use mente_server::tls::Trust;
use tokio::net::TcpListener;

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let monotone = self.0.elapsed();
        Now {
            monotone,
            wall: Timestamp(monotone.as_millis() as i64),
        }
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep_until(self.0 + at))
    }
}

/// What the receiver answers to the n-th attempt at an event.
type Behave = fn(id: &str, attempt: usize) -> StatusCode;

/// Every post that came, in order: event id and answer.
type Seen = Arc<Mutex<Vec<(String, StatusCode)>>>;

struct World {
    broker: Broker,
    seen: Seen,
}

const ME: Principal = Principal::Anonymous;

fn name() -> SubscriptionName {
    SubscriptionName {
        topic: EntityName::new("orders").unwrap(),
        name: EntityName::new("hook").unwrap(),
    }
}

fn settings(url: String) -> Settings {
    let retry = RetrySchedule {
        waits_ms: vec![30, 60],
    };
    let push = Push {
        url,
        timeout_ms: 300,
        concurrency: 4,
        retry,
        secrets: None,
    };
    Settings {
        lock_duration_ms: 1_000,
        max_delivery_count: 4,
        push: Some(push),
        ..Settings::default()
    }
}

/// What a receiver does with a post to `/hook`.
fn hook(behave: Behave) -> (Router, Seen) {
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    let handle = move |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/cloudevents+json");
        assert!(headers.contains_key("webhook-id") && headers.contains_key("webhook-timestamp"));
        let event = mente_wire::cloudevents::parse_event(&body).expect("a structured event");
        let status = {
            let mut seen = shared.lock().unwrap();
            let attempt = seen.iter().filter(|(id, _)| *id == event.id).count();
            let status = behave(&event.id, attempt);
            seen.push((event.id, status));
            status
        };
        if status == StatusCode::GATEWAY_TIMEOUT {
            // Never answers in time.
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        status
    };
    (Router::new().route("/hook", post(handle)), seen)
}

async fn receiver(behave: Behave) -> (String, Seen) {
    let (router, seen) = hook(behave);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    (url, seen)
}

async fn world(behave: Behave, reach: Reach, change: fn(&mut Settings)) -> World {
    let (url, seen) = receiver(behave).await;
    let trust = Trust::system(None).unwrap();
    world_of(url, seen, push::Options { reach, trust }, change).await
}

async fn world_of(
    url: String,
    seen: Seen,
    webhooks: push::Options,
    change: fn(&mut Settings),
) -> World {
    let clock = Arc::new(TestClock(tokio::time::Instant::now()));
    let options = Options {
        shards: 2,
        create_topics: true,
        ..Options::default()
    };
    let (broker, tasks) = Broker::open(crate::engine::open(), clock, options)
        .await
        .unwrap();
    tasks.into_iter().for_each(|task| drop(tokio::spawn(task)));
    tokio::spawn(push::run(broker.clone(), webhooks, std::future::pending()));
    let mut settings = settings(url);
    change(&mut settings);
    broker
        .create_subscription(&ME, &name(), settings, Start::Earliest)
        .await
        .unwrap();
    World { broker, seen }
}

impl World {
    async fn publish(&self, events: &[(&str, &str)]) {
        let event = |(id, key): &(&str, &str)| Event {
            id: (*id).into(),
            source: "/shop".into(),
            kind: "OrderShipped".into(),
            subject: Some((*key).into()),
            data: Data::Json(Bytes::from_static(b"{}")),
            ..Event::default()
        };
        let events = events.iter().map(event).collect();
        self.broker
            .publish(&ME, &name().topic, events)
            .await
            .unwrap();
    }

    /// Waits until nothing is open any more: everything was delivered or is a dead letter.
    async fn drained(&self, events: u64) {
        for _ in 0..500 {
            let counts = self.broker.subscriptions(&ME, &name().topic).await.unwrap()[0].counts;
            if counts.completed + counts.dead == events && counts.dying == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "not drained: {:?}",
            self.broker.subscriptions(&ME, &name().topic).await
        );
    }

    fn answers(&self, id: &str) -> Vec<u16> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|(i, _)| i == id)
            .map(|(_, status)| status.as_u16())
            .collect()
    }

    async fn dead(&self) -> BTreeMap<String, String> {
        self.dead_as(mente_broker::dead_letter::REASON).await
    }

    /// The dead letters' ids and one of their attributes.
    async fn dead_as(&self, attribute: &str) -> BTreeMap<String, String> {
        let (dead, _) = self
            .broker
            .read_dead_letters(&ME, &name(), Offset(0), 100)
            .await
            .unwrap();
        let reason = |e: &Event| e.extension(attribute).unwrap().to_text();
        dead.iter()
            .map(|d| (d.stored_id(), reason(&d.event)))
            .collect()
    }
}

trait StoredId {
    fn stored_id(&self) -> String;
}

impl StoredId for mente_broker::StoredEvent {
    fn stored_id(&self) -> String {
        self.event.id.clone()
    }
}

#[tokio::test]
async fn every_answer_has_its_consequence() {
    let behave: Behave = |id, attempt| match (id, attempt) {
        ("flaky", 0) => StatusCode::SERVICE_UNAVAILABLE,
        ("slow", 0) => StatusCode::GATEWAY_TIMEOUT,
        ("moved", 0) => StatusCode::FOUND,
        ("bad", _) => StatusCode::BAD_REQUEST,
        ("down", _) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NO_CONTENT,
    };
    let world = world(behave, Reach::Anywhere, |_| {}).await;
    let ids = ["good", "flaky", "slow", "moved", "bad", "down"];
    world.publish(&ids.map(|id| (id, id))).await;
    world.drained(ids.len() as u64).await;
    assert_eq!(world.answers("good"), [204]);
    assert_eq!(world.answers("flaky"), [503, 204]);
    assert_eq!(world.answers("slow"), [504, 204]);
    assert_eq!(world.answers("moved"), [302, 204]);
    assert_eq!(world.answers("bad"), [400], "no attempt will do better");
    assert_eq!(
        world.answers("down"),
        [500; 4],
        "as often as the subscription says"
    );
    let dead = world.dead().await;
    assert_eq!(dead.get("bad").map(String::as_str), Some("BadRequest"));
    assert_eq!(
        dead.get("down").map(String::as_str),
        Some("MaxDeliveryAttemptsExceeded")
    );
    assert_eq!(dead.len(), 2);
}

#[tokio::test]
async fn a_key_keeps_its_order_while_others_go_on() {
    let behave: Behave = |id, attempt| {
        if id == "a1" && attempt < 2 {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    };
    let world = world(behave, Reach::Anywhere, |settings| settings.ordered = true).await;
    let events = [
        ("a1", "a"),
        ("a2", "a"),
        ("b1", "b"),
        ("a3", "a"),
        ("b2", "b"),
    ];
    world.publish(&events).await;
    world.drained(5).await;
    let seen = world.seen.lock().unwrap();
    let order = |key: &str| {
        let ok = seen
            .iter()
            .filter(|(id, status)| id.starts_with(key) && status.is_success());
        ok.map(|(id, _)| id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(order("a"), ["a1", "a2", "a3"]);
    assert_eq!(order("b"), ["b1", "b2"]);
    let place = |wanted: &str| seen.iter().rposition(|(id, _)| id == wanted).unwrap();
    assert!(
        place("b2") < place("a1"),
        "b did not wait for a's retries: {seen:?}"
    );
}

#[tokio::test]
async fn what_is_too_old_is_not_posted() {
    let behave: Behave = |_, _| StatusCode::INTERNAL_SERVER_ERROR;
    let world = world(behave, Reach::Anywhere, |settings| {
        settings.time_to_live_ms = Some(100);
        settings.max_delivery_count = 100;
        settings.push.as_mut().unwrap().retry.waits_ms = vec![200];
    })
    .await;
    world.publish(&[("old", "k")]).await;
    world.drained(1).await;
    assert_eq!(world.answers("old"), [500]);
    assert_eq!(world.dead().await["old"], "TimeToLiveExceeded");
}

#[tokio::test]
async fn a_private_address_is_never_posted_to_where_only_public_ones_are_allowed() {
    let world = world(|_, _| StatusCode::OK, Reach::Public, |_| {}).await;
    world.publish(&[("secret", "k")]).await;
    world.drained(1).await;
    assert!(world.answers("secret").is_empty());
    assert_eq!(world.dead().await["secret"], "MaxDeliveryAttemptsExceeded");
}
