//! Copies what goes on from one view to a topic: forwarded, or due now.
//!
//! As with dead letters the journal holds the intent (`Dead` with `to`), the copy follows, `Buried` confirms it.
//! Copies of one view are made one batch at a time, in the order of its log, and each names the record that it is
//! made of: an owner that begins, or does not know what came of a batch, looks first at what is there already.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use mente_engine::{
    BatchBuilder, Engine, Error, Event, Limit, LogId, Offset, Record, Timestamp, limits,
};

use crate::dead_letter::{change, letter_of};
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
    pub(crate) view: u64,
    pub(crate) target: Topic,
    pub(crate) burials: Vec<Burial>,
    /// What earlier owners may have copied is to be looked at first.
    pub(crate) looks: bool,
    /// Counted as forwarded.
    pub(crate) is_hop: bool,
}

/// Copies that one batch makes at most.
pub(crate) const AT_ONCE: usize = 256;

/// By record: where its copy lies, if there was anything to copy and it was not there before.
pub(crate) async fn transfer(
    engine: &dyn Engine,
    transfer: &Transfer,
    now: Timestamp,
    parse: ParseEvent,
    properties: &dyn Properties,
) -> Result<Vec<(Burial, Option<Offset>)>, Error> {
    let there = match transfer.looks {
        true => origins(engine, transfer).await?,
        false => HashSet::new(),
    };
    let mut batches: BTreeMap<LogId, (BatchBuilder, Vec<usize>)> = BTreeMap::new();
    let mut done: Vec<(Burial, Option<Offset>)> = Vec::new();
    let mut bytes = 0;
    for burial in &transfer.burials {
        let origin = match burial.partition == burial.log.index {
            true => format!("{}-{}", burial.log, burial.offset),
            // Of a copy that a rule makes.
            false => format!("{}-{}-{}", burial.log, burial.partition, burial.offset),
        };
        let index = done.len();
        if !there.contains(origin.as_bytes())
            && let Some((event, headers)) =
                copy(engine, transfer, burial, origin, parse, properties).await?
        {
            let record = event.to_record_with(now, headers);
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
    }
    for (log, (batch, indices)) in batches {
        let appended = engine.append(&[], vec![(log, batch.finish())]).await?;
        let base = appended.first().map(|appended| appended.base.0);
        let base = base.ok_or(Error::Unknown("no answer for the batch".into()))?;
        for (at, index) in (base..).zip(indices) {
            done[index].1 = Some(Offset(at));
        }
    }
    Ok(done)
}

/// Of a record, before those of its event.
type Headers = Vec<(Bytes, Option<Bytes>)>;

/// The copy; `None` if retention was faster.
async fn copy(
    engine: &dyn Engine,
    transfer: &Transfer,
    burial: &Burial,
    origin: String,
    parse: ParseEvent,
    properties: &dyn Properties,
) -> Result<Option<(Event, Headers)>, Error> {
    let Some(record) = original(engine, burial).await? else {
        return Ok(None);
    };
    let place = format!("/topics/{}", burial.name.topic);
    let mut event: Event = event_of(&record, &place, burial.log.index, burial.offset, parse);
    let mut terms = Terms::of(&record);
    if !burial.reason.is_empty() {
        letter_of(
            &mut event,
            burial,
            format!("{}-{}", burial.log.index, burial.offset),
        );
    }
    change(&mut event, burial, properties);
    terms.hops = terms.hops.saturating_add(transfer.is_hop.into());
    terms.note = burial.note.clone().or(terms.note);
    terms.origin = Some(origin);
    let mut headers = terms.headers();
    // Who published it is told of the copy as well.
    let actor = event.extension(ACTOR).map(mente_engine::Attribute::to_text);
    forget_actor(&mut event);
    headers.extend(actor.as_deref().map(actor_header));
    Ok(Some((event, headers)))
}

async fn original(engine: &dyn Engine, burial: &Burial) -> Result<Option<Record>, Error> {
    let read = engine.read(burial.log, burial.offset, Limit { bytes: 1 });
    let chunk = match read.await {
        Err(Error::Trimmed(_) | Error::Gone | Error::Corrupt(_)) => return Ok(None),
        chunk => chunk?,
    };
    let records = chunk.batches.iter().flat_map(mente_engine::Batch::records);
    let found = records
        .flatten()
        .find(|(offset, _)| *offset == burial.offset);
    Ok(found.map(|(_, record)| record))
}

/// The records that copies there are made of, as far back as copies of these may lie.
async fn origins(engine: &dyn Engine, transfer: &Transfer) -> Result<HashSet<Vec<u8>>, Error> {
    let since = transfer.burials.iter().map(|burial| burial.since).min();
    let mut origins = HashSet::new();
    for index in 0..transfer.target.partitions {
        let log = transfer.target.set.log(index);
        let bounds = engine.bounds(log).await?;
        // A place is told of the one log that entities have; others are looked at whole.
        let since = since.filter(|_| transfer.target.partitions == 1);
        let mut from = since.unwrap_or_default().max(bounds.start);
        while from < bounds.end {
            let chunk = engine.read(log, from, Limit::default()).await?;
            let records = chunk.batches.iter().flat_map(mente_engine::Batch::records);
            for (_, record) in records.flatten() {
                if let Some(origin) = record.header(Terms::origin_header()) {
                    origins.insert(origin.to_vec());
                }
            }
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
    }
    Ok(origins)
}
