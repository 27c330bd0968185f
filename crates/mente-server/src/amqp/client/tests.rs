//! A client step by step: what it says and what comes of its work are heard in the order in which a test wants them.

use bytes::BytesMut;
use mente_broker::entity::QueueProperties;
use mente_broker::{Broker, EntityName};
use mente_engine::Event as Content;
use mente_wire::amqp::machine::Options;
use mente_wire::amqp::message::{MapSection, Message};
use mente_wire::amqp::performative::{Begin, Disposition, Flow, Open, Performative};
use mente_wire::amqp::{Protocol, Source, Value, frame};
use tokio::sync::watch;

use super::*;
use crate::alone::broker;

/// Credit for more messages than a call waits for where it is polled.
const CREDIT: u32 = 20;
/// Turns of all tasks: whoever can go on has done so.
const TURNS: usize = 1_000;

struct Steps {
    client: Client,
    machine: Connection,
    written: BytesMut,
    broker: Broker,
}

impl Steps {
    /// A client with a link that receives from a queue, which is empty.
    async fn attached() -> Self {
        let broker = broker().await;
        let properties = QueueProperties::default();
        let created = broker.create_queue(&Principal::Anonymous, "q", properties);
        created.await.unwrap();
        let (_, stopping) = watch::channel(false);
        let door = Door::new(broker.clone(), super::super::Options::default(), stopping);
        let options = Options {
            without_sasl: true,
            ..Options::default()
        };
        let mut steps = Self {
            client: Client::new(Arc::new(door)),
            machine: Connection::new(options, Duration::ZERO),
            written: BytesMut::new(),
            broker,
        };
        steps.hear(&Protocol::Amqp.header());
        steps.said(Performative::Open(Box::new(Open {
            container_id: "steps".into(),
            ..Open::default()
        })));
        steps.said(Performative::Begin(Box::new(Begin {
            incoming_window: 1_000,
            outgoing_window: 1_000,
            handle_max: 10,
            ..Begin::default()
        })));
        let source = Source {
            address: Some("q".into()),
            ..Source::default()
        };
        steps.said(Performative::Attach(Box::new(Attach {
            source: Some(source),
            ..Attach::new("link".into(), 0, Role::Receiver)
        })));
        steps
            .until(|said| matches!(said, Performative::Attach(_)))
            .await;
        steps
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut bytes = BytesMut::from(bytes);
        while let Some(event) = self.machine.receive(&mut bytes, Duration::ZERO) {
            self.client.event(&mut self.machine, event);
        }
        self.client.call_ahead(&mut self.machine);
        self.client.pump(&mut self.machine);
    }

    fn said(&mut self, performative: Performative) {
        let mut frame = Vec::new();
        performative.write_frame(0, &mut frame);
        self.hear(&frame);
    }

    fn credit(&mut self, delivery_count: u32, drain: bool) {
        self.said(Performative::Flow(Box::new(Flow {
            incoming_window: 1_000,
            outgoing_window: 1_000,
            handle: Some(0),
            delivery_count: Some(delivery_count),
            link_credit: Some(CREDIT),
            drain,
            ..Flow::default()
        })));
    }

    async fn send(&self, count: u32) {
        let message = mente_broker::Message {
            event: Content {
                id: "1".into(),
                source: "/s".into(),
                kind: "t".into(),
                ..Content::default()
            },
            ..mente_broker::Message::default()
        };
        let messages = vec![message; count as usize];
        let to = EntityName::new("q").unwrap();
        let sent = self.broker.send(&Principal::Anonymous, &to, messages);
        sent.await.unwrap();
    }

    /// Goes on until that was said; gives the numbers of messages that came before it.
    async fn until(&mut self, is_wanted: impl Fn(&Performative) -> bool) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..TURNS {
            turns(TURNS).await;
            while let Some(Some(done)) = self.client.desk.work.next().now_or_never() {
                self.client.done(&mut self.machine, done);
            }
            self.client.call_ahead(&mut self.machine);
            self.client.pump(&mut self.machine);
            while let Some(bytes) = self.machine.poll_output(Duration::ZERO) {
                self.written.extend_from_slice(&bytes);
            }
            if self.written.starts_with(b"AMQP") {
                Protocol::split(&mut self.written).unwrap();
            }
            while let Some(frame) = frame::split(&mut self.written, 64 << 10).unwrap() {
                let (said, payload) = Performative::decode(&frame.body).unwrap();
                if is_wanted(&said) {
                    return numbers;
                }
                if matches!(said, Performative::Transfer(_)) {
                    numbers.push(number_of(&payload));
                }
            }
        }
        panic!("it was never said");
    }
}

/// Lets everybody but the client go on.
async fn turns(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

fn number_of(payload: &Bytes) -> u64 {
    let message = Message::split(payload).unwrap();
    let annotations = message.read_map(MapSection::MessageAnnotations).unwrap();
    match annotations.get("x-opt-sequence-number") {
        Some(Value::Long(number)) => u64::try_from(*number).unwrap(),
        other => panic!("no number but {other:?}"),
    }
}

fn is_drained(said: &Performative) -> bool {
    matches!(said, Performative::Flow(flow) if flow.drain)
}

fn accepted(first: u32, last: u32) -> Performative {
    let state = DeliveryState::Outcome(Outcome::Accepted);
    Performative::Disposition(Disposition {
        last: Some(last),
        ..Disposition::settled(Role::Receiver, first, state)
    })
}

/// A call that has brought many is followed by one of its own task.
async fn with_a_call_apart() -> Steps {
    let mut steps = Steps::attached().await;
    steps.send(CREDIT).await;
    steps.credit(0, false);
    let mut left = CREDIT;
    while left > 0 {
        let came = steps
            .until(|said| matches!(said, Performative::Transfer(_)))
            .await;
        left -= 1 + u32::try_from(came.len()).unwrap();
    }
    steps.said(accepted(0, CREDIT - 1));
    steps.credit(CREDIT, false);
    steps
}

/// Whatever of the first call was under way by then.
#[tokio::test]
async fn a_drain_passes_nothing_over_that_the_call_before_it_has_got() {
    let mut brought = 0;
    for on_the_way in 0..60 {
        let mut steps = with_a_call_apart().await;
        turns(TURNS).await;
        steps.send(2 * CREDIT).await;
        turns(on_the_way).await;
        steps.credit(CREDIT, true);
        let came = steps.until(is_drained).await;
        let first = u64::from(CREDIT) + 1;
        let in_order: Vec<_> = (first..).take(came.len()).collect();
        assert_eq!(came, in_order, "after {on_the_way} turns");
        brought += came.len();
    }
    assert!(brought > 0);
}
