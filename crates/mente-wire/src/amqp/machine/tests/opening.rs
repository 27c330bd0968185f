//! From the first byte to the open, time-outs, and the end.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::peer::{Peer, limits};
use crate::amqp::frame::{self, FRAME_BYTES_MIN, Protocol};
use crate::amqp::machine::{By, Event, Options, Refused};
use crate::amqp::performative::{Close, Open};
use crate::amqp::sasl::{Init, Mechanisms, Response, SaslCode, SaslOutcome};
use crate::amqp::{Error, Performative, Sasl, Symbol, condition};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sasl(sasl: &Sasl) -> Vec<u8> {
    let mut out = Vec::new();
    sasl.write_frame(&mut out);
    out
}

fn init(mechanism: &'static str) -> Sasl {
    Sasl::Init(Init {
        mechanism: Symbol::from_static(mechanism),
        initial_response: Some(Bytes::from_static(b"who")),
        hostname: None,
    })
}

fn outcome(code: SaslCode) -> Vec<u8> {
    sasl(&Sasl::Outcome(SaslOutcome {
        code,
        additional_data: None,
    }))
}

fn written(peer: &mut Peer) -> Bytes {
    let now = peer.now;
    peer.machine.poll_output(now).unwrap_or_default()
}

fn condition_of(events: &[Event]) -> &str {
    match events {
        [
            Event::Closed {
                by: By::Machine,
                error: Some(error),
            },
        ] => error.condition.as_str(),
        _ => panic!("{events:?}"),
    }
}

#[test]
fn a_client_says_who_it_is_and_the_door_judges() {
    let mut peer = Peer::new(Options::default());
    assert_eq!(peer.say_bytes(&Protocol::Sasl.header()), []);
    let offered = Mechanisms {
        server_mechanisms: Options::default().mechanisms,
    };
    let greeting = [
        &Protocol::Sasl.header()[..],
        &sasl(&Sasl::Mechanisms(offered)),
    ]
    .concat();
    assert_eq!(written(&mut peer), greeting);
    // What comes behind waits for the door, in its buffer.
    let bytes = [&sasl(&init("PLAIN"))[..], &Protocol::Amqp.header()].concat();
    let asked = Event::Authenticate {
        mechanism: Symbol::from_static("PLAIN"),
        initial_response: Some(Bytes::from_static(b"who")),
        hostname: None,
    };
    assert_eq!(peer.say_bytes(&bytes), [asked]);
    assert!(!peer.machine.wants_bytes());
    assert_eq!(written(&mut peer), "");
    assert_eq!(
        peer.machine.sasl_challenge(Bytes::from_static(b"why")),
        Ok(())
    );
    assert_eq!(
        peer.machine.sasl_outcome(SaslCode::Ok),
        Err(Refused::OutOfPlace)
    );
    assert!(peer.machine.wants_bytes());
    assert!(!written(&mut peer).is_empty());
}

#[test]
fn a_response_is_judged_as_the_first_word_is() {
    let mut peer = Peer::new(Options::default());
    peer.say_bytes(&Protocol::Sasl.header());
    peer.say_bytes(&sasl(&init("EXTERNAL")));
    written(&mut peer);
    peer.machine
        .sasl_challenge(Bytes::from_static(b"why"))
        .unwrap();
    written(&mut peer);
    let response = Sasl::Response(Response {
        response: Bytes::from_static(b"so"),
    });
    let told = peer.say_bytes(&sasl(&response));
    assert_eq!(told, [Event::Response(Bytes::from_static(b"so"))]);
    peer.machine.sasl_outcome(SaslCode::Auth).unwrap();
    assert_eq!(written(&mut peer), outcome(SaslCode::Auth));
    assert!(peer.machine.is_finished());
    assert_eq!(peer.machine.sasl_outcome(SaslCode::Ok), Err(Refused::Gone));
}

#[test]
fn what_is_not_spoken_is_answered_with_what_is() {
    // A browser, plain AMQP where SASL is wanted, and TLS within AMQP.
    for greeting in [
        &b"GET / HTTP"[..],
        &Protocol::Amqp.header(),
        &Protocol::Tls.header(),
    ] {
        let mut peer = Peer::new(Options::default());
        condition_of(&peer.say_bytes(greeting));
        assert_eq!(written(&mut peer), &Protocol::Sasl.header()[..]);
        assert!(peer.machine.is_finished());
    }
    let mut peer = Peer::new(Options {
        without_sasl: true,
        ..Options::default()
    });
    assert_eq!(peer.say_bytes(&Protocol::Amqp.header()), []);
    assert_eq!(written(&mut peer), &Protocol::Amqp.header()[..]);
}

#[test]
fn a_mechanism_that_was_not_offered_is_no_one() {
    let mut peer = Peer::new(Options::default());
    peer.say_bytes(&Protocol::Sasl.header());
    written(&mut peer);
    let told = peer.say_bytes(&sasl(&init("GUESSING")));
    assert_eq!(condition_of(&told), condition::UNAUTHORIZED_ACCESS);
    assert_eq!(written(&mut peer), outcome(SaslCode::Auth));
    assert!(peer.machine.is_finished());
}

#[test]
fn frames_are_as_large_as_both_ends_take() {
    let open = Open {
        max_frame_size: 600,
        ..Open::default()
    };
    let mut peer = Peer::opened(limits(), open);
    // Ours is the bound of what comes.
    let told = peer.say_bytes(&1_025_u32.to_be_bytes());
    assert_eq!(condition_of(&told), condition::FRAMING_ERROR);
    let heard = peer.hear();
    let [(0, Performative::Close(Close { error: Some(error) }), _)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(error.condition.as_str(), condition::FRAMING_ERROR);
    assert!(!peer.machine.is_finished(), "the client is to read it");
    // Whatever comes now is passed over.
    assert_eq!(peer.say_bytes(&[0; 5_000]), []);
    assert_eq!(peer.hear(), []);
}

#[test]
fn opens_that_cannot_be_lived_with_are_closed() {
    let small = Open {
        max_frame_size: FRAME_BYTES_MIN as u32 - 1,
        ..Open::default()
    };
    let hasty = Open {
        idle_time_out_ms: Some(10),
        ..Open::default()
    };
    for (open, expect) in [
        (small, condition::INVALID_FIELD),
        (hasty, condition::NOT_ALLOWED),
    ] {
        let mut peer = Peer::new(Options::default());
        peer.authenticated();
        let told = peer.say(0, &Performative::Open(Box::new(open)));
        assert_eq!(condition_of(&told), expect);
        let heard = peer.hear();
        assert!(
            matches!(
                &heard[..],
                [
                    (0, Performative::Open(_), _),
                    (0, Performative::Close(_), _)
                ]
            ),
            "{heard:?}"
        );
    }
}

#[test]
fn the_clients_close_is_answered_and_the_doors_is_waited_for() {
    let mut peer = Peer::opened(limits(), Open::default());
    let told = peer.say(0, &Performative::Close(Close::default()));
    let closed = Event::Closed {
        by: By::Peer,
        error: None,
    };
    assert_eq!(told, [closed]);
    assert!(matches!(&peer.hear()[..], [(0, Performative::Close(_), _)]));
    assert!(peer.machine.is_finished());

    for is_answered in [true, false] {
        let (mut peer, session) = Peer::begun(limits());
        let error = Error::new(condition::CONNECTION_FORCED, "maintenance");
        peer.machine.close(Some(error.clone())).unwrap();
        assert_eq!(peer.machine.end(session, None), Err(Refused::Gone));
        assert_eq!(peer.machine.close(None), Err(Refused::Gone));
        let heard = peer.hear();
        let close = Performative::Close(Close { error: Some(error) });
        assert_eq!(heard, [(0, close, Bytes::new())]);
        if is_answered {
            assert_eq!(peer.say(0, &Performative::Close(Close::default())), []);
        } else {
            assert_eq!(peer.machine.deadline(), Some(seconds(5)));
            assert_eq!(peer.machine.tick(seconds(4)), None);
            assert!(!peer.machine.is_finished());
            assert_eq!(peer.machine.tick(seconds(5)), None);
        }
        assert!(peer.machine.is_finished());
        assert_eq!(peer.machine.deadline(), None);
    }
}

#[test]
fn who_is_silent_is_closed_after_twice_its_time() {
    let mut peer = Peer::opened(limits(), Open::default());
    assert_eq!(peer.machine.deadline(), Some(seconds(240)));
    // An empty frame is a sign; half of one is none.
    peer.now = seconds(100);
    let mut sign = Vec::new();
    frame::write_heartbeat(&mut sign);
    assert_eq!(peer.say_bytes(&sign), []);
    assert_eq!(peer.machine.deadline(), Some(seconds(340)));
    peer.now = seconds(200);
    assert_eq!(peer.say_bytes(&sign[..4]), []);
    assert_eq!(peer.machine.tick(seconds(339)), None);
    let told = peer.machine.tick(seconds(340)).unwrap();
    assert_eq!(condition_of(&[told]), condition::RESOURCE_LIMIT_EXCEEDED);
    assert!(matches!(&peer.hear()[..], [(0, Performative::Close(_), _)]));
    assert_eq!(peer.machine.deadline(), Some(seconds(345)));
}

#[test]
fn who_is_not_listened_to_is_not_silent() {
    let mut peer = Peer::opened(limits(), Open::default());
    peer.machine.listen(false, seconds(100));
    assert_eq!(peer.machine.deadline(), None);
    assert_eq!(peer.machine.tick(seconds(1_000)), None);
    peer.machine.listen(true, seconds(1_000));
    peer.machine.listen(true, seconds(1_100));
    assert_eq!(peer.machine.deadline(), Some(seconds(1_240)));
    assert!(peer.machine.tick(seconds(1_240)).is_some());
}

#[test]
fn a_client_that_waits_for_signs_gets_them() {
    let open = Open {
        idle_time_out_ms: Some(60_000),
        ..Open::default()
    };
    let mut peer = Peer::opened(limits(), open);
    let mut sign = Vec::new();
    frame::write_heartbeat(&mut sign);
    assert_eq!(peer.machine.deadline(), Some(seconds(30)));
    assert_eq!(peer.machine.tick(seconds(29)), None);
    assert_eq!(written(&mut peer), "");
    for at in [30, 60] {
        assert_eq!(peer.machine.tick(seconds(at)), None);
        assert_eq!(peer.machine.tick(seconds(at)), None);
        // Nor is it due again while nobody takes it.
        assert_eq!(peer.machine.deadline(), Some(seconds(at + 30)));
        peer.now = seconds(at);
        assert_eq!(written(&mut peer), &sign[..], "one and no more");
        assert_eq!(peer.machine.deadline(), Some(seconds(at + 30)));
    }
    // Anything else that is written is a sign too.
    peer.now = seconds(80);
    peer.begin(0, 1);
    assert_eq!(peer.machine.deadline(), Some(seconds(110)));
}

#[test]
fn a_time_of_0_is_none() {
    let open = Open {
        idle_time_out_ms: Some(0),
        ..Open::default()
    };
    let peer = Peer::opened(limits(), open);
    assert_eq!(peer.machine.deadline(), Some(seconds(240)), "of ours alone");
}

#[test]
fn opening_has_one_time_for_all_of_it() {
    let mut peer = Peer::new(Options::default());
    assert_eq!(peer.machine.deadline(), Some(seconds(20)));
    peer.now = seconds(19);
    peer.authenticated();
    assert_eq!(peer.machine.deadline(), Some(seconds(20)));
    let told = peer.machine.tick(seconds(20)).unwrap();
    assert_eq!(condition_of(&[told]), condition::RESOURCE_LIMIT_EXCEEDED);
    // The answer to no open is an open all the same: only behind one there is a close.
    let heard = peer.hear();
    assert!(matches!(
        &heard[..],
        [
            (0, Performative::Open(_), _),
            (0, Performative::Close(_), _)
        ]
    ));
}

#[test]
fn a_closing_peer_may_still_be_in_the_middle_of_something() {
    let mut peer = Peer::opened(limits(), Open::default());
    peer.machine.close(None).unwrap();
    let mut rest = BytesMut::new();
    for performative in [
        Performative::Begin(Box::default()),
        Performative::Close(Close::default()),
    ] {
        let mut out = Vec::new();
        performative.write_frame(3, &mut out);
        rest.extend_from_slice(&out);
    }
    assert_eq!(peer.say_bytes(&rest), []);
    assert!(peer.machine.is_finished());
    // Nonsense is nothing to tell of any more, and ends with the time that there is.
    for nonsense in [&b"\0\0\0\x0c\x02\0\0\0\0\x53\x99\x45"[..], b"\0\0\0\x02"] {
        let mut peer = Peer::opened(limits(), Open::default());
        peer.machine.close(None).unwrap();
        assert_eq!(peer.say_bytes(nonsense), []);
        assert_eq!(peer.say_bytes(&rest), []);
        assert!(!peer.machine.is_finished());
        assert_eq!(peer.machine.tick(seconds(5)), None);
        assert!(peer.machine.is_finished());
    }
    assert!(matches!(&peer.hear()[..], [(0, Performative::Close(_), _)]));
}
