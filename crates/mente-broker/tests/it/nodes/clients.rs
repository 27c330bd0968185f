//! Clients of all nodes, what they were told, and the laws over that.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::{Either, select};
use futures::task::LocalSpawnExt;
use mente_broker::queue::{LockToken, Settlement};
use mente_broker::{
    Broker, Catalogue, EntityName, Error, Expected, Kind, Principal, Received, Result, StreamName,
};

use super::world::World;
use crate::rounds::{event, shipping, topic};

pub(super) const ME: Principal = Principal::Anonymous;
pub(super) const PARTITIONS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    /// What was settled never comes again, from no later lease.
    SettledAgain,
    /// Each event is settled once.
    SettledTwice,
    /// Each that was rejected has one dead letter, and no other has any.
    DeadLetters,
    /// What was answered is there.
    Lost,
    /// Nothing is there that nobody wrote.
    Invented,
    /// No revision is given twice.
    RevisionTwice,
    /// In the end every event is settled, and every call is answered.
    NeverEnds,
    /// What shards hold is what their journals say.
    FoldDiffers,
    /// Journals can be read: no shard stops, and none stands still over its own.
    ShardStopped,
}

#[derive(Debug, PartialEq)]
pub(super) struct Violation {
    pub(super) law: Law,
    pub(super) what: String,
}

/// What clients called and were told.
#[derive(Default)]
pub(super) struct Told {
    next_id: usize,
    pub(super) under_way: usize,
    attempted: BTreeSet<usize>,
    pub(super) published: BTreeSet<usize>,
    /// Received and not yet settled.
    held: Vec<(usize, LockToken)>,
    pub(super) settled: BTreeMap<usize, LockToken>,
    /// Settlements of which nobody knows.
    pub(super) unsure: BTreeSet<usize>,
    /// Of the settled, those that were rejected.
    rejected: BTreeSet<usize>,
    /// Perhaps rejected.
    perhaps_rejected: BTreeSet<usize>,
    pub(super) revisions: BTreeMap<u64, usize>,
    appended: BTreeSet<usize>,
    /// Topics that were made beside the one that is used.
    made: BTreeSet<EntityName>,
    /// Where the next append expects the stream to be.
    next_revision: u64,
    pub(super) violations: Vec<Violation>,
    /// Settled, and delivered by an owner that was none any more: no law forbids it.
    pub(super) stale: usize,
}

#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Mutex<Told>>);

pub(super) fn stream() -> StreamName {
    StreamName::new("order-1").unwrap()
}

/// Term and number of a lease: those of a later one are greater.
fn lease(token: &LockToken) -> (u64, u64) {
    let token = serde_json::to_value(token).unwrap();
    (
        token["term"].as_u64().unwrap(),
        token["lease"].as_u64().unwrap(),
    )
}

impl Told {
    fn id(&mut self) -> usize {
        self.next_id += 1;
        self.next_id
    }

    fn broken(&mut self, law: Law, what: String) {
        self.violations.push(Violation { law, what });
    }

    fn received(&mut self, received: Vec<Received>) {
        for received in received {
            let id: usize = received.stored.event.id.parse().unwrap();
            if !self.attempted.contains(&id) {
                self.broken(Law::Invented, format!("event {id} was received"));
            }
            if let Some(settled) = self.settled.get(&id).copied() {
                if lease(&received.token) > lease(&settled) {
                    let (before, after) = (lease(&settled), lease(&received.token));
                    let what = format!("event {id}, settled under {before:?}, under {after:?}");
                    self.broken(Law::SettledAgain, what);
                } else {
                    self.stale += 1;
                }
            }
            self.held.push((id, received.token));
        }
    }

    fn settled(
        &mut self,
        ids: &[usize],
        tokens: &[LockToken],
        is_rejected: bool,
        answer: Result<Vec<bool>>,
    ) {
        match answer {
            Ok(held) => {
                for ((id, token), held) in ids.iter().zip(tokens).zip(held) {
                    if held && self.settled.insert(*id, *token).is_some() {
                        self.broken(Law::SettledTwice, format!("event {id}"));
                    }
                    if held && is_rejected {
                        self.rejected.insert(*id);
                    }
                }
            }
            Err(error) if error.kind == Kind::Unknown => {
                self.unsure.extend(ids);
                if is_rejected {
                    self.perhaps_rejected.extend(ids);
                }
            }
            // Certainly not done.
            Err(_) => {}
        }
    }
}

impl Clients {
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap()
    }

    /// A call at some node; where that dies, nobody knows what came of it.
    fn call<T: 'static, F: Future<Output = Result<T>> + 'static>(
        &self,
        world: &mut World,
        call: impl FnOnce(Broker) -> F,
        told: impl FnOnce(&mut Told, Result<T>) + 'static,
    ) {
        let node = world.random_node();
        let (broker, death) = {
            let node = &world.nodes[node];
            (node.broker.clone(), node.death.clone())
        };
        let call = call(broker);
        let clients = self.clone();
        clients.told().under_way += 1;
        let waiting = async move {
            futures::pin_mut!(call);
            let answer = match select(call, death).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => Err(Error::new(Kind::Unknown, "the node died")),
            };
            let mut state = clients.told();
            state.under_way -= 1;
            if let Err(error) = &answer
                && error.kind == Kind::Corrupt
            {
                state.broken(Law::ShardStopped, error.to_string());
            }
            told(&mut state, answer);
        };
        world.spawner().spawn_local(waiting).unwrap();
        world.settle_down();
    }

    pub(super) fn publish(&self, world: &mut World) {
        let id = self.told().id();
        self.told().attempted.insert(id);
        let publish = async move |broker: Broker| {
            let results = broker.publish(&ME, &topic(), vec![event(id)]).await?;
            results.into_iter().next().unwrap().map(drop)
        };
        self.call(world, publish, move |told, answer| {
            if answer.is_ok() {
                told.published.insert(id);
            }
        });
    }

    pub(super) fn receive(&self, world: &mut World, max: usize, wait: Duration) {
        let receive = async move |broker: Broker| broker.receive(&ME, &shipping(), max, wait).await;
        self.call(world, receive, |told, answer| {
            told.received(answer.unwrap_or_default());
        });
    }

    /// Settles one to three of the events at hand, or all.
    pub(super) fn settle(&self, world: &mut World, all: bool) {
        let held = {
            let mut told = self.told();
            let held = told.held.len();
            let count = if all { held } else { world.rng.usize(1..4) };
            let from = world.rng.usize(..=held.saturating_sub(count));
            told.held
                .drain(from..(from + count).min(held))
                .collect::<Vec<_>>()
        };
        if held.is_empty() {
            return;
        }
        let (ids, tokens): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        let called = tokens.clone();
        let is_rejected = world.rng.u32(..3) == 0;
        let settle = async move |broker: Broker| {
            let how = match is_rejected {
                true => Settlement::Reject {
                    reason: "Rejected".into(),
                    detail: String::new(),
                },
                false => Settlement::Complete,
            };
            broker.settle(&ME, &shipping(), called, how).await
        };
        self.call(world, settle, move |told, answer| {
            told.settled(&ids, &tokens, is_rejected, answer);
        });
    }

    pub(super) fn append(&self, world: &mut World) {
        let (id, next) = {
            let mut told = self.told();
            let id = told.id();
            told.appended.insert(id);
            (id, told.next_revision)
        };
        let expected = match next.checked_sub(1) {
            // Who minds no others always gets a revision, one behind theirs.
            _ if world.rng.bool() => Expected::Any,
            None => Expected::NoStream,
            Some(last) => Expected::Revision(last),
        };
        let append = async move |broker: Broker| {
            let stream = stream();
            let appended = broker.append_stream(&ME, &stream, expected, vec![event(id)]);
            match appended.await {
                Err(error) if matches!(error.kind, Kind::Conflict | Kind::Unknown) => {
                    let read = broker.read_stream(&ME, &stream, 0, 10_000).await;
                    Ok((None, read.map_or(next, |events| events.len() as u64)))
                }
                answer => answer.map(|to| (Some(to.first_revision), to.last_revision + 1)),
            }
        };
        self.call(world, append, move |told, answer| {
            let Ok((at, next)) = answer else { return };
            told.next_revision = next;
            if let Some(at) = at
                && let Some(other) = told.revisions.insert(at, id)
            {
                told.broken(Law::RevisionTwice, format!("{at}, to {other} and {id}"));
            }
        });
    }

    /// A decision of the catalogue's shard.
    pub(super) fn make(&self, world: &mut World) {
        let id = self.told().id();
        let name = EntityName::new(format!("topic-{id}")).unwrap();
        let called = name.clone();
        let make = async move |broker: Broker| broker.create_topic(&ME, &called, 1).await.map(drop);
        self.call(world, make, move |told, answer| {
            if answer.is_ok() {
                told.made.insert(name);
            }
        });
    }

    /// Every node knows what was made at any.
    pub(super) fn judge_catalogue(&self, catalogue: &Catalogue, whose: &str) {
        let mut told = self.told();
        let known = |name: &&EntityName| catalogue.topics.contains_key(*name);
        if let Some(lost) = told.made.iter().find(|name| !known(name)).cloned() {
            told.broken(Law::Lost, format!("topic {lost} at {whose}"));
        }
    }

    /// Holds what is there in the end against what was told. The events of the topic, and of the stream.
    pub(super) fn judge(&self, there: &[usize], stream: &[usize]) {
        let mut told = self.told();
        let all: BTreeSet<usize> = there.iter().copied().collect();
        let lost: Vec<_> = told.published.difference(&all).copied().collect();
        if !lost.is_empty() {
            told.broken(Law::Lost, format!("published {lost:?}"));
        }
        if all.len() < there.len() || !all.is_subset(&told.attempted) {
            told.broken(Law::Invented, format!("{there:?}"));
        }
        let missing = |(at, id): (&u64, &usize)| stream.get(*at as usize) != Some(id);
        let lost = told.revisions.iter().find(|(at, id)| missing((at, id)));
        if let Some((at, id)) = lost.map(|(at, id)| (*at, *id)) {
            let what = format!("event {id} at revision {at}: {stream:?}");
            told.broken(Law::Lost, what);
        }
        let all: BTreeSet<usize> = stream.iter().copied().collect();
        if all.len() < stream.len() || !all.is_subset(&told.appended) {
            told.broken(Law::Invented, format!("in the stream: {stream:?}"));
        }
    }

    /// Holds the dead letters that are there in the end against what was told.
    pub(super) fn judge_letters(&self, letters: &[usize]) {
        let mut told = self.told();
        let all: BTreeSet<usize> = letters.iter().copied().collect();
        let missing: Vec<_> = told.rejected.difference(&all).copied().collect();
        let known = |id: &&usize| told.rejected.contains(id) || told.perhaps_rejected.contains(id);
        let unknown: Vec<_> = all.iter().filter(|id| !known(id)).copied().collect();
        if all.len() < letters.len() || !missing.is_empty() || !unknown.is_empty() {
            let what = format!("{letters:?}: {missing:?} missing, {unknown:?} rejected by nobody");
            told.broken(Law::DeadLetters, what);
        }
    }

    /// Events that are there and that nobody settled for sure or perhaps.
    pub(super) fn left(&self, there: &[usize]) -> usize {
        let told = self.told();
        let is_done = |id: &&usize| told.settled.contains_key(id) || told.unsure.contains(id);
        there.iter().filter(|id| !is_done(id)).count()
    }

    pub(super) fn broken(&self, law: Law, what: String) {
        self.told().broken(law, what);
    }
}
