//! One record inside a batch: Kafka's v2 record layout, zigzag varints throughout.
//!
//! ```text
//! length · attributes (1 byte, 0) · timestamp delta · offset delta
//! · key length (-1 = none) · key · value length (-1 = none) · value
//! · header count · { name length · name · value length (-1 = none) · value }
//! ```

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::batch::Malformed;
use crate::clock::Timestamp;
use crate::limits;

/// A record as written and as read. Headers are an ordered multimap: a name may come twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    /// `None` is a tombstone; an empty value is a value.
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Record {
    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        let found = self.headers.iter().find(|(n, _)| n == name.as_bytes());
        found.and_then(|(_, value)| value.as_ref())
    }

    /// About how many bytes it takes in a batch; never less.
    pub(crate) fn size_bound(&self) -> usize {
        let sized = |b: &Option<Bytes>| 5 + b.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(n, v)| 5 + n.len() + sized(v))
            .sum();
        // length, attributes, two deltas and the header count
        5 + 1 + 10 + 5 + 5 + sized(&self.key) + sized(&self.value) + headers
    }

    pub(crate) fn encode(&self, out: &mut BytesMut, timestamp_delta: i64, offset_delta: i64) {
        // Its length stands before it: counted first, so that it is written where it stays.
        let headers = self.headers.iter();
        let headers =
            headers.map(|(name, value)| sized_bytes(Some(name)) + sized_bytes(value.as_ref()));
        let length = 1
            + varint_bytes(timestamp_delta)
            + varint_bytes(offset_delta)
            + sized_bytes(self.key.as_ref())
            + sized_bytes(self.value.as_ref())
            + varint_bytes(self.headers.len() as i64)
            + headers.sum::<usize>();
        put_varint(out, length as i64);
        let begin = out.len();
        out.put_u8(0);
        put_varint(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_sized(out, self.key.as_ref());
        put_sized(out, self.value.as_ref());
        put_varint(out, self.headers.len() as i64);
        for (name, value) in &self.headers {
            put_sized(out, Some(name));
            put_sized(out, value.as_ref());
        }
        debug_assert_eq!(out.len() - begin, length, "a record is as long as it says");
    }

    /// Bytes and offset delta of the first record in `input`, of which nothing else is looked at. What is
    /// malformed is told by [`Record::decode`].
    pub(crate) fn peek(input: &[u8]) -> Option<(usize, u32)> {
        let (length, begin) = varint(input)?;
        let body = input.get(begin..begin.checked_add(usize::try_from(length).ok()?)?)?;
        let (_, attributes_and_time) = varint(body.get(1..)?).map(|(v, n)| (v, n + 1))?;
        let (delta, _) = varint(body.get(attributes_and_time..)?)?;
        Some((begin + body.len(), u32::try_from(delta).ok()?))
    }

    /// Takes one record off the front of `input`; gives its offset delta and itself.
    pub(crate) fn decode(input: &mut Bytes, base: Timestamp) -> Result<(u32, Self), Malformed> {
        let mut all = Cursor::at(input, 0);
        let length = all.length()?.ok_or(Malformed("record length"))?;
        let begin = all.at;
        all.take(length)?;
        let end = all.at;
        let mut body = Cursor::at(&input[..end], begin);
        body.take(1)?;
        // As it was encoded: moments that are far apart have a delta that wraps.
        let timestamp = Timestamp(base.0.wrapping_add(body.varint()?));
        let delta = u32::try_from(body.varint()?).map_err(|_| Malformed("offset delta"))?;
        let key = body.sized()?.map(|at| input.slice(at));
        let value = body.sized()?.map(|at| input.slice(at));
        let count = body.length()?.ok_or(Malformed("header count"))?;
        if count > limits::HEADERS_PER_RECORD {
            return Err(Malformed("header count"));
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let name = body.sized()?.ok_or(Malformed("header name"))?;
            let value = body.sized()?.map(|at| input.slice(at));
            headers.push((name_at(input, name), value));
        }
        if body.at != end {
            return Err(Malformed("record length"));
        }
        input.advance(end);
        let record = Self {
            timestamp,
            key,
            value,
            headers,
        };
        Ok((delta, record))
    }
}

/// The name of a header. Those that most events have are no references to what was read, since counting references
/// is most of what a record costs to read.
fn name_at(input: &Bytes, at: Range<usize>) -> Bytes {
    const KNOWN: [&[u8]; 7] = [
        b"ce_specversion",
        b"ce_id",
        b"ce_source",
        b"ce_type",
        b"ce_subject",
        b"content-type",
        b"mente",
    ];
    let name = &input[at.clone()];
    let known = KNOWN.iter().find(|known| **known == name);
    known.map_or_else(|| input.slice(at), |known| Bytes::from_static(known))
}

/// Where in some bytes the next one is.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    const fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    fn take(&mut self, length: usize) -> Result<Range<usize>, Malformed> {
        if length > self.bytes.len() - self.at {
            return Err(Malformed("length beyond the end"));
        }
        let from = self.at;
        self.at += length;
        Ok(from..self.at)
    }

    fn varint(&mut self) -> Result<i64, Malformed> {
        let (value, length) = varint(&self.bytes[self.at..]).ok_or(Malformed("varint"))?;
        self.at += length;
        Ok(value)
    }

    /// `None` for a length of -1; anything below that is malformed.
    fn length(&mut self) -> Result<Option<usize>, Malformed> {
        match self.varint()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| Malformed("negative length")),
        }
    }

    /// Where bytes lie that have their length before them.
    fn sized(&mut self) -> Result<Option<Range<usize>>, Malformed> {
        self.length()?.map(|length| self.take(length)).transpose()
    }
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn put_sized(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// What [`put_varint`] writes.
const fn varint_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    // Seven bits a byte, one byte at least.
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

/// What [`put_sized`] writes.
fn sized_bytes(bytes: Option<&Bytes>) -> usize {
    match bytes {
        None => varint_bytes(-1),
        Some(bytes) => varint_bytes(bytes.len() as i64) + bytes.len(),
    }
}

/// A number and how many bytes it takes.
fn varint(input: &[u8]) -> Option<(i64, usize)> {
    let signed = |value: u64| (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
    // Most are lengths of a byte.
    if let Some(&byte) = input.first().filter(|byte| **byte < 0x80) {
        return Some((signed(byte.into()), 1));
    }
    let mut value = 0u64;
    for (index, &byte) in input.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((signed(value), index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [0, 1, -1, 63, 64, -64, -65, 300, i64::MAX, i64::MIN] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_bytes(value));
            assert_eq!(varint(&out), Some((value, out.len())));
        }
        assert_eq!(varint(&[0xff; 11]), None);
        assert_eq!(varint(&[]), None);
    }
}
