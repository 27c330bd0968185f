//! Opening and closing a connection (§2.7.1, §2.7.9).

use crate::amqp::composite::{Composite, Fields, Writer};
use crate::amqp::descriptor;
use crate::amqp::error::Malformed;
use crate::amqp::state::Error;
use crate::amqp::value::{Map, Symbol, Text};

/// The first performative of either end, on channel 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub container_id: Text,
    /// Whom the peer thinks that it speaks to.
    pub hostname: Option<Text>,
    /// Largest frame that the sender of this takes, in bytes. Under
    /// [`FRAME_BYTES_MIN`](crate::amqp::frame::FRAME_BYTES_MIN) it is not allowed.
    pub max_frame_size: u32,
    /// Highest channel that may be used.
    pub channel_max: u16,
    /// After how many milliseconds without a frame the sender of this closes; none is never.
    pub idle_time_out_ms: Option<u32>,
    pub outgoing_locales: Vec<Symbol>,
    pub incoming_locales: Vec<Symbol>,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Option<Map>,
}

/// The last performative of either end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Close {
    pub error: Option<Error>,
}

/// The standard's defaults, with an empty container id.
impl Default for Open {
    fn default() -> Self {
        Self {
            container_id: Text::default(),
            hostname: None,
            max_frame_size: u32::MAX,
            channel_max: u16::MAX,
            idle_time_out_ms: None,
            outgoing_locales: Vec::new(),
            incoming_locales: Vec::new(),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: None,
        }
    }
}

impl Composite for Open {
    const NAME: &'static str = "open";
    const CODE: u64 = descriptor::OPEN;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            container_id: fields.need("container-id")?,
            hostname: fields.get("hostname")?,
            max_frame_size: fields.get_or("max-frame-size", u32::MAX)?,
            channel_max: fields.get_or("channel-max", u16::MAX)?,
            idle_time_out_ms: fields.get("idle-time-out")?,
            outgoing_locales: fields.get_or("outgoing-locales", Vec::new())?,
            incoming_locales: fields.get_or("incoming-locales", Vec::new())?,
            offered_capabilities: fields.get_or("offered-capabilities", Vec::new())?,
            desired_capabilities: fields.get_or("desired-capabilities", Vec::new())?,
            properties: fields.get("properties")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.container_id)
            .maybe(&self.hostname)
            .put(&self.max_frame_size)
            .put(&self.channel_max)
            .maybe(&self.idle_time_out_ms)
            .put(&self.outgoing_locales)
            .put(&self.incoming_locales)
            .put(&self.offered_capabilities)
            .put(&self.desired_capabilities)
            .maybe(&self.properties);
    }
}

impl Composite for Close {
    const NAME: &'static str = "close";
    const CODE: u64 = descriptor::CLOSE;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            error: fields.get("error")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.maybe(&self.error);
    }
}
