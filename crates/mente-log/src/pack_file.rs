//! A pack: what was live in old files, sorted by log, written once.
//!
//! ```text
//! | header block | batches by log and offset | zeros to 4 KiB | directory | zeros to 4 KiB | directory again |
//!
//! header:  0 magic "MentePck" · 8 crc u32 (CRC-32C of 12..64) · 12 format version u16 · 14 zero u16
//!         16 file number u32 · 20 runs u32 · 24 directory at u32 · 28 directory again at u32
//!         32 directory crc u32 · 36 zero to 64
//! directory: an entry (see `run`) for each run, in the order of the batches, the first of which
//!         starts in the second block
//! ```
//! Big-endian. The header stands twice, at 0 and at 2048, and is written last. One flipped bit
//! hurts one batch, whose own checksum tells. Magic, crc and version keep their places in
//! every later version.

use mente_engine::LogId;

use crate::commit::BLOCK;
use crate::fields::Fields;
use crate::file_header::{Unreadable, VERSION};
use crate::run::{ENTRY_BYTES, Entry, Position, Run};

const MAGIC: &[u8; 8] = b"MentePck";
const BYTES: usize = 64;
const COPIES: [usize; 2] = [0, 2048];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackHeader {
    pub(crate) number: u32,
    pub(crate) runs: u32,
    pub(crate) directory_at: [u32; 2],
    /// Also in the record that names the pack, so that no other file passes for it.
    pub(crate) directory_crc: u32,
}

impl PackHeader {
    /// Of a pack whose batches end at `body_end`.
    pub(crate) fn new(number: u32, body_end: u32, directory: &[u8]) -> Self {
        let first = body_end.next_multiple_of(BLOCK as u32);
        let second = (first + directory.len() as u32).next_multiple_of(BLOCK as u32);
        Self {
            number,
            runs: (directory.len() / ENTRY_BYTES) as u32,
            directory_at: [first, second],
            directory_crc: crc32c::crc32c(directory),
        }
    }

    pub(crate) fn directory_bytes(&self) -> usize {
        self.runs as usize * ENTRY_BYTES
    }

    /// Length of the whole file.
    pub(crate) fn file_bytes(&self) -> u64 {
        u64::from(self.directory_at[1]) + self.directory_bytes() as u64
    }

    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut copy = [0; BYTES];
        let mut put = |at: usize, value: &[u8]| copy[at..at + value.len()].copy_from_slice(value);
        put(0, MAGIC);
        put(12, &VERSION.to_be_bytes());
        put(16, &self.number.to_be_bytes());
        put(20, &self.runs.to_be_bytes());
        put(24, &self.directory_at[0].to_be_bytes());
        put(28, &self.directory_at[1].to_be_bytes());
        put(32, &self.directory_crc.to_be_bytes());
        let crc = crc32c::crc32c(&copy[12..]);
        copy[8..12].copy_from_slice(&crc.to_be_bytes());
        let mut block = [0; BLOCK];
        for at in COPIES {
            block[at..at + BYTES].copy_from_slice(&copy);
        }
        block
    }

    pub(crate) fn decode(block: &[u8; BLOCK]) -> Result<Self, Unreadable> {
        let copies = COPIES.iter().map(|at| &block[*at..at + BYTES]);
        let mut result = Err(Unreadable::Damaged);
        for copy in copies {
            result = result.or_else(|_| Self::decode_copy(copy));
        }
        result
    }

    fn decode_copy(copy: &[u8]) -> Result<Self, Unreadable> {
        let mut fields = Fields(copy);
        let magic = fields.take(8);
        let is_whole = magic == Some(MAGIC) && fields.u32() == Some(crc32c::crc32c(&copy[12..]));
        let version = fields.u32().map_or(0, |both| (both >> 16) as u16);
        match (is_whole, version > VERSION) {
            (false, _) => Err(Unreadable::Damaged),
            (true, true) => Err(Unreadable::Newer(version)),
            (true, false) => Self::decode_fields(&mut fields).ok_or(Unreadable::Damaged),
        }
    }

    fn decode_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            number: fields.u32()?,
            runs: fields.u32()?,
            directory_at: [fields.u32()?, fields.u32()?],
            directory_crc: fields.u32()?,
        })
    }

    /// The runs of a directory, each with its place; `None` if these bytes are not the ones
    /// that were written.
    pub(crate) fn decode_directory(&self, bytes: &[u8]) -> Option<Vec<(LogId, Run)>> {
        if bytes.len() != self.directory_bytes() || crc32c::crc32c(bytes) != self.directory_crc {
            return None;
        }
        let (mut fields, mut runs) = (Fields(bytes), Vec::with_capacity(self.runs as usize));
        let mut at = BLOCK as u32;
        for _ in 0..self.runs {
            let entry = Entry::decode(&mut fields)?;
            let file = self.number;
            runs.push((entry.log, entry.at(Position { file, at })));
            at = at.checked_add(entry.bytes)?;
        }
        Some(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mente_engine::{Offset, SetId, Timestamp};

    fn sample() -> (PackHeader, Vec<u8>) {
        let entry = |set, base, bytes| Entry {
            log: SetId(set).log(1),
            is_term: false,
            base: Offset(base),
            span: 3,
            bytes,
            max_timestamp: Timestamp(base as i64),
        };
        let entries = [entry(1, 10, 100), entry(1, 13, 50), entry(2, 0, 4000)];
        let directory: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
        (PackHeader::new(7, 4096 + 4150, &directory), directory)
    }

    #[test]
    fn header_and_directory_come_back() {
        let (header, directory) = sample();
        assert_eq!(PackHeader::decode(&header.encode()), Ok(header));
        assert_eq!(header.directory_at, [12288, 16384]);
        let runs = header.decode_directory(&directory).unwrap();
        let places: Vec<_> = runs.iter().map(|(_, run)| run.position.at).collect();
        assert_eq!(places, [4096, 4196, 4246]);
        assert!(runs.iter().all(|(_, run)| run.position.file == 7));
    }

    #[test]
    fn a_flip_is_noticed_and_one_copy_is_enough() {
        let (header, directory) = sample();
        for at in 0..directory.len() {
            let mut bytes = directory.clone();
            bytes[at] ^= 4;
            assert_eq!(header.decode_directory(&bytes), None, "byte {at}");
            assert_eq!(header.decode_directory(&directory[..at]), None);
        }
        for at in 0..BLOCK {
            let mut block = header.encode();
            block[at] ^= 0x10;
            assert_eq!(PackHeader::decode(&block), Ok(header), "byte {at}");
        }
        assert_eq!(PackHeader::decode(&[0; BLOCK]), Err(Unreadable::Damaged));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut block = sample().0.encode();
        for at in COPIES {
            block[at + 13] = 9;
            let crc = crc32c::crc32c(&block[at + 12..at + BYTES]);
            block[at + 8..at + 12].copy_from_slice(&crc.to_be_bytes());
        }
        assert_eq!(PackHeader::decode(&block), Err(Unreadable::Newer(9)));
    }
}
