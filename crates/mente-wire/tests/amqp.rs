//! What SDKs of Service Bus were seen to send (`data/amqp`, each with its origin on the first
//! line): all of it is read, and comes back equal from what is written of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use mente_engine::{Event, Offset, Timestamp};
use mente_wire::amqp::message::{BATCH_FORMAT, BodyKind, MapSection, MessageId, Properties};
use mente_wire::amqp::performative::{Attach, Transfer};
use mente_wire::amqp::transaction::{Control, Declare, Discharge};
use mente_wire::amqp::{
    DeliveryState, Destination, FrameKind, Message, Outcome, Performative, Protocol, Sasl, Symbol,
    Value, event, frame,
};

/// What one connection sent, in its order.
#[derive(Default)]
struct Sent {
    protocols: Vec<Protocol>,
    sasl: Vec<Sasl>,
    /// With their channels.
    performatives: Vec<(u16, Performative)>,
    /// Whole deliveries, each with its first transfer.
    deliveries: Vec<(Transfer, Bytes)>,
}

fn captured(name: &str) -> Vec<Bytes> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/amqp")
        .join(name);
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    lines
        .map(|line| line.as_bytes().chunks(2).map(byte).collect())
        .collect()
}

fn sent(name: &str) -> Sent {
    let mut sent = Sent::default();
    // By handle of a channel, what has come of a delivery.
    let mut parts: BTreeMap<(u16, u32), (Transfer, Vec<u8>)> = BTreeMap::new();
    for line in captured(name) {
        let mut buffer = BytesMut::from(&line[..]);
        if line.starts_with(b"AMQP") {
            sent.protocols
                .push(Protocol::split(&mut buffer).unwrap().unwrap());
            continue;
        }
        let frame = frame::split(&mut buffer, 1 << 20).unwrap().unwrap();
        assert!(buffer.is_empty(), "a line is a frame");
        if frame.body.is_empty() {
            continue;
        }
        if frame.kind == FrameKind::Sasl {
            let sasl = Sasl::decode(&frame.body).unwrap();
            let mut out = Vec::new();
            sasl.encode(&mut out);
            assert_eq!(Sasl::decode(&out.into()).as_ref(), Ok(&sasl));
            sent.sasl.push(sasl);
            continue;
        }
        let (performative, payload) = Performative::decode(&frame.body).unwrap();
        let mut out = Vec::new();
        performative.encode(&mut out);
        out.extend_from_slice(&payload);
        let again = Performative::decode(&out.into()).unwrap();
        assert_eq!((&again.0, &again.1), (&performative, &payload));
        if let Performative::Transfer(transfer) = &performative {
            let at = (frame.channel, transfer.handle);
            let part = parts
                .entry(at)
                .or_insert_with(|| (transfer.clone(), Vec::new()));
            part.1.extend_from_slice(&payload);
            if !transfer.more {
                let (first, whole) = parts.remove(&at).unwrap();
                sent.deliveries.push((first, whole.into()));
            }
        }
        sent.performatives.push((frame.channel, performative));
    }
    assert!(parts.is_empty(), "every delivery comes to its end");
    sent
}

fn all() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/amqp");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

impl Sent {
    fn attaches(&self) -> impl Iterator<Item = &Attach> {
        self.performatives
            .iter()
            .filter_map(|(_, sent)| match sent {
                Performative::Attach(attach) => Some(&**attach),
                _ => None,
            })
    }

    fn states(&self) -> impl Iterator<Item = &DeliveryState> {
        self.performatives
            .iter()
            .filter_map(|(_, sent)| match sent {
                Performative::Disposition(disposition) => disposition.state.as_ref(),
                Performative::Transfer(transfer) => transfer.state.as_ref(),
                _ => None,
            })
    }

    fn messages(&self) -> impl Iterator<Item = Message> {
        self.deliveries
            .iter()
            .map(|(_, whole)| Message::split(whole).unwrap())
    }

    /// What each source asks of sessions.
    fn session_filters(&self) -> Vec<Value> {
        let sources = self.attaches().filter_map(|attach| attach.source.as_ref());
        let filters = sources.filter_map(|source| source.filter.as_ref());
        filters
            .filter_map(|filter| filter.get("com.microsoft:session-filter").cloned())
            .collect()
    }
}

#[test]
fn all_that_was_captured_is_read() {
    let mut counts = Vec::new();
    for name in all() {
        let sent = sent(&name);
        assert_eq!(sent.protocols, [Protocol::Sasl, Protocol::Amqp], "{name}");
        let [Sasl::Init(init)] = &sent.sasl[..] else {
            panic!("{name}: {:?}", sent.sasl);
        };
        assert_eq!(init.mechanism.as_str(), "ANONYMOUS");
        assert!(matches!(&sent.performatives[0], (0, Performative::Open(_))));
        // Protocol headers and the SASL frame apart, nothing was passed over.
        assert_eq!(
            sent.performatives.len() + 3,
            captured(&name).len(),
            "{name}"
        );
        counts.push((name, sent.deliveries.len()));
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, whole)| (&name[..], *whole))
        .collect();
    assert_eq!(
        counts,
        [
            ("go.hex", 15),
            ("java-next-session.hex", 1),
            ("java-receiver.hex", 5),
            ("java-sender.hex", 11),
            ("java-session.hex", 1),
            ("js.hex", 18),
            ("python-next-session.hex", 1),
            ("python-receiver.hex", 4),
            ("python-sender.hex", 9),
            ("python-session.hex", 3),
        ]
    );
}

#[test]
fn messages_are_split_and_written_whole() {
    let mut batches = 0;
    for name in all() {
        for (transfer, whole) in sent(&name).deliveries {
            let message = Message::split(&whole).unwrap();
            let mut out = Vec::new();
            message.write(&mut out);
            assert_eq!(out.len(), whole.len());
            assert_eq!(Message::split(&out.into()).as_ref(), Ok(&message));
            message.read_header().unwrap();
            message.read_properties().unwrap();
            for section in [
                MapSection::DeliveryAnnotations,
                MapSection::MessageAnnotations,
                MapSection::ApplicationProperties,
                MapSection::Footer,
            ] {
                message.read_map(section).unwrap();
            }
            message.body.read_value().unwrap();
            message.body.read_sequences().unwrap();
            if transfer.message_format == Some(BATCH_FORMAT) {
                let bodies = message.batched().unwrap().into_iter().map(|one| {
                    let one = Message::split(&one).unwrap();
                    one.body.data().next().unwrap()
                });
                let bodies: Vec<_> = bodies.collect();
                // JS has strings as JSON.
                assert!(
                    bodies == ["one", "two"] || bodies == ["\"one\"", "two"],
                    "{bodies:?}"
                );
                batches += 1;
            }
        }
    }
    assert_eq!(batches, 4);
}

/// What came, as an event in a record, and as it is handed out again: the same but for what a queue says of it.
#[test]
fn messages_are_events_and_messages_again() {
    let mut messages = 0;
    for name in all() {
        for (transfer, whole) in sent(&name).deliveries {
            let message = Message::split(&whole).unwrap();
            let ones = match transfer.message_format {
                Some(BATCH_FORMAT) => message.batched().unwrap(),
                _ => vec![whole],
            };
            for one in ones {
                comes_back(&one);
                messages += 1;
            }
        }
    }
    assert_eq!(messages, 72);
}

fn comes_back(whole: &Bytes) {
    let mut taken = event::read(whole, "q").unwrap();
    if taken.event.id.is_empty() {
        "made".clone_into(&mut taken.event.id);
    }
    assert_eq!(taken.event.validate(), Ok(()));
    let record = taken.event.to_record(Timestamp(1));
    let kept = Event::from_record(&record, "/topics/q", 0, Offset(0));
    assert_eq!(kept, taken.event);
    let written = event::write(&kept, &event::Stamp::default());
    let (first, again) = (
        Message::split(whole).unwrap(),
        Message::split(&written).unwrap(),
    );
    assert_eq!(again.body, first.body);
    assert_eq!(again.footer, first.footer);
    let mut properties = first.read_properties().unwrap();
    let made = MessageId::String("made".into());
    properties.message_id.get_or_insert(made);
    assert_eq!(again.read_properties(), Ok(properties));
    let section = MapSection::ApplicationProperties;
    assert_eq!(again.read_map(section), first.read_map(section));
    let (header, before) = (again.read_header(), first.read_header());
    assert_eq!(header, before);
    for (name, value) in first.read_map(MapSection::MessageAnnotations).unwrap().0 {
        let annotations = again.read_map(MapSection::MessageAnnotations).unwrap();
        assert_eq!(annotations.get(name.as_str().unwrap()), Some(&value));
    }
}

#[test]
fn properties_are_where_an_sdk_puts_them() {
    let sent = sent("python-sender.hex");
    let properties = sent
        .messages()
        .map(|message| message.read_properties().unwrap());
    let mut labelled = properties.filter(|properties| properties.subject.is_some());
    let expect = Properties {
        message_id: Some(MessageId::String("id1".into())),
        user_id: None,
        to: Some("t".into()),
        subject: Some("label".into()),
        reply_to: Some("r".into()),
        correlation_id: Some(MessageId::String("c".into())),
        content_type: Some(Symbol::from_static("application/json")),
        content_encoding: None,
        // 30 days apart, as the time to live is.
        absolute_expiry_time: Some(Timestamp(1_798_569_650_000)),
        creation_time: Some(Timestamp(1_795_977_650_000)),
        group_id: Some("s1".into()),
        group_sequence: None,
        reply_to_group_id: None,
    };
    assert_eq!(labelled.next(), Some(expect));
    assert_eq!(labelled.next(), None);
}

#[test]
fn sessions_are_asked_for_in_two_forms() {
    let described = |value| Value::described(Value::Ulong(0x13_7000_000c), value);
    for (name, expect) in [
        ("python-session", vec!["s1".into()]),
        ("python-next-session", vec![Value::Null]),
        ("js", vec!["s1".into(), Value::Null]),
        ("go", vec![described("s1".into()), described(Value::Null)]),
        ("java-session", vec!["s1".into()]),
        ("java-next-session", vec![Value::Null]),
        ("java-receiver", Vec::new()),
    ] {
        let filters = sent(&format!("{name}.hex")).session_filters();
        assert_eq!(filters, expect, "{name}");
    }
}

#[test]
fn dead_letters_have_their_reason_under_strings_and_symbols() {
    for (name, is_symbol) in [
        ("python-receiver", true),
        ("js", false),
        ("go", false),
        ("java-receiver", false),
    ] {
        let sent = sent(&format!("{name}.hex"));
        let mut errors = sent.states().filter_map(|state| match state {
            DeliveryState::Outcome(Outcome::Rejected(Some(error))) => Some(error),
            _ => None,
        });
        let error = errors.next().unwrap();
        assert_eq!(errors.next(), None);
        assert_eq!(error.condition.as_str(), "com.microsoft:dead-letter");
        let info = error.info.as_ref().unwrap();
        assert_eq!(info.get("DeadLetterReason"), Some(&"why".into()), "{name}");
        assert_eq!(
            info.get("DeadLetterErrorDescription"),
            Some(&"long".into()),
            "{name}"
        );
        let is_symbols = info
            .0
            .iter()
            .all(|(key, _)| matches!(key, Value::Symbol(_)));
        assert_eq!(is_symbols, is_symbol, "{name}");
    }
}

#[test]
fn messages_defer_and_are_abandoned_by_one_outcome() {
    for name in ["python-receiver", "js", "go", "java-receiver"] {
        let sent = sent(&format!("{name}.hex"));
        let modified = sent.states().filter_map(|state| match state {
            DeliveryState::Outcome(Outcome::Modified(modified)) => {
                Some(modified.undeliverable_here)
            }
            _ => None,
        });
        assert_eq!(modified.collect::<Vec<_>>(), [false, true], "{name}");
    }
}

#[test]
fn sections_are_where_each_sdk_has_them() {
    let python = sent("python-sender.hex");
    let annotated = python
        .deliveries
        .iter()
        .find(|(_, whole)| whole.ends_with(b"\xa3\x01dT\x02"));
    let message = Message::split(&annotated.unwrap().1).unwrap();
    let annotations = message.read_map(MapSection::DeliveryAnnotations).unwrap();
    assert_eq!(annotations.get("d"), Some(&Value::Int(2)));
    assert_eq!(message.body.data().collect::<Vec<_>>(), ["a", "b"]);
    // A value of 0 is nothing at all.
    assert!(python.deliveries.iter().any(|(_, whole)| whole.is_empty()));
    let js = sent("js.hex");
    let js: Vec<_> = js
        .messages()
        .filter(|message| message.footer.is_some())
        .collect();
    let [message] = &js[..] else {
        panic!("{js:?}");
    };
    assert_eq!(message.body.kind(), BodyKind::Value);
    assert_eq!(message.read_header().map(|header| header.durable), Ok(true));
}

#[test]
fn transactions_are_declared_used_and_discharged() {
    let sender = sent("java-sender.hex");
    let coordinators = sender
        .attaches()
        .filter(|attach| matches!(attach.target, Some(Destination::Coordinator(_))));
    assert_eq!(coordinators.count(), 1);
    let declare = || Control::Declare(Declare::default());
    let discharge = |fail| {
        let txn_id = Bytes::from_static(b"txn1");
        Control::Discharge(Discharge { txn_id, fail })
    };
    let controls: Vec<_> = sender
        .messages()
        .filter_map(|one| Control::decode(&one).ok())
        .collect();
    assert_eq!(
        controls,
        [declare(), discharge(false), declare(), discharge(true)]
    );
    let within = |outcome| DeliveryState::Transactional {
        txn_id: Bytes::from_static(b"txn1"),
        outcome,
    };
    assert_eq!(
        sender.states().collect::<Vec<_>>(),
        [&within(None), &within(None)]
    );
    let receiver = sent("java-receiver.hex");
    assert!(
        receiver
            .states()
            .any(|state| *state == within(Some(Outcome::Accepted)))
    );
}
