//! The file that would make what is there.

use mente_broker::entity::EntityKind;
use mente_broker::rule::{Parameters, Rule, RuleFilter, Value as RuleValue};
use mente_broker::{
    Broker, EntityName, Error, Kind, Principal, Result, SubscriptionEntity, SubscriptionName,
};
use mente_wire::servicebus::config::{CONFIG_BYTES, CONFIG_ITEMS, told};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::plan::told_of;
use crate::described::{queue, subscription, topic};

/// The name that the emulator's namespace always has.
const NAMESPACE: &str = "sbemulatorns";

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// To be applied to an empty server.
    pub config: Value,
    /// What is there and cannot be said in it.
    pub left_out: Vec<String>,
}

/// All queues and topics as they are, each at its own moment.
pub async fn export(broker: &Broker, who: &Principal) -> Result<Exported> {
    let mut left_out = Vec::new();
    let (mut queues, mut topics, mut count) = (Vec::new(), Vec::new(), 0);
    let entities = broker.entities(who).await?;
    for (name, entity) in &entities {
        count += 1;
        let title = &entity.title;
        if !entity.sending().authorization.is_empty() {
            left_out.push(format!(
                "the keys of {title}: secrets are made by its administrators"
            ));
        }
        match &entity.kind {
            EntityKind::Queue(properties) => {
                let properties = told(queue::declared(None, properties));
                queues.push(json!({ "Name": title, "Properties": properties }));
            }
            EntityKind::Topic(properties) => {
                let mut subscriptions = Vec::new();
                for (of, found) in broker.message_subscriptions(who, name).await? {
                    match subscription(broker, who, &of, &found).await? {
                        Ok((said, rules)) => {
                            count += 1 + rules;
                            subscriptions.push(said);
                        }
                        Err(why) => {
                            left_out.push(format!("subscription {title}/{}: {why}", found.title))
                        }
                    }
                }
                let properties = told(topic::declared(properties));
                topics.push(
                    json!({ "Name": title, "Properties": properties, "Subscriptions": subscriptions }),
                );
            }
        }
    }
    let is_said = |topic: &&EntityName| entities.iter().any(|(name, _)| name == *topic);
    let catalogue = broker.catalogue(who)?;
    let plain = catalogue.topics.keys().filter(|topic| !is_said(topic));
    left_out.extend(plain.map(|topic| {
        format!(
            "topic {topic}: it was made over HTTP, and the file has no partitions and no retention"
        )
    }));
    let config = json!({ "UserConfig": {
        "Namespaces": [{ "Name": NAMESPACE, "Queues": queues, "Topics": topics }],
        "Logging": { "Type": "Console" },
    } });
    let bytes = serde_json::to_string_pretty(&config).map_or(0, |text| text.len());
    if count > CONFIG_ITEMS || bytes > CONFIG_BYTES {
        let message = format!(
            "the file would have {count} entities and rules and {bytes} bytes, more than the {CONFIG_ITEMS} and {CONFIG_BYTES} that can be applied"
        );
        return Err(Error::new(Kind::TooLarge, message));
    }
    Ok(Exported { config, left_out })
}

/// A subscription and how many rules it has in the file, or why it cannot be in it.
async fn subscription(
    broker: &Broker,
    who: &Principal,
    name: &SubscriptionName,
    found: &SubscriptionEntity,
) -> Result<Result<(Value, usize), &'static str>> {
    let rules = match broker.rules(who, name).await {
        Err(error) if error.kind == Kind::Invalid => {
            return Ok(Err(
                "it was made over HTTP, and has a filter in place of rules",
            ));
        }
        rules => rules?,
    };
    if rules.is_empty() {
        return Ok(Err("it has no rules, for which the file has no word"));
    }
    if !rules.iter().all(is_sayable) {
        return Ok(Err(
            "a rule compares with binary data, a GUID or null, for which the file has no word",
        ));
    }
    let mut said = Map::new();
    said.insert("Name".to_owned(), found.title.clone().into());
    let properties = told(subscription::declared(None, &found.properties));
    said.insert("Properties".to_owned(), properties.into());
    let is_default = |rule: &Rule| *rule == Rule::all(rule.created_ms);
    if let [rule] = &rules[..]
        && is_default(rule)
    {
        return Ok(Ok((said.into(), 0)));
    }
    let told = rules.iter();
    let told = told.map(|rule| json!({ "Name": rule.name, "Properties": told_of(rule) }));
    said.insert("Rules".to_owned(), told.collect());
    Ok(Ok((said.into(), rules.len())))
}

/// Other values are told as their texts, which would be other rules.
fn is_sayable(rule: &Rule) -> bool {
    let are = |values: &Parameters| {
        let odd = |value: &RuleValue<'_>| {
            matches!(
                value,
                RuleValue::Null | RuleValue::Guid(_) | RuleValue::Binary(_)
            )
        };
        !values.values().any(odd)
    };
    let filter = match &rule.filter {
        RuleFilter::True | RuleFilter::False => true,
        RuleFilter::Sql(filter) => are(filter.parameters()),
        RuleFilter::Correlation(filter) => are(&filter.properties),
    };
    filter
        && rule
            .action
            .as_ref()
            .is_none_or(|action| are(action.parameters()))
}
