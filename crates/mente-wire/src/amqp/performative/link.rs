//! Attaching and detaching a link (§2.7.3, §2.7.7).

use super::transfer::Role;
use super::unknown_choice;
use crate::amqp::composite::{Composite, Field, Fields, Writer};
use crate::amqp::decode::Reader;
use crate::amqp::descriptor;
use crate::amqp::error::Malformed;
use crate::amqp::state::Error;
use crate::amqp::terminus::{Destination, Source};
use crate::amqp::value::{Map, Symbol, Text};

/// A link between a source and a target, by a handle of its session.
///
/// The refusal of a link is one with neither source nor target and a detach with the error
/// behind it; SDKs take any other attach for a link that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    pub name: Text,
    pub handle: u32,
    /// Of the sender of this.
    pub role: Role,
    pub sender_settles: SenderSettleMode,
    pub receiver_settles: ReceiverSettleMode,
    pub source: Option<Source>,
    pub target: Option<Destination>,
    /// By delivery tag, of a link that is resumed.
    pub unsettled: Option<Map>,
    pub incomplete_unsettled: bool,
    /// A serial number, which the standard wants of a sender.
    pub initial_delivery_count: Option<u32>,
    /// In bytes; none and 0 are no bound. Python's receivers say 1 MiB and take more.
    pub max_message_size: Option<u64>,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    /// SDKs exist that fail where an answer has none.
    pub properties: Option<Map>,
}

/// The end of a link, for now or for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detach {
    pub handle: u32,
    pub closed: bool,
    pub error: Option<Error>,
}

/// How a sender settles (§2.8.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenderSettleMode {
    Unsettled,
    Settled,
    #[default]
    Mixed,
}

/// When a receiver settles (§2.8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReceiverSettleMode {
    /// By itself.
    #[default]
    First,
    /// Once the sender has.
    Second,
}

impl Attach {
    /// A link that nothing is said of but this.
    pub fn new(name: Text, handle: u32, role: Role) -> Self {
        Self {
            name,
            handle,
            role,
            sender_settles: SenderSettleMode::default(),
            receiver_settles: ReceiverSettleMode::default(),
            source: None,
            target: None,
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: None,
            max_message_size: None,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: None,
        }
    }
}

impl Composite for Attach {
    const NAME: &'static str = "attach";
    const CODE: u64 = descriptor::ATTACH;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: fields.need("name")?,
            handle: fields.need("handle")?,
            role: fields.need("role")?,
            sender_settles: fields.get_or("snd-settle-mode", SenderSettleMode::Mixed)?,
            receiver_settles: fields.get_or("rcv-settle-mode", ReceiverSettleMode::First)?,
            source: fields.get("source")?,
            target: fields.get("target")?,
            unsettled: fields.get("unsettled")?,
            incomplete_unsettled: fields.get_or("incomplete-unsettled", false)?,
            initial_delivery_count: fields.get("initial-delivery-count")?,
            max_message_size: fields.get("max-message-size")?,
            offered_capabilities: fields.get_or("offered-capabilities", Vec::new())?,
            desired_capabilities: fields.get_or("desired-capabilities", Vec::new())?,
            properties: fields.get("properties")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.name)
            .put(&self.handle)
            .put(&self.role)
            .put(&self.sender_settles)
            .put(&self.receiver_settles)
            .maybe(&self.source)
            .maybe(&self.target)
            .maybe(&self.unsettled)
            .put(&self.incomplete_unsettled)
            .maybe(&self.initial_delivery_count)
            .maybe(&self.max_message_size)
            .put(&self.offered_capabilities)
            .put(&self.desired_capabilities)
            .maybe(&self.properties);
    }
}

impl Composite for Detach {
    const NAME: &'static str = "detach";
    const CODE: u64 = descriptor::DETACH;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            handle: fields.need("handle")?,
            closed: fields.get_or("closed", false)?,
            error: fields.get("error")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.handle)
            .put(&self.closed)
            .maybe(&self.error);
    }
}

impl Field for SenderSettleMode {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(Some(match u8::read(reader)? {
            None => return Ok(None),
            Some(0) => Self::Unsettled,
            Some(1) => Self::Settled,
            Some(2) => Self::Mixed,
            Some(_) => return Err(unknown_choice(reader)),
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let choice: u8 = match self {
            Self::Unsettled => 0,
            Self::Settled => 1,
            Self::Mixed => 2,
        };
        choice.write(out);
    }
}

impl Field for ReceiverSettleMode {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(Some(match u8::read(reader)? {
            None => return Ok(None),
            Some(0) => Self::First,
            Some(1) => Self::Second,
            Some(_) => return Err(unknown_choice(reader)),
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let choice: u8 = match self {
            Self::First => 0,
            Self::Second => 1,
        };
        choice.write(out);
    }
}
