//! Branches: the whole namespace forked as it was at a moment, with a broker of its own on it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::try_join_all;
use mente_engine::fork::{Fork, Share};
use mente_engine::{LogConfig, SetId, SetInfo, SetName, Timestamp};

use super::{Broker, INDEX, ShardTask};
use crate::access::{Action, Principal, authorize};
use crate::branch::{self, Ends, Told, check_branch_name};
use crate::claim;
use crate::error::{Error, Kind, Result};
use crate::journal;
use crate::name::{DEFAULT_NAMESPACE, EntityName, STORE, set_name};

/// What a branch was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forked {
    /// Deliveries are as they were then, if some journal does not reach back to the moment of the branch.
    pub deliveries: Option<Timestamp>,
    /// Topics of that moment whose events are deleted since.
    pub missing: Vec<EntityName>,
}

/// A branch at work.
pub struct Branch {
    pub broker: Broker,
    pub shards: Vec<ShardTask>,
    pub fork: Fork,
}

/// The forks that branches read, so that nobody deletes what they share meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lent(Arc<Mutex<Lending>>);

#[derive(Debug, Default)]
struct Lending {
    to: BTreeMap<EntityName, Fork>,
    /// Deletions and creations of branches under way: never both.
    deleting: usize,
    forking: usize,
}

/// Something under way, until it is dropped.
pub(super) struct UnderWay {
    lent: Lent,
    which: fn(&mut Lending) -> &mut usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *(self.which)(&mut self.lent.lock()) -= 1;
    }
}

impl Lent {
    fn lock(&self) -> MutexGuard<'_, Lending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(&self, to: &EntityName, fork: Fork) {
        self.lock().to.insert(to.clone(), fork);
    }

    fn take_back(&self, from: &EntityName) {
        self.lock().to.remove(from);
    }

    /// Holds branches that are about to be made off until it is dropped. To be had before [`Lent::check`].
    pub(super) fn deleting(&self) -> Result<UnderWay> {
        self.begin(
            |lending| lending.forking,
            |lending| &mut lending.deleting,
            "a branch is being made",
        )
    }

    fn forking(&self) -> Result<UnderWay> {
        let what = "topics or subscriptions are being deleted";
        self.begin(
            |lending| lending.deleting,
            |lending| &mut lending.forking,
            what,
        )
    }

    fn begin(
        &self,
        others: fn(&Lending) -> usize,
        which: fn(&mut Lending) -> &mut usize,
        what: &str,
    ) -> Result<UnderWay> {
        let mut lending = self.lock();
        if others(&lending) > 0 {
            let message = format!("{what} just now: repeat");
            return Err(Error::new(Kind::Throttled, message));
        }
        *which(&mut lending) += 1;
        drop(lending);
        Ok(UnderWay {
            lent: self.clone(),
            which,
        })
    }

    /// A branch that reads this one.
    fn reader(&self, set: SetId) -> Option<EntityName> {
        let lending = self.lock();
        let reader = lending.to.iter().find(|(_, fork)| fork.shares(set));
        reader.map(|(name, _)| name.clone())
    }

    pub(crate) fn holds(&self, set: SetId) -> bool {
        self.reader(set).is_some()
    }

    /// Refuses to have this deleted while a branch reads it.
    pub(super) fn check(&self, what: &str, set: SetId) -> Result<()> {
        match self.reader(set) {
            None => Ok(()),
            Some(branch) => Err(Error::new(
                Kind::Conflict,
                format!("branch {branch} reads {what}: remove the branch first"),
            )),
        }
    }
}

impl Broker {
    /// Forks everything as it was at `upto`, or is now, durable on return. Costs what the journals and the number
    /// of topics cost, whatever the number of events.
    pub async fn fork(
        &self,
        who: &Principal,
        name: &EntityName,
        upto: Option<Timestamp>,
    ) -> Result<Forked> {
        authorize(self.options.access, who, Action::Manage, name)?;
        check_branch_name(name)?;
        if self.peers.is_some() {
            let message =
                "branches need the embedded engine: on a Kafka cluster there are none yet";
            return Err(Error::new(Kind::Unsupported, message));
        }
        if upto.is_some_and(|upto| upto > self.now().wall) {
            let message = "a branch begins now or at a moment in the past, not in the future";
            return Err(Error::invalid(message));
        }
        let _alone = self.lent.forking()?;
        // Before the ends of what they speak of: no journal is ahead of its events.
        let journals = (0..self.shards.len() as u32).map(|shard| self.journals.log(shard));
        let told = journals.map(|journal| branch::told(&*self.engine, journal, upto));
        let mut told = try_join_all(told).await?;
        let shares = self.shares(&told, upto).await?;
        let made = Fork::create(
            Arc::clone(&self.engine),
            name.as_str(),
            DEFAULT_NAMESPACE,
            &shares,
        );
        let fork = made.await?;
        self.lent.lend(name, fork.clone());
        let logs = shares
            .iter()
            .flat_map(|share| (0..share.info.logs).map(|index| share.info.id.log(index)));
        let ends: Ends = logs
            .filter_map(|log| Some((log, fork.cut(log)?.start)))
            .collect();
        let missing = told.iter_mut().flat_map(|told| told.fit(self.store, &ends));
        let missing = missing.collect();
        self.write_journals(&fork, &told).await?;
        Ok(Forked {
            deliveries: told.iter().filter_map(|told| told.later).max(),
            missing,
        })
    }

    /// The sets that a branch in these states reads.
    async fn shares(&self, told: &[Told], upto: Option<Timestamp>) -> Result<Vec<Share>> {
        let (topics, letters) = branch::sets_named(told);
        let own = [STORE, INDEX].map(set_name);
        let is_named =
            |info: &SetInfo| topics.contains(&info.id) || letters.contains(info.name.as_str());
        let listed = self.engine.list(&format!("{DEFAULT_NAMESPACE}/")).await?;
        let named = listed.iter().filter(|info| is_named(info));
        let named: HashSet<SetName> = named.map(|info| info.name.clone()).collect();
        let share = |info: SetInfo| {
            let is_own = own.contains(&info.name);
            // Data of large messages goes with the records that claim it.
            let records = claim::records_beside(&info.name);
            let is_shared = named.contains(&info.name)
                || records.is_some_and(|records| named.contains(&records));
            // What the journals do not name in the index is not looked at.
            let upto = upto.filter(|_| info.name != own[1]);
            (is_own || is_shared).then_some(Share { info, upto })
        };
        Ok(listed.into_iter().filter_map(share).collect())
    }

    async fn write_journals(&self, fork: &Fork, told: &[Told]) -> Result<()> {
        use mente_engine::Engine;
        let config = LogConfig {
            owned: true,
            ..LogConfig::default()
        };
        let shards = self.shards.len() as u32;
        let set = fork.create(&Self::journals(), shards, config).await?;
        let (now, page_bytes) = (self.now().wall, self.append_bytes / 2);
        let write = |(shard, told): (u32, &Told)| {
            let batches = match told.decisions.is_empty() {
                true => Vec::new(),
                false => journal::encode_snapshot(told.seq, &told.decisions, now, page_bytes),
            };
            async move {
                if batches.is_empty() {
                    return Ok::<_, Error>(());
                }
                let fence = fork.claim(set.log(shard)).await?;
                let append = |batch| fork.append(&[fence], vec![(fence.log, batch)]);
                try_join_all(batches.into_iter().map(append)).await?;
                Ok(())
            }
        };
        try_join_all((0..).zip(told).map(write)).await.map(drop)
    }

    /// Lends what every branch reads that there is, known or not: to be called before anything can be deleted.
    pub async fn lend_to_branches(&self) -> Result<()> {
        for name in self.marked().await? {
            let engine = Arc::clone(&self.engine);
            match Fork::open(engine, name.as_str(), DEFAULT_NAMESPACE).await {
                Ok(fork) => self.lent.lend(&name, fork),
                // It will not be opened either; `default` goes on without it.
                Err(error) => {
                    tracing::error!(branch = %name, %error, "what a branch reads is not known");
                }
            }
        }
        Ok(())
    }

    /// Branches, whole or not, by what they leave in the engine.
    async fn marked(&self) -> Result<Vec<EntityName>> {
        let listed = self.engine.list("").await?.into_iter();
        let space = |info: SetInfo| {
            let space = info.name.as_str().strip_suffix(Fork::MARK)?;
            EntityName::new(space).ok()
        };
        Ok(listed.filter_map(space).collect())
    }

    /// Opens a branch that [`Broker::fork`] made. Until [`Broker::forget_branch`] nothing that it reads is deleted.
    pub async fn open_branch(&self, name: &EntityName) -> Result<Branch> {
        let engine = Arc::clone(&self.engine);
        let fork = Fork::open(engine, name.as_str(), DEFAULT_NAMESPACE).await?;
        self.lent.lend(name, fork.clone());
        let engine = Arc::new(fork.clone());
        let (broker, shards) =
            Self::open(engine, Arc::clone(&self.clock), self.options.clone()).await?;
        Ok(Branch {
            broker,
            shards,
            fork,
        })
    }

    /// Deletes all that a branch holds of its own, also of one that was half made.
    pub async fn forget_branch(&self, name: &EntityName) -> Result<()> {
        check_branch_name(name)?;
        self.lent.take_back(name);
        Ok(Fork::remove(&*self.engine, name.as_str()).await?)
    }

    /// Forgets branches that nobody has heard of: a server ended while it made or removed them.
    pub async fn forget_other_branches(&self, known: &BTreeSet<EntityName>) -> Result<()> {
        let marked = self.marked().await?;
        for name in marked.iter().filter(|name| !known.contains(name)) {
            self.forget_branch(name).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Branch")
            .field("fork", &self.fork)
            .finish_non_exhaustive()
    }
}
