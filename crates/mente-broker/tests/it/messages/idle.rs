//! What nobody uses goes, and what somebody uses in any way stays.

use mente_broker::entity::{SubscriptionProperties, TopicProperties};
use mente_broker::{Idle, Start};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const IDLE_MS: u64 = 300_000;

fn named(name: &str) -> EntityName {
    EntityName::new(name).unwrap()
}

/// Lets all others go on.
async fn yield_now() {
    let mut is_due = false;
    std::future::poll_fn(|context| match std::mem::replace(&mut is_due, true) {
        true => std::task::Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    })
    .await;
}

fn subscription() -> SubscriptionName {
    SubscriptionName {
        topic: named("news"),
        name: named("mine"),
    }
}

fn goes() -> Sending {
    Sending {
        auto_delete_on_idle_ms: Some(IDLE_MS),
        ..Sending::default()
    }
}

/// A world and what its looks have found.
struct Looked {
    world: World,
    idle: Idle,
}

impl Looked {
    fn new(receiving: Receiving) -> Self {
        let queue = QueueProperties {
            receiving,
            sending: goes(),
        };
        let mut looked = Self {
            world: World::with_queue(11, queue),
            idle: Idle::default(),
        };
        assert_eq!(looked.look(), [""; 0]);
        looked
    }

    fn look(&mut self) -> Vec<String> {
        let idle = &mut self.idle;
        call!(self.world, b => b.delete_idle(idle)).unwrap()
    }

    /// Minutes with a look after each; gives what went.
    fn pass(&mut self, minutes: u32) -> Vec<String> {
        let mut deleted = Vec::new();
        for _ in 0..minutes {
            self.world.pass(MINUTE);
            deleted.extend(self.look());
        }
        deleted
    }

    /// Used in the last of its minutes, it has four more.
    fn stays_for(&mut self, used: impl FnOnce(&mut World), what: &str) {
        used(&mut self.world);
        assert_eq!(self.pass(4), [""; 0], "after {what}");
    }

    fn is_there(&self, name: &str) -> bool {
        let all = self.world.broker.catalogue(&ME).unwrap();
        all.topics.contains_key(&named(name))
    }

    fn with_topic(sending: Sending, subscription: SubscriptionProperties) -> Self {
        let mut world = World::new(12);
        let topic = TopicProperties {
            sending,
            ..TopicProperties::default()
        };
        call!(world, b => b.create_message_topic(&ME, "news", topic)).unwrap();
        let rule = mente_broker::rule::Rule::all(0);
        call!(world, b => b.create_message_subscription(&ME, &named("news"), "mine", subscription, rule))
            .unwrap();
        let mut looked = Self {
            world,
            idle: Idle::default(),
        };
        assert_eq!(looked.look(), [""; 0]);
        looked
    }
}

#[test]
fn a_queue_goes_when_nobody_used_it() {
    let mut looked = Looked::new(Receiving::default());
    assert_eq!(looked.pass(4), [""; 0]);
    assert!(looked.is_there("work"));
    assert_eq!(looked.pass(1), ["work"]);
    assert!(!looked.is_there("work"));
    // Another one of its name has all its time.
    let queue = QueueProperties {
        sending: goes(),
        ..plain()
    };
    call!(looked.world, b => b.create_queue(&ME, "work", queue)).unwrap();
    assert_eq!(looked.pass(5), [""; 0]);
    assert_eq!(looked.pass(1), ["work"]);
}

#[test]
fn a_queue_stays_for_whatever_uses_it() {
    let mut looked = Looked::new(Receiving::default());
    assert_eq!(looked.pass(4), [""; 0]);
    looked.stays_for(|world| world.send([message(1)]), "a message was sent");
    looked.stays_for(
        |world| assert_eq!(world.take(1).len(), 1),
        "one was received",
    );
    looked.stays_for(|world| drop(world.take(1)), "one was asked for");
    looked.stays_for(|world| drop(world.peek(0)), "somebody looked");
    looked.stays_for(|world| drop(world.letters_of_queue()), "its dead letters");
    let queue = QueueProperties {
        sending: goes(),
        ..plain()
    };
    let change = |world: &mut World| {
        call!(world, b => b.update_queue(&ME, &named("work"), queue)).unwrap();
    };
    looked.stays_for(change, "it was changed");
    // Who only counts does not use it.
    looked.world.counts();
    assert_eq!(looked.pass(2), ["work"]);
}

#[test]
fn a_queue_stays_while_somebody_waits_or_has_a_link() {
    let mut looked = Looked::new(Receiving::default());
    let broker = looked.world.broker.clone();
    let waiting = async move {
        let taking = Taking::locked(1, 20 * MINUTE);
        broker.take(&ME, &queue(), taking).await
    };
    let waiting = Box::pin(waiting);
    let mut waiting = futures::FutureExt::fuse(waiting);
    let polled = async { futures::FutureExt::now_or_never(&mut waiting) };
    assert!(looked.world.pool.run_until(polled).is_none());
    looked.world.pool.run_until_stalled();
    assert_eq!(looked.pass(12), [""; 0]);
    drop(waiting);
    let link = looked.world.broker.attach(queue());
    let another = looked.world.broker.attach(queue());
    assert_eq!(looked.pass(12), [""; 0]);
    drop(link);
    assert_eq!(looked.pass(12), [""; 0]);
    drop(another);
    assert_eq!(looked.pass(4), [""; 0]);
    assert_eq!(looked.pass(1), ["work"]);
}

#[test]
fn a_queue_stays_while_something_is_to_come_and_while_it_forwards() {
    let mut looked = Looked::new(Receiving::default());
    let later = Message {
        due: Some(Timestamp(20 * 60_000)),
        ..message(1)
    };
    looked.world.send([later]);
    assert_eq!(looked.pass(19), [""; 0]);
    // It came in the twentieth minute.
    assert_eq!(looked.pass(5), [""; 0]);
    assert_eq!(looked.pass(2), ["work"]);
    call!(looked.world, b => b.create_queue(&ME, "next", plain())).unwrap();
    let receiving = Receiving {
        forward_to: Some(named("next")),
        ..Receiving::default()
    };
    let queue = properties(receiving, goes());
    call!(looked.world, b => b.create_queue(&ME, "work", queue)).unwrap();
    assert_eq!(looked.pass(12), [""; 0]);
}

#[test]
fn a_restart_begins_the_time_anew() {
    let mut looked = Looked::new(Receiving::default());
    assert_eq!(looked.pass(4), [""; 0]);
    looked.world = looked.world.crash();
    looked.idle = Idle::default();
    assert_eq!(looked.pass(5), [""; 0]);
    assert_eq!(looked.pass(1), ["work"]);
}

#[test]
fn a_subscription_goes_for_itself_whatever_is_sent_to_its_topic() {
    let mine = SubscriptionProperties {
        auto_delete_on_idle_ms: Some(IDLE_MS),
        ..SubscriptionProperties::default()
    };
    let mut looked = Looked::with_topic(Sending::default(), mine);
    let send = |looked: &mut Looked| {
        call!(looked.world, b => b.send(&ME, &named("news"), vec![message(1)])).unwrap();
    };
    send(&mut looked);
    assert_eq!(looked.pass(4), [""; 0]);
    let taking = Taking::locked(1, Duration::ZERO);
    assert_eq!(looked.world.take_from(&subscription(), taking).len(), 1);
    assert_eq!(looked.pass(4), [""; 0]);
    send(&mut looked);
    assert_eq!(looked.pass(1), ["news/mine"]);
    assert!(looked.is_there("news"), "the topic is to stay");
    let left = call!(looked.world, b => b.subscriptions(&ME, &named("news"))).unwrap();
    assert_eq!(left, []);
}

#[test]
fn a_topic_stays_while_its_subscriptions_are_used() {
    let mut looked = Looked::with_topic(goes(), SubscriptionProperties::default());
    assert_eq!(looked.pass(4), [""; 0]);
    let taking = Taking::locked(1, Duration::ZERO);
    looked.world.take_from(&subscription(), taking);
    assert_eq!(looked.pass(4), [""; 0]);
    call!(looked.world, b => b.send(&ME, &named("news"), vec![message(1)])).unwrap();
    assert_eq!(looked.pass(5), [""; 0]);
    assert_eq!(looked.pass(1), ["news"]);
    assert!(!looked.is_there("news"));
}

/// What has nothing to do with messages, and what was not told to go.
#[test]
fn what_was_not_told_to_go_stays() {
    let mut looked = Looked::with_topic(Sending::default(), SubscriptionProperties::default());
    let made = Start::Latest;
    let settings = mente_broker::queue::Settings::default();
    let name = SubscriptionName {
        topic: named("news"),
        name: named("http"),
    };
    call!(looked.world, b => b.create_subscription(&ME, &name, settings, made)).unwrap();
    assert_eq!(looked.pass(30), [""; 0]);
}

#[test]
fn what_cannot_be_deleted_holds_up_nothing_else() {
    let mut looked = Looked::new(Receiving::default());
    let fork = named("look");
    call!(looked.world, b => b.fork(&ME, &fork, None)).unwrap();
    let queue = QueueProperties {
        sending: goes(),
        ..plain()
    };
    call!(looked.world, b => b.create_queue(&ME, "zero", queue)).unwrap();
    // The branch reads the first one.
    assert_eq!(looked.pass(6), ["zero"]);
    assert!(looked.is_there("work"));
    call!(looked.world, b => b.forget_branch(&fork)).unwrap();
    assert_eq!(looked.pass(1), ["work"]);
}

#[test]
fn what_comes_to_be_used_while_others_are_deleted_stays() {
    let mut looked = Looked::new(Receiving::default());
    let also = QueueProperties {
        sending: goes(),
        ..plain()
    };
    call!(looked.world, b => b.create_queue(&ME, "also", also)).unwrap();
    assert_eq!(looked.look(), [""; 0]);
    assert_eq!(looked.pass(4), [""; 0]);
    looked.world.pass(MINUTE);
    let broker = looked.world.broker.clone();
    let received = async {
        while broker
            .catalogue(&ME)
            .unwrap()
            .topics
            .contains_key(&named("also"))
        {
            yield_now().await;
        }
        let taking = Taking::locked(1, Duration::ZERO);
        broker.take(&ME, &queue(), taking).await
    };
    let (idle, pool) = (&mut looked.idle, &mut looked.world.pool);
    let both = futures::future::join(broker.delete_idle(idle), received);
    let (deleted, received) = pool.run_until(both);
    assert_eq!(
        (deleted.unwrap(), received.unwrap().len()),
        (vec!["also".to_owned()], 0)
    );
    assert_eq!(looked.pass(4), [""; 0]);
    assert_eq!(looked.pass(1), ["work"]);
}

#[test]
fn a_queue_without_its_view_stays() {
    let mut looked = Looked::new(Receiving::default());
    call!(looked.world, b => b.delete_subscription(&ME, &queue())).unwrap();
    assert_eq!(looked.pass(12), [""; 0]);
}

#[test]
fn a_subscription_stays_while_somebody_has_a_link() {
    let mine = SubscriptionProperties {
        auto_delete_on_idle_ms: Some(IDLE_MS),
        ..SubscriptionProperties::default()
    };
    let mut looked = Looked::with_topic(Sending::default(), mine);
    // One that is gone already is passed over.
    let gone = looked.world.broker.attach(queue());
    let link = looked.world.broker.attach(subscription());
    assert_eq!(looked.pass(12), [""; 0]);
    drop((link, gone));
    assert_eq!(looked.pass(4), [""; 0]);
    assert_eq!(looked.pass(1), ["news/mine"]);
}

#[test]
fn a_queue_stays_while_a_transaction_is_open() {
    let mut looked = Looked::new(Receiving::default());
    let sent = |looked: &mut Looked, id| {
        let messages = vec![message(id)];
        call!(looked.world, b => b.schedule_within(&ME, &named("work"), messages, "t")).unwrap()
    };
    let first = sent(&mut looked, 1);
    call!(looked.world, b => b.roll_back(&named("work"), first)).unwrap();
    assert_eq!(looked.pass(4), [""; 0]);
    sent(&mut looked, 2);
    // Five minutes are the most that it may be open.
    assert_eq!(looked.pass(4), [""; 0]);
    assert_eq!(looked.pass(2), ["work"]);
}
