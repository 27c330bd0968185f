//! Open files, so many and no more: a log that keeps years has more files than a process may
//! have descriptors.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile};
use crate::files::FileName;

#[derive(Debug)]
pub(crate) struct Handles {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    /// Until the log is closed: then the directory is free for another process, though readers
    /// may hold what is open here.
    disk: Option<Arc<dyn Disk>>,
    /// Each with the count of uses at its last one.
    files: BTreeMap<FileName, (u64, Arc<dyn DiskFile>)>,
    uses: u64,
}

impl Handles {
    pub(crate) fn new(disk: Arc<dyn Disk>, limit: usize) -> Self {
        let open = Open {
            disk: Some(disk),
            files: BTreeMap::new(),
            uses: 0,
        };
        Self {
            limit: limit.max(1),
            open: Mutex::new(open),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no panic while a file is opened")
    }

    /// The file, opened unless it is; `NotFound` if it was retired. Who holds it can read on
    /// though it is closed or removed here.
    pub(crate) fn get(&self, name: FileName) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = self.lock();
        if let Some(file) = open.used(name) {
            return Ok(file);
        }
        drop(open);
        let disk = self.disk()?;
        // Not under the lock: other readers go on meanwhile.
        let file = disk.open(&name.to_string())?;
        let mut open = self.lock();
        while open.files.len() >= self.limit && open.close_oldest() {}
        open.uses += 1;
        let now = open.uses;
        open.files.insert(name, (now, file.clone()));
        Ok(file)
    }

    pub(crate) fn disk(&self) -> io::Result<Arc<dyn Disk>> {
        let disk = self.lock().disk.clone();
        disk.ok_or_else(|| io::Error::other("the log is closed"))
    }

    /// Opens nothing any more.
    pub(crate) fn let_go(&self) {
        self.lock().disk = None;
    }

    /// Closes a file that is about to be removed, so that its space is free once its readers are done.
    pub(crate) fn close(&self, name: FileName) {
        self.lock().files.remove(&name);
    }
}

impl Open {
    fn used(&mut self, name: FileName) -> Option<Arc<dyn DiskFile>> {
        self.uses += 1;
        let now = self.uses;
        let (used, file) = self.files.get_mut(&name)?;
        *used = now;
        Some(file.clone())
    }

    fn close_oldest(&mut self) -> bool {
        let oldest = self.files.iter().min_by_key(|(_, (used, _))| *used);
        let oldest = oldest.map(|(name, _)| *name);
        oldest.is_some_and(|name| self.files.remove(&name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemDisk;

    #[test]
    fn the_files_used_last_stay_open() {
        let disk = MemDisk::default();
        for number in 1..=5 {
            disk.plant(&FileName::Wal(number).to_string(), vec![number as u8]);
        }
        let handles = Handles::new(Arc::new(disk.clone()), 3);
        for number in [1, 2, 3, 1, 4, 5] {
            handles.get(FileName::Wal(number)).unwrap();
            assert!(disk.open_files() <= 3);
        }
        let open: Vec<_> = handles.lock().files.keys().copied().collect();
        assert_eq!(open, [1, 4, 5].map(FileName::Wal));
        handles.close(FileName::Wal(1));
        disk.remove("00000001.wal").unwrap();
        let gone = handles.get(FileName::Wal(1)).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
