//! Deliveries and what becomes of them (§2.7.5, §2.7.6).

use bytes::Bytes;

use super::ReceiverSettleMode;
use crate::amqp::composite::{self, Composite, Field, Fields, Writer};
use crate::amqp::decode::Reader;
use crate::amqp::descriptor;
use crate::amqp::error::Malformed;
use crate::amqp::frame::{self, FrameKind};
use crate::amqp::state::DeliveryState;

/// Longest delivery tag (§2.8.7).
pub const DELIVERY_TAG_BYTES: usize = 32;

/// Which end of a link (§2.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
}

/// A delivery, or a part of one: its payload stands behind it in the frame.
///
/// Only the first part must say id, tag and format. Python repeats tag and format on the others,
/// which is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    pub handle: u32,
    /// A serial number.
    pub delivery_id: Option<u32>,
    /// Of at most [`DELIVERY_TAG_BYTES`]. Service Bus has the lock token there.
    pub delivery_tag: Option<Bytes>,
    /// What the payload is: 0 is one message of part 3.
    pub message_format: Option<u32>,
    /// None is not settled on a first part, and as before on the others.
    pub settled: Option<bool>,
    /// Whether more parts follow.
    pub more: bool,
    pub receiver_settles: Option<ReceiverSettleMode>,
    pub state: Option<DeliveryState>,
    pub resume: bool,
    pub aborted: bool,
    pub batchable: bool,
}

/// What has become of deliveries, from the first to the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// Of the sender of this.
    pub role: Role,
    pub first: u32,
    /// That one included; none is `first` alone. The range is the peer's claim: who walks it
    /// bounds it by the deliveries that are known.
    pub last: Option<u32>,
    pub settled: bool,
    pub state: Option<DeliveryState>,
    pub batchable: bool,
}

impl Transfer {
    /// Appends a frame of at most `frame_bytes_max` for as many of `payload_bytes` as fit,
    /// without the payload, and says how many they are: the caller sends them behind it, from
    /// wherever they lie. `more` is set if some are left, or more of them `is_to_come`, for the next frame of
    /// this delivery.
    ///
    /// None, and nothing is appended, if there is no room for a byte of payload. The smallest
    /// frame that a peer may ask for has room for any transfer but one whose state carries a map.
    pub fn write_frame(
        &mut self,
        channel: u16,
        payload_bytes: usize,
        is_to_come: bool,
        frame_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let from = out.len();
        self.more = is_to_come;
        frame::write(FrameKind::Amqp, channel, out, |out| {
            composite::write(self, out)
        });
        // Whether there is more takes one byte in either case.
        let room = frame_bytes_max.saturating_sub(out.len() - from);
        let fitting = payload_bytes.min(room);
        if fitting < payload_bytes {
            self.more = true;
            out.truncate(from);
            if fitting == 0 {
                return None;
            }
            frame::write(FrameKind::Amqp, channel, out, |out| {
                composite::write(self, out)
            });
        }
        frame::end(from, fitting, out);
        Some(fitting)
    }
}

impl Disposition {
    /// One delivery, settled with this state.
    pub const fn settled(role: Role, delivery_id: u32, state: DeliveryState) -> Self {
        Self {
            role,
            first: delivery_id,
            last: None,
            settled: true,
            state: Some(state),
            batchable: false,
        }
    }
}

impl Composite for Transfer {
    const NAME: &'static str = "transfer";
    const CODE: u64 = descriptor::TRANSFER;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        let handle = fields.need("handle")?;
        let delivery_id = fields.get("delivery-id")?;
        let delivery_tag: Option<Bytes> = fields.get("delivery-tag")?;
        if delivery_tag
            .as_ref()
            .is_some_and(|tag| tag.len() > DELIVERY_TAG_BYTES)
        {
            return Err(fields.invalid("delivery-tag", "a tag of more than 32 bytes"));
        }
        Ok(Self {
            handle,
            delivery_id,
            delivery_tag,
            message_format: fields.get("message-format")?,
            settled: fields.get("settled")?,
            more: fields.get_or("more", false)?,
            receiver_settles: fields.get("rcv-settle-mode")?,
            state: fields.get("state")?,
            resume: fields.get_or("resume", false)?,
            aborted: fields.get_or("aborted", false)?,
            batchable: fields.get_or("batchable", false)?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.handle)
            .maybe(&self.delivery_id)
            .maybe(&self.delivery_tag)
            .maybe(&self.message_format)
            .maybe(&self.settled)
            .put(&self.more)
            .maybe(&self.receiver_settles)
            .maybe(&self.state)
            .put(&self.resume)
            .put(&self.aborted)
            .put(&self.batchable);
    }
}

impl Composite for Disposition {
    const NAME: &'static str = "disposition";
    const CODE: u64 = descriptor::DISPOSITION;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            role: fields.need("role")?,
            first: fields.need("first")?,
            last: fields.get("last")?,
            settled: fields.get_or("settled", false)?,
            state: fields.get("state")?,
            batchable: fields.get_or("batchable", false)?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.role)
            .put(&self.first)
            .maybe(&self.last)
            .put(&self.settled)
            .maybe(&self.state)
            .put(&self.batchable);
    }
}

impl Field for Role {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let role = bool::read(reader)?;
        Ok(role.map(|is_receiver| {
            if is_receiver {
                Self::Receiver
            } else {
                Self::Sender
            }
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        (*self == Self::Receiver).write(out);
    }
}
