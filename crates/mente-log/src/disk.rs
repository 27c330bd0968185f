//! The seam to the disk: a flat directory of files. Only this much, so that a simulated disk
//! that loses power fits behind it.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::OpenError;

/// One flat directory. Names made, renamed or removed are durable after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes an empty file; one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Every file name, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that files may still grow by, all together.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file. Stays readable after its name was removed.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills `bytes`, or fails with `UnexpectedEof`.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes`; durable after [`DiskFile::sync_data`], in no order before.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// After an error nobody knows what is on the disk, and a second call may lie.
    fn sync_data(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

const LOCK_NAME: &str = "lock";

/// A directory of the file system, locked against other processes while this value lives.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    /// Only held: its lock goes with it.
    _lock: File,
}

impl RealDisk {
    /// Makes the directory if it is missing, and locks it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let shown = path.display().to_string();
        let made = !path.exists();
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private
            .create(&path)
            .map_err(OpenError::io(format!("make {shown}")))?;
        if made && let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_directory(parent).map_err(OpenError::io(format!("sync above {shown}")))?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_NAME))
            .map_err(OpenError::io(format!("open the lock of {shown}")))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(shown)),
            Err(TryLockError::Error(error)) => Err(OpenError::io(format!("lock {shown}"))(error)),
        }
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        Ok(Arc::new(
            options.read(true).write(true).open(self.path.join(name))?,
        ))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not text is not one of ours.
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK_NAME
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = RealDisk::open(&path).unwrap();
        let second = RealDisk::open(&path).unwrap_err();
        assert!(matches!(second, OpenError::Locked(_)), "{second}");
        drop(first);
        RealDisk::open(&path).unwrap();
    }
}
