//! Opening after whatever happened.
//!
//! 1. Scan every file for commit headers ([`scan`]).
//! 2. Tell a torn tail from damage: a commit at or after the highest `durable upto` was perhaps
//!    never answered, so a bad one there is cut ([`tail`]); what is missing below was synced once,
//!    so it is damage and stays. Where the log was closed says more (see `closing`), and so does a
//!    file that is shorter than it was made.
//! 3. Make durable again what is kept, before anybody sees it: after a kill, or a failed sync,
//!    the page cache shows more than the disk has.
//! 4. Fold the catalogue, then follow every log through the headers ([`replay`]). Offsets are
//!    dense here, so a log proves that it lost nothing by going on at its end; one that cannot
//!    is read-only from there. What moved into packs comes from their directories ([`packs`]);
//!    where a source of a pack is still there, the pack counts.
//!
//! A second crash anywhere in this repeats it. Nothing is deleted but the rests of files that
//! were never finished, and packs that no record names.

mod packs;
mod replay;
mod scan;
mod tail;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mente_engine::{LogId, Offset};

use crate::catalogue::Catalogue;
use crate::closing;
use crate::commit::{BLOCK, Header};
use crate::disk::{Disk, DiskFile};
use crate::embedded::batch_bytes_max;
use crate::file_header::{FileHeader, Unreadable, VERSION};
use crate::files::{self, FileName, Spares, WalFile};
use crate::handles::Handles;
use crate::index::Index;
use crate::planted::{Planted, planted};
use crate::run::Position;
use crate::space::Space;
use crate::{OpenError, Options};

use self::replay::Replayed;

/// What an opening found, for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Commits that were read.
    pub commits: u64,
    /// Bytes of a torn tail that were cut, and the file that keeps them.
    pub cut: Option<(u64, String)>,
    /// Logs that are read-only from an offset on.
    pub damaged: Vec<Damage>,
    /// Packs that are missing or cannot be read.
    pub lost: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// `None` is the catalogue: sets can be neither made, changed nor deleted.
    pub log: Option<LogId>,
    pub at: Offset,
}

/// The writer's side of an opened log.
#[derive(Debug)]
pub(crate) struct OpenLog {
    pub(crate) catalogue: Catalogue,
    pub(crate) spares: Arc<Spares>,
    pub(crate) current: WalFile,
    pub(crate) at: u32,
    pub(crate) sequence: u64,
    pub(crate) durable_upto: Position,
    pub(crate) recovered: Recovered,
}

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) index: Index,
    pub(crate) log: OpenLog,
}

/// One file as found. Without a readable header its commits are lost.
#[derive(Clone, Debug)]
struct Found {
    number: u32,
    header: Option<FileHeader>,
    /// It has lost some of the size that it was made with.
    is_short: bool,
    handles: Arc<Handles>,
}

impl Found {
    fn name(&self) -> String {
        FileName::Wal(self.number).to_string()
    }

    fn file(&self) -> Result<Arc<dyn DiskFile>, OpenError> {
        let file = self.handles.get(FileName::Wal(self.number));
        file.map_err(OpenError::io(format!("open {}", self.name())))
    }
}

pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    handles: &Arc<Handles>,
    options: &Options,
) -> Result<Opened, OpenError> {
    let names = list(&**disk)?;
    let found = find_files(&names, handles)?;
    let mut commits = scan::commits(&found)?;
    let closed = closing::read(&**disk, &names)?;
    let (cut, tail) = tail::settle(&**disk, &found, &mut commits, closed.as_ref())?;
    let mut sequence = commits.last().map_or(0, |commit| commit.sequence);
    // The closing came later than everything that is there, and than the commit before it.
    let beyond = closed.filter(|closed| closed.sequence > sequence + 1);

    let mut index = Index::new(options.recent_bytes, batch_bytes_max(options));
    for file in &found {
        if let Some(header) = file.header.filter(|_| file.number <= tail.file) {
            let bytes = u64::from(header.file_bytes);
            index.add_file(FileName::Wal(file.number), bytes);
        }
    }
    let mut last_files = found.iter().filter(|file| file.number >= tail.file);
    let lost_tail =
        beyond.is_some() || last_files.any(|file| file.header.is_none() || file.is_short);
    let reader = Reader(&found);
    let replayed = replay::replay(&reader, handles, &commits, lost_tail, &mut index)?;
    let Replayed {
        catalogue,
        damaged,
        lost,
    } = replayed;
    if damaged.is_empty() {
        packs::remove_unnamed(&**disk, &names, &catalogue)?;
    }

    // What a lost file behind the tail held is unknown: its place in the sequence stays empty,
    // so that the next opening sees the loss as well.
    sequence += u64::from(lost_tail);
    sequence = beyond.as_ref().map_or(sequence, |closed| closed.sequence);
    let numbers = names
        .iter()
        .filter_map(|name| FileName::parse(name))
        .map(FileName::number);
    let next_number = numbers.max().unwrap_or(0) + 1;
    let next_number = next_number.max(catalogue.next_file);
    let beyond_file = beyond.map_or(0, |closed| closed.position.file.saturating_add(1));
    let next_number = next_number.max(beyond_file);
    let (current, ready) = usable_files(&found, tail, lost_tail)?;
    let space = Space::new(options.reserve_bytes, options.file_bytes);
    let spares = Spares::new(disk.clone(), Arc::new(space), options, next_number, ready);
    let (current, at) = match current {
        Some(current) => (current, tail.at),
        None => {
            let fresh = spares.take().map_err(OpenError::io("make a WAL file"))?;
            let name = FileName::Wal(fresh.header.number);
            index.add_file(name, u64::from(fresh.header.file_bytes));
            (fresh, BLOCK as u32)
        }
    };
    let log = OpenLog {
        durable_upto: Position {
            file: current.header.number,
            at,
        },
        catalogue,
        spares: Arc::new(spares),
        current,
        at,
        sequence,
        recovered: Recovered {
            commits: commits.len() as u64,
            cut,
            damaged,
            lost,
        },
    };
    Ok(Opened { index, log })
}

fn is_unfinished(name: &str) -> bool {
    files::is_unfinished(name) || name == closing::UNFINISHED
}

/// Every name; leftovers of unfinished files are removed.
fn list(disk: &dyn Disk) -> Result<Vec<String>, OpenError> {
    let names = disk.list().map_err(OpenError::io("list the directory"))?;
    for name in names.iter().filter(|name| is_unfinished(name)) {
        disk.remove(name)
            .map_err(OpenError::io(format!("remove {name}")))?;
    }
    // Names that a killed process made may not be on the disk yet.
    disk.sync_dir()
        .map_err(OpenError::io("sync the directory"))?;
    Ok(names)
}

/// The WAL files in order.
fn find_files(names: &[String], handles: &Arc<Handles>) -> Result<Vec<Found>, OpenError> {
    let mut numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| match FileName::parse(name)? {
            FileName::Wal(number) => Some(number),
            FileName::Pack(_) => None,
        })
        .collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|number| find_file(handles, number))
        .collect()
}

fn find_file(handles: &Arc<Handles>, number: u32) -> Result<Found, OpenError> {
    let name = FileName::Wal(number);
    let read = || -> io::Result<_> {
        let mut block = [0; BLOCK];
        let file = handles.get(name)?;
        files::read_padded(&*file, &mut block, 0)?;
        Ok((block, file.len()?))
    };
    let (block, bytes) = read().map_err(OpenError::io(format!("read {name}")))?;
    let header = match FileHeader::decode(&block) {
        Ok(header) if header.number == number => Some(header),
        Ok(_) | Err(Unreadable::Damaged) => None,
        Err(Unreadable::Newer(found)) => {
            return Err(OpenError::Newer {
                file: name.to_string(),
                found,
                known: VERSION,
            });
        }
    };
    let is_short = header.is_some_and(|header| bytes < u64::from(header.file_bytes));
    Ok(Found {
        number,
        header,
        is_short: is_short && !planted(Planted::ForgetClosing),
        handles: handles.clone(),
    })
}

/// The file to go on in and those made ahead. After a loss behind the tail all is new.
fn usable_files(
    found: &[Found],
    tail: Position,
    lost_tail: bool,
) -> Result<(Option<WalFile>, VecDeque<WalFile>), OpenError> {
    let mut usable = VecDeque::new();
    for found in found.iter().filter(|f| f.number >= tail.file && !lost_tail) {
        if let Some(header) = found.header {
            let file = found.file()?;
            usable.push_back(WalFile { header, file });
        }
    }
    Ok((usable.pop_front(), usable))
}

/// Fetches bytes of commits during recovery.
#[derive(Debug)]
struct Reader<'a>(&'a [Found]);

impl Reader<'_> {
    fn file(&self, number: u32) -> Option<&Found> {
        self.0.iter().find(|found| found.number == number)
    }

    /// `count` bytes at `position`.
    fn read(&self, position: Position, count: usize) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; count];
        if let Some(found) = self.file(position.file) {
            let read = files::read_padded(&*found.file()?, &mut bytes, u64::from(position.at));
            read.map_err(OpenError::io(format!("read {position}")))?;
        }
        Ok(bytes)
    }

    /// The whole commit, padding included.
    fn read_commit(&self, commit: &Header) -> Result<Vec<u8>, OpenError> {
        let count = commit.end().at - commit.position.at;
        self.read(commit.position, count as usize)
    }
}
