//! What a replica does next, as a value: it says what to ask ([`Machine::ask`]), is told what came ([`Machine::hear`]),
//! and answers what is to be done with the copy ([`Effect`]). No socket, no clock, no file.
//!
//! ```text
//!            ┌──────────── lost: trimmed, made anew, shorter, out of order ────────────┐
//!            ▼                                                                         │
//!   Snapshot ─ Begins ─▶ Clear ─ Told ─▶ Stage … ─ Ends ─▶ Replace ─▶ Changes ─ Page ─▶ Apply …
//!            ▲                                                 │
//!            └── broken off: from the beginning                └─ positions and items, one transaction
//! ```
//! Nothing is missed in silence: whatever the source cannot go on from is a gap, and a gap ends with a snapshot
//! that takes the place of everything, deletions included. Until then the old items are what is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::topic::Place;

/// By partition, the offset of the first event that was not copied.
pub type Positions = BTreeMap<u32, u64>;

/// Wait before a source that does not answer is asked again: doubled each time, up to the second.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Wait before a snapshot for a gap that follows on another one, with no page between them: likewise.
const GAP_RETRY: Duration = Duration::from_secs(1);
const GAP_RETRY_MAX: Duration = Duration::from_secs(60);
/// How old the note of when the source was at its end may be, while nothing else is written.
const NOTE_MS: i64 = 10_000;

/// What is kept beside the items, and changes with them only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Which of the topics that ever had the name.
    pub topic_id: String,
    pub next: Positions,
    /// By partition, the last event that was told, in the snapshot or behind it: it tells a log from another one
    /// that grew as long.
    pub last: BTreeMap<u32, Last>,
    /// By partition, where the last snapshot began: events before it were gone already, so a key that changed
    /// there last is not here. No entry where nothing was gone.
    pub incomplete_before: Positions,
    pub snapshots: u64,
    pub gaps: u64,
    pub last_gap: Option<Gap>,
    /// A gap that no snapshot has mended yet: what told of it may not be there any more after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_gap: Option<Gap>,
    /// When the source was last heard to have nothing more, in milliseconds since 1970.
    pub at_end_ms: Option<i64>,
    /// Events without a key, which a keyed copy has no place for.
    pub unkeyed: u64,
}

/// Where an event lies, and a sum over what was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    pub offset: u64,
    pub sum: u64,
}

/// A place that the source could not go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    pub why: Why,
    /// In milliseconds since 1970.
    pub at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// Retention removed events before they were copied.
    Trimmed,
    /// The topic was deleted and made anew.
    MadeAnew,
    /// The topic ends before what was copied: it was restored from an earlier backup.
    Shorter,
    /// Events came that do not follow on those before them.
    OutOfOrder,
    /// The last event that was copied is another one there now: the log is another, or it is told by another schema.
    OtherLog,
}

/// How a snapshot begins: as of these positions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Head {
    pub topic_id: String,
    pub next: Positions,
}

/// How it ends: it is the fold of the events from `start` on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tail {
    pub items: u64,
    pub start: Positions,
}

/// The latest event of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub key: String,
    pub place: Place,
    /// A CloudEvent in JSON.
    pub event: String,
    /// Over the event.
    pub sum: u64,
}

/// An event behind a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Option<String>,
    pub place: Place,
    /// None takes the key away.
    pub item: Option<String>,
    /// Over the event as it was told.
    pub sum: u64,
}

/// Events from where the replica stands, and where the source ended then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub topic_id: String,
    pub changes: Vec<Change>,
    pub next: Positions,
    pub ends: Positions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Snapshot,
    Changes { topic_id: String, from: Positions },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Begins(Head),
    Told(Item),
    Ends(Tail),
    Page(Page),
    /// The source says that it cannot go on from there.
    Lost(Why),
    /// It answers, and refuses.
    Refused(String),
    /// It does not answer, or breaks off.
    Silent(String),
}

/// What is to be done with the copy. If that fails the machine is of no use any more: what is in the copy
/// makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What was staged of a snapshot is thrown away.
    Clear,
    Stage(Item),
    /// What is staged takes the place of all items: one transaction.
    Replace(Held),
    /// One transaction.
    Apply(Vec<Change>, Held),
}

#[derive(Debug)]
pub struct Machine {
    held: Option<Held>,
    phase: Phase,
    contact: Contact,
    /// Partitions whose last event is asked for once more, since the source was away: who comes back may be
    /// another one.
    unchecked: BTreeSet<u32>,
    /// Those that are asked for one at a time, after the others: the source lacks the last event of one of them,
    /// and does not say of which. Until then nothing is taken.
    later: BTreeSet<u32>,
    /// Since a page was taken.
    gaps_in_a_row: u32,
}

/// Of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Whether it answered when it was last asked.
    pub answers: bool,
    /// Why it does not, or what it refuses.
    pub error: Option<String>,
    /// Where it ended when it was last asked.
    pub ends: Positions,
    pub at_end_ms: Option<i64>,
    failures: u32,
}

#[derive(Debug)]
enum Phase {
    /// Whoever has items has them up to the gap.
    Bootstrapping {
        coming: Option<Coming>,
        gap: Option<Gap>,
    },
    Following,
}

#[derive(Debug)]
struct Coming {
    head: Head,
    /// When it came: the source had no more then.
    at_ms: i64,
    items: u64,
    last: BTreeMap<u32, Last>,
}

impl Machine {
    /// Goes on from what a copy holds; nothing, if it is new.
    pub fn new(held: Option<Held>) -> Self {
        let gap = held.as_ref().map(|held| held.open_gap.clone());
        let phase = match gap {
            Some(None) => Phase::Following,
            gap => Phase::Bootstrapping {
                coming: None,
                gap: gap.flatten(),
            },
        };
        let contact = Contact {
            at_end_ms: held.as_ref().and_then(|held| held.at_end_ms),
            ..Contact::default()
        };
        let mut machine = Self {
            held,
            phase,
            contact,
            unchecked: BTreeSet::new(),
            later: BTreeSet::new(),
            gaps_in_a_row: 0,
        };
        machine.check_again();
        machine
    }

    fn check_again(&mut self) {
        let held = self.held.iter();
        self.unchecked = held.flat_map(|held| held.last.keys().copied()).collect();
        self.later.clear();
    }

    /// What to ask next, and how long to wait before.
    pub fn ask(&self) -> (Duration, Ask) {
        let silent = pause(self.contact.failures, RETRY, RETRY_MAX);
        // One gap is mended at once.
        let gaps = self.gaps_in_a_row.saturating_sub(1);
        let wait = match self.is_bootstrapping() {
            true => silent.max(pause(gaps, GAP_RETRY, GAP_RETRY_MAX)),
            false => silent,
        };
        let ask = match (&self.phase, &self.held) {
            (Phase::Following, Some(held)) => Ask::Changes {
                topic_id: held.topic_id.clone(),
                from: self.from(held),
            },
            _ => Ask::Snapshot,
        };
        (wait, ask)
    }

    /// Where to read on; at the last event once more in partitions that are not checked.
    fn from(&self, held: &Held) -> Positions {
        let mut from = held.next.clone();
        for partition in &self.unchecked {
            if let Some(last) = held.last.get(partition) {
                from.insert(*partition, last.offset);
            }
        }
        from
    }

    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    pub fn is_bootstrapping(&self) -> bool {
        matches!(self.phase, Phase::Bootstrapping { .. })
    }

    /// Takes what came of what was asked at this time; the effect is to be carried out before more is told.
    pub fn hear(&mut self, now_ms: i64, heard: Heard) -> Option<Effect> {
        match heard {
            Heard::Begins(head) => self.begin(now_ms, head),
            Heard::Told(item) => self.told(item),
            Heard::Ends(tail) => self.end(&tail),
            Heard::Page(page) => self.page(now_ms, page),
            Heard::Lost(why) => self.lost(now_ms, why),
            Heard::Refused(error) => self.failed(true, error),
            Heard::Silent(error) => self.failed(false, error),
        }
    }

    fn begin(&mut self, at_ms: i64, head: Head) -> Option<Effect> {
        let Phase::Bootstrapping { coming, .. } = &mut self.phase else {
            return None;
        };
        *coming = Some(Coming {
            head,
            at_ms,
            items: 0,
            last: BTreeMap::new(),
        });
        self.contact.answers = true;
        Some(Effect::Clear)
    }

    fn told(&mut self, item: Item) -> Option<Effect> {
        let coming = self.coming()?;
        let Place { partition, offset } = item.place;
        if coming
            .head
            .next
            .get(&partition)
            .is_none_or(|next| offset >= *next)
        {
            let error = format!("an item of the snapshot lies outside it, at {partition}:{offset}");
            return self.failed(true, error);
        }
        coming.items += 1;
        let sum = item.sum;
        let last = coming.last.entry(partition).or_insert(Last { offset, sum });
        if offset > last.offset {
            *last = Last { offset, sum };
        }
        Some(Effect::Stage(item))
    }

    fn end(&mut self, tail: &Tail) -> Option<Effect> {
        let came = self.coming()?.items;
        if came != tail.items {
            let error = format!("{came} items came of a snapshot of {}", tail.items);
            return self.failed(false, error);
        }
        let Phase::Bootstrapping { coming, gap } =
            std::mem::replace(&mut self.phase, Phase::Following)
        else {
            return None;
        };
        let Coming {
            head, at_ms, last, ..
        } = coming?;
        self.contact.at_end_ms = Some(at_ms);
        let before = self.held.take().unwrap_or_default();
        let was_trimmed = |(_, start): &(&u32, &u64)| **start > 0;
        let held = Held {
            topic_id: head.topic_id,
            next: head.next,
            last,
            incomplete_before: (tail.start.iter().filter(was_trimmed))
                .map(|(partition, start)| (*partition, *start))
                .collect(),
            snapshots: before.snapshots + 1,
            gaps: before.gaps + u64::from(gap.is_some()),
            last_gap: gap.or(before.last_gap),
            open_gap: None,
            at_end_ms: self.contact.at_end_ms,
            unkeyed: 0,
        };
        self.held = Some(held.clone());
        self.unchecked.clear();
        self.later.clear();
        self.succeeded();
        Some(Effect::Replace(held))
    }

    fn page(&mut self, now_ms: i64, mut page: Page) -> Option<Effect> {
        let (Phase::Following, Some(held)) = (&self.phase, &self.held) else {
            return None;
        };
        if page.topic_id != held.topic_id {
            return self.lost(now_ms, Why::MadeAnew);
        }
        // A partition that was not asked for began at its first event that is left, not at its first.
        let fresh = page.next.keys().filter(|p| !held.next.contains_key(p));
        let fresh: Vec<u32> = fresh.copied().collect();
        let is_told = |p: &u32| page.next.contains_key(p);
        if !fresh.is_empty() && held.next.keys().all(is_told) {
            let mut held = held.clone();
            held.next.extend(fresh.iter().map(|p| (*p, 0)));
            return self.keep(Vec::new(), held);
        }
        let is_shorter = |(p, next): (&u32, &u64)| page.ends.get(p).is_some_and(|end| end < next);
        if held.next.iter().any(is_shorter) {
            return self.lost(now_ms, Why::Shorter);
        }
        let (unchecked, is_same) = compare(&self.unchecked, held, &mut page);
        if !is_same {
            return self.lost(now_ms, Why::OtherLog);
        }
        if !follows(&held.next, &page) {
            return self.lost(now_ms, Why::OutOfOrder);
        }
        if !self.later.is_empty() {
            self.unchecked = unchecked;
            self.one_more();
            self.succeeded();
            return None;
        }
        let is_behind = |(p, end): (&u32, &u64)| page.next.get(p) < Some(end);
        if !page.ends.iter().any(is_behind) {
            self.contact.at_end_ms = Some(now_ms);
        }
        let mut last = held.last.clone();
        last.extend(page.changes.iter().map(|change| {
            let (partition, offset) = (change.place.partition, change.place.offset);
            let sum = change.sum;
            (partition, Last { offset, sum })
        }));
        let unkeyed = page.changes.iter().filter(|c| c.key.is_none()).count();
        let held = Held {
            next: page.next,
            last,
            unkeyed: held.unkeyed + unkeyed as u64,
            at_end_ms: self.contact.at_end_ms,
            ..held.clone()
        };
        self.contact.ends = page.ends;
        self.unchecked = unchecked;
        self.gaps_in_a_row = 0;
        self.keep(page.changes, held)
    }

    /// What changes nothing but the time is not written each time.
    fn keep(&mut self, changes: Vec<Change>, held: Held) -> Option<Effect> {
        self.succeeded();
        let before = self.held.as_ref()?;
        let age = held.at_end_ms.unwrap_or(0) - before.at_end_ms.unwrap_or(0);
        if changes.is_empty() && held.next == before.next && (0..NOTE_MS).contains(&age) {
            return None;
        }
        self.held = Some(held.clone());
        Some(Effect::Apply(changes, held))
    }

    fn lost(&mut self, now_ms: i64, why: Why) -> Option<Effect> {
        self.succeeded();
        if why == Why::Trimmed && !self.unchecked.is_empty() {
            // It may be one of those events alone that is gone, and nothing behind it.
            match self.unchecked.len() {
                1 => self.unchecked.clear(),
                _ => self.later.append(&mut self.unchecked),
            }
            self.one_more();
            return None;
        }
        if !matches!(self.phase, Phase::Following) {
            return None;
        }
        let at_ms = now_ms;
        let gap = Some(Gap { why, at_ms });
        self.phase = Phase::Bootstrapping {
            coming: None,
            gap: gap.clone(),
        };
        self.gaps_in_a_row = self.gaps_in_a_row.saturating_add(1);
        let held = self.held.as_mut()?;
        held.open_gap = gap;
        Some(Effect::Apply(Vec::new(), held.clone()))
    }

    /// The next partition of those that are checked one at a time.
    fn one_more(&mut self) {
        if self.unchecked.is_empty() {
            self.unchecked.extend(self.later.pop_first());
        }
    }

    fn failed(&mut self, answers: bool, error: String) -> Option<Effect> {
        if let Phase::Bootstrapping { coming, .. } = &mut self.phase {
            *coming = None;
        }
        self.contact.answers = answers;
        self.contact.error = Some(error);
        self.contact.failures = self.contact.failures.saturating_add(1);
        self.check_again();
        None
    }

    fn succeeded(&mut self) {
        self.contact.answers = true;
        self.contact.error = None;
        self.contact.failures = 0;
    }

    fn coming(&mut self) -> Option<&mut Coming> {
        match &mut self.phase {
            Phase::Bootstrapping { coming, .. } => coming.as_mut(),
            Phase::Following => None,
        }
    }
}

/// After so many that failed: doubled each time.
fn pause(count: u32, first: Duration, most: Duration) -> Duration {
    match count {
        0 => Duration::ZERO,
        _ => (first * (1 << (count - 1).min(16))).min(most),
    }
}

/// Takes out of a page what was asked for once more. Answers what is still to be compared, since the page ended
/// before it, and whether the rest is what it was.
fn compare(unchecked: &BTreeSet<u32>, held: &Held, page: &mut Page) -> (BTreeSet<u32>, bool) {
    let mut left = BTreeSet::new();
    for partition in unchecked {
        let (Some(last), Some(next)) = (held.last.get(partition), held.next.get(partition)) else {
            continue;
        };
        let Some(to) = page.next.get_mut(partition) else {
            continue;
        };
        let is_it = |change: &&Change| {
            change.place.partition == *partition && change.place.offset == last.offset
        };
        // One record may be told as several, of which a snapshot has those that are the latest of their keys.
        let mut told = page.changes.iter().filter(is_it);
        if *to <= last.offset {
            left.insert(*partition);
        } else if !told.any(|told| told.sum == last.sum) {
            return (left, false);
        }
        *to = (*to).max(*next);
        let is_new =
            |change: &Change| change.place.partition != *partition || change.place.offset >= *next;
        page.changes.retain(is_new);
    }
    (left, true)
}

/// Whether a page begins where the replica stands and goes on in order, in every partition. Offsets have holes,
/// so that is all that they tell: that nothing was left out is the source's word, which refuses what it lacks.
fn follows(from: &Positions, page: &Page) -> bool {
    let goes_on = |(p, next): (&u32, &u64)| page.next.get(p).is_some_and(|to| to >= next);
    if !from.iter().all(goes_on) {
        return false;
    }
    let mut seen = from.clone();
    page.changes.iter().all(|change| {
        let Place { partition, offset } = change.place;
        // What one record is told as has one offset.
        let before = seen.insert(partition, offset);
        let is_inside = page.next.get(&partition).is_some_and(|to| offset < *to);
        is_inside && before.is_some_and(|before| before <= offset)
    })
}

#[cfg(test)]
mod tests;
