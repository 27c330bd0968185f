//! Conversations with the SDKs of Service Bus: their side is what was captured, ours a machine
//! and a door that answers as the listener did.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::audit::Audit;
use super::door::Door;
use crate::amqp::frame::{self, FrameKind, PROTOCOL_HEADER_BYTES};
use crate::amqp::machine::{Connection, Options};
use crate::amqp::performative::Role;
use crate::amqp::{Destination, Performative};

/// Each capture, and the number of the first delivery that its listener sent to a receiver of
/// messages: it counted from 1, all sessions of a channel together and answers to tokens too.
const CAPTURES: [(&str, u32); 10] = [
    ("go", 5),
    ("java-next-session", 1),
    ("java-receiver", 1),
    ("java-sender", 1),
    ("java-session", 1),
    ("js", 1),
    ("python-next-session", 1),
    ("python-receiver", 1),
    ("python-sender", 1),
    ("python-session", 1),
];

/// What one client sent, with the deliveries numbered as a machine does, from 0 in each session.
fn captured(name: &str, first: u32) -> Vec<Bytes> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/amqp");
    let text = std::fs::read_to_string(path.join(format!("{name}.hex"))).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| renumbered(crate::amqp::testing::bytes(line), first))
        .collect()
}

fn renumbered(line: Bytes, first: u32) -> Bytes {
    let Some((channel, Performative::Disposition(mut disposition))) = performative(&line) else {
        return line;
    };
    assert_eq!(disposition.role, Role::Receiver);
    disposition.first -= first;
    disposition.last = disposition.last.map(|last| last - first);
    let mut out = Vec::new();
    Performative::Disposition(disposition).write_frame(channel, &mut out);
    out.into()
}

fn performative(line: &Bytes) -> Option<(u16, Performative)> {
    if line.starts_with(b"AMQP") {
        return None;
    }
    let frame = frame::split(&mut BytesMut::from(&line[..]), 1 << 20)
        .unwrap()
        .unwrap();
    let is_amqp = frame.kind == FrameKind::Amqp && !frame.body.is_empty();
    is_amqp.then(|| (frame.channel, Performative::decode(&frame.body).unwrap().0))
}

/// One conversation, whose client sends in these pieces: what the door was told, and all that
/// the client was.
fn converse(pieces: impl Iterator<Item = Bytes>) -> (Door, Vec<u8>, Connection) {
    let mut door = Door::default();
    let mut machine = Connection::new(Options::default(), Duration::ZERO);
    let (mut input, mut output) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(&piece);
        loop {
            let event = machine.receive(&mut input, Duration::ZERO);
            let is_all = event.is_none();
            if let Some(event) = event {
                door.answer(&mut machine, event);
            }
            // After each event, since what is settled alike goes together until it is taken.
            while let Some(bytes) = machine.poll_output(Duration::ZERO) {
                output.extend_from_slice(&bytes);
            }
            if is_all {
                break;
            }
        }
    }
    assert!(input.is_empty(), "all of it is read");
    (door, output, machine)
}

/// The lines that a door is to be told, by the frames alone.
fn expected(lines: &[Bytes]) -> Vec<String> {
    let mut expect = vec!["authenticate".to_owned()];
    // By channel and handle: the name, whether the client receives, whether it is a coordinator.
    let mut links: BTreeMap<(u16, u32), (String, bool, bool)> = BTreeMap::new();
    for (channel, said) in lines.iter().filter_map(performative) {
        match said {
            Performative::Open(open) => expect.push(format!("open {}", open.container_id)),
            Performative::Begin(_) => expect.push("begin".into()),
            Performative::Attach(attach) => {
                expect.push(format!("attach {}", attach.name));
                let is_coordinator = matches!(attach.target, Some(Destination::Coordinator(_)));
                let is_receiver = attach.role == Role::Receiver;
                let name = attach.name.as_str().to_owned();
                links.insert(
                    (channel, attach.handle),
                    (name, is_receiver, is_coordinator),
                );
            }
            Performative::Flow(flow) => {
                let (name, is_receiver, _) = &links[&(channel, flow.handle.unwrap())];
                if *is_receiver {
                    let count = flow.delivery_count.unwrap_or(0);
                    assert!(count < 2, "what was received is counted");
                    let credit = flow.link_credit.unwrap();
                    expect.push(format!("credit {name} {credit} {}", flow.drain));
                }
            }
            Performative::Transfer(transfer) => {
                let (name, _, is_coordinator) = &links[&(channel, transfer.handle)];
                match is_coordinator {
                    // The shorter one of them.
                    true => expect.push(format!("control {name}")),
                    false => expect.push(format!("delivery {name}")),
                }
            }
            Performative::Disposition(_) => expect.push("disposition of 1".into()),
            Performative::Detach(detach) => {
                let (name, ..) = links.remove(&(channel, detach.handle)).unwrap();
                expect.push(format!("detach {name}"));
            }
            Performative::End(_) => {
                links.retain(|(on, _), _| *on != channel);
                expect.push("end".into());
            }
            Performative::Close(_) => expect.push("close None".into()),
        }
    }
    expect
}

/// Without the sizes, which the frames do not tell so simply.
fn comparable(line: &str) -> String {
    let mut words = line.split(' ');
    match words.next() {
        Some("delivery") => format!("delivery {}", words.next().unwrap()),
        Some("declare" | "discharge") => format!("control {}", words.next().unwrap()),
        _ => line.to_owned(),
    }
}

#[test]
fn every_frame_of_an_sdk_is_the_event_that_it_means() {
    for (name, first) in CAPTURES {
        let lines = captured(name, first);
        let (door, ..) = converse(lines.iter().cloned());
        let told: Vec<_> = door.told.iter().map(|line| comparable(line)).collect();
        let mut expect = expected(&lines);
        // What is settled behind the detach of its link is nobody's.
        if name == "java-receiver" || name == "java-session" {
            let mut late = expect.iter().enumerate().rev();
            let late = late
                .find(|(_, line)| *line == "disposition of 1")
                .unwrap()
                .0;
            expect.remove(late);
        }
        // Of a link that was refused its client says what it had said before it knew, and its
        // detach is the answer.
        for refused in refused(name) {
            let at = expect
                .iter()
                .position(|line| line.starts_with(&format!("detach {refused}")));
            expect.remove(at.unwrap());
            expect.retain(|line| !line.starts_with(&format!("credit {refused}")));
        }
        assert_eq!(told, expect, "{name}");
    }
}

/// The links that the door refused and their clients detached.
fn refused(name: &str) -> Vec<&'static str> {
    match name {
        "python-next-session" => vec!["73e82b43-f5c1-40db-aee9-f084a93a5503"],
        "js" => vec![
            "q2-ee7e470c-cd0a-5544-ad2c-cb7050738ccf",
            "missing-0fd956e2-84fa-6546-bfe5-1f6f22f3edc2",
        ],
        _ => Vec::new(),
    }
}

#[test]
fn what_sdks_settle_is_what_they_were_sent() {
    let mut counts = Vec::new();
    for (name, first) in CAPTURES {
        let (door, _, machine) = converse(captured(name, first).into_iter());
        counts.push((name, door.sent, door.settled, machine.is_finished()));
    }
    assert_eq!(
        counts,
        [
            ("go", 7, 4, true),
            ("java-next-session", 0, 0, false),
            // Java settles the sixth behind the end of its link.
            ("java-receiver", 6, 5, true),
            ("java-sender", 0, 0, true),
            ("java-session", 1, 0, true),
            ("js", 7, 4, false),
            ("python-next-session", 0, 0, true),
            ("python-receiver", 6, 4, false),
            ("python-sender", 0, 0, false),
            ("python-session", 1, 0, false),
        ]
    );
}

#[test]
fn sdks_are_answered_within_their_windows_and_credit() {
    for (name, first) in CAPTURES {
        let mut audit = Audit::default();
        let mut door = Door::default();
        let mut machine = Connection::new(Options::default(), Duration::ZERO);
        let mut output = BytesMut::new();
        let mut heard = 0;
        for line in captured(name, first) {
            if let Some((channel, said)) = performative(&line) {
                audit.said(channel, &said);
            }
            let mut input = BytesMut::from(&line[..]);
            while let Some(event) = machine.receive(&mut input, Duration::ZERO) {
                door.answer(&mut machine, event);
            }
            while let Some(bytes) = machine.poll_output(Duration::ZERO) {
                output.extend_from_slice(&bytes);
            }
            heard += hear(&mut output, &mut audit);
        }
        assert!(heard >= door.told.len(), "{name}: {heard} frames");
    }
}

/// Frames of AMQP behind the headers and SASL.
fn hear(output: &mut BytesMut, audit: &mut Audit) -> usize {
    let mut heard = 0;
    while !output.is_empty() {
        if output.starts_with(b"AMQP") {
            let _ = output.split_to(PROTOCOL_HEADER_BYTES);
            continue;
        }
        let frame = frame::split(output, 1 << 20).unwrap().unwrap();
        heard += 1;
        if frame.kind == FrameKind::Amqp {
            let (said, payload) = Performative::decode(&frame.body).unwrap();
            audit.heard(frame.channel, &said, payload.len());
        }
    }
    heard
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn wherever_reads_end_the_conversation_is_the_same(
        capture in 0..CAPTURES.len(),
        cuts in proptest::collection::vec(1..200_usize, 1..40),
    ) {
        let (name, first) = CAPTURES[capture];
        let lines = captured(name, first);
        let (door, output, _) = converse(lines.iter().cloned());
        let mut whole = Bytes::from(lines.concat());
        let mut cuts = cuts.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let cut = (*cuts.next()?).min(whole.len());
            (cut > 0).then(|| whole.split_to(cut))
        });
        let (again, output_again, _) = converse(pieces);
        prop_assert_eq!(door.told, again.told);
        prop_assert!(output == output_again, "the client is told otherwise");
    }
}
