//! Branches: the whole namespace forked as it was at a moment, with a broker of its own on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::try_join_all;
use mente_engine::fork::{Fork, Share};
use mente_engine::{LogConfig, SetId, SetInfo, Timestamp};

use super::{Broker, INDEX, ShardTask};
use crate::access::{Action, Principal, authorize};
use crate::branch::{self, Ends, Told, check_branch_name};
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
pub(super) struct Lent(Arc<RwLock<BTreeMap<EntityName, Fork>>>);

impl Lent {
    fn lend(&self, to: &EntityName, fork: Fork) {
        let mut lent = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lent.insert(to.clone(), fork);
    }

    fn take_back(&self, from: &EntityName) {
        let mut lent = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lent.remove(from);
    }

    /// A branch that reads this one.
    fn reader(&self, set: SetId) -> Option<EntityName> {
        let lent = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let reader = lent.iter().find(|(_, fork)| fork.shares(set));
        reader.map(|(name, _)| name.clone())
    }

    pub(super) fn holds(&self, set: SetId) -> bool {
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
        let share = |info: SetInfo| {
            let is_own = own.contains(&info.name);
            let is_named = topics.contains(&info.id) || letters.contains(info.name.as_str());
            // What the journals do not name in the index is not looked at.
            let upto = upto.filter(|_| info.name != own[1]);
            (is_own || is_named).then_some(Share { info, upto })
        };
        let listed = self.engine.list(&format!("{DEFAULT_NAMESPACE}/")).await?;
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

    /// Opens a branch that [`Broker::fork`] made. Until [`Broker::forget_branch`] nothing that it reads is deleted.
    pub async fn open_branch(&self, name: &EntityName) -> Result<Branch> {
        let engine = Arc::clone(&self.engine);
        let fork = Fork::open(engine, name.as_str(), DEFAULT_NAMESPACE).await?;
        self.lent.lend(name, fork.clone());
        let engine = Arc::new(fork.clone());
        let (broker, shards) = Self::open(engine, Arc::clone(&self.clock), self.options).await?;
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
        for info in self.engine.list("").await? {
            let space = info.name.as_str().strip_suffix(Fork::MARK);
            let name = space.and_then(|space| EntityName::new(space).ok());
            if let Some(name) = name.filter(|name| !known.contains(name)) {
                self.forget_branch(&name).await?;
            }
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
