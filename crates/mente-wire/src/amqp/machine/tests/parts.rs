//! Large deliveries, in parts: those of the client as they come, those of the door as it has them.

use bytes::Bytes;

use super::peer::{Peer, credit, limits, transfer};
use crate::amqp::machine::{DeliveryId, Event, Limits, LinkId, Outgoing, Refused};
use crate::amqp::performative::{Open, Role, Transfer};
use crate::amqp::{DeliveryState, Outcome, Performative, condition};

const ACCEPTED: DeliveryState = DeliveryState::Outcome(Outcome::Accepted);
const PART: usize = 100;
/// A delivery of so many fits into a frame.
const BOUND: usize = 900;

/// A link that takes deliveries larger than a part.
fn bound() -> (Peer, LinkId) {
    let limits = Limits {
        part_bytes: PART,
        delivery_bytes: 2 * BOUND,
        ..limits()
    };
    let (mut peer, _) = Peer::begun(limits);
    let link = peer.attach(0, 0, Role::Sender);
    peer.machine.bound(link, BOUND).unwrap();
    peer.machine.grant(link, 100).unwrap();
    peer.hear();
    (peer, link)
}

fn more(transfer: Transfer) -> Transfer {
    Transfer {
        more: true,
        ..transfer
    }
}

fn handed(told: &[Event]) -> (DeliveryId, usize) {
    match told {
        [Event::Part(part)] => (part.id, part.payload.len()),
        _ => panic!("{told:?}"),
    }
}

#[test]
fn a_large_delivery_comes_in_parts_and_is_not_held() {
    let (mut peer, link) = bound();
    let first = more(transfer(0, 5));
    assert_eq!(peer.transfer(0, &first, &[1; 60]), []);
    let then = more(Transfer::default());
    assert_eq!(
        handed(&peer.transfer(0, &then, &[2; 60])),
        (DeliveryId(5), 120)
    );
    assert_eq!(peer.machine.partial_bytes(), 0);
    // Little at a time from then on.
    assert_eq!(peer.transfer(0, &then, &[3; PART / 8 - 1]), []);
    assert_eq!(
        handed(&peer.transfer(0, &then, &[4; 89])),
        (DeliveryId(5), 100)
    );
    let told = peer.transfer(0, &Transfer::default(), &[5; 7]);
    let [Event::Delivery(delivery)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        (delivery.handed_bytes, &delivery.payload[..]),
        (220, &[5; 7][..])
    );
    assert_eq!(
        peer.machine.settle(link, DeliveryId(5), Some(ACCEPTED)),
        Ok(())
    );
    // The next one is as any.
    let told = peer.transfer(0, &transfer(0, 6), b"small");
    assert!(matches!(&told[..], [Event::Delivery(delivery)] if delivery.handed_bytes == 0));
    // One of a delivery that is not settled is none of another.
    let told = peer.transfer(0, &transfer(0, 6), b"again");
    assert!(matches!(&told[..], [Event::Ended { .. }]), "{told:?}");
}

#[test]
fn what_is_larger_than_its_link_takes_is_known_at_once() {
    let (mut peer, link) = bound();
    let then = more(Transfer::default());
    for id in 0..2 {
        peer.transfer(0, &more(transfer(0, id)), &[0; 600]);
        let told = peer.transfer(0, &then, &[0; 301]);
        let settled = false;
        let id = DeliveryId(id);
        let state = None;
        assert_eq!(
            told,
            [Event::TooLarge {
                link,
                id,
                settled,
                state
            }]
        );
        assert_eq!(peer.machine.settle(link, id, Some(ACCEPTED)), Ok(()));
        // Nothing more is heard of it.
        assert_eq!(peer.transfer(0, &then, &[0; 500]), []);
        assert_eq!(peer.machine.partial_bytes(), 0);
        assert_eq!(peer.transfer(0, &Transfer::default(), &[0; 5]), []);
    }
    let told = peer.transfer(0, &transfer(0, 2), &[0; BOUND]);
    assert!(matches!(&told[..], [Event::Delivery(_)]), "{told:?}");
    let told = peer.transfer(0, &transfer(0, 3), &[0; BOUND + 1]);
    assert!(matches!(&told[..], [Event::TooLarge { .. }]), "{told:?}");
}

#[test]
fn what_is_too_large_says_of_which_transaction_it_was_to_be_whenever_that_is_said() {
    let (mut peer, _) = bound();
    let state = DeliveryState::Transactional {
        txn_id: Bytes::from_static(b"txn1"),
        outcome: None,
    };
    let within = |transfer: Transfer| Transfer {
        state: Some(state.clone()),
        ..transfer
    };
    let then = more(Transfer::default());
    let states = |told: &[Event]| match told {
        [Event::TooLarge { state, .. }] => state.clone(),
        told => panic!("{told:?}"),
    };
    peer.transfer(0, &within(more(transfer(0, 0))), &[0; 600]);
    assert_eq!(
        states(&peer.transfer(0, &then, &[0; 400])),
        Some(state.clone())
    );
    assert_eq!(peer.transfer(0, &within(Transfer::default()), b"end"), []);
    peer.transfer(0, &more(transfer(0, 1)), &[0; 600]);
    let with_it = peer.transfer(0, &within(then.clone()), &[0; 400]);
    assert_eq!(states(&with_it), Some(state.clone()));
    peer.transfer(0, &Transfer::default(), b"end");
    peer.transfer(0, &more(transfer(0, 2)), &[0; 600]);
    assert_eq!(states(&peer.transfer(0, &then, &[0; 400])), None);
    let late = peer.transfer(0, &within(Transfer::default()), b"end");
    assert_eq!(states(&late), Some(state.clone()));
}

#[test]
fn whoever_goes_on_with_what_is_too_large_loses_the_link() {
    let (mut peer, _) = bound();
    peer.transfer(0, &more(transfer(0, 0)), &[0; 600]);
    let then = more(Transfer::default());
    let mut parts = 0;
    loop {
        parts += 1;
        assert!(parts < 10, "it goes on and on");
        match &peer.transfer(0, &then, &[0; 600])[..] {
            [] | [Event::TooLarge { .. }] => {}
            [Event::Detached { error, .. }] => {
                let condition = error.as_ref().unwrap().condition.as_str();
                assert_eq!(condition, condition::MESSAGE_SIZE_EXCEEDED);
                break;
            }
            told => panic!("{told:?}"),
        }
    }
    assert_eq!(peer.machine.partial_bytes(), 0);
}

#[test]
fn an_aborted_delivery_of_which_parts_were_told_is_told() {
    let (mut peer, link) = bound();
    peer.transfer(0, &more(transfer(0, 9)), &[0; 90]);
    peer.transfer(0, &more(Transfer::default()), &[0; 90]);
    let aborted = Transfer {
        aborted: true,
        ..Transfer::default()
    };
    let id = DeliveryId(9);
    assert_eq!(
        peer.transfer(0, &aborted, b""),
        [Event::Aborted { link, id }]
    );
    assert_eq!(
        peer.machine.settle(link, id, Some(ACCEPTED)),
        Err(Refused::NoDelivery)
    );
    assert_eq!(peer.machine.wire.unsettled, 0);
}

#[test]
fn settled_by_the_last_part_is_settled() {
    let (mut peer, link) = bound();
    peer.transfer(0, &more(transfer(0, 0)), &[0; 90]);
    peer.transfer(0, &more(Transfer::default()), &[0; 90]);
    let last = Transfer {
        settled: Some(true),
        ..Transfer::default()
    };
    let told = peer.transfer(0, &last, b"b");
    assert!(matches!(&told[..], [Event::Delivery(delivery)] if delivery.settled));
    let late = peer.machine.settle(link, DeliveryId(0), Some(ACCEPTED));
    assert_eq!(late, Err(Refused::NoDelivery));
    assert_eq!(peer.machine.wire.unsettled, 0);
}

#[test]
fn a_delivery_goes_out_as_the_door_has_it() {
    let mut peer = Peer::opened(limits(), Open::default());
    peer.begin(0, 1_000);
    let link = peer.attach(0, 0, Role::Receiver);
    peer.say(0, &credit(0, 10, false));
    peer.hear();
    let begun = Outgoing {
        tag: Bytes::from_static(&[9]),
        payload: Bytes::from_static(b"one "),
        more: true,
        ..Outgoing::default()
    };
    let id = peer.machine.send(link, begun).unwrap();
    let append = |peer: &mut Peer, text: &'static str, is_last| {
        let payload = Bytes::from_static(text.as_bytes());
        peer.machine.append(link, id, payload, is_last)
    };
    // No other delivery comes between, and an empty part says nothing.
    assert_eq!(
        peer.machine.send(link, Outgoing::default()),
        Err(Refused::Full)
    );
    assert_eq!(append(&mut peer, "", false), Ok(()));
    assert_eq!(append(&mut peer, "two ", false), Ok(()));
    assert_eq!(append(&mut peer, "", true), Ok(()));
    assert_eq!(append(&mut peer, "three", true), Err(Refused::NoDelivery));
    assert!(peer.machine.send(link, Outgoing::default()).is_ok());
    let heard = peer
        .hear()
        .into_iter()
        .map(|(_, heard, payload)| match heard {
            Performative::Transfer(transfer) => (transfer.delivery_id, transfer.more, payload),
            other => panic!("{other:?}"),
        });
    let heard: Vec<_> = heard.collect();
    let first: Vec<u8> = heard
        .iter()
        .filter(|(of, ..)| *of == Some(id.0))
        .flat_map(|(.., payload)| payload.to_vec())
        .collect();
    assert_eq!(first, b"one two ");
    let ends: Vec<_> = heard.iter().filter(|(_, more, _)| !more).collect();
    assert_eq!(ends.len(), 2, "{heard:?}");
    assert_eq!(peer.machine.wire.queued_bytes, 0);
}
