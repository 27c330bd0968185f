//! One batch to the leader of its log, and what the answer means.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use mente_engine::{Appended, Batch, Error, LogId, Offset};
use uuid::Uuid;

use crate::connection::{Connection, Pending, Trouble};
use crate::limits;

/// -1: durable on every replica in sync, at least as many as the topic asks for.
const ALL_REPLICAS: i16 = -1;
const SEQUENCES: u32 = 1 << 31;

/// Where a producer is in its count of records, which has no gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    next: u32,
}

impl Sequence {
    pub(crate) fn new(id: i64, epoch: i16) -> Self {
        Self { id, epoch, next: 0 }
    }

    /// The batch with its place in the sequence.
    pub(crate) fn stamp(&mut self, batch: &Batch) -> Batch {
        let stamped = batch.with_producer(self.id, self.epoch, self.next.cast_signed());
        self.next = (self.next + batch.offset_span()) % SEQUENCES;
        stamped
    }
}

/// Producer id, epoch and first sequence of a batch, as bytes.
pub(crate) fn producer_of(batch: &Batch) -> Option<&[u8]> {
    batch.as_bytes().get(43..57)
}

/// A batch under way.
#[derive(Debug)]
pub(crate) struct Sent {
    pending: Pending<ProduceRequest>,
    span: u32,
    size: usize,
}

/// Puts the batch onto the connection. An error is certain: nothing left.
pub(crate) async fn send(
    leader: &Arc<Connection>,
    log: LogId,
    batch: Batch,
) -> Result<Sent, Error> {
    let (span, size) = (batch.offset_span(), batch.size());
    // A batch that comes out of another log has its offset there; Kafka wants none.
    let batch = if batch.base_offset() == Offset(0) {
        batch
    } else {
        batch.at(Offset(0))
    };
    let data = PartitionProduceData::default()
        .with_index(log.index.cast_signed())
        .with_records(Some(batch.as_bytes().clone()));
    let data = TopicProduceData::default()
        .with_topic_id(Uuid::from_u128(log.set.0))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(ALL_REPLICAS)
        .with_timeout_ms(limits::BROKER_MS)
        .with_topic_data(vec![data]);
    // 13: topics by id, so that a name that passed to another topic is not written to.
    let version = leader
        .version::<ProduceRequest>(&(13..=13))
        .map_err(refused)?;
    let pending = leader.send(version, &request).await.map_err(refused)?;
    Ok(Sent {
        pending,
        span,
        size,
    })
}

impl Sent {
    pub(crate) async fn outcome(self) -> Result<Appended, Error> {
        let answer = self.pending.answer().await.map_err(refused)?;
        let done = answer
            .responses
            .into_iter()
            .flat_map(|topic| topic.partition_responses)
            .next();
        let done = done.ok_or_else(|| Error::Unknown("the answer names no log".into()))?;
        if let Some(error) = ResponseError::try_from_code(done.error_code) {
            let reason = done
                .error_message
                .map_or_else(String::new, |m| format!(" ({m})"));
            let detail = format!("the broker answers {error}{reason}");
            return Err(meaning(error, detail, self.size));
        }
        let base = u64::try_from(done.base_offset)
            .map_err(|_| Error::Unknown("the answer names no offset".into()))?;
        Ok(Appended {
            base: Offset(base),
            last: Offset(base + u64::from(self.span) - 1),
        })
    }
}

fn refused(trouble: Trouble) -> Error {
    match trouble {
        Trouble::NotSent(_) => Error::Busy(trouble.to_string()),
        Trouble::Lost(_) => Error::Unknown(trouble.to_string()),
        Trouble::NoVersion(_) => Error::Unsupported("Mente speaks to Apache Kafka 4.1 and newer"),
    }
}

/// What is refused before it is written is certain; everything else may have happened. A
/// leader that steps down, say, answers the same before the write and after it.
fn meaning(error: ResponseError, detail: String, size: usize) -> Error {
    use ResponseError as Kafka;
    match error {
        // Out of order: an earlier one of this sequence failed.
        Kafka::InvalidProducerEpoch | Kafka::ProducerFenced | Kafka::OutOfOrderSequenceNumber => {
            Error::Fenced
        }
        Kafka::MessageTooLarge | Kafka::RecordListTooLarge => Error::TooBig {
            size,
            limit: size.saturating_sub(1),
        },
        Kafka::UnknownTopicId => Error::Gone,
        Kafka::NotEnoughReplicas | Kafka::ThrottlingQuotaExceeded => Error::Busy(detail),
        Kafka::CorruptMessage
        | Kafka::InvalidRecord
        | Kafka::InvalidTimestamp
        | Kafka::InvalidRequiredAcks
        | Kafka::UnsupportedCompressionType
        | Kafka::UnsupportedForMessageFormat
        | Kafka::PolicyViolation
        | Kafka::TopicAuthorizationFailed
        | Kafka::ClusterAuthorizationFailed
        | Kafka::TransactionalIdAuthorizationFailed => Error::NotDone(detail),
        _ => Error::Unknown(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_goes_on_at_zero() {
        let three = mente_engine::conformance::batch(&["a", "b", "c"]);
        let mut sequence = Sequence {
            id: 1,
            epoch: 0,
            next: SEQUENCES - 2,
        };
        let base = |batch: &Batch| batch.as_bytes()[53..57].to_vec();
        assert_eq!(base(&sequence.stamp(&three)), (i32::MAX - 1).to_be_bytes());
        assert_eq!(base(&sequence.stamp(&three)), 1i32.to_be_bytes());
    }
}
