//! Files as people have them, each thing that may be wrong with one, and back.

use super::super::rule::{Correlation, Filter, Sql, Typed};
use super::super::{QueueDescription, Span, TopicDescription};
use super::*;

/// In the shape of the emulator's own, with all that it may hold.
const WHOLE: &str = r#"{
  // what the emulator reads
  "UserConfig": {
    "Namespaces": [{
      "Name": "sbemulatorns", /* the only one
                                 that it has */
      "Queues": [{
        "Name": "queue//1",
        "Properties": {
          "DeadLetteringOnMessageExpiration": true, "DefaultMessageTimeToLive": "PT1H",
          "DuplicateDetectionHistoryTimeWindow": "PT20S", "ForwardDeadLetteredMessagesTo": "", "ForwardTo": "q2",
          "LockDuration": "PT1M", "MaxDeliveryCount": 3, "RequiresDuplicateDetection": false, "RequiresSession": null,
        }
      }],
      "Topics": [{
        "Name": "topic.1",
        "Properties": {"DefaultMessageTimeToLive": "PT1H"},
        "Subscriptions": [
          {"Name": "subscription.1", "Properties": {"MaxDeliveryCount": 3}, "Rules": [
            {"Name": "app", "Properties": {"FilterType": "Correlation", "CorrelationFilter": {
              "ContentType": "application/text", "Label": "\"//", "Properties": {"a": "x", "b": 7, "c": 5000000000, "d": 1.5, "e": true}}}},
            {"Name": "sql", "Properties": {"FilterType": "sql", "SqlFilter": {"SqlExpression": "a = 'x'"},
              "Action": {"SqlExpression": "SET sys.To = 'Entity'"}}}]},
          {"Name": "all", "Rules": []},],
      }],
    }],
    "Logging": {"Type": "File"}
  }
}"#;

fn read(text: &str) -> Result<(), Wrong> {
    let plain = plain(text.as_bytes())?;
    let config = Config::read(&plain)?;
    for queue in config.queues {
        queue.put_over(&mut QueueDescription::default())?;
    }
    for topic in config.topics {
        topic.stated.put_over(&mut TopicDescription::default())?;
    }
    Ok(())
}

#[test]
fn a_whole_file_is_read() {
    let plain = plain(WHOLE.as_bytes()).unwrap();
    assert_eq!(plain.len(), WHOLE.len());
    let config = Config::read(&plain).unwrap();
    let queue = &config.queues[0];
    assert_eq!(queue.name, "queue//1");
    let known = QueueDescription {
        forward_dead_letters_to: Some("gone".into()),
        requires_session: Some(true),
        max_size_megabytes: Some(7),
        ..QueueDescription::default()
    };
    let mut said = known.clone();
    queue.put_over(&mut said).unwrap();
    let wanted = QueueDescription {
        dead_lettering_on_expiration: Some(true),
        default_time_to_live: Some(Span::Ms(3_600_000)),
        duplicate_window: Some(Span::Ms(20_000)),
        forward_dead_letters_to: None,
        forward_to: Some("q2".into()),
        lock_duration: Some(Span::Ms(60_000)),
        max_delivery_count: Some(3),
        requires_duplicate_detection: Some(false),
        ..known
    };
    assert_eq!(said, wanted);
    let [first, second] = &config.topics[0].subscriptions[..] else {
        panic!("{config:?}");
    };
    assert_eq!((&*second.stated.name, second.rules.len()), ("all", 0));
    let rules: Vec<_> = first
        .rules
        .iter()
        .map(|rule| (&*rule.name, rule.description.clone()))
        .collect();
    let correlation = Correlation {
        content_type: Some("application/text".into()),
        label: Some("\"//".into()),
        properties: vec![
            ("a".into(), Typed::String("x".into())),
            ("b".into(), Typed::Int(7)),
            ("c".into(), Typed::Long(5_000_000_000)),
            ("d".into(), Typed::Double(1.5)),
            ("e".into(), Typed::Boolean(true)),
        ],
        ..Correlation::default()
    };
    let sql = |expression: &str| Sql {
        expression: expression.into(),
        ..Sql::default()
    };
    let rule = |filter, action| RuleDescription {
        filter: Some(filter),
        action,
        ..RuleDescription::default()
    };
    assert_eq!(
        rules,
        [
            (
                "app",
                rule(Filter::Correlation(Box::new(correlation)), None)
            ),
            (
                "sql",
                rule(
                    Filter::Sql(sql("a = 'x'")),
                    Some(sql("SET sys.To = 'Entity'"))
                )
            ),
        ]
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let whole =
        |namespace: &str| format!("{{\"UserConfig\": {{\"Namespaces\": [{{{namespace}}}]}}}}");
    let queue = |properties: &str| {
        whole(&format!(
            "\n  \"Queues\": [{{\"Name\": \"q\", \"Properties\": {{{properties}}}}}]"
        ))
    };
    let rule = |properties: &str| {
        whole(&format!(
            "\n\"Topics\": [{{\"Name\": \"t\", \"Subscriptions\": [{{\"Name\": \"s\", \"Rules\": [{{\"Name\": \"r\", \"Properties\": {{{properties}}}}}]}}]}}]"
        ))
    };
    let many = vec!["{\"Name\":\"q\"}"; CONFIG_ITEMS + 1].join(",");
    for (text, words) in [
        (
            "{",
            "not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "{\n /* ",
            "line 2, column 2: the comment that begins here has no end",
        ),
        (
            "[]",
            "line 1, column 1: the file is \"[]\", but must be an object",
        ),
        ("{}", "the file has no UserConfig"),
        (
            "{\"UserConfig\": {\"Namespaces\": []}}",
            "must be a list of exactly one namespace",
        ),
        (
            "{\"UserConfig\": {\"Namespaces\": [{}, {}]}}",
            "column 31: UserConfig.Namespaces must be a list of exactly one",
        ),
        (
            "{\"UserConfig\": {}, \"userConfig\": 1}",
            "userConfig is not known; there may be UserConfig",
        ),
        (
            "{\"UserConfig\": {}, \"UserConfig\": {}}",
            "the file is not right: ",
        ),
        (
            &queue("\"LockDuration\": 5"),
            "line 2, column 59: UserConfig.Namespaces[0].Queues[0].Properties.LockDuration is \"5\", but must be a duration",
        ),
        (
            &queue("\"LockDuration\": \"00:01:00\""),
            "must be a duration of ISO 8601 in quotes, such as \"PT1M\"",
        ),
        (
            &queue("\"RequiresSession\": \"true\""),
            "Properties.RequiresSession is \"\\\"true\\\"\", but must be true or false",
        ),
        (
            &queue("\"MaxDeliveryCount\": 1.5"),
            "must be a whole number",
        ),
        (&queue("\"ForwardTo\": {}"), "must be a text in quotes"),
        (
            &queue("\"LockDurations\": 5, \"MaxDeliveryCount\": 0.1"),
            "Properties.LockDurations is not known; there may be LockDuration, ",
        ),
        (
            &queue("\"SizeInBytes\": 5"),
            "Properties.SizeInBytes is not known",
        ),
        (
            &queue("\"SupportOrdering\": false"),
            "Properties.SupportOrdering is not known",
        ),
        (
            &queue("\"AuthorizationRules\": []"),
            "Properties.AuthorizationRules is not known",
        ),
        (
            &queue("\"CreatedAt\": \"x\""),
            "Properties.CreatedAt is not known",
        ),
        (
            &whole("\"Queues\": {}"),
            "UserConfig.Namespaces[0].Queues is \"{}\", but must be a list",
        ),
        (
            &whole("\"Queues\": [{}]"),
            "UserConfig.Namespaces[0].Queues[0] has no Name",
        ),
        (
            &whole("\"Queues\": [{\"Name\": \"q\", \"Subscriptions\": []}]"),
            "Queues[0].Subscriptions is not known",
        ),
        (
            &whole(&format!("\"Queues\": [{many}]")),
            "Queues is not right: more than 10000 elements",
        ),
        (
            &whole(&format!(
                "\"Queues\": [{}], \"Topics\": [{{\"Name\": \"t\"}}]",
                &many[..many.len() - 13]
            )),
            "makes it more than 10000 queues",
        ),
        (
            &rule("\"SqlFilter\": {}"),
            "Rules[0].Properties has no FilterType",
        ),
        (
            &rule("\"FilterType\": \"SqlFilter\""),
            "FilterType is \"SqlFilter\", but must be \"Sql\" or \"Correlation\"",
        ),
        (
            &rule("\"FilterType\": \"Sql\""),
            "Properties has no SqlFilter",
        ),
        (
            &rule("\"FilterType\": \"Sql\", \"SqlExpression\": \"1=1\""),
            "SqlExpression is not known",
        ),
        (
            &rule(
                "\"FilterType\": \"Sql\", \"SqlFilter\": {\"SqlExpression\": \"1=1\"}, \"CorrelationFilter\": {}",
            ),
            "CorrelationFilter has no use where FilterType is \"Sql\"",
        ),
        (
            &rule("\"FilterType\": \"Correlation\", \"CorrelationFilter\": {\"Subject\": \"x\"}"),
            "Subject is not known; there may be Properties, CorrelationId",
        ),
        (
            &rule(
                "\"FilterType\": \"Correlation\", \"CorrelationFilter\": {\"Properties\": {\"a\": []}}",
            ),
            "Properties.a is \"[]\", but must be a text, a number",
        ),
        (
            &rule(
                "\"FilterType\": \"Correlation\", \"CorrelationFilter\": {\"Properties\": {\"a\": 18446744073709551615}}",
            ),
            "but must be a text, a number",
        ),
        (
            &rule(
                "\"FilterType\": \"Correlation\", \"CorrelationFilter\": {\"Properties\": {\"a\": {\"Type\": \"int\", \"Value\": \"x\"}}}",
            ),
            "Properties.a is refused: Value: no int",
        ),
    ] {
        let wrong = read(text).expect_err(text);
        assert!(wrong.0.contains(words), "{words}: {wrong}");
    }
    let odd = plain(b"\xff").unwrap_err();
    assert!(odd.0.contains("not UTF-8"), "{odd}");
    let large = plain(&vec![b' '; CONFIG_BYTES + 1]).unwrap_err();
    assert!(large.0.contains("may have 4194304 at most"), "{large}");
}

#[test]
fn comments_and_last_commas_are_blanks() {
    for (text, wanted) in [
        ("[1, /* , */ ] // ]", "[1          ]     "),
        ("\u{feff}[\"a,]//\\\"/*\",]", "   [\"a,]//\\\"/*\" ]"),
        ("{\"a\": 1,\r\n // \u{e4}\n}", "{\"a\": 1 \r\n      \n}"),
        ("[1,\n2]", "[1,\n2]"),
        ("[1,,]", "[1, ]"),
        ("/ *", "/ *"),
        ("\"\\", "\"\\"),
        ("//", "  "),
    ] {
        assert_eq!(plain(text.as_bytes()).unwrap(), wanted, "{text}");
    }
    for text in ["/*", "/*/", "[/**/1/*", "/*\u{e4}"] {
        assert!(plain(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn rules_are_told_as_they_are_read() {
    let properties = vec![
        ("@a".to_owned(), Typed::String("x".into())),
        ("@b".to_owned(), Typed::Int(-7)),
        ("@c".to_owned(), Typed::Long(1 << 40)),
        ("@d".to_owned(), Typed::Double(7.0)),
        ("@e".to_owned(), Typed::Boolean(false)),
        (
            "@f".to_owned(),
            Typed::DateTime("2026-11-30T12:00:00Z".into()),
        ),
        ("@g".to_owned(), Typed::Duration("-PT5M".into())),
        ("@h".to_owned(), Typed::Double(f64::NEG_INFINITY)),
    ];
    let sql = |expression: &str| Sql {
        expression: expression.to_owned(),
        parameters: properties.clone(),
    };
    let mut correlation = Correlation {
        properties: properties.clone(),
        ..Correlation::default()
    };
    for (name, text) in correlation.texts() {
        *text = Some(name.to_lowercase());
    }
    for (filter, action) in [
        (Filter::True, None),
        (Filter::False, Some(sql("SET a = @b"))),
        (Filter::Sql(sql("a = @a")), None),
        (Filter::Correlation(Box::new(correlation)), None),
    ] {
        let rule = RuleDescription {
            filter: Some(filter),
            action,
            ..RuleDescription::default()
        };
        let text = serde_json::Value::Object(told_rule(rule.clone())).to_string();
        let place = Place::whole(&text).unwrap();
        assert_eq!(rule::read(&place).unwrap(), rule, "{text}");
    }
}
