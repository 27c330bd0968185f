//! Folds journals and the store again, from their logs, and compares with what the shards hold.

use mente_engine::{Limit, LogId, Offset, Record};
use serde::{Deserialize, Serialize};

use super::read::records;
use super::{Broker, shard_of, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::shard::{Command, Digest, Reply};
use crate::snapshot::Replay;
use crate::store::{Chain, StoreChain};

/// How often a journal is folded again because a snapshot was written while it was folded.
const SNAPSHOTS_MEANWHILE: usize = 3;

/// An event of the store by its position, and the hash over all up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub position: u64,
    pub hash: Chain,
}

/// One log, folded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Such as `journal 17` or `store`.
    pub what: String,
    pub equal: bool,
    pub detail: String,
}

impl Broker {
    /// Whether this caller may have a copy of everything.
    pub fn check_backup(&self, who: &Principal) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, &"everything")
    }

    /// Whether this caller may see the nodes and their shards.
    pub fn check_cluster(&self, who: &Principal) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, &"the cluster")
    }

    /// Compares every shard that ever decided anything, and the store.
    pub async fn verify(&self, who: &Principal) -> Result<Vec<Verified>> {
        self.verify_noted(who, None).await
    }

    /// Up to which event the store goes, and the hash over all of them; `None` while it is empty. Who notes it
    /// elsewhere can show later that nothing up to there was touched.
    pub async fn store_head(&self, who: &Principal) -> Result<Option<Head>> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        let live = self.digest(self.store_shard()).await?;
        let head = |position| Head {
            position,
            hash: live.store,
        };
        Ok(live.positions.checked_sub(1).map(head))
    }

    /// As [`Broker::verify`], and the store against a head that was noted.
    pub async fn verify_noted(
        &self,
        who: &Principal,
        noted: Option<Head>,
    ) -> Result<Vec<Verified>> {
        authorize(self.options.access, who, Action::Manage, &"the journals")?;
        let mut verified = Vec::new();
        for index in 0..self.shards.len() {
            let mut live = self.digest(index).await?;
            if live.seq > 0 {
                let journal = self.journals.log(index as u32);
                let mut folded = self.fold_journal(journal, live.seq).await;
                // A snapshot may have taken the place of these decisions meanwhile: look anew.
                for _ in 0..SNAPSHOTS_MEANWHILE {
                    if !matches!(&folded, Err(error) if error.kind == Kind::OutOfRange) {
                        break;
                    }
                    live = self.digest(index).await?;
                    folded = self.fold_journal(journal, live.seq).await;
                }
                verified.push(compare(
                    format!("journal {index}"),
                    folded,
                    live.state,
                    live.seq,
                ));
            }
            if index == self.store_shard() && (live.positions > 0 || noted.is_some()) {
                let folded = self.fold_store(live.positions, noted).await;
                verified.push(compare(
                    "store".to_owned(),
                    folded,
                    live.store,
                    live.positions,
                ));
            }
        }
        Ok(verified)
    }

    async fn digest(&self, shard: usize) -> Result<Digest> {
        match self.ask(shard, Command::Digest).await? {
            Reply::Digest(digest) => Ok(digest),
            other => Err(unexpected(&other)),
        }
    }

    async fn fold_journal(&self, log: LogId, last: u64) -> Result<u64> {
        let mut replay = Replay::new();
        self.fold(log, |_, record| {
            replay.take(record)?;
            Ok(replay.seq() < last)
        })
        .await?;
        if replay.seq() > last {
            let message = format!("decision {last} went with a snapshot");
            return Err(Error::new(Kind::OutOfRange, message));
        }
        Ok(replay.finish().0.state_digest())
    }

    async fn fold_store(&self, positions: u64, noted: Option<Head>) -> Result<Chain> {
        let mut chain = StoreChain::default();
        let mut is_noted = noted.is_none();
        self.fold(self.store, |offset, record| {
            if chain.positions() < positions {
                chain.fold(offset, record)?;
                is_noted |= noted.is_some_and(|head| {
                    head.position.checked_add(1) == Some(chain.positions())
                        && head.hash == chain.chain()
                });
            }
            Ok(chain.positions() < positions)
        })
        .await?;
        if let (Some(head), false) = (noted, is_noted) {
            let message = format!(
                "the events up to position {} are not those that were there when its hash was noted",
                head.position
            );
            return Err(Error::new(Kind::Corrupt, message));
        }
        Ok(chain.chain())
    }

    /// Hands out records until `take` says that it has enough, or the log ends.
    async fn fold(
        &self,
        log: LogId,
        mut take: impl FnMut(Offset, &Record) -> Result<bool>,
    ) -> Result<()> {
        let bounds = self.engine.bounds(log).await?;
        let mut from = bounds.start;
        while from < bounds.end {
            let chunk = self.engine.read(log, from, Limit::default()).await?;
            for record in records(&chunk, from) {
                let (offset, record) = record?;
                if !take(offset, &record)? {
                    return Ok(());
                }
            }
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
        Ok(())
    }

    pub(super) fn store_shard(&self) -> usize {
        shard_of(super::STORE, self.shards.len() as u32) as usize
    }
}

fn compare<T: PartialEq>(what: String, folded: Result<T>, live: T, count: u64) -> Verified {
    let (equal, detail) = match folded {
        Ok(folded) if folded == live => (true, format!("{count} records folded again")),
        Ok(_) => (
            false,
            format!("the fold of {count} records is not what the shard holds"),
        ),
        Err(error) => (false, error.to_string()),
    };
    Verified {
        what,
        equal,
        detail,
    }
}
