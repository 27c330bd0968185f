//! Finds every commit header that is whole.

use std::sync::Arc;

use crate::OpenError;
use crate::commit::{BLOCK, Decoded, Header};
use crate::disk::DiskFile;
use crate::file_header::VERSION;
use crate::files;
use crate::run::Position;

use super::Found;

/// Files are read in windows of this size.
const WINDOW_BYTES: usize = 256 << 10;

/// All commits in the order they were written; sequences rise, with gaps where some are lost.
pub(super) fn commits(found: &[Found]) -> Result<Vec<Header>, OpenError> {
    let mut commits: Vec<Header> = Vec::new();
    for found in found {
        let Some(header) = found.header else { continue };
        let mut scan = Scan {
            found,
            file: found.file()?,
            salt: header.salt,
            end: u64::from(header.file_bytes),
            window: Vec::new(),
            window_at: 0,
        };
        let mut at = BLOCK as u64;
        while at + BLOCK as u64 <= scan.end {
            let last = commits.last().map_or(0, |commit| commit.sequence);
            match scan.commit(at)? {
                Some(commit) if commit.sequence > last => {
                    at = u64::from(commit.end().at);
                    commits.push(commit);
                }
                // Zeros, a rest, or damage: the next commit may begin at any boundary.
                _ => at += BLOCK as u64,
            }
        }
    }
    Ok(commits)
}

#[derive(Debug)]
struct Scan<'a> {
    found: &'a Found,
    file: Arc<dyn DiskFile>,
    salt: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Scan<'_> {
    fn commit(&mut self, at: u64) -> Result<Option<Header>, OpenError> {
        let position = Position {
            file: self.found.number,
            at: at as u32,
        };
        let salt = self.salt;
        let mut decoded = Header::decode(self.block(at)?, position, salt);
        if let Decoded::Longer(bytes) = decoded
            && bytes as u64 <= self.end - at
        {
            let mut header = vec![0; bytes];
            self.read(&mut header, at)?;
            decoded = Header::decode(&header, position, salt);
        }
        match decoded {
            Decoded::Commit(commit) if u64::from(commit.end().at) <= self.end => Ok(Some(commit)),
            Decoded::Newer(found) => Err(OpenError::Newer {
                file: self.found.name(),
                found,
                known: VERSION,
            }),
            _ => Ok(None),
        }
    }

    fn block(&mut self, at: u64) -> Result<&[u8], OpenError> {
        let inside = |window_at: u64, len: usize| {
            at >= window_at && at + BLOCK as u64 <= window_at + len as u64
        };
        if !inside(self.window_at, self.window.len()) {
            let mut window = std::mem::take(&mut self.window);
            window.resize(WINDOW_BYTES.min((self.end - at) as usize), 0);
            self.read(&mut window, at)?;
            self.window = window;
            self.window_at = at;
        }
        let from = (at - self.window_at) as usize;
        Ok(&self.window[from..from + BLOCK])
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), OpenError> {
        files::read_padded(&*self.file, bytes, at)
            .map_err(|error| OpenError::io(format!("read {}", self.found.name()))(error))
    }
}
