//! Documents that SDKs sent, documents that come back from what is written, and what readers of them insist on.

use mente_engine::Timestamp;
use proptest::prelude::*;

use super::atom::{Description, Entry, Feed, read_entry, write_error};
use super::xml::Element;
use super::*;

/// By azure-servicebus 7.15 of Python.
const QUEUE: &[u8] = br#"<?xml version='1.0' encoding='utf-8'?>
<ns0:entry xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:ns0="http://www.w3.org/2005/Atom" xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"><ns0:content type="application/xml"><QueueDescription><LockDuration>PT30S</LockDuration><MaxDeliveryCount>5</MaxDeliveryCount><AuthorizationRules><AuthorizationRule i:type="SharedAccessAuthorizationRule"><Rights><AccessRights>Manage</AccessRights><AccessRights>Listen</AccessRights><AccessRights>Send</AccessRights></Rights><KeyName>r</KeyName><PrimaryKey>a</PrimaryKey><SecondaryKey>b</SecondaryKey></AuthorizationRule></AuthorizationRules><AutoDeleteOnIdle>P10675199DT2H48M5.47758S</AutoDeleteOnIdle><ForwardTo>sb://localhost:5300/dest</ForwardTo><UserMetadata>a&lt;b</UserMetadata></QueueDescription></ns0:content></ns0:entry>"#;

fn entry<T>(description: T) -> Entry<T> {
    Entry {
        id: "https://h:5300/T/Subscriptions/s?api-version=2021-05&a=\"".into(),
        title: "s<1>".into(),
        author: "mente".into(),
        published: Timestamp(0),
        updated: Timestamp(1),
        description,
    }
}

fn content<T: Description>(description: T) -> Element {
    let document = Element::parse(&entry(description).write()).unwrap();
    let content = document.child("content").unwrap();
    content.child(T::ELEMENT).unwrap().clone()
}

fn names(element: &Element) -> Vec<&str> {
    element
        .children
        .iter()
        .map(|child| &child.name[..])
        .collect()
}

#[test]
fn what_python_sent_is_read() {
    let read: QueueDescription = read_entry(QUEUE).unwrap();
    let rule = AuthorizationRule {
        name: "r".into(),
        rights: vec!["Manage".into(), "Listen".into(), "Send".into()],
        primary_key: Some("a".into()),
        secondary_key: Some("b".into()),
        ..AuthorizationRule::default()
    };
    let expect = QueueDescription {
        lock_duration: Some(Span::Ms(30_000)),
        max_delivery_count: Some(5),
        authorization: vec![rule],
        auto_delete_on_idle: Some(Span::Unlimited),
        forward_to: Some("sb://localhost:5300/dest".into()),
        user_metadata: Some("a<b".into()),
        ..QueueDescription::default()
    };
    assert_eq!(read, expect);
}

#[test]
fn any_order_prefix_and_stranger_is_taken_and_nil_is_nothing() {
    let body = br#"<a:entry xmlns:a="A" xmlns:s="S"><a:title/><a:content><s:TopicDescription>
        <s:Status> Disabled </s:Status><s:Unheard><s:Status>x</s:Status></s:Unheard>
        <s:DefaultMessageTimeToLive>PT1H</s:DefaultMessageTimeToLive>
        <s:UserMetadata xmlns:x="X" x:nil="true"/><s:EnableExpress>True</s:EnableExpress>
        <s:SupportOrdering/><s:CreatedAt>yesterday</s:CreatedAt>
        </s:TopicDescription></a:content></a:entry>"#;
    let expect = TopicDescription {
        status: Some("Disabled".into()),
        default_time_to_live: Some(Span::Ms(3_600_000)),
        enable_express: Some(true),
        ..TopicDescription::default()
    };
    assert_eq!(read_entry(body), Ok(expect));
}

#[test]
fn what_is_wrong_is_named() {
    let of = |inside: &str| {
        let body = format!(
            "<entry><content><QueueDescription>{inside}</QueueDescription></content></entry>"
        );
        let read = read_entry::<QueueDescription>(body.as_bytes());
        read.map_or_else(|wrong| wrong.0, |read| format!("{read:?}"))
    };
    for (inside, what) in [
        (
            "<LockDuration>60</LockDuration>",
            "LockDuration: \"60\" is no duration",
        ),
        (
            "<MaxDeliveryCount>-1</MaxDeliveryCount>",
            "MaxDeliveryCount: no whole number",
        ),
        (
            "<RequiresSession>yes</RequiresSession>",
            "RequiresSession: neither true nor false",
        ),
        (
            "<AuthorizationRules><AuthorizationRule/></AuthorizationRules>",
            "without a KeyName",
        ),
        (
            "<AuthorizationRules><AuthorizationRule type=\"Other\"/></AuthorizationRules>",
            "not a SharedAccessAuthorizationRule",
        ),
    ] {
        assert!(of(inside).contains(what), "{}", of(inside));
    }
    let topic = read_entry::<TopicDescription>(QUEUE).unwrap_err();
    assert!(topic.0.contains("TopicDescription"), "{topic}");
    assert!(read_entry::<QueueDescription>(b"\xff").is_err());
}

/// By azure-servicebus 7.15 of Python.
const RULE: &[u8] = br#"<?xml version='1.0' encoding='utf-8'?>
<ns0:entry xmlns:ns0="http://www.w3.org/2005/Atom" xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><ns0:content type="application/xml"><RuleDescription><Filter xsi:type="CorrelationFilter"><CorrelationId>c</CorrelationId><Label>l</Label><Properties><KeyValueOfstringanyType><Key>a</Key><Value xsi:type="d6p1:int" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">1</Value></KeyValueOfstringanyType><KeyValueOfstringanyType><Key>b</Key><Value xsi:type="d6p1:string" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">x&lt;y</Value></KeyValueOfstringanyType><KeyValueOfstringanyType><Key>c</Key><Value xsi:type="d6p1:boolean" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">true</Value></KeyValueOfstringanyType><KeyValueOfstringanyType><Key>d</Key><Value xsi:type="d6p1:double" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">1.5</Value></KeyValueOfstringanyType><KeyValueOfstringanyType><Key>e</Key><Value xsi:type="d6p1:dateTime" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">2026-01-02T03:04:05</Value></KeyValueOfstringanyType><KeyValueOfstringanyType><Key>f</Key><Value xsi:type="d6p1:duration" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">PT1M30S</Value></KeyValueOfstringanyType><KeyValueOfstringanyType><Key>g</Key><Value xsi:type="d6p1:long" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">1099511627776</Value></KeyValueOfstringanyType></Properties></Filter><Action xsi:type="EmptyRuleAction" /><Name>r</Name></RuleDescription></ns0:content></ns0:entry>"#;

fn correlation() -> RuleDescription {
    let correlation = Correlation {
        correlation_id: Some("c".into()),
        label: Some("l".into()),
        properties: vec![
            ("a".into(), Typed::Int(1)),
            ("b".into(), Typed::String("x<y".into())),
            ("c".into(), Typed::Boolean(true)),
            ("d".into(), Typed::Double(1.5)),
            ("e".into(), Typed::DateTime("2026-01-02T03:04:05".into())),
            ("f".into(), Typed::Duration("PT1M30S".into())),
            ("g".into(), Typed::Long(1 << 40)),
        ],
        ..Correlation::default()
    };
    RuleDescription {
        filter: Some(Filter::Correlation(Box::new(correlation))),
        name: Some("r".into()),
        ..RuleDescription::default()
    }
}

fn sql() -> Sql {
    Sql {
        expression: " a = @p ".into(),
        parameters: vec![("@p".into(), Typed::String(" v ".into()))],
    }
}

#[test]
fn rules_are_read_and_come_back() {
    assert_eq!(read_entry(RULE), Ok(correlation()));
    let filters = [Filter::True, Filter::False, Filter::Sql(sql())];
    let rules = filters.map(|filter| RuleDescription {
        filter: Some(filter),
        action: Some(sql()),
        ..correlation()
    });
    for rule in rules.into_iter().chain([correlation()]) {
        let written = entry(rule.clone()).write();
        assert_eq!(read_entry(written.as_bytes()), Ok(rule));
    }
}

/// By the letter: JS looks for `i:type`, cuts five characters off a value's type, and reads an action without asking.
#[test]
fn rules_are_written_as_their_readers_take_for_granted() {
    let text = entry(correlation()).write();
    for part in [
        "<Filter i:type=\"CorrelationFilter\"><CorrelationId>c</CorrelationId><Label>l</Label><Properties>",
        "<KeyValueOfstringanyType><Key>b</Key><Value i:type=\"d6p1:string\" xmlns:d6p1=\"http://www.w3.org/2001/XMLSchema\">x&lt;y</Value></KeyValueOfstringanyType>",
        "</Properties></Filter><Action i:type=\"EmptyRuleAction\"/><Name>r</Name>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let rule = RuleDescription {
        filter: Some(Filter::True),
        action: Some(sql()),
        created: Some(Timestamp(0)),
        name: Some("$Default".into()),
    };
    let rule = content(rule);
    assert_eq!(names(&rule), ["Filter", "Action", "CreatedAt", "Name"]);
    assert_eq!(
        names(&rule.children[0]),
        ["SqlExpression", "CompatibilityLevel", "Parameters"]
    );
}

#[test]
fn rules_of_unknown_types_are_refused() {
    let of = |inside: &str| {
        let body = format!(
            "<entry><content><RuleDescription>{inside}</RuleDescription></content></entry>"
        );
        read_entry::<RuleDescription>(body.as_bytes()).map_err(|wrong| wrong.0)
    };
    let value = |kind: &str, text: &str| {
        let pair = format!("<X><Key>k</Key><Value type=\"{kind}\">{text}</Value></X>");
        of(&format!(
            "<Filter type=\"CorrelationFilter\"><Properties>{pair}</Properties></Filter>"
        ))
    };
    assert!(value("a:int", "7").is_ok());
    let endless = value("a:double", "-INF").unwrap();
    assert!(entry(endless).write().contains(">-INF</Value>"));
    for refused in [
        of("<Filter/>"),
        of("<Filter type=\"GuessFilter\"/>"),
        of("<Filter type=\"SqlFilter\"/>"),
        of("<Action type=\"Explode\"/>"),
        value("int", "2147483648"),
        value("boolean", "yes"),
        value("guid", "x"),
    ] {
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn the_first_rule_of_a_subscription_is_read() {
    let rule = String::from_utf8(RULE.to_vec()).unwrap();
    let rule = rule.split_once("<RuleDescription>").unwrap().1;
    let rule = rule.split_once("</RuleDescription>").unwrap().0;
    let body = format!(
        "<entry><content><SubscriptionDescription><DefaultRuleDescription>{rule}</DefaultRuleDescription></SubscriptionDescription></content></entry>"
    );
    let body = body.replace("xsi:type", "type");
    let read: SubscriptionDescription = read_entry(body.as_bytes()).unwrap();
    assert_eq!(read.default_rule, Some(correlation()));
}

#[test]
fn entries_say_who_and_where() {
    let text = entry(NamespaceInfo::default()).write();
    let document = Element::parse(&text).unwrap();
    assert_eq!(
        names(&document),
        [
            "id",
            "title",
            "published",
            "updated",
            "author",
            "link",
            "content"
        ]
    );
    let id = document.child("id").unwrap();
    assert_eq!(id.text, entry(()).id);
    let link = document.child("link").unwrap();
    assert_eq!(link.attribute("href"), Some(&id.text[..]));
    assert_eq!(document.child("title").unwrap().text, "s<1>");
    let content = document.child("content").unwrap();
    assert_eq!(content.attribute("type"), Some("application/xml"));
}

#[test]
fn elements_stand_in_the_order_of_the_service() {
    let queue = QueueDescription {
        lock_duration: Some(Span::Ms(60_000)),
        size_bytes: Some(7),
        status: Some("Active".into()),
        created: Some(Timestamp(0)),
        counts: Some(Counts {
            active: 3,
            dead_letters: 1,
            ..Counts::default()
        }),
        auto_delete_on_idle: Some(Span::Unlimited),
        max_message_kilobytes: Some(1_024),
        ..QueueDescription::default()
    };
    let queue = content(queue);
    assert_eq!(
        names(&queue),
        [
            "LockDuration",
            "SizeInBytes",
            "AuthorizationRules",
            "Status",
            "CreatedAt",
            "CountDetails",
            "AutoDeleteOnIdle",
            "MaxMessageSizeInKilobytes",
        ]
    );
    let counts = queue.child("CountDetails").unwrap();
    assert_eq!(
        names(counts),
        [
            "ActiveMessageCount",
            "DeadLetterMessageCount",
            "ScheduledMessageCount",
            "TransferMessageCount",
            "TransferDeadLetterMessageCount",
        ]
    );
    assert_eq!(counts.child("ActiveMessageCount").unwrap().text, "3");
    let end = queue.child("AutoDeleteOnIdle").unwrap();
    assert_eq!(end.text, "P10675199DT2H48M5.4775807S");
}

/// By the letter: prefixes and declarations are what the readers look for.
#[test]
fn prefixes_are_those_that_readers_look_for() {
    let queue = QueueDescription {
        authorization: vec![AuthorizationRule {
            name: "r".into(),
            ..AuthorizationRule::default()
        }],
        counts: Some(Counts::default()),
        ..QueueDescription::default()
    };
    let text = entry(queue).write();
    for part in [
        "<entry xmlns=\"http://www.w3.org/2005/Atom\">",
        "<QueueDescription xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\" xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">",
        "<AuthorizationRule i:type=\"SharedAccessAuthorizationRule\">",
        "<CountDetails xmlns:d2p1=\"http://schemas.microsoft.com/netservices/2011/06/servicebus\"><d2p1:ActiveMessageCount>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_feed_has_two_links_only_where_there_is_more() {
    for next in [None, Some("https://h/$Resources/queues?$skip=1&$top=1")] {
        let feed = Feed {
            id: "https://h/$Resources/queues".into(),
            title: "Queues".into(),
            updated: Timestamp(0),
            next: next.map(Into::into),
            entries: vec![entry(QueueDescription::default()); 2],
        };
        let document = Element::parse(&feed.write()).unwrap();
        let links = document
            .children
            .iter()
            .filter(|child| child.name == "link");
        let links: Vec<_> = links
            .map(|link| {
                (
                    link.attribute("rel").unwrap(),
                    link.attribute("href").unwrap(),
                )
            })
            .collect();
        let mut expect = vec![("self", "https://h/$Resources/queues")];
        expect.extend(next.map(|next| ("next", next)));
        assert_eq!(links, expect);
        let entries = document
            .children
            .iter()
            .filter(|child| child.name == "entry");
        assert_eq!(entries.count(), 2);
    }
}

#[test]
fn an_error_has_a_code_and_a_sub_code() {
    assert_eq!(
        write_error(409, 40_900, "it & that"),
        "<Error><Code>409</Code><Detail>SubCode=40900. it &amp; that</Detail></Error>"
    );
}

fn span() -> impl Strategy<Value = Span> {
    any::<u64>().prop_map(|ms| Span::of(Some(ms)))
}

fn text() -> impl Strategy<Value = String> {
    "[!-~\u{e4}\u{1f600}]([ -~]{0,6}[!-~])?"
}

proptest! {
    #[test]
    fn descriptions_come_back(
        spans in (prop::option::of(span()), prop::option::of(span()), prop::option::of(span())),
        flags in prop::collection::vec(prop::option::of(any::<bool>()), 4),
        numbers in (prop::option::of(any::<u64>()), prop::option::of(any::<u64>())),
        texts in (prop::option::of(text()), prop::option::of(text())),
        rule in prop::option::of((text(), prop::collection::vec(text(), 0..3), prop::option::of(text()))),
    ) {
        let queue = QueueDescription {
            lock_duration: spans.0,
            default_time_to_live: spans.1,
            auto_delete_on_idle: spans.2,
            requires_session: flags[0],
            enable_express: flags[1],
            max_delivery_count: numbers.0,
            max_message_kilobytes: numbers.1,
            forward_to: texts.0.clone(),
            user_metadata: texts.1.clone(),
            authorization: rule.into_iter().map(|(name, rights, primary_key)| AuthorizationRule {
                name,
                rights,
                primary_key,
                ..AuthorizationRule::default()
            }).collect(),
            ..QueueDescription::default()
        };
        let written = entry(queue.clone()).write();
        prop_assert_eq!(read_entry(written.as_bytes()), Ok(queue));
        let topic = TopicDescription {
            default_time_to_live: spans.0,
            duplicate_window: spans.1,
            requires_duplicate_detection: flags[2],
            status: texts.0,
            max_size_megabytes: numbers.0,
            ..TopicDescription::default()
        };
        let written = entry(topic.clone()).write();
        prop_assert_eq!(read_entry(written.as_bytes()), Ok(topic));
        let subscription = SubscriptionDescription {
            lock_duration: spans.2,
            dead_lettering_on_filter_errors: flags[3],
            user_metadata: texts.1,
            max_delivery_count: numbers.1,
            ..SubscriptionDescription::default()
        };
        let written = entry(subscription.clone()).write();
        prop_assert_eq!(read_entry(written.as_bytes()), Ok(subscription));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in any::<String>(), marks in "[<>/a-c=\"'&;#!?\\[\\]\\- ]{0,40}") {
        let _ = read_entry::<QueueDescription>(text.as_bytes());
        let _ = read_entry::<QueueDescription>(marks.as_bytes());
        let inside = format!("<entry><content><QueueDescription>{marks}</QueueDescription></content></entry>");
        let _ = read_entry::<QueueDescription>(inside.as_bytes());
        let _ = Span::parse(&text);
    }
}
