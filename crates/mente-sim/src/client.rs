//! Clients outside the server: what each knows outlives a crash of the server, what it does is drawn.

mod store;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mente_broker::queue::LockToken;

use crate::history::{Boundary, Expect, How, Value};
use crate::random::Random;
use crate::scene::{AUDIT, ORDERS, STREAMS, SUBSCRIPTIONS, Scene, TAGS, key_of};

/// Locks that a client remembers.
const HELD: usize = 12;
/// Longest bodies. What is published may be more than the small files of a world take, and is refused then.
const PUBLISHED_BYTES: u64 = 9_000;
const APPENDED_BYTES: u64 = 3_000;
/// The auditor's process, and that of whoever sets up, drains and restarts.
pub(crate) const AUDITOR: u64 = 1_000;
pub(crate) const OPERATOR: u64 = 1_001;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    process: u64,
    random: Random,
    /// Begins each value; another life of the same blocks has another.
    tag: char,
    values: u64,
    held: Vec<(String, LockToken, String)>,
    /// An append that may be tried again as it was.
    last_append: Option<(&'static str, Expect, Vec<String>)>,
    /// A command that may be sent again.
    last_command: Option<store::Asked>,
    /// The same over several streams.
    last_of_many: Option<store::OfMany>,
    /// What was seen of each tag's events when they were last looked for.
    boundaries: [Option<Boundary>; TAGS.len()],
    /// How many events each stream had when it was last looked at.
    lengths: [u64; STREAMS.len()],
    /// A topic of its own, with a subscription of its own, that may be deleted.
    own_topic: Option<String>,
    /// One that was deleted, to see whether it stays so.
    gone: Option<String>,
}

#[derive(Debug)]
enum Action {
    Publish(String, Vec<Value>),
    PublishPair([Value; 2]),
    Receive(String, usize, Duration),
    Settle(String, (LockToken, String), How, Duration),
    Append(usize, Expect, Vec<String>),
    AppendStore(store::OfMany),
    Command(store::Asked),
    Hide(usize, u64, bool),
    State(usize, Option<u64>),
    Replay(&'static str),
    Read(&'static str, u32),
    ReadStream(usize),
    ReadStore,
    Trim(u32, u64),
    Create(String),
    Delete(String),
    Unsubscribe(String),
    Verify,
}

fn own_subscription(topic: &str) -> String {
    format!("{topic}/own")
}

pub(crate) type Shared = Arc<Mutex<Client>>;

fn lock(client: &Shared) -> MutexGuard<'_, Client> {
    client.lock().expect("one thread")
}

impl Client {
    pub(crate) fn new(process: u64, random: Random, tag: char) -> Self {
        Self {
            process,
            random,
            tag,
            values: 0,
            held: Vec::new(),
            last_append: None,
            last_command: None,
            last_of_many: None,
            boundaries: [None; TAGS.len()],
            lengths: [0; STREAMS.len()],
            own_topic: None,
            gone: None,
        }
    }

    /// A value that was never sent before; its last part is the length of its body.
    fn value(&mut self, longest: u64) -> String {
        self.values += 1;
        let length = match self.random.below(12) {
            0 => self.random.within(2_000..longest),
            1..=3 => self.random.within(200..1_200),
            _ => self.random.below(100),
        };
        format!("{}{}-{}-{length}", self.tag, self.process, self.values)
    }

    fn values(&mut self, count: u64) -> Vec<Value> {
        let value = |_| {
            let kind = if self.random.one_in(2) { "even" } else { "odd" };
            let value = self.value(PUBLISHED_BYTES);
            Value {
                key: key_of(&value),
                value,
                kind: kind.into(),
            }
        };
        (0..count).map(value).collect()
    }

    fn choose(&mut self) -> Action {
        match self.random.below(48) {
            40..=47 => self.choose_of_store(),
            0 => match <[Value; 2]>::try_from(self.values(2)) {
                Ok(pair) => Action::PublishPair(pair),
                Err(_) => Action::ReadStore,
            },
            1..=10 => {
                let own = self.own_topic.clone().filter(|_| self.random.one_in(4));
                let shared = *self.random.pick(&[ORDERS, ORDERS, AUDIT]);
                let topic = own.unwrap_or_else(|| shared.to_owned());
                let count = 1 + self.random.below(3) * self.random.below(2);
                Action::Publish(topic, self.values(count))
            }
            11..=17 => {
                let subscription = self.choose_subscription();
                let max = 1 + self.random.below(5) as usize;
                let wait = Duration::from_millis(self.random.below(2) * self.random.below(300));
                Action::Receive(subscription, max, wait)
            }
            18..=27 => self.choose_settle(),
            28..=32 => self.choose_append(),
            33 => Action::Trim(self.random.below(2) as u32, self.random.within(2..20)),
            34 => Action::ReadStream(self.random.below(STREAMS.len() as u64) as usize),
            35 => Action::ReadStore,
            36 => match self.own_topic.take() {
                Some(topic) if self.random.one_in(2) => {
                    self.gone = Some(topic.clone());
                    Action::Delete(topic)
                }
                Some(topic) => Action::Unsubscribe(own_subscription(&topic)),
                None => {
                    self.values += 1;
                    let topic = format!("own-{}-{}", self.process, self.values);
                    self.own_topic = Some(topic.clone());
                    Action::Create(topic)
                }
            },
            37 if self.random.one_in(3) => Action::Verify,
            _ => {
                let topic = *self.random.pick(&[(ORDERS, 0), (ORDERS, 1), (AUDIT, 0)]);
                Action::Read(topic.0, topic.1)
            }
        }
    }

    fn choose_subscription(&mut self) -> String {
        let own = self.own_topic.as_ref().or(self.gone.as_ref());
        match own {
            Some(topic) if self.random.one_in(4) => own_subscription(topic),
            _ => (*self.random.pick(&SUBSCRIPTIONS)).to_owned(),
        }
    }

    fn choose_settle(&mut self) -> Action {
        if self.held.is_empty() {
            let subscription = self.choose_subscription();
            return Action::Receive(subscription, 3, Duration::ZERO);
        }
        let at = self.random.below(self.held.len() as u64) as usize;
        let how = match self.random.below(10) {
            0..=5 => How::Complete,
            6 | 7 => How::Release,
            8 => How::Reject,
            _ => How::Renew,
        };
        // Now and then twice, and locks of before a restart too.
        let keep = how == How::Renew || self.random.one_in(10);
        let (subscription, token, value) = if keep {
            self.held[at].clone()
        } else {
            self.held.remove(at)
        };
        let delay = Duration::from_millis(self.random.below(3) * self.random.below(600));
        Action::Settle(subscription, (token, value), how, delay)
    }

    fn choose_append(&mut self) -> Action {
        if let Some((stream, expect, ids)) =
            self.last_append.clone().filter(|_| self.random.one_in(3))
        {
            let at = STREAMS.iter().position(|known| *known == stream);
            return Action::Append(at.unwrap_or(0), expect, ids);
        }
        let at = self.random.below(STREAMS.len() as u64) as usize;
        let expect = match (self.random.below(4), self.lengths[at]) {
            (0, _) => Expect::Any,
            (_, 0) => Expect::NoStream,
            (_, length) => Expect::Revision(length - 1),
        };
        let ids: Vec<_> = (0..1 + self.random.below(3))
            .map(|_| self.value(APPENDED_BYTES))
            .collect();
        self.last_append = Some((STREAMS[at], expect, ids.clone()));
        Action::Append(at, expect, ids)
    }

    fn remember(&mut self, subscription: &str, received: Vec<(LockToken, String)>) {
        let received = received.into_iter();
        self.held
            .extend(received.map(|(token, value)| (subscription.to_owned(), token, value)));
        let beyond = self.held.len().saturating_sub(HELD);
        self.held.drain(..beyond);
    }
}

/// Calls until the budget of the life is used up.
pub(crate) async fn run(scene: Scene, client: Shared) {
    let process = lock(&client).process;
    while scene.may_call() {
        let action = lock(&client).choose();
        act(&scene, &client, process, action).await;
        let pause = {
            let random = &mut lock(&client).random;
            match random.below(24) {
                0 => random.within(300..1_500),
                1..=4 => random.below(40),
                _ => 0,
            }
        };
        if pause > 0 {
            scene.broker.sleep(Duration::from_millis(pause)).await;
        }
    }
    scene.busy.fetch_sub(1, SeqCst);
}

async fn act(scene: &Scene, client: &Shared, process: u64, action: Action) {
    match action {
        Action::Publish(topic, values) => scene.publish(process, &topic, values).await,
        Action::PublishPair(pair) => scene.publish_pair(process, pair).await,
        Action::Receive(subscription, max, wait) => {
            let received = scene.receive(process, &subscription, max, wait).await;
            lock(client).remember(&subscription, received);
        }
        Action::Settle(subscription, held, how, delay) => {
            scene.settle(process, &subscription, held, how, delay).await;
        }
        Action::Append(at, expect, ids) => {
            let to = scene.append(process, STREAMS[at], expect, ids).await;
            match to {
                Some(to) => lock(client).lengths[at] = to.last_revision + 1,
                None => look(scene, client, process, at).await,
            }
        }
        Action::AppendStore(append) => store::append(scene, client, process, append).await,
        Action::Command(asked) => store::command(scene, client, process, asked).await,
        Action::Hide(at, before, is_deletion) => {
            scene.hide(process, STREAMS[at], before, is_deletion).await;
            look(scene, client, process, at).await;
        }
        Action::State(at, revision) => scene.state(process, STREAMS[at], revision).await,
        Action::Replay(subscription) => scene.replay(process, subscription).await,
        Action::Read(topic, partition) => scene.read(process, topic, partition).await,
        Action::ReadStream(at) => look(scene, client, process, at).await,
        Action::ReadStore => {
            scene.read_store(process).await;
            // A look that counts what retention took since the last one.
            scene.open_records(ORDERS).await;
        }
        Action::Trim(partition, keep) => scene.trim(process, ORDERS, partition, keep).await,
        Action::Create(topic) => {
            scene.create_topic(process, &topic, 1).await;
            scene.subscribe(process, &own_subscription(&topic)).await;
        }
        Action::Unsubscribe(subscription) => {
            scene.unsubscribe(process, &subscription).await;
            scene
                .receive(process, &subscription, 3, Duration::ZERO)
                .await;
        }
        Action::Delete(topic) => {
            scene.delete_topic(process, &topic).await;
            scene.read(process, &topic, 0).await;
        }
        Action::Verify => scene.verify(process).await,
    }
}

async fn look(scene: &Scene, client: &Shared, process: u64, at: usize) {
    if let Some(length) = scene.read_stream(process, STREAMS[at]).await {
        lock(client).lengths[at] = length;
    }
}
