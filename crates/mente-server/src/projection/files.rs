//! The files of a projection and how a rebuilt one takes the place of the live one.
//!
//! ```text
//!   orders.db            live; -wal and -shm beside it while it is open
//!   orders.db.rebuild    under construction: whoever finds it after a crash builds it anew
//!   orders.db.verify     folded to be compared, then deleted
//! ```
//! A WAL belongs to the file it lies beside, and SQLite would play an old one into a new file.
//! So the live file first leaves WAL mode, which deletes the WAL and needs everybody else to be
//! gone; then one rename. Before it the old file is whole, after it the new one is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mente_broker::{Error, Kind, Result};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::OwnedRwLockReadGuard;

use super::database::{Database, Mode, Owner};
use super::declaration::{REBUILD, VERIFY};
use super::sandbox::Rules;
use super::status::Failure;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) live: PathBuf,
    pub(super) rebuild: PathBuf,
    pub(super) verify: PathBuf,
}

impl Files {
    pub(super) fn new(directory: &Path, database: &str) -> Self {
        let file = |ending: &str| directory.join(format!("{database}{ending}"));
        Self {
            live: file(""),
            rebuild: file(REBUILD),
            verify: file(VERIFY),
        }
    }

    /// Puts the finished file under construction into the place of the live one.
    pub(super) fn swap(&self, owner: Owner) -> Result<(), Failure> {
        File::open(&self.rebuild)
            .and_then(|file| file.sync_all())
            .map_err(|error| failure("syncing the rebuilt database", &error))?;
        if self.live.exists() {
            self.retire_live(owner)?;
        }
        fs::rename(&self.rebuild, &self.live)
            .and_then(|()| sync_directory(&self.live))
            .map_err(|error| failure("renaming the rebuilt database", &error))
    }

    fn retire_live(&self, owner: Owner) -> Result<(), Failure> {
        let finished = match Database::open(&self.live, Mode::Live, owner, Rules::default()) {
            Ok(live) => live.finish().map_err(|(_, failure)| failure),
            Err(failure) => Err(failure),
        };
        match finished {
            Err(failure) if failure.retry => Err(failure),
            // It could not be read, so nothing in its WAL is worth keeping.
            Err(_) => remove_beside(&self.live)
                .map_err(|error| failure("removing the old database's WAL", &error)),
            Ok(()) => Ok(()),
        }
    }

    /// The live file without its WAL, in another directory; its name, if there is one. `_stays`
    /// keeps it from being replaced meanwhile.
    pub(super) fn copy_live(
        &self,
        into: &Path,
        _stays: OwnedRwLockReadGuard<()>,
    ) -> Result<Option<String>> {
        let name = self.live.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|_| self.live.exists()) else {
            return Ok(None);
        };
        let copy = into.join(name).display().to_string();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(&self.live, flags)
            .and_then(|live| live.execute("VACUUM INTO ?1", [copy]))
            .map_err(|error| Error::new(Kind::Internal, format!("copying {name}: {error}")))?;
        Ok(Some(name.to_owned()))
    }

    /// Whether appends waited for the live rows.
    pub(super) fn are_inline(&self) -> bool {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let live = Connection::open_with_flags(&self.live, flags);
        // What cannot be read may have been promised.
        live.and_then(|live| Database::is_inline(&live))
            .unwrap_or_else(|_| self.live.exists())
    }

    pub(super) fn remove_all(&self) -> io::Result<()> {
        [&self.rebuild, &self.verify, &self.live]
            .into_iter()
            .try_for_each(|path| remove(path))
    }
}

/// Removes a database and what lies beside it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    remove_one(path)?;
    remove_beside(path)
}

pub(super) fn failure(doing: &str, error: &io::Error) -> Failure {
    Failure::passing(format!("{doing}: {error}"))
}

fn remove_beside(path: &Path) -> io::Result<()> {
    for ending in ["-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        remove_one(Path::new(&name))?;
    }
    Ok(())
}

fn remove_one(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A rename is durable once its directory is.
fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
