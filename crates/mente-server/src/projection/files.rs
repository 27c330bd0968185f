//! The files of a projection and how a rebuilt one takes the place of the live one.
//!
//! ```text
//!   orders.db            live; -wal and -shm beside it while it is open
//!   orders.db.rebuild    under construction: whoever finds it after a crash builds it anew
//!   orders.db.verify     folded to be compared, then deleted
//!   orders.db.kept       live before the last switch: kept to go back to, a single file
//!   orders.db.turning    the live one, while it and the kept one change places
//! ```
//! A WAL belongs to the file it lies beside, and SQLite would play an old one into a new file.
//! So the live file first leaves WAL mode, which deletes the WAL and needs everybody else to be
//! gone; then one rename. Before it the old file is whole, after it the new one is. At no moment is
//! there no live file: a second name of it is made before another file takes its first one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mente_broker::{Error, Kind, Result};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::OwnedRwLockReadGuard;

use super::database::{Database, Mode, Owner};
use super::declaration::{KEPT, REBUILD, TURNING, VERIFY};
use super::sandbox::Rules;
use super::status::Failure;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) live: PathBuf,
    pub(super) rebuild: PathBuf,
    pub(super) verify: PathBuf,
    pub(super) kept: PathBuf,
    turning: PathBuf,
}

impl Files {
    pub(super) fn new(directory: &Path, database: &str) -> Self {
        let file = |ending: &str| directory.join(format!("{database}{ending}"));
        Self {
            live: file(""),
            rebuild: file(REBUILD),
            verify: file(VERIFY),
            kept: file(KEPT),
            turning: file(TURNING),
        }
    }

    /// Puts the finished file under construction into the place of the live one.
    pub(super) fn swap(&self, owner: Owner) -> Result<(), Failure> {
        File::open(&self.rebuild)
            .and_then(|file| file.sync_all())
            .map_err(|error| failure("syncing the rebuilt database", &error))?;
        if self.live.exists() && self.retire_live(owner)? {
            remove(&self.kept)
                .and_then(|()| fs::hard_link(&self.live, &self.kept))
                .map_err(|error| failure("keeping the rows that were live", &error))?;
        }
        fs::rename(&self.rebuild, &self.live)
            .and_then(|()| sync_directory(&self.live))
            .map_err(|error| failure("renaming the rebuilt database", &error))
    }

    /// The kept rows and the live ones change places. Cut off anywhere, [`Self::settle`] makes it whole.
    pub(super) fn exchange(&self, owner: Owner) -> Result<(), Failure> {
        let is_inline = owner.declaration.inline;
        if !self.retire_live(owner)? {
            remove(&self.live).map_err(|error| failure("removing what is no database", &error))?;
        }
        if is_inline {
            // They have missed what came since, and promise nothing before they have caught up.
            Database::forget_inline(&self.kept)
                .map_err(|error| Failure::own("going back to the kept rows", &error))?;
        }
        let turn = || {
            remove(&self.turning)?;
            if self.live.exists() {
                fs::hard_link(&self.live, &self.turning)?;
            }
            fs::rename(&self.kept, &self.live)?;
            sync_directory(&self.live)?;
            self.settle()
        };
        turn().map_err(|error| failure("going back to the kept rows", &error))
    }

    /// After a switch or an exchange that was cut off: what has the live file's content is no other version.
    pub(super) fn settle(&self) -> io::Result<()> {
        if self.turning.exists() {
            if is_one(&self.turning, &self.live)? {
                remove_one(&self.turning)?;
            } else {
                fs::rename(&self.turning, &self.kept)?;
            }
        }
        if self.kept.exists() && self.live.exists() && is_one(&self.kept, &self.live)? {
            remove_one(&self.kept)?;
        }
        Ok(())
    }

    /// Ready to give its name away: one single file. Whether it is worth keeping.
    fn retire_live(&self, owner: Owner) -> Result<bool, Failure> {
        let finished = match Database::open(&self.live, Mode::Live, owner, Rules::default()) {
            Ok(live) => live.finish().map_err(|(_, failure)| failure),
            Err(failure) => Err(failure),
        };
        match finished {
            Err(failure) if failure.retry => Err(failure),
            // It could not be read, so nothing in its WAL is worth keeping.
            Err(_) => remove_beside(&self.live)
                .map(|()| false)
                .map_err(|error| failure("removing the old database's WAL", &error)),
            Ok(()) => Ok(true),
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
        [
            &self.rebuild,
            &self.verify,
            &self.kept,
            &self.turning,
            &self.live,
        ]
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

/// Whether both are names of one file.
fn is_one(one: &Path, other: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    if !one.exists() || !other.exists() {
        return Ok(false);
    }
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// A rename is durable once its directory is.
fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the files are called after a power cut, and what is in them when that is settled.
    fn check(cut_off: &[(&str, &str)], expect: &[(&str, &str)]) {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path(), "o.db");
        let path = |name: &str| directory.path().join(name);
        for (index, (name, content)) in cut_off.iter().enumerate() {
            // The same content means the same file by another name.
            match cut_off[..index].iter().find(|(_, other)| other == content) {
                Some((other, _)) => fs::hard_link(path(other), path(name)).unwrap(),
                None => fs::write(path(name), content).unwrap(),
            }
        }
        files.settle().unwrap();
        let read = fs::read_dir(directory.path()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        });
        let mut found: Vec<_> = read.collect();
        found.sort();
        let expect = expect.iter();
        let expect: Vec<_> = expect
            .map(|(n, c)| ((*n).to_owned(), (*c).to_owned()))
            .collect();
        assert_eq!(found, expect, "{cut_off:?}");
    }

    #[test]
    fn a_switch_that_was_cut_off_is_made_whole() {
        let before = [("o.db", "one"), ("o.db.kept", "two")];
        let after = [("o.db", "two"), ("o.db.kept", "one")];
        check(&before, &before);
        check(
            &[
                ("o.db", "one"),
                ("o.db.kept", "two"),
                ("o.db.turning", "one"),
            ],
            &before,
        );
        check(&[("o.db", "two"), ("o.db.turning", "one")], &after);
        check(&[("o.db", "one"), ("o.db.kept", "one")], &[("o.db", "one")]);
        check(&[], &[]);
    }
}
