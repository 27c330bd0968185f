//! The first block of a WAL file: what the file is, and the salt of its commits.
//!
//! ```text
//!  0 magic "MenteWAL" · 8 crc u32 (CRC-32C of 12..64) · 12 format version u16 · 14 zero u16
//! 16 file number u32 · 20 file size u32 · 24 salt u64 · 32 zero to 64
//! ```
//! Big-endian. Written twice, at 0 and at 2048, since without the salt the file is unreadable.
//! Magic, crc and version keep their places in every later version.

use crate::commit::BLOCK;

/// Version 2 brought runs of batches and packs.
pub(crate) const VERSION: u16 = 2;
const MAGIC: &[u8; 8] = b"MenteWAL";
const BYTES: usize = 64;
const COPIES: [usize; 2] = [0, 2048];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) number: u32,
    pub(crate) file_bytes: u32,
    pub(crate) salt: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Damaged,
    Newer(u16),
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut copy = [0; BYTES];
        copy[0..8].copy_from_slice(MAGIC);
        copy[12..14].copy_from_slice(&VERSION.to_be_bytes());
        copy[16..20].copy_from_slice(&self.number.to_be_bytes());
        copy[20..24].copy_from_slice(&self.file_bytes.to_be_bytes());
        copy[24..32].copy_from_slice(&self.salt.to_be_bytes());
        let crc = crc32c::crc32c(&copy[12..]);
        copy[8..12].copy_from_slice(&crc.to_be_bytes());
        let mut block = [0; BLOCK];
        for at in COPIES {
            block[at..at + BYTES].copy_from_slice(&copy);
        }
        block
    }

    pub(crate) fn decode(block: &[u8; BLOCK]) -> Result<Self, Unreadable> {
        let mut result = Err(Unreadable::Damaged);
        for at in COPIES {
            let copy: &[u8; BYTES] = block[at..].first_chunk().expect("a block holds both");
            result = result.or_else(|_| Self::decode_copy(copy));
        }
        result
    }

    fn decode_copy(copy: &[u8; BYTES]) -> Result<Self, Unreadable> {
        let u32_at = |at: usize| u32::from_be_bytes(copy[at..at + 4].try_into().expect("four"));
        if &copy[0..8] != MAGIC || u32_at(8) != crc32c::crc32c(&copy[12..]) {
            return Err(Unreadable::Damaged);
        }
        let version = u16::from_be_bytes([copy[12], copy[13]]);
        if version > VERSION {
            return Err(Unreadable::Newer(version));
        }
        Ok(Self {
            number: u32_at(16),
            file_bytes: u32_at(20),
            salt: u64::from_be_bytes(copy[24..32].try_into().expect("eight")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader = FileHeader {
        number: 7,
        file_bytes: 64 << 20,
        salt: 0x1234_5678_9abc_def0,
    };

    #[test]
    fn comes_back_even_if_one_copy_is_damaged() {
        let good = HEADER.encode();
        assert_eq!(FileHeader::decode(&good), Ok(HEADER));
        for at in 0..BLOCK {
            let mut block = good;
            block[at] ^= 0x10;
            assert_eq!(FileHeader::decode(&block), Ok(HEADER), "byte {at}");
        }
        assert_eq!(FileHeader::decode(&[0; BLOCK]), Err(Unreadable::Damaged));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut block = HEADER.encode();
        for at in COPIES {
            block[at + 13] = 3;
            let crc = crc32c::crc32c(&block[at + 12..at + BYTES]);
            block[at + 8..at + 12].copy_from_slice(&crc.to_be_bytes());
        }
        assert_eq!(FileHeader::decode(&block), Err(Unreadable::Newer(3)));
    }
}
