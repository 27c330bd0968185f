//! Deliveries of the client: parts, bounds, and what becomes of them.

use bytes::Bytes;

use super::peer::{Peer, limits, transfer};
use crate::amqp::machine::{By, DeliveryId, Disposed, Event, Limits, LinkId, Refused};
use crate::amqp::performative::{Detach, Disposition, Role, Transfer};
use crate::amqp::{DeliveryState, Error, Outcome, Performative, condition};

fn sender(limits: Limits) -> (Peer, LinkId) {
    let (mut peer, _) = Peer::begun(limits);
    let link = peer.attach(0, 0, Role::Sender);
    peer.machine.grant(link, 100).unwrap();
    peer.hear();
    (peer, link)
}

fn part(transfer: Transfer) -> Transfer {
    Transfer {
        more: true,
        ..transfer
    }
}

/// A part behind the first one, which need not say anything.
fn next(more: bool) -> Transfer {
    Transfer {
        more,
        ..Transfer::default()
    }
}

fn delivered(told: &[Event]) -> (DeliveryId, &Bytes) {
    match told {
        [Event::Delivery(delivery)] => (delivery.id, &delivery.payload),
        _ => panic!("{told:?}"),
    }
}

/// Of a link that the machine ended.
fn detached(told: &[Event]) -> &str {
    match told {
        [
            Event::Detached {
                by: By::Machine,
                error: Some(error),
                ..
            },
        ] => error.condition.as_str(),
        _ => panic!("{told:?}"),
    }
}

const ACCEPTED: DeliveryState = DeliveryState::Outcome(Outcome::Accepted);

#[test]
fn parts_are_one_delivery() {
    let (mut peer, link) = sender(limits());
    let first = Transfer {
        message_format: Some(7),
        ..part(transfer(0, 5))
    };
    assert_eq!(peer.transfer(0, &first, b"one "), []);
    assert_eq!(peer.transfer(0, &next(true), b"two "), []);
    // Python says id, tag and format again.
    assert_eq!(peer.transfer(0, &first, b"three "), []);
    let told = peer.transfer(0, &next(false), b"four");
    let [Event::Delivery(delivery)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(delivery.payload, "one two three four");
    assert_eq!(
        (delivery.id, delivery.format, delivery.link),
        (DeliveryId(5), 7, link)
    );
    assert_eq!(delivery.tag, &5_u32.to_be_bytes()[..]);
    assert!(!delivery.settled);
    // They used one credit.
    assert_eq!(peer.machine.credit(link), Ok(99));
}

#[test]
fn parts_of_several_links_are_kept_apart() {
    let (mut peer, _) = sender(limits());
    peer.attach(0, 1, Role::Sender);
    assert_eq!(peer.transfer(0, &part(transfer(0, 0)), b"a"), []);
    assert_eq!(peer.transfer(0, &part(transfer(1, 1)), b"b"), []);
    assert_eq!(delivered(&peer.transfer(0, &next(false), b"a")).1, "aa");
    let last = Transfer {
        handle: 1,
        ..next(false)
    };
    assert_eq!(delivered(&peer.transfer(0, &last, b"b")).1, "bb");
}

#[test]
fn settled_is_settled_by_any_part() {
    let (mut peer, link) = sender(limits());
    peer.transfer(0, &part(transfer(0, 0)), b"a");
    let last = Transfer {
        settled: Some(true),
        ..next(false)
    };
    let told = peer.transfer(0, &last, b"b");
    assert!(matches!(&told[..], [Event::Delivery(delivery)] if delivery.settled));
    let late = peer.machine.settle(link, DeliveryId(0), Some(ACCEPTED));
    assert_eq!(late, Err(Refused::NoDelivery));
}

#[test]
fn what_is_aborted_never_was() {
    let (mut peer, link) = sender(limits());
    let aborted = |transfer| Transfer {
        aborted: true,
        ..transfer
    };
    peer.transfer(0, &part(transfer(0, 0)), b"never");
    assert_eq!(peer.transfer(0, &aborted(next(false)), b""), []);
    assert_eq!(peer.transfer(0, &aborted(transfer(0, 1)), b""), []);
    // Nothing of it is in the next one, and its bytes are free again.
    let told = peer.transfer(0, &transfer(0, 2), b"this");
    assert_eq!(
        delivered(&told),
        (DeliveryId(2), &Bytes::from_static(b"this"))
    );
    assert_eq!(peer.machine.wire.partial_bytes, 0);
    let none = peer.machine.settle(link, DeliveryId(0), Some(ACCEPTED));
    assert_eq!(none, Err(Refused::NoDelivery));
}

#[test]
fn a_delivery_has_its_bound_however_it_comes() {
    // Whole frames hold 1,024 bytes.
    for parts in [&[900, 900, 900, 900, 401][..], &[1; 5_000]] {
        let limits = Limits {
            incoming_window: 10_000,
            partial_bytes: 1_000_000,
            ..limits()
        };
        let (mut peer, _) = sender(limits);
        let mut so_far = 0;
        let mut told = Vec::new();
        let mut first = true;
        for bytes in parts {
            let transfer = if first {
                part(transfer(0, 0))
            } else {
                next(true)
            };
            first = false;
            told = peer.transfer(0, &transfer, &vec![0; *bytes]);
            if !told.is_empty() {
                break;
            }
            so_far += bytes;
            assert!(so_far <= 4_000);
        }
        assert_eq!(detached(&told), condition::MESSAGE_SIZE_EXCEEDED);
        assert_eq!(peer.machine.wire.partial_bytes, 0);
    }
}

#[test]
fn exactly_the_largest_delivery_is_taken_and_what_a_link_says_of_it_is_the_doors_to_keep() {
    let (mut peer, _) = sender(limits());
    peer.transfer(0, &part(transfer(0, 0)), &[1; 900]);
    for _ in 0..3 {
        assert_eq!(peer.transfer(0, &next(true), &[1; 900]), []);
    }
    let told = peer.transfer(0, &next(false), &[1; 400]);
    assert_eq!(delivered(&told).1.len(), 4_000);

    let asked = super::peer::attach(1, Role::Sender);
    let link = peer.ask(0, asked.clone());
    let answer = crate::amqp::performative::Attach {
        max_message_size: Some(10),
        ..asked
    };
    peer.machine.accept(link, answer).unwrap();
    let told = peer.transfer(0, &transfer(1, 1), &[1; 11]);
    assert_eq!(delivered(&told).1.len(), 11);
}

#[test]
fn all_beginnings_together_have_a_bound() {
    let limits = Limits {
        partial_bytes: 2_000,
        incoming_window: 100,
        ..limits()
    };
    let (mut peer, _) = Peer::begun(limits);
    for handle in 0..3 {
        peer.attach(0, handle, Role::Sender);
    }
    assert_eq!(peer.transfer(0, &part(transfer(0, 0)), &[0; 900]), []);
    assert_eq!(peer.transfer(0, &part(transfer(1, 1)), &[0; 900]), []);
    let told = peer.transfer(0, &part(transfer(2, 2)), &[0; 900]);
    assert_eq!(detached(&told), condition::RESOURCE_LIMIT_EXCEEDED);
    // What ends gives its bytes back.
    assert_eq!(delivered(&peer.transfer(0, &next(false), b"")).1.len(), 900);
    assert_eq!(peer.machine.wire.partial_bytes, 900);
    peer.say(0, &Performative::End(Default::default()));
    assert_eq!(peer.machine.wire.partial_bytes, 0);
}

#[test]
fn a_part_must_be_of_the_delivery_that_was_begun() {
    let (mut peer, _) = sender(limits());
    peer.transfer(0, &part(transfer(0, 0)), b"a");
    let told = peer.transfer(0, &transfer(0, 1), b"b");
    assert_eq!(detached(&told), condition::NOT_ALLOWED);
    let (mut peer, _) = sender(limits());
    assert_eq!(
        detached(&peer.transfer(0, &next(false), b"a")),
        condition::INVALID_FIELD
    );
    let (mut peer, _) = sender(limits());
    let resumed = Transfer {
        resume: true,
        ..transfer(0, 0)
    };
    assert_eq!(
        detached(&peer.transfer(0, &resumed, b"a")),
        condition::NOT_IMPLEMENTED
    );
}

#[test]
fn the_door_settles_in_any_order_and_once() {
    let (mut peer, link) = sender(limits());
    for id in 0..3 {
        delivered(&peer.transfer(0, &transfer(0, id), b"a"));
    }
    let failed = DeliveryState::Outcome(Outcome::Rejected(Some(Error::new(
        condition::INTERNAL_ERROR,
        "disk",
    ))));
    peer.machine
        .settle(link, DeliveryId(2), Some(ACCEPTED))
        .unwrap();
    peer.machine
        .settle(link, DeliveryId(0), Some(failed.clone()))
        .unwrap();
    let again = peer.machine.settle(link, DeliveryId(2), Some(ACCEPTED));
    assert_eq!(again, Err(Refused::NoDelivery));
    let settled = |id, state| {
        let disposition = Disposition::settled(Role::Receiver, id, state);
        (0, Performative::Disposition(disposition), Bytes::new())
    };
    assert_eq!(peer.hear(), [settled(2, ACCEPTED), settled(0, failed)]);
}

#[test]
fn a_sender_may_settle_what_the_door_has_not() {
    let (mut peer, link) = sender(limits());
    for id in 0..3 {
        peer.transfer(0, &transfer(0, id), b"a");
    }
    let disposition = Disposition {
        role: Role::Sender,
        first: 1,
        last: Some(9),
        settled: true,
        state: None,
        batchable: false,
    };
    let told = peer.say(0, &Performative::Disposition(disposition));
    let disposed = Disposed {
        role: Role::Sender,
        deliveries: vec![(link, DeliveryId(1)), (link, DeliveryId(2))],
        settled: true,
        state: None,
    };
    assert_eq!(told, [Event::Disposition(Box::new(disposed))]);
    let late = peer.machine.settle(link, DeliveryId(1), None);
    assert_eq!(late, Err(Refused::NoDelivery));
    assert_eq!(peer.machine.settle(link, DeliveryId(0), None), Ok(()));
}

#[test]
fn what_is_not_settled_holds_the_window() {
    let (mut peer, link) = sender(limits());
    // 10 transfers at a time; a window is told anew when half of it is free.
    for id in 0..10 {
        delivered(&peer.transfer(0, &transfer(0, id), b"a"));
    }
    assert_eq!(peer.hear(), [], "nothing is settled");
    for id in 0..10 {
        peer.machine.settle(link, DeliveryId(id), None).unwrap();
    }
    let flows: Vec<_> = peer
        .hear()
        .into_iter()
        .filter_map(|(_, heard, _)| match heard {
            Performative::Flow(flow) => {
                assert_eq!((flow.handle, flow.next_incoming_id), (None, Some(10)));
                Some(flow.incoming_window)
            }
            _ => None,
        })
        .collect();
    assert_eq!(flows, [5, 10]);
}

#[test]
fn what_is_settled_already_gives_its_window_back_by_itself() {
    let (mut peer, _) = sender(limits());
    let settled = |id| Transfer {
        settled: Some(true),
        ..transfer(0, id)
    };
    let mut windows = Vec::new();
    for id in 0..20 {
        delivered(&peer.transfer(0, &settled(id), b"a"));
        windows.extend(peer.hear().into_iter().map(|(_, heard, _)| match heard {
            Performative::Flow(flow) => (flow.next_incoming_id.unwrap(), flow.incoming_window),
            _ => panic!("{heard:?}"),
        }));
    }
    assert_eq!(windows, [(5, 10), (10, 10), (15, 10), (20, 10)]);
}

#[test]
fn ids_are_free_when_their_link_is_gone() {
    let (mut peer, link) = sender(limits());
    for id in 0..3 {
        delivered(&peer.transfer(0, &transfer(0, id), b"a"));
    }
    let detach = Detach {
        handle: 0,
        closed: true,
        error: None,
    };
    peer.say(0, &Performative::Detach(detach));
    assert_eq!(
        peer.machine.settle(link, DeliveryId(0), None),
        Err(Refused::Gone)
    );
    let again = peer.attach_behind(0, 0, Role::Sender);
    delivered(&peer.transfer(0, &transfer(0, 0), b"a"));
    assert_eq!(peer.machine.settle(again, DeliveryId(0), None), Ok(()));
}

#[test]
fn deliveries_are_counted_where_credit_is_given() {
    let (mut peer, link) = sender(limits());
    peer.transfer(0, &transfer(0, 0), b"a");
    peer.transfer(0, &part(transfer(0, 1)), b"a");
    peer.transfer(0, &next(false), b"a");
    peer.hear();
    peer.machine.grant(link, 7).unwrap();
    let heard = peer.hear();
    let [(0, Performative::Flow(flow), _)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(2), Some(7)));
    assert_eq!(flow.next_incoming_id, Some(3), "transfers are counted here");
}

#[test]
fn what_is_not_settled_has_one_bound_for_all_links() {
    let limits = Limits {
        incoming_window: 100,
        ..limits()
    };
    let (mut peer, _) = sender(limits);
    peer.attach(0, 1, Role::Sender);
    for id in 0..15 {
        delivered(&peer.transfer(0, &transfer(id % 2, id), b"a"));
    }
    let told = peer.transfer(0, &transfer(1, 15), b"a");
    assert_eq!(detached(&told), condition::RESOURCE_LIMIT_EXCEEDED);
    // The other link goes on, with the places of the one that is gone.
    delivered(&peer.transfer(0, &transfer(0, 16), b"a"));
}

#[test]
fn a_transaction_may_be_named_by_any_part() {
    let state = DeliveryState::Transactional {
        txn_id: Bytes::from_static(b"t1"),
        outcome: None,
    };
    let named = |transfer| Transfer {
        state: Some(state.clone()),
        ..transfer
    };
    let (mut peer, _) = sender(limits());
    peer.transfer(0, &named(part(transfer(0, 0))), b"a");
    let first = peer.transfer(0, &next(false), b"a");
    peer.transfer(0, &part(transfer(0, 1)), b"a");
    let last = peer.transfer(0, &named(next(false)), b"a");
    for told in [first, last] {
        let [Event::Delivery(delivery)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(delivery.state.as_ref(), Some(&state));
    }
}
