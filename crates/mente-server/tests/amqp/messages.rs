//! Messages of a queue, frame by frame: what SDKs look for in the answers, and what nobody is to lose.

use bytes::Bytes;
use mente_broker::Access;
use mente_wire::amqp::message::{Body, Message};
use mente_wire::amqp::performative::{Disposition, Performative, ReceiverSettleMode, Role};
use mente_wire::amqp::{DeliveryState, Error, Modified, Outcome};

use crate::door;
use crate::peer::{Peer, node};

pub(crate) fn message(text: &str) -> Vec<u8> {
    let message = Message {
        body: Body::of_data([text.as_bytes()]),
        ..Message::default()
    };
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

/// Puts messages into the queue `q`, each accepted.
pub(crate) async fn fill(peer: &mut Peer, texts: &[&str]) {
    let answer = peer.attach(0, Role::Sender, node("q")).await;
    assert_eq!(answer.max_message_size, Some(1 << 20));
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
    for (id, text) in (0..).zip(texts) {
        peer.send(0, id, &message(text)).await;
        let (Performative::Disposition(said), _) = peer.hear().await else {
            panic!("no disposition");
        };
        let accepted = Some(DeliveryState::Outcome(Outcome::Accepted));
        assert_eq!((said.role, said.settled), (Role::Receiver, true));
        assert_eq!((said.first, said.state), (id, accepted));
    }
}

/// The next message: its delivery, its text, and how often its delivery failed.
pub(crate) async fn take(peer: &mut Peer) -> (u32, String, u32) {
    let (Performative::Transfer(transfer), payload) = peer.hear().await else {
        panic!("no transfer");
    };
    assert_eq!(transfer.settled, Some(false));
    assert_eq!(transfer.delivery_tag.map(|tag| tag.len()), Some(16));
    let message = Message::split(&payload).unwrap();
    let data: Vec<Bytes> = message.body.data().collect();
    let text = String::from_utf8(data.concat()).unwrap();
    let failed = message.read_header().unwrap().delivery_count;
    (transfer.delivery_id.unwrap(), text, failed)
}

/// Says something of a delivery, and gives the answer.
async fn say(peer: &mut Peer, id: u32, outcome: Outcome) -> Outcome {
    let disposition = Disposition {
        role: Role::Receiver,
        first: id,
        last: None,
        settled: false,
        state: Some(DeliveryState::Outcome(outcome)),
        batchable: false,
    };
    peer.say(&Performative::Disposition(disposition)).await;
    let (Performative::Disposition(said), _) = peer.hear().await else {
        panic!("no answer");
    };
    assert_eq!(
        (said.role, said.settled, said.first),
        (Role::Sender, true, id)
    );
    let Some(DeliveryState::Outcome(outcome)) = said.state else {
        panic!("no outcome");
    };
    outcome
}

#[tokio::test]
async fn whatever_is_said_of_a_message_is_answered_alike_and_done() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["a", "b", "c"]).await;
    peer.attach(1, Role::Receiver, node("q")).await;
    peer.credit(1, 5, false).await;
    let modified = |undeliverable_here| {
        Outcome::Modified(Modified {
            delivery_failed: true,
            undeliverable_here,
            message_annotations: None,
        })
    };
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(take(&mut peer).await);
    }
    let texts: Vec<_> = came
        .iter()
        .map(|(_, text, failed)| (&**text, *failed))
        .collect();
    assert_eq!(texts, [("a", 0), ("b", 0), ("c", 0)]);
    let (a, b, c) = (came[0].0, came[1].0, came[2].0);
    assert_eq!(
        say(&mut peer, a, Outcome::Accepted).await,
        Outcome::Accepted
    );
    let why = Error::new("com.microsoft:dead-letter", "");
    let dead = say(&mut peer, b, Outcome::Rejected(Some(why))).await;
    assert_eq!(dead, Outcome::Rejected(None));
    assert_eq!(say(&mut peer, c, modified(false)).await, modified(false));
    // What was abandoned comes again, and counts.
    let (c, text, failed) = take(&mut peer).await;
    assert_eq!((&*text, failed), ("c", 1));
    assert_eq!(
        say(&mut peer, c, Outcome::Released).await,
        Outcome::Released
    );
    // What was released comes again as it was.
    let (c, text, failed) = take(&mut peer).await;
    assert_eq!((&*text, failed), ("c", 1));
    assert_eq!(say(&mut peer, c, modified(true)).await, modified(true));
    peer.attach(2, Role::Receiver, node("q/$DeadLetterQueue"))
        .await;
    peer.credit(2, 1, false).await;
    let (_, text, _) = take(&mut peer).await;
    assert_eq!(text, "b");
}

#[tokio::test]
async fn a_drain_is_answered_when_all_that_was_there_has_gone() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["a", "b"]).await;
    peer.attach(1, Role::Receiver, node("q")).await;
    peer.credit(1, 10, true).await;
    assert_eq!(take(&mut peer).await.1, "a");
    assert_eq!(take(&mut peer).await.1, "b");
    let (Performative::Flow(flow), _) = peer.hear().await else {
        panic!("no flow");
    };
    assert_eq!((flow.drain, flow.link_credit), (true, Some(0)));
    assert_eq!(flow.delivery_count, Some(10));
}

#[tokio::test]
async fn what_was_taken_and_could_not_be_sent_is_anothers_at_once() {
    let door = door(Access::Open).await;
    let mut shut = Peer::begin_with(door.tcp().await, 1).await;
    fill(&mut shut, &["a", "b", "c"]).await;
    shut.attach(1, Role::Receiver, node("q")).await;
    shut.credit(1, 10, false).await;
    // Of three that are locked one fits through the window, and nothing is held for who may never open it again.
    assert_eq!(take(&mut shut).await.1, "a");
    let mut other = Peer::begin(door.tcp().await).await;
    other.attach(1, Role::Receiver, node("q")).await;
    other.credit(1, 10, false).await;
    // What was sent keeps its lock, and nothing is a failed delivery.
    for text in ["b", "c"] {
        let (_, came, failed) = take(&mut other).await;
        assert_eq!((&*came, failed), (text, 0));
    }
    other.credit(1, 10, true).await;
    let (Performative::Flow(flow), _) = other.hear().await else {
        panic!("others have what is locked");
    };
    assert_eq!(flow.link_credit, Some(0));
}

#[tokio::test]
async fn what_a_client_may_have_died_of_counts_as_a_failed_delivery() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["poison"]).await;
    for failed in 0..3 {
        let answer = peer.attach(1, Role::Receiver, node("q")).await;
        assert_eq!(answer.receiver_settles, ReceiverSettleMode::First);
        peer.credit(1, 1, false).await;
        let (_, text, count) = take(&mut peer).await;
        assert_eq!((&*text, count), ("poison", failed));
        // Its connection breaks.
        peer = Peer::begin(door.tcp().await).await;
    }
}
