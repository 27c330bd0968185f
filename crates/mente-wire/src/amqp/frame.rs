//! Protocol headers and frames (part 2 §2.2 and §2.3, part 5 §5.3.1).
//!
//! ```text
//! protocol header   "AMQP" | id (0 AMQP, 2 TLS, 3 SASL) | major 1 | minor 0 | revision 0
//! frame             size (4) | doff (1) | type (1) | channel (2) | extended header | body
//! ```
//! The size counts the whole frame, `doff` words of 4 bytes before the body. A body is a
//! performative and, behind a transfer, payload; a frame without a body keeps a connection alive.

use bytes::{Buf, Bytes, BytesMut};

use super::error::{Malformed, condition};

/// Bytes of a protocol header.
pub const PROTOCOL_HEADER_BYTES: usize = 8;
/// Bytes of a frame before its extended header and body.
pub const FRAME_HEADER_BYTES: usize = 8;
/// What every peer takes as a frame (MIN-MAX-FRAME-SIZE, §2.8.19), and the most that a SASL
/// frame may be (part 5 §5.3.1).
pub const FRAME_BYTES_MIN: usize = 512;

/// What a peer wants to speak from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Amqp,
    /// The upgrade to TLS within AMQP (part 5 §5.2), which no SDK of Service Bus uses.
    Tls,
    Sasl,
}

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    Amqp,
    Sasl,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    /// Of a SASL frame without meaning, whatever it is.
    pub channel: u16,
    /// A slice of the buffer, whose memory is kept as long as this is, or a text or a tag of it:
    /// who keeps a name for longer copies it. Empty in a frame that says only that its sender is
    /// there.
    pub body: Bytes,
}

impl Protocol {
    /// The header that asks for this protocol in version 1.0.0.
    pub const fn header(self) -> [u8; PROTOCOL_HEADER_BYTES] {
        let id = match self {
            Self::Amqp => 0,
            Self::Tls => 2,
            Self::Sasl => 3,
        };
        [b'A', b'M', b'Q', b'P', id, 1, 0, 0]
    }

    /// Takes a protocol header out of the buffer; `None` waits for more bytes.
    ///
    /// A peer that sent something else has opened nothing that could be closed with an error: it
    /// is sent the header of what is spoken here, and the connection ends (§2.2). That is said as
    /// soon as a byte is wrong, since such a peer may wait for an answer before it sends 8.
    pub fn split(buffer: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let known = [Self::Amqp, Self::Tls, Self::Sasl];
        let there = buffer.get(..PROTOCOL_HEADER_BYTES).unwrap_or(buffer);
        let Some(protocol) = known
            .into_iter()
            .find(|known| known.header().starts_with(there))
        else {
            return Err(framing(what_else(there)));
        };
        if there.len() < PROTOCOL_HEADER_BYTES {
            return Ok(None);
        }
        buffer.advance(PROTOCOL_HEADER_BYTES);
        Ok(Some(protocol))
    }
}

/// Words for a header that is none of ours.
fn what_else(there: &[u8]) -> &'static str {
    if there.starts_with(b"AMQP") {
        "an AMQP version or protocol id other than those of 1.0"
    } else if there.first() == Some(&0x16) {
        // The record type of a handshake, RFC 8446 §5.1.
        "a TLS handshake where plain AMQP is spoken"
    } else {
        "no AMQP protocol header"
    }
}

/// Takes one frame out of the buffer; `None` waits for more bytes, of which the buffer never
/// needs to hold more than `frame_bytes_max`: a frame that claims to be larger is refused by its
/// first 4 bytes. What follows a frame that was refused cannot be read.
pub fn split(buffer: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Frame>, Malformed> {
    let Some(size) = buffer.first_chunk() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*size) as usize;
    if size < FRAME_HEADER_BYTES {
        return Err(framing("a frame smaller than its header"));
    }
    if size > frame_bytes_max {
        return Err(framing(
            "a frame larger than the largest that is taken here",
        ));
    }
    let Some(&[_, _, _, _, doff, kind, high, low]) = buffer.first_chunk() else {
        return Ok(None);
    };
    let body_at = usize::from(doff) * 4;
    if body_at < FRAME_HEADER_BYTES || body_at > size {
        return Err(framing("a data offset outside of its frame"));
    }
    let kind = match kind {
        0 => FrameKind::Amqp,
        1 => FrameKind::Sasl,
        _ => return Err(framing("a frame type other than AMQP and SASL")),
    };
    if buffer.len() < size {
        return Ok(None);
    }
    let mut body = buffer.split_to(size).freeze();
    body.advance(body_at);
    Ok(Some(Frame {
        kind,
        channel: u16::from_be_bytes([high, low]),
        body,
    }))
}

const fn framing(what: &'static str) -> Malformed {
    Malformed::new(condition::FRAMING_ERROR, what, 0)
}

/// Appends a frame whose body is what `body` appends.
pub(super) fn write(
    kind: FrameKind,
    channel: u16,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let from = out.len();
    let kind = match kind {
        FrameKind::Amqp => 0,
        FrameKind::Sasl => 1,
    };
    let [high, low] = channel.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, 2, kind, high, low]);
    body(out);
    end(from, 0, out);
}

/// The size of the frame that began at `from` and ends with `payload_bytes` that are sent from
/// elsewhere.
pub(super) fn end(from: usize, payload_bytes: usize, out: &mut [u8]) {
    let size = u32::try_from(out.len() - from + payload_bytes);
    let size = size.expect("frames are cut to what a peer takes, which is told in 4 bytes");
    out[from..from + 4].copy_from_slice(&size.to_be_bytes());
}

/// Appends a frame that keeps the connection alive (§2.4.5).
pub fn write_heartbeat(out: &mut Vec<u8>) {
    write(FrameKind::Amqp, 0, out, |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Vec<u8> {
        let mut out = Vec::new();
        write_heartbeat(&mut out);
        out
    }

    #[test]
    fn a_header_says_what_is_spoken_from_here_on() {
        for protocol in [Protocol::Amqp, Protocol::Tls, Protocol::Sasl] {
            let header = protocol.header();
            for cut in 0..header.len() {
                let mut buffer = BytesMut::from(&header[..cut]);
                assert_eq!(Protocol::split(&mut buffer), Ok(None));
                assert_eq!(buffer, header[..cut]);
            }
            let mut buffer = BytesMut::from(&[&header[..], b"rest"].concat()[..]);
            assert_eq!(Protocol::split(&mut buffer), Ok(Some(protocol)));
            assert_eq!(&buffer[..], b"rest");
        }
    }

    #[test]
    fn a_wrong_header_is_told_by_its_first_wrong_byte() {
        for (start, what) in [
            (&b"G"[..], "no AMQP protocol header"),
            (b"AMQX", "no AMQP protocol header"),
            (
                b"\x16\x03\x01",
                "a TLS handshake where plain AMQP is spoken",
            ),
            (
                b"AMQP\x01",
                "an AMQP version or protocol id other than those of 1.0",
            ),
            (
                b"AMQP\0\0\x09\x01",
                "an AMQP version or protocol id other than those of 1.0",
            ),
            (
                b"AMQP\x03\x01\0\x01",
                "an AMQP version or protocol id other than those of 1.0",
            ),
        ] {
            let refused = Protocol::split(&mut BytesMut::from(start)).unwrap_err();
            assert_eq!(
                (refused.condition, refused.what),
                (condition::FRAMING_ERROR, what)
            );
        }
    }

    #[test]
    fn frames_are_split_wherever_reads_end() {
        let mut bytes = heartbeat();
        let from = bytes.len();
        write(FrameKind::Amqp, 0x102, &mut bytes, |out| out.push(b'a'));
        end(from, 3, &mut bytes);
        bytes.extend_from_slice(b"bcd");
        // An extended header of one word, which nobody reads.
        bytes.extend_from_slice(&[0, 0, 0, 14, 3, 1, 0, 7, 9, 9, 9, 9, b'x', b'y']);
        let frame = |kind, channel, body: &'static [u8]| Frame {
            kind,
            channel,
            body: Bytes::from_static(body),
        };
        let expect = [
            frame(FrameKind::Amqp, 0, b""),
            frame(FrameKind::Amqp, 0x102, b"abcd"),
            frame(FrameKind::Sasl, 7, b"xy"),
        ];
        for step in 1..=bytes.len() {
            let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
            for read in bytes.chunks(step) {
                buffer.extend_from_slice(read);
                while let Some(frame) = split(&mut buffer, 14).unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, expect, "reads of {step} bytes");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_body_is_a_slice_of_the_buffer() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 10, 2, 0, 0, 0, b'x', b'y'][..]);
        let range = buffer.as_ptr_range();
        let frame = split(&mut buffer, FRAME_BYTES_MIN).unwrap().unwrap();
        assert!(range.contains(&frame.body.as_ptr()));
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_waited_for() {
        for (start, what) in [
            (&[0, 0, 0, 7][..], "a frame smaller than its header"),
            (
                &[0, 0, 2, 1],
                "a frame larger than the largest that is taken here",
            ),
            (
                &[255; 4],
                "a frame larger than the largest that is taken here",
            ),
            (
                &[0, 0, 0, 16, 1, 0, 0, 0],
                "a data offset outside of its frame",
            ),
            (
                &[0, 0, 0, 16, 5, 0, 0, 0],
                "a data offset outside of its frame",
            ),
            (
                &[0, 0, 0, 16, 2, 2, 0, 0],
                "a frame type other than AMQP and SASL",
            ),
        ] {
            let refused = split(&mut BytesMut::from(start), FRAME_BYTES_MIN).unwrap_err();
            assert_eq!(
                (refused.condition, refused.what),
                (condition::FRAMING_ERROR, what)
            );
        }
        let largest = [&[0, 0, 2, 0, 2, 0, 0, 0][..], &[0x40; 504]].concat();
        let frame = split(&mut BytesMut::from(&largest[..]), FRAME_BYTES_MIN);
        assert_eq!(frame.unwrap().map(|frame| frame.body.len()), Some(504));
    }
}
