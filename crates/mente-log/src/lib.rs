//! The embedded durable log: every log of the house in one WAL, one sync for all of them.
//!
//! ```text
//!   Embedded (many clones) --submit--> queue --turn--> Writer (one) --write, sync--> WAL files
//!        ^                                                |                              |
//!        +------------ index, recent commits <--publish---+        Packer --live batches-+--> packs
//! ```
//!
//! A turn of the [`Writer`] takes what was submitted since the last one and makes it one
//! commit: one write, one sync, then the index moves and the futures answer. What arrives
//! during a sync is the next commit, so that group commit needs no timer. The WAL files are the
//! storage: the index in memory points into them. A file goes when nothing in it is live; what is
//! live in old files the [`Packer`] moves, sorted by log, into packs.
//!
//! This crate refuses to know protocols, entities, executors, threads, clocks and randomness:
//! it is a value that is driven, on a disk that is handed in.
//!
//! Start reading at [`open`], then `commit` for the bytes, `writer` for a turn, `recovery` for
//! what a crash leaves, `retire` for how files go.

pub mod disk;
pub mod mem_disk;

mod catalogue;
mod closing;
mod commit;
mod fetched;
mod fields;
mod file_header;
mod files;
mod handles;
mod pack_file;
mod run;
mod space;
mod walk;

mod index;
mod maxima;
mod newest;
mod queue;
mod read;
mod recent;
mod runs;

mod backup;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod planted;

mod embedded;
mod inspect;
mod recovery;
mod retire;
mod writer;

pub use backup::{Backup, BackupFile};
pub use disk::{Disk, DiskFile, RealDisk};
pub use embedded::{Embedded, open};
pub use files::Preparer;
pub use inspect::{Inspection, inspect};
pub use mem_disk::{Crash, MemDisk};
#[cfg(feature = "planted")]
pub use planted::{Planted, plant};
pub use recovery::{Damage, Recovered};
pub use retire::Packer;
pub use writer::{Stopped, Writer};

use std::io;
use std::time::Duration;

use mente_engine::limits;

/// How a log is laid out and how much memory it may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of one WAL file, a multiple of 4 KiB. May differ from one opening to the next.
    pub file_bytes: u32,
    /// A commit takes no further submission once it is this large.
    pub commit_bytes: usize,
    /// Appends that wait for a turn; beyond it they answer `Busy`.
    pub queue_bytes: usize,
    /// Recent commits kept in memory for readers at the tail. An eighth of it more is kept of what was read from files.
    pub recent_bytes: usize,
    /// Beyond so many WAL files the oldest are packed however live they are.
    pub wal_files: usize,
    /// What data may not take of the disk, so that consumers and deletions go on when it is full;
    /// one file at least.
    pub reserve_bytes: u64,
    /// How long a file that is made ahead leaves the disk to commits after each piece of zeros, while there is time.
    pub piece_rest: Duration,
    /// Files open at one time for readers.
    pub open_files: usize,
    /// Salts of new files come from this; random in production, so that bytes of another
    /// file or of a client never pass for a commit.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file_bytes: 32 << 20,
            commit_bytes: 4 << 20,
            queue_bytes: 64 << 20,
            recent_bytes: 32 << 20,
            wal_files: limits::LOG_WAL_FILES,
            reserve_bytes: 0,
            piece_rest: Duration::ZERO,
            open_files: limits::LOG_OPEN_FILES,
            seed: 0,
        }
    }
}

/// Why a log could not be opened. Nothing was changed beyond what a later opening repeats.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    /// Another process holds the directory.
    #[error("the directory {0} is in use by another process")]
    Locked(String),
    /// Written by a newer Mente.
    #[error("{file} has format version {found}, newer than {known}: open it with a newer Mente")]
    Newer {
        file: String,
        found: u16,
        known: u16,
    },
    #[error("bad option: {0}")]
    Options(&'static str),
}

impl OpenError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
