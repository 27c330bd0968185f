//! One commit: what one turn of the writer made durable.
//!
//! ```text
//!   4 KiB boundary
//!   | fixed header | entry | entry ... | batch | batch ... | zeros to the next boundary
//!
//!  0 magic u32 · 4 header bytes u32 (fixed and entries) · 8 crc u32 (CRC-32C of 12..header bytes)
//! 12 format version u16 · 14 zero u16 · 16 salt u64 (of the file) · 24 position u64 (its own)
//! 32 sequence u64 · 40 durable upto u64 (position) · 48 catalogue end u64 (offset)
//! 56 body bytes u32 · 60 body crc u32 · 64 entries u32 · 68 zero u32
//!
//! ```
//! Big-endian; an entry is a run of batches (see `run`), which stand in the order of their
//! logs so that runs are long. The header alone rebuilds the index and, under its own checksum, names the logs
//! that a damaged body hurts. `durable upto` says what was synced when this was written: damage
//! below it is rot, damage above may be a torn write. `catalogue end` lets the catalogue prove that it
//! lost nothing; all ones once it cannot. Magic, lengths, crc, version and salt keep
//! their places in every later version. Version 1 had an entry for every batch: a run of one.

use bytes::{BufMut, Bytes, BytesMut};
use mente_engine::{Batch, LogId, Offset};

use crate::fields::Fields;
use crate::file_header::VERSION;
use crate::planted::{Planted, planted};
use crate::run::{ENTRY_BYTES, Entry, Position, Run};

/// Commits start on multiples of this, so that no acknowledged byte is ever written again.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of a header without its entries.
pub(crate) const FIXED_BYTES: usize = 72;
const MAGIC: u32 = 0x4d6e_436d;

/// The header of a commit, without what only its decoding needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) salt: u64,
    pub(crate) position: Position,
    /// Dense over all files, from 1.
    pub(crate) sequence: u64,
    pub(crate) durable_upto: Position,
    pub(crate) catalogue_end: Offset,
    pub(crate) body_bytes: u32,
    pub(crate) body_crc: u32,
    pub(crate) entries: Vec<Entry>,
}

/// A batch on its way into a commit, its place in its log given.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) log: LogId,
    pub(crate) is_term: bool,
    pub(crate) base: Offset,
    pub(crate) batch: Batch,
}

/// What stands at a boundary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Commit(Header),
    /// The header is longer than the bytes given.
    Longer(usize),
    Newer(u16),
    Nothing,
}

/// Bytes on the disk of a commit with so many entries and body bytes.
pub(crate) fn padded_bytes(entries: usize, body_bytes: usize) -> usize {
    (FIXED_BYTES + entries * ENTRY_BYTES + body_bytes).next_multiple_of(BLOCK)
}

impl Header {
    pub(crate) fn header_bytes(&self) -> usize {
        FIXED_BYTES + self.entries.len() * ENTRY_BYTES
    }

    /// Where the first batch starts.
    pub(crate) fn body_at(&self) -> u32 {
        self.position.at + self.header_bytes() as u32
    }

    /// Where the next commit starts.
    pub(crate) fn end(&self) -> Position {
        let bytes = padded_bytes(self.entries.len(), self.body_bytes as usize);
        Position {
            file: self.position.file,
            at: self.position.at + bytes as u32,
        }
    }

    /// Each entry with the place of its run in the file.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (Entry, Run)> + '_ {
        let mut at = self.body_at();
        self.entries.iter().map(move |entry| {
            let position = Position {
                file: self.position.file,
                at,
            };
            at += entry.bytes;
            (*entry, entry.at(position))
        })
    }

    /// Lays out the whole commit; `entries`, `body_bytes` and `body_crc` are filled in.
    pub(crate) fn encode(&mut self, staged: &[Staged]) -> Bytes {
        self.entries.clear();
        for entry in staged.iter().map(Staged::entry) {
            let joined = self
                .entries
                .last_mut()
                .is_some_and(|last| last.join(&entry));
            if !joined {
                self.entries.push(entry);
            }
        }
        let body_at = self.header_bytes();
        let body: usize = staged.iter().map(|s| s.batch.size()).sum();
        let padded = padded_bytes(self.entries.len(), body);
        let mut out = BytesMut::with_capacity(padded);
        out.put_bytes(0, body_at);
        for staged in staged {
            let bytes = staged.batch.as_bytes();
            out.put_u64(staged.base.0);
            out.put_slice(&bytes[8..12]);
            out.put_u32(0);
            out.put_slice(&bytes[16..]);
        }
        let at = out.len();
        out.put_bytes(0, padded - at);
        self.body_bytes = body as u32;
        self.body_crc = crc32c::crc32c(&out[body_at..at]);
        self.encode_header(&mut out);
        out.freeze()
    }

    pub(crate) fn encode_header(&self, out: &mut [u8]) {
        let mut put = |at: usize, value: &[u8]| out[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_be_bytes());
        put(4, &(self.header_bytes() as u32).to_be_bytes());
        put(12, &VERSION.to_be_bytes());
        put(16, &self.salt.to_be_bytes());
        put(24, &self.position.to_u64().to_be_bytes());
        put(32, &self.sequence.to_be_bytes());
        put(40, &self.durable_upto.to_u64().to_be_bytes());
        put(48, &self.catalogue_end.0.to_be_bytes());
        put(56, &self.body_bytes.to_be_bytes());
        put(60, &self.body_crc.to_be_bytes());
        put(64, &(self.entries.len() as u32).to_be_bytes());
        for (at, entry) in self.entries.iter().enumerate() {
            put(FIXED_BYTES + at * ENTRY_BYTES, &entry.encode());
        }
        let crc = crc32c::crc32c(&out[12..self.header_bytes()]);
        out[8..12].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads the header that should stand at `position` of a file of `salt`.
    pub(crate) fn decode(bytes: &[u8], position: Position, salt: u64) -> Decoded {
        let mut fixed = Fields(bytes);
        if fixed.u32() != Some(MAGIC) {
            return Decoded::Nothing;
        }
        // First of all, since a client may have sent the rest: it must not pass for a header that
        // is as long as the file, nor for one of a newer version.
        let is_ours = bytes.get(16..24) == Some(&salt.to_be_bytes()[..]);
        if !is_ours && !planted(Planted::IgnoreSalt) {
            return Decoded::Nothing;
        }
        let (Some(header_bytes), Some(crc)) = (fixed.u32(), fixed.u32()) else {
            return Decoded::Nothing;
        };
        let header_bytes = header_bytes as usize;
        if header_bytes < FIXED_BYTES {
            return Decoded::Nothing;
        }
        let Some(checked) = bytes.get(12..header_bytes) else {
            return Decoded::Longer(header_bytes);
        };
        if crc32c::crc32c(checked) != crc {
            return Decoded::Nothing;
        }
        let mut fields = Fields(checked);
        let version = fields.u32().map_or(0, |both| (both >> 16) as u16);
        if version > VERSION {
            return Decoded::Newer(version);
        }
        match Self::decode_fields(&mut fields) {
            Some(header) if header.position == position && header.is_consistent(header_bytes) => {
                Decoded::Commit(header)
            }
            _ => Decoded::Nothing,
        }
    }

    /// A copy of a header that says itself where it belongs.
    pub(crate) fn decode_anywhere(bytes: &[u8]) -> Option<Self> {
        let mut place = Fields(bytes.get(16..32)?);
        let (salt, position) = (place.u64()?, Position::from_u64(place.u64()?));
        match Self::decode(bytes, position, salt) {
            Decoded::Commit(header) => Some(header),
            _ => None,
        }
    }

    fn decode_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let mut header = Self {
            salt: fields.u64()?,
            position: Position::from_u64(fields.u64()?),
            sequence: fields.u64()?,
            durable_upto: Position::from_u64(fields.u64()?),
            catalogue_end: Offset(fields.u64()?),
            body_bytes: fields.u32()?,
            body_crc: fields.u32()?,
            entries: Vec::new(),
        };
        let count = fields.u32()?;
        fields.u32()?;
        for _ in 0..count {
            header.entries.push(Entry::decode(fields)?);
        }
        Some(header)
    }

    /// A checksum that holds by chance or by malice still must not lead outside the file.
    fn is_consistent(&self, header_bytes: usize) -> bool {
        let body: u64 = self.entries.iter().map(|e| u64::from(e.bytes)).sum();
        let end = u64::from(self.position.at) + header_bytes as u64 + body + BLOCK as u64;
        self.header_bytes() == header_bytes
            && body == u64::from(self.body_bytes)
            && end <= u64::from(u32::MAX)
    }
}

impl Staged {
    fn entry(&self) -> Entry {
        Entry {
            log: self.log,
            is_term: self.is_term,
            base: self.base,
            span: self.batch.offset_span(),
            bytes: self.batch.size() as u32,
            max_timestamp: self.batch.max_timestamp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Walk;
    use mente_engine::SetId;
    use mente_engine::conformance::batch;

    fn sample() -> (Header, Bytes) {
        let staged = |set, base, values: &[&str]| Staged {
            log: SetId(set).log(1),
            is_term: set == 9,
            base: Offset(base),
            batch: batch(values),
        };
        let mut header = Header {
            salt: 77,
            position: Position { file: 3, at: 8192 },
            sequence: 12,
            durable_upto: Position { file: 2, at: 4096 },
            catalogue_end: Offset(5),
            body_bytes: 0,
            body_crc: 0,
            entries: Vec::new(),
        };
        let bytes = header.encode(&[
            staged(4, 100, &["a", "b"]),
            staged(4, 102, &["d"]),
            staged(9, 0, &["c"]),
        ]);
        (header, bytes)
    }

    #[test]
    fn a_commit_comes_back_with_its_batches() {
        let (header, bytes) = sample();
        assert_eq!(bytes.len() % BLOCK, 0);
        assert_eq!(
            Header::decode(&bytes, header.position, 77),
            Decoded::Commit(header.clone())
        );
        let runs: Vec<_> = header.placed().map(|(_, run)| run).collect();
        let bases = runs.iter().flat_map(|run| {
            let from = (run.position.at - header.position.at) as usize;
            Walk::new(run, bytes.slice(from..from + run.bytes as usize))
        });
        let bases: Vec<_> = bases.map(|piece| piece.unwrap().base.0).collect();
        assert_eq!((runs.len(), bases), (2, vec![100, 102, 0]));
    }

    #[test]
    fn another_salt_or_place_or_any_flipped_byte_is_nothing() {
        let (header, bytes) = sample();
        assert_eq!(
            Header::decode(&bytes, header.position, 78),
            Decoded::Nothing
        );
        // Nor does it keep the log from being opened, or hold it up.
        let mut newer = bytes.to_vec();
        newer[13] = VERSION as u8 + 1;
        let crc = crc32c::crc32c(&newer[12..header.header_bytes()]);
        newer[8..12].copy_from_slice(&crc.to_be_bytes());
        let newer = |salt| Header::decode(&newer, header.position, salt);
        assert_eq!(newer(77), Decoded::Newer(VERSION + 1));
        assert_eq!(newer(78), Decoded::Nothing);
        let mut longer = bytes.to_vec();
        longer[4..8].copy_from_slice(&(32_u32 << 20).to_be_bytes());
        let longer = |salt| Header::decode(&longer, header.position, salt);
        assert_eq!(longer(77), Decoded::Longer(32 << 20));
        assert_eq!(longer(78), Decoded::Nothing);
        let elsewhere = Position { file: 3, at: 4096 };
        assert_eq!(Header::decode(&bytes, elsewhere, 77), Decoded::Nothing);
        for at in 0..header.header_bytes() {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x04;
            let decoded = Header::decode(&bytes, header.position, 77);
            assert!(
                matches!(decoded, Decoded::Nothing | Decoded::Longer(_)),
                "byte {at}: {decoded:?}"
            );
        }
        for cut in 0..header.header_bytes() {
            let decoded = Header::decode(&bytes[..cut], header.position, 77);
            assert!(matches!(decoded, Decoded::Nothing | Decoded::Longer(_)));
        }
    }
}
