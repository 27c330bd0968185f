//! From the bytes of a run to its batches, believing nothing: each must go on where the one
//! before it ends, and the last must end where the run does.

use bytes::Bytes;
use mente_engine::batch::HEADER_BYTES;
use mente_engine::{Batch, Offset, Timestamp};

use crate::planted::{Planted, planted};
use crate::run::Run;

/// Iterates over the batches of a run. An error is the offset from which the bytes are not
/// what was written, and the end.
#[derive(Debug)]
pub(crate) struct Walk {
    bytes: Bytes,
    at: usize,
    base: Offset,
    next: Offset,
    end: Offset,
}

/// One batch of a run; only what the header claims, until it is verified.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) base: Offset,
    /// The offset after its last record.
    pub(crate) end: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) bytes: Bytes,
}

impl Walk {
    pub(crate) fn new(run: &Run, bytes: Bytes) -> Self {
        Self {
            bytes,
            at: 0,
            base: run.base,
            next: run.base,
            end: run.end(),
        }
    }

    fn piece(&self) -> Option<Piece> {
        let rest = self.bytes.slice(self.at..);
        let length = Batch::length(&rest)?;
        let bytes = (length <= rest.len()).then(|| rest.slice(..length))?;
        let base = Offset(u64::from_be_bytes(bytes[0..8].try_into().ok()?));
        let delta = u32::from_be_bytes(bytes[23..27].try_into().ok()?);
        let end = Offset(base.0.checked_add(u64::from(delta) + 1)?);
        // The bytes before the checksum are vouched for by what is before them.
        let goes_on = base == self.next && end <= self.end && bytes[12..16] == [0; 4];
        let is_last = self.at + length == self.bytes.len();
        (goes_on && is_last == (end == self.end)).then(|| Piece {
            base,
            end,
            max_timestamp: Timestamp(i64::from_be_bytes(bytes[35..43].try_into().expect("eight"))),
            bytes,
        })
    }

    /// Where the damage begins: a wrong span shows only in the batch behind it.
    fn blame(&self) -> Offset {
        let mut walk = Self {
            bytes: self.bytes.clone(),
            at: 0,
            next: self.base,
            ..*self
        };
        while walk.at < self.at {
            let Some(piece) = walk.piece() else { break };
            if piece.verified().is_none() {
                return piece.base;
            }
            walk.step(&piece);
        }
        walk.next
    }

    fn step(&mut self, piece: &Piece) {
        self.at += piece.bytes.len();
        self.next = piece.end;
    }
}

impl Iterator for Walk {
    type Item = Result<Piece, Offset>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        debug_assert!(self.bytes.len() >= HEADER_BYTES, "a run has a batch");
        let piece = self.piece();
        match &piece {
            Some(piece) => self.step(piece),
            None => {
                let at = self.blame();
                self.at = self.bytes.len();
                return Some(Err(at));
            }
        }
        piece.map(Ok)
    }
}

impl Piece {
    /// The batch, if it is the one that was written there.
    pub(crate) fn verified(&self) -> Option<Batch> {
        if planted(Planted::BelieveBatches) {
            let mut bytes = self.bytes.to_vec();
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            return Batch::parse(bytes.into()).ok();
        }
        Batch::parse(self.bytes.clone()).ok()
    }

    /// The same where the bytes are not from a disk: what is in memory was verified when it came there.
    pub(crate) fn known(&self) -> Option<Batch> {
        Batch::of_known(self.bytes.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Position;
    use mente_engine::conformance::batch;

    fn sample() -> (Run, Vec<u8>) {
        let mut bytes = Vec::new();
        for (base, values) in [(5, &["a", "b"][..]), (7, &["c"]), (8, &["d", "e", "f"])] {
            bytes.extend_from_slice(batch(values).at(Offset(base)).as_bytes());
        }
        let run = Run {
            base: Offset(5),
            span: 6,
            bytes: bytes.len() as u32,
            position: Position::default(),
            max_timestamp: Timestamp(1000),
        };
        (run, bytes)
    }

    /// The batches that verify, and where it stopped.
    fn walked(run: &Run, bytes: Vec<u8>) -> (Vec<u64>, Option<u64>) {
        let mut found = Vec::new();
        for piece in Walk::new(run, bytes.into()) {
            match piece {
                Ok(piece) if piece.verified().is_some() => found.push(piece.base.0),
                Ok(piece) => return (found, Some(piece.base.0)),
                Err(at) => return (found, Some(at.0)),
            }
        }
        (found, None)
    }

    #[test]
    fn every_batch_comes_back() {
        let (run, bytes) = sample();
        assert_eq!(walked(&run, bytes), (vec![5, 7, 8], None));
    }

    #[test]
    fn every_flipped_bit_is_found_in_its_batch() {
        let (run, bytes) = sample();
        let first = batch(&["a", "b"]).size();
        let second = first + batch(&["c"]).size();
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut bytes = bytes.clone();
                bytes[at] ^= bit;
                let base = [5, 7, 8][usize::from(at >= first) + usize::from(at >= second)];
                assert_eq!(walked(&run, bytes).1, Some(base), "byte {at}");
            }
        }
    }

    #[test]
    fn bytes_of_another_run_are_not_taken() {
        let (run, bytes) = sample();
        for other in [
            Run {
                base: Offset(4),
                ..run
            },
            Run { span: 7, ..run },
            Run { span: 5, ..run },
        ] {
            assert!(walked(&other, bytes.clone()).1.is_some(), "{other:?}");
        }
    }
}
