//! Folds journals and the store again, from their logs, and compares with what the shards hold.

use mente_engine::{Limit, LogId, Offset, Record};

use super::read::records;
use super::{Broker, shard_of, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::shard::{Command, Digest, Reply};
use crate::snapshot::Replay;
use crate::store::StoreChain;

/// How often a journal is folded again because a snapshot was written while it was folded.
const SNAPSHOTS_MEANWHILE: usize = 3;

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
            if index == self.store_shard() && live.positions > 0 {
                let folded = self.fold_store(live.positions).await;
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

    async fn fold_store(&self, positions: u64) -> Result<u64> {
        let mut chain = StoreChain::default();
        self.fold(self.store, |offset, record| {
            if chain.positions() < positions {
                chain.fold(offset, record)?;
            }
            Ok(chain.positions() < positions)
        })
        .await?;
        Ok(chain.value())
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

fn compare(what: String, folded: Result<u64>, live: u64, count: u64) -> Verified {
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
