//! Messages that are larger than an event.

use std::time::Duration;

use mente_broker::entity::{QueueProperties, Sending};
use mente_broker::{Access, Principal};
use mente_wire::amqp::message::{Body, Message};
use mente_wire::amqp::performative::{Attach, Performative, Role, SenderSettleMode};
use mente_wire::amqp::{Coordinator, DeliveryState, Destination, Outcome, Source, condition};

use crate::peer::{Peer, node};
use crate::{Door, door};

const MIB: usize = 1 << 20;
/// Connections that send large messages at one time, as the budget of all of them has it.
const AT_ONCE: usize = 24;

pub(crate) async fn with_queue(kilobytes: u32) -> Door {
    let door = door(Access::Open).await;
    let sending = Sending {
        max_message_kilobytes: kilobytes,
        ..Sending::default()
    };
    let properties = QueueProperties {
        sending,
        ..QueueProperties::default()
    };
    let made = door
        .broker
        .create_queue(&Principal::Anonymous, "q", properties);
    made.await.unwrap();
    door
}

pub(crate) fn message(bytes: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..bytes).map(|at| (at as u8) ^ (at >> 8) as u8).collect();
    let message = Message {
        body: Body::of_data([&data[..]]),
        ..Message::default()
    };
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

/// With a link that sends to the queue.
pub(crate) async fn sender(door: &Door, max_bytes: u64) -> Peer {
    let mut peer = Peer::begin(door.tcp().await).await;
    let answer = peer.attach(0, Role::Sender, node("q")).await;
    assert_eq!(answer.max_message_size, Some(max_bytes));
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
    peer
}

/// What becomes of a delivery.
async fn outcome(peer: &mut Peer, id: u32) -> Outcome {
    loop {
        match peer.hear().await.0 {
            Performative::Flow(_) => {}
            Performative::Disposition(said) => {
                assert_eq!((said.first, said.settled), (id, true));
                let Some(DeliveryState::Outcome(outcome)) = said.state else {
                    panic!("no outcome: {said:?}");
                };
                return outcome;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn one_that_is_too_large_is_refused_before_its_end_and_the_link_goes_on() {
    let door = with_queue(2 << 10).await;
    let mut peer = sender(&door, 2 << 20).await;
    peer.send_in_parts(0, 0, &message(2 * MIB), true).await;
    let Outcome::Rejected(Some(error)) = outcome(&mut peer, 0).await else {
        panic!("it is not rejected");
    };
    assert_eq!(error.condition.as_str(), condition::MESSAGE_SIZE_EXCEEDED);
    peer.send_in_parts(0, 0, b"its end", false).await;
    peer.send_in_parts(0, 1, &message(2 * MIB - 100), false)
        .await;
    assert_eq!(outcome(&mut peer, 1).await, Outcome::Accepted);
}

#[tokio::test]
async fn who_waits_for_room_holds_up_nobody_and_comes_on_when_there_is_some() {
    let door = with_queue(100 << 10).await;
    let large = message(3 * MIB);
    let mut peers = Vec::new();
    for _ in 0..AT_ONCE {
        let mut peer = sender(&door, 100 << 20).await;
        // Of each the server has had more than an event, so that it has its room.
        peer.send_in_parts(0, 0, &large[..2 * MIB], true).await;
        peers.push(peer);
    }
    let mut late = sender(&door, 100 << 20).await;
    late.send_in_parts(0, 0, &large[..5 * MIB / 4], true).await;
    let mut small = sender(&door, 100 << 20).await;
    for id in 0..10 {
        small.send_in_parts(0, id, &message(100), false).await;
        assert_eq!(outcome(&mut small, id).await, Outcome::Accepted);
    }
    drop(peers.pop());
    late.send_in_parts(0, 0, &large[5 * MIB / 4..], false).await;
    assert_eq!(outcome(&mut late, 0).await, Outcome::Accepted);
    for mut peer in peers {
        peer.send_in_parts(0, 0, &large[2 * MIB..], false).await;
        assert_eq!(outcome(&mut peer, 0).await, Outcome::Accepted);
    }
}

#[tokio::test]
async fn who_finds_no_room_for_too_long_is_told_so_and_its_link_goes_on() {
    let door = with_queue(100 << 10).await;
    let large = message(3 * MIB);
    let mut peers = Vec::new();
    for _ in 0..AT_ONCE {
        let mut peer = sender(&door, 100 << 20).await;
        peer.send_in_parts(0, 0, &large[..2 * MIB], true).await;
        peers.push(peer);
    }
    let mut late = sender(&door, 100 << 20).await;
    late.send_in_parts(0, 0, &large[..5 * MIB / 4], true).await;
    // A small one behind shows that all before was heard.
    let mut small = sender(&door, 100 << 20).await;
    small.send_in_parts(0, 0, &message(100), false).await;
    assert_eq!(outcome(&mut small, 0).await, Outcome::Accepted);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    late.send_in_parts(0, 0, &large[5 * MIB / 4..], false).await;
    let Outcome::Rejected(Some(error)) = outcome(&mut late, 0).await else {
        panic!("it is not rejected");
    };
    assert_eq!(error.condition.as_str(), "com.microsoft:server-busy");
    late.send_in_parts(0, 1, &message(100), false).await;
    assert_eq!(outcome(&mut late, 1).await, Outcome::Accepted);
}

#[tokio::test]
async fn a_control_link_takes_no_more_than_what_a_transaction_is_ended_with() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    let coordinator = Destination::Coordinator(Coordinator::default());
    peer.attach(0, Role::Sender, coordinator).await;
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
    peer.send_in_parts(0, 0, &[0; 5 << 10], true).await;
    let (Performative::Detach(detach), _) = peer.hear().await else {
        panic!("it goes on");
    };
    let condition = detach.error.unwrap().condition;
    assert_eq!(condition.as_str(), condition::MESSAGE_SIZE_EXCEEDED);
}

/// Takes frames of a large message up to this many.
async fn frames(peer: &mut Peer, count: usize) {
    for _ in 0..count {
        let (Performative::Transfer(transfer), _) = peer.hear().await else {
            panic!("no transfer");
        };
        assert!(transfer.more);
    }
}

#[tokio::test]
async fn who_shuts_its_window_within_a_large_message_does_not_hold_its_room_for_ever() {
    let door = with_queue(100 << 10).await;
    let mut from = sender(&door, 100 << 20).await;
    from.send_in_parts(0, 0, &message(3 * MIB), false).await;
    assert_eq!(outcome(&mut from, 0).await, Outcome::Accepted);
    let mut peer = Peer::begin_with(door.tcp().await, 5).await;
    peer.attach(0, Role::Receiver, node("q")).await;
    peer.credit(0, 1, false).await;
    frames(&mut peer, 5).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
    }
    let (Performative::Detach(detach), _) = peer.hear().await else {
        panic!("it goes on");
    };
    let condition = detach.error.unwrap().condition;
    assert_eq!(condition.as_str(), condition::RESOURCE_LIMIT_EXCEEDED);
    // Its lock has been given back.
    let mut other = Peer::begin_with(door.tcp().await, 5).await;
    other.attach(0, Role::Receiver, node("q")).await;
    other.credit(0, 1, false).await;
    frames(&mut other, 5).await;
}

#[tokio::test]
async fn one_that_is_received_without_a_lock_comes_whole_and_is_gone() {
    let door = with_queue(100 << 10).await;
    let mut from = sender(&door, 100 << 20).await;
    let large = message(3 * MIB);
    from.send_in_parts(0, 0, &large, false).await;
    assert_eq!(outcome(&mut from, 0).await, Outcome::Accepted);
    from.send_in_parts(0, 1, &message(100), false).await;
    assert_eq!(outcome(&mut from, 1).await, Outcome::Accepted);
    let mut peer = Peer::begin_with(door.tcp().await, 1_000).await;
    let source = Source {
        address: Some("q".into()),
        ..Source::default()
    };
    let attach = Attach {
        source: Some(source),
        target: Some(node("q")),
        sender_settles: SenderSettleMode::Settled,
        ..Attach::new("link".into(), 0, Role::Receiver)
    };
    peer.say(&Performative::Attach(Box::new(attach))).await;
    assert!(matches!(peer.hear().await.0, Performative::Attach(_)));
    peer.credit(0, 10, false).await;
    let mut bytes = Vec::new();
    while bytes.len() < 2 {
        bytes.push(0);
        loop {
            let (Performative::Transfer(transfer), payload) = peer.hear().await else {
                panic!("no transfer");
            };
            *bytes.last_mut().unwrap() += payload.len();
            if !transfer.more {
                break;
            }
        }
    }
    assert!(bytes[0] > 3 * MIB && bytes[1] < 1_000, "{bytes:?}");
    peer.credit(0, 10, true).await;
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
}
