//! Queues, topics of messages and their subscriptions: made, changed, looked up, deleted.

use std::sync::Arc;

use mente_engine::{LogConfig, Offset, SetId};
use serde::{Deserialize, Serialize};

use super::Broker;
use super::read::Start;
use super::subscriptions::{COUNT_PAUSE, COUNT_WAIT, subscriptions};
use crate::access::{Action, Principal, authorize};
use crate::entity::{
    Entity, EntityKind, QueueProperties, Receiving, SasRule, Sending, SubscriptionEntity,
    SubscriptionProperties, TopicProperties,
};
use crate::error::{Error, Kind, Result};
use crate::journal::{Definition, Topic};
use crate::name::{EntityName, SubscriptionName};
use crate::queue::{Counts, Messages, PlacedRule, Settings, UNPLACED};
use crate::rule::{Rule, same_name};
use crate::shard::{Command, Made, SubscriptionInfo};

/// How many messages of a view stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    /// Those that are locked or wait for another try are among them, those that are deferred too.
    pub active: u64,
    pub dead_letters: u64,
    /// Of a queue; those of a topic are not yet its subscriptions'.
    pub scheduled: u64,
    /// On their way to where they are forwarded to.
    pub transfer: u64,
    pub transfer_dead_letters: u64,
}

impl Broker {
    /// What of this name messages are sent to. Where missing topics are made on first use, a name that nothing
    /// has is made a queue, and a topic that was made elsewhere gets the view of a queue.
    pub async fn entity(&self, who: &Principal, name: &EntityName) -> Result<Option<Arc<Entity>>> {
        let topic = self.find_topic(name).await?;
        if let Some(entity) = self.catalogue.entity(name)?.filter(|_| topic.is_some()) {
            return Ok(Some(entity));
        }
        let has_one_log = topic.as_ref().is_none_or(|topic| topic.partitions == 1);
        if self.options.create_topics && has_one_log {
            let title = name.as_path();
            let made = self.create_queue(who, &title, QueueProperties::default());
            return match made.await {
                // By somebody else, just now.
                Err(error) if error.kind == Kind::Exists => self.catalogue.entity(name),
                made => made.map(|made| Some(Arc::new(made))),
            };
        }
        Ok(topic.map(|_| {
            Arc::new(Entity {
                title: name.as_path(),
                kind: EntityKind::Topic(TopicProperties::default()),
                created_ms: 0,
                updated_ms: 0,
            })
        }))
    }

    /// The keys of a queue or a topic, for who lets their holders in; none of what is not there.
    pub fn sas_rules(&self, name: &EntityName) -> Result<Vec<SasRule>> {
        let entity = self.catalogue.entity(name)?;
        Ok(entity.map_or_else(Vec::new, |entity| entity.sending().authorization.clone()))
    }

    /// Whether messages may be sent to something of this name, or it would be made for who does.
    pub async fn has_entity(&self, name: &EntityName) -> Result<bool> {
        Ok(self.options.create_topics || self.find_topic(name).await?.is_some())
    }

    /// An entity that is there: nothing is made for whoever asks.
    pub async fn existing_entity(&self, who: &Principal, name: &EntityName) -> Result<Arc<Entity>> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let topic = self.find_topic(name).await?;
        let entity = self.catalogue.entity(name)?.filter(|_| topic.is_some());
        entity.ok_or_else(|| Error::not_found("queue or topic", &name.as_path()))
    }

    /// Those that are there, in the order of their names.
    pub async fn entities(&self, who: &Principal) -> Result<Vec<(EntityName, Arc<Entity>)>> {
        authorize(self.options.access, who, Action::Manage, &"the catalogue")?;
        self.catalogue.get()?.entities()
    }

    /// Makes a queue, durable on return; `Exists` if there is one, or a topic of messages, of the name.
    pub async fn create_queue(
        &self,
        who: &Principal,
        title: &str,
        properties: QueueProperties,
    ) -> Result<Entity> {
        let name = EntityName::of_path(title)?;
        properties.validate()?;
        let (topic, made) = self.new_entity(who, &name, &properties.receiving).await?;
        let view = SubscriptionName::queue(name.clone());
        let mut settings = view_settings(&properties.receiving, &properties.sending, None);
        if let Some(messages) = &mut settings.messages {
            // A topic that was there before may have readers of its own.
            messages.trims = made == Made::Now;
        }
        self.make_view_with_letters(&view, topic, Offset(0), settings)
            .await?;
        let entity = self.made(title, EntityKind::Queue(properties));
        self.define_entity(who, &name, &entity).await?;
        Ok(entity)
    }

    /// Changes what may change; what is fixed at birth must be as it is.
    pub async fn update_queue(
        &self,
        who: &Principal,
        name: &EntityName,
        properties: QueueProperties,
    ) -> Result<Entity> {
        let before = self.existing_entity(who, name).await?;
        properties.validate()?;
        let Some(queue) = before.queue() else {
            return Err(Error::not_found("queue", &name.as_path()));
        };
        check_fixed(&queue.sending, &properties.sending)?;
        self.check_forwards(&properties.receiving).await?;
        let settings = view_settings(&properties.receiving, &properties.sending, None);
        let view = SubscriptionName::queue(name.clone());
        self.change_view(&view, settings).await?;
        let entity = self.changed(&before, EntityKind::Queue(properties));
        self.define_entity(who, name, &entity).await?;
        Ok(entity)
    }

    /// The same of a topic of messages: what nobody subscribes to is kept as any topic keeps it.
    pub async fn create_message_topic(
        &self,
        who: &Principal,
        title: &str,
        properties: TopicProperties,
    ) -> Result<Entity> {
        let name = EntityName::of_path(title)?;
        properties.sending.validate()?;
        self.new_entity(who, &name, &Receiving::default()).await?;
        let entity = self.made(title, EntityKind::Topic(properties));
        self.define_entity(who, &name, &entity).await?;
        Ok(entity)
    }

    pub async fn update_message_topic(
        &self,
        who: &Principal,
        name: &EntityName,
        properties: TopicProperties,
    ) -> Result<Entity> {
        let before = self.existing_entity(who, name).await?;
        properties.sending.validate()?;
        if before.queue().is_some() {
            return Err(Error::not_found("topic", &name.as_path()));
        }
        check_fixed(before.sending(), &properties.sending)?;
        let _changing = self.holds.changing_rules().await;
        for view in self.views(name).await? {
            // Those that were made over HTTP are what they are.
            if let Some(subscription) = view.settings.messages().described.clone() {
                let settings = subscription_settings(subscription, &properties.sending);
                self.change_view(&view.name, settings).await?;
            }
        }
        let entity = self.changed(&before, EntityKind::Topic(properties));
        self.define_entity(who, name, &entity).await?;
        Ok(entity)
    }

    /// Deletes a queue or a topic of messages with all that it holds.
    pub async fn delete_entity(&self, who: &Principal, name: &EntityName) -> Result<()> {
        match self.delete_topic(who, name).await {
            // Broken off before its end was known.
            Err(error)
                if error.kind == Kind::NotFound && self.catalogue.entity(name)?.is_some() =>
            {
                self.undefine(who, Definition::Entity, name).await
            }
            deleted => deleted,
        }
    }

    /// A subscription as messages have it; `None` if it is not there.
    pub async fn message_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionEntity>> {
        let all = self.message_subscriptions(who, &name.topic).await?;
        let found = all.into_iter().find(|(view, _)| view == name);
        Ok(found.map(|(_, subscription)| subscription))
    }

    pub async fn create_message_subscription(
        &self,
        who: &Principal,
        topic: &EntityName,
        title: &str,
        properties: SubscriptionProperties,
        first: Rule,
    ) -> Result<SubscriptionEntity> {
        authorize(self.options.access, who, Action::Manage, topic)?;
        properties.validate()?;
        first.validate()?;
        self.check_forwards(&properties.receiving).await?;
        let of = self.existing_entity(who, topic).await?;
        if of.queue().is_some() {
            return Err(Error::not_found("topic", &topic.as_path()));
        }
        let name = SubscriptionName {
            topic: topic.clone(),
            name: EntityName::of_path(title)?,
        };
        name.name.check_declared()?;
        self.check_fits(&name)?;
        if self.view(&name).await?.is_some() {
            let message = format!("subscription {title} of {} exists", of.title);
            return Err(Error::new(Kind::Exists, message));
        }
        let now = self.now().wall.0;
        let subscription = SubscriptionEntity {
            title: title.to_owned(),
            properties,
            created_ms: now,
            updated_ms: now,
        };
        let source = self.topic(who, topic).await?;
        let start = self.locate(who, topic, 0, Start::Latest).await?;
        let mut settings = subscription_settings(subscription.clone(), of.sending());
        if let Some(messages) = &mut settings.messages {
            let (slot, until) = (None, None);
            messages.rules = Some(vec![PlacedRule {
                rule: first,
                slot,
                from: 0,
                until,
            }]);
        }
        self.make_view_with_letters(&name, source, start, settings)
            .await?;
        Ok(subscription)
    }

    pub async fn update_message_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        properties: SubscriptionProperties,
    ) -> Result<SubscriptionEntity> {
        authorize(self.options.access, who, Action::Manage, name)?;
        properties.validate()?;
        self.check_forwards(&properties.receiving).await?;
        let of = self.existing_entity(who, &name.topic).await?;
        // Rules that are changed meanwhile are not to be lost.
        let _changing = self.holds.changing_rules().await;
        let view = self.view(name).await?;
        let view = view.ok_or_else(|| Error::not_found("subscription", &name.to_string()))?;
        let Some(before) = view.settings.messages().described.clone() else {
            let message = format!("{name} was made over HTTP, and is changed there");
            return Err(Error::invalid(message));
        };
        let subscription = SubscriptionEntity {
            properties,
            updated_ms: self.now().wall.0,
            ..before
        };
        let settings = subscription_settings(subscription.clone(), of.sending());
        self.change_view(name, settings).await?;
        Ok(subscription)
    }

    /// The rules of a subscription, in the order in which they were made.
    pub async fn rules(&self, who: &Principal, name: &SubscriptionName) -> Result<Vec<Rule>> {
        authorize(self.options.access, who, Action::Listen, name)?;
        let placed = self.placed_rules(name).await?.1;
        let there = placed.into_iter().filter(|placed| placed.until.is_none());
        Ok(there.map(|placed| placed.rule).collect())
    }

    /// Adds a rule, which holds for what is enqueued from now on; `Exists` if there is one of the name.
    pub async fn add_rule(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        rule: Rule,
    ) -> Result<()> {
        self.change_rules(who, name, Some(rule), None).await
    }

    /// In place of the rule of that name, which must be there.
    pub async fn update_rule(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        rule: Rule,
    ) -> Result<()> {
        let old = rule.name.clone();
        self.change_rules(who, name, Some(rule), Some(&old)).await
    }

    pub async fn remove_rule(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        rule: &str,
    ) -> Result<()> {
        self.change_rules(who, name, None, Some(rule)).await
    }

    async fn change_rules(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        new: Option<Rule>,
        old: Option<&str>,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        new.as_ref().map_or(Ok(()), Rule::validate)?;
        // Two who change rules at one time do it one after the other.
        let _changing = self.holds.changing_rules().await;
        let (mut settings, mut placed) = self.placed_rules(name).await?;
        let is_there =
            |p: &PlacedRule, rule: &str| p.until.is_none() && same_name(&p.rule.name, rule);
        if let Some(old) = old {
            let there = placed.iter_mut().find(|placed| is_there(placed, old));
            let there = there.ok_or_else(|| Error::not_found("rule", old))?;
            there.until = Some(UNPLACED);
        }
        if let Some(rule) = new {
            if placed.iter().any(|placed| is_there(placed, &rule.name)) {
                let message = format!("rule {:?} of {name} exists", rule.name);
                return Err(Error::new(Kind::Exists, message));
            }
            placed.push(PlacedRule {
                rule,
                slot: None,
                from: UNPLACED,
                until: None,
            });
        }
        if let Some(messages) = &mut settings.messages {
            messages.rules = Some(placed);
        }
        self.change_view(name, settings).await
    }

    /// Refuses rules that a subscription, there or not yet, cannot come to have: more than one record of its journal
    /// holds, or more with actions than there are places for.
    pub async fn check_rules(
        &self,
        name: &SubscriptionName,
        subscription: SubscriptionEntity,
        of: &Sending,
        rules: &[Rule],
    ) -> Result<()> {
        let there = self
            .view(name)
            .await?
            .and_then(|view| view.settings.messages().rules.clone());
        let mut placed = there.unwrap_or_default();
        let is_kept = |p: &PlacedRule| p.until.is_some() || rules.contains(&p.rule);
        for old in placed.iter_mut().filter(|placed| !is_kept(placed)) {
            old.until = Some(0);
        }
        let there: Vec<_> = placed
            .iter()
            .filter(|p| p.until.is_none())
            .map(|p| p.rule.clone())
            .collect();
        let new = rules.iter().filter(|rule| !there.contains(rule));
        placed.extend(new.map(|rule| PlacedRule {
            rule: rule.clone(),
            slot: None,
            from: 0,
            until: None,
        }));
        let mut settings = subscription_settings(subscription, of);
        if let Some(messages) = &mut settings.messages {
            messages.rules = Some(placed);
        }
        let placed = settings.place(Offset(0), 1);
        // Later there is no more room than now.
        placed.map_err(|error| Error::invalid(error.message))?;
        settings.validate()
    }

    async fn placed_rules(&self, name: &SubscriptionName) -> Result<(Settings, Vec<PlacedRule>)> {
        let view = self.view(name).await?;
        let settings = view.map(|view| view.settings);
        let settings =
            settings.ok_or_else(|| Error::not_found("subscription", &name.to_string()))?;
        let Some(rules) = settings.messages().rules.clone() else {
            let message =
                format!("{name} was not made by a client of Service Bus and has no rules");
            return Err(Error::invalid(message));
        };
        Ok((settings, rules))
    }

    /// In the order of their names.
    pub async fn message_subscriptions(
        &self,
        who: &Principal,
        topic: &EntityName,
    ) -> Result<Vec<(SubscriptionName, SubscriptionEntity)>> {
        authorize(self.options.access, who, Action::Listen, topic)?;
        let views = self.views(topic).await?;
        let mut found: Vec<_> = views
            .into_iter()
            .filter(|info| !info.name.is_own())
            .map(|info| (info.name.clone(), described(info)))
            .collect();
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    pub async fn delete_message_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
    ) -> Result<()> {
        self.delete_subscription(who, name).await
    }

    /// Exact for all that was enqueued before the call, unless counting takes more than two seconds.
    pub async fn message_counts(
        &self,
        who: &Principal,
        view: &SubscriptionName,
    ) -> Result<MessageCounts> {
        authorize(self.options.access, who, Action::Manage, view)?;
        let counts = self.view_counts(view).await?;
        let counts = counts.ok_or_else(|| Error::not_found("entity", &view.to_string()))?;
        let letters = self.view_counts(&view.dead_letters()).await?;
        let beside = async |of: fn(EntityName) -> SubscriptionName| match view.is_queue() {
            true => self.view_counts(&of(view.topic.clone())).await,
            false => Ok(None),
        };
        let hold = beside(SubscriptionName::hold).await?;
        let not_handed_over = beside(SubscriptionName::transfer_letters).await?;
        let waiting =
            |counts: Counts| counts.ready + counts.leased + counts.delayed + counts.deferred;
        Ok(MessageCounts {
            active: waiting(counts),
            dead_letters: letters.map_or(0, waiting),
            scheduled: hold.map_or(0, waiting),
            transfer: 0,
            transfer_dead_letters: not_handed_over.map_or(0, waiting),
        })
    }

    /// `None`: there is no such view.
    pub(super) async fn view_counts(&self, view: &SubscriptionName) -> Result<Option<Counts>> {
        let Some(_) = self.view(view).await? else {
            return Ok(None);
        };
        let source = self.view_source(view).await?;
        let mut bounds = Vec::new();
        for index in 0..source.partitions {
            let log = source.set.log(index);
            bounds.push((log, self.engine.bounds(log).await?));
        }
        let latest = self.now().monotone + COUNT_WAIT;
        loop {
            let command = Command::ListSubscriptions {
                topic: Some(view.topic.clone()),
                bounds: bounds.clone(),
            };
            let found = subscriptions(self.ask(self.shard_of(&view.topic), command).await?)?;
            let Some(info) = found.into_iter().find(|info| info.name == *view) else {
                return Ok(None);
            };
            if info.exact || self.now().monotone >= latest {
                return Ok(Some(info.counts));
            }
            self.sleep(COUNT_PAUSE).await;
        }
    }

    pub(super) async fn views(&self, topic: &EntityName) -> Result<Vec<SubscriptionInfo>> {
        let command = Command::ListSubscriptions {
            topic: Some(topic.clone()),
            bounds: Vec::new(),
        };
        subscriptions(self.ask(self.shard_of(topic), command).await?)
    }

    async fn view(&self, name: &SubscriptionName) -> Result<Option<SubscriptionInfo>> {
        let views = self.views(&name.topic).await?;
        Ok(views.into_iter().find(|info| info.name == *name))
    }

    /// The topic of an entity that is not there yet.
    async fn new_entity(
        &self,
        who: &Principal,
        name: &EntityName,
        receiving: &Receiving,
    ) -> Result<(Topic, Made)> {
        authorize(self.options.access, who, Action::Manage, name)?;
        self.check_forwards(receiving).await?;
        let there = self.find_topic(name).await?;
        if there.is_some()
            && let Some(known) = self.catalogue.entity(name)?
        {
            let message = format!("{} exists", known.title);
            return Err(Error::new(Kind::Exists, message));
        }
        match there {
            Some(topic) if topic.partitions > 1 => {
                let message = format!(
                    "topic {name} is there with {} partitions: a queue, or a topic of messages, has one",
                    topic.partitions
                );
                Err(Error::new(Kind::Exists, message))
            }
            Some(topic) => Ok((topic, Made::Before)),
            None => self.create_topic(who, name, 1).await,
        }
    }

    async fn check_forwards(&self, receiving: &Receiving) -> Result<()> {
        let targets = [&receiving.forward_to, &receiving.forward_dead_letters_to];
        for target in targets.into_iter().flatten() {
            if self.find_topic(target).await?.is_none() {
                let message = format!(
                    "messages cannot be forwarded to {}, which is not there: create it first",
                    target.as_path()
                );
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }

    fn made(&self, title: &str, kind: EntityKind) -> Entity {
        let now = self.now().wall.0;
        Entity {
            title: title.to_owned(),
            kind,
            created_ms: now,
            updated_ms: now,
        }
    }

    fn changed(&self, before: &Entity, kind: EntityKind) -> Entity {
        Entity {
            title: before.title.clone(),
            kind,
            created_ms: before.created_ms,
            updated_ms: self.now().wall.0,
        }
    }

    async fn define_entity(
        &self,
        who: &Principal,
        name: &EntityName,
        entity: &Entity,
    ) -> Result<()> {
        let body = serde_json::to_value(entity)
            .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        self.define(who, Definition::Entity, name, body).await
    }

    /// A view and the view over what it gives up on.
    async fn make_view_with_letters(
        &self,
        name: &SubscriptionName,
        source: Topic,
        start: Offset,
        mut settings: Settings,
    ) -> Result<()> {
        settings.place(start, source.partitions)?;
        if let Some(messages) = &mut settings.messages {
            messages.copies_from = self.copies_from(messages).await?;
        }
        self.make_letters(name, settings.lock_duration_ms, settings.max_delivery_count)
            .await?;
        self.make_view(name, source, start, settings).await
    }

    /// The view over what a view gives up on; gives what it reads.
    pub(super) async fn make_letters(
        &self,
        name: &SubscriptionName,
        lock_duration_ms: u64,
        max_delivery_count: u32,
    ) -> Result<SetId> {
        let config = LogConfig {
            owned: self.peers.is_some(),
            ..LogConfig::default()
        };
        let set = name.dead_letter_set();
        let set = self.engine.create(&set, 1, config).await?;
        let settings = Settings {
            lock_duration_ms,
            max_delivery_count,
            messages: Some(Box::new(Messages {
                never_gives_up: true,
                trims: true,
                ..Messages::default()
            })),
            ..Settings::default()
        };
        let source = Topic { set, partitions: 1 };
        self.make_view(&name.dead_letters(), source, Offset(0), settings)
            .await?;
        Ok(set)
    }

    /// Where copies of what a new view forwards lie at the earliest.
    async fn copies_from(&self, messages: &Messages) -> Result<u64> {
        let mut least: Option<u64> = None;
        for target in targets(messages).into_iter().flatten() {
            if let Some(topic) = self.known_topic(target).await? {
                let end = self.engine.bounds(topic.set.log(0)).await?.end.0;
                least = Some(least.map_or(end, |least| least.min(end)));
            }
        }
        Ok(least.unwrap_or(0))
    }

    /// A view as it is wanted, whatever an attempt that was broken off has left.
    pub(super) async fn make_view(
        &self,
        name: &SubscriptionName,
        source: Topic,
        start: Offset,
        settings: Settings,
    ) -> Result<()> {
        let command = Command::CreateSubscription {
            name: name.clone(),
            starts: vec![start; source.partitions as usize],
            topic: source,
            settings: settings.clone(),
        };
        match self.ask(self.shard_of(&name.topic), command).await {
            Err(error) if error.kind == Kind::Exists => self.change_view(name, settings).await,
            made => made.map(drop),
        }
    }

    async fn change_view(&self, name: &SubscriptionName, mut settings: Settings) -> Result<()> {
        let Some(before) = self.view(name).await? else {
            return Err(Error::not_found("subscription", &name.to_string()));
        };
        let before = before.settings.messages();
        if let Some(messages) = &mut settings.messages {
            messages.trims = before.trims;
            messages
                .duplicate_windows
                .clone_from(&before.duplicate_windows);
            if messages.rules.is_none() {
                messages.rules.clone_from(&before.rules);
            }
            // What is on its way there is looked for from where it was.
            messages.copies_from = match targets(before) == targets(messages) {
                true => before.copies_from,
                false => self.copies_from(messages).await?,
            };
        }
        let source = self.view_source(name).await?;
        let command = Command::ChangeSettings {
            name: name.clone(),
            settings,
            from: self.engine.bounds(source.set.log(0)).await?.end,
        };
        self.ask(self.shard_of(&name.topic), command)
            .await
            .map(drop)
    }
}

/// Topics that records of a view go on to.
fn targets(messages: &Messages) -> [&Option<EntityName>; 2] {
    [&messages.forward_to, &messages.forward_dead_letters_to]
}

fn check_fixed(before: &Sending, after: &Sending) -> Result<()> {
    let fixed = |sending: &Sending| {
        let Sending {
            requires_duplicate_detection,
            enable_partitioning,
            ..
        } = sending;
        (*requires_duplicate_detection, *enable_partitioning)
    };
    if fixed(before) == fixed(after) {
        return Ok(());
    }
    let message =
        "RequiresDuplicateDetection and EnablePartitioning are fixed when an entity is made";
    Err(Error::invalid(message))
}

fn view_settings(
    receiving: &Receiving,
    sending: &Sending,
    described: Option<SubscriptionEntity>,
) -> Settings {
    let own_life = described
        .as_ref()
        .and_then(|s| s.properties.default_time_to_live_ms);
    let lives = [sending.default_time_to_live_ms, own_life];
    Settings {
        lock_duration_ms: receiving.lock_duration_ms,
        max_delivery_count: receiving.max_delivery_count,
        time_to_live_ms: lives.into_iter().flatten().min(),
        messages: Some(Box::new(Messages {
            requires_session: receiving.requires_session,
            drop_expired: !receiving.dead_letter_on_expiry,
            never_gives_up: false,
            duplicate_windows: Vec::new(),
            duplicate_window_ms: sending
                .requires_duplicate_detection
                .then_some(sending.duplicate_window_ms),
            forward_to: receiving.forward_to.clone(),
            forward_dead_letters_to: receiving.forward_dead_letters_to.clone(),
            hold_for: None,
            rules: None,
            tells_rule_errors: described
                .as_ref()
                .is_some_and(|s| s.properties.dead_letter_on_filter_error),
            trims: false,
            copies_from: 0,
            described,
        })),
        ..Settings::default()
    }
}

fn subscription_settings(subscription: SubscriptionEntity, of: &Sending) -> Settings {
    let receiving = subscription.properties.receiving.clone();
    view_settings(&receiving, of, Some(subscription))
}

/// As messages have it: one that was made elsewhere, too.
fn described(info: SubscriptionInfo) -> SubscriptionEntity {
    let settings = info.settings;
    let kept = settings.messages().described.clone();
    kept.unwrap_or_else(|| SubscriptionEntity {
        title: info.name.name.as_str().to_owned(),
        properties: SubscriptionProperties {
            receiving: Receiving {
                lock_duration_ms: settings.lock_duration_ms,
                max_delivery_count: settings.max_delivery_count,
                dead_letter_on_expiry: true,
                ..Receiving::default()
            },
            default_time_to_live_ms: settings.time_to_live_ms,
            ..SubscriptionProperties::default()
        },
        created_ms: 0,
        updated_ms: 0,
    })
}
