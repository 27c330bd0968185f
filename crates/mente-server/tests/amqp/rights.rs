//! What the keys of a queue's own rules open, and for how long.

use mente_broker::entity::{QueueProperties, Rights, SasRule};
use mente_broker::{Access, EntityName, Principal};
use mente_wire::amqp::Error;
use mente_wire::amqp::message::MessageId;
use mente_wire::amqp::performative::{Performative, Role};
use mente_wire::servicebus::sas::sign;

use crate::peer::{Peer, node};
use crate::{Door, door, door_that_makes, refusal};

const LISTEN: Rights = Rights {
    listen: true,
    send: false,
    manage: false,
};
const FOREVER: u64 = 4_000_000_000;
/// Seconds on the server's clock, which begins with it: the links are there before.
const SOON: u64 = 4;

/// The queue `q` with a key for listening, whose second key is this.
fn with_second(secret: &str) -> QueueProperties {
    let mut queue = QueueProperties::default();
    queue.sending.authorization.push(SasRule {
        name: "reader".to_owned(),
        rights: LISTEN,
        primary_key: "first".to_owned(),
        secondary_key: secret.to_owned(),
    });
    queue
}

async fn with_queue() -> Door {
    let door = door(Access::Keys).await;
    let root = Principal::Key("root".to_owned());
    let made = door.broker.create_queue(&root, "q", with_second("second"));
    made.await.unwrap();
    door
}

async fn change(door: &Door, queue: QueueProperties) {
    let root = Principal::Key("root".to_owned());
    let name = EntityName::new("q").unwrap();
    let changed = door.broker.update_queue(&root, &name, queue);
    changed.await.unwrap();
}

fn token(name: &str, secret: &str, ends: u64) -> String {
    sign("sb://localhost/q", name, secret, ends)
}

async fn peer_with(door: &Door, token: &str) -> (Peer, i32) {
    let mut peer = Peer::begin(door.tcp().await).await;
    let (status, _) = peer.put_token(token, MessageId::Ulong(1)).await;
    (peer, status)
}

/// The condition that a link is refused with, none of one that is there.
async fn refused(peer: &mut Peer, handle: u32, role: Role) -> Option<String> {
    let answer = peer.attach(handle, role, node("q")).await;
    if answer.target.is_none() {
        let error = refusal(peer, answer).await;
        return Some(error.condition.as_str().to_owned());
    }
    if role == Role::Sender {
        assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
    }
    None
}

async fn detached(peer: &mut Peer) -> (u32, Error) {
    match peer.hear().await.0 {
        Performative::Detach(detach) => (detach.handle, detach.error.unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_queues_own_key_opens_what_its_rule_says() {
    let door = with_queue().await;
    let forbidden = Some("amqp:unauthorized-access".to_owned());
    for secret in ["first", "second"] {
        let (mut peer, status) = peer_with(&door, &token("reader", secret, FOREVER)).await;
        assert_eq!(status, 202, "{secret}");
        assert_eq!(refused(&mut peer, 4, Role::Receiver).await, None);
        assert_eq!(refused(&mut peer, 5, Role::Sender).await, forbidden);
    }
    // For all of the namespace it is no key, nor under another name.
    for token in [
        sign("sb://localhost", "reader", "first", FOREVER),
        token("root", "first", FOREVER),
        token("reader", "secret", FOREVER),
    ] {
        let (mut peer, status) = peer_with(&door, &token).await;
        assert_eq!(status, 401, "{token}");
        assert_eq!(refused(&mut peer, 4, Role::Receiver).await, forbidden);
    }
}

#[tokio::test]
async fn a_key_that_is_changed_makes_no_tokens_any_more() {
    let door = with_queue().await;
    let shown = token("reader", "second", FOREVER);
    let (mut before, _) = peer_with(&door, &shown).await;
    change(&door, with_second("other")).await;
    assert_eq!(peer_with(&door, &shown).await.1, 401);
    let other = token("reader", "other", FOREVER);
    assert_eq!(peer_with(&door, &other).await.1, 202);
    // Who was let in before is in until his token ends.
    assert_eq!(refused(&mut before, 4, Role::Receiver).await, None);
    change(&door, QueueProperties::default()).await;
    assert_eq!(peer_with(&door, &other).await.1, 401);
}

#[tokio::test]
async fn a_link_ends_with_its_token_and_goes_on_with_the_next() {
    let door = with_queue().await;
    let short = token("root", "secret", SOON);
    let (mut renewed, _) = peer_with(&door, &short).await;
    let (mut forgotten, _) = peer_with(&door, &short).await;
    for peer in [&mut renewed, &mut forgotten] {
        assert_eq!(refused(peer, 4, Role::Receiver).await, None);
    }
    let long = token("root", "secret", FOREVER);
    let shown = renewed.show_token(&long, MessageId::Ulong(2), 1).await;
    assert_eq!(shown.0, 202);
    let (handle, error) = detached(&mut forgotten).await;
    assert_eq!(handle, 4);
    assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
    let words = error.description.unwrap();
    assert!(words.as_str().starts_with("ExpiredToken"), "{words}");
    let expired = refused(&mut forgotten, 5, Role::Receiver).await;
    assert_eq!(expired.as_deref(), Some("amqp:unauthorized-access"));
    // The other peer was told nothing meanwhile: the next that it hears is the answer to this.
    assert_eq!(refused(&mut renewed, 5, Role::Sender).await, None);
}

#[tokio::test]
async fn a_token_of_a_lesser_right_ends_what_it_does_not_allow() {
    let door = with_queue().await;
    let (mut peer, _) = peer_with(&door, &token("root", "secret", FOREVER)).await;
    assert_eq!(refused(&mut peer, 4, Role::Sender).await, None);
    assert_eq!(refused(&mut peer, 5, Role::Receiver).await, None);
    let lesser = token("reader", "first", FOREVER);
    let shown = peer.show_token(&lesser, MessageId::Ulong(2), 1).await;
    assert_eq!(shown.0, 202);
    let (handle, error) = detached(&mut peer).await;
    assert_eq!(
        (handle, error.condition.as_str()),
        (4, "amqp:unauthorized-access")
    );
    // What it allows goes on.
    assert_eq!(refused(&mut peer, 6, Role::Receiver).await, None);
}

#[tokio::test]
async fn a_token_for_what_is_not_there_and_is_not_made_is_refused() {
    let door = door_that_makes(Access::Keys, false).await;
    let shown = token("root", "secret", FOREVER);
    assert_eq!(peer_with(&door, &shown).await.1, 404);
    let forged = token("root", "other", FOREVER);
    assert_eq!(peer_with(&door, &forged).await.1, 401);
    let root = Principal::Key("root".to_owned());
    let queue = QueueProperties::default();
    door.broker.create_queue(&root, "q", queue).await.unwrap();
    assert_eq!(peer_with(&door, &shown).await.1, 202);
}
