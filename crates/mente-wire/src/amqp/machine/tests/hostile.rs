//! Clients that mean harm: each is told what it did, and holds no more than the bounds.

use bytes::Bytes;
use proptest::prelude::*;

use super::peer::{Peer, attach, credit, limits, transfer};
use crate::amqp::machine::{By, Event, Limits, Options, Outgoing, SessionId};
use crate::amqp::performative::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Role, Transfer,
};
use crate::amqp::{Error, Performative, condition};

fn begin() -> Performative {
    Performative::Begin(Box::new(Begin {
        incoming_window: 10,
        outgoing_window: 10,
        ..Begin::default()
    }))
}

fn asks(handle: u32, role: Role) -> Performative {
    Performative::Attach(Box::new(attach(handle, role)))
}

fn condition_of(error: Option<&Error>) -> &str {
    error.map_or("", |error| error.condition.as_str())
}

fn closed(told: &[Event]) -> &str {
    match told {
        [
            Event::Closed {
                by: By::Machine,
                error,
            },
        ] => condition_of(error.as_ref()),
        _ => panic!("{told:?}"),
    }
}

fn ended(told: &[Event], ended: SessionId) -> &str {
    match told {
        [
            Event::Ended {
                session,
                by: By::Machine,
                error,
            },
        ] if *session == ended => condition_of(error.as_ref()),
        _ => panic!("{told:?}"),
    }
}

/// The client is told the same, by the last frame.
fn told_so(peer: &mut Peer) -> String {
    let heard = peer.hear();
    let error = match heard.last() {
        Some((0, Performative::Close(Close { error }), _)) => error,
        Some((_, Performative::End(End { error }), _)) => error,
        Some((_, Performative::Detach(Detach { error, .. }), _)) => error,
        other => panic!("{other:?}"),
    };
    condition_of(error.as_ref()).into()
}

#[test]
fn nothing_comes_before_the_open() {
    for first in [
        begin(),
        asks(0, Role::Sender),
        credit(0, 1, false),
        Performative::Transfer(transfer(0, 0)),
        Performative::Close(Close::default()),
        Performative::End(End::default()),
    ] {
        let mut peer = Peer::new(Options::default());
        peer.authenticated();
        assert_eq!(closed(&peer.say(0, &first)), condition::NOT_ALLOWED);
        assert_eq!(told_so(&mut peer), condition::NOT_ALLOWED);
    }
}

#[test]
fn channels_are_begun_once_and_within_bounds() {
    let answering = Performative::Begin(Box::new(Begin {
        remote_channel: Some(0),
        ..Begin::default()
    }));
    let again = Performative::Open(Box::default());
    for (channel, said, expect) in [
        (0, begin(), condition::NOT_ALLOWED),
        (4, begin(), condition::FRAMING_ERROR),
        (1, answering, condition::NOT_ALLOWED),
        (1, asks(0, Role::Sender), condition::NOT_ALLOWED),
        (
            1,
            Performative::Transfer(transfer(0, 0)),
            condition::NOT_ALLOWED,
        ),
        (0, again, condition::NOT_ALLOWED),
    ] {
        let (mut peer, _) = Peer::begun(limits());
        assert_eq!(closed(&peer.say(channel, &said)), expect, "{said:?}");
        assert_eq!(told_so(&mut peer), expect);
    }
}

#[test]
fn handles_are_attached_once_and_within_bounds() {
    let long = Performative::Attach(Box::new(Attach {
        name: "n".repeat(900).into(),
        ..attach(1, Role::Sender)
    }));
    let limits = Limits {
        link_name_bytes: 899,
        ..limits()
    };
    let out_of_order = Performative::Disposition(Disposition {
        role: Role::Receiver,
        first: 5,
        last: Some(4),
        settled: true,
        state: None,
        batchable: false,
    });
    for (said, expect) in [
        (asks(0, Role::Sender), condition::HANDLE_IN_USE),
        (
            Performative::Transfer(transfer(5, 0)),
            condition::UNATTACHED_HANDLE,
        ),
        (credit(5, 1, false), condition::UNATTACHED_HANDLE),
        (long, condition::INVALID_FIELD),
        (out_of_order, condition::INVALID_FIELD),
    ] {
        let (mut peer, session) = Peer::begun(limits);
        peer.attach(0, 0, Role::Receiver);
        assert_eq!(ended(&peer.say(0, &said), session), expect, "{said:?}");
        assert_eq!(told_so(&mut peer), expect);
        // The connection lives on, and another session with it.
        peer.begin(1, 10);
    }
    let (mut peer, _) = Peer::begun(limits);
    assert_eq!(
        closed(&peer.say(0, &asks(8, Role::Sender))),
        condition::FRAMING_ERROR
    );
}

#[test]
fn a_receiver_does_not_send_and_nobody_before_the_answer() {
    let (mut peer, _) = Peer::begun(limits());
    peer.attach(0, 0, Role::Receiver);
    peer.transfer(0, &transfer(0, 0), b"a");
    assert_eq!(told_so(&mut peer), condition::NOT_ALLOWED);
    peer.ask(0, attach(1, Role::Sender));
    peer.transfer(0, &transfer(1, 0), b"a");
    assert_eq!(told_so(&mut peer), condition::TRANSFER_LIMIT_EXCEEDED);
}

#[test]
fn transfers_without_credit_end_where_too_many_are_not_settled() {
    let limits = Limits {
        incoming_window: 1_000,
        ..limits()
    };
    let (mut peer, _) = Peer::begun(limits);
    let link = peer.attach(0, 0, Role::Sender);
    assert_eq!(peer.machine.credit(link), Ok(0));
    for id in 0..10 {
        let told = peer.transfer(0, &transfer(0, id), b"a");
        assert!(
            matches!(&told[..], [Event::Delivery(_)]),
            "Python does: {told:?}"
        );
    }
    peer.transfer(0, &transfer(0, 10), b"a");
    assert_eq!(told_so(&mut peer), condition::TRANSFER_LIMIT_EXCEEDED);
}

#[test]
fn a_window_may_be_overrun_once_and_not_for_ever() {
    let limits = Limits {
        unsettled_per_link: 1_000,
        unsettled: 1_000,
        ..limits()
    };
    let (mut peer, session) = Peer::begun(limits);
    peer.attach(0, 0, Role::Sender);
    for id in 0..20 {
        let told = peer.transfer(0, &transfer(0, id), b"a");
        assert!(matches!(&told[..], [Event::Delivery(_)]), "{told:?}");
    }
    let told = peer.transfer(0, &transfer(0, 20), b"a");
    assert_eq!(ended(&told, session), condition::WINDOW_VIOLATION);
}

#[test]
fn an_id_is_not_used_again_before_it_is_settled() {
    let (mut peer, session) = Peer::begun(limits());
    peer.attach(0, 0, Role::Sender);
    peer.attach(0, 1, Role::Sender);
    peer.transfer(0, &transfer(0, 0), b"a");
    let told = peer.transfer(0, &transfer(1, 0), b"a");
    assert_eq!(ended(&told, session), condition::INVALID_FIELD);
}

#[test]
fn parts_of_nothing_come_to_an_end() {
    let limits = Limits {
        incoming_window: 1_000_000,
        partial_bytes: 1_000_000,
        ..limits()
    };
    let (mut peer, _) = Peer::begun(limits);
    peer.attach(0, 0, Role::Sender);
    let part = Transfer {
        more: true,
        ..transfer(0, 0)
    };
    let ends = (0..100_000).find_map(|at| {
        let told = peer.transfer(0, &part, b"");
        (!told.is_empty()).then_some((at, told))
    });
    let (at, _) = ends.unwrap();
    assert!(at < 1_200, "{at}");
    assert_eq!(told_so(&mut peer), condition::MESSAGE_SIZE_EXCEEDED);
}

#[test]
fn a_hundred_thousand_attaches_are_no_more_links_than_there_may_be() {
    let limits = Limits {
        links_per_session: 1_000_000,
        links: 100,
        ..limits()
    };
    let (mut peer, session) = Peer::begun(limits);
    let mut asked = 0;
    for handle in 0..100_000 {
        for event in peer.say(0, &asks(handle, Role::Sender)) {
            match event {
                Event::Attach { link, .. } => {
                    asked += 1;
                    // Refused ones are links until their client detaches them.
                    let error = Error::new(condition::NOT_FOUND, "no");
                    peer.machine.refuse(link, error).unwrap();
                }
                other => {
                    let expect = condition::RESOURCE_LIMIT_EXCEEDED;
                    assert_eq!(ended(&[other], session), expect);
                    assert_eq!(peer.machine.wire.link_count, 0);
                }
            }
        }
        peer.hear();
    }
    assert_eq!(asked, 100);
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let (mut peer, _) = Peer::begun(limits());
    let mut echo = Vec::new();
    let flow = Flow {
        incoming_window: 10,
        echo: true,
        ..Flow::default()
    };
    Performative::Flow(Box::new(flow)).write_frame(0, &mut echo);
    assert_eq!(peer.say_bytes(&echo.repeat(1_000)), []);
    assert!(!peer.machine.wants_bytes());
    assert!(peer.machine.wire.written_bytes() < 8_100);
    let first = peer.hear().len();
    assert!((100..400).contains(&first), "{first}");
    // It goes on where it stood.
    let mut heard = first;
    while heard < 1_000 {
        assert_eq!(peer.go_on(), []);
        heard += peer.hear().len();
    }
    assert_eq!(heard, 1_000);
}

#[test]
fn an_answer_that_the_client_cannot_take_closes() {
    let open = Open {
        max_frame_size: 512,
        ..Open::default()
    };
    let mut peer = Peer::opened(limits(), open);
    peer.begin(0, 10);
    let long = Attach {
        name: "n".repeat(600).into(),
        ..attach(0, Role::Sender)
    };
    let link = peer.ask(0, long.clone());
    peer.machine.accept(link, long).unwrap();
    assert_eq!(closed(&peer.go_on()), condition::FRAME_SIZE_TOO_SMALL);
    assert_eq!(told_so(&mut peer), condition::FRAME_SIZE_TOO_SMALL);
    // Words of the door that are too long are left out.
    let open = Open {
        max_frame_size: 512,
        ..Open::default()
    };
    let mut peer = Peer::opened(limits(), open);
    let error = Error::new(condition::INTERNAL_ERROR, "w".repeat(600));
    peer.machine.close(Some(error)).unwrap();
    assert_eq!(told_so(&mut peer), condition::INTERNAL_ERROR);
}

#[test]
fn what_cannot_be_read_closes() {
    let (mut peer, _) = Peer::begun(limits());
    // A transfer without fields; an attach with an unknown role; a performative of nobody.
    for (frame, expect) in [
        (
            &b"\0\0\0\x0c\x02\0\0\0\0\x53\x14\x45"[..],
            condition::INVALID_FIELD,
        ),
        (
            b"\0\0\0\x0c\x02\x01\0\0\0\x53\x41\x45",
            condition::FRAMING_ERROR,
        ),
        (
            b"\0\0\0\x0c\x02\0\0\0\0\x53\x99\x45",
            condition::NOT_IMPLEMENTED,
        ),
        (b"\0\0\0\x02", condition::FRAMING_ERROR),
    ] {
        assert_eq!(closed(&peer.say_bytes(frame)), expect, "{frame:?}");
        assert_eq!(told_so(&mut peer), expect);
        peer = Peer::begun(limits()).0;
    }
}

/// Frames that are sound each, in any order.
fn anything() -> impl Strategy<Value = (u16, Performative)> {
    let role = prop_oneof![Just(Role::Sender), Just(Role::Receiver)];
    let number = prop_oneof![0..4_u32, Just(u32::MAX), Just(1 << 31)];
    let flow = (
        number.clone(),
        number.clone(),
        any::<(bool, bool, bool)>(),
        0..3_u32,
    );
    let flow = flow.prop_map(|(one, other, (drain, echo, is_session), handle)| {
        Performative::Flow(Box::new(Flow {
            next_incoming_id: Some(one),
            incoming_window: other,
            handle: (!is_session).then_some(handle),
            delivery_count: Some(one),
            link_credit: Some(other),
            drain,
            echo,
            ..Flow::default()
        }))
    });
    let sent = (0..3_u32, number.clone(), any::<(bool, bool, bool)>());
    let sent = sent.prop_map(|(handle, id, (more, settled, aborted))| {
        Performative::Transfer(Transfer {
            more,
            settled: Some(settled),
            aborted,
            ..transfer(handle, id)
        })
    });
    let disposition = (role.clone(), number.clone(), number, any::<bool>());
    let disposition = disposition.prop_map(|(role, first, last, settled)| {
        Performative::Disposition(Disposition {
            role,
            first,
            last: Some(last),
            settled,
            state: None,
            batchable: false,
        })
    });
    let detach = (0..3_u32).prop_map(|handle| {
        Performative::Detach(Detach {
            handle,
            ..Detach::default()
        })
    });
    let frame = prop_oneof![
        2 => (0..3_u32, role).prop_map(|(handle, role)| asks(handle, role)),
        8 => flow,
        8 => sent,
        8 => disposition,
        1 => detach,
        1 => Just(Performative::End(End::default())),
    ];
    (0..3_u16, frame)
}

/// A session with links in both directions, again when it was ended.
fn set_up(peer: &mut Peer, channel: u16) {
    peer.hear();
    peer.begin(channel, 10);
    for (handle, role) in [(0, Role::Sender), (1, Role::Receiver)] {
        if peer.machine.wire.link_count < 16 {
            peer.attach(channel, handle, role);
        }
    }
}

/// What a door might do at any time.
fn meddle(peer: &mut Peer, event: &Event, choice: u8) {
    let machine = &mut peer.machine;
    let _ = match event {
        Event::Attach { link, .. } if choice == 0 => {
            machine.refuse(*link, Error::new(condition::NOT_FOUND, "no"))
        }
        Event::Attach { link, attach } => machine
            .accept(*link, (**attach).clone())
            .and_then(|()| machine.grant(*link, choice.into())),
        Event::Credit { link, drain, .. } => {
            let outgoing = Outgoing {
                settled: choice == 2,
                payload: Bytes::from(vec![0; usize::from(choice) * 700]),
                ..Outgoing::default()
            };
            while machine.send(*link, outgoing.clone()).is_ok() {}
            match drain {
                true => machine.drained(*link),
                false => Ok(()),
            }
        }
        Event::Delivery(delivery) if choice > 0 => machine.settle(delivery.link, delivery.id, None),
        Event::Disposition(disposed) => {
            let mut of = disposed.deliveries.iter();
            of.try_for_each(|(link, id)| machine.settle(*link, *id, None))
        }
        _ => Ok(()),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Nothing panics, nothing goes over its bound, the audit holds, and what is counted comes
    /// back to nothing.
    #[test]
    fn sound_frames_in_any_order_are_borne(
        said in proptest::collection::vec((anything(), 0..4_u8), 1..120),
    ) {
        let mut peer = Peer::unaudited(limits());
        (0..3).for_each(|channel| set_up(&mut peer, channel));
        for ((channel, performative), choice) in said {
            let mut has_ended = false;
            for event in peer.say(channel, &performative) {
                meddle(&mut peer, &event, choice);
                prop_assert!(!matches!(event, Event::Closed { .. }), "{event:?}");
                if let Event::Ended { by, .. } = event {
                    has_ended = true;
                    if by == By::Machine {
                        peer.say(channel, &Performative::End(End::default()));
                    }
                }
            }
            let wire = &peer.machine.wire;
            prop_assert!(wire.queued_bytes <= 8_000 + 2_100);
            prop_assert!(wire.unsettled <= 15);
            prop_assert!(wire.partial_bytes <= 10_000);
            prop_assert!(wire.link_count <= 16);
            peer.hear();
            if has_ended {
                set_up(&mut peer, channel);
            }
        }
        let _ = peer.machine.close(None);
        let wire = &peer.machine.wire;
        prop_assert_eq!((wire.queued_bytes, wire.partial_bytes), (0, 0));
        prop_assert_eq!((wire.link_count, wire.unsettled), (0, 0));
    }
}
