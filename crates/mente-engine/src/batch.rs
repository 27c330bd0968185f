//! Record batches in Kafka's v2 layout, which is also the storage format: a batch is kept and
//! moved whole, and its bytes never change after the first 12.
//!
//! ```text
//!  0 base offset i64 · 8 length i32 (of what follows) · 12 leader epoch i32 · 16 magic i8 = 2
//! 17 crc u32 (CRC-32C from 21 to the end) · 21 attributes i16 · 23 last offset delta i32
//! 27 base timestamp i64 · 35 max timestamp i64 · 43 producer id i64 · 51 producer epoch i16
//! 53 base sequence i32 · 57 record count i32 · 61 records
//! ```
//! Big-endian. Source: Kafka's `DefaultRecordBatch`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::clock::Timestamp;
use crate::codec;
use crate::id::{Offset, Term};
use crate::record::Record;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes before the part that the length field counts.
const PREFIX_BYTES: usize = 12;
const CRC_FROM: usize = 21;
const CODEC_MASK: u16 = 0b111;
const CONTROL_BIT: u16 = 1 << 5;
/// Key of the record that a claim writes. An ordinary record, since a Kafka cluster takes
/// no control batch from a client.
const TERM_KEY: &[u8] = b"\0mente-term";

/// One whole batch, its header and checksum verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
}

/// What is wrong with bytes that should be a batch or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed batch: {0}")]
pub struct Malformed(pub &'static str);

impl Batch {
    /// Verifies that `bytes` are exactly one batch.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let batch = Self::split(&mut rest)?;
        if rest.is_empty() {
            Ok(batch)
        } else {
            Err(Malformed("bytes after the batch"))
        }
    }

    /// A batch out of the memory of who verified or made it: its checksum is not looked at.
    pub fn of_known(bytes: Bytes) -> Result<Self, Malformed> {
        if Self::length(&bytes) != Some(bytes.len()) {
            return Err(Malformed("not exactly one batch"));
        }
        let batch = Self { bytes };
        batch.verify_header()?;
        Ok(batch)
    }

    /// Takes the first batch off `bytes` and verifies it. On an error nothing is taken.
    pub fn split(bytes: &mut Bytes) -> Result<Self, Malformed> {
        let length = Self::length(bytes).ok_or(Malformed("no whole header"))?;
        if length > bytes.len() {
            return Err(Malformed("length beyond the end"));
        }
        let batch = Self {
            bytes: bytes.slice(..length),
        };
        batch.verify()?;
        let _ = bytes.split_to(length);
        Ok(batch)
    }

    /// Length of the batch that starts here, as its header claims; `None` without a whole header.
    pub fn length(bytes: &[u8]) -> Option<usize> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let claimed = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        let length = PREFIX_BYTES + usize::try_from(claimed).ok()?;
        (length >= HEADER_BYTES).then_some(length)
    }

    fn verify(&self) -> Result<(), Malformed> {
        self.verify_header()?;
        if self.u32_at(17) != crc32c::crc32c(&self.bytes[CRC_FROM..]) {
            return Err(Malformed("checksum"));
        }
        Ok(())
    }

    fn verify_header(&self) -> Result<(), Malformed> {
        if self.bytes[16] != 2 {
            return Err(Malformed("magic is not 2"));
        }
        if self.i32_at(23) < 0 || self.i32_at(57) < 0 || self.i64_at(0) < 0 {
            return Err(Malformed("negative count or offset"));
        }
        Ok(())
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn base_offset(&self) -> Offset {
        Offset(self.i64_at(0).cast_unsigned())
    }

    /// Offset of the last record, base offset included.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset().0 + u64::from(self.offset_span()) - 1)
    }

    /// How many offsets the batch takes: its count, unless compaction made holes in it.
    pub fn offset_span(&self) -> u32 {
        self.i32_at(23).cast_unsigned() + 1
    }

    pub fn count(&self) -> u32 {
        self.i32_at(57).cast_unsigned()
    }

    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(self.i64_at(27))
    }

    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.i64_at(35))
    }

    /// Nothing but records: not packed, no producer's, no control batch, without holes.
    pub fn is_plain(&self) -> bool {
        self.attributes() == 0 && self.i64_at(43) < 0 && self.count() == self.offset_span()
    }

    /// The records of these batches in one, each with its own time; `None` if one of them is more than its
    /// records, or malformed.
    pub fn merged(batches: &[Self]) -> Option<Self> {
        let mut builder = BatchBuilder::default();
        for batch in batches {
            if !batch.is_plain() {
                return None;
            }
            for record in batch.records() {
                builder.push(&record.ok()?.1);
            }
        }
        let spans: u32 = batches.iter().map(Self::offset_span).sum();
        (builder.count == spans && spans > 0).then(|| builder.finish())
    }

    /// A control batch carries transaction markers, not data.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// The same batch at another place in a log. Patches the offset, which the checksum
    /// does not cover; copies the bytes once.
    pub fn at(&self, base: Offset) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[0..8].copy_from_slice(&base.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
        Self {
            bytes: bytes.freeze(),
        }
    }

    /// The same batch as sent by an idempotent producer; computes the checksum again.
    pub fn with_producer(&self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&base_sequence.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Self {
            bytes: bytes.freeze(),
        }
    }

    /// The records with their offsets, in order; their bytes are slices of this batch, or of what it
    /// unpacks to. Stops at the first malformed one.
    pub fn records(&self) -> Records {
        let packed = self.bytes.slice(HEADER_BYTES..);
        let records = match self.attributes() & CODEC_MASK {
            0 => Ok(packed),
            codec => codec::unpack(codec, &packed),
        };
        let (rest, broken) = match records {
            Ok(records) => (records, None),
            Err(broken) => (Bytes::new(), Some(broken)),
        };
        Records {
            base: self.base_offset(),
            base_timestamp: self.base_timestamp(),
            rest,
            left: self.count(),
            broken,
        }
    }

    /// The batch that a claim writes.
    pub fn of_term(term: Term, now: Timestamp) -> Self {
        let mut builder = BatchBuilder::default();
        builder.push(&Record {
            timestamp: now,
            key: Some(Bytes::from_static(TERM_KEY)),
            value: Some(Bytes::copy_from_slice(&term.0.to_be_bytes())),
            headers: Vec::new(),
        });
        builder.finish()
    }

    /// The term, if a claim wrote this batch. Folds skip such a batch.
    pub fn term(&self) -> Option<Term> {
        if self.count() != 1 || self.size() > HEADER_BYTES + 64 {
            return None;
        }
        let (_, record) = self.records().next()?.ok()?;
        if record.key.as_deref() != Some(TERM_KEY) {
            return None;
        }
        Some(Term(u64::from_be_bytes(
            record.value?.as_ref().try_into().ok()?,
        )))
    }

    fn attributes(&self) -> u16 {
        u16::from_be_bytes([self.bytes[21], self.bytes[22]])
    }

    // The header is there whole: every constructor has seen to it.
    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn i32_at(&self, at: usize) -> i32 {
        self.u32_at(at).cast_signed()
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Batch({}..={}, {} bytes)",
            self.base_offset(),
            self.last_offset(),
            self.size()
        )
    }
}

/// Iterator over the records of one batch.
#[derive(Debug)]
pub struct Records {
    base: Offset,
    base_timestamp: Timestamp,
    rest: Bytes,
    left: u32,
    /// Why nothing could be unpacked.
    broken: Option<Malformed>,
}

impl Records {
    /// Bytes that these records hold, unpacked if they came packed.
    pub fn bytes(&self) -> usize {
        self.rest.len()
    }

    /// Without those that come before `offset`, which are not decoded.
    pub fn starting_at(mut self, offset: Offset) -> Self {
        while self.left > 0
            && self.broken.is_none()
            && let Some((length, delta)) = Record::peek(&self.rest)
            && Offset(self.base.0 + u64::from(delta)) < offset
        {
            self.rest.advance(length);
            self.left -= 1;
        }
        self
    }
}

impl Iterator for Records {
    type Item = Result<(Offset, Record), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        if let Some(broken) = self.broken.take() {
            self.left = 0;
            return Some(Err(broken));
        }
        self.left -= 1;
        match Record::decode(&mut self.rest, self.base_timestamp) {
            Ok((delta, record)) => Some(Ok((Offset(self.base.0 + u64::from(delta)), record))),
            Err(malformed) => {
                self.left = 0;
                Some(Err(malformed))
            }
        }
    }
}

/// Collects records into a batch, not compressed, without producer id.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    /// From the first record on the whole batch, with room for its header.
    bytes: BytesMut,
    count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// With room for records of so many bytes: what grows is copied again and again.
    pub fn with_room(bytes: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(HEADER_BYTES + bytes),
            ..Self::default()
        }
    }

    pub fn push(&mut self, record: &Record) {
        if self.count == 0 {
            self.bytes.reserve(HEADER_BYTES + record.size_bound());
            self.bytes.put_bytes(0, HEADER_BYTES);
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let delta = record.timestamp.0.wrapping_sub(self.base_timestamp.0);
        record.encode(&mut self.bytes, delta, i64::from(self.count));
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the batch as it stands.
    pub fn size(&self) -> usize {
        self.bytes.len().max(HEADER_BYTES)
    }

    /// # Panics
    /// If nothing was pushed: a batch has at least one record.
    pub fn finish(self) -> Batch {
        assert!(self.count > 0, "a batch has at least one record");
        let mut bytes = self.bytes;
        let length = u32::try_from(bytes.len() - PREFIX_BYTES);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(
            8,
            &length.expect("a batch is smaller than 4 GiB").to_be_bytes(),
        );
        put(16, &[2]);
        put(23, &(self.count - 1).to_be_bytes());
        put(27, &self.base_timestamp.0.to_be_bytes());
        put(35, &self.max_timestamp.0.to_be_bytes());
        put(43, &(-1i64).to_be_bytes());
        put(51, &(-1i16).to_be_bytes());
        put(53, &(-1i32).to_be_bytes());
        put(57, &self.count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Batch {
            bytes: bytes.freeze(),
        }
    }
}

impl<'a> FromIterator<&'a Record> for BatchBuilder {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        let mut builder = Self::default();
        records.into_iter().for_each(|record| builder.push(record));
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str, at: i64) -> Record {
        Record {
            timestamp: Timestamp(at),
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: vec![
                (Bytes::from_static(b"h"), Some(Bytes::from_static(b"1"))),
                (Bytes::from_static(b"h"), None),
            ],
        }
    }

    #[test]
    fn records_come_back_in_order_with_offsets_and_duplicate_headers() {
        let records = [record("a", 20), record("b", 10), Record::default()];
        let batch = BatchBuilder::from_iter(&records).finish().at(Offset(7));
        let batch = Batch::parse(batch.as_bytes().clone()).unwrap();
        assert_eq!(
            (batch.base_offset(), batch.last_offset(), batch.count()),
            (Offset(7), Offset(9), 3)
        );
        assert_eq!(batch.max_timestamp(), Timestamp(20));
        let read: Vec<_> = batch.records().map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|(o, _)| o.0).collect::<Vec<_>>(), [7, 8, 9]);
        for from in 0..12 {
            let rest: Vec<_> = batch
                .records()
                .starting_at(Offset(from))
                .map(Result::unwrap)
                .collect();
            assert_eq!(
                rest,
                read[usize::try_from(from.saturating_sub(7).min(3)).unwrap()..]
            );
        }
        assert_eq!(
            read.into_iter().map(|(_, r)| r).collect::<Vec<_>>(),
            records
        );
    }

    #[test]
    fn every_flipped_bit_after_the_patched_bytes_is_noticed() {
        let batch = BatchBuilder::from_iter(&[record("value", 1)]).finish();
        for at in 16..batch.size() {
            let mut bytes = batch.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(Batch::parse(bytes.into()).is_err(), "byte {at}");
        }
        for cut in 0..batch.size() {
            assert!(
                Batch::parse(batch.as_bytes().slice(..cut)).is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_lying_inside_is_an_error_not_a_panic() {
        let batch = BatchBuilder::from_iter(&[record("value", 1)]).finish();
        for at in HEADER_BYTES..batch.size() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = batch.as_bytes().to_vec();
                bytes[at] ^= flip;
                let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
                bytes[17..21].copy_from_slice(&crc.to_be_bytes());
                let batch = Batch::parse(bytes.into()).expect("the checksum is right again");
                let _ = batch.records().count();
            }
        }
    }

    #[test]
    fn plain_batches_become_one_and_others_do_not() {
        let one = BatchBuilder::from_iter(&[record("a", 20), record("b", 10)]).finish();
        let two = BatchBuilder::from_iter(&[record("c", 5)]).finish();
        let merged = Batch::merged(&[one.clone(), two.clone()]).unwrap();
        let merged = Batch::parse(merged.as_bytes().clone()).unwrap();
        let values = |batch: &Batch| {
            let records = batch.records().map(|record| record.unwrap().1);
            records.collect::<Vec<_>>()
        };
        assert_eq!(values(&merged), [values(&one), values(&two)].concat());
        assert_eq!(merged.max_timestamp(), Timestamp(20));
        let of_producer = two.with_producer(7, 0, 0);
        assert_eq!(Batch::merged(&[one, of_producer]), None);
        assert_eq!(Batch::merged(&[]), None);
    }

    #[test]
    fn a_term_record_is_told_from_data() {
        let term = Batch::of_term(Term(9), Timestamp(5)).at(Offset(3));
        assert_eq!(term.term(), Some(Term(9)));
        assert_eq!(
            BatchBuilder::from_iter(&[record("x", 1)]).finish().term(),
            None
        );
    }
}
