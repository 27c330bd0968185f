//! Beginning and ending a session, and its flow (§2.7.2, §2.7.4, §2.7.8).

use crate::amqp::composite::{Composite, Fields, Writer};
use crate::amqp::descriptor;
use crate::amqp::error::Malformed;
use crate::amqp::state::Error;
use crate::amqp::value::{Map, Symbol};

/// A session of transfers on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The channel of the begin that this one answers.
    pub remote_channel: Option<u16>,
    /// A serial number (RFC 1982): it goes on from 0 behind the highest.
    pub next_outgoing_id: u32,
    /// How many transfers the sender of this takes; .NET says the highest number there is.
    pub incoming_window: u32,
    pub outgoing_window: u32,
    /// Highest handle that may be used.
    pub handle_max: u32,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Option<Map>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub error: Option<Error>,
}

/// Windows of a session, and with a handle the credit of a link too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Not before the begin of the other end has come.
    pub next_incoming_id: Option<u32>,
    pub incoming_window: u32,
    pub next_outgoing_id: u32,
    pub outgoing_window: u32,
    /// The link that what follows is of; none is the session alone.
    pub handle: Option<u32>,
    /// A serial number. It is written as it is, 0 too, where there is one: readers exist that
    /// take a missing one for no number.
    pub delivery_count: Option<u32>,
    pub link_credit: Option<u32>,
    pub available: Option<u32>,
    pub drain: bool,
    /// Asks the other end for its own.
    pub echo: bool,
    pub properties: Option<Map>,
}

/// The standard's default of the highest handle, and windows of nothing.
impl Default for Begin {
    fn default() -> Self {
        Self {
            remote_channel: None,
            next_outgoing_id: 0,
            incoming_window: 0,
            outgoing_window: 0,
            handle_max: u32::MAX,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: None,
        }
    }
}

impl Composite for Begin {
    const NAME: &'static str = "begin";
    const CODE: u64 = descriptor::BEGIN;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            remote_channel: fields.get("remote-channel")?,
            next_outgoing_id: fields.need("next-outgoing-id")?,
            incoming_window: fields.need("incoming-window")?,
            outgoing_window: fields.need("outgoing-window")?,
            handle_max: fields.get_or("handle-max", u32::MAX)?,
            offered_capabilities: fields.get_or("offered-capabilities", Vec::new())?,
            desired_capabilities: fields.get_or("desired-capabilities", Vec::new())?,
            properties: fields.get("properties")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .maybe(&self.remote_channel)
            .put(&self.next_outgoing_id)
            .put(&self.incoming_window)
            .put(&self.outgoing_window)
            .put(&self.handle_max)
            .put(&self.offered_capabilities)
            .put(&self.desired_capabilities)
            .maybe(&self.properties);
    }
}

impl Composite for End {
    const NAME: &'static str = "end";
    const CODE: u64 = descriptor::END;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            error: fields.get("error")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.maybe(&self.error);
    }
}

impl Composite for Flow {
    const NAME: &'static str = "flow";
    const CODE: u64 = descriptor::FLOW;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            next_incoming_id: fields.get("next-incoming-id")?,
            incoming_window: fields.need("incoming-window")?,
            next_outgoing_id: fields.need("next-outgoing-id")?,
            outgoing_window: fields.need("outgoing-window")?,
            handle: fields.get("handle")?,
            delivery_count: fields.get("delivery-count")?,
            link_credit: fields.get("link-credit")?,
            available: fields.get("available")?,
            drain: fields.get_or("drain", false)?,
            echo: fields.get_or("echo", false)?,
            properties: fields.get("properties")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .maybe(&self.next_incoming_id)
            .put(&self.incoming_window)
            .put(&self.next_outgoing_id)
            .put(&self.outgoing_window)
            .maybe(&self.handle)
            .maybe(&self.delivery_count)
            .maybe(&self.link_credit)
            .maybe(&self.available)
            .put(&self.drain)
            .put(&self.echo)
            .maybe(&self.properties);
    }
}
