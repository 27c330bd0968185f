//! The machine of one shard: what it owns, decided command by command.
//!
//! [`Shard::decide`] takes a command, applies what it decides at once, so that the next command
//! of the round sees it, and leaves decisions and replies in an [`Outcome`]. [`Shard::apply`]
//! folds a decision, live and on restore alike. No clock, no I/O, no hash-map order.

mod arrival;
mod command;
mod durable;
mod idle;
mod messages;
mod moving;
mod reading;
mod transaction;
mod whereabouts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Bounds, LogId, Now, Offset, Record, Term};

use crate::catalogue::Catalogue;
use crate::error::{Error, Kind, Result};
use crate::journal::{Decision, Subscription, Topic};
use crate::name::{EntityName, SubscriptionName};
use crate::properties::{Natural, Properties};
use crate::queue::{Effects, Queue, Remembered, Settings, Ticket, Verdict};
use crate::rule::Rule;
use crate::store::{Append, Decided, Facts, Sealed, Store};

pub use arrival::Arrival;
pub use command::{Command, Made, Need, Reply, SubscriptionInfo};
pub use durable::Digest;
pub use messages::Ask;
pub(crate) use moving::Straggling;
pub use transaction::{Settling, Transacting, Written};
pub use whereabouts::Heard;

/// Copies of one log of a view that are looked at in one round.
const BURIALS_OF_VIEW: usize = 1_024;

/// What a round leaves to be done: first make the decisions durable, then reply.
#[derive(Debug, Default)]
pub struct Outcome {
    pub decisions: Vec<Decision>,
    /// Appends to the store, each to be kept whole.
    pub appends: Vec<StoreAppend>,
    pub replies: Vec<(Ticket, Result<Reply>)>,
}

/// Events that were decided for the store, and the position of the first one.
#[derive(Debug)]
pub struct StoreAppend {
    pub first: u64,
    pub records: Vec<Record>,
}

/// A record to copy to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burial {
    pub name: SubscriptionName,
    pub view: u64,
    /// Of the view: its log's, or that of the rule which makes the record what it is.
    pub partition: u32,
    pub rule: Option<Rule>,
    pub log: LogId,
    pub offset: Offset,
    /// Where it lies if it was moved.
    pub moved_to: Option<Offset>,
    pub attempts: u32,
    pub reason: String,
    pub detail: String,
    /// What a receiver said of it.
    pub note: Option<String>,
    /// The topic that it goes to in place of the dead-letter log.
    pub to: Option<EntityName>,
    /// Where its copy may lie in the dead-letter log, at the earliest.
    pub since: Offset,
    /// The least of these of all dead letters of the view.
    pub look_from: Offset,
    /// Copies below this are of earlier deaths, from which records were given back.
    pub revived_upto: Offset,
}

#[derive(Debug)]
pub struct Shard {
    term: Term,
    /// Number of the last decision.
    seq: u64,
    catalogue: Catalogue,
    names: BTreeMap<SubscriptionName, u64>,
    views: BTreeMap<u64, View>,
    /// The store, in the shard that owns it: what of it is in memory, and the blocks of its index.
    store: Store,
    sealed: Vec<Sealed>,
    /// What rules ask of events.
    properties: &'static dyn Properties,
    /// Ids for duplicates, of all views of this broker.
    remembered: Arc<Remembered>,
}

#[derive(Debug)]
struct View {
    name: SubscriptionName,
    topic: Topic,
    /// Where it began, by partition; of a view that an earlier Mente made, where a snapshot found it.
    began: Vec<u64>,
    queue: Queue,
    /// When somebody used it last, on the monotone clock of this owner.
    used: Option<Duration>,
}

impl Shard {
    pub fn new(term: Term) -> Self {
        Self::after(0, term)
    }

    /// Without anything, `seq` decisions counted: what a snapshot is folded into.
    pub(crate) fn after(seq: u64, term: Term) -> Self {
        Self {
            term,
            seq,
            catalogue: Catalogue::default(),
            names: BTreeMap::new(),
            views: BTreeMap::new(),
            store: Store::default(),
            sealed: Vec::new(),
            properties: &Natural,
            remembered: Arc::default(),
        }
    }

    /// What rules ask of events from now on.
    pub(crate) fn ask_of(&mut self, properties: &'static dyn Properties) {
        self.properties = properties;
    }

    /// Ids for duplicates are among all of these from now on.
    pub(crate) fn remember_within(&mut self, all: &Arc<Remembered>) {
        self.remembered = Arc::clone(all);
        for view in self.views.values_mut() {
            view.queue.remember_within(all);
        }
    }

    /// From now on its leases are of this term, and its store this one.
    pub(crate) fn take_over(&mut self, term: Term, store: Store) {
        self.term = term;
        self.store = store;
        self.forget_sealed();
        for view in self.views.values_mut() {
            view.queue.take_over(term);
        }
    }

    /// Number of the last decision, 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub fn decide(&mut self, now: Now, ticket: Ticket, command: Command, out: &mut Outcome) {
        command.uses(|name| {
            let view = self.names.get(name).and_then(|id| self.views.get_mut(id));
            if let Some(view) = view {
                view.used = Some(now.monotone);
            }
        });
        let reply = match command {
            Command::CreateTopic { name, topic } => self.create_topic(name, topic, out),
            Command::DeleteTopic { name } => self.delete_topic(name, out),
            Command::CreateSubscription {
                name,
                topic,
                starts,
                settings,
            } => self.create_subscription(name, topic, &starts, settings, out),
            Command::Define { kind, name, body } => {
                if self.catalogue.definitions.get(&(kind, name.clone())) != Some(&body) {
                    self.push(Decision::Defined { kind, name, body }, out);
                }
                Ok(Reply::Done)
            }
            Command::Undefine { kind, name } => {
                if self
                    .catalogue
                    .definitions
                    .contains_key(&(kind, name.clone()))
                {
                    self.push(Decision::Undefined { kind, name }, out);
                    Ok(Reply::Done)
                } else {
                    Err(Error::not_found("declaration of", name.as_str()))
                }
            }
            Command::DeleteSubscription { name } => self.delete_subscription(name, out),
            Command::ListSubscriptions { topic, bounds } => {
                for (log, bounds) in &bounds {
                    self.trimmed(now, *log, bounds.start, out);
                }
                Ok(self.subscriptions(now, topic.as_ref(), &bounds))
            }
            Command::DropSubscriptions { topic } => self.drop_subscriptions(&topic, out),
            Command::Receive { name, taking } => {
                match self.with_queue(&name, out, |queue, effects| {
                    if queue.has_sessions() != taking.session.is_some() {
                        return Err(messages::misused(&name, queue));
                    }
                    queue.receive(now, ticket, &taking, effects);
                    Ok(())
                }) {
                    // The queue replies, now or later.
                    Ok(Ok(())) => return,
                    Ok(Err(error)) | Err(error) => Err(error),
                }
            }
            Command::Settle {
                name,
                tokens,
                how,
                note,
                lingers: _,
            } => self.with_queue(&name, out, |queue, effects| {
                let bytes = note.as_ref().map_or(0, |note| note.len() * tokens.len());
                if !queue.has_room_for_notes(bytes) {
                    let message = "too much is noted on messages of this entity: settle without, or settle some for good";
                    return Err(Error::new(Kind::Throttled, message));
                }
                let settle = |token| {
                    if let Some(note) = &note {
                        queue.note(now, token, note, effects);
                    }
                    queue.settle(now, token, &how, effects)
                };
                Ok(Reply::Settled(tokens.into_iter().map(settle).collect()))
            }).flatten(),
            Command::Message { name, ask } => match self.ask(now, ticket, &name, ask, out) {
                Some(reply) => reply,
                None => return,
            },
            Command::Attached { .. } => Ok(Reply::Done),
            Command::Transact(transacting) => self.transact(now, &transacting, out),
            Command::ChangeSettings {
                name,
                settings,
                from,
            } => self.change_settings(name, settings, from, out),
            Command::Revive {
                name,
                view,
                from,
                letters,
            } => match self.names.get(&name) {
                Some(id) if *id == view => self.with_queue(&name, out, |queue, effects| {
                    Reply::Revived(queue.revive(now, from, &letters, effects))
                }),
                _ => Err(Error::not_found("subscription", &name.to_string())),
            },
            Command::Append(append) => self.append(now, &append, &Facts::default(), out),
            Command::Places {
                stream,
                from,
                direction,
                max,
            } => Ok(Reply::Places(
                self.store.places(&stream, from, direction, max),
            )),
            Command::Find {
                query,
                from,
                direction,
                max,
            } => {
                let places = self.store.find(&query, from, direction, max);
                places.map(|places| Reply::Found {
                    places,
                    first: self.store.first(),
                    end: self.store.end(),
                })
            }
            Command::Blocks { from } => Ok(Reply::Blocks(
                self.sealed.get(from..).unwrap_or_default().to_vec(),
            )),
            Command::Whereabouts { topic, places } => Ok(self.whereabouts(&topic, &places)),
            Command::Needs { topic } => Ok(Reply::Needs(self.needs(&topic))),
            Command::Digest => Ok(Reply::Digest(self.digest())),
            Command::Ping => Ok(Reply::Done),
        };
        out.replies.push((ticket, reply));
    }

    /// Folds decision number `seq`.
    pub fn apply(&mut self, seq: u64, decision: &Decision) -> Result<()> {
        if seq != self.seq + 1 {
            let message = format!(
                "decision {seq} follows decision {} in the journal",
                self.seq
            );
            return Err(Error::new(Kind::Corrupt, message));
        }
        self.seq = seq;
        self.recall(decision)
    }

    /// Folds a decision that is counted already: one of a snapshot.
    pub(crate) fn recall(&mut self, decision: &Decision) -> Result<()> {
        match decision {
            Decision::TopicCreated { .. }
            | Decision::TopicDeleted { .. }
            | Decision::Defined { .. }
            | Decision::Undefined { .. } => self.catalogue.apply(decision),
            Decision::Sealed(sealed) => self.sealed.push(*sealed),
            Decision::SubscriptionCreated { name, subscription } => {
                let starts: Vec<_> = subscription.starts.iter().copied().map(Offset).collect();
                let settings = subscription.settings.clone();
                let mut queue = Queue::new(settings, self.term, subscription.view, &starts)
                    .over(subscription.topic.partitions);
                queue.remember_within(&self.remembered);
                let began = match subscription.began.is_empty() {
                    true => &subscription.starts,
                    false => &subscription.began,
                };
                let view = View {
                    name: name.clone(),
                    topic: subscription.topic.clone(),
                    began: began.clone(),
                    queue,
                    used: None,
                };
                self.names.insert(name.clone(), subscription.view);
                self.views.insert(subscription.view, view);
            }
            Decision::SubscriptionDeleted { name } => {
                if let Some(view) = self.names.remove(name) {
                    self.views.remove(&view);
                }
            }
            Decision::SecretsSet { name, secrets } => {
                let view = self.names.get(name).and_then(|id| self.views.get_mut(id));
                let Some(view) = view else {
                    return Err(self.is_about_nothing(name));
                };
                view.queue.set_secrets(secrets);
            }
            Decision::SettingsChanged { name, settings } => {
                let view = self.names.get(name).and_then(|id| self.views.get_mut(id));
                let Some(view) = view else {
                    return Err(self.is_about_nothing(name));
                };
                view.queue.set_settings(settings.clone());
            }
            Decision::View { view, verdict } => self.recall_verdict(*view, verdict)?,
            Decision::Together(verdicts) => {
                for (view, verdict) in verdicts {
                    self.recall_verdict(*view, verdict)?;
                }
            }
        }
        Ok(())
    }

    fn recall_verdict(&mut self, view: u64, verdict: &Verdict) -> Result<()> {
        let Some(found) = self.views.get_mut(&view) else {
            let message = format!(
                "a decision after {} is about view {view}, which is not there",
                self.seq
            );
            return Err(Error::new(Kind::Corrupt, message));
        };
        found.queue.apply(verdict);
        Ok(())
    }

    fn is_about_nothing(&self, name: &SubscriptionName) -> Error {
        let message = format!(
            "a decision after {} is about subscription {name}, which is not there",
            self.seq
        );
        Error::new(Kind::Corrupt, message)
    }

    /// The part of the store that is in memory.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The blocks of the store's index.
    pub(crate) fn sealed(&self) -> &[Sealed] {
        &self.sealed
    }

    /// A block is written.
    pub(crate) fn seal(&mut self, sealed: Sealed, out: &mut Outcome) {
        self.push(Decision::Sealed(sealed), out);
    }

    /// What blocks hold need not be in memory.
    pub(crate) fn forget_sealed(&mut self) {
        if let Some(last) = self.sealed.last() {
            self.store.sealed(last.end);
        }
    }

    /// The append is durable, its first event at `base`.
    pub fn placed(&mut self, append: &StoreAppend, base: Offset) {
        // Offsets are adjacent inside a batch, and an append lies whole in one.
        let offsets = (base.0..).take(append.records.len()).map(Offset);
        self.store.placed(append.first, offsets);
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.views
            .values()
            .filter_map(|view| view.queue.next_due())
            .min()
    }

    /// Whether no record of a view waits for another one to be done with.
    pub(crate) fn delivers_in_any_order(&self, name: &SubscriptionName) -> bool {
        let view = self.names.get(name).and_then(|id| self.views.get(id));
        view.is_some_and(|view| {
            let settings = view.queue.settings();
            !settings.ordered && !settings.messages().requires_session
        })
    }

    pub fn tick(&mut self, now: Now, out: &mut Outcome) {
        let due = |view: &View| view.queue.next_due().is_some_and(|at| at <= now.monotone);
        let views: Vec<_> = self
            .views
            .iter()
            .filter(|(_, view)| due(view))
            .map(|(id, _)| *id)
            .collect();
        for id in views {
            self.with_view(id, out, |queue, effects| queue.tick(now, effects));
        }
    }

    /// A receiver that waited went away.
    pub fn forget(&mut self, ticket: Ticket) {
        self.views
            .values_mut()
            .for_each(|view| view.queue.forget(ticket));
    }

    /// Dead letters whose copies are not confirmed.
    pub fn burials(&self) -> Vec<Burial> {
        let of_view = |(id, view): (&u64, &View)| {
            let all = || {
                view.queue
                    .durable()
                    .flat_map(|durable| durable.dying.values())
            };
            // One that goes on to a topic may find none, and says nothing of where its letter lies then.
            let letter_from = |obituary: &crate::queue::Obituary| match obituary.to {
                Some(_) => Offset(0),
                None => obituary.since,
            };
            let look_from = all().map(letter_from).min().unwrap_or_default();
            let of_log = |(index, durable): (usize, &crate::queue::Durable)| {
                let partition = index as u32;
                let log = view.topic.set.log(view.queue.log_index(partition));
                let burial = |(offset, obituary): (&Offset, &crate::queue::Obituary)| Burial {
                    name: view.name.clone(),
                    view: *id,
                    partition,
                    rule: view.queue.rule_of((partition, *offset)).cloned(),
                    log,
                    offset: *offset,
                    moved_to: obituary.moved_to,
                    attempts: obituary.attempts,
                    reason: obituary.reason.clone(),
                    detail: obituary.detail.clone(),
                    note: obituary.note.clone(),
                    to: obituary.to.clone(),
                    since: obituary.since,
                    look_from,
                    revived_upto: view.queue.revived_upto(),
                };
                let dying = durable.dying.iter().take(BURIALS_OF_VIEW);
                dying.map(burial).collect::<Vec<_>>()
            };
            view.queue
                .durable()
                .enumerate()
                .flat_map(of_log)
                .collect::<Vec<_>>()
        };
        self.views.iter().flat_map(of_view).collect()
    }

    /// The copy lies at `at`, or there was nothing left to copy.
    pub fn buried(&mut self, burial: &Burial, at: Option<Offset>, out: &mut Outcome) {
        self.with_view(burial.view, out, |queue, effects| {
            let to = burial.to.clone();
            queue.buried(burial.partition, burial.offset, at, to, effects);
        });
    }

    fn create_topic(&mut self, name: EntityName, topic: Topic, out: &mut Outcome) -> Result<Reply> {
        if let Some(exists) = self.catalogue.topics.get(&name) {
            // The engine gave the same set, so this is the same topic.
            return Ok(Reply::Topic(exists.clone(), Made::Before));
        }
        self.push(
            Decision::TopicCreated {
                name,
                topic: topic.clone(),
            },
            out,
        );
        Ok(Reply::Topic(topic, Made::Now))
    }

    fn delete_topic(&mut self, name: EntityName, out: &mut Outcome) -> Result<Reply> {
        if !self.catalogue.topics.contains_key(&name) {
            return Err(Error::not_found("topic", name.as_str()));
        }
        self.push(Decision::TopicDeleted { name }, out);
        Ok(Reply::Done)
    }

    fn create_subscription(
        &mut self,
        name: SubscriptionName,
        topic: Topic,
        starts: &[Offset],
        settings: Settings,
        out: &mut Outcome,
    ) -> Result<Reply> {
        settings.validate()?;
        if let Some(exists) = self.names.get(&name).and_then(|id| self.views.get(id)) {
            if exists.topic == topic {
                let now = exists.queue.settings();
                if now.is_as(&settings) {
                    return Ok(Reply::Subscription(Made::Before));
                }
                if let Some(secrets) = now.changed_secrets(&settings) {
                    let secrets = secrets.to_vec();
                    self.push(Decision::SecretsSet { name, secrets }, out);
                    return Ok(Reply::Subscription(Made::Before));
                }
            }
            if !name.is_own() || exists.topic == topic {
                let message =
                    format!("subscription {name} exists with other settings; delete it first");
                return Err(Error::new(Kind::Exists, message));
            }
            // Over a log that is gone, of an entity that was made anew.
            self.end_subscription(name.clone(), out);
        }
        let of_topic = self
            .names
            .keys()
            .filter(|other| other.topic == name.topic && !other.is_own())
            .count();
        if of_topic >= mente_engine::limits::SUBSCRIPTIONS_PER_TOPIC {
            return Err(Error::new(
                Kind::Throttled,
                format!(
                    "topic {} has {of_topic} subscriptions, the most it may",
                    name.topic
                ),
            ));
        }
        let view = self.seq + 1;
        let starts = starts.iter().map(|offset| offset.0).collect();
        let subscription = Subscription {
            view,
            topic,
            starts,
            settings,
            began: Vec::new(),
        };
        self.push(Decision::SubscriptionCreated { name, subscription }, out);
        Ok(Reply::Subscription(Made::Now))
    }

    fn change_settings(
        &mut self,
        name: SubscriptionName,
        mut settings: Settings,
        from: Offset,
        out: &mut Outcome,
    ) -> Result<Reply> {
        let view = self.names.get(&name).and_then(|id| self.views.get(id));
        let view = view.ok_or_else(|| Error::not_found("subscription", &name.to_string()))?;
        settings.place(from.max(view.queue.unlooked_from()), view.topic.partitions)?;
        settings.validate()?;
        let before = view.queue.settings();
        if before.messages().requires_session != settings.messages().requires_session {
            let message = "whether an entity requires sessions is fixed when it is made";
            return Err(Error::invalid(message));
        }
        if *before != settings {
            let changed = name.clone();
            self.push(Decision::SettingsChanged { name, settings }, out);
            self.with_queue(&changed, out, |queue, effects| queue.forward_ready(effects))?;
        }
        Ok(Reply::Done)
    }

    fn delete_subscription(&mut self, name: SubscriptionName, out: &mut Outcome) -> Result<Reply> {
        if !self.names.contains_key(&name) {
            return Err(Error::not_found("subscription", &name.to_string()));
        }
        self.end_subscription(name, out);
        Ok(Reply::Done)
    }

    fn drop_subscriptions(&mut self, topic: &EntityName, out: &mut Outcome) -> Result<Reply> {
        let names: Vec<_> = self
            .names
            .keys()
            .filter(|name| name.topic == *topic)
            .cloned()
            .collect();
        for name in names {
            self.end_subscription(name, out);
        }
        Ok(Reply::Done)
    }

    /// Who waits for its records is told, or they would wait for ever.
    fn end_subscription(&mut self, name: SubscriptionName, out: &mut Outcome) {
        let view = self.names.get(&name).and_then(|id| self.views.get(id));
        let waiting: Vec<_> = view.map_or(Vec::new(), |view| view.queue.waiting().collect());
        let gone = || Err(Error::not_found("subscription", &name.to_string()));
        out.replies
            .extend(waiting.into_iter().map(|ticket| (ticket, gone())));
        self.push(Decision::SubscriptionDeleted { name }, out);
    }

    /// Decides an append of which `facts` say what the sealed part of the store does.
    pub fn append(
        &mut self,
        now: Now,
        append: &Append,
        facts: &Facts,
        out: &mut Outcome,
    ) -> Result<Reply> {
        let decided = self.store.decide(append, facts, now.wall)?;
        Ok(self.take_append(decided, out))
    }

    /// Takes in an append that was decided on this very state.
    pub(crate) fn take_append(&mut self, decided: Decided, out: &mut Outcome) -> Reply {
        let first = self.store.next_position();
        let (appended, records) = self.store.take_decided(decided);
        if !records.is_empty() {
            out.appends.push(StoreAppend { first, records });
        }
        Reply::Appended(appended)
    }

    fn subscriptions(
        &mut self,
        now: Now,
        topic: Option<&EntityName>,
        bounds: &[(LogId, Bounds)],
    ) -> Reply {
        let wanted = self
            .views
            .iter_mut()
            .filter(|(_, view)| topic.is_none_or(|t| view.name.topic == *t));
        let info = |(id, view): (&u64, &mut View)| SubscriptionInfo {
            idle_ms: view.idle(now).as_millis() as u64,
            name: view.name.clone(),
            settings: view.queue.settings().clone(),
            counts: view.queue.counts(),
            exact: !bounds.is_empty() && bounds.iter().all(|bounds| has_counted(view, bounds)),
            view: *id,
            revived_upto: view.queue.revived_upto(),
        };
        Reply::Subscriptions(wanted.map(info).collect())
    }

    fn push(&mut self, decision: Decision, out: &mut Outcome) {
        self.apply(self.seq + 1, &decision)
            .expect("the owner numbers its decisions densely");
        out.decisions.push(decision);
    }

    fn with_queue<T>(
        &mut self,
        name: &SubscriptionName,
        out: &mut Outcome,
        act: impl FnOnce(&mut Queue, &mut Effects) -> T,
    ) -> Result<T> {
        let id = self.names.get(name).copied();
        let id = id.ok_or_else(|| Error::not_found("subscription", &name.to_string()))?;
        let done = self.with_view(id, out, act);
        done.ok_or_else(|| Error::not_found("subscription", &name.to_string()))
    }

    /// Lets a queue act and takes up its effects: it has applied its verdicts itself.
    fn with_view<T>(
        &mut self,
        id: u64,
        out: &mut Outcome,
        act: impl FnOnce(&mut Queue, &mut Effects) -> T,
    ) -> Option<T> {
        let view = self.views.get_mut(&id)?;
        let mut effects = Effects::default();
        let done = act(&mut view.queue, &mut effects);
        for verdict in effects.verdicts {
            self.seq += 1;
            out.decisions.push(Decision::View { view: id, verdict });
        }
        for (ticket, deliveries) in effects.served {
            out.replies
                .push((ticket, Ok(Reply::Deliveries(deliveries))));
        }
        for (ticket, accepted) in effects.accepted {
            out.replies.push((ticket, Ok(Reply::Session(accepted))));
        }
        let lost = effects.lost.into_iter();
        out.replies.extend(lost.map(|ticket| {
            let message = "the lock on the session is lost: accept the session again";
            (ticket, Err(Error::new(Kind::LockLost, message)))
        }));
        Some(done)
    }
}

fn has_counted(view: &View, (log, bounds): &(LogId, Bounds)) -> bool {
    let counted = view.queue.counted(log.index);
    view.topic.set == log.set && counted.is_some_and(|counted| counted >= bounds.end)
}

#[cfg(test)]
mod tests;
