//! Descriptions as properties and back.

use mente_broker::entity::{Entity, EntityKind, Rights, SasRule, Status};
use mente_broker::entity::{
    QueueProperties, Receiving, Sending, SubscriptionProperties, TopicProperties,
};
use mente_broker::rule::{Rule, RuleFilter};
use mente_broker::{EntityName, MessageCounts, SubscriptionEntity, Usage};
use mente_engine::Timestamp;
use mente_wire::servicebus::{
    AuthorizationRule, Correlation, Filter, QueueDescription, RuleDescription, Span, Sql,
    SubscriptionDescription, TopicDescription, Typed,
};

use super::{properties, queue, rule, subscription, topic};

fn sending() -> Sending {
    Sending {
        status: Status::SendDisabled,
        default_time_to_live_ms: Some(60_000),
        requires_duplicate_detection: true,
        duplicate_window_ms: 30_000,
        max_size_megabytes: 2_048,
        max_message_kilobytes: 102_400,
        enable_partitioning: true,
        enable_batched_operations: false,
        enable_express: true,
        auto_delete_on_idle_ms: Some(600_000),
        user_metadata: Some("m".into()),
        authorization: vec![SasRule {
            name: "r".into(),
            rights: Rights {
                listen: true,
                send: true,
                manage: true,
            },
            primary_key: "p".into(),
            secondary_key: "s".into(),
        }],
    }
}

fn receiving() -> Receiving {
    Receiving {
        lock_duration_ms: 5_000,
        max_delivery_count: 3,
        requires_session: true,
        dead_letter_on_expiry: true,
        forward_to: EntityName::of_path("a/b").ok(),
        forward_dead_letters_to: EntityName::of_path("c").ok(),
    }
}

fn entity(kind: EntityKind) -> Entity {
    Entity {
        title: "Q".into(),
        kind,
        created_ms: 1,
        updated_ms: 2,
    }
}

/// No two are alike, so that none stands for another one.
const COUNTS: MessageCounts = MessageCounts {
    active: 1,
    dead_letters: 20,
    scheduled: 300,
    transfer: 4_000,
    transfer_dead_letters: 50_000,
};

#[test]
fn what_is_told_of_a_queue_makes_the_same_queue() {
    let made = QueueProperties {
        receiving: receiving(),
        sending: sending(),
    };
    for queue in [made, QueueProperties::default()] {
        let entity = entity(EntityKind::Queue(queue.clone()));
        let usage = Usage {
            bytes: Some(77),
            accessed_ms: Some(3),
        };
        let told = queue::description("h:1", &entity, &queue, COUNTS, usage);
        assert_eq!(
            (told.size_bytes, told.accessed),
            (Some(77), Some(Timestamp(3)))
        );
        assert_eq!(told.message_count, Some(54_321));
        let counts = told.counts.unwrap();
        assert_eq!(
            (counts.active, counts.dead_letters, counts.scheduled),
            (1, 20, 300)
        );
        assert_eq!(
            (counts.transfer, counts.transfer_dead_letters),
            (4_000, 50_000)
        );
        assert_eq!(queue::properties(told).ok(), Some(queue));
    }
}

#[test]
fn what_is_told_of_a_topic_makes_the_same_topic() {
    let made = TopicProperties {
        sending: sending(),
        support_ordering: true,
    };
    for topic in [made, TopicProperties::default()] {
        let entity = entity(EntityKind::Topic(topic.clone()));
        let told = topic::description(&entity, &topic, 7, Usage::default());
        assert_eq!(told.subscription_count, Some(7));
        assert_eq!(topic::properties(told).ok(), Some(topic));
    }
}

#[test]
fn what_is_told_of_a_subscription_makes_the_same_subscription() {
    let made = SubscriptionProperties {
        receiving: receiving(),
        status: Status::Disabled,
        default_time_to_live_ms: Some(7_000),
        dead_letter_on_filter_error: false,
        enable_batched_operations: false,
        auto_delete_on_idle_ms: Some(300_000),
        user_metadata: Some("m".into()),
    };
    for properties in [made, SubscriptionProperties::default()] {
        let entity = SubscriptionEntity {
            title: "S".into(),
            properties: properties.clone(),
            created_ms: 1,
            updated_ms: 2,
        };
        let told = subscription::description("h", &entity, COUNTS, None);
        assert_eq!(told.message_count, Some(54_321));
        assert_eq!(subscription::properties(told).ok(), Some(properties));
    }
}

#[test]
fn what_nobody_says_is_as_service_bus_has_it() {
    let queue = queue::properties(QueueDescription::default()).unwrap();
    assert_eq!(queue, QueueProperties::default());
    let topic = topic::properties(TopicDescription::default()).unwrap();
    assert_eq!(topic, TopicProperties::default());
    let subscription = subscription::properties(SubscriptionDescription::default()).unwrap();
    assert_eq!(subscription, SubscriptionProperties::default());
}

#[test]
fn forwarding_is_told_as_a_url_and_heard_in_any_spelling() {
    let to = EntityName::of_path("a/b").ok();
    for said in ["sb://h:5300/A/b", "https://other/a/b/", "a/B"] {
        assert_eq!(properties::forward(Some(said)).unwrap(), to, "{said}");
    }
    let told = properties::forwarded(Some("h:5300"), to.as_ref());
    assert_eq!(told.as_deref(), Some("sb://h:5300/a/b"));
    assert_eq!(
        properties::forwarded(None, to.as_ref()).as_deref(),
        Some("a/b")
    );
    assert!(properties::forward(Some("sb://h/a?b")).is_ok());
    assert!(properties::forward(Some("sb://h/")).is_err());
}

#[test]
fn keys_are_made_where_none_are_said_and_rights_go_together() {
    let rule = |rights: &[&str]| {
        let rule = AuthorizationRule {
            name: "r".into(),
            rights: rights.iter().map(|right| (*right).to_owned()).collect(),
            ..AuthorizationRule::default()
        };
        properties::authorization(vec![rule])
    };
    let made = rule(&["Listen"]).unwrap().remove(0);
    assert!(made.rights.listen && !made.rights.send && !made.rights.manage);
    assert_eq!(made.primary_key.len(), 44);
    assert_ne!(made.primary_key, made.secondary_key);
    assert!(rule(&["Manage", "Send", "Listen"]).is_ok());
    for wrong in [&["Manage"][..], &["Manage", "Send"], &["listen"]] {
        assert!(rule(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn numbers_and_words_that_no_property_has_are_refused() {
    let of = |said: QueueDescription| queue::properties(said).is_err();
    assert!(of(QueueDescription {
        status: Some("Busy".into()),
        ..QueueDescription::default()
    }));
    assert!(of(QueueDescription {
        max_delivery_count: Some(1 << 32),
        ..QueueDescription::default()
    }));
    assert!(of(QueueDescription {
        lock_duration: Some(Span::Unlimited),
        ..QueueDescription::default()
    }));
    assert!(of(QueueDescription {
        forward_to: Some("sb://h/a~b".into()),
        ..QueueDescription::default()
    }));
}

#[test]
fn rules_come_back_as_they_were_said() {
    let parameters = vec![
        ("@a".to_owned(), Typed::String("x".into())),
        ("@b".to_owned(), Typed::Int(7)),
        ("@c".to_owned(), Typed::Long(1 << 40)),
        ("@d".to_owned(), Typed::Double(0.5)),
        ("@e".to_owned(), Typed::Boolean(true)),
        (
            "@f".to_owned(),
            Typed::DateTime("2026-11-30T12:00:00.000Z".into()),
        ),
        ("@g".to_owned(), Typed::Duration("PT5M".into())),
        ("@h".to_owned(), Typed::Duration("-P1D".into())),
    ];
    let sql = |expression: &str| Sql {
        expression: expression.to_owned(),
        parameters: parameters.clone(),
    };
    let correlation = Correlation {
        label: Some("l".into()),
        session_id: Some("s".into()),
        properties: vec![("p".into(), Typed::Int(-1))],
        ..Correlation::default()
    };
    for (filter, action) in [
        (Filter::True, None),
        (Filter::False, Some(sql("SET a = @b"))),
        (Filter::Sql(sql("a = @a OR b > @f")), None),
        (Filter::Correlation(Box::new(correlation)), None),
    ] {
        let said = RuleDescription {
            filter: Some(filter),
            action,
            created: Some(Timestamp(5)),
            name: Some("r".into()),
        };
        let made = rule::rule(said.clone(), "r".into(), 5).unwrap();
        made.validate().unwrap();
        assert_eq!(rule::description(&made), said);
    }
}

#[test]
fn moments_without_a_zone_are_of_utc() {
    let of = |text: &str| {
        let sql = Sql {
            expression: "a > @t".into(),
            parameters: vec![("@t".into(), Typed::DateTime(text.into()))],
        };
        let said = RuleDescription {
            filter: Some(Filter::Sql(sql)),
            ..RuleDescription::default()
        };
        rule::rule(said, "r".into(), 0).map(|rule| rule::description(&rule).filter)
    };
    let with = of("2026-11-30T12:00:00Z").unwrap();
    assert_eq!(of("2026-11-30T12:00:00").unwrap(), with);
    assert_eq!(of("2026-11-30T13:00:00.000+01:00").unwrap(), with);
    assert_ne!(of("2026-11-30T13:00:00").unwrap(), with);
    assert!(of("noon").is_err());
}

#[test]
fn the_first_rule_takes_everything_unless_another_is_said() {
    let first = |said| rule::first(said, 5).unwrap();
    assert_eq!(first(None), Rule::all(5));
    let filter = |filter| RuleDescription {
        filter: Some(filter),
        ..RuleDescription::default()
    };
    assert_eq!(first(Some(filter(Filter::True))), Rule::all(5));
    let none = first(Some(filter(Filter::False)));
    assert_eq!((&*none.name, none.filter), ("$Default", RuleFilter::False));
    let named = RuleDescription {
        name: Some("mine".into()),
        ..filter(Filter::True)
    };
    assert_eq!(first(Some(named)).name, "mine");
    let broken = filter(Filter::Sql(Sql::default()));
    assert!(rule::first(Some(broken), 5).is_err());
}
