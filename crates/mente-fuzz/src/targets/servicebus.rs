//! What clients of Service Bus say beside AMQP.

use mente_engine::Timestamp;
use mente_wire::servicebus::atom::{Description, Entry, read_entry};
use mente_wire::servicebus::sas::{Signature, entity_path, sign};
use mente_wire::servicebus::{
    AuthorizationRule, Filter, QueueDescription, RuleDescription, Span, Sql,
    SubscriptionDescription, TopicDescription, Typed,
};

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
