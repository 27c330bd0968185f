//! Deliveries to the client: credit, windows, frames, drains and dispositions.

use bytes::Bytes;

use super::peer::{Peer, credit, limits};
use crate::amqp::machine::{DeliveryId, Disposed, Event, LinkId, Outgoing, Refused};
use crate::amqp::performative::{Disposition, Flow, Open, Role, Transfer};
use crate::amqp::{DeliveryState, Outcome, Performative};

const ACCEPTED: DeliveryState = DeliveryState::Outcome(Outcome::Accepted);

fn receiver(window: u32, link_credit: u32) -> (Peer, LinkId) {
    let mut peer = Peer::opened(limits(), Open::default());
    peer.begin(0, window);
    let link = peer.attach(0, 0, Role::Receiver);
    let mut flow = flow_of(credit(0, link_credit, false));
    flow.incoming_window = window;
    peer.say(0, &Performative::Flow(flow));
    (peer, link)
}

fn flow_of(performative: Performative) -> Box<Flow> {
    match performative {
        Performative::Flow(flow) => flow,
        other => panic!("{other:?}"),
    }
}

fn outgoing(bytes: usize) -> Outgoing {
    Outgoing {
        tag: Bytes::from_static(&[9; 16]),
        payload: (0..bytes).map(|at| at as u8).collect(),
        ..Outgoing::default()
    }
}

/// The transfers, each with its payload.
fn transfers(peer: &mut Peer) -> Vec<(Transfer, Bytes)> {
    let heard = peer.hear().into_iter();
    heard
        .map(|(_, heard, payload)| match heard {
            Performative::Transfer(transfer) => (transfer, payload),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn session_flow(seen: u32, window: u32) -> Performative {
    Performative::Flow(Box::new(Flow {
        next_incoming_id: Some(seen),
        incoming_window: window,
        outgoing_window: 1_000,
        ..Flow::default()
    }))
}

fn disposition(first: u32, last: Option<u32>, settled: bool) -> Performative {
    Performative::Disposition(Disposition {
        role: Role::Receiver,
        first,
        last,
        settled,
        state: Some(ACCEPTED),
        batchable: false,
    })
}

fn disposed(link: LinkId, ids: &[u32], settled: bool) -> Event {
    Event::Disposition(Box::new(Disposed {
        role: Role::Receiver,
        deliveries: ids.iter().map(|id| (link, DeliveryId(*id))).collect(),
        settled,
        state: Some(ACCEPTED),
    }))
}

#[test]
fn nothing_is_sent_without_credit() {
    let (mut peer, link) = receiver(1_000, 2);
    assert_eq!(peer.machine.send(link, outgoing(5)), Ok(DeliveryId(0)));
    assert_eq!(peer.machine.send(link, outgoing(5)), Ok(DeliveryId(1)));
    assert_eq!(peer.machine.send(link, outgoing(5)), Err(Refused::NoCredit));
    let sent = transfers(&mut peer);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1].0.delivery_tag, Some(Bytes::from_static(&[9; 16])));
    // Credit is what there is beyond what the receiver had seen when it gave it.
    for (seen, given, expect) in [(0, 2, 0), (1, 2, 1), (2, 2, 2), (0, 1, 0), (7, 3, 3)] {
        let mut flow = flow_of(credit(0, given, false));
        flow.delivery_count = Some(seen);
        let told = peer.say(0, &Performative::Flow(flow));
        let event = Event::Credit {
            link,
            credit: expect,
            drain: false,
        };
        assert_eq!(told, [event], "{given} behind {seen}");
    }
}

#[test]
fn large_deliveries_are_cut_into_frames() {
    let (mut peer, link) = receiver(1_000, 10);
    let one = outgoing(5_000);
    peer.machine.send(link, one.clone()).unwrap();
    let sent = transfers(&mut peer);
    let whole: Vec<u8> = sent
        .iter()
        .flat_map(|(_, payload)| payload.to_vec())
        .collect();
    assert_eq!(whole, one.payload);
    assert_eq!(
        sent.len(),
        6,
        "frames hold 1,024 bytes, their heads included"
    );
    let more: Vec<_> = sent.iter().map(|(transfer, _)| transfer.more).collect();
    assert_eq!(more, [true, true, true, true, true, false]);
    assert!(
        sent.iter()
            .all(|(transfer, _)| transfer.delivery_id == Some(0))
    );
}

#[test]
fn a_delivery_waits_for_the_window_in_its_middle() {
    let (mut peer, link) = receiver(2, 10);
    peer.machine.send(link, outgoing(2_500)).unwrap();
    assert_eq!(transfers(&mut peer).len(), 2);
    assert_eq!(peer.machine.send(link, outgoing(3)), Err(Refused::NoWindow));
    assert_eq!(peer.say(0, &session_flow(1, 1)), [], "nothing is new in it");
    assert_eq!(transfers(&mut peer).len(), 0);
    // What is left of it takes the one transfer that there is.
    assert_eq!(peer.say(0, &session_flow(2, 1)), []);
    let sent = transfers(&mut peer);
    assert!(matches!(&sent[..], [(transfer, _)] if !transfer.more));
    assert_eq!(peer.machine.wire.queued_bytes, 0);
    assert_eq!(peer.machine.send(link, outgoing(3)), Err(Refused::NoWindow));
    let opened = Event::Window {
        session: link.session,
    };
    assert_eq!(peer.say(0, &session_flow(3, u32::MAX)), [opened]);
    assert_eq!(peer.say(0, &session_flow(3, 7)), [], "it was open");
    // Numbers of deliveries that were refused are not left out: JS would not bear it.
    assert_eq!(peer.machine.send(link, outgoing(3)), Ok(DeliveryId(1)));
    assert_eq!(transfers(&mut peer).len(), 1);
}

#[test]
fn credit_and_a_window_may_come_in_one_frame() {
    let (mut peer, link) = receiver(0, 10);
    assert_eq!(peer.machine.send(link, outgoing(3)), Err(Refused::NoWindow));
    let told = peer.say(0, &credit(0, 2, false));
    let given = Event::Credit {
        link,
        credit: 2,
        drain: false,
    };
    let opened = Event::Window {
        session: link.session,
    };
    assert_eq!(told, [given, opened]);
}

#[test]
fn what_waits_to_be_written_is_bounded() {
    // The window shuts in the middle of a large one.
    let (mut peer, link) = receiver(1, 1_000);
    assert_eq!(peer.machine.send(link, outgoing(9_000)), Ok(DeliveryId(0)));
    assert!(!peer.machine.has_room());
    assert_eq!(transfers(&mut peer).len(), 1);
    peer.begin(1, 1_000);
    let other = peer.attach(1, 0, Role::Receiver);
    peer.say(1, &credit(0, 10, false));
    assert_eq!(
        peer.machine.send(other, outgoing(1)),
        Err(Refused::Full),
        "of all sessions"
    );
    // The end of the link is the end of what waits.
    peer.machine.detach(link, None).unwrap();
    assert_eq!(peer.machine.wire.queued_bytes, 0);
    assert!(peer.machine.has_room());
    assert_eq!(peer.machine.send(other, outgoing(1)), Ok(DeliveryId(0)));

    // The client does not read.
    let (mut peer, link) = receiver(1_000, 1_000);
    let mut sent = 0;
    let refused = loop {
        match peer.machine.send(link, outgoing(3_000)) {
            Ok(_) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, sent), (Refused::Full, 3));
    assert!(peer.machine.wire.written_bytes() < 8_000 + 1_024);
    // All of it comes, and there is room again.
    assert_eq!(transfers(&mut peer).len(), 3 * 4);
    assert!(peer.machine.has_room());
    assert_eq!(peer.machine.send(link, outgoing(3_000)), Ok(DeliveryId(3)));
}

#[test]
fn a_drain_is_answered_when_the_door_has_sent_what_it_had() {
    let (mut peer, link) = receiver(1_000, 0);
    assert_eq!(peer.machine.drained(link), Err(Refused::OutOfPlace));
    let told = peer.say(0, &credit(0, 5, true));
    let asked = Event::Credit {
        link,
        credit: 5,
        drain: true,
    };
    assert_eq!(told, [asked]);
    assert_eq!(peer.hear(), [], "the door has its time");
    peer.machine.send(link, outgoing(3)).unwrap();
    peer.machine.drained(link).unwrap();
    assert_eq!(peer.machine.send(link, outgoing(3)), Err(Refused::NoCredit));
    assert_eq!(peer.machine.drained(link), Err(Refused::OutOfPlace));
    let heard = peer.hear();
    let [
        (0, Performative::Transfer(_), _),
        (0, Performative::Flow(flow), _),
    ] = &heard[..]
    else {
        panic!("{heard:?}");
    };
    assert_eq!(
        (flow.delivery_count, flow.link_credit, flow.drain),
        (Some(5), Some(0), true)
    );
}

#[test]
fn drains_are_answered_behind_what_waits_for_the_window() {
    let (mut peer, link) = receiver(0, 0);
    let narrow = |delivery_count| {
        let mut flow = flow_of(credit(0, 5, true));
        flow.incoming_window = 1;
        flow.delivery_count = Some(delivery_count);
        Performative::Flow(flow)
    };
    peer.say(0, &narrow(0));
    peer.machine.send(link, outgoing(1_500)).unwrap();
    assert_eq!(transfers(&mut peer).len(), 1);
    peer.machine.drained(link).unwrap();
    assert_eq!(peer.hear(), []);
    // One answer is enough, however often it is asked.
    for _ in 0..1_000 {
        peer.say(0, &narrow(5));
        peer.machine.drained(link).unwrap();
    }
    assert_eq!(peer.hear(), []);
    peer.say(0, &session_flow(1, 10));
    let heard = peer.hear();
    let [
        (0, Performative::Transfer(_), _),
        (0, Performative::Flow(flow), _),
    ] = &heard[..]
    else {
        panic!("{} frames", heard.len());
    };
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(10), Some(0)));
}

#[test]
fn who_asks_for_a_flow_gets_one() {
    let (mut peer, _) = receiver(1_000, 3);
    let mut echo = flow_of(session_flow(0, 1_000));
    echo.echo = true;
    assert_eq!(peer.say(0, &Performative::Flow(echo)), []);
    let mut of_link = flow_of(credit(0, 4, false));
    of_link.echo = true;
    peer.say(0, &Performative::Flow(of_link));
    let heard = peer.hear();
    let [
        (0, Performative::Flow(first), _),
        (0, Performative::Flow(second), _),
    ] = &heard[..]
    else {
        panic!("{heard:?}");
    };
    assert_eq!((first.handle, first.incoming_window), (None, 10));
    assert_eq!((second.handle, second.link_credit), (Some(0), Some(4)));
    assert!(!first.echo && !second.echo, "or there is no end to it");
    // A drain is answered when it is done, and a link behind its attach.
    let mut drain = flow_of(credit(0, 4, true));
    drain.echo = true;
    peer.say(0, &Performative::Flow(drain));
    assert_eq!(peer.hear(), []);
    peer.ask(0, super::peer::attach(1, Role::Receiver));
    let mut early = flow_of(credit(1, 4, false));
    early.echo = true;
    peer.say(0, &Performative::Flow(early));
    assert_eq!(peer.hear(), []);
}

#[test]
fn a_delivery_is_settled_on_its_link_and_forgotten_with_its_session() {
    let (mut peer, link) = receiver(1_000, 10);
    let other = peer.attach(0, 1, Role::Receiver);
    let id = peer.machine.send(link, outgoing(1)).unwrap();
    assert_eq!(
        peer.machine.settle(other, id, None),
        Err(Refused::NoDelivery)
    );
    assert_eq!(peer.machine.settle(link, id, None), Ok(()));
    peer.machine.send(link, outgoing(1)).unwrap();
    let sender = peer.attach_behind(0, 2, Role::Sender);
    peer.transfer(0, &super::peer::transfer(2, 0), b"a");
    assert_eq!(peer.machine.wire.unsettled, 2);
    peer.machine.end(sender.session, None).unwrap();
    assert_eq!(peer.machine.wire.unsettled, 0);
}

#[test]
fn a_disposition_is_of_what_is_known_and_the_door_settles() {
    let (mut peer, link) = receiver(1_000, 10);
    for _ in 0..5 {
        peer.machine.send(link, outgoing(1)).unwrap();
    }
    peer.hear();
    let told = peer.say(0, &disposition(1, Some(2), false));
    assert_eq!(told, [disposed(link, &[1, 2], false)]);
    assert_eq!(peer.hear(), [], "the door settles");
    peer.machine
        .settle(link, DeliveryId(2), Some(ACCEPTED))
        .unwrap();
    // The rest of a wide claim is not walked.
    let told = peer.say(0, &disposition(0, Some(i32::MAX as u32), true));
    assert_eq!(told, [disposed(link, &[0, 1, 3, 4], true)]);
    assert_eq!(peer.say(0, &disposition(0, Some(4), true)), [], "once");
    let late = peer.machine.settle(link, DeliveryId(1), None);
    assert_eq!(late, Err(Refused::NoDelivery));
    let settled = Disposition::settled(Role::Sender, 2, ACCEPTED);
    assert_eq!(
        peer.hear(),
        [(0, Performative::Disposition(settled), Bytes::new())]
    );
}

#[test]
fn what_is_settled_in_its_middle_is_told_behind_it() {
    let (mut peer, link) = receiver(1, 10);
    peer.machine.send(link, outgoing(1_500)).unwrap();
    assert_eq!(transfers(&mut peer).len(), 1);
    // The lock was lost, or whatever else the door has in mind.
    peer.machine
        .settle(link, DeliveryId(0), Some(ACCEPTED))
        .unwrap();
    assert_eq!(peer.hear(), []);
    peer.say(0, &session_flow(1, 10));
    let heard = peer.hear();
    assert!(
        matches!(
            &heard[..],
            [
                (0, Performative::Transfer(_), _),
                (0, Performative::Disposition(_), _)
            ]
        ),
        "{heard:?}"
    );
    assert_eq!(peer.say(0, &disposition(0, None, true)), []);
}

#[test]
fn what_is_settled_alike_is_told_in_one_frame() {
    let (mut peer, link) = receiver(1_000, 10);
    for _ in 0..8 {
        peer.machine.send(link, outgoing(1)).unwrap();
    }
    peer.hear();
    let released = DeliveryState::Outcome(Outcome::Released);
    let mut settle = |ids: &[u32], state: &DeliveryState| {
        for id in ids {
            peer.machine
                .settle(link, DeliveryId(*id), Some(state.clone()))
                .unwrap();
        }
    };
    settle(&[0, 1, 2], &ACCEPTED);
    settle(&[3], &released);
    settle(&[5, 6, 4], &ACCEPTED);
    let heard: Vec<_> = peer
        .hear()
        .into_iter()
        .map(|(_, heard, _)| match heard {
            Performative::Disposition(told) => (told.first, told.last, told.state),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        heard,
        [
            (0, Some(2), Some(ACCEPTED)),
            (3, None, Some(released)),
            (5, Some(6), Some(ACCEPTED)),
            (4, None, Some(ACCEPTED)),
        ]
    );
    // What has been taken to be written is not added to.
    peer.machine
        .settle(link, DeliveryId(7), Some(ACCEPTED))
        .unwrap();
    assert!(matches!(
        &peer.hear()[..],
        [(0, Performative::Disposition(told), _)] if told.first == 7 && told.last.is_none()
    ));
}

#[test]
fn numbers_go_on_behind_the_highest() {
    let (mut peer, link) = receiver(1_000, 10);
    let (session, _) = peer.machine.session(link.session).unwrap();
    session.next_delivery = u32::MAX;
    for expect in [u32::MAX, 0, 1] {
        assert_eq!(peer.machine.send(link, outgoing(1)), Ok(DeliveryId(expect)));
    }
    while peer.machine.poll_output(peer.now).is_some() {}
    let told = peer.say(0, &disposition(u32::MAX, Some(0), false));
    assert_eq!(told, [disposed(link, &[u32::MAX, 0], false)]);
    // A number that is still in use is not given twice.
    let (session, _) = peer.machine.session(link.session).unwrap();
    session.next_delivery = u32::MAX;
    assert_eq!(peer.machine.send(link, outgoing(1)), Ok(DeliveryId(2)));
}

#[test]
fn what_may_be_unsettled_is_bounded_and_tags_are() {
    let (mut peer, link) = receiver(1_000, 1_000);
    let sent = (0..1_000).take_while(|_| peer.machine.send(link, outgoing(1)).is_ok());
    assert_eq!(sent.count(), 10);
    assert_eq!(
        peer.machine.send(link, outgoing(1)),
        Err(Refused::Unsettled)
    );
    let long = Outgoing {
        tag: Bytes::from_static(&[0; 33]),
        ..Outgoing::default()
    };
    assert_eq!(peer.machine.send(link, long), Err(Refused::TagTooLong));
    peer.hear();
    peer.say(0, &disposition(3, None, true));
    assert_eq!(peer.machine.send(link, outgoing(1)), Ok(DeliveryId(10)));
    // All links have one together: 10 here, 5 there.
    peer.hear();
    peer.begin(1, 1_000);
    let other = peer.attach(1, 0, Role::Receiver);
    peer.say(1, &credit(0, 1_000, false));
    let sent = (0..1_000).take_while(|_| peer.machine.send(other, outgoing(1)).is_ok());
    assert_eq!(sent.count(), 5);
    peer.machine.detach(link, None).unwrap();
    assert_eq!(peer.machine.send(other, outgoing(1)), Ok(DeliveryId(5)));
}

#[test]
fn sessions_are_told_of_their_own_deliveries() {
    let (mut peer, link) = receiver(1_000, 10);
    peer.begin(1, 1_000);
    let other = peer.attach(1, 0, Role::Receiver);
    peer.say(1, &credit(0, 10, false));
    let first = peer.machine.send(link, outgoing(1)).unwrap();
    for _ in 0..2 {
        peer.machine.send(other, outgoing(1)).unwrap();
    }
    peer.hear();
    peer.machine.settle(link, first, Some(ACCEPTED)).unwrap();
    peer.machine
        .settle(other, DeliveryId(1), Some(ACCEPTED))
        .unwrap();
    let heard = peer.hear();
    assert!(
        matches!(
            &heard[..],
            [
                (0, Performative::Disposition(_), _),
                (1, Performative::Disposition(_), _)
            ]
        ),
        "{heard:?}"
    );
}

#[test]
fn sessions_have_windows_of_their_own() {
    let (mut peer, link) = receiver(0, 10);
    peer.begin(1, 10);
    let other = peer.attach(1, 0, Role::Receiver);
    peer.say(1, &credit(0, 10, false));
    assert_eq!(peer.machine.send(link, outgoing(1)), Err(Refused::NoWindow));
    assert_eq!(peer.machine.send(other, outgoing(1)), Ok(DeliveryId(0)));
    let heard = peer.hear();
    assert!(
        matches!(&heard[..], [(1, Performative::Transfer(_), _)]),
        "{heard:?}"
    );
}

/// A client says what it thinks of a delivery once; what it says of all of them again and again is of none.
#[test]
fn an_outcome_is_told_once() {
    let (mut peer, link) = receiver(10, 3);
    for _ in 0..3 {
        peer.machine.send(link, outgoing(1)).unwrap();
    }
    let all = |state, settled| {
        Performative::Disposition(Disposition {
            last: Some(u32::MAX >> 2),
            settled,
            ..Disposition::settled(Role::Receiver, 0, state)
        })
    };
    let received = DeliveryState::Received {
        section_number: 0,
        section_offset: 0,
    };
    let accepted = DeliveryState::Outcome(Outcome::Accepted);
    let count = |told: Vec<Event>| match &told[..] {
        [] => 0,
        [Event::Disposition(disposed)] => disposed.deliveries.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(peer.say(0, &all(received, false))), 0);
    assert_eq!(count(peer.say(0, &all(accepted.clone(), false))), 3);
    assert_eq!(count(peer.say(0, &all(accepted.clone(), false))), 0);
    let in_transaction = DeliveryState::Transactional {
        txn_id: Bytes::from_static(b"1"),
        outcome: Some(Outcome::Accepted),
    };
    assert_eq!(count(peer.say(0, &all(in_transaction, false))), 0);
    // The door has not settled them, so that the client still can.
    assert_eq!(count(peer.say(0, &all(accepted.clone(), true))), 3);
    assert_eq!(count(peer.say(0, &all(accepted, true))), 0);
}
