//! The decoders, and what each must give back.

use std::io::Write;

use bytes::Bytes;
use mente_broker::fuzz as broker;
use mente_client::fuzz as client;
use mente_engine::{Attribute, Batch, BatchBuilder, Data, Event, Offset, Record, Timestamp};
use mente_log::fuzz as log;
use mente_server::fuzz as server;
use mente_wire::{cloudevents, eventgrid};

use crate::Target;

mod amqp;
mod amqp_event;
mod amqp_machine;
mod rule;
mod servicebus;

/// What a tree of JSON values may take for each byte of its text; such texts are declarations,
/// and those are small ([`mente_engine::limits::DECLARATION_BYTES`]).
const TREE_FACTOR: usize = 120;

/// Of short elements, at most as many as a request may hold, each of which is a reference and then
/// a text.
const LIST_FACTOR: usize = 24;

/// What records take beside what a block of snappy, which has no mark of its own, unpacks to.
const PACKED_FACTOR: usize = 48;

/// What a decoder may allocate whatever the size of its input.
const FLOOR: usize = 64 << 10;

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "1e999",
    "-0",
    "0.5",
    "\\u0000",
    "\\ud800",
    "\\ud83d\\ude00",
    "{\"a\":",
    "[[[[[[[[",
    "\"\"",
    "18446744073709551616",
    "\"id\":",
    "\"data\":",
    "\"data_base64\":\"AA==\"",
    "\"datacontenttype\":\"text/plain\"",
    "\"specversion\":\"1.0\"",
];
const DECLARED: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "1e999",
    "-1",
    "18446744073709551615",
    "{\"not\":",
    "{\"all\":[",
    "{\"any\":[",
    "{\"exact\":{\"type\":\"a\"}}",
    "{\"merge\":\"data\"}",
    "{\"set\":{\"a.b\":",
    "\"$.data.a\"",
    "\"$$\"",
    "\"$.\"",
    "{\"append\":",
    "{\"add\":",
    "{\"remove\":",
    "\"store\":true",
    "\"topic\":\"t\"",
    "\"init\":[",
    "\"on\":{",
    "\"push\":{\"url\":",
];
const TEXT: &[&str] = &[
    ":",
    ",",
    "-",
    "+",
    "earliest",
    "latest",
    "ms",
    "2026-11-30T12:00:00Z",
    "+14:00",
    "18446744073709551615",
    "9223372036854775807",
    "-1",
    "0:",
    "%00",
    "%2e",
    "&",
    "=",
    "limit=",
    "from=",
    "follow=true",
    "wait_ms=",
    "http://",
    "https://",
    "[::1]",
    "127.0.0.1",
    "@",
    "/",
    "..",
    "\u{fffd}",
    "$",
];

pub const TARGETS: &[Target] = &[
    Target {
        name: "record-batch",
        seeds: batches,
        decode: batch,
        repair: |input| repair_batches(input),
        words: &[],
        factor: PACKED_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "packed-batch",
        seeds: packed_batches,
        decode: batch,
        repair: |input| repair_packed(input),
        words: &[],
        factor: PACKED_FACTOR,
        // A few bytes may say that a byte is there very often.
        floor: 3 * mente_engine::limits::UNPACKED_BYTES,
    },
    Target {
        name: "record-event",
        seeds: batches,
        decode: event_of_record,
        repair: |input| repair_batches(input),
        words: &["ce_id", "mente"],
        factor: PACKED_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "structured",
        seeds: structured_seeds,
        decode: structured,
        repair: nothing,
        words: JSON,
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "event-batch",
        seeds: event_batch_seeds,
        decode: event_batch,
        repair: nothing,
        words: JSON,
        factor: LIST_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "binary",
        seeds: binary_seeds,
        decode: binary,
        repair: nothing,
        words: &[
            "ce-id: ",
            "\n",
            "%",
            "%e4",
            "\"",
            "\\",
            "content-type: application/json",
        ],
        factor: LIST_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "lock-tokens",
        seeds: lock_tokens_seeds,
        decode: lock_tokens,
        repair: nothing,
        words: JSON,
        factor: LIST_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "amqp-value",
        seeds: amqp::value_seeds,
        decode: amqp::value,
        repair: amqp::repair_value,
        words: amqp::WORDS,
        // A value of one byte takes 40, and it is made twice.
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "amqp-frame",
        seeds: amqp::frame_seeds,
        decode: amqp::frames,
        repair: amqp::repair_frame,
        words: amqp::WORDS,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "amqp-message",
        seeds: amqp::message_seeds,
        decode: amqp::message,
        repair: amqp::repair_message,
        words: amqp::WORDS,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "amqp-event",
        seeds: amqp_event::seeds,
        decode: amqp_event::message,
        repair: amqp::repair_message,
        words: amqp_event::WORDS,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "amqp-rest",
        seeds: amqp_event::rest_seeds,
        decode: amqp_event::rest,
        repair: amqp_event::repair_rest,
        words: amqp_event::WORDS,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "amqp-machine",
        seeds: amqp_machine::seeds,
        decode: amqp_machine::conversation,
        repair: amqp_machine::repair,
        words: amqp::WORDS,
        factor: TREE_FACTOR,
        // What a session and its links take before anything is said on them, and what is written.
        floor: 4 * FLOOR,
    },
    Target {
        name: "atom",
        seeds: servicebus::entry_seeds,
        decode: servicebus::entry,
        repair: nothing,
        words: servicebus::XML,
        // An element takes 100 bytes and four at least of its document.
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "emulator-config",
        seeds: servicebus::config_seeds,
        decode: servicebus::config,
        repair: nothing,
        words: servicebus::CONFIG,
        // Each value knows its path.
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "shared-access",
        seeds: servicebus::signature_seeds,
        decode: servicebus::signature,
        repair: nothing,
        words: servicebus::FIELDS,
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "rule",
        seeds: rule::seeds,
        decode: rule::rule,
        repair: nothing,
        words: rule::WORDS,
        factor: TREE_FACTOR,
        // What an action sets, beside what it replaces.
        floor: 4 * FLOOR,
    },
    Target {
        name: "commit",
        seeds: log::commit_seeds,
        decode: log::commit,
        repair: |input| log::repair_commit(input),
        words: &[],
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "file-header",
        seeds: log::file_header_seeds,
        decode: log::file_header,
        repair: log::repair_header,
        words: &[],
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "pack",
        seeds: log::pack_seeds,
        decode: log::pack,
        repair: log::repair_pack,
        words: &[],
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "catalogue",
        seeds: log::catalogue_seeds,
        decode: log::catalogue,
        repair: nothing,
        words: &["default/a"],
        // A head of a log is four varints, of a byte each as a rule.
        factor: LIST_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "journal",
        seeds: broker::journal_seeds,
        decode: broker::journal,
        repair: nothing,
        words: DECLARED,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "block",
        seeds: broker::block_seeds,
        decode: broker::block,
        repair: nothing,
        words: &[],
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "settings",
        seeds: broker::settings_seeds,
        decode: broker::settings,
        repair: nothing,
        words: DECLARED,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "fold",
        seeds: broker::fold_seeds,
        decode: broker::fold,
        repair: nothing,
        words: DECLARED,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "names",
        seeds: words_seeds,
        decode: broker::names,
        repair: nothing,
        words: TEXT,
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "lock-token",
        seeds: lock_token_seeds,
        decode: broker::lock_token,
        repair: nothing,
        words: TEXT,
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "position",
        seeds: words_seeds,
        decode: server::position,
        repair: nothing,
        words: TEXT,
        factor: LIST_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "query",
        seeds: words_seeds,
        decode: server::query,
        repair: nothing,
        words: TEXT,
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "webhook-url",
        seeds: words_seeds,
        decode: server::webhook_url,
        repair: nothing,
        words: TEXT,
        factor: 8,
        floor: FLOOR,
    },
    Target {
        name: "saga",
        seeds: server::saga_seeds,
        decode: server::saga,
        repair: nothing,
        words: DECLARED,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "projection",
        seeds: server::projection_seeds,
        decode: server::projection,
        repair: nothing,
        words: DECLARED,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
    Target {
        name: "replica-source",
        seeds: client::source_seeds,
        decode: client::source,
        repair: nothing,
        words: JSON,
        factor: TREE_FACTOR,
        floor: FLOOR,
    },
];

fn nothing(_: &mut Vec<u8>) {}

fn event() -> Event {
    Event {
        id: "1".into(),
        source: "/shop".into(),
        kind: "Order\u{e9}".into(),
        subject: Some("o-1".into()),
        time: Some("2026-11-30T12:00:00Z".into()),
        datacontenttype: Some("application/json".into()),
        extensions: vec![
            ("a".into(), Attribute::Text("7\"%\\".into())),
            ("b".into(), Attribute::Integer(-7)),
            ("c".into(), Attribute::Boolean(true)),
        ],
        data: Data::Json(Bytes::from_static(b"{ \"a\" : [1.0, null] }")),
        ..Event::default()
    }
}

fn events() -> Vec<Event> {
    let text = Event {
        datacontenttype: Some("text/plain".into()),
        data: Data::Text(Bytes::from_static("\u{e4}\n".as_bytes())),
        ..event()
    };
    let binary = Event {
        datacontenttype: None,
        data: Data::Binary(Bytes::from_static(b"\0\xff")),
        key: Some(Bytes::from_static(b"k")),
        ..event()
    };
    let with_rest = Event {
        rest: Some(Bytes::from_static(b"\x01\x00")),
        ..event()
    };
    vec![
        event(),
        text,
        binary,
        with_rest,
        Event {
            data: Data::None,
            ..event()
        },
    ]
}

/// Of every codec that Kafka's producers have.
fn packed_batches() -> Vec<Vec<u8>> {
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).and_then(|()| out.finish())
    };
    let lz4 = |bytes: &[u8]| {
        let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
        out.write_all(bytes)?;
        out.finish().map_err(std::io::Error::other)
    };
    let snappy = |bytes: &[u8]| Ok(snap::raw::Encoder::new().compress_vec(bytes)?);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = |bytes: &[u8]| Ok(ruzstd::encoding::compress_to_vec(bytes, level));
    let xerial = |bytes: &[u8]| {
        let block = snappy(bytes)?;
        let length = (block.len() as u32).to_be_bytes();
        Ok([b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &length[..], &block].concat())
    };
    type Pack<'a> = &'a dyn Fn(&[u8]) -> std::io::Result<Vec<u8>>;
    let codecs: [(u8, Pack<'_>); 5] = [
        (1, &gzip),
        (2, &snappy),
        (2, &xerial),
        (3, &lz4),
        (4, &zstd),
    ];
    let plain = batches().into_iter().next().expect("there is one");
    let (head, records) = plain.split_at(mente_engine::batch::HEADER_BYTES);
    let packed = codecs.into_iter().map(|(codec, pack)| {
        let mut batch = [head, &pack(records).expect("a vector takes it")].concat();
        batch[22] |= codec;
        repair_packed(&mut batch);
        batch
    });
    packed.collect()
}

fn batches() -> Vec<Vec<u8>> {
    let records: Vec<Record> = events()
        .iter()
        .zip([5, -3, i64::MAX, 0])
        .map(|(event, at)| event.to_record(Timestamp(at)))
        .collect();
    let whole = BatchBuilder::from_iter(&records).finish().at(Offset(7));
    let one = BatchBuilder::from_iter(&records[..1]).finish();
    let term = Batch::of_term(mente_engine::Term(3), Timestamp(1));
    let both = [whole.as_bytes().as_ref(), one.as_bytes()].concat();
    vec![
        whole.as_bytes().to_vec(),
        one.as_bytes().to_vec(),
        term.as_bytes().to_vec(),
        both,
    ]
}

/// Length and checksum of the first batch, over all that is there.
fn repair_batches(input: &mut [u8]) {
    if let Some(codec) = input.get_mut(22) {
        // Most inputs go deeper without one.
        *codec &= 0xf8;
    }
    repair_packed(input);
}

fn repair_packed(input: &mut [u8]) {
    if input.len() < mente_engine::batch::HEADER_BYTES {
        return;
    }
    let length = (input.len() - 12) as u32;
    input[8..12].copy_from_slice(&length.to_be_bytes());
    input[16] = 2;
    // A negative offset or count is refused at once; most inputs go deeper.
    input[0] &= 0x7f;
    let crc = crc32c::crc32c(&input[21..]);
    input[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn batch(input: &[u8]) {
    let mut rest = Bytes::copy_from_slice(input);
    while let Ok(batch) = Batch::split(&mut rest) {
        let _ = (
            batch.last_offset(),
            batch.offset_span(),
            batch.max_timestamp(),
            batch.is_control(),
            batch.term(),
        );
        let _ = format!("{batch:?}");
        let again = Batch::parse(batch.at(batch.base_offset()).as_bytes().clone());
        assert_eq!(
            again.map(|again| again.base_offset()),
            Ok(batch.base_offset())
        );
        let mut builder = BatchBuilder::default();
        let mut count = 0;
        for found in batch.records() {
            let Ok((_, record)) = found else { return };
            builder.push(&record);
            count += 1;
        }
        if count == 0 {
            continue;
        }
        let encoded = builder.finish();
        let mut same = batch.records().map(|found| found.map(|(_, record)| record));
        for found in encoded.records() {
            assert_eq!(
                same.next(),
                Some(found.map(|(_, record)| record)),
                "a record changes"
            );
        }
    }
}

fn event_of_record(input: &[u8]) {
    let Ok(batch) = Batch::split(&mut Bytes::copy_from_slice(input)) else {
        return;
    };
    for (offset, record) in batch.records().flatten() {
        let event = Event::from_record(&record, "/t", 0, offset);
        let _ = (event.validate(), event.size_bytes());
        // An event that we would have taken is kept as it is.
        if event.validate().is_ok()
            && event
                .extensions
                .iter()
                .all(|(name, _)| name != "specversion")
        {
            let record = event.to_record(record.timestamp);
            let again = Event::from_record(&record, "/t", 0, offset);
            assert_eq!(again, event, "an event changes in its record");
        }
        let mut out = Vec::new();
        cloudevents::write_event(&event, &mut out);
        let _ = cloudevents::to_binary(&event);
    }
}

fn structured_seeds() -> Vec<Vec<u8>> {
    let one = |event: &Event| {
        let mut out = Vec::new();
        cloudevents::write_event(event, &mut out);
        out
    };
    events().iter().map(one).collect()
}

fn event_batch_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    cloudevents::write_batch(&events(), &mut out);
    vec![out, b"[]".to_vec(), b" [ ] ".to_vec()]
}

fn structured(input: &[u8]) {
    if let Ok(event) = cloudevents::parse_event(&Bytes::copy_from_slice(input)) {
        let mut out = Vec::new();
        cloudevents::write_event(&event, &mut out);
        let again = cloudevents::parse_event(&out.into());
        assert_eq!(again, Ok(event), "an event changes");
    }
}

fn event_batch(input: &[u8]) {
    if let Ok(events) = cloudevents::parse_batch(&Bytes::copy_from_slice(input)) {
        let mut out = Vec::new();
        cloudevents::write_batch(&events, &mut out);
        let again = cloudevents::parse_batch(&out.into());
        assert_eq!(again, Ok(events), "a batch changes");
    }
}

/// Lines `name: value`, an empty one, and the body.
fn binary_seeds() -> Vec<Vec<u8>> {
    let seed = |event: &Event| {
        let message = cloudevents::to_binary(event);
        let mut out = Vec::new();
        for (name, value) in message.headers.into_iter().chain(
            message
                .content_type
                .map(|value| ("content-type".into(), value)),
        ) {
            out.extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
        out.push(b'\n');
        out.extend_from_slice(&message.body);
        out
    };
    events().iter().map(seed).collect()
}

fn binary(input: &[u8]) {
    let mut rest = input;
    let mut headers = Vec::new();
    let mut declared = None;
    // As many as the HTTP door lets through.
    while headers.len() < 100
        && let Some(end) = rest.iter().position(|byte| *byte == b'\n')
    {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            break;
        }
        let colon = line
            .windows(2)
            .position(|two| two == b": ")
            .unwrap_or(line.len());
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        let value = line.get(colon + 2..).unwrap_or_default();
        if name == "content-type" {
            declared = std::str::from_utf8(value).ok();
        } else {
            headers.push((name, value));
        }
    }
    let headers = headers.iter().map(|(name, value)| (name.as_str(), *value));
    let body = Bytes::copy_from_slice(rest);
    if let Ok(event) = cloudevents::from_binary(declared, headers, body) {
        let through = |event: &Event| {
            let message = cloudevents::to_binary(event);
            let headers = message
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()));
            cloudevents::from_binary(
                message.content_type.as_deref(),
                headers,
                message.body.clone(),
            )
        };
        // What this mode cannot say is lost at the first time, and nothing at the second.
        let first = through(&event).expect("what was read is written so that it can be read");
        assert_eq!(first.id, event.id);
        assert_eq!(first.extensions, event.extensions);
        assert_eq!(through(&first), Ok(first.clone()), "an event changes");
    }
}

/// Beside a real token one of far more numbers than a token has.
fn lock_token_seeds() -> Vec<Vec<u8>> {
    vec![
        b"1-4-2".to_vec(),
        b"1-4-2-0-3".to_vec(),
        b"1-".repeat(20_000),
    ]
}

fn lock_tokens_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"lockTokens":["3-1f","\u00e4"]}"#.to_vec(),
        br#" {"other":{"a":[1]}, "lockTokens":[]} "#.to_vec(),
    ]
}

fn lock_tokens(input: &[u8]) {
    if let Ok(tokens) = eventgrid::parse_lock_tokens(input) {
        let mut out = Vec::new();
        eventgrid::write_settled(tokens.iter().map(String::as_str), [], &mut out);
        let answer = String::from_utf8(out).expect("JSON");
        let list = answer.replacen("succeededLockTokens", "lockTokens", 1);
        assert_eq!(eventgrid::parse_lock_tokens(list.as_bytes()), Ok(tokens));
    }
}

fn words_seeds() -> Vec<Vec<u8>> {
    [
        "earliest",
        "17",
        "2026-11-30T12:00:00.5+01:00",
        "1764504000000ms",
        "0:17,1:4",
        "2:7,0:2,1:-1",
        "3-1f",
        "from=17&partition=3&limit=5&follow=true&wait_ms=100",
        "expected=any",
        "orders",
        "order-17",
        "default/orders",
        "http://user@host:80/path?x=1",
        "http://[::1]:8080/hook",
        "https://a/",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
