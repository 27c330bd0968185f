//! Writes the bytes of one pack, front to back.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use mente_engine::LogId;

use crate::commit::BLOCK;
use crate::disk::DiskFile;
use crate::pack_file::PackHeader;
use crate::run::{ENTRY_BYTES, Entry, Run};
use crate::walk::Piece;

#[derive(Debug)]
pub(super) struct PackWriter {
    number: u32,
    file: Arc<dyn DiskFile>,
    /// Where `buffer` goes.
    at: u64,
    buffer: BytesMut,
    entries: Vec<Entry>,
}

impl PackWriter {
    pub(super) fn new(number: u32, file: Arc<dyn DiskFile>) -> Self {
        Self {
            number,
            file,
            at: BLOCK as u64,
            buffer: BytesMut::new(),
            entries: Vec::new(),
        }
    }

    /// Adds one batch; they come in the order of their logs and offsets.
    pub(super) fn push(&mut self, log: LogId, piece: &Piece) {
        let entry = Entry {
            log,
            is_term: false,
            base: piece.base,
            span: (piece.end.0 - piece.base.0) as u32,
            bytes: piece.bytes.len() as u32,
            max_timestamp: piece.max_timestamp,
        };
        let joined = self
            .entries
            .last_mut()
            .is_some_and(|last| last.join(&entry));
        if !joined {
            self.entries.push(entry);
        }
        self.buffer.extend_from_slice(&piece.bytes);
    }

    /// Makes durable what was pushed.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        self.file.sync_data()
    }

    /// Writes directory and header and makes all of it durable.
    pub(super) fn finish(mut self) -> io::Result<(PackHeader, Vec<(LogId, Run)>)> {
        let mut directory = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            directory.extend_from_slice(&entry.encode());
        }
        let body_end = self.at + self.buffer.len() as u64;
        let body_end = u32::try_from(body_end).map_err(io::Error::other)?;
        let header = PackHeader::new(self.number, body_end, &directory);
        self.flush()?;
        for at in header.directory_at {
            self.file.write_at(&directory, u64::from(at))?;
            self.file.sync_data()?;
        }
        self.file.write_at(&header.encode(), 0)?;
        self.file.sync_data()?;
        let runs = header.decode_directory(&directory);
        Ok((header, runs.expect("it was just encoded")))
    }
}
