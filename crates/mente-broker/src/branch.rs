//! What a branch begins with: the journals, told anew as they were at a moment.
//!
//! Events are shared with the parent (`mente_engine::fork`); decisions are few, and the parent trims its own with
//! every snapshot, so a branch's journals begin with a snapshot of their own. Where a journal does not reach
//! back to the moment, the oldest state that it still tells counts.

use std::collections::{BTreeSet, HashMap, HashSet};

use mente_engine::{Batch, Engine, Error as EngineError, Limit, LogId, Offset, SetId, Timestamp};

use crate::error::{Error, Kind, Result};
use crate::journal::{Decision, Definition};
use crate::name::EntityName;
use crate::queue::Verdict;
use crate::snapshot::Replay;

/// How often a journal is read from its start again because it was trimmed meanwhile.
const TRIES: usize = 20;

/// Longest name of a branch, which stands before every set's name.
pub const BRANCH_NAME_BYTES: usize = 24;

/// What one journal tells of a moment.
#[derive(Debug)]
pub(crate) struct Told {
    /// The number of the last decision.
    pub(crate) seq: u64,
    pub(crate) decisions: Vec<Decision>,
    /// Of which time the state is if the journal does not reach back to the one that was asked for.
    pub(crate) later: Option<Timestamp>,
}

/// Refuses what cannot be the namespace of a branch.
pub fn check_branch_name(name: &EntityName) -> Result<()> {
    if name.as_str() == crate::name::DEFAULT_NAMESPACE {
        let message = "default is what branches are made from: give the branch another name";
        return Err(Error::invalid(message));
    }
    if name.as_str().len() > BRANCH_NAME_BYTES {
        let message = format!(
            "the name of a branch has at most {BRANCH_NAME_BYTES} bytes, {name} has {}",
            name.as_str().len()
        );
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// The state of a shard as its journal told it at `upto`, or tells it now.
pub(crate) async fn told(
    engine: &dyn Engine,
    journal: LogId,
    upto: Option<Timestamp>,
) -> Result<Told> {
    for _ in 0..TRIES {
        if let Some(told) = read(engine, journal, upto).await? {
            return Ok(told);
        }
    }
    let message = format!("journal {journal} is told anew all the time: try again");
    Err(Error::new(Kind::Throttled, message))
}

/// None if the journal was trimmed meanwhile.
async fn read(
    engine: &dyn Engine,
    journal: LogId,
    upto: Option<Timestamp>,
) -> Result<Option<Told>> {
    let bounds = engine.bounds(journal).await?;
    let (mut replay, mut next, mut later) = (Replay::new(), bounds.start, None);
    'log: while next < bounds.end {
        let chunk = match engine.read(journal, next, Limit::default()).await {
            Err(EngineError::Trimmed(start)) if start > next => return Ok(None),
            chunk => chunk?,
        };
        for batch in chunk.batches.iter().filter(|b| holds_decisions(b)) {
            let is_later = upto.is_some_and(|upto| batch.max_timestamp() > upto);
            let is_whole = bounds.start == Offset(0) || replay.has_snapshot();
            if is_later && is_whole {
                break 'log;
            }
            for record in batch.records() {
                let damaged = |e| Error::new(Kind::Corrupt, format!("journal {journal}: {e}"));
                replay.take(&record.map_err(damaged)?.1)?;
            }
            if is_later {
                later = Some(batch.max_timestamp());
            }
        }
        if chunk.next <= next {
            let message = format!("journal {journal} does not read on at {next}");
            return Err(Error::new(Kind::Corrupt, message));
        }
        next = chunk.next;
    }
    let (shard, _) = replay.finish();
    Ok(Some(Told {
        seq: shard.seq(),
        decisions: shard.retell(),
        later,
    }))
}

fn holds_decisions(batch: &Batch) -> bool {
    batch.term().is_none() && !batch.is_control()
}

/// Where the parent's part of each log ends.
pub(crate) type Ends = HashMap<LogId, Offset>;

/// The sets that a branch of these states shares, but for the store's: topics, and what their subscriptions
/// gave up on.
pub(crate) fn sets_named(told: &[Told]) -> (HashSet<SetId>, BTreeSet<String>) {
    let (mut topics, mut letters) = (HashSet::new(), BTreeSet::new());
    for decision in told.iter().flat_map(|told| &told.decisions) {
        match decision {
            Decision::TopicCreated { topic, .. } => drop(topics.insert(topic.set)),
            Decision::SubscriptionCreated { name, .. } => {
                let sets = [name.dead_letter_set(), name.moved_set()];
                letters.extend(sets.map(|set| set.as_str().to_owned()));
            }
            _ => {}
        }
    }
    (topics, letters)
}

impl Told {
    /// Leaves out what a branch cannot have: other branches, what was deleted since, and what was made out of
    /// events that it does not have. Answers the topics that are left out.
    pub(crate) fn fit(&mut self, store: LogId, ends: &Ends) -> Vec<EntityName> {
        let is_there = |set: SetId| ends.contains_key(&set.log(0));
        let (mut missing, mut views) = (Vec::new(), HashMap::new());
        let mut is_sealed = true;
        self.decisions.retain(|decision| match decision {
            Decision::TopicCreated { name, topic } => {
                if !is_there(topic.set) {
                    missing.push(name.clone());
                }
                is_there(topic.set)
            }
            // Rows of an application's table are events once, and what sagas ask of others is asked once.
            Decision::Defined { kind, .. } => !matches!(
                kind,
                Definition::Branch | Definition::Relay | Definition::Saga
            ),
            Decision::SubscriptionCreated { subscription, .. } => {
                let set = subscription.topic.set;
                if is_there(set) {
                    views.insert(subscription.view, set);
                }
                is_there(set)
            }
            // The first block that reaches too far ends them: they follow each other.
            Decision::Sealed(sealed) => {
                is_sealed &= ends.get(&store).is_some_and(|end| sealed.next <= *end);
                is_sealed
            }
            Decision::View { view, verdict } => match (views.get(view), verdict) {
                (None, _) => false,
                (
                    Some(set),
                    Verdict::Counted {
                        partition, upto, ..
                    },
                ) => {
                    let end = ends.get(&set.log(*partition));
                    end.is_some_and(|end| Offset(*upto) <= *end)
                }
                (Some(_), _) => true,
            },
            _ => true,
        });
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Subscription, Topic};
    use crate::name::SubscriptionName;
    use crate::queue::Settings;
    use crate::store::{Chain, Sealed};

    #[test]
    fn what_speaks_of_events_beyond_the_cut_is_left_out() {
        let (topic, gone, store) = (SetId(1), SetId(2), SetId(3).log(0));
        let name = |name: &str| EntityName::new(name).unwrap();
        let made = |of: &str, set| Decision::TopicCreated {
            name: name(of),
            topic: Topic { set, partitions: 1 },
        };
        let subscribed = |of: &str, view, set| Decision::SubscriptionCreated {
            name: SubscriptionName {
                topic: name(of),
                name: name("s"),
            },
            subscription: Subscription {
                view,
                topic: Topic { set, partitions: 1 },
                starts: vec![0],
                began: Vec::new(),
                settings: Settings::default(),
            },
        };
        let counted = |view, upto| Decision::View {
            view,
            verdict: Verdict::Counted {
                partition: 0,
                from: 0,
                upto,
                matches: 1,
            },
        };
        let sealed = |next| {
            Decision::Sealed(Sealed {
                footer: Offset(0),
                end: next,
                next: Offset(next),
                chain: Chain::default(),
            })
        };
        let branch = Decision::Defined {
            kind: Definition::Branch,
            name: name("b"),
            body: serde_json::json!({}),
        };
        let kept = [
            made("kept", topic),
            sealed(5),
            subscribed("kept", 1, topic),
            counted(1, 10),
        ];
        let left = [
            made("gone", gone),
            branch,
            sealed(21),
            sealed(7),
            subscribed("gone", 2, gone),
            counted(2, 1),
            counted(1, 11),
        ];
        let mut told = Told {
            seq: 11,
            decisions: kept.iter().chain(&left).cloned().collect(),
            later: None,
        };
        let ends = Ends::from([(topic.log(0), Offset(10)), (store, Offset(20))]);
        assert_eq!(told.fit(store, &ends), [name("gone")]);
        assert_eq!(told.decisions, kept);
    }
}
