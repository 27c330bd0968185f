//! A shard's journal: its decisions as records, each with the dense number that its owner gave it.
//!
//! The value of a record is JSON, `{"v":1,"seq":17,"decision":{…}}`: a person can read it, and
//! an older Mente refuses a version or a decision that it does not know. Names of fields are the
//! format: they are never given a second meaning.

use bytes::Bytes;
use mente_engine::{Batch, BatchBuilder, Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, SubscriptionName};
use crate::queue::{Secret, Settings, Verdict};

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
    /// Of the view that `SubscriptionCreated` numbered `view`.
    View {
        view: u64,
        verdict: Verdict,
    },
}

impl Decision {
    pub(crate) fn changes_subscriptions(&self) -> bool {
        matches!(
            self,
            Self::SubscriptionCreated { .. }
                | Self::SubscriptionDeleted { .. }
                | Self::SecretsSet { .. }
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
}

#[derive(Serialize, Deserialize)]
struct Entry<D> {
    v: u32,
    seq: u64,
    decision: D,
}

/// One batch of decisions numbered from `seq` on.
pub(crate) fn encode(seq: u64, decisions: &[Decision], now: Timestamp) -> Batch {
    let mut builder = BatchBuilder::default();
    for (decision, seq) in decisions.iter().zip(seq..) {
        let entry = Entry {
            v: VERSION,
            seq,
            decision,
        };
        let json = serde_json::to_vec(&entry).expect("decisions have a JSON form");
        let record = Record {
            timestamp: now,
            value: Some(Bytes::from(json)),
            ..Record::default()
        };
        builder.push(&record);
    }
    builder.finish()
}

pub(crate) fn decode(record: &Record) -> Result<(u64, Decision)> {
    let bytes = record.value.as_deref().unwrap_or_default();
    let entry: Entry<Decision> = serde_json::from_slice(bytes).map_err(|error| {
        Error::new(
            Kind::Corrupt,
            format!("a journal record that this version cannot read: {error}"),
        )
    })?;
    if entry.v != VERSION {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "the journal has version {}, this Mente reads {VERSION}: use a newer one",
                entry.v
            ),
        ));
    }
    Ok((entry.seq, entry.decision))
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

    /// As an earlier Mente wrote them.
    #[test]
    fn webhooks_from_before_there_were_secrets_are_read() {
        let subscription = r#"{"v":1,"seq":3,"decision":{"subscription_created":{"name":{"topic":"orders","name":"hook"},"subscription":{"view":3,"topic":{"set":"17","partitions":1},"starts":[0],"settings":{"lock_duration_ms":60000,"max_delivery_count":10,"ordered":false,"push":{"url":"http://a/","timeout_ms":30000,"concurrency":8,"retry":{"waits_ms":[10]}}}}}}}"#;
        let record = Record {
            value: Some(subscription.into()),
            ..Record::default()
        };
        let (seq, decision) = decode(&record).unwrap();
        let Decision::SubscriptionCreated { subscription, .. } = &decision else {
            panic!("{decision:?}")
        };
        assert_eq!(subscription.settings.push.as_ref().unwrap().secrets, None);
        let again = encode(seq, &[decision], Timestamp(1));
        let (_, again) = again.records().next().unwrap().unwrap();
        assert_eq!(again.value, record.value, "and are written as they were");
    }

    #[test]
    fn decisions_come_back_and_newer_versions_are_refused() {
        let verdict = Verdict::Settled {
            partition: 0,
            offsets: vec![3, 5],
            floor: 6,
        };
        let decisions = [Decision::View { view: 4, verdict }];
        let batch = encode(17, &decisions, Timestamp(1));
        let (_, record) = batch.records().next().unwrap().unwrap();
        assert_eq!(decode(&record), Ok((17, decisions[0].clone())));
        let newer = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
        let newer = Record {
            value: Some(newer.replace("\"v\":1", "\"v\":2").into()),
            ..record
        };
        assert_eq!(decode(&newer).unwrap_err().kind, Kind::Unsupported);
    }
}
