//! A shard's journal: its decisions as records, each with the dense number that its owner gave it.
//!
//! The value of a record is JSON, `{"v":1,"seq":17,"decision":{…}}`: a person can read it, and
//! an older Mente refuses a version or a decision that it does not know. Names of fields are the
//! format: they are never given a second meaning.
//!
//! Now and then the state is told anew, and what lies before is trimmed: `"snapshot":"begin"`,
//! lines with `"told":{…}`, `"snapshot":{"end":{…}}` (see `snapshot.rs`).

use bytes::Bytes;
use mente_engine::{Batch, BatchBuilder, Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, SubscriptionName};
use crate::queue::{Secret, Settings, Verdict};
use crate::store::Sealed;

const VERSION: u32 = 1;

/// Something that a shard decided; its state is the fold of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// In the catalogue (shard 0): from now on the topic exists.
    TopicCreated {
        name: EntityName,
        topic: Topic,
    },
    TopicDeleted {
        name: EntityName,
    },
    /// In the catalogue: a declaration that the broker keeps for who reads it.
    Defined {
        kind: Definition,
        name: EntityName,
        body: serde_json::Value,
    },
    Undefined {
        kind: Definition,
        name: EntityName,
    },
    SubscriptionCreated {
        name: SubscriptionName,
        subscription: Subscription,
    },
    SubscriptionDeleted {
        name: SubscriptionName,
    },
    /// The posts of this webhook are signed with these from now on.
    SecretsSet {
        name: SubscriptionName,
        secrets: Vec<Secret>,
    },
    /// It works by these from now on.
    SettingsChanged {
        name: SubscriptionName,
        settings: Settings,
    },
    /// A block of the store's index is whole: of the events that it holds none need be in memory.
    Sealed(Sealed),
    /// Of the view that `SubscriptionCreated` numbered `view`.
    View {
        view: u64,
        verdict: Verdict,
    },
    /// All of a transaction: the same of several views, and one record of the journal.
    Together(Vec<(u64, Verdict)>),
}

impl Decision {
    pub(crate) fn changes_catalogue(&self) -> bool {
        matches!(
            self,
            Self::TopicCreated { .. }
                | Self::TopicDeleted { .. }
                | Self::Defined { .. }
                | Self::Undefined { .. }
        )
    }

    pub(crate) fn changes_schemas(&self) -> bool {
        let (Self::Defined { kind, .. } | Self::Undefined { kind, .. }) = self else {
            return false;
        };
        *kind == Definition::Schema
    }

    pub(crate) fn changes_subscriptions(&self) -> bool {
        matches!(
            self,
            Self::SubscriptionCreated { .. }
                | Self::SubscriptionDeleted { .. }
                | Self::SecretsSet { .. }
                | Self::SettingsChanged { .. }
        )
    }
}

/// What can be declared beside topics and subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Definition {
    /// SQL statements by event type.
    Projection,
    /// How the events of a category of streams make its state.
    Fold,
    /// A stream's events told otherwise.
    Alternative,
    /// The whole namespace forked, and where it is served.
    Branch,
    /// The versions of an event type.
    Schema,
    /// Who decides the commands of a category of streams.
    Decider,
    /// The outbox table of an application, whose rows become events.
    Relay,
    /// A copy of the latest events of a topic elsewhere.
    Replica,
    /// What follows from events, as a course that has a state.
    Saga,
    /// A queue, or a topic of messages, on the topic of its name.
    Entity,
}

/// What the catalogue knows of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// The engine's id of its set, in hexadecimal.
    #[serde(with = "hex_id")]
    pub set: mente_engine::SetId,
    pub partitions: u32,
}

/// What a subscription was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Numbers the view: the sequence number of its creation, never used again.
    pub view: u64,
    pub topic: Topic,
    /// Where it begins, by partition.
    pub starts: Vec<u64>,
    pub settings: Settings,
    /// In a snapshot: where it began once, by partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub began: Vec<u64>,
}

/// One record of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Decided(u64, Decision),
    /// A snapshot of the state after decision `seq` begins; counts only once its end is there.
    Begins(u64),
    /// Of a snapshot: with its fellows it makes the state out of an empty one. Never acted on.
    Told(Decision),
    /// The snapshot is whole if so many were told.
    Ends {
        seq: u64,
        told: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<D> {
    v: u32,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    decision: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    told: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    snapshot: Option<Mark>,
}

/// What a line of any version says.
#[derive(Deserialize)]
struct Said {
    v: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mark {
    Begin,
    End { told: u64 },
}

/// `Default` for every `D`, which the derived one would ask for.
fn none<T>() -> Option<T> {
    None
}

/// Decisions numbered from `seq` on, as batches to be appended in order. A batch ends where it
/// would exceed `page_bytes`; one decision alone may.
pub(crate) fn encode(
    seq: u64,
    decisions: &[Decision],
    now: Timestamp,
    page_bytes: usize,
) -> Vec<Batch> {
    let mut pages = Pages::new(now, page_bytes);
    for (decision, seq) in decisions.iter().zip(seq..) {
        pages.push(&line(seq).decided(decision));
    }
    pages.finish()
}

/// A snapshot of the state after decision `seq`, as batches to be appended in order.
pub(crate) fn encode_snapshot(
    seq: u64,
    told: &[Decision],
    now: Timestamp,
    page_bytes: usize,
) -> Vec<Batch> {
    let mut pages = Pages::new(now, page_bytes);
    pages.push(&line(seq).marked(Mark::Begin));
    for decision in told {
        pages.push(&line(seq).told(decision));
    }
    let told = told.len() as u64;
    pages.push(&line(seq).marked(Mark::End { told }));
    pages.finish()
}

fn line<'a>(seq: u64) -> Line<&'a Decision> {
    Line {
        v: VERSION,
        seq,
        decision: None,
        told: None,
        snapshot: None,
    }
}

impl<'a> Line<&'a Decision> {
    fn decided(self, decision: &'a Decision) -> Self {
        let decision = Some(decision);
        Self { decision, ..self }
    }

    fn told(self, decision: &'a Decision) -> Self {
        let told = Some(decision);
        Self { told, ..self }
    }

    fn marked(self, mark: Mark) -> Self {
        let snapshot = Some(mark);
        Self { snapshot, ..self }
    }
}

/// Lines in batches of a bounded size.
struct Pages {
    now: Timestamp,
    page_bytes: usize,
    full: Vec<Batch>,
    open: BatchBuilder,
}

impl Pages {
    fn new(now: Timestamp, page_bytes: usize) -> Self {
        Self {
            now,
            page_bytes,
            full: Vec::new(),
            open: BatchBuilder::default(),
        }
    }

    fn push(&mut self, line: &Line<&Decision>) {
        let json = serde_json::to_vec(line).expect("decisions have a JSON form");
        if !self.open.is_empty() && self.open.size() + json.len() > self.page_bytes {
            self.full.push(std::mem::take(&mut self.open).finish());
        }
        let record = Record {
            timestamp: self.now,
            value: Some(Bytes::from(json)),
            ..Record::default()
        };
        self.open.push(&record);
    }

    fn finish(mut self) -> Vec<Batch> {
        if !self.open.is_empty() {
            self.full.push(self.open.finish());
        }
        self.full
    }
}

pub(crate) fn decode(record: &Record) -> Result<Entry> {
    let bytes = record.value.as_deref().unwrap_or_default();
    let unreadable = |why: &str| {
        let message = format!("a journal record that this version cannot read: {why}");
        Error::new(Kind::Corrupt, message)
    };
    // First, since a later version may have decisions and a shape that this one does not know.
    let said: Said =
        serde_json::from_slice(bytes).map_err(|error| unreadable(&error.to_string()))?;
    if said.v != VERSION {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "the journal has version {}, this Mente reads {VERSION}: use a newer one",
                said.v
            ),
        ));
    }
    let line: Line<Decision> = serde_json::from_slice(bytes).map_err(|error| {
        unreadable(&format!("{error}; if a newer Mente wrote it, use that one"))
    })?;
    let seq = line.seq;
    if seq == u64::MAX {
        return Err(unreadable("no number comes after its own"));
    }
    match (line.decision, line.told, line.snapshot) {
        (Some(decision), None, None) => Ok(Entry::Decided(seq, decision)),
        (None, Some(decision), None) => Ok(Entry::Told(decision)),
        (None, None, Some(Mark::Begin)) => Ok(Entry::Begins(seq)),
        (None, None, Some(Mark::End { told })) => Ok(Entry::Ends { seq, told }),
        _ => Err(unreadable("neither a decision nor part of a snapshot")),
    }
}

mod hex_id {
    use mente_engine::SetId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &SetId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SetId, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16)
            .map(SetId)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_mente_wrote_is_refused_and_it_is_said_what_reads_it() {
        let refused = |line: &str| {
            let value = Some(Bytes::from(line.to_owned()));
            let read = decode(&Record {
                value,
                ..Record::default()
            });
            read.map(drop).unwrap_err()
        };
        let later = refused(r#"{"v":2,"seq":1,"decision":{"folded_back":{}},"shape":"new"}"#);
        assert_eq!(later.kind, Kind::Unsupported);
        assert!(later.message.ends_with("use a newer one"), "{later}");
        let word =
            refused(r#"{"v":1,"seq":1,"decision":{"view":{"view":1,"verdict":{"lost":{}}}}}"#);
        assert_eq!(word.kind, Kind::Corrupt);
        assert!(word.message.contains("`lost`"), "{word}");
        assert!(word.message.contains("if a newer Mente wrote it"), "{word}");
    }

    /// As an earlier Mente wrote them.
    #[test]
    fn webhooks_from_before_there_were_secrets_are_read() {
        let subscription = r#"{"v":1,"seq":3,"decision":{"subscription_created":{"name":{"topic":"orders","name":"hook"},"subscription":{"view":3,"topic":{"set":"17","partitions":1},"starts":[0],"settings":{"lock_duration_ms":60000,"max_delivery_count":10,"ordered":false,"push":{"url":"http://a/","timeout_ms":30000,"concurrency":8,"retry":{"waits_ms":[10]}}}}}}}"#;
        let record = Record {
            value: Some(subscription.into()),
            ..Record::default()
        };
        let Entry::Decided(seq, decision) = decode(&record).unwrap() else {
            panic!("not a decision")
        };
        let Decision::SubscriptionCreated { subscription, .. } = &decision else {
            panic!("{decision:?}")
        };
        assert_eq!(subscription.settings.push.as_ref().unwrap().secrets, None);
        let again = encode(seq, &[decision], Timestamp(1), 1_000);
        let (_, again) = again[0].records().next().unwrap().unwrap();
        assert_eq!(again.value, record.value, "and are written as they were");
    }

    #[test]
    fn decisions_come_back_and_newer_versions_are_refused() {
        let verdict = Verdict::Settled {
            partition: 0,
            offsets: vec![3, 5],
            floor: 6,
            passed: 2,
        };
        let decisions = [Decision::View { view: 4, verdict }];
        let batches = encode(17, &decisions, Timestamp(1), 1_000);
        let (_, record) = batches[0].records().next().unwrap().unwrap();
        assert_eq!(
            decode(&record),
            Ok(Entry::Decided(17, decisions[0].clone()))
        );
        let newer = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
        let newer = Record {
            value: Some(newer.replace("\"v\":1", "\"v\":2").into()),
            ..record
        };
        assert_eq!(decode(&newer).unwrap_err().kind, Kind::Unsupported);
    }

    /// As it lies on the disk: never with a second meaning.
    #[test]
    fn what_was_given_back_or_moved_is_written_so() {
        let revived = Verdict::Revived {
            partition: 1,
            offsets: vec![3, 5],
            at_ms: 1_764_504_000_000,
            upto: 17,
        };
        let moved = Verdict::Moved {
            partition: 0,
            offset: 3,
            at: 7,
            number: 9,
        };
        let lines = [
            (
                revived,
                r#"{"v":1,"seq":9,"decision":{"view":{"view":4,"verdict":{"revived":{"partition":1,"offsets":[3,5],"at_ms":1764504000000,"upto":17}}}}}"#,
            ),
            (
                moved,
                r#"{"v":1,"seq":9,"decision":{"view":{"view":4,"verdict":{"moved":{"partition":0,"offset":3,"at":7,"number":9}}}}}"#,
            ),
        ];
        for (verdict, line) in lines {
            let record = Record {
                value: Some(line.into()),
                ..Record::default()
            };
            let Entry::Decided(9, decision) = decode(&record).unwrap() else {
                panic!("not a decision")
            };
            assert_eq!(decision, Decision::View { view: 4, verdict });
            let again = encode(9, &[decision], Timestamp(1), 1_000);
            let (_, again) = again[0].records().next().unwrap().unwrap();
            assert_eq!(again.value, record.value);
        }
    }

    /// As it lies on the disk: never with a second meaning.
    #[test]
    fn a_transaction_is_written_so() {
        let line = r#"{"v":1,"seq":9,"decision":{"together":[[4,{"settled":{"partition":0,"offsets":[3],"floor":4,"passed":4}}],[5,{"committed":{"partition":0,"offsets":[7,8]}}]]}}"#;
        let record = Record {
            value: Some(line.into()),
            ..Record::default()
        };
        let Entry::Decided(9, decision) = decode(&record).unwrap() else {
            panic!("not a decision")
        };
        let settled = Verdict::Settled {
            partition: 0,
            offsets: vec![3],
            floor: 4,
            passed: 4,
        };
        let committed = Verdict::Committed {
            partition: 0,
            offsets: vec![7, 8],
        };
        let together = Decision::Together(vec![(4, settled), (5, committed)]);
        assert_eq!(decision, together);
        let again = encode(9, &[decision], Timestamp(1), 1_000);
        let (_, again) = again[0].records().next().unwrap().unwrap();
        assert_eq!(again.value, record.value);
    }

    /// Of a subscription of the store, whose name no topic has.
    #[test]
    fn a_subscription_of_the_store_is_read_and_no_topic_of_its_name() {
        let read = |line: &'static str| {
            decode(&Record {
                value: Some(line.into()),
                ..Record::default()
            })
        };
        let of_store = r#"{"v":1,"seq":9,"decision":{"subscription_deleted":{"name":{"topic":"$store","name":"mail"}}}}"#;
        assert!(matches!(read(of_store), Ok(Entry::Decided(9, _))));
        let topic = r#"{"v":1,"seq":9,"decision":{"topic_deleted":{"name":"$store"}}}"#;
        assert_eq!(read(topic).unwrap_err().kind, Kind::Corrupt);
    }

    /// Or a snapshot would not be the state that it tells of.
    #[test]
    fn numbers_in_declarations_come_back_to_their_last_digit() {
        for number in [
            "2.222222222222222e79",
            "2.2222222222222222e79",
            "1.0e-307",
            "0.1",
        ] {
            let body: serde_json::Value = serde_json::from_str(number).unwrap();
            let name = EntityName::new("a").unwrap();
            let kind = Definition::Fold;
            let decision = Decision::Defined { kind, name, body };
            let batches = encode(1, std::slice::from_ref(&decision), Timestamp(1), 1_000);
            let (_, record) = batches[0].records().next().unwrap().unwrap();
            assert_eq!(decode(&record), Ok(Entry::Decided(1, decision)), "{number}");
        }
    }

    #[test]
    fn a_round_of_any_size_is_batches_that_an_engine_takes() {
        let dead = |offset| Verdict::Dead {
            partition: 0,
            offset,
            attempts: 1,
            reason: "Rejected".to_owned(),
            detail: "x".repeat(5_000),
            floor: 0,
            passed: 0,
            since: 0,
            to: None,
        };
        let verdict = |offset| Decision::View {
            view: 4,
            verdict: dead(offset),
        };
        let decisions: Vec<_> = (0..2_000).map(verdict).collect();
        let batches = encode(1, &decisions, Timestamp(1), 100_000);
        assert!(batches.iter().all(|b| b.size() <= 101_000));
        let records = batches.iter().flat_map(Batch::records);
        let entries: Vec<_> = records.map(|r| decode(&r.unwrap().1).unwrap()).collect();
        let numbered = decisions.into_iter().zip(1..);
        let expected: Vec<_> = numbered.map(|(d, seq)| Entry::Decided(seq, d)).collect();
        assert!(entries == expected);
    }
}
