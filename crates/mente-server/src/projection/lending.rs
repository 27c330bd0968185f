//! What others may have of a projection: its rows, to read beside those of others, and how far it is.

use std::path::PathBuf;

use mente_broker::{EntityName, Error, Kind, Principal, Result};
use tokio::sync::OwnedRwLockReadGuard;

use super::database::Checkpoints;
use super::declaration::Source;
use super::rows::Place;
use super::{Projections, State, missing, query};

/// The rows of a projection; they are not replaced while this is held.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) name: EntityName,
    pub(crate) path: PathBuf,
    _stays: OwnedRwLockReadGuard<()>,
}

/// How far the rows are.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) source: Source,
    checkpoints: Checkpoints,
    /// Why they get no further, unless somebody does something.
    pub(crate) stopped: Option<String>,
}

impl Projections {
    /// Lends the rows of these, in the order of their names: who waits for one holds none that comes behind
    /// it, or two that wait could wait for each other for ever.
    pub(crate) async fn lend(
        &self,
        who: &Principal,
        names: impl IntoIterator<Item = EntityName>,
    ) -> Result<Vec<Lent>> {
        let mut names: Vec<EntityName> = names.into_iter().collect();
        names.sort();
        let mut lent = Vec::with_capacity(names.len());
        for name in names {
            self.check_promised(&name).await?;
            let (place, stays) = self.read(who, &name).await?;
            let Place::Files(files) = place else {
                let message = format!(
                    "the rows of projection {name} are in PostgreSQL: ask them there, and leave it out here"
                );
                return Err(Error::new(Kind::Unsupported, message));
            };
            let path = files.live;
            if !path.exists() {
                let mut error = query::no_rows();
                error.message = format!("{name}: {}", error.message);
                return Err(error);
            }
            lent.push(Lent {
                name,
                path,
                _stays: stays,
            });
        }
        Ok(lent)
    }

    /// How far the live rows of a projection are.
    pub(crate) async fn applied(&self, who: &Principal, name: &EntityName) -> Result<Applied> {
        self.declared(who)?.get(name).ok_or_else(|| missing(name))?;
        let entries = self.inner.entries.lock().await;
        let entry = entries.by_name.get(name);
        let Some((entry, kept)) = entry.and_then(|entry| Some((entry, entry.kept.as_ref()?)))
        else {
            let message = format!("projection {name} is not kept yet: see its status");
            return Err(Error::new(Kind::Conflict, message));
        };
        let shown = entry.board.shown();
        let stopped = shown.error.filter(|_| shown.state == State::Failed);
        Ok(Applied {
            source: kept.declaration.source.clone(),
            checkpoints: entry.board.live(),
            stopped: stopped.map(|failure| failure.message),
        })
    }
}

impl Applied {
    /// Whether everything below this offset of a partition is in the rows.
    pub(crate) fn is_behind(&self, partition: u32, offset: u64) -> bool {
        let checkpoint = self.checkpoints.get(&partition);
        checkpoint.is_some_and(|checkpoint| checkpoint.next > offset)
    }
}
