//! Queues, topics, subscriptions and rules declared in a file: applied, compared and exported by the command line.

use std::path::{Path, PathBuf};

use mente::client::Client;
use serde_json::{Map, Value, json};

use crate::certificates::text;
use crate::server::{Server, command};
use crate::verbs::{mente, ok};

/// In the shape of the emulator's own file, with each of its properties.
const EMULATOR: &str = include_str!("../../../../tests/servicebus/Config.json");

/// A file of a test, which goes with it.
pub(crate) struct Written {
    pub(crate) directory: tempfile::TempDir,
}

impl Written {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let file = self.directory.path().join(name);
        std::fs::write(&file, content).unwrap();
        file
    }

    /// Of these queues and topics.
    pub(crate) fn of(&self, queues: Value, topics: Value) -> PathBuf {
        let namespace = json!({ "Name": "n", "Queues": queues, "Topics": topics });
        let config = json!({ "UserConfig": { "Namespaces": [namespace] } });
        self.file("Config.json", &config.to_string())
    }
}

pub(crate) fn run(server: &Server, verb: &str, file: &Path) -> (i32, String, String) {
    mente(server, &["topology", verb, text(file)])
}

/// What must succeed; its standard output.
fn works(server: &Server, verb: &str, file: &Path) -> String {
    ok(server, &["topology", verb, text(file)])
}

fn exported(server: &Server) -> Value {
    let out = ok(server, &["topology", "export"]);
    serde_json::from_str(&out).unwrap()
}

/// The entities of this kind in a file, by their names.
fn named(config: &Value, path: &str) -> Map<String, Value> {
    let found = config.pointer(path).and_then(Value::as_array);
    let found = found
        .unwrap_or_else(|| panic!("no {path} in {config}"))
        .iter();
    let pairs = found.map(|one| (one["Name"].as_str().unwrap().to_owned(), one.clone()));
    pairs.collect()
}

const QUEUES: &str = "/UserConfig/Namespaces/0/Queues";
const TOPICS: &str = "/UserConfig/Namespaces/0/Topics";

#[test]
fn the_emulators_file_is_applied_as_it_is_and_once() {
    let server = Server::start_with(&[]);
    let written = Written::new();
    let file = written.file("Config.json", EMULATOR);
    let out = works(&server, "apply", &file);
    let lines: Vec<_> = out.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        lines,
        [
            "+ queue queue.1",
            "+ queue letters",
            "+ topic topic.1",
            "+ subscription topic.1/subscription.1",
            "+ rule topic.1/subscription.1/app-prop-filter-1",
            "+ subscription topic.1/subscription.2",
            "+ rule topic.1/subscription.2/user-prop-filter-1",
            "+ subscription topic.1/subscription.3",
            "+ subscription topic.1/subscription.4",
            "+ rule topic.1/subscription.4/sql-filter-1",
            "10 changed of 10",
        ]
    );
    assert!(out.contains("\n    + LockDuration \"PT30S\"\n"), "{out}");
    let again = works(&server, "apply", &file);
    // The rule that a subscription without a word has is the emulator's.
    assert_eq!(
        again,
        format!("nothing changed: all 10 are as {} says\n", text(&file))
    );
    let told = exported(&server);
    let queue = &named(&told, QUEUES)["queue.1"]["Properties"];
    for (name, value) in [
        ("DeadLetteringOnMessageExpiration", json!(true)),
        ("DefaultMessageTimeToLive", json!("PT1H")),
        ("DuplicateDetectionHistoryTimeWindow", json!("PT20S")),
        ("ForwardDeadLetteredMessagesTo", json!("letters")),
        ("LockDuration", json!("PT30S")),
        ("MaxDeliveryCount", json!(3)),
        ("RequiresDuplicateDetection", json!(true)),
        ("RequiresSession", json!(false)),
    ] {
        assert_eq!(queue[name], value, "{name}");
    }
    assert_eq!(queue.get("ForwardTo"), None);
    let topic = &named(&told, TOPICS)["topic.1"];
    let subscriptions = named(topic, "/Subscriptions");
    assert_eq!(subscriptions["subscription.3"].get("Rules"), None);
    let rule = &subscriptions["subscription.4"]["Rules"][0];
    assert_eq!(
        rule["Properties"],
        json!({
            "FilterType": "Sql",
            "SqlFilter": { "SqlExpression": "sys.MessageId = '123456' AND userProp1 = 'value1'" },
            "Action": { "SqlExpression": "SET sys.To = 'Entity'" },
        })
    );
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_done() {
    let server = Server::start_with(&[]);
    server
        .ok("PUT", "/topics/spread", r#"{"partitions":2}"#)
        .await;
    server.ok("PUT", "/topics/plain", "").await;
    server
        .ok("PUT", "/topics/plain/subscriptions/http", "")
        .await;
    let written = Written::new();
    let there = json!([{ "Name": "queue" }]);
    let seed = written.of(there, json!([{ "Name": "topic" }]));
    works(&server, "apply", &seed);
    let before = exported(&server);

    let with = |name: &str, value: Value| json!({ "Name": "q", "Properties": { name: value } });
    let subscribed = |subscription: Value| json!({ "Name": "t", "Subscriptions": [subscription] });
    let ruled = |rules: Value| subscribed(json!({ "Name": "s", "Rules": rules }));
    let sql = |name: &str, sql: &str| json!({ "Name": name, "Properties": { "FilterType": "Sql", "SqlFilter": { "SqlExpression": sql } } });
    let long = "x".repeat(81);
    let queues = "UserConfig.Namespaces[0].Queues[1]";
    let topics = "UserConfig.Namespaces[0].Topics[0]";
    let of_queue = |queue: Value, words: &str| {
        (
            json!([{ "Name": "new" }, queue]),
            json!([]),
            format!("{queues}{words}"),
        )
    };
    let of_topic = |topic: Value, words: &str| {
        (
            json!([{ "Name": "new" }]),
            json!([topic]),
            format!("{topics}{words}"),
        )
    };
    for (queues, topics, words) in [
        of_queue(
            with("LockDuration", json!("PT1S")),
            " is refused: LockDuration in ms is 1000, but must be from 5000 to 300000",
        ),
        of_queue(
            with("LockDuration", json!("P10675199DT2H48M5.4775807S")),
            " is refused: LockDuration must have an end",
        ),
        of_queue(
            with("LockDuration", json!(60)),
            ".Properties.LockDuration is \"60\", but must be a duration",
        ),
        of_queue(
            with("MaxDeliveryCount", json!(0)),
            " is refused: MaxDeliveryCount is 0",
        ),
        of_queue(
            with("Status", json!("Busy")),
            " is refused: Status is one of Active, ",
        ),
        of_queue(
            with("LockDurations", json!("PT1M")),
            ".Properties.LockDurations is not known",
        ),
        of_queue(
            with("ForwardTo", json!("nowhere")),
            " forwards to nowhere, which is neither in the file nor on the server",
        ),
        of_queue(
            json!({ "Name": "a~b" }),
            " is refused: the name \"a~b\" holds ~",
        ),
        of_queue(
            json!({ "Name": "NEW" }),
            " has the name \"NEW\", as another",
        ),
        of_queue(json!({ "Name": "Topic" }), " is a topic on this server"),
        of_queue(
            json!({ "Name": "spread" }),
            " is the topic spread with several partitions",
        ),
        of_topic(json!({ "Name": "queue" }), " is a queue on this server"),
        of_topic(
            json!({ "Name": "t", "Properties": { "DuplicateDetectionHistoryTimeWindow": "PT5S" } }),
            " is refused: DuplicateDetectionHistoryTimeWindow in ms is 5000",
        ),
        of_topic(
            subscribed(json!({ "Name": "a/b" })),
            ".Subscriptions[0] has a slash",
        ),
        of_topic(
            subscribed(json!({ "Name": long })),
            ".Subscriptions[0] is refused: the name ",
        ),
        of_topic(
            subscribed(json!({ "Name": "s", "Properties": { "ForwardTo": "nowhere" } })),
            ".Subscriptions[0] forwards to nowhere",
        ),
        of_topic(
            json!({ "Name": "t", "Subscriptions": [{ "Name": "s" }, { "Name": "S" }] }),
            ".Subscriptions[1] has the name of another",
        ),
        of_topic(
            json!({ "Name": "plain", "Subscriptions": [{ "Name": "http" }] }),
            ".Subscriptions[0] was made over HTTP",
        ),
        of_topic(
            ruled(json!([sql("r", "a = ")])),
            ".Subscriptions[0].Rules[0] is refused: ",
        ),
        of_topic(
            ruled(json!([sql("a/b", "a = 1")])),
            ".Subscriptions[0].Rules[0] is refused: the name of a rule",
        ),
        of_topic(
            ruled(json!([sql("r", "a = 1"), sql("R", "a = 1")])),
            ".Subscriptions[0].Rules[1] has the name of another rule",
        ),
        of_topic(
            ruled(
                json!([{ "Name": "r", "Properties": { "FilterType": "Correlation", "CorrelationFilter": {} } }]),
            ),
            ".Subscriptions[0].Rules[0] is refused: ",
        ),
    ] {
        let file = written.of(queues, topics);
        for verb in ["apply", "diff"] {
            let (code, out, err) = run(&server, verb, &file);
            assert_eq!((code, &*out), (2, ""), "{words}: {err}");
            assert!(err.contains(&words), "{words}: {err}");
            assert!(
                err.contains(": line 1, column ") && err.contains(text(&file)),
                "{err}"
            );
        }
    }
    let file = written.file("two.json", r#"{"UserConfig":{"Namespaces":[{},{}]}}"#);
    let (code, _, err) = run(&server, "apply", &file);
    assert_eq!(
        (code, err.contains("exactly one namespace")),
        (2, true),
        "{err}"
    );
    let file = written.file("cut.json", "{\n  \"UserConfig\": // none\n}");
    let (code, _, err) = run(&server, "apply", &file);
    assert_eq!(
        (code, err.contains("at line 3 column 1")),
        (2, true),
        "{err}"
    );
    let (code, _, err) = run(&server, "apply", Path::new("nothing.json"));
    assert_eq!(
        (code, err.contains("cannot read nothing.json")),
        (2, true),
        "{err}"
    );
    assert_eq!(exported(&server), before);
}

/// A subscription has so many rules at most as one record of its journal holds, and 63 with actions, of its whole life.
#[test]
fn rules_that_there_is_no_room_for_are_refused_before_any_is_made() {
    let server = Server::start_with(&[]);
    let written = Written::new();
    let rules = |count: usize, sql: &str, action: bool| {
        let rules = (0..count).map(|at| {
            let mut rule = json!({ "FilterType": "Sql", "SqlFilter": { "SqlExpression": sql } });
            if action {
                rule["Action"] = json!({ "SqlExpression": "SET a = 1" });
            }
            json!({ "Name": format!("r{at}"), "Properties": rule })
        });
        let subscription = json!({ "Name": "s", "Rules": rules.collect::<Vec<_>>() });
        written.of(
            json!([]),
            json!([{ "Name": "t", "Subscriptions": [subscription] }]),
        )
    };
    let refused = |file: &Path, words: &str| {
        for verb in ["diff", "apply"] {
            let (code, _, err) = run(&server, verb, file);
            assert_eq!((code, err.contains(words)), (2, true), "{err}");
            assert!(
                err.contains("Topics[0].Subscriptions[0] is refused: "),
                "{err}"
            );
        }
    };
    let long = format!("a = '{}'", "x".repeat(900));
    refused(
        &rules(70, &long, false),
        "the settings of a subscription have at most 65536 bytes",
    );
    refused(&rules(64, "a = 1", true), "has had 64 rules with actions");
    assert!(named(&exported(&server), TOPICS).is_empty());
    works(&server, "apply", &rules(63, "a = 1", true));
    // None of those places is free again.
    refused(&rules(1, "a = 2", true), "has had 64 rules with actions");
    works(&server, "apply", &rules(1, "a = 2", false));
    assert_eq!(run(&server, "diff", &rules(1, "a = 2", false)).0, 0);
}

#[test]
fn what_is_fixed_is_said_and_nothing_is_done() {
    let server = Server::start_with(&[]);
    let written = Written::new();
    let subscribed = |session: bool| {
        let properties = json!({ "RequiresSession": session });
        json!([{ "Name": "t", "Subscriptions": [{ "Name": "s", "Properties": properties }] }])
    };
    works(
        &server,
        "apply",
        &written.of(json!([{ "Name": "q" }]), subscribed(false)),
    );
    let before = exported(&server);
    let queue =
        json!([{ "Name": "q", "Properties": { "MaxDeliveryCount": 3 } }, { "Name": "new" }]);
    let file = written.of(queue, subscribed(true));
    let (code, out, err) = run(&server, "apply", &file);
    assert_eq!((code, &*out), (6, ""), "{err}");
    let words = "nothing was done: RequiresSession of subscription t/s is fixed when it is made, and is false there and true in the file";
    assert!(err.contains(words), "{err}");
    assert_eq!(exported(&server), before);
    let (code, out, err) = run(&server, "diff", &file);
    assert_eq!((code, err.contains("3 are not as")), (1, true), "{err}");
    assert_eq!(
        out,
        "~ queue q\n    ~ MaxDeliveryCount 10 -> 3\n+ queue new\n= topic t\n~ subscription t/s\n    ~ RequiresSession false -> true  (fixed: needs to be made anew)\n"
    );
    for name in [
        "RequiresSession",
        "RequiresDuplicateDetection",
        "EnablePartitioning",
    ] {
        let file = written.of(
            json!([{ "Name": "Q", "Properties": { name: true } }]),
            json!([]),
        );
        let (code, _, err) = run(&server, "apply", &file);
        assert_eq!((code, err.contains(name)), (6, true), "{err}");
    }
}

#[test]
fn what_the_file_leaves_out_stays_but_for_rules_beside_its_own() {
    let server = Server::start_with(&[]);
    let written = Written::new();
    let rule = |name: &str, sql: &str| json!({ "Name": name, "Properties": { "FilterType": "Sql", "SqlFilter": { "SqlExpression": sql } } });
    let topic = |subscription: Value| json!([{ "Name": "t", "Subscriptions": [subscription] }]);
    let queues = json!([{ "Name": "a", "Properties": { "LockDuration": "PT7S", "ForwardTo": "b" } }, { "Name": "b" }]);
    let first = written.of(
        queues,
        topic(json!({ "Name": "s", "Properties": { "MaxDeliveryCount": 3 } })),
    );
    works(&server, "apply", &first);

    let rules = json!([rule("x", "n = 1"), rule("y", "n = 2")]);
    let queues = json!([{ "Name": "A", "Properties": { "MaxDeliveryCount": 4 } }]);
    let out = works(
        &server,
        "apply",
        &written.of(queues, topic(json!({ "Name": "s", "Rules": rules }))),
    );
    assert_eq!(
        out,
        "~ queue A\n    ~ MaxDeliveryCount 10 -> 4\n\
         + rule t/s/x\n    + FilterType \"Sql\"\n    + SqlFilter {\"SqlExpression\":\"n = 1\"}\n\
         + rule t/s/y\n    + FilterType \"Sql\"\n    + SqlFilter {\"SqlExpression\":\"n = 2\"}\n\
         - rule t/s/$Default\n    - FilterType \"True\"\n\
         4 changed of 6\n"
    );
    let rules = json!([rule("Y", "n = 3"), rule("$Default", "1=1")]);
    let queues = json!([{ "Name": "a", "Properties": { "ForwardTo": "" } }]);
    let file = written.of(queues, topic(json!({ "Name": "s", "Rules": rules })));
    let (code, out, _) = run(&server, "diff", &file);
    assert_eq!(code, 1);
    assert_eq!(
        out,
        "~ queue a\n    - ForwardTo \"b\"\n= topic t\n= subscription t/s\n\
         ~ rule t/s/y\n    ~ SqlFilter {\"SqlExpression\":\"n = 2\"} -> {\"SqlExpression\":\"n = 3\"}\n\
         + rule t/s/$Default\n    + FilterType \"Sql\"\n    + SqlFilter {\"SqlExpression\":\"1=1\"}\n\
         - rule t/s/x\n    - FilterType \"Sql\"\n    - SqlFilter {\"SqlExpression\":\"n = 1\"}\n"
    );
    works(&server, "apply", &file);
    assert_eq!(run(&server, "diff", &file).0, 0);
    let told = exported(&server);
    let a = &named(&told, QUEUES)["a"]["Properties"];
    assert_eq!(
        (&a["LockDuration"], &a["MaxDeliveryCount"]),
        (&json!("PT7S"), &json!(4))
    );
    let subscription = &named(&told, TOPICS)["t"]["Subscriptions"][0];
    assert_eq!(subscription["Properties"]["MaxDeliveryCount"], 3);
    let rules: Vec<_> = named(subscription, "/Rules")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(rules, ["$Default", "y"]);
    // No rules are as good as no word of them.
    let file = written.of(json!([]), topic(json!({ "Name": "s", "Rules": [] })));
    let same = "= topic t\n= subscription t/s\n";
    assert_eq!(
        run(&server, "diff", &file),
        (0, same.to_owned(), String::new())
    );
    let words = [&["topology", "diff", text(&file)][..], &["-o", "json"]].concat();
    let told: Value = serde_json::from_str(&ok(&server, &words)).unwrap();
    assert_eq!(told["changes"][1]["sign"], "=");
}

#[test]
fn queues_forward_to_each_other_in_whatever_order_they_are_said() {
    let server = Server::start_with(&[]);
    let written = Written::new();
    let queue = |name: &str, to: &str, letters: &str| json!({ "Name": name, "Properties": { "ForwardTo": to, "ForwardDeadLetteredMessagesTo": letters } });
    let queues = json!([
        queue("a", "b", "t"),
        queue("b", "C", ""),
        queue("c", "", "a")
    ]);
    let subscription = json!({ "Name": "s", "Properties": { "ForwardTo": "a" } });
    let file = written.of(
        queues,
        json!([{ "Name": "T", "Subscriptions": [subscription] }]),
    );
    works(&server, "apply", &file);
    assert_eq!(run(&server, "diff", &file).0, 0);
    let told = exported(&server);
    let queues = named(&told, QUEUES);
    let of = |queue: &str, name: &str| queues[queue]["Properties"].get(name).cloned();
    assert_eq!(of("a", "ForwardTo"), Some(json!("b")));
    assert_eq!(of("a", "ForwardDeadLetteredMessagesTo"), Some(json!("t")));
    assert_eq!(of("b", "ForwardTo"), Some(json!("c")));
    assert_eq!(of("c", "ForwardDeadLetteredMessagesTo"), Some(json!("a")));
}

/// Of a queue, with nothing as it is without a word.
fn other_queue() -> Value {
    json!({
        "AutoDeleteOnIdle": "P1D", "DeadLetteringOnMessageExpiration": true, "DefaultMessageTimeToLive": "PT2H3.004S",
        "DuplicateDetectionHistoryTimeWindow": "PT30S", "EnableBatchedOperations": false, "EnableExpress": true,
        "EnablePartitioning": true, "ForwardDeadLetteredMessagesTo": "last/queue", "ForwardTo": "topic",
        "LockDuration": "PT7S", "MaxDeliveryCount": 2_147_483_647, "MaxMessageSizeInKilobytes": 102_400,
        "MaxSizeInMegabytes": 2_048, "RequiresDuplicateDetection": true, "RequiresSession": true,
        "Status": "SendDisabled", "UserMetadata": "\u{e4} \"quoted\"",
    })
}

fn other_topic() -> Value {
    json!({
        "AutoDeleteOnIdle": "P1D", "DefaultMessageTimeToLive": "PT1M", "DuplicateDetectionHistoryTimeWindow": "P7D",
        "EnableBatchedOperations": false, "EnableExpress": true, "EnablePartitioning": true,
        "MaxMessageSizeInKilobytes": 2_048, "MaxSizeInMegabytes": 1, "RequiresDuplicateDetection": true,
        "Status": "Disabled", "SupportOrdering": true, "UserMetadata": "m",
    })
}

fn other_subscription() -> Value {
    json!({
        "AutoDeleteOnIdle": "PT5M", "DeadLetteringOnFilterEvaluationExceptions": false,
        "DeadLetteringOnMessageExpiration": true, "DefaultMessageTimeToLive": "PT1S", "EnableBatchedOperations": false,
        "ForwardDeadLetteredMessagesTo": "first", "ForwardTo": "last/queue", "LockDuration": "PT5M",
        "MaxDeliveryCount": 1, "RequiresSession": true, "Status": "ReceiveDisabled", "UserMetadata": "s",
    })
}

#[test]
fn what_is_exported_makes_the_same_on_an_empty_server() {
    let written = Written::new();
    let values = json!({
        "text": "x", "flag": true, "int": -7, "long": 5_000_000_000_i64, "real": 7.0,
        "moment": { "Type": "dateTime", "Value": "2026-11-30T12:00:00.000Z" },
        "length": { "Type": "duration", "Value": "-PT5M" },
    });
    let rules = json!([
        { "Name": "all", "Properties": { "FilterType": "True", "Action": { "SqlExpression": "SET a = @a", "Parameters": { "@a": 5 } } } },
        { "Name": "none", "Properties": { "FilterType": "False" } },
        { "Name": "sql", "Properties": { "FilterType": "Sql", "SqlFilter": { "SqlExpression": "a > @n", "Parameters": { "@n": 1.5 } } } },
        { "Name": "same", "Properties": { "FilterType": "Correlation", "CorrelationFilter": {
            "ContentType": "c", "CorrelationId": "i", "Label": "l", "MessageId": "m", "ReplyTo": "r",
            "ReplyToSessionId": "rs", "SessionId": "s", "To": "t", "Properties": values } } },
    ]);
    let file = written.of(
        json!([
            { "Name": "First", "Properties": other_queue() },
            { "Name": "last/Queue", "Properties": {} },
        ]),
        json!([{ "Name": "topic", "Properties": other_topic(), "Subscriptions": [
            { "Name": "Sub.1", "Properties": other_subscription(), "Rules": rules },
            { "Name": "plain" },
        ]}]),
    );
    let one = Server::start_with(&[]);
    works(&one, "apply", &file);
    assert_eq!(run(&one, "diff", &file).0, 0);
    let told = exported(&one);
    let (queues, topics) = (named(&told, QUEUES), named(&told, TOPICS));
    let subscriptions = named(&topics["topic"], "/Subscriptions");
    assert_eq!(queues["First"]["Properties"], other_queue());
    assert_eq!(topics["topic"]["Properties"], other_topic());
    assert_eq!(subscriptions["Sub.1"]["Properties"], other_subscription());
    assert_eq!(subscriptions["Sub.1"]["Rules"], rules);
    // Nothing of them is as it is without a word, and nothing that there is was left out.
    let nothing = |_: &Value| Map::new();
    let optional = ["ForwardTo", "ForwardDeadLetteredMessagesTo", "UserMetadata"];
    for (plain, other) in [
        (&queues["last/Queue"], other_queue()),
        (&subscriptions["plain"], other_subscription()),
    ] {
        let plain = plain["Properties"]
            .as_object()
            .cloned()
            .unwrap_or_else(|| nothing(plain));
        let other = other.as_object().unwrap();
        for (name, value) in &plain {
            assert_ne!(other.get(name), Some(value), "{name}");
            assert!(other.contains_key(name), "{name}");
        }
        let more: Vec<_> = other
            .keys()
            .filter(|name| !plain.contains_key(*name))
            .collect();
        assert!(
            more.iter().all(|name| optional.contains(&name.as_str())),
            "{more:?}"
        );
    }
    let whole = written.directory.path().join("exported.json");
    assert_eq!(works(&one, "export", &whole), "");
    let (code, _, err) = run(&one, "export", &whole);
    assert_eq!((code, err.contains("name a new file")), (2, true), "{err}");
    let two = Server::start_with(&[]);
    works(&two, "apply", &whole);
    assert_eq!(exported(&two), told);
    assert_eq!(run(&two, "diff", &whole).0, 0);
}

#[tokio::test]
async fn what_the_file_cannot_say_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&["--servicebus-admin", "127.0.0.1:0"]);
    server
        .ok("PUT", "/topics/plain", r#"{"partitions":2}"#)
        .await;
    let written = Written::new();
    let topic = json!([{ "Name": "t", "Subscriptions": [{ "Name": "bare" }] }]);
    works(&server, "apply", &written.of(json!([]), topic));
    server.ok("PUT", "/topics/t/subscriptions/http", "").await;
    let ports = server.data().with_file_name("ports.json");
    let ports: Value = serde_json::from_slice(&std::fs::read(ports).unwrap()).unwrap();
    let door = format!("http://{}", ports["servicebus-admin"].as_str().unwrap());
    let door = Client::new(&door).unwrap();
    let keys = "<entry><content><QueueDescription><AuthorizationRules><AuthorizationRule><Rights><AccessRights>Listen</AccessRights></Rights>\
        <KeyName>own</KeyName><PrimaryKey>first-secret</PrimaryKey><SecondaryKey>second-secret</SecondaryKey>\
        </AuthorizationRule></AuthorizationRules></QueueDescription></content></entry>";
    let made = door.request("PUT", "/q", None, keys).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let bared = door
        .request("DELETE", "/t/subscriptions/bare/rules/$Default", None, "")
        .await
        .unwrap();
    assert_eq!(bared.status, 200, "{}", bared.text());

    let (code, out, err) = mente(&server, &["topology", "export"]);
    assert_eq!(code, 0, "{err}");
    for words in [
        "left out: the keys of q: ",
        "left out: subscription t/http: it was made over HTTP",
        "left out: subscription t/bare: it has no rules",
        "left out: topic plain: it was made over HTTP",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert_eq!(err.lines().count(), 4, "{err}");
    assert!(
        !out.contains("secret") && !out.contains("plain") && !out.contains("bare"),
        "{out}"
    );
    // Keys stay with what is declared again.
    let file = written.file("again.json", &out);
    assert!(works(&server, "apply", &file).starts_with("nothing changed"));
    let queue = json!([{ "Name": "q", "Properties": { "MaxDeliveryCount": 3 } }]);
    works(&server, "apply", &written.of(queue, json!([])));
    let told = door.request("GET", "/q", None, "").await.unwrap().text();
    assert!(
        told.contains("first-secret") && told.contains("<MaxDeliveryCount>3<"),
        "{told}"
    );
    drop(directory);
}

#[test]
fn only_who_manages_everything_declares() {
    let written = Written::new();
    let keys = written.file("keys", "all=secret\nsender Send Listen=weak\n");
    let server = Server::start_with(&["--keys-file", text(&keys)]);
    let file = written.of(json!([{ "Name": "q" }]), json!([]));
    let with = |key: &str, verb: &str| {
        let mut command = command("topology");
        command.args([verb, text(&file), "--server", &server.url()]);
        command
            .env("MENTE_KEY", key)
            .output()
            .unwrap()
            .status
            .code()
    };
    for key in ["", "weak", "strange"] {
        assert_eq!(with(key, "apply"), Some(4), "{key}");
        assert_eq!(with(key, "diff"), Some(4), "{key}");
    }
    assert_eq!(with("secret", "diff"), Some(1));
    assert_eq!(with("secret", "apply"), Some(0));
    assert_eq!(with("secret", "diff"), Some(0));
}
