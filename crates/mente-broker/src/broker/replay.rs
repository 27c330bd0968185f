//! Dead letters given back: their events are delivered again, as if for the first time.

use mente_engine::{Attribute, LogId, Offset};

use super::subscriptions::{COUNT_PAUSE, COUNT_WAIT, subscriptions};
use super::{Broker, StoredEvent, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::dead_letter::{ORIGIN, UNREADABLE};
use crate::error::{Error, Result};
use crate::name::SubscriptionName;
use crate::queue::{Letter, Revival, Stop};
use crate::shard::{Command, Reply, SubscriptionInfo};

/// Letters that are counted at most, to tell how many remain.
const REMAINING: u64 = 10_000;
/// Letters that are read at one time to count them.
const COUNTED_AT_ONCE: usize = 1_000;

/// What came of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub replayed: u64,
    /// Passed over: their records are not to be had any more. The letters stay where they lie.
    pub passed: u64,
    /// Letters that are left, at least so many.
    pub remaining: u64,
    /// Whether `remaining` is all of them.
    pub exact: bool,
}

impl Broker {
    /// Gives the oldest dead letters of a subscription back to it, at most `limit` of those that are there
    /// now, durable on return: each once. Fewer where many that were given back wait to be done with.
    pub async fn replay(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        limit: usize,
    ) -> Result<Replayed> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let info = self.subscription(name).await?;
        let Some(log) = self.dead_letter_log(name).await? else {
            return Ok(Replayed {
                exact: true,
                ..Replayed::default()
            });
        };
        let from = info.revived_upto;
        let (mut done, upto, is_alone) = self.give_back(who, &info, log, limit).await?;
        (done.remaining, done.exact) = self.count_letters(log, upto).await?;
        let is_free = is_alone && !self.lent.holds(log.set);
        if upto > from && done.passed == 0 && is_free {
            self.let_go_of_letters(log, from, upto).await;
        }
        Ok(done)
    }

    /// And up to where letters are done with, and whether nobody else gave any back meanwhile, of which it is not
    /// known what was passed over.
    async fn give_back(
        &self,
        who: &Principal,
        info: &SubscriptionInfo,
        log: LogId,
        limit: usize,
    ) -> Result<(Replayed, Offset, bool)> {
        // What dies again meanwhile is for the next time.
        let end = self.engine.bounds(log).await?.end;
        let latest = self.now().monotone + COUNT_WAIT;
        let starts = self.starts(who, &info.name).await?;
        let from = info.revived_upto;
        let (mut done, mut upto, mut next) = (Replayed::default(), from, from);
        let mut is_alone = true;
        loop {
            let left = limit.saturating_sub(done.replayed as usize);
            if left == 0 || next >= end {
                return Ok((done, upto, is_alone));
            }
            let (letters, behind) = self.letters(log, next, left, &starts).await?;
            let letters: Vec<_> = letters.into_iter().filter(|l| l.at < end).collect();
            if letters.is_empty() {
                if behind <= next {
                    return Ok((done, upto, is_alone));
                }
                next = behind;
                continue;
            }
            let revival = self.revive(info, upto, &letters).await?;
            let is_passed = |l: &&Letter| l.record.is_none() && l.at < revival.upto;
            if revival.stopped != Some(Stop::Moved) {
                done.passed += letters.iter().filter(is_passed).count() as u64;
            }
            done.replayed += revival.revived;
            upto = revival.upto;
            next = match revival.stopped {
                None => behind.max(upto),
                Some(Stop::Moved) => {
                    is_alone = false;
                    upto
                }
                Some(Stop::Full) => return Ok((done, upto, is_alone)),
                Some(Stop::Unconfirmed) if self.now().monotone >= latest => {
                    return Ok((done, upto, is_alone));
                }
                Some(Stop::Unconfirmed) => {
                    self.sleep(COUNT_PAUSE).await;
                    next.max(upto)
                }
            };
        }
    }

    async fn revive(
        &self,
        info: &SubscriptionInfo,
        from: Offset,
        letters: &[Letter],
    ) -> Result<Revival> {
        let name = &info.name;
        let command = Command::Revive {
            name: name.clone(),
            view: info.view,
            from,
            letters: letters.to_vec(),
        };
        match self.ask(self.shard_of(&name.topic), command).await? {
            Reply::Revived(revival) => Ok(revival),
            other => Err(unexpected(&other)),
        }
    }

    /// As it is now; its counts may not be exact.
    pub(super) async fn subscription(&self, name: &SubscriptionName) -> Result<SubscriptionInfo> {
        let all = Command::ListSubscriptions {
            topic: Some(name.topic.clone()),
            bounds: Vec::new(),
        };
        let found = subscriptions(self.ask(self.shard_of(&name.topic), all).await?)?;
        let found = found.into_iter().find(|info| info.name == *name);
        found.ok_or_else(|| Error::not_found("subscription", &name.to_string()))
    }

    /// Where the logs begin of which the subscription is.
    async fn starts(&self, who: &Principal, name: &SubscriptionName) -> Result<Vec<Offset>> {
        let topic = self.source(who, &name.topic).await?;
        let start = |index| async move {
            let bounds = self.engine.bounds(topic.set.log(index)).await?;
            Ok::<_, Error>(bounds.start)
        };
        futures::future::try_join_all((0..topic.partitions).map(start)).await
    }

    /// The next letters, and where to read on.
    async fn letters(
        &self,
        log: LogId,
        from: Offset,
        max: usize,
        starts: &[Offset],
    ) -> Result<(Vec<Letter>, Offset)> {
        let from = from.max(self.engine.bounds(log).await?.start);
        let (read, next) = self.read_log(log, "", from, max).await?;
        let letter = |stored: &StoredEvent| Letter {
            at: stored.position.offset,
            record: record_of(stored).filter(|(partition, offset)| {
                let start = starts.get(*partition as usize);
                start.is_some_and(|start| offset >= start)
            }),
        };
        Ok((read.iter().map(letter).collect(), next))
    }

    async fn count_letters(&self, log: LogId, from: Offset) -> Result<(u64, bool)> {
        let bounds = self.engine.bounds(log).await?;
        let (mut count, mut next) = (0, from.max(bounds.start));
        while next < bounds.end && count < REMAINING {
            let (read, behind) = self.read_log(log, "", next, COUNTED_AT_ONCE).await?;
            count += read.len() as u64;
            if behind <= next {
                break;
            }
            next = behind;
        }
        Ok((count, next >= bounds.end))
    }

    /// Letters up to there were all given back. Where one before was passed over they all stay.
    async fn let_go_of_letters(&self, log: LogId, from: Offset, upto: Offset) {
        let trimmed = async {
            let start = self.engine.bounds(log).await?.start;
            let (before, _) = self.read_log(log, "", start, 1).await?;
            let is_passed = before.first().is_some_and(|l| l.position.offset < from);
            if !is_passed {
                self.engine.trim(log, upto).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = trimmed.await {
            tracing::warn!(%log, %error, "dead letters that were given back stay for now");
        }
    }

    pub(super) async fn dead_letter_log(&self, name: &SubscriptionName) -> Result<Option<LogId>> {
        let set = name.dead_letter_set();
        let listed = self.engine.list(set.as_str()).await?;
        let found = listed.into_iter().find(|info| info.name == set);
        Ok(found.map(|info| info.id.log(0)))
    }
}

/// The record that a letter is a copy of; none where that could not be read even then.
fn record_of(letter: &StoredEvent) -> Option<(u32, Offset)> {
    let Some(Attribute::Text(origin)) = letter.event.extension(ORIGIN) else {
        return None;
    };
    let (partition, offset) = origin.split_once('-')?;
    let record = (partition.parse().ok()?, Offset(offset.parse().ok()?));
    (letter.event.kind != UNREADABLE).then_some(record)
}
