//! The two sections with fields that the standard knows (§3.2.1, §3.2.4).

use bytes::Bytes;
use mente_engine::Timestamp;

use crate::amqp::composite::{self, Composite, Field, Fields, Writer};
use crate::amqp::decode::Reader;
use crate::amqp::descriptor;
use crate::amqp::encode;
use crate::amqp::error::Malformed;
use crate::amqp::value::{Symbol, Text, Uuid, Value};

/// How a message is delivered (§3.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub durable: bool,
    pub priority: u8,
    pub ttl_ms: Option<u32>,
    pub first_acquirer: bool,
    /// Deliveries before this one that failed.
    pub delivery_count: u32,
}

/// What does not change about a message (§3.2.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub message_id: Option<MessageId>,
    pub user_id: Option<Bytes>,
    pub to: Option<Text>,
    /// Service Bus' label.
    pub subject: Option<Text>,
    pub reply_to: Option<Text>,
    /// An answer has the request's message id here, in the same type: Python compares them so.
    pub correlation_id: Option<MessageId>,
    pub content_type: Option<Symbol>,
    pub content_encoding: Option<Symbol>,
    pub absolute_expiry_time: Option<Timestamp>,
    pub creation_time: Option<Timestamp>,
    /// Service Bus' session.
    pub group_id: Option<Text>,
    pub group_sequence: Option<u32>,
    pub reply_to_group_id: Option<Text>,
}

/// An id of one of four types (§3.2.11 to §3.2.14); equal ones are of the same type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageId {
    Ulong(u64),
    Uuid(Uuid),
    Binary(Bytes),
    String(Text),
}

/// What the standard says of a message without one.
impl Default for Header {
    fn default() -> Self {
        Self {
            durable: false,
            priority: 4,
            ttl_ms: None,
            first_acquirer: false,
            delivery_count: 0,
        }
    }
}

impl Header {
    /// The section, to be put into a message. All fields are written: a delivery count of 0 that
    /// was left out shows as none in two SDKs.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        composite::write(self, &mut out);
        out.into()
    }
}

impl Properties {
    /// The section, to be put into a message.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        composite::write(self, &mut out);
        out.into()
    }
}

impl Composite for Header {
    const NAME: &'static str = "header";
    const CODE: u64 = descriptor::HEADER;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            durable: fields.get_or("durable", false)?,
            priority: fields.get_or("priority", 4)?,
            ttl_ms: fields.get("ttl")?,
            first_acquirer: fields.get_or("first-acquirer", false)?,
            delivery_count: fields.get_or("delivery-count", 0)?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.durable)
            .put(&self.priority)
            .maybe(&self.ttl_ms)
            .put(&self.first_acquirer)
            .put(&self.delivery_count);
    }
}

impl Composite for Properties {
    const NAME: &'static str = "properties";
    const CODE: u64 = descriptor::PROPERTIES;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            message_id: fields.get("message-id")?,
            user_id: fields.get("user-id")?,
            to: fields.get("to")?,
            subject: fields.get("subject")?,
            reply_to: fields.get("reply-to")?,
            correlation_id: fields.get("correlation-id")?,
            content_type: fields.get("content-type")?,
            content_encoding: fields.get("content-encoding")?,
            absolute_expiry_time: fields.get("absolute-expiry-time")?,
            creation_time: fields.get("creation-time")?,
            group_id: fields.get("group-id")?,
            group_sequence: fields.get("group-sequence")?,
            reply_to_group_id: fields.get("reply-to-group-id")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .maybe(&self.message_id)
            .maybe(&self.user_id)
            .maybe(&self.to)
            .maybe(&self.subject)
            .maybe(&self.reply_to)
            .maybe(&self.correlation_id)
            .maybe(&self.content_type)
            .maybe(&self.content_encoding)
            .maybe(&self.absolute_expiry_time)
            .maybe(&self.creation_time)
            .maybe(&self.group_id)
            .maybe(&self.group_sequence)
            .maybe(&self.reply_to_group_id);
    }
}

impl Field for MessageId {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(Some(match reader.primitive()? {
            Value::Null => return Ok(None),
            Value::Ulong(number) => Self::Ulong(number),
            Value::Uuid(uuid) => Self::Uuid(uuid),
            Value::Binary(bytes) => Self::Binary(bytes),
            Value::String(text) => Self::String(text),
            _ => return Err(reader.malformed("an id of a type that ids do not have")),
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ulong(number) => encode::ulong(*number, out),
            Self::Uuid(uuid) => encode(&Value::Uuid(*uuid), out),
            Self::Binary(bytes) => bytes.write(out),
            Self::String(text) => text.write(out),
        }
    }
}
