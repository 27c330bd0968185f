//! Copies what a subscription gave up on into its dead-letter log.
//!
//! The journal holds the intent (`Dead`), the copy follows, `Buried` confirms it. Between the
//! two the process may die, or another node decide, so the copy names its origin, and whoever begins to
//! write the log reads first what owners before may have left there: one record gives one dead letter.
//!
//! Where there are other nodes the log is claimed before it is read, so that nothing of theirs lands behind
//! the look for it. What is decided after that needs no look: nobody else knows of it without a later
//! claim, and a later claim ends this one.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mente_engine::{
    Attribute, BatchBuilder, Clock, Data, Engine, Error, Event, Fence, Limit, LogConfig, LogId,
    Offset, Record, SetName,
};

use crate::claim::{self, Claim, read_one, records_of, refer};
use crate::planted::{Planted, planted};
use crate::properties::Properties;
use crate::shard::Burial;
use crate::store::{actor_header, place_of};
use crate::structured::{ACTOR, ParseEvent, event_of, forget_actor};
use crate::terms::Terms;

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

/// The dead-letter logs that one owner of a shard writes.
#[derive(Debug)]
pub(crate) struct Letters {
    logs: Mutex<BTreeMap<LogId, Slot>>,
    /// There are other nodes.
    are_claimed: bool,
    is_closed: AtomicBool,
}

/// While it is locked somebody claims or reads.
type Slot = Arc<futures::lock::Mutex<Option<Arc<Known>>>>;

/// What is known of one log since it was taken over.
#[derive(Debug)]
struct Known {
    fence: Option<Fence>,
    /// By origin: the copies that were there already.
    copies: HashMap<Vec<u8>, Offset>,
}

impl Letters {
    pub(crate) fn new(are_claimed: bool) -> Self {
        Self {
            logs: Mutex::default(),
            are_claimed,
            is_closed: AtomicBool::new(false),
        }
    }

    /// No log is claimed any more: that would only be in the way of who decides now.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    fn slot(&self, log: LogId) -> Slot {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(logs.entry(log).or_default())
    }

    /// Takes the log over if this is not done; no copy that matters lies before `since`.
    async fn of(
        &self,
        engine: &dyn Engine,
        log: LogId,
        since: Offset,
    ) -> Result<Arc<Known>, Error> {
        let slot = self.slot(log);
        let mut known = slot.lock().await;
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let fence = match self.are_claimed {
            true if self.is_closed.load(Ordering::Relaxed) => return Err(Error::Fenced),
            true => Some(engine.claim(log).await?),
            false => None,
        };
        let end = match fence {
            Some(fence) => fence.at,
            None => engine.bounds(log).await?.end,
        };
        let copies = copies(engine, log, since, end).await?;
        Ok(Arc::clone(known.insert(Arc::new(Known { fence, copies }))))
    }

    /// An append failed: it may be there all the same, or the log may be another's.
    async fn forget(&self, log: LogId, failed: &Arc<Known>) {
        let slot = self.slot(log);
        let mut known = slot.lock().await;
        // Without a fence it may land behind a look that was begun meanwhile.
        known.take_if(|known| known.fence.is_none() || Arc::ptr_eq(known, failed));
    }
}

/// Copies one record; answers where the copy lies, if there was anything to copy.
pub(crate) async fn bury(
    engine: &dyn Engine,
    burial: &Burial,
    letters: &Letters,
    clock: &dyn Clock,
    parse: ParseEvent,
    properties: &dyn Properties,
) -> Result<Option<Offset>, Error> {
    let set = burial.name.dead_letter_set();
    let config = LogConfig {
        owned: letters.are_claimed,
        ..LogConfig::default()
    };
    let log = engine.create(&set, 1, config).await?.log(0);
    let look_from = burial.look_from.max(burial.revived_upto);
    let known = letters.of(engine, log, look_from).await?;
    let origin = format!("{}-{}", burial.partition, burial.offset);
    let copy = known.copies.get(origin.as_bytes()).copied();
    if let Some(at) = copy.filter(|at| *at >= burial.since.max(burial.revived_upto)) {
        return Ok(Some(at));
    }
    let Some((mut event, said)) = letter(engine, burial, origin, parse).await? else {
        return Ok(None);
    };
    let claim = match said.claim {
        Some(claim) => {
            // It is read through the queue that it is in: no path leads there.
            refer(&mut event, None);
            copy_data(engine, burial, claim, &set, clock).await?
        }
        None => None,
    };
    change(&mut event, burial, properties);
    // The copy is Mente's; who published the event is told of it as of the event.
    let actor = event.extension(ACTOR).map(Attribute::to_text);
    forget_actor(&mut event);
    // What its sender said of its time is told of it still; its hops and its origin are the copy's own.
    let terms = Terms {
        time_to_live: said.time_to_live,
        due: said.due,
        note: burial.note.clone(),
        claim,
        ..Terms::default()
    };
    let mut first = terms.headers();
    first.extend(actor.as_deref().map(actor_header));
    let mut batch = BatchBuilder::default();
    batch.push(&event.to_record_with(clock.now().wall, first));
    let held: Vec<_> = known.fence.into_iter().collect();
    let appended = engine.append(&held, vec![(log, batch.finish())]).await;
    if appended.is_err() {
        letters.forget(log, &known).await;
    }
    let at = appended?.first().map(|appended| appended.base);
    at.map(Some)
        .ok_or(Error::Unknown("no answer for the batch".into()))
}

/// The data that the record claims, once more beside the dead letters. `None`: it is not there any more.
async fn copy_data(
    engine: &dyn Engine,
    burial: &Burial,
    claim: Claim,
    letters: &SetName,
    clock: &dyn Clock,
) -> Result<Option<Claim>, Error> {
    let from = records_of(&burial.name);
    let copied = claim::copy(engine, claim, &from, letters, clock).await?;
    if copied.is_none() {
        tracing::error!(subscription = %burial.name, offset = %burial.offset, "a dead letter is without its data, which is not there any more");
    }
    Ok(copied)
}

/// The copy; `None` if there is nothing to be copied any more.
async fn letter(
    engine: &dyn Engine,
    burial: &Burial,
    origin: String,
    parse: ParseEvent,
) -> Result<Option<(Event, Terms)>, Error> {
    let (mut event, terms) = match original(engine, burial, parse).await {
        // Of no use to wait for, and not to be dropped without a word either.
        Err(Error::Corrupt(at)) => {
            tracing::error!(subscription = %burial.name, %origin, %at, "a record is damaged: its dead letter only says that it was there");
            (stand_in(burial, &origin, at), Terms::default())
        }
        found => match found? {
            Some(found) => found,
            None => {
                tracing::warn!(subscription = %burial.name, %origin, "retention took a record before its dead letter was copied");
                return Ok(None);
            }
        },
    };
    letter_of(&mut event, burial, origin);
    Ok(Some((event, terms)))
}

/// Changes it as the rule does that made the copy which is given up on.
pub(crate) fn change(event: &mut Event, burial: &Burial, properties: &dyn Properties) {
    if let Some(rule) = &burial.rule
        && let Err(error) = properties.change(event, rule)
    {
        tracing::warn!(subscription = %burial.name, rule = rule.name, %error, "a message goes on without the changes of its rule");
    }
}

/// Has the event say why it is a dead letter.
pub(crate) fn letter_of(event: &mut Event, burial: &Burial, origin: String) {
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
}

/// The record itself, wherever it lies; `None` if retention was faster.
pub(crate) async fn record_of(
    engine: &dyn Engine,
    burial: &Burial,
) -> Result<Option<Record>, Error> {
    match burial.moved_to {
        None => read_one(engine, burial.log, burial.offset).await,
        Some(at) => {
            let set = burial.name.moved_set();
            let set = engine.create(&set, 1, LogConfig::default()).await?;
            read_one(engine, set.log(0), at).await
        }
    }
}

async fn original(
    engine: &dyn Engine,
    burial: &Burial,
    parse: ParseEvent,
) -> Result<Option<(Event, Terms)>, Error> {
    let found = record_of(engine, burial).await?;
    let topic = format!("/topics/{}", burial.name.topic);
    Ok(found.map(|record| {
        let offset = burial.offset;
        let mut event = event_of(&record, &topic, burial.log.index, offset, parse);
        if burial.name.topic.is_store() {
            tell_place(&mut event, offset, &record);
        }
        (event, Terms::of(&record))
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

/// By origin, the last copies from `since` up to `end`.
async fn copies(
    engine: &dyn Engine,
    log: LogId,
    since: Offset,
    end: Offset,
) -> Result<HashMap<Vec<u8>, Offset>, Error> {
    let header = format!("ce_{ORIGIN}");
    let mut copies = HashMap::new();
    if planted(Planted::LettersUnread) {
        return Ok(copies);
    }
    let mut from = since.max(engine.bounds(log).await?.start);
    while from < end {
        let chunk = engine.read(log, from, Limit::default()).await?;
        let records = chunk.batches.iter().flat_map(mente_engine::Batch::records);
        for (offset, record) in records.flatten() {
            if let Some(origin) = record.header(&header) {
                copies.insert(origin.to_vec(), offset);
            }
        }
        if chunk.next <= from {
            // A copy that is not seen would be made again.
            let message = format!("{log} ends at {from}, before {end}");
            return Err(Error::Busy(message));
        }
        from = chunk.next;
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use mente_engine::memory::MemoryEngine;

    use std::time::Duration;

    use super::*;
    use crate::claim::tests::Ticking;
    use crate::name::{EntityName, SubscriptionName};

    const OFFSETS: [u64; 3] = [0, 1, 2];

    async fn engine_with_records() -> (MemoryEngine, LogId) {
        let engine = MemoryEngine::new(1);
        let name = SetName::new("default/orders").unwrap();
        let set = engine.create(&name, 1, LogConfig::default()).await.unwrap();
        let batch = mente_engine::conformance::batch(&["a", "b", "c"]);
        let appended = engine.append(&[], vec![(set.log(0), batch)]).await;
        appended.unwrap();
        (engine, set.log(0))
    }

    fn burial(log: LogId, offset: u64, since: u64) -> Burial {
        Burial {
            name: SubscriptionName {
                topic: EntityName::new("orders").unwrap(),
                name: EntityName::new("s").unwrap(),
            },
            view: 1,
            partition: 0,
            rule: None,
            log,
            offset: Offset(offset),
            moved_to: None,
            attempts: 1,
            reason: "Rejected".into(),
            detail: String::new(),
            note: None,
            to: None,
            since: Offset(since),
            look_from: Offset(0),
            revived_upto: Offset(0),
        }
    }

    async fn copy(
        engine: &MemoryEngine,
        letters: &Letters,
        burial: &Burial,
    ) -> Result<Option<Offset>, Error> {
        let parse = |_: &_| None;
        bury(
            engine,
            burial,
            letters,
            &Ticking::by(Duration::ZERO),
            parse,
            &crate::properties::Natural,
        )
        .await
    }

    async fn copied(engine: &MemoryEngine, log: LogId) -> Vec<Vec<u8>> {
        let burial = burial(log, 0, 0);
        let set = engine.create(&burial.name.dead_letter_set(), 1, owned());
        let chunk = engine
            .read(set.await.unwrap().log(0), Offset(0), Limit::default())
            .await;
        let batches = chunk.unwrap().batches;
        let records = batches.iter().flat_map(mente_engine::Batch::records);
        let origin = format!("ce_{ORIGIN}");
        records
            .filter_map(|r| r.unwrap().1.header(&origin).map(|origin| origin.to_vec()))
            .collect()
    }

    fn owned() -> LogConfig {
        LogConfig {
            owned: true,
            ..LogConfig::default()
        }
    }

    /// It was cut off with copies under way, and takes the log back before it hears that it decides no more.
    #[test]
    fn a_deposed_owner_copies_nothing_again() {
        futures::executor::block_on(async {
            let (engine, log) = engine_with_records().await;
            let (before, after) = (Letters::new(true), Letters::new(true));
            copy(&engine, &before, &burial(log, 0, 0)).await.unwrap();
            for offset in OFFSETS {
                copy(&engine, &after, &burial(log, offset, 0))
                    .await
                    .unwrap();
            }
            let refused = copy(&engine, &before, &burial(log, 1, 0)).await;
            assert_eq!(refused, Err(Error::Fenced));
            for offset in [2, 1] {
                copy(&engine, &before, &burial(log, offset, 0))
                    .await
                    .unwrap();
            }
            let expected: Vec<_> = OFFSETS
                .iter()
                .map(|o| format!("0-{o}").into_bytes())
                .collect();
            assert_eq!(copied(&engine, log).await, expected);
        });
    }

    #[test]
    fn who_is_relieved_claims_no_more() {
        futures::executor::block_on(async {
            let (engine, log) = engine_with_records().await;
            let (before, after) = (Letters::new(true), Letters::new(true));
            copy(&engine, &before, &burial(log, 0, 0)).await.unwrap();
            copy(&engine, &after, &burial(log, 1, 0)).await.unwrap();
            before.close();
            for _ in 0..2 {
                let refused = copy(&engine, &before, &burial(log, 2, 0)).await;
                assert_eq!(refused, Err(Error::Fenced));
            }
        });
    }

    /// What died, was put back and dies again has a copy of an earlier death.
    #[test]
    fn a_copy_of_an_earlier_death_is_another() {
        futures::executor::block_on(async {
            let (engine, log) = engine_with_records().await;
            let first = copy(&engine, &Letters::new(true), &burial(log, 0, 0)).await;
            let at = first.unwrap().unwrap();
            let again = burial(log, 0, at.0 + 1);
            let second = copy(&engine, &Letters::new(true), &again).await;
            let second = second.unwrap().unwrap();
            assert!(second > at);
            let third = copy(&engine, &Letters::new(true), &again).await;
            assert_eq!(third, Ok(Some(second)));
        });
    }
}
