//! How much a queue or topic holds, and how much it may.
//!
//! The bytes of a queue are those of what is not settled in its log, with its dead letters and what waits until it is
//! due. The engine tells them by offsets: of a batch, or of a few small ones, in which some are settled the others count
//! by their share. The widest ranges of what is settled are left out one by one ([`Need`]), and all narrower ones by
//! their share of what lies between. The bytes of a topic are its whole log, which keeps what its retention says. The
//! data of large messages counts from the first piece on that one of them claims: what is on its way to be claimed is
//! among them, too.
//!
//! Kafka tells what the files of a log have, a second late, which are taken to have equally large records; on a branch,
//! and where Kafka does not answer soon, nothing is known and nothing refused.
//!
//! Hardly any send has it counted: [`Counts`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mente_engine::{Limit, LogId, Offset, SetInfo};

use super::{Broker, records, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::claim::{read_manifest, records_beside};
use crate::entity::Entity;
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::{EntityName, SubscriptionName, is_moved_set};
use crate::shard::{Command, Need, Reply};
use crate::terms::Terms;

/// What is known of an entity beside its counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: Option<u64>,
    /// When it was used last, in milliseconds since 1970, as far as its owner knows; of a topic when a
    /// subscription of it was. A restart counts as a use.
    pub accessed_ms: Option<i64>,
}

/// For so long a count is good, with what this node sent meanwhile on top; others may send as well.
const GOOD: Duration = Duration::from_secs(1);
/// The same while less than half of what a queue may hold is there.
const GOOD_FAR_BELOW: Duration = Duration::from_secs(10);
/// Queues of which that is remembered; others are counted at each send.
const COUNTS: usize = 10_000;

/// What queues were found to hold: nearly all sends find here that there is room, and count nothing.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<EntityName, Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    /// On the monotone clock.
    at: Duration,
    /// None: the engine could not tell.
    held: Option<u64>,
    /// What this node sent since.
    sent: u64,
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntityName, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: it holds less than `most`, as far as need be known. Else it is to be counted, and so much that was sent
    /// will be in that.
    fn due(&self, name: &EntityName, now: Duration, most: u64) -> Option<u64> {
        let mut counts = self.lock();
        let Some(count) = counts.get_mut(name) else {
            return Some(0);
        };
        let there = count.held.map(|held| held.saturating_add(count.sent));
        if there.is_some_and(|there| there >= most) {
            return Some(count.sent);
        }
        let good = match there {
            Some(there) if there < most / 2 => GOOD_FAR_BELOW,
            _ => GOOD,
        };
        if now.saturating_sub(count.at) < good {
            return None;
        }
        // One counts again, and the others go on meanwhile.
        count.at = now;
        Some(count.sent)
    }

    /// It was counted, with so much of what was sent.
    fn know(&self, name: &EntityName, at: Duration, held: Option<u64>, sent: u64) {
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(name) {
            let sent = count.sent.saturating_sub(sent);
            *count = Count { at, held, sent };
            return;
        }
        if counts.len() >= COUNTS {
            counts.retain(|_, count| at.saturating_sub(count.at) < GOOD_FAR_BELOW);
        }
        if counts.len() < COUNTS {
            let sent = 0;
            counts.insert(name.clone(), Count { at, held, sent });
        }
    }

    /// So many bytes are on their way to the log of what may be a queue, or to one beside it.
    pub(super) fn sent(&self, name: &EntityName, bytes: usize) {
        if let Some(count) = self.lock().get_mut(name) {
            count.sent = count.sent.saturating_add(bytes as u64);
        }
    }
}

impl Broker {
    pub async fn usage(&self, who: &Principal, name: &EntityName) -> Result<Usage> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let topic = self.topic(who, name).await?;
        let log = topic.set.log(0);
        let mut needs = self.needs(name).await?;
        if needs.iter().all(|need| need.log != log) {
            needs.push(Need::of(log, Vec::new(), false));
        }
        let beside = self.engine.list(&name.dead_letter_sets()).await?;
        let bytes = self.bytes_held(name, &topic, &needs, &beside).await?;
        let accessed_ms = self.accessed(name, |_| true).await?;
        Ok(Usage { bytes, accessed_ms })
    }

    /// When somebody used a view last.
    pub async fn accessed_ms(
        &self,
        who: &Principal,
        view: &SubscriptionName,
    ) -> Result<Option<i64>> {
        authorize(self.options.access, who, Action::Manage, view)?;
        self.accessed(&view.topic, |name| name == view).await
    }

    async fn accessed(
        &self,
        topic: &EntityName,
        is_of: impl Fn(&SubscriptionName) -> bool,
    ) -> Result<Option<i64>> {
        let views = self.views(topic).await?;
        let of = views.iter().filter(|info| is_of(&info.name));
        let idle_ms = of.map(|info| info.idle_ms).min();
        let now = self.now().wall.0;
        Ok(idle_ms.map(|idle| now.saturating_sub_unsigned(idle)))
    }

    /// Refuses what is sent to a queue that holds what it may. Who asks at one time sees the same, so that what all
    /// of them send may come on top. `own` is data that is kept for it already, which was asked about before. Who then
    /// sends says so ([`Counts::sent`]).
    pub(super) async fn check_quota(
        &self,
        name: &EntityName,
        entity: &Entity,
        topic: &Topic,
        own: u64,
    ) -> Result<()> {
        if entity.queue().is_none() {
            return Ok(());
        }
        let megabytes = entity.sending().max_size_megabytes;
        let most = u64::from(megabytes) << 20;
        let now = self.now().monotone;
        let Some(sent) = self.counts.due(name, now, most.saturating_add(own)) else {
            return Ok(());
        };
        let held = self.held_of(name, topic, most).await?;
        self.counts.know(name, now, held, sent);
        let held = held.unwrap_or(0).saturating_sub(own);
        if held < most {
            return Ok(());
        }
        let message = format!(
            "the maximum entity size has been reached or exceeded for queue {:?}: it holds {held} bytes and may hold {most}; receive some of it, or set MaxSizeInMegabytes to more than {megabytes}",
            entity.title
        );
        Err(Error::new(Kind::Full, message))
    }

    /// What a queue holds; where all that there is of it is less than `most`, that.
    async fn held_of(&self, name: &EntityName, topic: &Topic, most: u64) -> Result<Option<u64>> {
        let log = topic.set.log(0);
        let Some(mut all) = self.engine.size(log, Offset(0).on()).await? else {
            return Ok(None);
        };
        let beside = self.engine.list(&name.dead_letter_sets()).await?;
        for info in &beside {
            let size = self.engine.size(info.id.log(0), Offset(0).on()).await?;
            all += size.unwrap_or(0);
        }
        if all < most {
            return Ok(Some(all));
        }
        let needs = self.needs(name).await?;
        // A topic that was there before it became a queue keeps what its retention says.
        if !needs.iter().any(|need| need.log == log && need.trims) {
            return Ok(None);
        }
        self.bytes_held(name, topic, &needs, &beside).await
    }

    /// The bytes of what is needed, with the data that it claims in the sets beside the topic.
    async fn bytes_held(
        &self,
        name: &EntityName,
        topic: &Topic,
        needs: &[Need],
        beside: &[SetInfo],
    ) -> Result<Option<u64>> {
        let mut bytes = Some(0);
        let mut add = |size| bytes = bytes.zip(size).map(|(bytes, size)| bytes + size);
        for need in needs {
            add(self.size_of(need).await?);
        }
        for moved in beside.iter().filter(|info| is_moved_set(&info.name)) {
            add(self.engine.size(moved.id.log(0), Offset(0).on()).await?);
        }
        let hold = SubscriptionName::hold(name.clone()).own_set();
        for pieces in beside {
            let Some(records) = records_beside(&pieces.name) else {
                continue;
            };
            // What waits until it is due claims pieces beside its topic.
            let is_topics = records == name.topic_set();
            let is_of = |info: &SetInfo| {
                info.name == records || (is_topics && Some(&info.name) == hold.as_ref())
            };
            let of: Vec<_> = beside.iter().filter(|info| is_of(info)).collect();
            let claims = |need: &&Need| {
                let set = need.log.set;
                (is_topics && set == topic.set) || of.iter().any(|info| info.id == set)
            };
            let parts = pieces.id.log(0);
            let mut first: Option<Offset> = None;
            for need in needs.iter().filter(claims) {
                let claimed = self.first_claimed(need, parts).await?;
                first = first.into_iter().chain(claimed).min();
            }
            if let Some(first) = first {
                add(self.engine.size(parts, first.on()).await?);
            }
        }
        Ok(bytes)
    }

    /// Where the pieces begin that are claimed by records that are needed; none if none are. Looks at one read's
    /// records of each range: where there are more and none of those claims any, at all pieces that there are.
    async fn first_claimed(&self, need: &Need, parts: LogId) -> Result<Option<Offset>> {
        let bounds = self.engine.bounds(need.log).await?;
        let needed: Vec<_> = match need.trims {
            true => need.needed().collect(),
            false => vec![Offset(0).on()],
        };
        for needed in needed {
            let (from, end) = (needed.start.max(bounds.start), needed.end.min(bounds.end));
            if from >= end {
                continue;
            }
            let chunk = self.engine.read(need.log, from, Limit::default()).await?;
            for record in records(&chunk, from) {
                let (offset, record) = record?;
                let claim = Terms::of(&record).claim.filter(|_| offset < end);
                if let Some(claim) = claim {
                    let manifest =
                        read_manifest(&*self.engine, parts, claim.at, claim.word).await?;
                    let first = manifest.and_then(|manifest| manifest.pieces.first().copied());
                    return Ok(Some(first.unwrap_or(claim.at)));
                }
            }
            if chunk.next < end {
                return Ok(Some(Offset(0)));
            }
        }
        Ok(None)
    }

    async fn size_of(&self, need: &Need) -> Result<Option<u64>> {
        if !need.trims {
            return Ok(self.engine.size(need.log, Offset(0).on()).await?);
        }
        // An older Mente at another node tells of no ranges.
        let upto = need.settled_upto.max(need.from);
        let (among, width) = (need.from..upto, |r: &Range<Offset>| {
            r.end.0.saturating_sub(r.start.0)
        });
        let behind = self.engine.size(need.log, upto.on()).await?;
        let (Some(behind), Some(mut among_bytes)) =
            (behind, self.engine.size(need.log, among.clone()).await?)
        else {
            return Ok(None);
        };
        let mut offsets = width(&among);
        for settled in &need.settled {
            let bytes = self.engine.size(need.log, settled.clone()).await?;
            among_bytes = among_bytes.saturating_sub(bytes.unwrap_or(0));
            offsets = offsets.saturating_sub(width(settled));
        }
        // The others count by their share of what is left.
        let others = Offset(0)..Offset(need.settled_besides);
        let besides = Offset::share(among_bytes, &(Offset(0)..Offset(offsets)), &others);
        Ok(Some(behind + among_bytes - besides))
    }

    async fn needs(&self, topic: &EntityName) -> Result<Vec<Need>> {
        let command = Command::Needs {
            topic: topic.clone(),
        };
        match self.ask(self.shard_of(topic), command).await? {
            Reply::Needs(needs) => Ok(needs),
            other => Err(unexpected(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_count_is_good_for_a_while_with_what_was_sent_since_on_top() {
        let (counts, name) = (Counts::default(), EntityName::new("q").unwrap());
        let due = |seconds: u32| counts.due(&name, SECOND * seconds, 100);
        // Nobody asked about it.
        counts.sent(&name, 1_000);
        assert_eq!(due(0), Some(0));
        counts.know(&name, Duration::ZERO, Some(40), 0);
        assert_eq!((due(0), due(9)), (None, None), "less than half");
        assert_eq!(due(10), Some(0));
        assert_eq!(due(11), None, "it is being counted");
        counts.sent(&name, 20);
        counts.know(&name, SECOND * 10, Some(40), 0);
        assert_eq!(due(10), None, "what was sent meanwhile may not be in it");
        assert_eq!(due(11), Some(20));
        counts.know(&name, SECOND * 11, Some(60), 20);
        counts.sent(&name, 39);
        assert_eq!(due(11), None);
        counts.sent(&name, 1);
        // Who may be refused is counted at each call.
        assert_eq!((due(11), due(11)), (Some(40), Some(40)));
        counts.know(&name, SECOND * 11, None, 40);
        assert_eq!((due(11), due(12)), (None, Some(0)));
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let counts = Counts::default();
        let name = |id: usize| EntityName::new(format!("q{id}")).unwrap();
        for id in 0..COUNTS + 1 {
            counts.know(&name(id), Duration::ZERO, Some(0), 0);
        }
        assert_eq!(counts.lock().len(), COUNTS);
        assert_eq!(counts.due(&name(COUNTS), Duration::ZERO, 1), Some(0));
        counts.know(&name(COUNTS), SECOND * 10, Some(0), 0);
        assert_eq!(counts.lock().len(), 1, "what is too old is forgotten");
    }
}
