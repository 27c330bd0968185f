//! The rows of a projection, in a file of SQLite or in a schema of PostgreSQL, and the place of
//! each: live, under construction, folded to be compared. Everything here blocks.

use std::sync::Arc;

use mente_broker::EntityName;
use tokio::sync::watch;

use super::database::{Checkpoints, Database, Mode, Owner};
use super::digest::TableDigest;
use super::fact::Batch;
use super::files::{self, Files};
use super::kept::{self, KeptRows};
use super::parking::{Aside, Asked, Fate, Held, Retried, retry};
use super::postgres;
use super::sandbox::Rules;
use super::status::Failure;

#[derive(Debug)]
pub(super) enum Rows {
    File(Box<Database>),
    Postgres(Box<postgres::Database>),
}

/// Rebuilt rows that are complete and wait to take their place.
#[derive(Debug)]
pub(super) enum Built {
    File,
    /// Its session still holds the lock, so nobody builds over it.
    Postgres(Box<postgres::Database>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Files(Files),
    Postgres(postgres::Place),
}

/// Interrupts whoever works on rows.
#[derive(Clone, Debug)]
pub(super) enum Stopper {
    File(Rules),
    Postgres(Arc<watch::Sender<bool>>),
}

impl Built {
    /// Whether nothing more can be done with it.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::File => false,
            Self::Postgres(rows) => rows.is_gone(),
        }
    }
}

impl Rows {
    pub(super) fn checkpoints(&self) -> &Checkpoints {
        match self {
            Self::File(rows) => rows.checkpoints(),
            Self::Postgres(rows) => rows.checkpoints(),
        }
    }

    /// Why they are to be read and not to be folded on.
    pub(super) fn outdated(&self) -> Option<&'static str> {
        match self {
            Self::File(rows) => rows.outdated,
            Self::Postgres(rows) => rows.outdated,
        }
    }

    /// The declaration that they are a fold by, where it is another one of the same log.
    pub(super) fn earlier(&self) -> Option<&str> {
        match self {
            Self::File(rows) => rows.earlier.as_deref(),
            Self::Postgres(rows) => rows.earlier.as_deref(),
        }
    }

    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), Failure> {
        match self {
            Self::File(rows) => rows.apply(batch),
            Self::Postgres(rows) => rows.apply(batch),
        }
    }

    /// What is parked, where that is declared.
    pub(super) fn parked(&self) -> Option<Held> {
        match self {
            Self::File(rows) => rows.parked(),
            Self::Postgres(rows) => rows.parked(),
        }
    }

    /// Tries parked events again.
    pub(super) fn retry(&mut self, asked: &Asked) -> Result<Retried, Failure> {
        let rows: &mut dyn Aside = match self {
            Self::File(rows) => &mut **rows,
            Self::Postgres(rows) => &mut **rows,
        };
        retry(rows, asked)
    }

    /// What is parked and was skipped, one by one.
    pub(super) fn fate(&self) -> Result<Fate, Failure> {
        match self {
            Self::File(rows) => rows.fate(),
            Self::Postgres(rows) => rows.fate(),
        }
    }

    pub(super) fn digest(&self) -> Result<Vec<TableDigest>, Failure> {
        match self {
            Self::File(rows) => rows.digest(),
            Self::Postgres(rows) => rows.digest(),
        }
    }

    pub(super) fn stopper(&self) -> Stopper {
        match self {
            Self::File(rows) => Stopper::File(rows.rules().clone()),
            Self::Postgres(rows) => Stopper::Postgres(rows.stopper()),
        }
    }

    /// Nothing more comes; they are ready to take their place.
    pub(super) fn finish(self) -> Result<Built, Failure> {
        match self {
            Self::File(rows) => rows
                .finish()
                .map(|()| Built::File)
                .map_err(|(_, failure)| failure),
            Self::Postgres(rows) => Ok(Built::Postgres(rows)),
        }
    }
}

impl Stopper {
    pub(super) fn stop(&self) {
        match self {
            Self::File(rules) => rules.stop(),
            Self::Postgres(stop) => {
                stop.send_replace(true);
            }
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        match self {
            Self::File(rules) => rules.stopping(),
            Self::Postgres(stop) => *stop.borrow(),
        }
    }
}

impl Place {
    /// Whether a rebuild was cut off.
    pub(super) fn is_rebuilding(&self) -> Result<bool, Failure> {
        match self {
            Self::Files(files) => Ok(files.rebuild.exists()),
            Self::Postgres(place) => place.is_rebuilding(),
        }
    }

    /// The rows that were live before the last switch.
    pub(super) fn kept(&self) -> Result<Option<KeptRows>, Failure> {
        match self {
            Self::Files(files) => kept::of_file(files),
            Self::Postgres(place) => place.kept(),
        }
    }

    /// The kept rows and the live ones change places; nothing happens if none are kept.
    pub(super) fn exchange(&self, owner: Owner) -> Result<(), Failure> {
        if self.kept()?.is_none() {
            return Ok(());
        }
        match self {
            Self::Files(files) => files.exchange(owner),
            Self::Postgres(place) => place.exchange(&owner.name),
        }
    }

    /// The live rows; made if they are not there, unless a rebuild is going to make them.
    pub(super) fn open_live(&self, owner: Owner, rebuild: bool) -> Result<Option<Rows>, Failure> {
        match self {
            Self::Files(files) => {
                files
                    .settle()
                    .map_err(|error| files::failure("finishing a switch", &error))?;
                if !rebuild {
                    files::remove(&files.rebuild)
                        .map_err(|error| files::failure("removing an old rebuild", &error))?;
                }
                if rebuild && !files.live.exists() {
                    return Ok(None);
                }
                let rules = Rules::of_rows(owner.declaration.inline);
                let live = Database::open(&files.live, Mode::Live, owner, rules)?;
                Ok(Some(Rows::File(Box::new(live))))
            }
            Self::Postgres(place) => {
                let name = owner.name.clone();
                let live = place.open_live(owner)?;
                if !rebuild {
                    place.remove_rebuild(&name)?;
                }
                Ok(Some(Rows::Postgres(Box::new(live))))
            }
        }
    }

    /// Empty tables under construction.
    pub(super) fn open_rebuild(&self, owner: Owner) -> Result<Rows, Failure> {
        match self {
            Self::Files(files) => {
                files::remove(&files.rebuild)
                    .map_err(|error| files::failure("removing an old rebuild", &error))?;
                self.open_rebuild_again(owner)
            }
            Self::Postgres(place) => Ok(Rows::Postgres(Box::new(place.open_rebuild(owner)?))),
        }
    }

    /// Rows under construction that were finished once, to go on with.
    pub(super) fn open_rebuild_again(&self, owner: Owner) -> Result<Rows, Failure> {
        match self {
            Self::Files(files) => {
                let rules = Rules::of_rows(owner.declaration.inline);
                let rebuild = Database::open(&files.rebuild, Mode::Build, owner, rules);
                Ok(Rows::File(Box::new(rebuild?)))
            }
            Self::Postgres(place) => Ok(Rows::Postgres(Box::new(place.open_rebuild(owner)?))),
        }
    }

    /// Puts what was built into the place of the live rows; gives it back if that does not go now.
    pub(super) fn swap(&self, owner: Owner, built: Built) -> Result<(), (Built, Failure)> {
        match (self, built) {
            (Self::Files(files), built) => files.swap(owner).map_err(|failure| (built, failure)),
            (Self::Postgres(place), Built::Postgres(mut rows)) => rows
                .take_place(place.target.schema(), &owner.name)
                .map_err(|failure| (Built::Postgres(rows), failure)),
            (Self::Postgres(_), Built::File) => Ok(()),
        }
    }

    /// Removes what there is of a projection. In PostgreSQL, where others may have rows of that
    /// name, only those that were `ours`.
    pub(super) fn remove_all(&self, name: &EntityName, ours: bool) -> Result<(), Failure> {
        match self {
            Self::Files(files) => files
                .remove_all()
                .map_err(|error| files::failure("removing the rows", &error)),
            Self::Postgres(place) => place.remove_all(name, ours),
        }
    }
}
