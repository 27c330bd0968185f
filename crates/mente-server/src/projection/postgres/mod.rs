//! PostgreSQL as the place of a projection's rows.
//!
//! ```text
//!   schema shop              rows · mente_checkpoint · mente_projection     live, asked by readers
//!   schema shop__rebuild     the same                                       under construction
//!   schema shop__verify      the same                                       folded to be compared
//!   schema shop__old         the same                                       live before, kept to go back to
//! ```
//! A transaction of rows begins by looking who the owner is (`mente_projection`: store or topic,
//! its incarnation, the declaration, the version of the rows, the owner's term) and ends by
//! moving the checkpoint from where it was known to be. Whoever takes the rows over raises the
//! term, so of two that both think they are the owner only the later one commits anything. That
//! is safety; that they do not take them from each other all day is one advisory lock a schema,
//! which lives as long as its owner's session.
//!
//! A rebuild has a schema of its own. It takes the place of the live one by renaming in one
//! transaction (`switch.rs`).

mod checkpoint;
mod database;
mod digest;
mod parked;
mod run;
mod session;
mod statement;
mod switch;
mod target;

use std::sync::Arc;

use mente_broker::EntityName;
use tokio::runtime::Handle;

use super::database::Owner;
use super::digest::TableDigest;
use super::kept::KeptRows;
use super::parking::{Fate, Held, ParkedEvent, ParkedKey};
use super::status::Failure;
pub(super) use checkpoint::{Lanes, summed};
pub(super) use database::Database;
use session::Session;
pub(super) use target::Target;

/// Of the tables `mente_*`; a newer one is refused.
const FORMAT: i32 = 1;
const REBUILD: &str = "__rebuild";
const VERIFY: &str = "__verify";
const OLD: &str = "__old";
const CHECK: &str = "__check";
const TURNING: &str = "__turning";

/// Where the rows of a projection are. Its methods block: they are for threads that may wait.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) target: Arc<Target>,
    runtime: Handle,
}

/// What a reader sees of the live rows at one moment.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) tables: Vec<TableDigest>,
    pub(super) lanes: Lanes,
    pub(super) declared: String,
    pub(super) source: String,
    pub(super) fate: Fate,
}

impl Place {
    /// To be called where tokio runs.
    pub(super) fn new(target: Arc<Target>) -> Self {
        let runtime = Handle::current();
        Self { target, runtime }
    }

    /// The live rows, made if they are not there, and taken over from whoever had them.
    pub(super) fn open_live(&self, owner: Owner) -> Result<Database, Failure> {
        self.open(self.target.schema(), owner)
    }

    /// Empty tables beside the live ones; a rebuild that was cut off is thrown away.
    pub(super) fn open_rebuild(&self, owner: Owner) -> Result<Database, Failure> {
        self.open_anew(REBUILD, owner)
    }

    /// Empty tables to fold into for a comparison.
    pub(super) fn open_verify(&self, owner: Owner) -> Result<Database, Failure> {
        self.open_anew(VERIFY, owner)
    }

    pub(super) fn remove_verify(&self, name: &EntityName) -> Result<(), Failure> {
        self.remove(VERIFY, name)
    }

    /// The rows that were live before the last switch.
    pub(super) fn kept(&self) -> Result<Option<KeptRows>, Failure> {
        self.wait(switch::kept(&self.target, &self.beside(OLD)))
    }

    /// The kept rows and the live ones change places.
    pub(super) fn exchange(&self, name: &EntityName) -> Result<(), Failure> {
        let (live, old) = (self.target.schema(), self.beside(OLD));
        self.wait(switch::exchange(&self.target, live, &old, name))
    }

    /// Whether a rebuild was begun that has not taken the place of the live rows.
    pub(super) fn is_rebuilding(&self) -> Result<bool, Failure> {
        let schema = self.beside(REBUILD);
        self.wait(async {
            let session = Session::open(&self.target, &schema).await?;
            session.has_rows().await
        })
    }

    pub(super) fn remove_rebuild(&self, name: &EntityName) -> Result<(), Failure> {
        self.remove(REBUILD, name)
    }

    /// Drops all that there is of the projection, unless another server keeps it; the live rows and
    /// those that they could go back to only if they were `ours`.
    pub(super) fn remove_all(&self, name: &EntityName, ours: bool) -> Result<(), Failure> {
        let if_ours = [OLD, ""].into_iter().filter(|_| ours);
        for ending in [REBUILD, VERIFY].into_iter().chain(if_ours) {
            self.remove(ending, name)?;
        }
        Ok(())
    }

    pub(super) fn look(&self) -> Result<Seen, Failure> {
        self.wait(digest::look(&self.target))
    }

    /// Of the live rows: the first so many keys that are held up.
    pub(super) fn parked(&self, limit: usize) -> Result<(Held, Vec<ParkedKey>), Failure> {
        self.wait(async {
            let session = digest::session(&self.target).await?;
            parked::shown(&session.client, limit).await
        })
    }

    /// The first so many events of one of them.
    pub(super) fn parked_of(
        &self,
        key: &str,
        limit: usize,
    ) -> Result<(Held, Vec<ParkedEvent>), Failure> {
        self.wait(async {
            let session = digest::session(&self.target).await?;
            parked::of_key(&session.client, key, limit).await
        })
    }

    /// Compiles every statement against tables that are made and rolled back.
    pub(super) fn check(&self, owner: &Owner) -> Result<(), Failure> {
        let schema = self.beside(CHECK);
        self.wait(database::check(&self.target, &schema, owner))
    }

    fn open(&self, schema: &str, owner: Owner) -> Result<Database, Failure> {
        let opening = Database::open(&self.target, schema, owner, self.runtime.clone());
        self.wait(opening)
    }

    fn open_anew(&self, ending: &str, owner: Owner) -> Result<Database, Failure> {
        self.remove(ending, &owner.name)?;
        self.open(&self.beside(ending), owner)
    }

    fn remove(&self, ending: &str, name: &EntityName) -> Result<(), Failure> {
        let schema = self.beside(ending);
        self.wait(switch::remove(&self.target, &schema, name))
    }

    fn beside(&self, ending: &str) -> String {
        format!("{}{ending}", self.target.schema())
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Two projections have the same place if their rows would lie in the same tables.
impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.target.is_place_of(&other.target)
    }
}
