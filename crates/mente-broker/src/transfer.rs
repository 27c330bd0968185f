//! Copies what goes on from one view to a topic: forwarded, or due now.
//!
//! As with dead letters the journal holds the intent (`Dead` with `to`), the copy follows, `Buried` confirms it.
//! Copies of one view are made one batch at a time, in the order of its log, and each names the record that it is
//! made of: an owner that begins, or does not know what came of a batch, looks first at what is there already.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use mente_engine::{
    BatchBuilder, Clock, Engine, Error, Event, Limit, LogId, Offset, Record, limits,
};

use crate::claim::{self, Claim, records_of, refer};
use crate::dead_letter::{change, letter_of, record_of};
use crate::journal::Topic;
use crate::partition;
use crate::properties::Properties;
use crate::shard::Burial;
use crate::store::actor_header;
use crate::structured::{ACTOR, ParseEvent, event_of, forget_actor};
use crate::terms::Terms;

/// Records of one view to be copied to one topic, in the order of their log.
#[derive(Debug)]
pub(crate) struct Transfer {
    target: Topic,
    burials: Vec<Burial>,
    /// What earlier owners copied of these; none while nobody has looked.
    known: Option<Arc<HashSet<String>>>,
}

/// What came of a batch.
#[derive(Debug)]
pub(crate) struct Transferred {
    /// Each with where its copy lies, if one was made.
    pub(crate) done: Vec<(Burial, Option<Offset>)>,
    /// What could not be read; those behind it do not wait for it.
    pub(crate) failed: Vec<Burial>,
    pub(crate) known: Arc<HashSet<String>>,
}

/// Copies that one batch makes at most.
const AT_ONCE: usize = 256;

impl Transfer {
    /// Of all that is to go on to the topic.
    pub(crate) fn new(
        target: Topic,
        burials: Vec<Burial>,
        known: Option<Arc<HashSet<String>>>,
    ) -> Self {
        Self {
            target,
            burials,
            known,
        }
    }
}

/// What a copy is called by: the record, and which copy of it.
fn origin(burial: &Burial) -> String {
    match burial.partition == burial.log.index {
        true => format!("{}-{}", burial.log, burial.offset),
        // Of a copy that a rule makes.
        false => format!("{}-{}-{}", burial.log, burial.partition, burial.offset),
    }
}

/// Copies the first of them that were not copied before.
pub(crate) async fn transfer(
    engine: &dyn Engine,
    transfer: &Transfer,
    clock: &dyn Clock,
    parse: ParseEvent,
    properties: &dyn Properties,
) -> Result<Transferred, Error> {
    let known = match &transfer.known {
        Some(known) => Arc::clone(known),
        None => Arc::new(copied(engine, transfer).await?),
    };
    let mut batches: BTreeMap<LogId, (BatchBuilder, Vec<usize>)> = BTreeMap::new();
    let mut done: Vec<(Burial, Option<Offset>)> = Vec::new();
    let mut failed = Vec::new();
    let mut bytes = 0;
    for burial in transfer.burials.iter().take(AT_ONCE) {
        let origin = origin(burial);
        let index = done.len();
        let record = match known.contains(&origin) {
            true => None,
            false => match alone(burial, original(engine, burial).await)? {
                Some(record) => record,
                None => {
                    failed.push(burial.clone());
                    continue;
                }
            },
        };
        let claims = record.as_ref().and_then(|record| Terms::of(record).claim);
        if claims.is_some() && index > 0 {
            // Its data is copied first, which takes a while: a batch of its own.
            break;
        }
        if let Some(record) = record {
            let claim = match claims {
                Some(claim) => copy_data(engine, burial, claim, clock).await,
                None => Ok(None),
            };
            let Some(claim) = alone(burial, claim)? else {
                failed.push(burial.clone());
                // The next one's data is another call's: that may take as long.
                break;
            };
            let (event, headers) = copy(&record, burial, origin, claim, parse, properties);
            let record = event.to_record_with(clock.now().wall, headers);
            let size = record.value.as_ref().map_or(0, |value| value.len());
            // The next batch takes it.
            if index > 0 && bytes + size > limits::BATCH_BYTES / 2 {
                break;
            }
            bytes += size;
            let partitions = transfer.target.partitions;
            let log = record
                .key
                .as_ref()
                .map_or(0, |key| partition::for_key(key, partitions));
            let (batch, indices) = batches.entry(transfer.target.set.log(log)).or_default();
            batch.push(&record);
            indices.push(index);
        }
        done.push((burial.clone(), None));
        if claims.is_some() {
            break;
        }
    }
    for (log, (batch, indices)) in batches {
        let appended = engine.append(&[], vec![(log, batch.finish())]).await?;
        let base = appended.first().map(|appended| appended.base.0);
        let base = base.ok_or(Error::Unknown("no answer for the batch".into()))?;
        for (at, index) in (base..).zip(indices) {
            done[index].1 = Some(Offset(at));
        }
    }
    Ok(Transferred {
        done,
        failed,
        known,
    })
}

/// `None`: it cannot be had, for a moment or for ever, and that may be so of this one record alone.
fn alone<T>(burial: &Burial, had: Result<T, Error>) -> Result<Option<T>, Error> {
    match had {
        Err(error @ (Error::Unreadable(_) | Error::NotDone(_))) => {
            tracing::warn!(subscription = %burial.name, offset = %burial.offset, %error, "a message does not go on yet");
            Ok(None)
        }
        had => had.map(Some),
    }
}

/// Of a record, before those of its event.
type Headers = Vec<(Bytes, Option<Bytes>)>;

/// The data that a record claims, once more where its copy goes. `None`: it is not there any more, and of no use to
/// wait for.
async fn copy_data(
    engine: &dyn Engine,
    burial: &Burial,
    claim: Claim,
    clock: &dyn Clock,
) -> Result<Option<Claim>, Error> {
    let Some(to) = &burial.to else {
        return Ok(None);
    };
    let from = records_of(&burial.name);
    let copied = claim::copy(engine, claim, &from, &to.topic_set(), clock).await?;
    if copied.is_none() {
        tracing::error!(subscription = %burial.name, offset = %burial.offset, "a message goes on without its data, which is not there any more");
    }
    Ok(copied)
}

fn copy(
    record: &Record,
    burial: &Burial,
    origin: String,
    claim: Option<Claim>,
    parse: ParseEvent,
    properties: &dyn Properties,
) -> (Event, Headers) {
    let place = format!("/topics/{}", burial.name.topic);
    let mut event: Event = event_of(record, &place, burial.log.index, burial.offset, parse);
    let mut terms = Terms::of(record);
    if !burial.reason.is_empty() {
        letter_of(
            &mut event,
            burial,
            format!("{}-{}", burial.log.index, burial.offset),
        );
    }
    if let (Some(_), Some(to)) = (terms.claim, &burial.to) {
        refer(&mut event, claim.map(|claim| claim.path(to)));
        terms.claim = claim;
    }
    change(&mut event, burial, properties);
    terms.hops = terms.hops.saturating_add(u32::from(!burial.name.is_hold()));
    terms.note = burial.note.clone().or(terms.note);
    terms.origin = Some(origin);
    terms.transaction = None;
    terms.target = None;
    let mut headers = terms.headers();
    // Who published it is told of the copy as well.
    let actor = event.extension(ACTOR).map(mente_engine::Attribute::to_text);
    forget_actor(&mut event);
    headers.extend(actor.as_deref().map(actor_header));
    (event, headers)
}

/// `None` if retention was faster.
async fn original(engine: &dyn Engine, burial: &Burial) -> Result<Option<Record>, Error> {
    match record_of(engine, burial).await {
        Err(Error::Corrupt(_)) => Ok(None),
        found => found,
    }
}

/// Which of these are copied there already, as far back as copies of them may lie.
async fn copied(engine: &dyn Engine, transfer: &Transfer) -> Result<HashSet<String>, Error> {
    let wanted: HashSet<String> = transfer.burials.iter().map(origin).collect();
    let since = transfer.burials.iter().map(|burial| burial.since).min();
    let mut found = HashSet::new();
    for index in 0..transfer.target.partitions {
        let log = transfer.target.set.log(index);
        let bounds = engine.bounds(log).await?;
        // A place is told of the one log that entities have, unless it is another one of the name.
        let since = since.filter(|since| transfer.target.partitions == 1 && *since <= bounds.end);
        let mut from = since.unwrap_or_default().max(bounds.start);
        while from < bounds.end {
            let chunk = engine.read(log, from, Limit::default()).await?;
            let records = chunk.batches.iter().flat_map(mente_engine::Batch::records);
            for (_, record) in records.flatten() {
                let origin = record.header(Terms::origin_header());
                let origin = origin.and_then(|origin| std::str::from_utf8(origin).ok());
                found.extend(
                    origin
                        .filter(|origin| wanted.contains(*origin))
                        .map(str::to_owned),
                );
            }
            if chunk.next <= from {
                // A copy that is not seen would be made again.
                let message = format!("{log} ends at {from}, before {}", bounds.end);
                return Err(Error::Busy(message));
            }
            from = chunk.next;
        }
    }
    Ok(found)
}
