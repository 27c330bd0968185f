//! What a file states beside what is there, looked at as a whole before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use mente_broker::entity::{
    Entity, EntityKind, QueueProperties, Receiving, Sending, SubscriptionProperties,
    TopicProperties,
};
use mente_broker::rule::{Rule, same_name};
use mente_broker::{
    Broker, EntityName, Error, Kind, Principal, Result, SubscriptionEntity, SubscriptionName,
};
use mente_engine::limits;
use mente_wire::servicebus::atom::Description;
use mente_wire::servicebus::config::{
    Config, Place, Stated, StatedRule, StatedSubscription, StatedTopic, told, told_rule,
};
use serde_json::{Map, Value};

use super::{Change, Field, Sign};
use crate::described::{queue, rule, subscription, topic};

/// The changes in the order of the file, each with what is to be done for it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<(Change, Option<Deed>)>,
    /// Topics that were there, queues among them.
    pub(super) there: BTreeSet<EntityName>,
}

#[derive(Debug)]
pub(super) enum Deed {
    MakeTopic(String, TopicProperties),
    ChangeTopic(EntityName, TopicProperties),
    MakeQueue(String, QueueProperties),
    ChangeQueue(EntityName, QueueProperties),
    /// With its first rule.
    MakeSubscription(SubscriptionName, String, SubscriptionProperties, Box<Rule>),
    ChangeSubscription(SubscriptionName, SubscriptionProperties),
    AddRule(SubscriptionName, Rule),
    ChangeRule(SubscriptionName, Rule),
    RemoveRule(SubscriptionName, String),
}

/// What is there, and what of the file has been looked at.
struct Looking<'a> {
    broker: &'a Broker,
    who: &'a Principal,
    now_ms: i64,
    /// Topics with their numbers of partitions, queues among them.
    topics: BTreeMap<EntityName, u32>,
    entities: BTreeMap<EntityName, Entity>,
    /// Those of the file.
    stated: BTreeSet<EntityName>,
    steps: Vec<(Change, Option<Deed>)>,
}

impl Plan {
    pub(super) async fn of(broker: &Broker, who: &Principal, config: &Config<'_>) -> Result<Self> {
        let entities = broker.entities(who).await?.into_iter();
        let catalogue = broker.catalogue(who)?;
        let topics = catalogue.topics.iter();
        let mut looking = Looking {
            broker,
            who,
            now_ms: broker.now().wall.0,
            topics: topics
                .map(|(name, topic)| (name.clone(), topic.partitions))
                .collect(),
            entities: entities
                .map(|(name, entity)| (name, (*entity).clone()))
                .collect(),
            stated: BTreeSet::new(),
            steps: Vec::new(),
        };
        let of_topics = config.topics.iter().map(|topic| &topic.stated);
        for stated in config.queues.iter().chain(of_topics) {
            looking.note(stated)?;
        }
        for queue in &config.queues {
            looking.queue(queue)?;
        }
        for topic in &config.topics {
            looking.topic(topic).await?;
        }
        Ok(Self {
            steps: looking.steps,
            there: looking.topics.into_keys().collect(),
        })
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.steps.into_iter().map(|(change, _)| change).collect()
    }

    /// Refuses what is there and would have to be made anew.
    pub(super) fn check_fixed(&self) -> Result<()> {
        let mut all = self.steps.iter().flat_map(|(change, _)| {
            let anew = change
                .fields
                .iter()
                .filter(|field| field.anew && change.sign == Sign::Changed);
            anew.map(move |field| (change, field))
        });
        let Some((change, field)) = all.next() else {
            return Ok(());
        };
        let more = match all.count() {
            0 => String::new(),
            more => format!(" (and {more} more like it: see mente topology diff)"),
        };
        let shown = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "none".to_owned(), Value::to_string)
        };
        let message = format!(
            "nothing was done: {} of {} {} is fixed when it is made, and is {} there and {} in the file{more}; delete that {} first, with what it holds, or let the file say what is there",
            field.name,
            change.kind,
            change.name,
            shown(&field.before),
            shown(&field.after),
            change.kind
        );
        Err(Error::new(Kind::Conflict, message))
    }
}

fn refused<T>(place: &Place<'_>, result: Result<T>) -> Result<T> {
    result.map_err(|error| match error.kind {
        Kind::Invalid | Kind::Unsupported | Kind::TooLarge => {
            Error::new(error.kind, place.refused(&error.message).0)
        }
        _ => error,
    })
}

fn wrong<T>(place: &Place<'_>, what: &str) -> Result<T> {
    Err(Error::invalid(place.wrong(what).0))
}

/// What the file says over what is there.
fn over<D: Description>(stated: &Stated<'_>, mut known: D) -> Result<D> {
    let put = stated.put_over(&mut known);
    put.map_err(|wrong| Error::invalid(wrong.0))?;
    Ok(known)
}

impl Looking<'_> {
    /// A name of a queue or topic that the file has once.
    fn note(&mut self, stated: &Stated<'_>) -> Result<()> {
        let place = &stated.place;
        let name = refused(place, EntityName::of_path(&stated.name))?;
        let fits = self
            .broker
            .check_fits(&SubscriptionName::queue(name.clone()));
        refused(place, fits)?;
        if self
            .topics
            .get(&name)
            .is_some_and(|partitions| *partitions > 1)
        {
            return wrong(
                place,
                &format!(
                    "is the topic {name} with several partitions, which was made over HTTP: a queue, or a topic of messages, has one"
                ),
            );
        }
        if !self.stated.insert(name) {
            return wrong(
                place,
                &format!(
                    "has the name {:?}, as another queue or topic of the file has: names are the same in any case",
                    stated.name
                ),
            );
        }
        Ok(())
    }

    fn queue(&mut self, stated: &Stated<'_>) -> Result<()> {
        let name = EntityName::of_path(&stated.name)?;
        let known = match self.entities.get(&name).map(|entity| &entity.kind) {
            Some(EntityKind::Topic(_)) => {
                return wrong(
                    &stated.place,
                    "is a topic on this server: delete that first, or declare it among the Topics",
                );
            }
            Some(EntityKind::Queue(known)) => Some(known.clone()),
            None => None,
        };
        let before = known.clone().unwrap_or_default();
        let properties = queue::properties(over(stated, queue::declared(None, &before))?);
        let properties = refused(&stated.place, properties)?;
        refused(&stated.place, properties.validate())?;
        self.check_forwards(&stated.place, &properties.receiving)?;
        let fields = Field::between(
            &told(queue::declared(None, &before)),
            &told(queue::declared(None, &properties)),
        );
        let deed = |is_new: bool| match is_new {
            true => Deed::MakeQueue(stated.name.clone(), properties),
            false => Deed::ChangeQueue(name, properties),
        };
        self.entity("queue", stated.name.clone(), known.is_none(), fields, deed);
        Ok(())
    }

    async fn topic(&mut self, of: &StatedTopic<'_>) -> Result<()> {
        let stated = &of.stated;
        let name = EntityName::of_path(&stated.name)?;
        let known = match self.entities.get(&name).map(|entity| &entity.kind) {
            Some(EntityKind::Queue(_)) => {
                return wrong(
                    &stated.place,
                    "is a queue on this server: delete that first, or declare it among the Queues",
                );
            }
            Some(EntityKind::Topic(known)) => Some(known.clone()),
            None => None,
        };
        let before = known.clone().unwrap_or_default();
        let properties = topic::properties(over(stated, topic::declared(&before))?);
        let properties = refused(&stated.place, properties)?;
        refused(&stated.place, properties.sending.validate())?;
        let fields = Field::between(
            &told(topic::declared(&before)),
            &told(topic::declared(&properties)),
        );
        let there = match self.topics.contains_key(&name) {
            true => self.broker.message_subscriptions(self.who, &name).await?,
            false => Vec::new(),
        };
        let (topic, sending) = (name.clone(), properties.sending.clone());
        let deed = |is_new: bool| match is_new {
            true => Deed::MakeTopic(stated.name.clone(), properties),
            false => Deed::ChangeTopic(name, properties),
        };
        self.entity("topic", stated.name.clone(), known.is_none(), fields, deed);
        let mut names: BTreeSet<_> = there.iter().map(|(name, _)| name.clone()).collect();
        let mut stated_names = BTreeSet::new();
        for subscription in &of.subscriptions {
            let place = &subscription.stated.place;
            let name = self.subscription_name(&topic, &subscription.stated)?;
            if !stated_names.insert(name.clone()) {
                return wrong(
                    place,
                    "has the name of another subscription of its topic: names are the same in any case",
                );
            }
            names.insert(name.clone());
            if names.len() > limits::SUBSCRIPTIONS_PER_TOPIC {
                return wrong(
                    place,
                    &format!(
                        "is one too many: a topic has {} subscriptions at most",
                        limits::SUBSCRIPTIONS_PER_TOPIC
                    ),
                );
            }
            let known = there.iter().find(|(known, _)| *known == name);
            let known = known.map(|(_, subscription)| subscription);
            let topic = (&*of.stated.name, &sending);
            self.subscription(subscription, topic, name, known).await?;
        }
        Ok(())
    }

    fn subscription_name(
        &self,
        topic: &EntityName,
        stated: &Stated<'_>,
    ) -> Result<SubscriptionName> {
        if stated.name.contains('/') {
            return wrong(
                &stated.place,
                &format!(
                    "has a slash in its name {:?}, which names of subscriptions have not",
                    stated.name
                ),
            );
        }
        let named = EntityName::of_path(&stated.name).and_then(|name| {
            name.check_declared()?;
            let name = SubscriptionName {
                topic: topic.clone(),
                name,
            };
            self.broker.check_fits(&name)?;
            Ok(name)
        });
        refused(&stated.place, named)
    }

    async fn subscription(
        &mut self,
        of: &StatedSubscription<'_>,
        (topic, sending): (&str, &Sending),
        name: SubscriptionName,
        known: Option<&SubscriptionEntity>,
    ) -> Result<()> {
        let stated = &of.stated;
        let title = format!("{topic}/{}", stated.name);
        let before = known
            .map(|known| known.properties.clone())
            .unwrap_or_default();
        let properties =
            subscription::properties(over(stated, subscription::declared(None, &before))?);
        let properties = refused(&stated.place, properties)?;
        refused(&stated.place, properties.validate())?;
        self.check_forwards(&stated.place, &properties.receiving)?;
        let fields = Field::between(
            &told(subscription::declared(None, &before)),
            &told(subscription::declared(None, &properties)),
        );
        let mut rules = self.stated_rules(&of.rules)?;
        let mut there = Vec::new();
        if known.is_some() {
            there = match self.broker.rules(self.who, &name).await {
                Err(error) if error.kind == Kind::Invalid => {
                    return wrong(
                        &stated.place,
                        "was made over HTTP, and is changed there: give the one of the file another name",
                    );
                }
                there => there?,
            };
            for rule in &mut rules {
                let known = there
                    .iter()
                    .find(|known| same_name(&known.name, &rule.name));
                known.into_iter().for_each(|known| keep(known, rule));
            }
        }
        if !rules.is_empty() {
            let entity = SubscriptionEntity {
                title: stated.name.clone(),
                properties: properties.clone(),
                created_ms: self.now_ms,
                updated_ms: self.now_ms,
            };
            let checked = self.broker.check_rules(&name, entity, sending, &rules);
            refused(&stated.place, checked.await)?;
        }
        if known.is_some() {
            let deed = |_| Deed::ChangeSubscription(name.clone(), properties);
            self.entity("subscription", title.clone(), false, fields, deed);
            if !rules.is_empty() {
                self.rules(&title, &name, &there, rules);
            }
            return Ok(());
        }
        let mut rules = rules.into_iter();
        let default = Rule::all(self.now_ms);
        let first = rules.next();
        let shown = first.is_some();
        let first = first.unwrap_or(default);
        let first_change = shown.then(|| new_rule(&title, &first));
        let deed = |_| {
            Deed::MakeSubscription(
                name.clone(),
                stated.name.clone(),
                properties,
                Box::new(first),
            )
        };
        self.entity("subscription", title.clone(), true, fields, deed);
        self.steps.extend(first_change.map(|change| (change, None)));
        for rule in rules {
            self.steps.push((
                new_rule(&title, &rule),
                Some(Deed::AddRule(name.clone(), rule)),
            ));
        }
        Ok(())
    }

    fn stated_rules(&self, stated: &[StatedRule<'_>]) -> Result<Vec<Rule>> {
        let mut rules: Vec<Rule> = Vec::with_capacity(stated.len());
        for StatedRule {
            name,
            place,
            description,
        } in stated
        {
            let rule = rule::rule(description.clone(), name.clone(), self.now_ms);
            let rule = refused(place, rule)?;
            refused(place, rule.validate())?;
            if rules.iter().any(|known| same_name(&known.name, name)) {
                return wrong(
                    place,
                    "has the name of another rule of its subscription: names are the same in any case",
                );
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    /// Exactly those of the file; new ones come before others go, so that nothing falls between them.
    fn rules(&mut self, title: &str, name: &SubscriptionName, there: &[Rule], stated: Vec<Rule>) {
        let is_stated = |rule: &&Rule| !stated.iter().any(|s| same_name(&s.name, &rule.name));
        let removed: Vec<_> = there.iter().filter(is_stated).collect();
        for rule in stated {
            let Some(before) = there
                .iter()
                .find(|known| same_name(&known.name, &rule.name))
            else {
                self.steps.push((
                    new_rule(title, &rule),
                    Some(Deed::AddRule(name.clone(), rule)),
                ));
                continue;
            };
            let fields = Field::between(&told_of(before), &told_of(&rule));
            let path = format!("{title}/{}", rule.name);
            self.entity("rule", path, false, fields, |_| {
                Deed::ChangeRule(name.clone(), rule)
            });
        }
        for rule in removed {
            let change = Change {
                sign: Sign::Removed,
                kind: "rule",
                name: format!("{title}/{}", rule.name),
                fields: Field::between(&told_of(rule), &Map::new()),
            };
            let deed = Deed::RemoveRule(name.clone(), rule.name.clone());
            self.steps.push((change, Some(deed)));
        }
    }

    fn check_forwards(&self, place: &Place<'_>, receiving: &Receiving) -> Result<()> {
        for target in [&receiving.forward_to, &receiving.forward_dead_letters_to]
            .into_iter()
            .flatten()
        {
            if !self.stated.contains(target) && !self.topics.contains_key(target) {
                return wrong(
                    place,
                    &format!(
                        "forwards to {}, which is neither in the file nor on the server: declare it too",
                        target.as_path()
                    ),
                );
            }
        }
        Ok(())
    }

    /// Notes the change of one that is there, or its making.
    fn entity(
        &mut self,
        kind: &'static str,
        name: String,
        is_new: bool,
        fields: Vec<Field>,
        deed: impl FnOnce(bool) -> Deed,
    ) {
        let sign = match (is_new, fields.is_empty()) {
            (true, _) => Sign::Made,
            (false, true) => Sign::Same,
            (false, false) => Sign::Changed,
        };
        let deed = (sign != Sign::Same).then(|| deed(is_new));
        let change = Change {
            sign,
            kind,
            name,
            fields,
        };
        self.steps.push((change, deed));
    }
}

/// A rule that is there is itself where the file says the same; what differs has its name and age.
fn keep(known: &Rule, stated: &mut Rule) {
    match told_of(known) == told_of(stated) {
        true => known.clone_into(stated),
        false => (stated.name, stated.created_ms) = (known.name.clone(), known.created_ms),
    }
}

fn new_rule(title: &str, rule: &Rule) -> Change {
    Change {
        sign: Sign::Made,
        kind: "rule",
        name: format!("{title}/{}", rule.name),
        fields: Field::between(&Map::new(), &told_of(rule)),
    }
}

/// As the file would say it: numbers that are the same in it are the same.
pub(super) fn told_of(rule: &Rule) -> Map<String, Value> {
    told_rule(rule::description(rule))
}
