//! Copies everything that this server keeps, as of one moment: first the views, then the log,
//! so that no view is ahead of it.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use mente_broker::{Broker, Error, Kind, Principal, Result};
use mente_log::{Backup, BackupFile, Embedded};
use mente_server::http::{Archive, Backups};
use mente_server::projection::{Copied, Projections};
use tempfile::TempDir;

use crate::archive::{Packing, VIEWS};

#[derive(Debug)]
pub(super) struct Everything {
    pub(super) broker: Broker,
    pub(super) engine: Embedded,
    pub(super) projections: Arc<Projections>,
    /// Copies of views lie here until they are sent.
    pub(super) data_dir: PathBuf,
}

struct Copy {
    views: TempDir,
    copied: Copied,
    log: Backup,
}

impl Backups for Everything {
    fn begin<'a>(
        &'a self,
        who: &'a Principal,
    ) -> Pin<Box<dyn Future<Output = Result<Box<dyn Archive>>> + Send + 'a>> {
        Box::pin(async move {
            self.broker.check_backup(who)?;
            let failed = |error: io::Error| {
                let message = format!("cannot begin a backup: {error}");
                Error::new(Kind::Internal, message)
            };
            let views = tempfile::Builder::new()
                .prefix(LEFTOVER)
                .tempdir_in(&self.data_dir)
                .map_err(failed)?;
            let copied = self.projections.copy_all(who, views.path()).await?;
            let engine = self.engine.clone();
            let log = tokio::task::spawn_blocking(move || engine.backup());
            let log = log.await.map_err(io::Error::other).and_then(|log| log);
            let log = log.map_err(failed)?;
            Ok(Box::new(Copy { views, copied, log }) as Box<dyn Archive>)
        })
    }
}

/// How directories begin that hold copies of views; nobody else's do.
const LEFTOVER: &str = ".views-of-a-backup-";

/// Removes what a backup left that was interrupted with its server.
pub(super) fn remove_leftovers(data_dir: &std::path::Path) -> io::Result<()> {
    for entry in std::fs::read_dir(data_dir)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(LEFTOVER);
        if is_ours && entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Archive for Copy {
    fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut packing = Packing::new(out);
        for file in self.log.files() {
            let from = Reader {
                log: &self.log,
                file,
                at: 0,
            };
            packing.add(&file.name(), file.bytes(), from)?;
        }
        for name in &self.copied.files {
            let file = File::open(self.views.path().join(name))?;
            let bytes = file.metadata()?.len();
            packing.add(&format!("{VIEWS}/{name}"), bytes, file)?;
        }
        packing.finish(&self.copied.left_out)
    }
}

struct Reader<'a> {
    log: &'a Backup,
    file: &'a BackupFile,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.bytes() - self.at).unwrap_or(usize::MAX);
        let length = left.min(bytes.len());
        self.log.read_at(self.file, &mut bytes[..length], self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}
