//! How much a queue or topic holds, and how much it may.
//!
//! The bytes of a queue are those of its log from the first message on that is not settled, with those of its dead
//! letters and of what waits until it is due: what is settled behind that first message is among them. Those of a
//! topic are its whole log, which keeps what its retention says. The data of large messages counts from the first
//! piece on that one of them claims: what is on its way to be claimed is among them, too. Where an engine cannot tell the size
//! of a log, as Kafka, and on a branch, nothing is known and nothing refused.

use mente_engine::{Limit, LogId, Offset, SetInfo};

use super::{Broker, records, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::claim::{read_manifest, records_beside};
use crate::entity::Entity;
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::{EntityName, SubscriptionName};
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

impl Broker {
    pub async fn usage(&self, who: &Principal, name: &EntityName) -> Result<Usage> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let topic = self.topic(who, name).await?;
        let log = topic.set.log(0);
        let mut needs = self.needs(name).await?;
        if needs.iter().all(|need| need.log != log) {
            let (from, trims) = (Offset(0), false);
            needs.push(Need { log, from, trims });
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
    /// of them send may come on top. `own` is data that is kept for it already, which was asked about before.
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
        let log = topic.set.log(0);
        let Some(mut all) = self.engine.size(log, Offset(0)).await? else {
            return Ok(());
        };
        let beside = self.engine.list(&name.dead_letter_sets()).await?;
        for info in &beside {
            let size = self.engine.size(info.id.log(0), Offset(0)).await?;
            all += size.unwrap_or(0);
        }
        if all < most {
            return Ok(());
        }
        let needs = self.needs(name).await?;
        // A topic that was there before it became a queue keeps what its retention says.
        if !needs.iter().any(|need| need.log == log && need.trims) {
            return Ok(());
        }
        let held = self.bytes_held(name, topic, &needs, &beside).await?;
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
                add(self.engine.size(parts, first).await?);
            }
        }
        Ok(bytes)
    }

    /// Where the pieces begin that are claimed from the first record on that is needed; none if none are. Looks at
    /// one read's records: where there are more and none of those claims any, at all pieces that there are.
    async fn first_claimed(&self, need: &Need, parts: LogId) -> Result<Option<Offset>> {
        let bounds = self.engine.bounds(need.log).await?;
        let from = match need.trims {
            true => need.from.max(bounds.start),
            false => bounds.start,
        };
        if from >= bounds.end {
            return Ok(None);
        }
        let chunk = self.engine.read(need.log, from, Limit::default()).await?;
        for record in records(&chunk, from) {
            if let Some(claim) = Terms::of(&record?.1).claim {
                let manifest = read_manifest(&*self.engine, parts, claim.at, claim.word).await?;
                let first = manifest.and_then(|manifest| manifest.pieces.first().copied());
                return Ok(Some(first.unwrap_or(claim.at)));
            }
        }
        Ok((chunk.next < bounds.end).then_some(Offset(0)))
    }

    async fn size_of(&self, need: &Need) -> Result<Option<u64>> {
        let from = match need.trims {
            true => need.from,
            false => Offset(0),
        };
        Ok(self.engine.size(need.log, from).await?)
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
