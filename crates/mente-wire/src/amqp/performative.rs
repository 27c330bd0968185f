//! Performatives: what the two ends of a connection tell each other (part 2 §2.7).

mod connection;
mod link;
mod session;
mod transfer;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use connection::{Close, Open};
pub use link::{Attach, Detach, ReceiverSettleMode, SenderSettleMode};
pub use session::{Begin, End, Flow};
pub use transfer::{DELIVERY_TAG_BYTES, Disposition, Role, Transfer};

use super::composite::{self, Composite};
use super::decode::Reader;
use super::descriptor;
use super::error::{Malformed, condition};
use super::frame::{self, FrameKind};

/// What a frame of the type AMQP says. Texts, tags and maps in it are slices of the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performative {
    Open(Box<Open>),
    Begin(Box<Begin>),
    Attach(Box<Attach>),
    Flow(Box<Flow>),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach(Detach),
    End(End),
    Close(Close),
}

impl Performative {
    /// The performative of a frame's body and what lies behind it, which is empty but for a
    /// transfer: there it is the payload, a slice of the body.
    ///
    /// The body must not be empty: a frame without one has no performative.
    pub fn decode(body: &Bytes) -> Result<(Self, Bytes), Malformed> {
        let mut reader = Reader::new(body);
        let code = composite::read_descriptor(&mut reader)?;
        let performative = match code {
            Some(descriptor::OPEN) => Self::Open(Box::new(read(&mut reader)?)),
            Some(descriptor::BEGIN) => Self::Begin(Box::new(read(&mut reader)?)),
            Some(descriptor::ATTACH) => Self::Attach(Box::new(read(&mut reader)?)),
            Some(descriptor::FLOW) => Self::Flow(Box::new(read(&mut reader)?)),
            Some(descriptor::TRANSFER) => Self::Transfer(read(&mut reader)?),
            Some(descriptor::DISPOSITION) => Self::Disposition(read(&mut reader)?),
            Some(descriptor::DETACH) => Self::Detach(read(&mut reader)?),
            Some(descriptor::END) => Self::End(read(&mut reader)?),
            Some(descriptor::CLOSE) => Self::Close(read(&mut reader)?),
            Some(_) => return Err(composite::unknown(&reader)),
            None => return Err(reader.malformed("null in place of a performative")),
        };
        let payload = body.slice(reader.at()..);
        if !payload.is_empty() && !matches!(performative, Self::Transfer(_)) {
            return Err(reader.malformed("bytes behind a performative that carries none"));
        }
        Ok((performative, payload))
    }

    /// Appends the performative without a frame around it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open(open) => composite::write(&**open, out),
            Self::Begin(begin) => composite::write(&**begin, out),
            Self::Attach(attach) => composite::write(&**attach, out),
            Self::Flow(flow) => composite::write(&**flow, out),
            Self::Transfer(transfer) => composite::write(transfer, out),
            Self::Disposition(disposition) => composite::write(disposition, out),
            Self::Detach(detach) => composite::write(detach, out),
            Self::End(end) => composite::write(end, out),
            Self::Close(close) => composite::write(close, out),
        }
    }

    /// Appends a whole frame. A transfer goes so only if it has no payload
    /// ([`Transfer::write_frame`] otherwise).
    pub fn write_frame(&self, channel: u16, out: &mut Vec<u8>) {
        frame::write(FrameKind::Amqp, channel, out, |out| self.encode(out));
    }
}

fn read<T: Composite>(reader: &mut Reader<'_>) -> Result<T, Malformed> {
    composite::read_fields(reader)
}

/// A number that its field has no meaning for.
pub(super) fn unknown_choice(reader: &Reader<'_>) -> Malformed {
    let what = "a value that the field has no meaning for";
    Malformed::new(condition::INVALID_FIELD, what, reader.at())
}
