//! What a shard is asked, and what it answers.

use std::cmp::Reverse;
use std::ops::Range;

use mente_engine::{Bounds, LogId, Offset, Takes};
use serde::{Deserialize, Serialize};

use super::{Ask, Digest, Heard, Transacting};
use crate::journal::{Definition, Topic};
use crate::name::{EntityName, StreamName, SubscriptionName, some_source, source};
use crate::queue::{
    Accepted, Counts, Delivery, Letter, LockToken, Peeked, Revival, Settings, Settlement, Taking,
};
use crate::store::{Append, Appended, Direction, InMemory, Place, Query, Sealed};

/// What a door asks of a shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    CreateTopic {
        name: EntityName,
        topic: Topic,
    },
    DeleteTopic {
        name: EntityName,
    },
    CreateSubscription {
        name: SubscriptionName,
        topic: Topic,
        starts: Vec<Offset>,
        settings: Settings,
    },
    DeleteSubscription {
        name: SubscriptionName,
    },
    /// The subscriptions of one topic, or of all. `bounds` are those of the topic's logs now: views learn
    /// from them what retention took, and whether they have counted all.
    ListSubscriptions {
        #[serde(deserialize_with = "some_source")]
        topic: Option<EntityName>,
        bounds: Vec<(LogId, Bounds)>,
    },
    /// The topic is gone, and its subscriptions with it.
    DropSubscriptions {
        topic: EntityName,
    },
    Receive {
        name: SubscriptionName,
        taking: Taking,
    },
    /// What is noted comes with the records from now on.
    Settle {
        name: SubscriptionName,
        tokens: Vec<LockToken>,
        how: Settlement,
        note: Option<String>,
        /// Nobody waits for its being durable: where it completes it may linger, to be written with others.
        #[serde(default)]
        lingers: bool,
    },
    Message {
        name: SubscriptionName,
        ask: Ask,
    },
    /// Somebody has links to these, if they are there.
    Attached {
        names: Vec<SubscriptionName>,
    },
    /// All of it or nothing.
    Transact(Transacting),
    /// Those that are fixed at birth must be as they are.
    ChangeSettings {
        name: SubscriptionName,
        settings: Settings,
        /// Where rules change at the earliest that have no place yet.
        from: Offset,
    },
    /// Gives back the records of dead letters, which follow each other from `from` on in their log.
    Revive {
        name: SubscriptionName,
        /// Whose letters these are, not a later one's of the same name.
        view: u64,
        from: Offset,
        letters: Vec<Letter>,
    },
    /// Replaces what was declared under the name.
    Define {
        kind: Definition,
        name: EntityName,
        body: serde_json::Value,
    },
    Undefine {
        kind: Definition,
        name: EntityName,
    },
    /// Only for the shard that owns the store.
    Append(Append),
    /// Where the events of a stream lie.
    Places {
        stream: StreamName,
        from: u64,
        direction: Direction,
        max: usize,
    },
    /// Where the events lie that match, over all streams.
    Find {
        query: Query,
        from: u64,
        direction: Direction,
        max: usize,
    },
    /// The blocks of the store from this one on.
    Blocks {
        from: usize,
    },
    /// What became of these records, by partition and offset, in the subscriptions of the topic.
    Whereabouts {
        #[serde(deserialize_with = "source")]
        topic: EntityName,
        places: Vec<(u32, Offset)>,
    },
    /// What the views of a topic need of which logs.
    Needs {
        topic: EntityName,
    },
    /// A digest of the state, to compare with a fold of the journal.
    Digest,
    /// Answers once the shard has its state.
    Ping,
}

impl Command {
    /// What the engine must have room for: an append to a stream is data, other decisions are few
    /// and let go of data in the end, and what is not written down needs no room.
    pub(crate) fn needs(&self) -> Takes {
        match self {
            Self::Append(_) => Takes::Everything,
            Self::Settle {
                how: Settlement::Renew | Settlement::Return,
                ..
            }
            | Self::Attached { .. }
            | Self::ListSubscriptions { .. }
            | Self::Places { .. }
            | Self::Find { .. }
            | Self::Blocks { .. }
            | Self::Whereabouts { .. }
            | Self::Needs { .. }
            | Self::Digest
            | Self::Ping => Takes::Nothing,
            Self::Message { ask, .. } if !ask.decides() => Takes::Nothing,
            _ => Takes::Decisions,
        }
    }
}

/// When what somebody asked for came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    Now,
    Before,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Topic(Topic, Made),
    Subscription(Made),
    Subscriptions(Vec<SubscriptionInfo>),
    Deliveries(Vec<Delivery>),
    /// By token: whether its lease held.
    Settled(Vec<bool>),
    /// By token: until when its lease holds, unless it is lost.
    Renewed(Vec<Option<i64>>),
    Peeked(Peeked),
    /// Of those below `looked_to`, beyond which the view has not looked yet.
    Deleted {
        count: u64,
        looked_to: Offset,
    },
    /// By record: whether it was still there, unless it was not looked at yet.
    Cancelled(Vec<Option<bool>>),
    /// Whether all have gone on, and arrived.
    Gone(bool),
    /// None: none came in time.
    Session(Option<Accepted>),
    Until(i64),
    SessionState(Option<String>),
    Sessions(Vec<String>),
    Revived(Revival),
    Appended(Appended),
    Digest(Digest),
    Places(InMemory),
    Found {
        places: Vec<Place>,
        /// Position of the first event in memory.
        first: u64,
        /// Position behind the last event that was there.
        end: u64,
    },
    /// Each with its number of events.
    Blocks(Vec<Sealed>),
    Whereabouts(Vec<Heard>),
    /// Each log once.
    Needs(Vec<Need>),
}

/// What is needed of a log that views of one topic read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub log: LogId,
    /// Nothing before is.
    pub from: Offset,
    /// What is settled goes from it.
    pub trims: bool,
    /// Of what lies behind this is not needed either: the widest ranges, at most [`SETTLED_TOLD`].
    #[serde(default)]
    pub settled: Vec<Range<Offset>>,
    /// So many offsets more, in narrower ranges.
    #[serde(default)]
    pub settled_besides: u64,
    /// Nothing is settled from here on.
    #[serde(default)]
    pub settled_upto: Offset,
}

/// A message that is put aside makes one range, and receivers that overtake each other make narrow ones.
const SETTLED_TOLD: usize = 32;

impl Need {
    /// Of what is needed, in any order.
    pub(crate) fn of(log: LogId, mut needed: Vec<Range<Offset>>, trims: bool) -> Self {
        needed.sort_unstable_by_key(|range| range.start);
        let from = needed.first().map(|range| range.start).unwrap_or_default();
        let mut upto = from;
        let mut settled: Vec<Range<Offset>> = Vec::new();
        for range in needed {
            if range.start > upto {
                settled.push(upto..range.start);
            }
            upto = upto.max(range.end);
        }
        let settled_upto = settled.last().map_or(from, |range| range.end);
        let width = |range: &Range<Offset>| range.end.0 - range.start.0;
        let mut settled_besides = 0;
        if settled.len() > SETTLED_TOLD {
            settled.select_nth_unstable_by_key(SETTLED_TOLD, |range| Reverse(width(range)));
            settled_besides = settled.drain(SETTLED_TOLD..).map(|r| width(&r)).sum();
            settled.sort_unstable_by_key(|range| range.start);
        }
        Self {
            log,
            from,
            trims,
            settled,
            settled_besides,
            settled_upto,
        }
    }

    /// Between what is told to be settled, in order; the last one has no end.
    pub(crate) fn needed(&self) -> impl Iterator<Item = Range<Offset>> {
        let ends = self.settled.iter().map(|range| range.start);
        let starts = self.settled.iter().map(|range| range.end);
        let ends = ends.chain([Offset(u64::MAX)]);
        let starts = [self.from].into_iter().chain(starts);
        starts.zip(ends).map(|(start, end)| start..end)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionInfo {
    pub name: SubscriptionName,
    pub settings: Settings,
    pub counts: Counts,
    /// Whether `counts` has everything within the bounds that were given.
    pub exact: bool,
    /// Numbers it: a later one of the same name has another number.
    pub view: u64,
    /// Dead letters that lie below this were given back.
    pub revived_upto: Offset,
    /// For so long nobody asked it for anything, as far as this owner knows.
    #[serde(default)]
    pub idle_ms: u64,
}

#[cfg(test)]
mod tests {
    use mente_engine::SetId;

    use super::*;

    fn need(needed: &[(u64, u64)]) -> Need {
        let needed = needed
            .iter()
            .map(|(from, upto)| Offset(*from)..Offset(*upto));
        Need::of(SetId(1).log(0), needed.collect(), true)
    }

    #[test]
    fn what_no_view_needs_is_settled() {
        // One that is put aside at 3, another view that has come to 20, and a letter that was given back at 12.
        let need = need(&[(20, u64::MAX), (3, 4), (30, u64::MAX), (12, 13), (15, 18)]);
        assert_eq!(need.from, Offset(3));
        let settled = [(4, 12), (13, 15), (18, 20)].map(|(a, b)| Offset(a)..Offset(b));
        assert_eq!(need.settled, settled);
        assert_eq!((need.settled_besides, need.settled_upto), (0, Offset(20)));
        let between = [(3, 4), (12, 13), (15, 18), (20, u64::MAX)];
        let between = between.map(|(a, b)| Offset(a)..Offset(b));
        assert!(need.needed().eq(between));
    }

    #[test]
    fn the_widest_ranges_are_told_and_the_others_counted() {
        let mut needed: Vec<_> = (0..100).map(|at| (at * 10, at * 10 + 9)).collect();
        needed.push((2_000, u64::MAX));
        let need = need(&needed);
        assert_eq!(need.settled.len(), SETTLED_TOLD);
        assert!(need.settled.is_sorted_by_key(|range| range.start));
        assert_eq!(need.settled.last(), Some(&(Offset(999)..Offset(2_000))));
        assert_eq!(need.settled_besides, 100 - SETTLED_TOLD as u64);
        assert_eq!(need.settled_upto, Offset(2_000));
    }

    #[test]
    fn of_what_nobody_reads_all_is_needed() {
        let need = need(&[]);
        assert_eq!((need.from, need.settled_upto), (Offset(0), Offset(0)));
        assert_eq!(need.settled, []);
    }
}
