//! Questions about one log: what is in it, where it starts and ends. None has an effect but
//! [`trim`].

use std::collections::HashSet;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, FetchRequest, ListOffsetsRequest};
use mente_engine::{Batch, Bounds, Chunk, Error, Limit, LogId, Offset, Timestamp};
use uuid::Uuid;

use crate::cluster::{Again, Cluster, Role, ask_again, check};
use crate::limits;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const READ_COMMITTED: i8 = 1;
/// A replica id of -1 says that a client asks.
const CLIENT: BrokerId = BrokerId(-1);

pub(crate) async fn read(
    cluster: &Cluster,
    log: LogId,
    from: Offset,
    limit: Limit,
) -> Result<Chunk, Error> {
    loop {
        let found = ask_again(|| fetch(cluster, log, from, limit)).await?;
        if let Some(data) = found {
            return chunk(data, from);
        }
        // Not within the log: below its start, or beyond its end.
        let bounds = bounds(cluster, log).await?;
        bounds.check(from)?;
        if from > bounds.end {
            return Ok(Chunk {
                batches: Vec::new(),
                next: from,
            });
        }
    }
}

/// `None` if `from` lies outside the log.
async fn fetch(
    cluster: &Cluster,
    log: LogId,
    from: Offset,
    limit: Limit,
) -> Result<Option<PartitionData>, Again> {
    let (_, leader) = cluster.leader(log, Role::Read).await?;
    let bytes = i32::try_from(limit.bytes.min(limits::ANSWER_BYTES / 2)).unwrap_or(i32::MAX);
    let Ok(from) = i64::try_from(from.0) else {
        return Ok(None);
    };
    let partition = FetchPartition::default()
        .with_partition(log.index.cast_signed())
        .with_fetch_offset(from)
        .with_partition_max_bytes(bytes);
    let topic = FetchTopic::default()
        .with_topic_id(Uuid::from_u128(log.set.0))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(bytes)
        .with_isolation_level(READ_COMMITTED)
        // Session 0 of epoch -1: none.
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    // 13: topics by id; 15 and later name the replica in another place.
    let answer = leader.ask(13..=17, &request).await?;
    check(answer.error_code)?;
    let topics = answer.responses.into_iter();
    let data = topics.flat_map(|topic| topic.partitions).next();
    let data = data.ok_or_else(|| Again::Later("the answer names no log".into()))?;
    match ResponseError::try_from_code(data.error_code) {
        Some(ResponseError::OffsetOutOfRange) => Ok(None),
        Some(_) => Err(moved(cluster, log, data.error_code)),
        None => Ok(Some(data)),
    }
}

/// The batches that count: no control records, nothing that was aborted.
fn chunk(data: PartitionData, from: Offset) -> Result<Chunk, Error> {
    let mut rest = data.records.unwrap_or_default();
    let mut aborted = Aborted::new(data.aborted_transactions.unwrap_or_default());
    let mut chunk = Chunk {
        batches: Vec::new(),
        next: from,
    };
    // The last batch may be cut off, where the limit fell.
    while Batch::length(&rest).is_some_and(|length| length <= rest.len()) {
        let batch = Batch::split(&mut rest).map_err(|_| Error::Corrupt(chunk.next))?;
        chunk.next = Offset(batch.last_offset().0 + 1);
        if !aborted.covers(&batch) && !batch.is_control() && batch.count() > 0 {
            chunk.batches.push(batch);
        }
    }
    Ok(chunk)
}

/// Follows which producers have an aborted transaction open.
struct Aborted {
    /// By first offset, the next one last.
    to_come: Vec<AbortedTransaction>,
    open: HashSet<i64>,
}

impl Aborted {
    fn new(mut to_come: Vec<AbortedTransaction>) -> Self {
        to_come.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            to_come,
            open: HashSet::new(),
        }
    }

    fn covers(&mut self, batch: &Batch) -> bool {
        let last = batch.last_offset().0.cast_signed();
        while let Some(next) = self.to_come.pop_if(|next| next.first_offset <= last) {
            self.open.insert(next.producer_id.0);
        }
        let Some((producer, transactional)) = producer(batch.as_bytes()) else {
            return false;
        };
        if batch.is_control() {
            // Commit or abort: the transaction ends here.
            self.open.remove(&producer);
        }
        transactional && self.open.contains(&producer)
    }
}

/// Producer id, and whether the batch belongs to a transaction (bit 4 of the attributes).
fn producer(batch: &Bytes) -> Option<(i64, bool)> {
    let id = i64::from_be_bytes(batch.get(43..51)?.try_into().ok()?);
    Some((id, batch.get(22)? & (1 << 4) != 0))
}

pub(crate) async fn bounds(cluster: &Cluster, log: LogId) -> Result<Bounds, Error> {
    let start = offset(cluster, log, EARLIEST, true)
        .await?
        .unwrap_or_default();
    let end = end(cluster, log).await?;
    Ok(Bounds {
        start: start.min(end),
        end,
    })
}

pub(crate) async fn end(cluster: &Cluster, log: LogId) -> Result<Offset, Error> {
    Ok(offset(cluster, log, LATEST, true)
        .await?
        .unwrap_or_default())
}

/// The same without a look whether the name passed to another topic: for who looks again and again, and
/// reads by id what it finds.
pub(crate) async fn end_by_name(cluster: &Cluster, log: LogId) -> Result<Offset, Error> {
    Ok(offset(cluster, log, LATEST, false)
        .await?
        .unwrap_or_default())
}

pub(crate) async fn offset_at(
    cluster: &Cluster,
    log: LogId,
    time: Timestamp,
) -> Result<Offset, Error> {
    // Negative times have meanings of their own in this request.
    match offset(cluster, log, time.0.max(0), true).await? {
        Some(offset) => Ok(offset),
        None => end(cluster, log).await,
    }
}

async fn offset(
    cluster: &Cluster,
    log: LogId,
    time: i64,
    is_checked: bool,
) -> Result<Option<Offset>, Error> {
    ask_again(|| async move {
        let (topic, leader) = cluster.leader(log, Role::Question).await?;
        let partition = ListOffsetsPartition::default()
            .with_partition_index(log.index.cast_signed())
            .with_current_leader_epoch(-1)
            .with_timestamp(time);
        let wanted = ListOffsetsTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(CLIENT)
            .with_isolation_level(READ_COMMITTED)
            .with_timeout_ms(limits::BROKER_MS)
            .with_topics(vec![wanted]);
        let answer = leader.ask(6..=10, &request).await?;
        let found = answer
            .topics
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .next();
        let found = found.ok_or_else(|| Again::Later("the answer names no log".into()))?;
        if found.error_code != 0 {
            return Err(moved(cluster, log, found.error_code));
        }
        // The request names the topic, and a name may have passed to another topic.
        if is_checked {
            cluster.refresh(log.set).await?;
        }
        Ok(u64::try_from(found.offset).ok().map(Offset))
    })
    .await
}

pub(crate) async fn trim(cluster: &Cluster, log: LogId, before: Offset) -> Result<(), Error> {
    let bounds = bounds(cluster, log).await?;
    let before = before.min(bounds.end);
    if before <= bounds.start {
        return Ok(());
    }
    ask_again(|| async move {
        let (topic, leader) = cluster.leader(log, Role::Question).await?;
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(log.index.cast_signed())
            .with_offset(before.0.cast_signed());
        let wanted = DeleteRecordsTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default()
            .with_timeout_ms(limits::BROKER_MS)
            .with_topics(vec![wanted]);
        let answer = leader.ask(2..=2, &request).await?;
        let trimmed = answer
            .topics
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .next();
        match trimmed.map(|partition| partition.error_code) {
            None | Some(0) => Ok(()),
            Some(code) => match ResponseError::try_from_code(code) {
                // Another trim was faster, or the topic is compacted: it is advice.
                Some(ResponseError::OffsetOutOfRange | ResponseError::PolicyViolation) => Ok(()),
                _ => Err(moved(cluster, log, code)),
            },
        }
    })
    .await
}

/// An error of one log. Whoever led it may not any more, so the topic is asked for again;
/// that also tells whether it is gone.
pub(crate) fn moved(cluster: &Cluster, log: LogId, code: i16) -> Again {
    cluster.forget(log.set);
    match ResponseError::try_from_code(code) {
        Some(ResponseError::UnknownTopicId | ResponseError::InconsistentTopicId) => {
            Again::Later("the topic is not known there".into())
        }
        _ => check(code)
            .err()
            .unwrap_or_else(|| Again::Later("no error".into())),
    }
}
