//! Transactions frame by frame: what SDKs do not do, and what every answer looks like.

use std::time::Duration;

use bytes::Bytes;
use mente_broker::entity::{QueueProperties, Rights, SasRule};
use mente_broker::{Access, EntityName, Principal, SubscriptionName};
use mente_wire::amqp::message::{Message, MessageId};
use mente_wire::amqp::performative::{Attach, Detach, Disposition, Performative, Role, Transfer};
use mente_wire::amqp::transaction::{Control, Declare, Discharge};
use mente_wire::amqp::value::{Map, Symbol, Value};
use mente_wire::amqp::{Coordinator, DeliveryState, Destination, Outcome, Source};
use mente_wire::servicebus::sas::sign;

use crate::door;
use crate::messages::{fill, message, take};
use crate::peer::{Peer, node};

/// Handle of the control link.
const CONTROL: u32 = 9;

async fn control(peer: &mut Peer) {
    let coordinator = Destination::Coordinator(Coordinator::default());
    let answer = peer.attach(CONTROL, Role::Sender, coordinator).await;
    assert!(matches!(answer.target, Some(Destination::Coordinator(_))));
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
}

async fn ask(peer: &mut Peer, id: u32, control: Control) -> DeliveryState {
    let message = Message {
        body: control.to_body(),
        ..Message::default()
    };
    let mut payload = Vec::new();
    message.write(&mut payload);
    peer.send(CONTROL, id, &payload).await;
    answer(peer, id, Role::Receiver).await
}

/// What is said of a delivery. Credit may come before.
async fn answer(peer: &mut Peer, id: u32, role: Role) -> DeliveryState {
    loop {
        match peer.hear().await.0 {
            Performative::Disposition(said) => {
                assert_eq!((said.role, said.first, said.settled), (role, id, true));
                return said.state.unwrap();
            }
            Performative::Flow(_) => {}
            other => panic!("{other:?} and no answer"),
        }
    }
}

async fn declare(peer: &mut Peer, id: u32) -> Bytes {
    match ask(peer, id, Control::Declare(Declare::default())).await {
        DeliveryState::Declared { txn_id } => txn_id,
        other => panic!("{other:?}"),
    }
}

async fn discharge(peer: &mut Peer, id: u32, txn_id: &Bytes, fail: bool) -> DeliveryState {
    let txn_id = txn_id.clone();
    ask(peer, id, Control::Discharge(Discharge { txn_id, fail })).await
}

async fn send_within(peer: &mut Peer, id: u32, txn_id: &Bytes, text: &str) -> DeliveryState {
    send_on(peer, 0, id, txn_id, text).await
}

async fn send_on(
    peer: &mut Peer,
    handle: u32,
    id: u32,
    txn_id: &Bytes,
    text: &str,
) -> DeliveryState {
    let payload = message(text);
    let mut transfer = Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        message_format: Some(0),
        state: Some(within(txn_id, None)),
        ..Transfer::default()
    };
    let mut out = Vec::new();
    transfer.write_frame(1, payload.len(), false, 64 << 10, &mut out);
    out.extend_from_slice(&payload);
    peer.write(&out).await;
    answer(peer, id, Role::Receiver).await
}

async fn say_within(
    peer: &mut Peer,
    id: u32,
    txn_id: &Bytes,
    outcome: Option<Outcome>,
) -> DeliveryState {
    let disposition = Disposition {
        role: Role::Receiver,
        first: id,
        last: None,
        settled: false,
        state: Some(within(txn_id, outcome)),
        batchable: false,
    };
    peer.say(&Performative::Disposition(disposition)).await;
    answer(peer, id, Role::Sender).await
}

fn within(txn_id: &Bytes, outcome: Option<Outcome>) -> DeliveryState {
    DeliveryState::Transactional {
        txn_id: txn_id.clone(),
        outcome,
    }
}

const ACCEPTED: DeliveryState = DeliveryState::Outcome(Outcome::Accepted);

/// Its condition and words.
fn refused(state: DeliveryState) -> (String, String) {
    let DeliveryState::Outcome(Outcome::Rejected(Some(error))) = state else {
        panic!("not refused: {state:?}");
    };
    let words = error.description.unwrap().as_str().to_owned();
    (error.condition.as_str().to_owned(), words)
}

/// What is in the queue, by a client of its own that gives it back.
async fn left(door: &crate::Door) -> Vec<String> {
    left_in(door, "q").await
}

async fn left_in(door: &crate::Door, queue: &str) -> Vec<String> {
    let mut peer = Peer::begin(door.tcp().await).await;
    peer.attach(1, Role::Receiver, node(queue)).await;
    peer.credit(1, 50, true).await;
    let mut left = Vec::new();
    loop {
        match peer.hear().await {
            (Performative::Flow(_), _) => break,
            (Performative::Transfer(transfer), payload) => {
                let message = Message::split(&payload).unwrap();
                let data: Vec<Bytes> = message.body.data().collect();
                left.push(String::from_utf8(data.concat()).unwrap());
                let released = Disposition {
                    role: Role::Receiver,
                    first: transfer.delivery_id.unwrap(),
                    last: None,
                    settled: false,
                    state: Some(DeliveryState::Outcome(Outcome::Released)),
                    batchable: false,
                };
                peer.say(&Performative::Disposition(released)).await;
            }
            (Performative::Disposition(_), _) => {}
            other => panic!("{other:?}"),
        }
    }
    left
}

#[tokio::test]
async fn each_answer_names_the_transaction_and_the_discharge_does_it() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["in"]).await;
    control(&mut peer).await;
    peer.attach(1, Role::Receiver, node("q")).await;
    peer.credit(1, 1, false).await;
    let (locked, _, _) = take(&mut peer).await;
    let first = declare(&mut peer, 10).await;
    let second = declare(&mut peer, 11).await;
    assert!(first != second && first.len() <= 32);
    let accepted = |id: &Bytes| within(id, Some(Outcome::Accepted));
    let said = say_within(&mut peer, locked, &first, Some(Outcome::Accepted)).await;
    assert_eq!(said, accepted(&first));
    let said = send_within(&mut peer, 12, &first, "out").await;
    assert_eq!(said, accepted(&first));
    let said = send_within(&mut peer, 13, &second, "never").await;
    assert_eq!(said, accepted(&second));
    assert_eq!(left(&door).await, [""; 0]);
    assert_eq!(discharge(&mut peer, 14, &second, true).await, ACCEPTED);
    assert_eq!(discharge(&mut peer, 15, &first, false).await, ACCEPTED);
    assert_eq!(left(&door).await, ["out"]);
    // Both are over.
    for (at, id) in (16..).zip([&first, &second]) {
        let (condition, _) = refused(discharge(&mut peer, at, id, false).await);
        assert_eq!(condition, "amqp:transaction:unknown-id");
    }
    let (condition, _) = refused(send_within(&mut peer, 18, &first, "late").await);
    assert_eq!(condition, "amqp:transaction:unknown-id");
    // An empty one is nothing, and done.
    let empty = declare(&mut peer, 19).await;
    assert_eq!(discharge(&mut peer, 20, &empty, false).await, ACCEPTED);
    assert_eq!(left(&door).await, ["out"]);
}

#[tokio::test]
async fn one_refused_member_and_nothing_is_committed() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["in"]).await;
    control(&mut peer).await;
    let id = declare(&mut peer, 10).await;
    send_within(&mut peer, 11, &id, "out").await;
    // Not a message at all.
    let mut transfer = Transfer {
        handle: 0,
        delivery_id: Some(12),
        delivery_tag: Some(Bytes::from_static(b"x")),
        message_format: Some(0),
        state: Some(within(&id, None)),
        ..Transfer::default()
    };
    let mut out = Vec::new();
    transfer.write_frame(1, 3, false, 64 << 10, &mut out);
    out.extend_from_slice(b"abc");
    peer.write(&out).await;
    refused(answer(&mut peer, 12, Role::Receiver).await);
    let (condition, words) = refused(discharge(&mut peer, 13, &id, false).await);
    assert_eq!(condition, "amqp:transaction:rollback");
    assert!(words.contains("rolled back"), "{words}");
    assert_eq!(left(&door).await, ["in"]);
    // A settlement that says no outcome is none.
    let id = declare(&mut peer, 14).await;
    peer.attach(1, Role::Receiver, node("q")).await;
    peer.credit(1, 1, false).await;
    let (locked, _, _) = take(&mut peer).await;
    let (condition, _) = refused(say_within(&mut peer, locked, &id, None).await);
    assert_eq!(condition, "com.microsoft:argument-error");
    refused(discharge(&mut peer, 15, &id, false).await);
}

#[tokio::test]
async fn what_is_larger_than_an_event_spoils_its_transaction_whoever_says_that_it_is_of_one() {
    let door = crate::large::with_queue(2 << 10).await;
    let mut peer = crate::large::sender(&door, 2 << 20).await;
    control(&mut peer).await;
    let large = crate::large::message(3 << 19);
    let too_large = crate::large::message(5 << 19);
    // The first transfer says it, or the last one alone.
    let mut at = 10;
    for (is_early, payload) in [
        (true, &large),
        (false, &large),
        (true, &too_large),
        (false, &too_large),
    ] {
        let id = declare(&mut peer, at).await;
        send_within(&mut peer, at + 1, &id, "out").await;
        let mut transfer = Transfer {
            handle: 0,
            delivery_id: Some(at + 2),
            delivery_tag: Some(Bytes::from_static(b"large")),
            message_format: Some(0),
            ..Transfer::default()
        };
        let mut left = &payload[..];
        while !left.is_empty() {
            let is_last = left.len() < 32 << 10;
            let is_first = left.len() == payload.len();
            let says = is_first && is_early || is_last && !is_early;
            transfer.state = says.then(|| within(&id, None));
            let mut out = Vec::new();
            let (now, behind) = left.split_at(left.len().min(32 << 10));
            let written = transfer.write_frame(1, now.len(), !is_last, 64 << 10, &mut out);
            assert_eq!(written, Some(now.len()));
            out.extend_from_slice(now);
            peer.write(&out).await;
            left = behind;
        }
        refused(answer(&mut peer, at + 2, Role::Receiver).await);
        let (condition, words) = refused(discharge(&mut peer, at + 3, &id, false).await);
        assert_eq!(condition, "amqp:transaction:rollback");
        assert!(words.contains("no room"), "{words}");
        at += 10;
    }
    assert_eq!(left(&door).await, [""; 0]);
}

#[tokio::test]
async fn the_end_of_the_control_link_rolls_back() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["in"]).await;
    control(&mut peer).await;
    let id = declare(&mut peer, 10).await;
    send_within(&mut peer, 11, &id, "out").await;
    let detach = Detach {
        handle: CONTROL,
        closed: true,
        error: None,
    };
    peer.say(&Performative::Detach(detach)).await;
    assert!(matches!(peer.hear().await.0, Performative::Detach(_)));
    let (condition, _) = refused(send_within(&mut peer, 12, &id, "more").await);
    assert_eq!(condition, "amqp:transaction:unknown-id");
    control(&mut peer).await;
    let (condition, _) = refused(discharge(&mut peer, 13, &id, false).await);
    assert_eq!(condition, "amqp:transaction:unknown-id");
    assert_eq!(left(&door).await, ["in"]);
}

#[tokio::test]
async fn transactions_have_bounds_and_others_take_no_part() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &[]).await;
    control(&mut peer).await;
    let global = Control::Declare(Declare {
        global_id: Some(Value::Ulong(1)),
    });
    let (condition, _) = refused(ask(&mut peer, 10, global).await);
    assert_eq!(condition, "amqp:not-implemented");
    let id = declare(&mut peer, 11).await;
    for at in 12..112 {
        send_within(&mut peer, at, &id, "m").await;
    }
    let (condition, words) = refused(send_within(&mut peer, 112, &id, "m").await);
    assert_eq!(condition, "amqp:resource-limit-exceeded");
    assert!(words.contains("at most 100"), "{words}");
    refused(discharge(&mut peer, 113, &id, false).await);
    assert_eq!(left(&door).await, [""; 0]);
    for at in 114..214 {
        declare(&mut peer, at).await;
    }
    let more = Control::Declare(Declare::default());
    let (condition, _) = refused(ask(&mut peer, 214, more).await);
    assert_eq!(condition, "amqp:resource-limit-exceeded");
}

#[tokio::test]
async fn what_is_not_discharged_in_time_is_rolled_back() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["in"]).await;
    control(&mut peer).await;
    let id = declare(&mut peer, 10).await;
    for at in 11..14 {
        send_within(&mut peer, at, &id, "out").await;
        // No clock is waited for; a client that says nothing for two minutes is hung up on.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(41)).await;
        tokio::time::resume();
    }
    for fail in [true, false] {
        let at = 20 + u32::from(fail);
        let (condition, _) = refused(discharge(&mut peer, at, &id, fail).await);
        assert_eq!(condition, "amqp:transaction:unknown-id");
    }
    assert_eq!(left(&door).await, ["in"]);
}

/// A link for messages to one more queue.
async fn sender(peer: &mut Peer, handle: u32, queue: &str) {
    peer.attach(handle, Role::Sender, node(queue)).await;
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
}

#[tokio::test]
async fn a_transaction_settles_at_one_entity_and_sends_to_any() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    fill(&mut peer, &["in", "more"]).await;
    sender(&mut peer, 2, "b").await;
    control(&mut peer).await;
    peer.attach(1, Role::Receiver, node("q")).await;
    peer.credit(1, 2, false).await;
    let (first, _, _) = take(&mut peer).await;
    let (second, _, _) = take(&mut peer).await;
    let done = Some(Outcome::Accepted);
    let id = declare(&mut peer, 10).await;
    // In whatever order.
    send_on(&mut peer, 2, 11, &id, "to b").await;
    say_within(&mut peer, first, &id, done.clone()).await;
    send_within(&mut peer, 12, &id, "out").await;
    assert_eq!(left_in(&door, "b").await, [""; 0]);
    assert_eq!(discharge(&mut peer, 13, &id, false).await, ACCEPTED);
    assert_eq!(left_in(&door, "b").await, ["to b"]);
    assert_eq!(left(&door).await, ["out"]);
    // At a second one it settles nothing, and then not at the first either.
    peer.attach(3, Role::Receiver, node("b")).await;
    peer.credit(3, 1, false).await;
    let (of_b, _, _) = take(&mut peer).await;
    let id = declare(&mut peer, 14).await;
    say_within(&mut peer, second, &id, done.clone()).await;
    send_on(&mut peer, 2, 15, &id, "never").await;
    let (condition, words) = refused(say_within(&mut peer, of_b, &id, done).await);
    assert_eq!(condition, "amqp:not-allowed");
    let azures = "cannot span multiple top-level entities such as queue or topic";
    assert!(words.contains(azures), "{words}");
    let (condition, words) = refused(discharge(&mut peer, 16, &id, false).await);
    assert_eq!(condition, "amqp:transaction:rollback");
    assert!(words.contains(azures), "{words}");
    for (queue, there) in [("q", 2), ("b", 1)] {
        let view = SubscriptionName::queue(EntityName::new(queue).unwrap());
        let counts = door.broker.message_counts(&Principal::Anonymous, &view);
        assert_eq!(counts.await.unwrap().active, there, "{queue}");
    }
    assert_eq!(
        left_in(&door, "q/$Transfer/$DeadLetterQueue").await,
        [""; 0]
    );
}

/// As clients before `azure-messaging-servicebus` say it.
#[tokio::test]
async fn a_link_may_be_attached_to_one_entity_and_send_to_another() {
    let queue = |name: &'static str, right: fn(&mut Rights)| {
        let mut queue = QueueProperties::default();
        let mut rights = Rights::default();
        right(&mut rights);
        queue.sending.authorization.push(SasRule {
            name: "key".to_owned(),
            rights,
            primary_key: "secret".to_owned(),
            secondary_key: "second".to_owned(),
        });
        (name, queue)
    };
    let door = door(Access::Keys).await;
    let root = Principal::Key("root".to_owned());
    for (name, queue) in [
        queue("q", |rights| rights.send = true),
        queue("b", |rights| (rights.send, rights.listen) = (true, true)),
        queue("deaf", |rights| rights.listen = true),
    ] {
        door.broker.create_queue(&root, name, queue).await.unwrap();
    }
    let mut peer = Peer::begin(door.tcp().await).await;
    let token = |name: &str| {
        sign(
            &format!("sb://localhost/{name}"),
            "key",
            "secret",
            4_000_000_000,
        )
    };
    let (status, _) = peer.put_token(&token("q"), MessageId::Ulong(1)).await;
    assert_eq!(status, 202);
    for (at, (via, to, opens)) in (10..).zip([
        ("q", "b", false),
        ("q", "b", true),
        ("deaf", "b", false),
        ("q", "deaf", false),
    ]) {
        if opens {
            // Each is for one queue, and the first link had none for where it sends.
            for (delivery, name) in [(1, "b"), (2, "deaf")] {
                let id = MessageId::Ulong(2);
                let (status, _) = peer.show_token_for(name, &token(name), id, delivery).await;
                assert_eq!(status, 202);
            }
        }
        let mut properties = Map::default();
        let name = Symbol::from_static("com.microsoft:transfer-destination-address");
        properties.set(name, to.into());
        let attach = Attach {
            source: Some(Source::default()),
            target: Some(node(via)),
            initial_delivery_count: Some(0),
            properties: Some(properties),
            ..Attach::new(format!("via-{at}").into(), at, Role::Sender)
        };
        peer.say(&Performative::Attach(Box::new(attach))).await;
        let (Performative::Attach(answer), _) = peer.hear().await else {
            panic!("no attach");
        };
        if opens {
            assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
            peer.send(at, 3, &message("via")).await;
            assert_eq!(answer_of(&mut peer).await, ACCEPTED);
        } else {
            let error = crate::refusal(&mut peer, *answer).await;
            assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
        }
    }
    peer.attach(20, Role::Receiver, node("b")).await;
    peer.credit(20, 9, true).await;
    let (_, text, _) = take(&mut peer).await;
    assert_eq!(text, "via");
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
}

async fn answer_of(peer: &mut Peer) -> DeliveryState {
    loop {
        match peer.hear().await.0 {
            Performative::Disposition(said) => return said.state.unwrap(),
            Performative::Flow(_) => {}
            other => panic!("{other:?} and no answer"),
        }
    }
}
