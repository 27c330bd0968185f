//! What clients of Service Bus say beside AMQP.

use mente_engine::Timestamp;
use mente_wire::servicebus::atom::{Description, Entry, read_entry};
use mente_wire::servicebus::config::{Config, Stated, plain, told, told_rule};
use mente_wire::servicebus::sas::{Signature, entity_path, sign};
use mente_wire::servicebus::{
    AuthorizationRule, Filter, QueueDescription, RuleDescription, Span, Sql,
    SubscriptionDescription, TopicDescription, Typed,
};
use serde_json::{Value, json};

pub(super) const XML: &[&str] = &[
    "<",
    "/>",
    "</",
    ">",
    "&lt;",
    "&#x1F600;",
    "&x;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<!DOCTYPE a [",
    "<?xml version=\"1.0\"?>",
    " i:type=\"SharedAccessAuthorizationRule\"",
    " i:nil=\"true\"",
    "<entry><content>",
    "<QueueDescription>",
    "<TopicDescription>",
    "<SubscriptionDescription>",
    "<LockDuration>",
    "<AuthorizationRule>",
    "<KeyName>k</KeyName>",
    "<DefaultRuleDescription>",
    "<RuleDescription>",
    "<Filter i:type=\"CorrelationFilter\">",
    "<KeyValueOfstringanyType><Key>k</Key><Value i:type=\"x:double\">NaN</Value>",
    "PT1M",
    "P10675199DT2H48M5.4775807S",
    "\u{0}",
];
pub(super) const CONFIG: &[&str] = &[
    "//",
    "/*",
    "*/",
    "\n",
    "\"",
    "\\",
    ",",
    ",]",
    ",}",
    "{",
    "[",
    "null",
    "true",
    "1e400",
    "-0.0",
    "18446744073709551615",
    "\"Name\": \"a\"",
    "\"Queues\": [",
    "\"FilterType\": \"True\"",
    "{\"Type\": \"double\", \"Value\": \"NaN\"}",
    "\"P10675199DT2H48M5.4775807S\"",
    "\u{feff}",
];
pub(super) const FIELDS: &[&str] = &[
    "sr=", "sig=", "se=", "skn=", "&", "%", "%00", "%ff", "://", "/",
];

fn written<T: Description>(description: T) -> Vec<u8> {
    let entry = Entry {
        id: "https://h/q".to_owned(),
        title: "q".to_owned(),
        author: "n".to_owned(),
        published: Timestamp(0),
        updated: Timestamp(0),
        description,
    };
    entry.write().into_bytes()
}

pub(super) fn entry_seeds() -> Vec<Vec<u8>> {
    let queue = QueueDescription {
        lock_duration: Some(Span::Ms(60_500)),
        auto_delete_on_idle: Some(Span::Unlimited),
        max_delivery_count: Some(10),
        requires_session: Some(true),
        forward_to: Some("sb://h/\u{e4}<".to_owned()),
        authorization: vec![AuthorizationRule {
            name: "r".to_owned(),
            rights: vec!["Listen".to_owned()],
            primary_key: Some("k".to_owned()),
            ..AuthorizationRule::default()
        }],
        ..QueueDescription::default()
    };
    let topic = TopicDescription {
        status: Some("Active".to_owned()),
        ..TopicDescription::default()
    };
    let subscription = SubscriptionDescription {
        max_delivery_count: Some(1),
        ..SubscriptionDescription::default()
    };
    let rule = RuleDescription {
        filter: Some(Filter::Sql(Sql {
            expression: "a = @p".to_owned(),
            parameters: vec![("@p".to_owned(), Typed::Long(7))],
        })),
        ..RuleDescription::default()
    };
    vec![
        written(queue),
        written(topic),
        written(subscription),
        written(rule),
    ]
}

pub(super) fn entry(input: &[u8]) {
    fn comes_back<T: Description + Clone + PartialEq + std::fmt::Debug>(input: &[u8]) {
        // What XML cannot say is another character the second time, and the same from then on.
        let Ok(description) = read_entry::<T>(input) else {
            return;
        };
        let Ok(again) = read_entry::<T>(&written(description)) else {
            panic!("a description is written that is none");
        };
        let once_more = read_entry(&written(again.clone()));
        assert_eq!(once_more, Ok(again), "a description changes");
    }
    comes_back::<QueueDescription>(input);
    comes_back::<TopicDescription>(input);
    comes_back::<SubscriptionDescription>(input);
    // A number that is none is not equal to itself.
    if let Ok(rule) = read_entry::<RuleDescription>(input) {
        let again = read_entry::<RuleDescription>(&written(rule));
        again.expect("a rule is written that is none");
    }
}

/// The emulator's own, with each of its properties.
pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let file = include_bytes!("../../../../tests/servicebus/Config.json");
    vec![file.to_vec()]
}

pub(super) fn config(input: &[u8]) {
    let Ok(text) = plain(input) else {
        return;
    };
    assert_eq!(text.len(), input.len(), "a comment moves what is behind it");
    let Some(told) = Config::read(&text).ok().and_then(|config| said(&config)) else {
        return;
    };
    let text = told.to_string();
    let again = Config::read(&text).ok().and_then(|config| said(&config));
    assert_eq!(again, Some(told), "a file changes");
}

/// All that a file says, as another file; none if a property is wrong.
fn said(config: &Config<'_>) -> Option<Value> {
    fn entity<T: Description>(stated: &Stated<'_>) -> Option<Value> {
        let mut description = T::default();
        stated.put_over(&mut description).ok()?;
        Some(json!({ "Name": stated.name, "Properties": told(description) }))
    }
    let queues = config.queues.iter().map(entity::<QueueDescription>);
    let queues: Vec<_> = queues.collect::<Option<_>>()?;
    let mut topics = Vec::new();
    for topic in &config.topics {
        let mut subscriptions = Vec::new();
        for subscription in &topic.subscriptions {
            let mut said = entity::<SubscriptionDescription>(&subscription.stated)?;
            let rules = subscription.rules.iter();
            let rules = rules.map(|rule| json!({ "Name": rule.name, "Properties": told_rule(rule.description.clone()) }));
            said["Rules"] = rules.collect();
            subscriptions.push(said);
        }
        let mut said = entity::<TopicDescription>(&topic.stated)?;
        said["Subscriptions"] = subscriptions.into();
        topics.push(said);
    }
    Some(json!({ "UserConfig": { "Namespaces": [{ "Queues": queues, "Topics": topics }] } }))
}

pub(super) fn signature_seeds() -> Vec<Vec<u8>> {
    let made = sign(
        "sb://h:5672/q",
        "RootManageSharedAccessKey",
        "key=",
        4_000_000_000,
    );
    vec![made.into_bytes()]
}

pub(super) fn signature(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let path = entity_path(text);
    assert_eq!(
        entity_path(&format!("sb://h/{path}")),
        path,
        "a path changes"
    );
    if let Ok(signature) = Signature::parse(text) {
        let _ = (
            signature.covers("q"),
            signature.covers(&path),
            signature.verify("key=", Timestamp(0)),
        );
    }
}
