//! Who may write an owned log: claims, and their renewal.
//!
//! Each owned log has a transactional id of its own. Its coordinator gives every claim a
//! higher epoch of one producer id; the term record, the first batch of that epoch, makes the
//! log's leader refuse all lower ones. There are no transactions: batches are plain, and
//! their sequence keeps them whole and in order. Why this holds also where Kafka forgets
//! producers, and what was seen on a real one: `docs/adr/0001-fence-on-kafka.md`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::{
    DescribeProducersRequest, InitProducerIdRequest, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use mente_engine::{Batch, Error, Fence, Limit, LogId, Offset, Term, Timestamp};

use crate::cluster::{Again, Cluster, Kept, Role, Topic, ask_again, check, coordinator};
use crate::connection::Connection;
use crate::produce::{self, Sequence};
use crate::settings::{OF_BROKER, settings};
use crate::{limits, read};

/// What the owner of a log writes with.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) fence: Fence,
    pub(crate) sequence: Sequence,
    /// The fence holds on this connection only. Brokers close one that is silent, long before
    /// they forget a producer; so no request can come out of the dark after a later claim
    /// was forgotten.
    pub(crate) connection: Arc<Connection>,
    proven: Proven,
}

/// When the cluster last agreed that this claim is the last one.
#[derive(Debug)]
struct Proven {
    at: Instant,
    /// The other clock stands still while the machine sleeps.
    at_wall: SystemTime,
    for_at_most: Duration,
}

impl Claim {
    /// Whether it must be renewed before the next write.
    pub(crate) fn is_due(&self) -> bool {
        let by_wall = self.proven.at_wall.elapsed().unwrap_or(Duration::MAX);
        !self.connection.is_open()
            || self.proven.at.elapsed().max(by_wall) > self.proven.for_at_most
    }

    /// When to renew even if nothing is written: well before it is due.
    pub(crate) fn renew_at(&self) -> Instant {
        self.proven.at + self.proven.for_at_most / 2
    }
}

/// Takes the log over. The caller has no append under way on it.
pub(crate) async fn claim(
    cluster: &Cluster,
    log: LogId,
    role: Role,
    longest: Duration,
) -> Result<Claim, Error> {
    let topic = ask_again(|| cluster.refresh(log.set)).await?;
    if !topic.owned {
        return Err(Error::NotDone("only an owned log is claimed".into()));
    }
    for _ in 0..limits::CLAIM_TRIES {
        let next = ask_again(|| next_epoch(cluster, log, None, role, longest)).await?;
        let NextEpoch {
            topic,
            connection,
            sequence,
            proven,
        } = next;
        match take_over(cluster, log, &topic, &connection, sequence).await {
            Ok((fence, sequence)) => {
                return Ok(Claim {
                    fence,
                    sequence,
                    connection,
                    proven,
                });
            }
            // Another claim came in between: go after it.
            Err(Error::Fenced) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Busy("too many claims of one log at one time".into()))
}

/// Writes the term record, and makes sure that it stands above all others.
async fn take_over(
    cluster: &Cluster,
    log: LogId,
    topic: &Topic,
    connection: &Arc<Connection>,
    mut sequence: Sequence,
) -> Result<(Fence, Sequence), Error> {
    shut_out_strangers(topic, log, connection, sequence.id).await?;
    // A term is higher than the offset of every earlier term record, hence than its term.
    // So it rises without a search for the last one, and over a trim.
    let mut seen = read::end(cluster, log).await?;
    loop {
        let term = Term(seen.0 + 1);
        let record = sequence.stamp(&Batch::of_term(term, now()));
        let at = produce::send(connection, log, record.clone())
            .await?
            .outcome()
            .await?
            .base;
        let (own, rival) = between(cluster, log, seen, at, &record).await?;
        if !own {
            // Kafka took it for a repeat of what another claim wrote.
            return Err(Error::Fenced);
        }
        if !rival {
            return Ok((Fence { log, term, at }, sequence));
        }
        seen = Offset(at.0 + 1);
    }
}

/// Whether our record stands at `at`, and whether a term record came between `seen` and it.
async fn between(
    cluster: &Cluster,
    log: LogId,
    seen: Offset,
    at: Offset,
    record: &Batch,
) -> Result<(bool, bool), Error> {
    let (mut from, mut rival) = (seen.min(at), false);
    while from <= at {
        let chunk = read::read(cluster, log, from, Limit::default()).await?;
        for batch in chunk.batches {
            if batch.base_offset() == at {
                return Ok((
                    produce::producer_of(&batch) == produce::producer_of(record),
                    rival,
                ));
            }
            rival |= batch.term().is_some_and(|term| Some(term) >= record.term());
        }
        if chunk.next == from {
            break;
        }
        from = chunk.next;
    }
    Ok((false, rival))
}

/// The coordinator gives another producer id when it has forgotten the log, or when epochs
/// run out. Then whoever still writes with the old one is shut out by a batch in its name.
async fn shut_out_strangers(
    topic: &Topic,
    log: LogId,
    connection: &Arc<Connection>,
    own: i64,
) -> Result<(), Error> {
    let strangers = ask_again(|| producers(topic, log, connection)).await?;
    for stranger in strangers
        .into_iter()
        .filter(|producer| producer.producer_id.0 != own)
    {
        let epoch = i16::try_from(stranger.producer_epoch)
            .ok()
            .and_then(|e| e.checked_add(1));
        // Nothing comes after the last epoch: that one is shut out already.
        let Some(epoch) = epoch else { continue };
        let mut sequence = Sequence::new(stranger.producer_id.0, epoch);
        let record = sequence.stamp(&Batch::of_term(Term(0), now()));
        match produce::send(connection, log, record)
            .await?
            .outcome()
            .await
        {
            // Fenced: it has gone on to a higher epoch, as another claim does.
            Ok(_) | Err(Error::Fenced) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Proves that nobody claimed the log since, under a new epoch. The term stays. The caller
/// has no append under way.
pub(crate) async fn renew(
    cluster: &Cluster,
    claim: &mut Claim,
    role: Role,
    longest: Duration,
) -> Result<(), Error> {
    let (fence, held) = (claim.fence, &claim.sequence);
    // To repeat it does no harm: the coordinator gives the same epoch again for the same one
    // held, and the leader tells the same batch again from a new one.
    let next = ask_again(|| async {
        let held = (held.id, held.epoch);
        let mut next = next_epoch(cluster, fence.log, Some(held), role, longest).await?;
        if next.sequence.id != held.0 {
            // The epochs of the old id ran out: a claim knows how to deal with that.
            return Err(Again::Never(Error::Fenced));
        }
        let record = next.sequence.stamp(&Batch::of_term(fence.term, now()));
        let sent = produce::send(&next.connection, fence.log, record).await;
        let written = match sent {
            Ok(sent) => sent.outcome().await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => Ok(next),
            Err(Error::Busy(reason) | Error::Unknown(reason)) => {
                cluster.forget(fence.log.set);
                Err(Again::Later(reason))
            }
            Err(error) => Err(Again::Never(error)),
        }
    })
    .await?;
    claim.sequence = next.sequence;
    claim.connection = next.connection;
    claim.proven = next.proven;
    Ok(())
}

/// What a claim and a renewal begin with.
struct NextEpoch {
    topic: Arc<Topic>,
    connection: Arc<Connection>,
    sequence: Sequence,
    proven: Proven,
}

/// A connection to the leader, and the next epoch from the coordinator.
async fn next_epoch(
    cluster: &Cluster,
    log: LogId,
    held: Option<(i64, i16)>,
    role: Role,
    longest: Duration,
) -> Result<NextEpoch, Again> {
    let (topic, connection) = cluster.leader(log, role).await?;
    let for_at_most = unproven_at_most(&topic, log, &connection, longest).await?;
    // Before the question: the proof is at least as young as that.
    let (at, at_wall) = (Instant::now(), SystemTime::now());
    let (id, epoch) = producer_id(cluster, log, held).await?;
    let proven = Proven {
        at,
        at_wall,
        for_at_most,
    };
    Ok(NextEpoch {
        topic,
        connection,
        sequence: Sequence::new(id, epoch),
        proven,
    })
}

/// A producer id and a new epoch from the log's coordinator. With `held`, only if that is
/// still the last one given.
async fn producer_id(
    cluster: &Cluster,
    log: LogId,
    held: Option<(i64, i16)>,
) -> Result<(i64, i16), Again> {
    let name = StrBytes::from_string(format!("mente/{:032x}/{}", log.set.0, log.index));
    let found = coordinator(&cluster.any().await?, Kept::TransactionalId, &name).await?;
    let coordinator = cluster.connect(found, Role::Question).await?;
    let (id, epoch) = held.unwrap_or((-1, -1));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(name)))
        .with_transaction_timeout_ms(limits::TRANSACTION_MS)
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch);
    let answer = coordinator.ask(3..=5, &request).await?;
    match ResponseError::try_from_code(answer.error_code) {
        None => Ok((answer.producer_id.0, answer.producer_epoch)),
        Some(
            ResponseError::ProducerFenced
            | ResponseError::InvalidProducerEpoch
            | ResponseError::InvalidProducerIdMapping,
        ) => Err(Again::Never(Error::Fenced)),
        Some(ResponseError::ConcurrentTransactions) => Err(Again::Later("being fenced".into())),
        Some(_) => Err(check(answer.error_code)
            .err()
            .unwrap_or(Again::Never(Error::Fenced))),
    }
}

/// Who has written the log lately, as its leader remembers.
async fn producers(
    topic: &Topic,
    log: LogId,
    leader: &Arc<Connection>,
) -> Result<Vec<ProducerState>, Again> {
    let wanted = TopicRequest::default()
        .with_name(topic.name.clone())
        .with_partition_indexes(vec![log.index.cast_signed()]);
    let request = DescribeProducersRequest::default().with_topics(vec![wanted]);
    let answer = leader.ask(0..=0, &request).await?;
    let found = answer
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .next();
    let found = found.ok_or_else(|| Again::Later("the answer names no log".into()))?;
    check(found.error_code)?;
    Ok(found.active_producers)
}

/// How long the leader's settings let a claim go unproven: half of what is left of a
/// producer's memory after the silence that a connection may keep.
async fn unproven_at_most(
    topic: &Topic,
    log: LogId,
    leader: &Arc<Connection>,
    longest: Duration,
) -> Result<Duration, Again> {
    const SILENCE: &str = "connections.max.idle.ms";
    const MEMORY: [&str; 2] = [
        "producer.id.expiration.ms",
        "transactional.id.expiration.ms",
    ];
    let broker = topic.leaders.get(log.index as usize).copied().unwrap_or(-1);
    let keys = [SILENCE, MEMORY[0], MEMORY[1]];
    let told = settings(leader, OF_BROKER, &[broker.to_string()], &keys).await?;
    let settings = told.into_values().next().unwrap_or_default();
    let value = |name: &str, default: u64| {
        // A cluster that does not tell is taken to be as Kafka comes.
        let Some(text) = settings.get(name) else {
            return default;
        };
        // Negative means never: connections stay, memory lasts.
        text.parse::<i64>()
            .map_or(default, |ms| u64::try_from(ms).unwrap_or(u64::MAX))
    };
    let silence = value(SILENCE, 600_000);
    let memory = value(MEMORY[0], 86_400_000).min(value(MEMORY[1], 604_800_000));
    let left = Duration::from_millis(memory.saturating_sub(silence) / 2);
    if left < limits::RENEW_MIN {
        let text = format!("{SILENCE} ({silence}) must be well below {MEMORY:?} ({memory})");
        return Err(Again::Never(Error::NotDone(format!(
            "no fence would hold: {text}"
        ))));
    }
    Ok(left.min(longest))
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
