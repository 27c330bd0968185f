//! Where ids of messages lie that are remembered for duplicates: a file for each block of them, in the data directory and
//! without a name there. So it is gone with this process, however that ends; the next one reads the ids from the log again.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mente_broker::{Shelf, Shelved};
use mente_engine::{Engine, Room, Takes, limits};
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

/// Of the files that the process may open no more than this part.
const FILES_SHARE: u64 = 8;

/// Files without a name.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// It says what there is room for.
    engine: Arc<dyn Engine>,
    files_max: u64,
    bytes_max: u64,
    taken: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    files: AtomicU64,
    bytes: AtomicU64,
}

/// What one of them takes, for as long as it is there.
#[derive(Debug)]
struct Place {
    taken: Arc<Taken>,
    bytes: u64,
}

#[derive(Debug)]
struct Nameless {
    file: File,
    _place: Place,
}

impl Files {
    /// In a directory that is there.
    pub(super) fn new(directory: PathBuf, engine: Arc<dyn Engine>) -> Self {
        let allowed = getrlimit(Resource::Nofile).current;
        let share = allowed.map_or(u64::MAX, |files| files / FILES_SHARE);
        Self {
            directory,
            engine,
            files_max: limits::SHELF_FILES.min(share),
            bytes_max: limits::SHELF_BYTES,
            taken: Arc::default(),
        }
    }

    /// `None` where there is no room.
    fn place(&self, bytes: u64) -> io::Result<Option<Place>> {
        let disk = statvfs(&self.directory)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let place = Place::take(&self.taken, bytes);
        let bytes = self.taken.bytes.load(Ordering::Relaxed);
        let is_within = self.taken.files.load(Ordering::Relaxed) <= self.files_max
            && bytes <= self.bytes_max
            && leaves_room(&self.engine.room(), free, bytes);
        Ok(is_within.then_some(place))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<Option<Nameless>> {
        let Some(place) = self.place(bytes.len() as u64)? else {
            return Ok(None);
        };
        let mut file = tempfile::tempfile_in(&self.directory)?;
        file.write_all(bytes)?;
        let _place = place;
        Ok(Some(Nameless { file, _place }))
    }
}

/// Ids never take the room that is kept for consumers, nor more than they leave to others.
fn leaves_room(room: &Room, free: u64, taken: u64) -> bool {
    room.takes == Takes::Everything && free.saturating_sub(room.reserve_bytes) >= taken
}

impl Shelf for Files {
    fn put(&self, bytes: &[u8]) -> Option<Box<dyn Shelved>> {
        match self.write(bytes) {
            Ok(file) => file.map(|file| Box::new(file) as Box<dyn Shelved>),
            Err(error) => {
                let directory = self.directory.display();
                tracing::warn!(%error, %directory, "ids of messages stay in memory, where there is room for fewer");
                None
            }
        }
    }
}

impl Shelved for Nameless {
    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at as u64)
    }
}

impl Place {
    fn take(taken: &Arc<Taken>, bytes: u64) -> Self {
        taken.files.fetch_add(1, Ordering::Relaxed);
        taken.bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = Arc::clone(taken);
        Self { taken, bytes }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.files.fetch_sub(1, Ordering::Relaxed);
        self.taken.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use mente_engine::memory::MemoryEngine;

    use super::*;

    fn shelf(directory: &tempfile::TempDir) -> Files {
        let engine = Arc::new(MemoryEngine::new(1));
        Files::new(directory.path().to_owned(), engine)
    }

    fn taken(shelf: &Files) -> (u64, u64) {
        let Taken { files, bytes } = &*shelf.taken;
        (files.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    #[test]
    fn what_is_put_is_read_wherever_it_lies_and_goes_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = shelf(&directory);
        let bytes = |n: u8| vec![n; 1_000 * usize::from(n)];
        let mut put: Vec<_> = (1..20)
            .map(|n| shelf.put(&bytes(n)).expect("there is room"))
            .collect();
        let lies = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(lies, 0, "a file has a name");
        assert_eq!(taken(&shelf), (19, 190_000));
        for (n, held) in (1..).zip(&put) {
            let end = bytes(n).len();
            for (at, len) in [(0, 20), (end / 2, 40), (end - 20, 20)] {
                let mut read = vec![0; len];
                held.read(at, &mut read).unwrap();
                assert_eq!(read, vec![n; len], "{n} at {at}");
            }
            let mut read = [0; 20];
            held.read(end - 19, &mut read).expect_err("behind its end");
        }
        put.drain(..10);
        assert_eq!(taken(&shelf), (9, 135_000));
        drop(put);
        assert_eq!(taken(&shelf), (0, 0));
    }

    #[test]
    fn no_more_is_taken_than_may_be() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = shelf(&directory);
        (shelf.files_max, shelf.bytes_max) = (3, 1_000);
        let put = [400, 400, 201, 200, 0].map(|bytes| shelf.put(&vec![1; bytes]));
        assert_eq!(
            put.each_ref().map(Option::is_some),
            [true, true, false, true, false]
        );
        assert_eq!(taken(&shelf), (3, 1_000));
        drop(put);
        assert!(shelf.put(&[1; 1_000]).is_some());
        // Where no file can be made, nothing is taken.
        directory.close().unwrap();
        assert!(shelf.put(&[1]).is_none());
        assert_eq!(taken(&shelf), (0, 0));
    }

    #[test]
    fn a_full_disk_is_left_to_others() {
        let room = |takes| Room {
            takes,
            reserve_bytes: 100,
            ..Room::default()
        };
        for (takes, free, taken, leaves) in [
            (Takes::Everything, 200, 100, true),
            (Takes::Everything, 199, 100, false),
            (Takes::Everything, 50, 1, false),
            (Takes::Decisions, 900, 1, false),
            (Takes::Nothing, 900, 1, false),
        ] {
            let found = leaves_room(&room(takes), free, taken);
            assert_eq!(found, leaves, "{takes:?}, {free} are free");
        }
    }
}
