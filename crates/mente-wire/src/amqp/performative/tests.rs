use bytes::BytesMut;

use super::*;
use crate::amqp::composite::Field;
use crate::amqp::state::{DeliveryState, Error, Modified, Outcome};
use crate::amqp::terminus::{Coordinator, Destination, Durability, ExpiryPolicy, Source, Target};
use crate::amqp::testing::bytes;
use crate::amqp::value::{Map, Symbol, Text, Value};

fn symbol(text: &'static str) -> Symbol {
    Symbol::from_static(text)
}

fn encoded(performative: &Performative) -> Bytes {
    let mut out = Vec::new();
    performative.encode(&mut out);
    out.into()
}

fn decoded(hex: &str) -> Result<Performative, Malformed> {
    Performative::decode(&bytes(hex)).map(|(performative, _)| performative)
}

fn refused(hex: &str) -> (&'static str, String) {
    let refused = decoded(hex).unwrap_err();
    (
        refused.condition,
        format!("{} {}: {}", refused.composite, refused.field, refused.what),
    )
}

fn error() -> Error {
    Error {
        condition: symbol("com.microsoft:dead-letter"),
        description: Some("why".into()),
        // As the JS SDK has its keys.
        info: Some(Map(vec![("DeadLetterReason".into(), "r".into())])),
    }
}

fn states() -> Vec<DeliveryState> {
    let txn_id = Bytes::from_static(b"\x01\x02");
    let modified = Modified {
        delivery_failed: true,
        undeliverable_here: true,
        message_annotations: Some(Map(vec![(symbol("k").into(), Value::Long(7))])),
    };
    let outcomes = [
        Outcome::Accepted,
        Outcome::Rejected(None),
        Outcome::Rejected(Some(error())),
        Outcome::Released,
        Outcome::Modified(Modified::default()),
        Outcome::Modified(modified),
    ];
    let alone = outcomes.iter().cloned().map(DeliveryState::Outcome);
    let within = outcomes.iter().cloned().map(Some).chain([None]);
    let within = within.map(|outcome| DeliveryState::Transactional {
        txn_id: txn_id.clone(),
        outcome,
    });
    let others = [
        DeliveryState::Received {
            section_number: 3,
            section_offset: 1 << 40,
        },
        DeliveryState::Declared {
            txn_id: txn_id.clone(),
        },
    ];
    alone.chain(within).chain(others).collect()
}

fn attaches() -> [Attach; 3] {
    let session = Value::described(Value::Ulong(0x13_7000_000c), Value::Null);
    let filter = Map(vec![
        (symbol("com.microsoft:session-filter").into(), session),
        (symbol("plain").into(), Value::Null),
    ]);
    let source = Source {
        address: Some("q1".into()),
        durable: Durability::UnsettledState,
        expiry_policy: ExpiryPolicy::Never,
        timeout_seconds: 60,
        dynamic: true,
        dynamic_node_properties: Some(Map::default()),
        distribution_mode: Some(symbol("move")),
        filter: Some(filter),
        default_outcome: Some(Value::described(
            Value::Ulong(0x26),
            Value::List(Vec::new()),
        )),
        outcomes: vec![symbol("amqp:accepted:list"), symbol("amqp:rejected:list")],
        capabilities: vec![symbol("queue")],
    };
    let full = Attach {
        sender_settles: SenderSettleMode::Unsettled,
        receiver_settles: ReceiverSettleMode::Second,
        source: Some(source),
        target: Some(Destination::Target(Target {
            address: Some("reply".into()),
            durable: Durability::Configuration,
            expiry_policy: ExpiryPolicy::LinkDetach,
            ..Target::default()
        })),
        unsettled: Some(Map(vec![(
            Value::Binary(Bytes::from_static(b"t")),
            Value::Null,
        )])),
        incomplete_unsettled: true,
        initial_delivery_count: Some(0),
        max_message_size: Some(1 << 40),
        offered_capabilities: vec![symbol("a")],
        desired_capabilities: vec![symbol("b"), symbol("c")],
        properties: Some(Map(vec![(
            symbol("com.microsoft:timeout").into(),
            Value::Uint(9),
        )])),
        ..Attach::new("full".into(), 7, Role::Sender)
    };
    let coordinator = Attach {
        source: Some(Source::default()),
        target: Some(Destination::Coordinator(Coordinator {
            capabilities: vec![symbol("amqp:local-transactions")],
        })),
        ..Attach::new("txn".into(), 0, Role::Sender)
    };
    let refusal = Attach::new("no".into(), u32::MAX, Role::Receiver);
    [full, coordinator, refusal]
}

/// One of each with nothing in it, and with everything.
fn samples() -> Vec<Performative> {
    let properties = Some(Map(vec![(symbol("product").into(), "Mente".into())]));
    let open = Open {
        container_id: "c".into(),
        hostname: Some("h".into()),
        max_frame_size: 512,
        channel_max: 1,
        idle_time_out_ms: Some(60_000),
        outgoing_locales: vec![symbol("en-US")],
        incoming_locales: vec![symbol("en-US"), symbol("de")],
        offered_capabilities: vec![symbol("a")],
        desired_capabilities: vec![symbol("b")],
        properties: properties.clone(),
    };
    let begin = Begin {
        remote_channel: Some(1),
        next_outgoing_id: u32::MAX,
        incoming_window: u32::MAX,
        outgoing_window: 0,
        handle_max: 255,
        offered_capabilities: vec![symbol("a")],
        desired_capabilities: vec![symbol("b")],
        properties: properties.clone(),
    };
    let flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: 2_048,
        next_outgoing_id: 1,
        outgoing_window: 2,
        handle: Some(3),
        delivery_count: Some(0),
        link_credit: Some(100),
        available: Some(1),
        drain: true,
        echo: true,
        properties,
    };
    let transfer = Transfer {
        handle: 1,
        delivery_id: Some(2),
        delivery_tag: Some(Bytes::from_static(&[9; DELIVERY_TAG_BYTES])),
        message_format: Some(0x8001_3700),
        settled: Some(false),
        more: true,
        receiver_settles: Some(ReceiverSettleMode::First),
        state: Some(DeliveryState::Outcome(Outcome::Accepted)),
        resume: true,
        aborted: true,
        batchable: true,
    };
    let of_state = |state| {
        let mut disposition = Disposition::settled(Role::Receiver, 5, state);
        disposition.last = Some(9);
        disposition.batchable = true;
        Performative::Disposition(disposition)
    };
    let detach = |error| Detach {
        handle: 4,
        closed: true,
        error,
    };
    let all = [
        Performative::Open(Box::default()),
        Performative::Open(Box::new(open)),
        Performative::Begin(Box::default()),
        Performative::Begin(Box::new(begin)),
        Performative::Flow(Box::default()),
        Performative::Flow(Box::new(flow)),
        Performative::Transfer(Transfer::default()),
        Performative::Transfer(transfer),
        Performative::Detach(Detach::default()),
        Performative::Detach(detach(Some(error()))),
        Performative::End(End::default()),
        Performative::End(End {
            error: Some(error()),
        }),
        Performative::Close(Close::default()),
        Performative::Close(Close {
            error: Some(Error::new(condition::CONNECTION_FORCED, "going")),
        }),
    ];
    // One flag at a time, or two that are mixed up look alike.
    let flag = |at| Transfer {
        more: at == 0,
        resume: at == 1,
        aborted: at == 2,
        batchable: at == 3,
        ..Transfer::default()
    };
    let flags = [0, 1, 2, 3].map(|at| Performative::Transfer(flag(at)));
    let drain = Performative::Flow(Box::new(Flow {
        drain: true,
        ..Flow::default()
    }));
    let failed = Performative::Disposition(Disposition::settled(
        Role::Sender,
        0,
        DeliveryState::Outcome(Outcome::Modified(Modified {
            delivery_failed: true,
            ..Modified::default()
        })),
    ));
    let attaches = attaches().map(|attach| Performative::Attach(Box::new(attach)));
    let dispositions = states().into_iter().map(of_state);
    all.into_iter()
        .chain(flags)
        .chain([drain, failed])
        .chain(attaches)
        .chain(dispositions)
        .collect()
}

#[test]
fn every_performative_comes_back_from_its_frame() {
    let mut out = Vec::new();
    for (channel, sample) in samples().iter().enumerate() {
        sample.write_frame(channel as u16, &mut out);
    }
    let mut buffer = BytesMut::from(&out[..]);
    for (channel, sample) in samples().into_iter().enumerate() {
        let frame = frame::split(&mut buffer, 1 << 20).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.channel),
            (FrameKind::Amqp, channel as u16)
        );
        assert_eq!(
            Performative::decode(&frame.body),
            Ok((sample, Bytes::new()))
        );
    }
    assert!(buffer.is_empty());
}

/// Reading and writing could be wrong together, so what others were seen to read stands.
#[test]
fn what_is_written_is_what_others_read() {
    let written = include_str!("../../../tests/data/amqp_written.hex");
    let mut lines = written.lines().filter(|line| !line.starts_with('#'));
    for sample in samples() {
        let mut out = Vec::new();
        sample.write_frame(1, &mut out);
        assert_eq!(lines.next().map(bytes), Some(out.into()), "{sample:?}");
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn no_cut_performative_is_taken() {
    for sample in samples() {
        let whole = encoded(&sample);
        for cut in 0..whole.len() {
            assert!(
                Performative::decode(&whole.slice(..cut)).is_err(),
                "{sample:?} {cut}"
            );
        }
    }
}

#[test]
fn fields_that_are_left_out_are_those_that_are_null() {
    let open = Performative::Open(Box::new(Open {
        container_id: "a".into(),
        ..Open::default()
    }));
    assert_eq!(decoded("00 53 10 c0 04 01 a1 01 61"), Ok(open.clone()));
    assert_eq!(
        decoded("00 53 10 c0 06 03 a1 01 61 40 40"),
        Ok(open.clone())
    );
    assert_eq!(
        decoded("00 53 10 c0 0d 0a a1 01 61 40 40 40 40 40 40 40 40 40"),
        Ok(open)
    );
    assert_eq!(
        decoded("00 53 18 45"),
        Ok(Performative::Close(Close::default()))
    );
    assert_eq!(
        decoded("00 53 18 c0 02 01 40"),
        Ok(Performative::Close(Close::default()))
    );
    // Accepted has no fields.
    let accepted = DeliveryState::Outcome(Outcome::Accepted);
    let mut disposition = Disposition::settled(Role::Receiver, 1, accepted);
    disposition.settled = false;
    assert_eq!(
        decoded("00 53 15 c0 0a 05 41 52 01 40 40 00 53 24 45"),
        Ok(Performative::Disposition(disposition))
    );
}

#[test]
fn defaults_are_the_standards() {
    let begin = Begin {
        handle_max: 4_294_967_295,
        ..Begin::default()
    };
    assert_eq!(
        decoded("00 53 11 c0 05 04 40 43 43 43"),
        Ok(Performative::Begin(Box::new(begin)))
    );
    assert_eq!(
        decoded("00 53 13 c0 05 04 40 43 43 43"),
        Ok(Performative::Flow(Box::default()))
    );
    assert_eq!(
        decoded("00 53 14 c0 02 01 43"),
        Ok(Performative::Transfer(Transfer::default()))
    );
    assert_eq!(
        decoded("00 53 16 c0 02 01 43"),
        Ok(Performative::Detach(Detach::default()))
    );
    let disposition = Disposition {
        role: Role::Receiver,
        first: 0,
        last: None,
        settled: false,
        state: None,
        batchable: false,
    };
    assert_eq!(
        decoded("00 53 15 c0 03 02 41 43"),
        Ok(Performative::Disposition(disposition))
    );
    let attach = Attach {
        sender_settles: SenderSettleMode::Mixed,
        receiver_settles: ReceiverSettleMode::First,
        ..Attach::new("".into(), 0, Role::Sender)
    };
    assert_eq!(
        decoded("00 53 12 c0 05 03 a1 00 43 42"),
        Ok(Performative::Attach(Box::new(attach.clone())))
    );
    let empty = Attach {
        source: Some(Source {
            durable: Durability::None,
            expiry_policy: ExpiryPolicy::SessionEnd,
            timeout_seconds: 0,
            dynamic: false,
            ..Source::default()
        }),
        target: Some(Destination::Target(Target {
            durable: Durability::None,
            expiry_policy: ExpiryPolicy::SessionEnd,
            timeout_seconds: 0,
            dynamic: false,
            ..Target::default()
        })),
        ..attach
    };
    assert_eq!(
        decoded("00 53 12 c0 0f 07 a1 00 43 42 40 40 00 53 28 45 00 53 29 45"),
        Ok(Performative::Attach(Box::new(empty)))
    );
    let modified = Modified {
        delivery_failed: false,
        undeliverable_here: false,
        message_annotations: None,
    };
    let state: Option<DeliveryState> =
        Field::read(&mut Reader::new(&bytes("00 53 27 45"))).unwrap();
    assert_eq!(
        state,
        Some(DeliveryState::Outcome(Outcome::Modified(modified)))
    );
}

#[test]
fn every_field_is_written() {
    let open = Performative::Open(Box::default());
    let expect = "00 53 10 c0 12 0a a1 00 40 70 ffffffff 60 ffff 40 40 40 40 40 40";
    assert_eq!(encoded(&open), bytes(expect));
    // Three fields of an error, and the 0 of a delivery count.
    let close = Performative::Close(Close {
        error: Some(Error {
            condition: symbol("x"),
            description: None,
            info: None,
        }),
    });
    let expect = "00 53 18 c0 0c 01 00 53 1d c0 06 03 a3 01 78 40 40";
    assert_eq!(encoded(&close), bytes(expect));
    let flow = Performative::Flow(Box::new(Flow {
        handle: Some(0),
        delivery_count: Some(0),
        ..Flow::default()
    }));
    let expect = "00 53 13 c0 0c 0b 40 43 43 43 43 43 40 40 42 42 40";
    assert_eq!(encoded(&flow), bytes(expect));
}

#[test]
fn what_sdks_write_otherwise_is_taken() {
    // Integers of other widths and signs: handle, windows, channel, settle mode.
    let begin = decoded("00 53 11 c0 10 04 54 01 53 02 50 03 80 0000000000000004");
    let Ok(Performative::Begin(begin)) = begin else {
        panic!("{begin:?}");
    };
    assert_eq!(begin.remote_channel, Some(1));
    assert_eq!((begin.next_outgoing_id, begin.incoming_window), (2, 3));
    assert_eq!(begin.outgoing_window, 4);
    // A descriptor as a symbol, and as a ulong of full width.
    let close = Ok(Performative::Close(Close::default()));
    assert_eq!(decoded("00 a3 0f 616d71703a636c6f73653a6c697374 45"), close);
    assert_eq!(
        decoded("00 80 0000000000000018 d0 00000004 00000000"),
        close
    );
    // A string for a symbol, a symbol for a string, and one symbol for several.
    let error = decoded("00 53 18 c0 0d 01 00 53 1d c0 07 02 a1 01 78 a3 01 79");
    let expect = Close {
        error: Some(Error {
            condition: symbol("x"),
            description: Some("y".into()),
            info: None,
        }),
    };
    assert_eq!(error, Ok(Performative::Close(expect)));
    let open = decoded("00 53 10 c0 0e 09 a1 01 61 40 40 40 40 40 40 40 a3 01 62");
    let Ok(Performative::Open(open)) = open else {
        panic!("{open:?}");
    };
    assert_eq!(open.desired_capabilities, [symbol("b")]);
}

#[test]
fn words_and_numbers_of_a_terminus_are_those_of_the_standard() {
    let policies = [
        (ExpiryPolicy::LinkDetach, "link-detach"),
        (ExpiryPolicy::SessionEnd, "session-end"),
        (ExpiryPolicy::ConnectionClose, "connection-close"),
        (ExpiryPolicy::Never, "never"),
    ];
    for (expiry_policy, word) in policies {
        let source = Source {
            expiry_policy,
            ..Source::default()
        };
        let mut out = Vec::new();
        composite::write(&source, &mut out);
        let word = [&[0xa3, word.len() as u8], word.as_bytes()].concat();
        assert!(out.windows(word.len()).any(|window| window == word));
        let read: Option<Source> = Field::read(&mut Reader::new(&out.into())).unwrap();
        assert_eq!(read, Some(source));
    }
    let target = Target {
        durable: Durability::UnsettledState,
        ..Target::default()
    };
    let mut out = Vec::new();
    composite::write(&target, &mut out);
    assert_eq!(out[..8], bytes("00 53 29 c0 15 07 40 52")[..]);
    assert_eq!(out[8], 2);
}

#[test]
fn a_filter_is_echoed_as_it_came() {
    let [full, ..] = attaches();
    let filter = full.source.and_then(|source| source.filter).unwrap();
    let session = filter.get("com.microsoft:session-filter").unwrap();
    assert_eq!(session.undescribed(), &Value::Null);
    assert!(matches!(session, Value::Described(_)));
    assert_eq!(filter.get("plain"), Some(&Value::Null));
}

#[test]
fn unknown_descriptors_are_told_from_broken_ones() {
    let unknown = "a descriptor that is not known in this place";
    for (hex, expect) in [
        ("00 53 19 45", format!(" : {unknown}")),
        // Known, but no performative.
        ("00 53 24 45", format!(" : {unknown}")),
        ("00 80 0000468c00000004 45", format!(" : {unknown}")),
        ("00 a3 01 78 45", format!(" : {unknown}")),
        // A source that is a target, and a state that is an error.
        (
            "00 53 12 c0 0c 06 a1 01 61 43 41 40 40 00 53 29 45",
            format!("attach source: {unknown}"),
        ),
        (
            "00 53 15 c0 09 05 41 43 40 41 00 53 1d 45",
            format!("disposition state: {unknown}"),
        ),
        // A transaction within a transaction.
        (
            "00 53 15 c0 16 05 41 43 40 41 00 53 34 c0 0c 02 a0 01 01 00 53 34 c0 03 01 a0 00",
            format!("transactional-state outcome: {unknown}"),
        ),
    ] {
        assert_eq!(refused(hex), (condition::NOT_IMPLEMENTED, expect), "{hex}");
    }
    for (hex, expect) in [
        ("40", " : null in place of a performative"),
        ("45", " : a value without a descriptor"),
        (
            "00 40 45",
            " : a descriptor that is neither a number nor a symbol",
        ),
        (
            "00 54 ff 45",
            " : a descriptor that is neither a number nor a symbol",
        ),
        (
            "00 00 53 10 45 45",
            " : a value made of others where a single one belongs",
        ),
        ("00 53 10 c1 01 00", "open : fields that are not a list"),
    ] {
        assert_eq!(
            refused(hex),
            (condition::DECODE_ERROR, expect.to_owned()),
            "{hex}"
        );
    }
}

#[test]
fn fields_that_cannot_be_are_refused_by_name() {
    for (hex, condition, what) in [
        // More than there are.
        (
            "00 53 18 c0 03 02 40 40",
            condition::DECODE_ERROR,
            "close : more fields than the type has",
        ),
        (
            "00 53 15 c0 0c 05 41 43 40 40 00 53 24 c0 02 01 40",
            condition::DECODE_ERROR,
            "accepted : more fields than the type has",
        ),
        // Bytes that no field has.
        (
            "00 53 18 c0 03 01 40 40",
            condition::DECODE_ERROR,
            "close : the size is not that of the elements",
        ),
        (
            "00 53 18 45 40",
            condition::DECODE_ERROR,
            " : bytes behind a performative that carries none",
        ),
        // Fewer than there must be.
        (
            "00 53 10 45",
            condition::INVALID_FIELD,
            "open container-id: a field that must be there is not",
        ),
        (
            "00 53 14 c0 02 01 40",
            condition::INVALID_FIELD,
            "transfer handle: a field that must be there is not",
        ),
        (
            "00 53 18 c0 05 01 00 53 1d 45",
            condition::INVALID_FIELD,
            "error condition: a field that must be there is not",
        ),
        // Of another type.
        (
            "00 53 10 c0 02 01 41",
            condition::DECODE_ERROR,
            "open container-id: no string where one belongs",
        ),
        (
            "00 53 16 c0 03 02 43 43",
            condition::DECODE_ERROR,
            "detach closed: no boolean where one belongs",
        ),
        (
            "00 53 16 c0 02 01 41",
            condition::DECODE_ERROR,
            "detach handle: no integer where one belongs",
        ),
        (
            "00 53 16 c0 02 01 45",
            condition::DECODE_ERROR,
            "detach handle: a value made of others where a single one belongs",
        ),
        (
            "00 53 14 c0 06 03 43 43 a1 01 61",
            condition::DECODE_ERROR,
            "transfer delivery-tag: no binary where one belongs",
        ),
        (
            "00 53 18 c0 0b 01 00 53 1d c0 05 03 a3 00 40 43",
            condition::DECODE_ERROR,
            "error info: no map where one belongs",
        ),
        // Out of range.
        (
            "00 53 16 c0 0a 01 80 0000000100000000",
            condition::DECODE_ERROR,
            "detach handle: an integer too large for its field",
        ),
        (
            "00 53 16 c0 03 01 54 ff",
            condition::DECODE_ERROR,
            "detach handle: an integer too large for its field",
        ),
        (
            "00 53 12 c0 07 04 a1 00 43 41 50 03",
            condition::INVALID_FIELD,
            "attach snd-settle-mode: a value that the field has no meaning for",
        ),
        (
            "00 53 12 c0 08 05 a1 00 43 41 40 50 02",
            condition::INVALID_FIELD,
            "attach rcv-settle-mode: a value that the field has no meaning for",
        ),
        (
            "00 53 12 c0 12 06 a1 00 43 41 40 40 00 53 28 c0 06 03 40 43 a3 01 78",
            condition::INVALID_FIELD,
            "source expiry-policy: a value that the field has no meaning for",
        ),
    ] {
        assert_eq!(refused(hex), (condition, what.to_owned()), "{hex}");
    }
    let tag = format!("00 53 14 c0 26 03 43 43 a0 21 {}", "00".repeat(33));
    let what = "transfer delivery-tag: a tag of more than 32 bytes".to_owned();
    assert_eq!(refused(&tag), (condition::INVALID_FIELD, what));
}

#[test]
fn a_begin_of_nested_lists_is_refused() {
    // What brought another server down: 7,000 lists, each in the other, in the properties.
    let mut properties = vec![0x45];
    for _ in 0..7_000 {
        let size = (properties.len() as u32 + 4).to_be_bytes();
        properties = [&[0xd0][..], &size, &1_u32.to_be_bytes(), &properties].concat();
    }
    let map_size = (properties.len() as u32 + 5).to_be_bytes();
    let map = [
        &[0xd1][..],
        &map_size,
        &2_u32.to_be_bytes(),
        &[0x40],
        &properties,
    ]
    .concat();
    let fields = [&[0x40, 0x43, 0x43, 0x43, 0x40, 0x40, 0x40][..], &map].concat();
    let size = (fields.len() as u32 + 4).to_be_bytes();
    let begin = [
        &[0, 0x53, 0x11, 0xd0][..],
        &size,
        &8_u32.to_be_bytes(),
        &fields,
    ]
    .concat();
    let refused = Performative::decode(&begin.into()).unwrap_err();
    assert_eq!(refused.condition, condition::RESOURCE_LIMIT_EXCEEDED);
    assert_eq!((refused.composite, refused.field), ("begin", "properties"));
    let told = Error::from(refused);
    assert_eq!(told.condition.as_str(), condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn a_delivery_is_cut_to_the_frames_that_the_peer_takes() {
    let payload: Vec<u8> = (0..5_000_u32).map(|at| at as u8).collect();
    for frame_bytes_max in [frame::FRAME_BYTES_MIN, 1_000, 5_021, 5_022, 5_023, 100_000] {
        let mut transfer = Transfer {
            handle: 1,
            delivery_id: Some(1),
            delivery_tag: Some(Bytes::from_static(b"tag")),
            ..Transfer::default()
        };
        let (mut out, mut left) = (Vec::new(), &payload[..]);
        loop {
            let sent = transfer
                .write_frame(3, left.len(), false, frame_bytes_max, &mut out)
                .unwrap();
            let (now, later) = left.split_at(sent);
            out.extend_from_slice(now);
            left = later;
            if !transfer.more {
                break;
            }
        }
        let (mut buffer, mut whole) = (BytesMut::from(&out[..]), Vec::new());
        let mut count = 0;
        while let Some(frame) = frame::split(&mut buffer, frame_bytes_max).unwrap() {
            let Ok((Performative::Transfer(part), payload)) = Performative::decode(&frame.body)
            else {
                panic!("{frame:?}");
            };
            assert_eq!(part.more, !buffer.is_empty());
            assert!(part.more || buffer.is_empty());
            let range = frame.body.as_ptr_range();
            assert!(range.contains(&payload.as_ptr()));
            whole.extend_from_slice(&payload);
            count += 1;
        }
        assert_eq!(whole, payload);
        let head = out.len() - payload.len();
        assert_eq!(
            count,
            payload.len().div_ceil(frame_bytes_max - head / count)
        );
    }
    let mut none = Transfer::default();
    let mut out = b"before".to_vec();
    assert_eq!(none.write_frame(0, 1, false, 20, &mut out), None);
    assert_eq!(out, b"before");
    assert_eq!(none.write_frame(0, 0, false, 512, &mut out), Some(0));
}

#[test]
fn names_are_slices_of_the_frame() {
    let [full, ..] = attaches();
    let body = encoded(&Performative::Attach(Box::new(full)));
    let Ok((Performative::Attach(attach), _)) = Performative::decode(&body) else {
        panic!("an attach");
    };
    let range = body.as_ptr_range();
    let address = attach.source.and_then(|source| source.address);
    for text in [Some(attach.name), address].into_iter().flatten() {
        assert!(range.contains(&Text::as_bytes(&text).as_ptr()));
    }
}
