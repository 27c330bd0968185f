//! What an event's attributes and data do not say of a message, as the event's rest:
//!
//! ```text
//! door u8 = 1 (AMQP) · form u8 (0 no body, 1 data sections, 2 a string, 3 a binary, 4 kept whole)
//! · if data sections: count u32 · { length u32 } of each section but the last
//! · the sections as they came, but what queues say in annotations and, unless kept whole, the body
//! ```
//! Anybody may have written the record that it lies in: what cannot be read counts as no rest.

use bytes::{Buf, Bytes};
use mente_engine::Event;

use super::Stamp;
use super::attributes::properties_of;
use super::body::Form;
use crate::amqp::message::{Body, Header, MapSection, Message, MessageId, Properties};
use crate::amqp::value::{Map, Symbol, Text};
use crate::cloudevents;

const AMQP: u8 = 1;
const NONE: u8 = 0;
const DATA: u8 = 1;
const TEXT: u8 = 2;
const BINARY: u8 = 3;
const WHOLE: u8 = 4;

/// A message but for what the event says of it, to be kept.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub(super) header: Header,
    pub(super) delivery: Map,
    pub(super) annotations: Map,
    pub(super) properties: Properties,
    /// The application properties.
    pub(super) sent: Map,
    pub(super) form: Form,
    pub(super) footer: Option<Bytes>,
}

/// Both sections, without what queues say there.
pub(super) struct Annotations {
    pub(super) delivery: Option<Bytes>,
    pub(super) message: Option<Bytes>,
}

/// The rest of a message whose sections can be read.
pub(super) fn encode(message: &Message, annotations: Annotations, form: &Form) -> Bytes {
    let sections = Message {
        delivery_annotations: annotations.delivery,
        message_annotations: annotations.message,
        body: match form {
            Form::Whole(body) => body.clone(),
            _ => Body::default(),
        },
        ..message.clone()
    };
    let lengths = match form {
        Form::Data(lengths) => 4 * (1 + lengths.len()),
        _ => 0,
    };
    let mut out = Vec::with_capacity(2 + lengths + sections.size_bytes());
    out.extend_from_slice(&[AMQP, form.code()]);
    if let Form::Data(lengths) = form {
        out.extend_from_slice(&(lengths.len() as u32).to_be_bytes());
        for length in lengths {
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    sections.write(&mut out);
    out.into()
}

impl Rest {
    pub(super) fn decode(rest: &Bytes) -> Option<Self> {
        let mut left = rest.clone();
        if left.try_get_u8().ok()? != AMQP {
            return None;
        }
        let code = left.try_get_u8().ok()?;
        let lengths = match code {
            DATA => lengths(&mut left)?,
            _ => Vec::new(),
        };
        let message = Message::split(&left).ok()?;
        let sent = message.read_map(MapSection::ApplicationProperties).ok()?;
        // Names are looked for by their text, also by SDKs.
        if sent.0.iter().any(|(name, _)| name.as_str().is_none()) {
            return None;
        }
        Some(Self {
            header: message.read_header().ok()?,
            delivery: message.read_map(MapSection::DeliveryAnnotations).ok()?,
            annotations: message.read_map(MapSection::MessageAnnotations).ok()?,
            properties: message.read_properties().ok()?,
            sent,
            form: match code {
                NONE => Form::None,
                DATA => Form::Data(lengths),
                TEXT => Form::Text,
                BINARY => Form::Binary,
                WHOLE => Form::Whole(message.body),
                _ => return None,
            },
            footer: message.footer,
        })
    }

    /// What there is to say of an event that came through another door.
    pub(super) fn of_stranger(event: &Event, stamp: &Stamp<'_>) -> Self {
        let declared = cloudevents::content_type(event).map(Bytes::from);
        let key = event.key.as_ref().filter(|_| stamp.has_sessions).cloned();
        let properties = Properties {
            message_id: Some(MessageId::String(event.id.as_str().into())),
            subject: event.subject.as_deref().map(Into::into),
            content_type: declared.and_then(Symbol::from_ascii),
            group_id: key.and_then(Text::from_utf8),
            ..Properties::default()
        };
        Self {
            header: Header::default(),
            delivery: Map::default(),
            annotations: Map::default(),
            properties,
            sent: properties_of(event, stamp.dead_letter),
            form: Form::Data(Vec::new()),
            footer: None,
        }
    }
}

impl Rest {
    /// Once more, with what was changed of it.
    pub(super) fn encode(self) -> Bytes {
        let section = |section: MapSection, map: &Map| {
            let is_there = !map.0.is_empty();
            is_there.then(|| section.encode(map))
        };
        let message = Message {
            header: Some(self.header.encode()),
            properties: Some(self.properties.encode()),
            application_properties: section(MapSection::ApplicationProperties, &self.sent),
            footer: self.footer,
            ..Message::default()
        };
        let annotations = Annotations {
            delivery: section(MapSection::DeliveryAnnotations, &self.delivery),
            message: section(MapSection::MessageAnnotations, &self.annotations),
        };
        encode(&message, annotations, &self.form)
    }
}

impl Form {
    const fn code(&self) -> u8 {
        match self {
            Self::None => NONE,
            Self::Data(_) => DATA,
            Self::Text => TEXT,
            Self::Binary => BINARY,
            Self::Whole(_) => WHOLE,
        }
    }
}

fn lengths(left: &mut Bytes) -> Option<Vec<u32>> {
    let count = left.try_get_u32().ok()? as usize;
    let bytes = count.checked_mul(4).filter(|bytes| *bytes <= left.len())?;
    let lengths = left.split_to(bytes);
    let length = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
    };
    Some(lengths.chunks_exact(4).map(length).collect())
}
