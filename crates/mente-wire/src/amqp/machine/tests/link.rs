//! Sessions and links: how they begin, are refused and end, and what is used again.

use bytes::Bytes;

use super::peer::{Peer, attach, credit, limits, transfer};
use crate::amqp::machine::{By, Event, Refused};
use crate::amqp::performative::{Attach, Begin, Detach, End, Open, Role};
use crate::amqp::transaction::{Control, Declare};
use crate::amqp::value::Map;
use crate::amqp::{
    Coordinator, DeliveryState, Destination, Error, Message, Performative, condition,
};

fn detach(handle: u32) -> Performative {
    Performative::Detach(Detach {
        handle,
        closed: true,
        error: None,
    })
}

#[test]
fn the_doors_own_fields_are_in_the_answer() {
    let (mut peer, _) = Peer::begun(limits());
    let asked = Attach {
        unsettled: Some(Map::default()),
        initial_delivery_count: Some(17),
        ..attach(5, Role::Sender)
    };
    let link = peer.ask(0, asked.clone());
    let answer = Attach {
        max_message_size: Some(1_000),
        properties: Some(Map(vec![("k".into(), "v".into())])),
        incomplete_unsettled: true,
        ..asked
    };
    assert_eq!(peer.machine.grant(link, 1), Err(Refused::OutOfPlace));
    peer.machine.accept(link, answer.clone()).unwrap();
    assert_eq!(
        peer.machine.accept(link, answer.clone()),
        Err(Refused::OutOfPlace)
    );
    let error = Error::new(condition::NOT_FOUND, "no");
    assert_eq!(peer.machine.refuse(link, error), Err(Refused::OutOfPlace));
    let expect = Attach {
        role: Role::Receiver,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        ..answer
    };
    let heard = peer.hear();
    assert_eq!(
        heard,
        [(0, Performative::Attach(Box::new(expect)), Bytes::new())]
    );
    // The count goes on from the client's.
    peer.machine.grant(link, 3).unwrap();
    let heard = peer.hear();
    let [(0, Performative::Flow(flow), _)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(17), Some(3)));
}

#[test]
fn a_refusal_is_an_attach_to_nothing_and_a_detach() {
    for role in [Role::Sender, Role::Receiver] {
        let (mut peer, _) = Peer::begun(limits());
        let link = peer.ask(0, attach(3, role));
        let error = Error::new(condition::NOT_FOUND, "no such queue");
        peer.machine.refuse(link, error.clone()).unwrap();
        let heard = peer.hear();
        let [
            (0, Performative::Attach(answer), _),
            (0, Performative::Detach(detached), _),
        ] = &heard[..]
        else {
            panic!("{heard:?}");
        };
        assert_eq!((&answer.source, &answer.target), (&None, &None));
        assert_eq!(answer.name.as_str(), "link-3");
        assert_eq!(answer.properties, Some(Map::default()), "JS looks into it");
        let expect = Detach {
            handle: 3,
            closed: true,
            error: Some(error),
        };
        assert_eq!(*detached, expect);
        let late = peer.machine.accept(link, attach(3, role));
        assert_eq!(late, Err(Refused::Gone));
        // The client's detach is the answer, and the handle is free behind it.
        assert_eq!(peer.say(0, &detach(3)), []);
        assert_eq!(peer.hear(), []);
        peer.attach(0, 3, role);
        assert_eq!(peer.machine.detach(link, None), Err(Refused::Gone));
    }
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_is_detached_all_the_same() {
    let (mut peer, _) = Peer::begun(limits());
    let link = peer.ask(0, attach(0, Role::Receiver));
    let told = peer.say(0, &detach(0));
    let detached = Event::Detached {
        link,
        by: By::Peer,
        closed: true,
        error: None,
    };
    assert_eq!(told, [detached]);
    let heard = peer.hear();
    assert!(matches!(
        &heard[..],
        [
            (0, Performative::Attach(_), _),
            (0, Performative::Detach(_), _)
        ]
    ));
    assert_eq!(
        peer.machine.accept(link, attach(0, Role::Receiver)),
        Err(Refused::Gone)
    );
}

#[test]
fn detaches_that_cross_are_each_others_answers() {
    let (mut peer, _) = Peer::begun(limits());
    let link = peer.attach(0, 1, Role::Sender);
    peer.machine.detach(link, None).unwrap();
    assert_eq!(peer.machine.detach(link, None), Err(Refused::Gone));
    // What was under way is passed over.
    assert_eq!(peer.transfer(0, &transfer(1, 0), b"late"), []);
    assert_eq!(peer.say(0, &detach(1)), []);
    assert_eq!(peer.say(0, &detach(1)), [], "once too often");
    assert!(matches!(
        &peer.hear()[..],
        [(0, Performative::Detach(_), _)]
    ));
}

#[test]
fn channels_are_used_again_and_sessions_are_not() {
    let (mut peer, first) = Peer::begun(limits());
    let link = peer.attach(0, 0, Role::Sender);
    let told = peer.say(0, &Performative::End(End::default()));
    let ended = Event::Ended {
        session: first,
        by: By::Peer,
        error: None,
    };
    assert_eq!(told, [ended]);
    assert!(matches!(&peer.hear()[..], [(0, Performative::End(_), _)]));
    // Python does.
    assert_eq!(peer.say(0, &detach(0)), []);
    let second = peer.begin(0, 10);
    assert_ne!(first, second);
    let same = peer.attach(0, 0, Role::Sender);
    assert_ne!(link, same);
    assert_eq!(peer.machine.grant(link, 1), Err(Refused::Gone));
    assert_eq!(peer.machine.grant(same, 1), Ok(()));
    assert_eq!(peer.machine.end(first, None), Err(Refused::Gone));
}

#[test]
fn the_doors_end_is_answered_before_the_channel_is_free() {
    let (mut peer, session) = Peer::begun(limits());
    let link = peer.attach(0, 0, Role::Sender);
    peer.machine.end(session, None).unwrap();
    assert_eq!(peer.machine.grant(link, 1), Err(Refused::Gone));
    assert!(matches!(&peer.hear()[..], [(0, Performative::End(_), _)]));
    assert_eq!(peer.transfer(0, &transfer(0, 0), b"late"), []);
    assert_eq!(peer.say(0, &Performative::End(End::default())), []);
    assert_eq!(peer.hear(), []);
    peer.begin(0, 10);
}

#[test]
fn answers_have_numbers_that_the_client_takes() {
    let open = Open {
        channel_max: 1,
        ..Open::default()
    };
    let mut peer = Peer::opened(limits(), open);
    let begin = Begin {
        incoming_window: 10,
        outgoing_window: 10,
        handle_max: 2,
        ..Begin::default()
    };
    // The client may have channels that it would not take itself.
    peer.say(3, &Performative::Begin(Box::new(begin)));
    peer.machine.poll_output(peer.now).unwrap();
    let link = peer.ask(3, attach(7, Role::Sender));
    peer.machine.accept(link, attach(7, Role::Sender)).unwrap();
    let out = peer.machine.poll_output(peer.now).unwrap();
    let frame = crate::amqp::frame::split(&mut out[..].into(), 1 << 10)
        .unwrap()
        .unwrap();
    assert_eq!(frame.channel, 0);
    let (performative, _) = Performative::decode(&frame.body).unwrap();
    assert!(matches!(performative, Performative::Attach(attach) if attach.handle == 0));
    // Channel 1 is the other one that it takes, and there is no third.
    for (channel, expect) in [(2, "begun"), (0, "closed")] {
        let told = peer.say(channel, &Performative::Begin(Box::default()));
        let what = match &told[..] {
            [Event::Begun { .. }] => "begun",
            [
                Event::Closed {
                    by: By::Machine, ..
                },
            ] => "closed",
            _ => panic!("{told:?}"),
        };
        assert_eq!(what, expect, "channel {channel}");
    }
}

#[test]
fn a_link_to_a_coordinator_asks_for_transactions() {
    let (mut peer, _) = Peer::begun(limits());
    let asked = Attach {
        target: Some(Destination::Coordinator(Coordinator::default())),
        ..attach(0, Role::Sender)
    };
    let link = peer.ask(0, asked.clone());
    peer.machine.accept(link, asked).unwrap();
    peer.machine.grant(link, 10).unwrap();
    peer.hear();
    let declare = Control::Declare(Declare::default());
    let mut payload = Vec::new();
    let message = Message {
        body: declare.to_body(),
        ..Message::default()
    };
    message.write(&mut payload);
    let told = peer.transfer(0, &transfer(0, 0), &payload);
    let [
        Event::Control {
            id,
            settled: false,
            control,
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(*control, declare);
    let txn_id = Bytes::from_static(b"t1");
    let declared = DeliveryState::Declared { txn_id };
    peer.machine
        .settle(link, *id, Some(declared.clone()))
        .unwrap();
    let heard = peer.hear();
    let [(0, Performative::Disposition(disposition), _)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(disposition.state, Some(declared));
    // Anything else is nothing to ask of a coordinator.
    let told = peer.transfer(0, &transfer(0, 1), b"\0\x53\x75\xa0\x02hi");
    let [
        Event::Detached {
            by: By::Machine,
            error: Some(error),
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(error.condition.as_str(), condition::DECODE_ERROR);
}

#[test]
fn credit_that_comes_before_the_answer_counts() {
    let (mut peer, _) = Peer::begun(limits());
    let link = peer.ask(0, attach(0, Role::Receiver));
    let told = peer.say(0, &credit(0, 4, false));
    let given = Event::Credit {
        link,
        credit: 4,
        drain: false,
    };
    assert_eq!(told, [given]);
    peer.machine
        .accept(link, attach(0, Role::Receiver))
        .unwrap();
    assert_eq!(peer.machine.credit(link), Ok(4));
    assert_eq!(
        peer.machine.send(link, Default::default()).map(|id| id.0),
        Ok(0)
    );
    assert_eq!(peer.machine.credit(link), Ok(3));
    assert_eq!(peer.hear().len(), 2);
}
