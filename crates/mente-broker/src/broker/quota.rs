//! How much a queue or topic holds, and how much it may.
//!
//! The bytes of a queue are those of its log from the first message on that is not settled, with those of its dead
//! letters and of what waits until it is due: what is settled behind that first message is among them. Those of a
//! topic are its whole log, which keeps what its retention says. Where an engine cannot tell the size of a log, as
//! Kafka, and on a branch, nothing is known and nothing refused.

use mente_engine::{LogId, Offset};

use super::{Broker, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::entity::Entity;
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::{EntityName, SubscriptionName};
use crate::shard::{Command, Need, Reply};

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
        let mut bytes = Some(0);
        for need in needs {
            let size = self.size_of(&need).await?;
            bytes = bytes.zip(size).map(|(bytes, size)| bytes + size);
        }
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
    /// of them send may come on top.
    pub(super) async fn check_quota(
        &self,
        name: &EntityName,
        entity: &Entity,
        topic: &Topic,
        hold: Option<LogId>,
    ) -> Result<()> {
        if entity.queue().is_none() {
            return Ok(());
        }
        let megabytes = entity.sending().max_size_megabytes;
        let most = u64::from(megabytes) << 20;
        let log = topic.set.log(0);
        let mut all = 0;
        for log in [Some(log), hold].into_iter().flatten() {
            all += self.engine.size(log, Offset(0)).await?.unwrap_or(0);
        }
        if all < most {
            return Ok(());
        }
        let needs = self.needs(name).await?;
        // A topic that was there before it became a queue keeps what its retention says.
        if !needs.iter().any(|need| need.log == log && need.trims) {
            return Ok(());
        }
        let mut held = 0;
        for need in needs {
            if need.log == log || Some(need.log) == hold {
                held += self.size_of(&need).await?.unwrap_or(0);
            }
        }
        if held < most {
            return Ok(());
        }
        let message = format!(
            "the maximum entity size has been reached or exceeded for queue {:?}: it holds {held} bytes and may hold {most}; receive some of it, or set MaxSizeInMegabytes to more than {megabytes}",
            entity.title
        );
        Err(Error::new(Kind::Full, message))
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
