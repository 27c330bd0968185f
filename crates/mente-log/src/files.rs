//! The WAL's files: made of zeros before use, so that an append pays for no metadata.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::Options;
use crate::commit::BLOCK;
use crate::disk::{Disk, DiskFile};
use crate::file_header::FileHeader;
use crate::planted::{Planted, planted};
use crate::space::Space;

/// Zeros go out in pieces, each synced: a commit that is synced meanwhile waits for one piece, not for all that the
/// system would keep for later (ADR 3 has the figures). While there is time they are small.
const PIECE_BYTES: usize = 256 << 10;
const EARLY_PIECE_BYTES: usize = 64 << 10;

/// A file that is ready for commits.
#[derive(Clone, Debug)]
pub(crate) struct WalFile {
    pub(crate) header: FileHeader,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// What a file of ours is called. Both kinds share one count, so that a number is a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileName {
    Wal(u32),
    Pack(u32),
}

impl FileName {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Wal(number) | Self::Pack(number) => number,
        }
    }

    /// The name that [`FileName`]'s `Display` wrote.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let (number, kind) = file_name.split_once('.')?;
        let number = u32::from_str_radix(number, 16).ok()?;
        let name = match kind {
            "wal" => Self::Wal(number),
            "pack" => Self::Pack(number),
            _ => return None,
        };
        (name.to_string() == file_name).then_some(name)
    }

    /// What it is called until it is whole.
    pub(crate) fn unfinished(self) -> String {
        format!("{self}.new")
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(number) => write!(f, "{number:08x}.wal"),
            Self::Pack(number) => write!(f, "{number:08x}.pack"),
        }
    }
}

/// A file on its way; one that a crash left behind is removed.
pub(crate) fn is_unfinished(file_name: &str) -> bool {
    let finished = file_name.strip_suffix(".new");
    finished.and_then(FileName::parse).is_some()
}

/// Files made ahead of their use.
#[derive(Debug)]
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    space: Arc<Space>,
    file_bytes: u32,
    seed: u64,
    /// What a file that is made ahead leaves to commits after each piece.
    piece_rest: Duration,
    /// How far the file is used that commits go to.
    used_bytes: AtomicU32,
    /// Of the next file, WAL or pack. A number is never used again.
    next_number: AtomicU32,
    /// Held while a file is made, so that who needs one waits instead of making it twice.
    ready: Mutex<VecDeque<WalFile>>,
}

/// Makes the next file ahead of time. Drive it beside the writer, from a thread of its own, to
/// keep the zeros out of the way of appends; without it the writer makes its files itself.
#[derive(Debug)]
pub struct Preparer {
    spares: Arc<Spares>,
}

impl Preparer {
    pub(crate) fn new(spares: Arc<Spares>) -> Self {
        Self { spares }
    }

    /// Looks how much of the disk is left, and makes a file if none is ready; false if one was. An
    /// error (a full disk) may pass: the writer tries for itself once it must.
    pub fn turn(&mut self) -> io::Result<bool> {
        self.spares.look();
        let mut ready = self.spares.lock();
        if !ready.is_empty() {
            return Ok(false);
        }
        self.spares.make(&mut ready, true)?;
        Ok(true)
    }
}

impl Spares {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        space: Arc<Space>,
        options: &Options,
        next_number: u32,
        ready: VecDeque<WalFile>,
    ) -> Self {
        space.look(&*disk);
        space.set_ready(ready.len());
        Self {
            disk,
            space,
            file_bytes: options.file_bytes,
            seed: options.seed,
            piece_rest: options.piece_rest,
            used_bytes: AtomicU32::new(0),
            next_number: AtomicU32::new(next_number),
            ready: Mutex::new(ready),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<WalFile>> {
        self.ready.lock().expect("no panic while a file is made")
    }

    /// Whether a [`Preparer`] has something to do; false while it is at it.
    pub(crate) fn is_wanting(&self) -> bool {
        self.ready.try_lock().is_ok_and(|ready| ready.is_empty())
    }

    /// Whether the next file is there; false while it is made.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.try_lock().is_ok_and(|ready| !ready.is_empty())
    }

    /// Sees to it that [`Spares::take`] has a file to give.
    pub(crate) fn ensure(&self) -> io::Result<()> {
        let mut ready = self.lock();
        if ready.is_empty() {
            self.make(&mut ready, false)?;
        }
        Ok(())
    }

    pub(crate) fn take(&self) -> io::Result<WalFile> {
        let mut ready = self.lock();
        if ready.is_empty() {
            self.make(&mut ready, false)?;
        }
        let taken = ready.pop_front().expect("one was just made");
        self.space.set_ready(ready.len());
        Ok(taken)
    }

    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Sees how much of the disk is left now.
    pub(crate) fn look(&self) {
        self.space.look(&*self.disk);
    }

    /// A number for a new file.
    pub(crate) fn number(&self) -> u32 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// What the next number will be at least.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_number.load(Ordering::Relaxed)
    }

    /// The file that commits go to is used so far.
    pub(crate) fn set_used(&self, bytes: u32) {
        self.used_bytes.store(bytes, Ordering::Relaxed);
    }

    fn make(&self, ready: &mut VecDeque<WalFile>, is_ahead: bool) -> io::Result<()> {
        self.look();
        if !self.space.holds_file() {
            // To try would take what room others have left.
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.number();
        let header = FileHeader {
            number,
            file_bytes: self.file_bytes,
            salt: mix(self.seed, number),
        };
        let unfinished = FileName::Wal(number).unfinished();
        let file = self
            .fill(&unfinished, &header, is_ahead)
            .inspect_err(|error| {
                self.space.set_denied(is_full(error));
                // What stays is removed by the next opening.
                let _ = self.disk.remove(&unfinished);
            })?;
        ready.push_back(WalFile { header, file });
        self.space.set_denied(false);
        self.space.set_ready(ready.len());
        self.look();
        Ok(())
    }

    /// The name that counts appears only when every zero and the header are on the disk.
    fn fill(
        &self,
        unfinished: &str,
        header: &FileHeader,
        is_ahead: bool,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.create(unfinished)?;
        let zeros = vec![0; PIECE_BYTES.min(self.file_bytes as usize)];
        let mut at = 0;
        loop {
            let is_early = is_ahead && self.is_early(at);
            let most = if is_early {
                EARLY_PIECE_BYTES
            } else {
                PIECE_BYTES
            };
            let count = most.min(zeros.len()).min(self.file_bytes as usize - at);
            file.write_at(&zeros[..count], at as u64)?;
            at += count;
            if at == self.file_bytes as usize {
                break;
            }
            file.sync_data()?;
            if is_early && !self.piece_rest.is_zero() {
                std::thread::sleep(self.piece_rest);
            }
        }
        file.write_at(&header.encode(), 0)?;
        file.sync_data()?;
        self.disk
            .rename(unfinished, &FileName::Wal(header.number).to_string())?;
        if !planted(Planted::SkipDirectorySync) {
            self.disk.sync_dir()?;
        }
        Ok(file)
    }
}

impl Spares {
    /// There is time as long as a file is made twice as fast as the one before it is used.
    fn is_early(&self, made_bytes: usize) -> bool {
        made_bytes / 2 >= self.used_bytes.load(Ordering::Relaxed) as usize
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// A salt of its own for every file (splitmix64).
fn mix(seed: u64, number: u32) -> u64 {
    let mut z = seed.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Reads into `bytes` what the file has from `at` on; what lies beyond its end is zeros, as
/// in a file that lost its size.
pub(crate) fn read_padded(file: &dyn DiskFile, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let there = usize::try_from(file.len()?.saturating_sub(at)).unwrap_or(usize::MAX);
    let (read, rest) = bytes.split_at_mut(there.min(bytes.len()));
    rest.fill(0);
    if read.is_empty() {
        return Ok(());
    }
    file.read_at(read, at)
}

/// Checks what the rest of the crate relies on.
pub(crate) fn check_file_bytes(file_bytes: u32) -> Result<(), &'static str> {
    if !(file_bytes as usize).is_multiple_of(BLOCK) {
        return Err("file_bytes must be a multiple of 4096");
    }
    if !(64 << 10..=1 << 30).contains(&file_bytes) {
        return Err("file_bytes must lie between 64 KiB and 1 GiB");
    }
    Ok(())
}
