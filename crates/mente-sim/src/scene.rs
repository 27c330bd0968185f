//! What clients call, each call with its line in the history. The names are those that every world has.

mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use mente_broker::error::Kind;
use mente_broker::queue::{LockToken, Settings, Settlement};
use mente_broker::{
    AppendedTo, Broker, EntityName, Error, Expected, Filter, Position, Principal, Start,
    StreamEvent, StreamName, SubscriptionName, dead_letter,
};
use mente_engine::engine::Retention;
use mente_engine::{Appended, BatchBuilder, Data, Engine, Event, LogId, Offset};
use mente_log::Embedded;

use crate::history::{
    Delivered, Expect, Found, How, InStream, Letter, Op, Phase, Place, Placed, STORE, To, Value,
};
use crate::recorder::Recorder;

const ME: Principal = Principal::Anonymous;
/// More than any page of a world holds.
const ALL: usize = 100_000;

pub(crate) const ORDERS: &str = "orders";
/// Retention takes from it.
pub(crate) const AUDIT: &str = "audit";
/// Written to both partitions at once, never trimmed.
pub(crate) const PAIRS: &str = "pairs";
pub(crate) const TOPICS: [(&str, u32); 3] = [(ORDERS, 2), (AUDIT, 1), (PAIRS, 2)];
/// Subscriptions that every world has.
pub(crate) const SUBSCRIPTIONS: [&str; 4] =
    ["orders/all", "orders/even", "audit/late", "$store/appended"];
/// Events of these tags are appended if none of them came behind a position.
pub(crate) const TAGS: [&str; 2] = ["seat", "table"];
pub(crate) const STREAMS: [&str; 3] = ["order-1", "order-2", "cart-1"];
const AUDIT_BYTES: u64 = 20 << 10;

#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) broker: Broker,
    pub(crate) engine: Embedded,
    pub(crate) recorder: Recorder,
    /// Calls that clients may still make.
    pub(crate) budget: Arc<AtomicU32>,
    /// Clients that have not come to their end.
    pub(crate) busy: Arc<AtomicU32>,
}

pub(crate) fn entity(name: &str) -> EntityName {
    EntityName::new(name).expect("worlds use plain names")
}

pub(crate) fn subscription_name(name: &str) -> SubscriptionName {
    let (topic, own) = name.split_once('/').expect("topic/name");
    SubscriptionName {
        topic: EntityName::source(topic).expect("worlds use plain names"),
        name: entity(own),
    }
}

/// What is appended to streams.
const APPENDED: &str = "appended";

/// What every world declares, and what its history says of it.
fn settings(subscription: &str) -> (Settings, Op) {
    let of_kind = |kind: &str| {
        let filter = serde_json::json!({"exact": {"type": kind}});
        serde_json::from_value::<Filter>(filter).expect("a filter")
    };
    let (lock_ms, max_deliveries) = match subscription {
        "orders/all" | "$store/appended" => (1_000, 3),
        "orders/even" => (2_000, 5),
        _ => (1_500, 2),
    };
    let is_even = subscription == "orders/even";
    // It is told of what holds for streams too, which nobody here sent.
    let is_store = subscription.starts_with(STORE);
    let ttl_ms = (subscription == "audit/late").then_some(6_000);
    let settings = Settings {
        filter: match (is_even, is_store) {
            (true, _) => Some(of_kind("even")),
            (_, true) => Some(of_kind(APPENDED)),
            _ => None,
        },
        lock_duration_ms: lock_ms,
        max_delivery_count: max_deliveries,
        time_to_live_ms: ttl_ms,
        ordered: is_even || is_store,
        push: None,
        messages: None,
    };
    let op = Op::Subscribe {
        subscription: subscription.into(),
        topic: subscription.split('/').next().unwrap_or_default().into(),
        kind: is_even.then(|| "even".into()),
        lock_ms,
        max_deliveries,
        ttl_ms,
        ordered: settings.ordered,
    };
    (settings, op)
}

/// The body of an event follows from its id, whose last part is its length.
fn body(id: &str) -> Bytes {
    let length = id.rsplit('-').next().and_then(|length| length.parse().ok());
    // An id that Mente derived may end with a number by chance; its event has no body.
    let length = length.filter(|length| *length < 100_000);
    let pattern = id.bytes().cycle().take(length.unwrap_or(0));
    pattern.collect::<Vec<_>>().into()
}

/// Three keys for all.
pub(crate) fn key_of(id: &str) -> String {
    format!("key {}", id.len() % 3)
}

pub(crate) fn event(id: &str, kind: &str) -> Event {
    Event {
        id: id.into(),
        source: "/sim".into(),
        kind: kind.into(),
        subject: Some(key_of(id)),
        data: Data::Binary(body(id)),
        ..Event::default()
    }
}

/// The id, unless the body is not the one that was sent with it.
fn told(event: &Event) -> String {
    if event.data.bytes().map_or(&[][..], Bytes::as_ref) == body(&event.id).as_ref() {
        return event.id.clone();
    }
    format!("{} with another body", event.id)
}

fn phase_of(error: &Error) -> Phase {
    match error.kind {
        Kind::Unknown | Kind::Internal | Kind::Corrupt => Phase::Info,
        Kind::Throttled | Kind::TooLarge | Kind::Invalid => Phase::Unheard,
        _ => Phase::Fail,
    }
}

impl Scene {
    /// One call from invocation to end; `answer` fills in what came back.
    async fn call<T>(
        &self,
        process: u64,
        mut op: Op,
        work: impl Future<Output = Result<T, Error>>,
        answer: impl FnOnce(&mut Op, &T),
    ) -> Option<T> {
        self.recorder.invoke(process, op.clone());
        match work.await {
            Ok(done) => {
                answer(&mut op, &done);
                self.recorder.end(process, Phase::Ok, op);
                Some(done)
            }
            Err(error) => {
                self.recorder.end(process, phase_of(&error), op);
                None
            }
        }
    }

    /// Makes what every world has; the same again changes nothing.
    pub(crate) async fn set_up(&self, process: u64) {
        for (topic, partitions) in TOPICS {
            self.create_topic(process, topic, partitions).await;
        }
        let op = Op::Retain {
            topic: AUDIT.into(),
        };
        let retention = Retention {
            age: None,
            bytes: Some(AUDIT_BYTES),
        };
        let name = entity(AUDIT);
        self.call(
            process,
            op,
            self.broker.set_retention(&ME, &name, retention),
            |_, ()| {},
        )
        .await;
        for subscription in SUBSCRIPTIONS {
            self.subscribe(process, subscription).await;
        }
        self.declare_folds().await;
    }

    pub(crate) async fn create_topic(&self, process: u64, topic: &str, partitions: u32) {
        let op = Op::CreateTopic {
            topic: topic.into(),
        };
        let name = entity(topic);
        self.call(
            process,
            op,
            self.broker.create_topic(&ME, &name, partitions),
            |_, _| {},
        )
        .await;
    }

    pub(crate) async fn delete_topic(&self, process: u64, topic: &str) {
        let op = Op::DeleteTopic {
            topic: topic.into(),
        };
        let name = entity(topic);
        self.call(
            process,
            op,
            self.broker.delete_topic(&ME, &name),
            |_, ()| {},
        )
        .await;
    }

    pub(crate) async fn subscribe(&self, process: u64, subscription: &str) {
        let (settings, op) = settings(subscription);
        let name = subscription_name(subscription);
        let work = self
            .broker
            .create_subscription(&ME, &name, settings, Start::Earliest);
        self.call(process, op, work, |_, _| {}).await;
    }

    pub(crate) async fn unsubscribe(&self, process: u64, subscription: &str) {
        let op = Op::Unsubscribe {
            subscription: subscription.into(),
        };
        let name = subscription_name(subscription);
        let work = self.broker.delete_subscription(&ME, &name);
        self.call(process, op, work, |_, ()| {}).await;
    }

    pub(crate) async fn publish(&self, process: u64, topic: &str, values: Vec<Value>) {
        let events = values.iter().map(|v| event(&v.value, &v.kind)).collect();
        let op = Op::Publish {
            topic: topic.into(),
            values,
            placed: Vec::new(),
            whole: false,
        };
        let name = entity(topic);
        self.call(
            process,
            op,
            self.broker.publish(&ME, &name, events),
            |op, done| {
                if let Op::Publish { placed, .. } = op {
                    placed.extend(done.iter().map(|one| match one {
                        Ok(at) => Placed::At(place(at)),
                        Err(error) if phase_of(error).is_undone() => Placed::Refused,
                        Err(_) => Placed::Unknown,
                    }));
                }
            },
        )
        .await;
    }

    /// One append of the engine to both partitions of a topic.
    pub(crate) async fn publish_pair(&self, process: u64, values: [Value; 2]) {
        let Ok(log) = self.log_of(PAIRS, 0).await else {
            return;
        };
        let batch = |value: &Value| {
            let mut builder = BatchBuilder::default();
            builder.push(&event(&value.value, &value.kind).to_record(self.broker.now().wall));
            builder.finish()
        };
        let batches = (0..)
            .zip(&values)
            .map(|(index, value)| (log.set.log(index), batch(value)));
        let append = self.engine.append(&[], batches.collect());
        let op = Op::Publish {
            topic: PAIRS.into(),
            values: values.into(),
            placed: Vec::new(),
            whole: true,
        };
        let work = async { Ok(append.await?) };
        self.call(process, op, work, |op, appended| {
            if let Op::Publish { placed, .. } = op {
                let at = |(one, partition): (&Appended, u32)| {
                    let offset = one.base.0;
                    Placed::At(Place { partition, offset })
                };
                placed.extend(appended.iter().zip(0..).map(at));
            }
        })
        .await;
    }

    async fn log_of(&self, topic: &str, partition: u32) -> Result<LogId, Error> {
        let topic = self.broker.topic(&ME, &entity(topic)).await?;
        Ok(topic.set.log(partition))
    }

    pub(crate) async fn trim(&self, process: u64, topic: &str, partition: u32, keep: u64) {
        let Ok(log) = self.log_of(topic, partition).await else {
            return;
        };
        let Ok(bounds) = self.engine.bounds(log).await else {
            return;
        };
        let before = bounds.end.0.saturating_sub(keep);
        let op = Op::Trim {
            topic: topic.into(),
            partition,
            before,
        };
        let work = async { Ok(self.engine.trim(log, Offset(before)).await?) };
        self.call(process, op, work, |_, ()| {}).await;
    }

    /// Reads a partition to its end, page by page.
    pub(crate) async fn read(&self, process: u64, topic: &str, partition: u32) {
        let op = Op::Read {
            topic: topic.into(),
            partition,
            start: 0,
            end: None,
            from: 0,
            next: 0,
            found: Vec::new(),
        };
        let name = entity(topic);
        let work = async {
            let bounds = self.broker.bounds(&ME, &name, partition).await?;
            let (mut next, mut all) = (bounds.start, Vec::new());
            while next < bounds.end {
                let (events, after) = self.broker.read(&ME, &name, partition, next, 20).await?;
                all.extend(events);
                if after <= next {
                    break;
                }
                next = after;
            }
            Ok((bounds, next, all))
        };
        self.call(process, op, work, |op, (bounds, after, all)| {
            if let Op::Read {
                start,
                end,
                from,
                next,
                found,
                ..
            } = op
            {
                (*start, *end, *from, *next) =
                    (bounds.start.0, Some(bounds.end.0), bounds.start.0, after.0);
                found.extend(all.iter().map(|stored| Found {
                    offset: stored.position.offset.0,
                    value: told(&stored.event),
                }));
            }
        })
        .await;
    }

    pub(crate) async fn receive(
        &self,
        process: u64,
        subscription: &str,
        max: usize,
        wait: Duration,
    ) -> Vec<(LockToken, String)> {
        let op = Op::Receive {
            subscription: subscription.into(),
            deliveries: Vec::new(),
        };
        let name = subscription_name(subscription);
        let work = self.broker.receive(&ME, &name, max, wait);
        let received = self.call(process, op, work, |op, received| {
            if let Op::Receive { deliveries, .. } = op {
                deliveries.extend(received.iter().map(|one| Delivered {
                    token: one.token.to_string(),
                    count: one.count,
                    place: Some(place(&one.stored.position)),
                    value: told(&one.stored.event),
                }));
            }
        });
        let received = received.await.unwrap_or_default();
        received
            .into_iter()
            .map(|one| (one.token, one.stored.event.id))
            .collect()
    }

    /// Whether the lease held.
    pub(crate) async fn settle(
        &self,
        process: u64,
        subscription: &str,
        (token, value): (LockToken, String),
        how: How,
        delay: Duration,
    ) -> Option<bool> {
        let op = Op::Settle {
            subscription: subscription.into(),
            token: token.to_string(),
            value,
            how,
            delay_ms: delay.as_millis() as u64,
            held: false,
        };
        let settlement = match how {
            How::Complete => Settlement::Complete,
            How::Release => Settlement::Release {
                delay,
                detail: "later".into(),
            },
            How::Reject => Settlement::Reject {
                reason: "Rejected".into(),
                detail: "no".into(),
            },
            How::Renew => Settlement::Renew,
        };
        let name = subscription_name(subscription);
        let work = self.broker.settle(&ME, &name, vec![token], settlement);
        let done = self.call(process, op, work, |op, done| {
            if let Op::Settle { held, .. } = op {
                *held = done.first() == Some(&true);
            }
        });
        done.await.map(|held| held.first() == Some(&true))
    }

    /// Where it came to lie; the error says whether it certainly did not.
    pub(crate) async fn append(
        &self,
        process: u64,
        stream: &str,
        expect: Expect,
        ids: Vec<String>,
    ) -> Option<To> {
        let events = ids.iter().map(|id| event(id, APPENDED)).collect();
        let op = Op::Append {
            stream: stream.into(),
            expected: expect,
            ids,
            to: None,
        };
        let expected = match expect {
            Expect::Any => Expected::Any,
            Expect::NoStream => Expected::NoStream,
            Expect::Revision(revision) => Expected::Revision(revision),
        };
        let name = StreamName::new(stream).expect("worlds use plain names");
        let work = async {
            let to = self.broker.append_stream(&ME, &name, expected, events);
            Ok(to_of(&to.await?))
        };
        self.call(process, op, work, |op, done| {
            if let Op::Append { to, .. } = op {
                *to = Some(*done);
            }
        })
        .await
    }

    /// Behind which revision the next event comes, as far as it is to be seen.
    pub(crate) async fn read_stream(&self, process: u64, stream: &str) -> Option<u64> {
        let op = Op::ReadStream {
            stream: stream.into(),
            events: Vec::new(),
        };
        let name = StreamName::new(stream).expect("worlds use plain names");
        let work = async {
            match self.broker.read_stream(&ME, &name, 0, ALL).await {
                Err(error) if error.kind == Kind::NotFound => Ok(Vec::new()),
                read => read,
            }
        };
        let read = self.call(process, op, work, |op, read| {
            if let Op::ReadStream { events, .. } = op {
                events.extend(read.iter().map(in_stream));
            }
        });
        let next = |last: &StreamEvent| last.place.revision + 1;
        read.await.map(|events| events.last().map_or(0, next))
    }

    pub(crate) async fn read_store(&self, process: u64) {
        let op = Op::ReadStore { events: Vec::new() };
        let work = async {
            let bounds = self.broker.store_bounds(&ME).await?;
            let (mut next, mut all) = (bounds.start, Vec::new());
            while next < bounds.end {
                let (events, after) = self.broker.read_store(&ME, next).await?;
                all.extend(events);
                if after <= next {
                    break;
                }
                next = after;
            }
            Ok(all)
        };
        self.call(process, op, work, |op, read| {
            if let Op::ReadStore { events } = op {
                events.extend(read.iter().map(in_stream));
            }
        })
        .await;
    }

    pub(crate) async fn dead_letters(&self, process: u64, subscription: &str) {
        let op = Op::DeadLetters {
            subscription: subscription.into(),
            letters: Vec::new(),
        };
        let name = subscription_name(subscription);
        let work = async {
            let (mut next, mut all) = (Offset(0), Vec::new());
            loop {
                let (events, after) = self.broker.read_dead_letters(&ME, &name, next, 50).await?;
                all.extend(events);
                if after <= next {
                    return Ok(all);
                }
                next = after;
            }
        };
        self.call(process, op, work, |op, all| {
            if let Op::DeadLetters { letters, .. } = op {
                letters.extend(all.iter().map(|stored| {
                    let attribute = |name| {
                        let found = stored.event.extension(name);
                        found
                            .map(mente_engine::Attribute::to_text)
                            .unwrap_or_default()
                    };
                    Letter {
                        origin: attribute(dead_letter::ORIGIN),
                        reason: Some(attribute(dead_letter::REASON)),
                        value: told(&stored.event),
                    }
                }));
            }
        })
        .await;
    }

    pub(crate) async fn verify(&self, process: u64) {
        let op = Op::Verify {
            differing: Vec::new(),
        };
        self.call(process, op, self.broker.verify(&ME), |op, verified| {
            if let Op::Verify { differing } = op {
                let bad = verified.iter().filter(|one| !one.equal);
                differing.extend(bad.map(|one| format!("{}: {}", one.what, one.detail)));
            }
        })
        .await;
    }

    /// How many records each subscription of a topic has that are not at their end.
    pub(crate) async fn open_records(&self, topic: &str) -> Option<BTreeMap<String, u64>> {
        let topic = EntityName::source(topic).ok()?;
        let listed = self.broker.subscriptions(&ME, &topic).await.ok()?;
        let open = |c: &mente_broker::queue::Counts| c.ready + c.leased + c.delayed + c.dying;
        Some(
            listed
                .iter()
                .map(|info| (info.name.to_string(), open(&info.counts)))
                .collect(),
        )
    }

    /// Takes one from the calls that may still be made.
    pub(crate) fn may_call(&self) -> bool {
        self.budget
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
            .is_ok()
    }
}

fn to_of(to: &AppendedTo) -> To {
    To {
        first_revision: to.first_revision,
        last_revision: to.last_revision,
        last_position: to.last_position,
        repeated: to.repeated,
    }
}

fn place(at: &Position) -> Place {
    Place {
        partition: at.partition,
        offset: at.offset.0,
    }
}

fn in_stream(event: &StreamEvent) -> InStream {
    InStream {
        stream: Some(event.stream.to_string()),
        revision: event.place.revision,
        position: event.place.position,
        id: told(&event.event),
    }
}
