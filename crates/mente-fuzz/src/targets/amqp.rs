//! AMQP 1.0: values, frames with what they say, and messages.

use bytes::{Bytes, BytesMut};
use mente_engine::Timestamp;
use mente_wire::amqp::message::{Body, Header, MapSection, MessageId, Properties};
use mente_wire::amqp::performative::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Role, Transfer,
};
use mente_wire::amqp::sasl::{Init, Mechanisms, SaslCode, SaslOutcome};
use mente_wire::amqp::transaction::{Control, Discharge};
use mente_wire::amqp::{
    Array, Coordinator, DeliveryState, Destination, Error, FrameKind, Kind, Malformed, Map,
    Message, Modified, Outcome, Performative, Protocol, Sasl, Source, Symbol, Target, Uuid, Value,
    condition, decode, encode, frame,
};

/// Largest frame that is taken; inputs are no larger.
const FRAME_BYTES: usize = 64 << 10;

pub(super) const WORDS: &[&str] = &[
    "@",
    "A",
    "E",
    "\0S\u{10}",
    "\0S\u{14}",
    "\0S(",
    "\0Sp",
    "\0Ss",
    "\0St",
    "\0Su",
    "\0Sv",
    "\0Sw",
    "\0S5",
    "\0@",
    "AMQP\0\u{1}\0\0",
    "amqp:open:list",
    "amqp:rejected:list",
    "amqp:data:binary",
];

fn symbol(text: &'static str) -> Symbol {
    Symbol::from_static(text)
}

fn map(key: &'static str, value: Value) -> Map {
    Map(vec![(symbol(key).into(), value)])
}

fn encoded(value: &Value) -> Bytes {
    let mut out = Vec::new();
    encode(value, &mut out);
    out.into()
}

fn array(kind: Kind, elements: Vec<Value>) -> Value {
    Array::new(kind, elements).map_or(Value::Null, Value::from)
}

fn values() -> Vec<Value> {
    let scalars = vec![
        Value::Null,
        Value::Boolean(true),
        Value::Ubyte(200),
        Value::Ushort(70),
        Value::Uint(0),
        Value::Uint(70_000),
        Value::Ulong(9),
        Value::Ulong(u64::MAX),
        Value::Byte(-1),
        Value::Short(-2),
        Value::Int(-3),
        Value::Int(i32::MIN),
        Value::Long(4),
        Value::Long(i64::MIN),
        Value::Float(1),
        Value::Double(2),
        Value::Decimal32([1; 4]),
        Value::Decimal64([2; 8]),
        Value::Decimal128([3; 16]),
        Value::Char('\u{e4}'),
        Value::Timestamp(Timestamp(1_764_504_000_000)),
        Value::Uuid(Uuid([7; 16])),
        Value::Binary(Bytes::from_static(b"\0\xff")),
        "\u{e4}\u{1f600}".into(),
        symbol("com.microsoft:timeout").into(),
    ];
    let entries = scalars.iter().cloned().map(|value| (value, Value::Null));
    let text = |length| Value::from("x".repeat(length).as_str());
    let arrays = [
        array(Kind::Null, vec![Value::Null; 3]),
        array(Kind::String, vec![text(0), text(255)]),
        array(Kind::String, vec![text(256), text(1)]),
        array(Kind::Uint, vec![Value::Uint(1), Value::Uint(70_000)]),
        array(Kind::Symbol, vec![symbol("a").into(), symbol("b").into()]),
        array(
            Kind::List,
            vec![Value::List(scalars.clone()), Value::List(Vec::new())],
        ),
        array(Kind::Map, vec![Value::Map(map("k", Value::Uint(1)))]),
        array(
            Kind::Array,
            vec![array(Kind::Boolean, vec![Value::Boolean(false)])],
        ),
        Array::described(
            vec![Value::Ulong(1), symbol("x").into()],
            Kind::Long,
            vec![Value::Long(1)],
        )
        .map_or(Value::Null, Value::from),
    ];
    let mut all = vec![
        Value::Map(Map(entries.collect())),
        Value::List(scalars),
        Value::described(Value::Ulong(0x13_7000_000c), "session".into()),
        Value::List(vec![
            "x".repeat(300).as_str().into(),
            Value::List(vec![Value::Null; 300]),
        ]),
    ];
    all.extend(arrays);
    all
}

/// Beside real values lists within lists, each of which claims all bytes behind it as elements of
/// its own.
pub(super) fn value_seeds() -> Vec<Vec<u8>> {
    let values = values();
    let values = values.iter().map(|value| encoded(value).to_vec());
    let mut claims = vec![0x40; 2_000];
    for _ in 0..30 {
        let count = claims.len() as u32;
        let size = (count + 4).to_be_bytes();
        claims = [&[0xd0][..], &size, &count.to_be_bytes(), &claims].concat();
    }
    values.chain([claims]).collect()
}

/// Makes one value of what is there: sizes that are those of what they count.
pub(super) fn repair_value(input: &mut Vec<u8>) {
    if let Some(end) = mend(input, 0, 0) {
        input.truncate(end);
    }
}

/// Where the value at `at` ends, once its sizes are made right; counts are cut to what is there.
/// Arrays stay as they are, whose elements are of one width. None is no value.
fn mend(input: &mut [u8], at: usize, depth: usize) -> Option<usize> {
    /// A little deeper than is decoded.
    const DEPTH: usize = 40;
    let code = *input.get(at)?;
    let end = match code >> 4 {
        0 if code == 0 && depth < DEPTH => {
            let value_at = mend(input, at + 1, depth + 1)?;
            return mend(input, value_at, depth + 1);
        }
        4 => at + 1,
        5 => at + 2,
        6 => at + 3,
        7 => at + 5,
        8 => at + 9,
        9 => at + 17,
        0xa | 0xb => {
            let width = if code < 0xb0 { 1 } else { 4 };
            let left = input.len().checked_sub(at + 1 + width)?;
            let size = number(input, at + 1, width)?.min(left);
            put(input, at + 1, width, size);
            at + 1 + width + size
        }
        0xc | 0xd if depth < DEPTH => return mend_list(input, at, depth),
        0xe => at + 2 + number(input, at + 1, 1)?,
        0xf => at + 5 + number(input, at + 1, 4)?,
        _ => return None,
    };
    (end <= input.len()).then_some(end)
}

fn mend_list(input: &mut [u8], at: usize, depth: usize) -> Option<usize> {
    let code = *input.get(at)?;
    let width = if code < 0xd0 { 1 } else { 4 };
    let claimed = number(input, at + 1 + width, width)?;
    let is_map = code & 0x0f == 1;
    let (mut count, mut end) = (0, at + 1 + 2 * width);
    let mut next = Some(end);
    for index in 0..claimed {
        next = next.and_then(|at| mend(input, at, depth + 1));
        let Some(there) = next else { break };
        let fits = width == 4 || there - (at + 2) <= usize::from(u8::MAX);
        if !fits {
            break;
        }
        // A key without a value is left for whoever reads on.
        if !is_map || index % 2 == 1 {
            (count, end) = (index + 1, there);
        }
    }
    put(input, at + 1 + width, width, count);
    put(input, at + 1, width, end - (at + 1 + width));
    Some(end)
}

fn number(input: &[u8], at: usize, width: usize) -> Option<usize> {
    let bytes = input.get(at..at + width)?.iter();
    Some(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn put(input: &mut [u8], at: usize, width: usize, number: usize) {
    let bytes = (number as u32).to_be_bytes();
    input[at..at + width].copy_from_slice(&bytes[4 - width..]);
}

pub(super) fn value(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    // The value of a message is gone past without being made; both ways agree on what it is.
    let section = [&[0x00, 0x53, 0x77], &input[..]].concat();
    let walked = Message::split(&section.into());
    match decode(&input) {
        Ok(value) => {
            let message = walked.expect("what is decoded is gone past");
            let same = message.body.read_value();
            assert!(same.is_ok_and(|same| same.as_ref() == Some(&value)));
            assert_eq!(decode(&encoded(&value)), Ok(value), "a value changes");
        }
        Err(refused) if refused.condition == condition::RESOURCE_LIMIT_EXCEEDED => {}
        Err(refused) => {
            let is_alone = walked.is_ok_and(|message| message.sections().count() == 1);
            assert!(!is_alone, "gone past, but {refused}");
        }
    }
}

fn error() -> Error {
    Error {
        info: Some(map("DeadLetterReason", "r".into())),
        ..Error::new("com.microsoft:dead-letter", "why".to_owned())
    }
}

fn attach() -> Attach {
    Attach {
        source: Some(Source {
            address: Some("q1".into()),
            filter: Some(map("com.microsoft:session-filter", Value::Null)),
            outcomes: vec![symbol("amqp:accepted:list"), symbol("amqp:rejected:list")],
            default_outcome: Some(Value::described(
                Value::Ulong(0x26),
                Value::List(Vec::new()),
            )),
            ..Source::default()
        }),
        target: Some(Destination::Target(Target::default())),
        unsettled: Some(Map(vec![(
            Value::Binary(Bytes::from_static(b"t")),
            Value::Null,
        )])),
        properties: Some(map("com.microsoft:timeout", Value::Uint(60_000))),
        ..Attach::new("link".into(), 1, Role::Receiver)
    }
}

fn performatives() -> Vec<Performative> {
    let open = Open {
        container_id: "c".into(),
        hostname: Some("h".into()),
        idle_time_out_ms: Some(60_000),
        desired_capabilities: vec![symbol("a"), symbol("b")],
        properties: Some(map("product", "p".into())),
        ..Open::default()
    };
    let coordinator = Attach {
        target: Some(Destination::Coordinator(Coordinator {
            capabilities: vec![symbol("amqp:local-transactions")],
        })),
        ..Attach::new("txn".into(), 2, Role::Sender)
    };
    let modified = Modified {
        message_annotations: Some(map("k", Value::Long(7))),
        ..Modified::default()
    };
    let txn_id = Bytes::from_static(b"\x01\x02");
    let states = [
        DeliveryState::Outcome(Outcome::Accepted),
        DeliveryState::Outcome(Outcome::Rejected(Some(error()))),
        DeliveryState::Outcome(Outcome::Released),
        DeliveryState::Outcome(Outcome::Modified(modified)),
        DeliveryState::Received {
            section_number: 1,
            section_offset: 2,
        },
        DeliveryState::Declared {
            txn_id: txn_id.clone(),
        },
        DeliveryState::Transactional {
            txn_id,
            outcome: Some(Outcome::Accepted),
        },
    ];
    let disposition =
        |state| Performative::Disposition(Disposition::settled(Role::Receiver, 1, state));
    let mut all = vec![
        Performative::Open(Box::new(open)),
        Performative::Begin(Box::new(Begin {
            properties: Some(Map(vec![(Value::Null, Value::List(values()))])),
            ..Begin::default()
        })),
        Performative::Attach(Box::new(attach())),
        Performative::Attach(Box::new(coordinator)),
        Performative::Flow(Box::new(Flow {
            handle: Some(1),
            delivery_count: Some(0),
            drain: true,
            ..Flow::default()
        })),
        Performative::Detach(Detach {
            handle: 1,
            closed: true,
            error: Some(error()),
        }),
        Performative::End(End::default()),
        Performative::Close(Close {
            error: Some(error()),
        }),
    ];
    all.extend(states.map(disposition));
    all
}

fn transfer() -> Vec<u8> {
    let mut transfer = Transfer {
        handle: 1,
        delivery_id: Some(1),
        delivery_tag: Some(Bytes::from_static(&[7; 16])),
        message_format: Some(0),
        ..Transfer::default()
    };
    let (mut out, payload) = (Vec::new(), b"payload");
    transfer.write_frame(1, payload.len(), false, FRAME_BYTES, &mut out);
    out.extend_from_slice(payload);
    out
}

fn sasl() -> [Sasl; 3] {
    [
        Sasl::Mechanisms(Mechanisms {
            server_mechanisms: vec![symbol("ANONYMOUS"), symbol("PLAIN")],
        }),
        Sasl::Init(Init {
            mechanism: symbol("PLAIN"),
            initial_response: Some(Bytes::from_static(b"\0u\0p")),
            hostname: None,
        }),
        Sasl::Outcome(SaslOutcome {
            code: SaslCode::Auth,
            additional_data: None,
        }),
    ]
}

/// Each frame alone, and a connection from its protocol header on.
pub(super) fn frame_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![transfer()];
    for performative in performatives() {
        let mut out = Vec::new();
        performative.write_frame(3, &mut out);
        seeds.push(out);
    }
    for sasl in sasl() {
        let mut out = Vec::new();
        sasl.write_frame(&mut out);
        seeds.push(out);
    }
    let mut heartbeat = Vec::new();
    frame::write_heartbeat(&mut heartbeat);
    let whole = [&Protocol::Amqp.header()[..], &heartbeat, &seeds.concat()].concat();
    seeds.push(whole);
    seeds
}

/// Makes one frame of what is there, of payload too where a transfer is.
pub(super) fn repair_frame(input: &mut Vec<u8>) {
    const BODY: usize = frame::FRAME_HEADER_BYTES;
    const TRANSFER: &[u8] = &[0x00, 0x53, 0x14];
    if input.starts_with(b"AMQP") || input.len() < BODY {
        return;
    }
    let end = mend(input, BODY, 0);
    if let Some(end) = end
        && !input[BODY..].starts_with(TRANSFER)
    {
        input.truncate(end);
    }
    let size = input.len();
    put(input, 0, 4, size);
    input[4] = 2;
    input[5] &= 1;
}

pub(super) fn frames(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    if buffer.starts_with(b"A") && !matches!(Protocol::split(&mut buffer), Ok(Some(_))) {
        return;
    }
    while let Ok(Some(frame)) = frame::split(&mut buffer, FRAME_BYTES) {
        if frame.body.is_empty() {
            continue;
        }
        let refused = match frame.kind {
            FrameKind::Amqp => performative(&frame.body),
            FrameKind::Sasl => sasl_of(&frame.body),
        };
        if let Err(refused) = refused {
            // The peer is told.
            let close = Performative::Close(Close {
                error: Some(refused.into()),
            });
            let mut out = Vec::new();
            close.encode(&mut out);
            assert_eq!(Performative::decode(&out.into()), Ok((close, Bytes::new())));
            return;
        }
    }
}

fn performative(body: &Bytes) -> Result<(), Malformed> {
    let (found, payload) = Performative::decode(body)?;
    assert!(body.ends_with(&payload));
    let mut out = Vec::new();
    found.encode(&mut out);
    out.extend_from_slice(&payload);
    assert_eq!(
        Performative::decode(&out.into()),
        Ok((found, payload)),
        "a performative changes"
    );
    Ok(())
}

fn sasl_of(body: &Bytes) -> Result<(), Malformed> {
    let found = Sasl::decode(body)?;
    let mut out = Vec::new();
    found.encode(&mut out);
    assert_eq!(Sasl::decode(&out.into()), Ok(found), "a SASL frame changes");
    Ok(())
}

fn messages() -> Vec<Message> {
    let full = Message {
        header: Some(Header::default().encode()),
        delivery_annotations: Some({
            let token = Value::Uuid(Uuid([1; 16]));
            MapSection::DeliveryAnnotations.encode(&map("x-opt-lock-token", token))
        }),
        message_annotations: Some({
            MapSection::MessageAnnotations.encode(&map("x-opt-partition-key", "k".into()))
        }),
        properties: Some({
            let properties = Properties {
                message_id: Some(MessageId::Ulong(7)),
                correlation_id: Some(MessageId::Uuid(Uuid([2; 16]))),
                subject: Some("label".into()),
                absolute_expiry_time: Some(Timestamp(1)),
                group_id: Some("session".into()),
                ..Properties::default()
            };
            properties.encode()
        }),
        application_properties: Some({
            MapSection::ApplicationProperties.encode(&map("k", "v".into()))
        }),
        body: Body::of_data([&b"one"[..], b"two"]),
        footer: Some(MapSection::Footer.encode(&Map::default())),
    };
    let of = |body| Message {
        body,
        ..Message::default()
    };
    let control = Control::Discharge(Discharge {
        txn_id: Bytes::from_static(b"\x01"),
        fail: true,
    });
    let inner = [&full, &of(Body::of_value(&"x".into()))].map(written);
    vec![
        of(Body::of_data(inner.iter().map(|message| &message[..]))),
        of(Body::of_value(&Value::List(values()))),
        of(Body::of_sequences(vec![values(), Vec::new()])),
        of(control.to_body()),
        full,
    ]
}

fn written(message: &Message) -> Bytes {
    let mut out = Vec::new();
    message.write(&mut out);
    out.into()
}

pub(super) fn message_seeds() -> Vec<Vec<u8>> {
    messages()
        .iter()
        .map(|message| written(message).to_vec())
        .collect()
}

/// Makes sections of what is there.
pub(super) fn repair_message(input: &mut Vec<u8>) {
    let mut at = 0;
    while at < input.len() {
        match mend(input, at, 0) {
            Some(end) => at = end,
            None => input.truncate(at),
        }
    }
}

pub(super) fn message(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    let Ok(message) = Message::split(&input) else {
        return;
    };
    // In the standard's order, which is another one now and then.
    let whole = written(&message);
    assert_eq!(whole.len(), input.len(), "a message grows or shrinks");
    assert_eq!(
        Message::split(&whole),
        Ok(message.clone()),
        "a message changes"
    );
    sections(&message);
    for inner in message.batched().unwrap_or_default() {
        let _ = Message::split(&inner);
    }
    if let Ok(control) = Control::decode(&message) {
        let again = Message {
            body: control.to_body(),
            ..Message::default()
        };
        assert_eq!(Control::decode(&again), Ok(control));
    }
}

/// What is decoded of a section is encoded so that it is decoded to the same.
fn sections(message: &Message) {
    let mut again = Message::default();
    if let Ok(header) = message.read_header() {
        again.header = Some(header.encode());
        assert_eq!(again.read_header(), Ok(header));
    }
    if let Ok(properties) = message.read_properties() {
        again.properties = Some(properties.encode());
        assert_eq!(again.read_properties(), Ok(properties));
    }
    for section in [
        MapSection::DeliveryAnnotations,
        MapSection::MessageAnnotations,
        MapSection::ApplicationProperties,
        MapSection::Footer,
    ] {
        if let Ok(map) = message.read_map(section) {
            let bytes = Some(section.encode(&map));
            match section {
                MapSection::DeliveryAnnotations => again.delivery_annotations = bytes,
                MapSection::MessageAnnotations => again.message_annotations = bytes,
                MapSection::ApplicationProperties => again.application_properties = bytes,
                MapSection::Footer => again.footer = bytes,
            }
            assert_eq!(again.read_map(section), Ok(map));
        }
    }
    let data: Vec<Bytes> = message.body.data().collect();
    let same = Body::of_data(data.iter().map(|payload| &payload[..]));
    assert!(same.data().eq(data), "data changes");
    if let Ok(Some(value)) = message.body.read_value() {
        assert_eq!(Body::of_value(&value).read_value(), Ok(Some(value)));
    }
    if let Ok(lists) = message.body.read_sequences() {
        assert_eq!(
            Body::of_sequences(lists.clone()).read_sequences(),
            Ok(lists)
        );
    }
}
