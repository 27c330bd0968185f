//! Ways in for the fuzzers: what journals hold, and what users declare and name.

use bytes::Bytes;
use mente_engine::{Batch, Record, SetName, Timestamp};
use serde_json::Value;

use crate::fold::Fold;
use crate::journal::{self, Decision, Definition, Entry, Subscription, Topic};
use crate::name::{EntityName, StreamName, SubscriptionName};
use crate::queue::{LockToken, Range, Settings, Verdict};

fn values(batches: &[Batch]) -> Vec<Vec<u8>> {
    let records = batches.iter().flat_map(Batch::records);
    let values = records.filter_map(|record| record.ok()?.1.value);
    values.map(|value| value.to_vec()).collect()
}

pub fn journal_seeds() -> Vec<Vec<u8>> {
    let name = || EntityName::new("orders").expect("a name");
    let topic = || Topic {
        set: mente_engine::SetId(9),
        partitions: 3,
    };
    let full = SubscriptionName {
        topic: name(),
        name: name(),
    };
    let settings = settings_seeds()
        .into_iter()
        .filter_map(|seed| serde_json::from_slice(&seed).ok());
    let mut decisions: Vec<Decision> = settings
        .map(|settings| Decision::SubscriptionCreated {
            name: full.clone(),
            subscription: Subscription {
                view: 4,
                topic: topic(),
                starts: vec![0, u64::MAX, 7],
                began: vec![0, 1, 7],
                settings,
            },
        })
        .collect();
    decisions.extend([
        Decision::TopicCreated {
            name: name(),
            topic: topic(),
        },
        Decision::TopicDeleted { name: name() },
        Decision::Defined {
            kind: Definition::Fold,
            name: name(),
            body: serde_json::json!({"t": [{"merge": "data"}]}),
        },
        Decision::SubscriptionDeleted { name: full },
    ]);
    let verdicts = [
        Verdict::Settled {
            partition: 0,
            offsets: vec![3, 5],
            floor: 6,
            passed: 2,
        },
        Verdict::Dead {
            partition: 0,
            offset: 1,
            attempts: 1,
            reason: "Rejected".to_owned(),
            detail: "x".to_owned(),
            floor: 0,
            passed: 0,
            since: 9,
            to: Some(name()),
        },
        Verdict::Noted {
            partition: 0,
            offset: 1,
            note: "x".to_owned(),
        },
        Verdict::Deferred {
            partition: 0,
            offset: 1,
        },
        Verdict::SessionSet {
            partition: 0,
            session: "s".to_owned(),
            state: Some("eA==".to_owned()),
            at_ms: -1,
        },
        Verdict::IdsFrom {
            partition: 0,
            from: 3,
        },
        Verdict::Joined {
            partition: 0,
            ranges: vec![Range {
                from: 7,
                upto: 70,
                matches: 9,
            }],
        },
        Verdict::Committed {
            partition: 0,
            offsets: vec![4, 5],
        },
        Verdict::Revived {
            partition: 1,
            offsets: vec![1, 2],
            at_ms: -1,
            upto: u64::MAX,
        },
    ];
    let of_store = SubscriptionName {
        topic: EntityName::store(),
        name: name(),
    };
    decisions.push(Decision::SubscriptionDeleted { name: of_store });
    let together = verdicts.iter().cloned().map(|verdict| (4, verdict));
    decisions.push(Decision::Together(together.collect()));
    decisions.extend(verdicts.map(|verdict| Decision::View { view: 4, verdict }));
    let mut seeds = values(&journal::encode(17, &decisions, Timestamp(1), 10_000));
    seeds.extend(values(&journal::encode_snapshot(
        17,
        &decisions[..1],
        Timestamp(1),
        10_000,
    )));
    seeds
}

pub fn journal(input: &[u8]) {
    let record = Record {
        value: Some(Bytes::copy_from_slice(input)),
        ..Record::default()
    };
    let Ok(entry) = journal::decode(&record) else {
        return;
    };
    if let Entry::Decided(seq, decision) = &entry {
        let again = values(&journal::encode(
            *seq,
            std::slice::from_ref(decision),
            Timestamp(1),
            10_000,
        ));
        let record = Record {
            value: again.into_iter().next().map(Bytes::from),
            ..Record::default()
        };
        assert_eq!(
            journal::decode(&record).ok(),
            Some(entry),
            "a decision changes"
        );
    }
}

pub fn settings_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"filter":{"all":[{"prefix":{"type":"shop."}},{"not":{"any":[{"exact":{"source":"/t"}},{"suffix":{"id":"1"}}]}}]}}"#,
        r#"{"lock_duration_ms":60000,"max_delivery_count":10,"time_to_live_ms":5,"ordered":true}"#,
        r#"{"push":{"url":"http://a/","timeout_ms":100,"concurrency":2,"retry":{"waits_ms":[0,1000]}}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// As the HTTP door reads them: a tree of values first.
pub fn settings(input: &[u8]) {
    let Ok(tree) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let Ok(settings) = serde_json::from_value::<Settings>(tree) else {
        return;
    };
    if settings.validate().is_err() {
        return;
    }
    let event = mente_engine::Event::default();
    let _ = settings
        .filter
        .as_ref()
        .map(|filter| filter.matches(&event));
    if let Some(push) = &settings.push {
        let _ = [0, 1, u32::MAX].map(|attempts| push.retry.wait(attempts, 1.0));
    }
    let written = serde_json::to_vec(&settings).expect("settings have a JSON form");
    let again = serde_json::from_slice::<Settings>(&written);
    assert_eq!(again.ok(), Some(settings), "settings change");
}

pub fn fold_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"Placed":[{"merge":"data"},{"set":{"status":"placed","at":"$.time"}}],"Paid":[]}"#,
        r#"{"A":[{"append":{"items":"$.data.item"}},{"add":{"total":"$.data.price","a.b":1.5}}]}"#,
        r#"{"B":[{"remove":"a"},{"remove":["a","b.c"]},{"remove":{"items":"$.data.0.x"}},{"merge":{"a":["$$x",null]}}]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Read, and run over events of each type that it names.
pub fn fold(input: &[u8]) {
    let Ok(tree) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let Ok(fold) = Fold::parse(&tree) else {
        return;
    };
    let mut state = crate::fold::State::default();
    let data = Bytes::from_static(br#"{"item":{"a":[1,"x"]},"price":1e308,"0":{"x":-5}}"#);
    let kinds: Vec<String> = tree
        .as_object()
        .into_iter()
        .flatten()
        .map(|(kind, _)| kind.clone())
        .collect();
    for (revision, kind) in kinds.iter().chain(&kinds).enumerate() {
        let event = crate::broker::StreamEvent {
            actor: None,
            stream: StreamName::new("order-1").expect("a name"),
            place: crate::store::Place {
                revision: revision as u64,
                position: 0,
                offset: mente_engine::Offset(0),
            },
            time: Timestamp(0),
            event: mente_engine::Event {
                kind: kind.clone(),
                data: mente_engine::Data::Json(data.clone()),
                ..mente_engine::Event::default()
            },
        };
        let before = state.clone();
        let Ok(changes) = fold.apply_and_tell(&mut state, &event) else {
            return;
        };
        let differences = crate::fold::difference::difference(&before, &state);
        assert_eq!(changes, differences, "a change that is not told");
    }
    let text = state.clone().into_value().to_string();
    let again = serde_json::from_str::<Value>(&text).expect("the state is JSON that can be read");
    assert_eq!(again, state.into_value(), "a state changes");
}

pub fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let path = std::path::Path::new(text);
    let is_plain = path.components().count() == 1 && !text.contains(['/', '\\', '\0', '$']);
    if let Ok(name) = EntityName::new(text) {
        assert!(
            is_plain && !text.starts_with('.'),
            "{text:?} is an entity's"
        );
        assert!(SetName::new(name.topic_set().as_str()).is_ok());
        let both = SubscriptionName {
            topic: name.clone(),
            name: name.clone(),
        };
        if name.check_declared().is_ok() {
            assert!(SetName::new(both.longest_set().as_str()).is_ok());
        }
        assert!(SetName::new(SubscriptionName::queue(name).longest_set().as_str()).is_ok());
    }
    if let Ok(name) = StreamName::new(text) {
        assert!(
            !text.chars().any(char::is_control)
                && text.len() <= 200
                && !name.category().starts_with('$')
        );
    }
    let _ = SetName::new(text);
}

pub fn lock_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(token) = text.parse::<LockToken>() {
        assert_eq!(token.to_string().parse::<LockToken>(), Ok(token));
    }
}

pub fn block_seeds() -> Vec<Vec<u8>> {
    crate::store::block_seeds()
}

/// Of the store's index: a footer, or a page.
pub fn block(input: &[u8]) {
    crate::store::read_block(&Bytes::copy_from_slice(input));
}
