//! The codecs that Kafka's producers may write the records of a batch in. Batches are kept and moved as they
//! came; only who reads records unpacks them, within a bound.

use std::io::Read;

use bytes::Bytes;

use crate::batch::Malformed;
use crate::limits;

const GZIP: u16 = 1;
const SNAPPY: u16 = 2;
const LZ4: u16 = 3;
const ZSTD: u16 = 4;

/// Snappy's blocks come framed as the Java library of that name does it: this, two versions of 4 bytes,
/// then blocks behind their lengths of 4 bytes.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// The records of a batch of this codec (the three lowest bits of its attributes).
pub(crate) fn unpack(codec: u16, packed: &Bytes) -> Result<Bytes, Malformed> {
    match codec {
        GZIP => whole(flate2::read::MultiGzDecoder::new(&packed[..])),
        SNAPPY => snappy(packed),
        LZ4 => whole(lz4_flex::frame::FrameDecoder::new(&packed[..])),
        ZSTD => {
            let frame = ruzstd::decoding::StreamingDecoder::new(&packed[..]);
            whole(frame.map_err(|_| BROKEN)?)
        }
        _ => Err(Malformed("compressed by a codec that Kafka does not have")),
    }
}

const BROKEN: Malformed = Malformed("compressed records that cannot be unpacked");
const TOO_LARGE: Malformed = Malformed("compressed records that unpack to more than is allowed");

fn whole(packed: impl Read) -> Result<Bytes, Malformed> {
    let mut records = Vec::new();
    let most = limits::UNPACKED_BYTES as u64;
    let read = packed.take(most + 1).read_to_end(&mut records);
    match read {
        Ok(_) if records.len() as u64 > most => Err(TOO_LARGE),
        Ok(_) => Ok(records.into()),
        Err(_) => Err(BROKEN),
    }
}

fn snappy(packed: &[u8]) -> Result<Bytes, Malformed> {
    let mut records = Vec::new();
    let Some(mut blocks) = packed
        .strip_prefix(XERIAL)
        .and_then(|_| packed.get(XERIAL_HEADER_BYTES..))
    else {
        block(packed, &mut records)?;
        return Ok(records.into());
    };
    while !blocks.is_empty() {
        let (length, rest) = blocks.split_first_chunk().ok_or(BROKEN)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (packed, rest) = rest.split_at_checked(length).ok_or(BROKEN)?;
        block(packed, &mut records)?;
        blocks = rest;
    }
    Ok(records.into())
}

/// Unpacks one block behind what is there. The length that it claims is made true or is an error, so no
/// more is taken for it than its bytes can hold: 64 from a copy of 3.
fn block(packed: &[u8], records: &mut Vec<u8>) -> Result<(), Malformed> {
    const RATIO: usize = 32;
    let length = snap::raw::decompress_len(packed).map_err(|_| BROKEN)?;
    if length > packed.len().saturating_mul(RATIO) {
        return Err(BROKEN);
    }
    let from = records.len();
    if from + length > limits::UNPACKED_BYTES {
        return Err(TOO_LARGE);
    }
    records.resize(from + length, 0);
    let unpacked = snap::raw::Decoder::new().decompress(packed, &mut records[from..]);
    unpacked.map_err(|_| BROKEN).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn raw_snappy(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    fn xerial(bytes: &[u8]) -> Vec<u8> {
        let mut out = [XERIAL, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for bytes in bytes.chunks(32 << 10) {
            let packed = raw_snappy(bytes);
            out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
            out.extend_from_slice(&packed);
        }
        out
    }

    type Pack = fn(&[u8]) -> Vec<u8>;
    const CODECS: [(u16, Pack); 5] = [
        (GZIP, gzip),
        (SNAPPY, raw_snappy),
        (SNAPPY, xerial),
        (LZ4, lz4),
        (ZSTD, zstd),
    ];

    #[test]
    fn every_codec_gives_back_what_was_packed_and_no_more_than_is_allowed() {
        let text = b"a record, and the same again, ".repeat(5_000);
        let bomb = vec![0; limits::UNPACKED_BYTES + 1];
        for (codec, pack) in CODECS {
            for bytes in [&b""[..], b"x", &text] {
                let packed = Bytes::from(pack(bytes));
                assert_eq!(unpack(codec, &packed).unwrap(), bytes, "codec {codec}");
            }
            let refused = unpack(codec, &Bytes::from(pack(&bomb)));
            assert_eq!(refused, Err(TOO_LARGE), "codec {codec}");
        }
    }

    #[test]
    fn what_is_broken_is_an_error() {
        let text = b"a record, and the same again, ".repeat(50);
        for (codec, pack) in CODECS {
            let packed = pack(&text);
            for cut in 0..packed.len() {
                // Some formats end well at a cut; nothing may come out that was not packed.
                if let Ok(bytes) = unpack(codec, &Bytes::copy_from_slice(&packed[..cut])) {
                    assert!(text.starts_with(&bytes), "codec {codec} cut at {cut}");
                }
            }
            for at in 0..packed.len() {
                let mut flipped = packed.clone();
                flipped[at] ^= 0x55;
                let _ = unpack(codec, &flipped.into());
            }
        }
        let claims = Bytes::from_static(b"\xff\xff\xff\x7f");
        assert_eq!(unpack(SNAPPY, &claims), Err(BROKEN));
        assert!(unpack(5, &claims).is_err());
    }
}
