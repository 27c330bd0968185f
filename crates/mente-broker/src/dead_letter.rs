//! Copies what a subscription gave up on into its dead-letter log.
//!
//! The journal holds the intent (`Dead`), the copy follows, `Buried` confirms it. Between the
//! two the process may die, so the copy names its origin, and after a restart the log is
//! searched for it first: one record gives one dead letter.

use std::collections::BTreeMap;

use futures::lock::Mutex;
use mente_engine::{
    Attribute, BatchBuilder, Data, Engine, Error, Event, Fence, Limit, LogConfig, LogId, Offset,
    Record, Timestamp,
};

use crate::shard::Burial;
use crate::store::place_of;
use crate::structured::{ParseEvent, event_of};

/// Extension attribute of a dead letter: why, such as `MaxDeliveryAttemptsExceeded`.
pub const REASON: &str = "deadletterreason";
/// Extension attribute: what the last receiver said.
pub const RESULT: &str = "deliveryresult";
/// Extension attribute: failed deliveries.
pub const ATTEMPTS: &str = "deliveryattempts";
/// Extension attribute: `partition-offset` in the topic.
pub const ORIGIN: &str = "deadletterorigin";

/// Extension attributes, if it is of the store: where it stands there.
pub const STREAM: &str = "deadletterstream";
pub const REVISION: &str = "deadletterrevision";
pub const POSITION: &str = "deadletterposition";

/// Type of a dead letter that stands for a record that cannot be read any more.
pub const UNREADABLE: &str = "Mente.UnreadableRecord";

/// How far before the last confirmed copy an unconfirmed one is looked for; many times what is
/// under way at one time.
const LOOK_BACK: u64 = 1_024;

/// The fences of one owner of the shard on its dead letters, where there are other nodes: what an owner
/// before it still has under way does not land behind the look for it.
#[derive(Debug, Default)]
pub(crate) struct Fences(Mutex<BTreeMap<LogId, Fence>>);

impl Fences {
    /// And whether it was claimed just now, so that others may have written before.
    async fn of(&self, engine: &dyn Engine, log: LogId) -> Result<(Fence, bool), Error> {
        let mut claimed = self.0.lock().await;
        if let Some(fence) = claimed.get(&log) {
            return Ok((*fence, false));
        }
        let fence = engine.claim(log).await?;
        claimed.insert(log, fence);
        Ok((fence, true))
    }

    /// Nothing lands under it any more.
    async fn drop(&self, fence: Fence) {
        let mut claimed = self.0.lock().await;
        if claimed.get(&fence.log) == Some(&fence) {
            claimed.remove(&fence.log);
        }
    }
}

/// How a copy is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// A copy may be there already.
    pub(crate) look: bool,
    pub(crate) now: Timestamp,
    pub(crate) parse: ParseEvent,
}

/// Copies one record; answers where the copy lies.
pub(crate) async fn bury(
    engine: &dyn Engine,
    burial: &Burial,
    way: Way,
    fences: Option<&Fences>,
) -> Result<Offset, Error> {
    let Way { look, now, parse } = way;
    let set = burial.name.dead_letter_set();
    let config = LogConfig {
        owned: fences.is_some(),
        ..LogConfig::default()
    };
    let log = engine.create(&set, 1, config).await?.log(0);
    let (fence, is_new) = match fences {
        Some(fences) => {
            let (fence, is_new) = fences.of(engine, log).await?;
            (Some(fence), is_new)
        }
        None => (None, false),
    };
    let origin = format!("{}-{}", burial.log.index, burial.offset);
    if (look || is_new)
        && let Some(at) = find(engine, log, burial, &origin).await?
    {
        return Ok(at);
    }
    let mut event = match original(engine, burial, parse).await {
        // Of no use to wait for, and not to be dropped without a word either.
        Err(Error::Corrupt(at)) => {
            tracing::error!(subscription = %burial.name, %origin, %at, "a record is damaged: its dead letter only says that it was there");
            stand_in(burial, &origin, at)
        }
        found => match found? {
            Some(event) => event,
            None => {
                tracing::warn!(subscription = %burial.name, %origin, "retention took a record before its dead letter was copied");
                return Ok(engine.bounds(log).await?.end);
            }
        },
    };
    event
        .extensions
        .retain(|(name, _)| ![REASON, RESULT, ATTEMPTS, ORIGIN].contains(&name.as_str()));
    let attempts = i32::try_from(burial.attempts).unwrap_or(i32::MAX);
    event.extensions.extend([
        (REASON.into(), Attribute::Text(burial.reason.clone())),
        (RESULT.into(), Attribute::Text(burial.detail.clone())),
        (ATTEMPTS.into(), Attribute::Integer(attempts)),
        (ORIGIN.into(), Attribute::Text(origin)),
    ]);
    let mut batch = BatchBuilder::default();
    batch.push(&event.to_record(now));
    let held: Vec<_> = fence.into_iter().collect();
    let appended = engine.append(&held, vec![(log, batch.finish())]).await;
    if let (Err(_), Some(fences), Some(fence)) = (&appended, fences, fence) {
        fences.drop(fence).await;
    }
    appended?
        .first()
        .map(|a| a.base)
        .ok_or(Error::Unknown("no answer for the batch".into()))
}

async fn original(
    engine: &dyn Engine,
    burial: &Burial,
    parse: ParseEvent,
) -> Result<Option<Event>, Error> {
    let chunk = match engine
        .read(burial.log, burial.offset, Limit { bytes: 1 })
        .await
    {
        Err(Error::Trimmed(_) | Error::Gone) => return Ok(None),
        chunk => chunk?,
    };
    let records = chunk.batches.iter().flat_map(mente_engine::Batch::records);
    let found = records
        .flatten()
        .find(|(offset, _)| *offset == burial.offset);
    let topic = format!("/topics/{}", burial.name.topic);
    Ok(found.map(|(offset, record)| {
        let mut event = event_of(&record, &topic, burial.log.index, offset, parse);
        if burial.name.topic.is_store() {
            tell_place(&mut event, offset, &record);
        }
        event
    }))
}

fn tell_place(event: &mut Event, offset: Offset, record: &Record) {
    let Some(place) = place_of(offset, record) else {
        return;
    };
    let stream = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
    let (revision, position) = (place.revision.to_string(), place.position.to_string());
    let told = [
        (STREAM, stream.into_owned()),
        (REVISION, revision),
        (POSITION, position),
    ];
    let is_told = |name: &str| told.iter().any(|(told, _)| *told == name);
    event.extensions.retain(|(name, _)| !is_told(name));
    let told = told.map(|(name, text)| (name.to_owned(), Attribute::Text(text)));
    event.extensions.extend(told);
}

/// What can be said of a record that cannot be read.
fn stand_in(burial: &Burial, origin: &str, at: Offset) -> Event {
    let said = format!(
        "the record at offset {} of partition {} cannot be read: its log is damaged from offset {at} on",
        burial.offset, burial.log.index
    );
    Event {
        id: origin.into(),
        source: format!("/topics/{}", burial.name.topic),
        kind: UNREADABLE.into(),
        datacontenttype: Some("text/plain".into()),
        data: Data::Text(said.into()),
        ..Event::default()
    }
}

/// Looks for the copy of `origin` from the last confirmed one on, and behind what was given back.
async fn find(
    engine: &dyn Engine,
    log: LogId,
    burial: &Burial,
    origin: &str,
) -> Result<Option<Offset>, Error> {
    let bounds = engine.bounds(log).await?;
    // Copies are made side by side: an unconfirmed one may lie somewhat before a confirmed one.
    let after = burial.buried_at;
    let near = after.map_or(bounds.start, |at| Offset(at.0.saturating_sub(LOOK_BACK)));
    let mut from = near.max(bounds.start).max(burial.revived_upto);
    while from < bounds.end {
        let chunk = engine.read(log, from, Limit::default()).await?;
        for (offset, record) in chunk
            .batches
            .iter()
            .flat_map(mente_engine::Batch::records)
            .flatten()
        {
            let named = record.header(&format!("ce_{ORIGIN}"));
            if named.is_some_and(|value| value == origin.as_bytes()) {
                return Ok(Some(offset));
            }
        }
        if chunk.next <= from {
            break;
        }
        from = chunk.next;
    }
    Ok(None)
}
