//! What an end of a connection offers, and how much of everything it holds.

use std::time::Duration;

use crate::amqp::value::{Map, Symbol, Text};

/// Set by the door when it accepts a connection.
#[derive(Clone, Debug)]
pub struct Options {
    pub container_id: Text,
    pub properties: Map,
    /// In the order in which they are offered.
    pub mechanisms: Vec<Symbol>,
    /// Whether a client may begin with AMQP itself.
    pub without_sasl: bool,
    /// After how long without a frame the client is told to be taken for gone; it is after twice
    /// that long (§2.4.5).
    pub idle_time_out: Option<Duration>,
    pub limits: Limits,
}

/// Each of them is an upper bound that the peer is told of where the protocol has a word for it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest frame that is taken, and the largest that is sent even to peers who take more.
    /// At least [`FRAME_BYTES_MIN`](crate::amqp::frame::FRAME_BYTES_MIN).
    pub frame_bytes: u32,
    /// Sessions at one time, at least one.
    pub sessions: u16,
    /// Links of one session, at least one.
    pub links_per_session: u32,
    /// Links of all sessions.
    pub links: usize,
    /// Deliveries of one link that are not settled, in either direction.
    pub unsettled_per_link: usize,
    /// The same of all links.
    pub unsettled: usize,
    /// One delivery that comes in; a larger one ends its link.
    pub delivery_bytes: usize,
    /// What is gathered of a delivery before it is handed on, on links whose deliveries may be larger
    /// ([`bound`](super::Connection::bound)); an eighth of it from then on.
    pub part_bytes: usize,
    /// All deliveries that have begun to come in and not ended.
    pub partial_bytes: usize,
    /// What waits to be written. Nothing is read or sent beyond it; the answers to one frame may
    /// go over it.
    pub output_bytes: usize,
    /// Transfers that a peer may send on a session before it is told of more.
    pub incoming_window: u32,
    pub link_name_bytes: usize,
    /// From the first byte to the open of the client.
    pub open_within: Duration,
    /// From our close to that of the client.
    pub close_within: Duration,
    /// The least that a client may ask for as its time-out: a shorter one would have heartbeats
    /// for the most of the traffic.
    pub idle_time_out_min: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 << 10,
            sessions: 1_024,
            links_per_session: 256,
            links: 2_048,
            unsettled_per_link: 65_536,
            unsettled: 131_072,
            delivery_bytes: 1 << 20,
            part_bytes: 1 << 20,
            partial_bytes: 16 << 20,
            output_bytes: 1 << 20,
            incoming_window: 5_000,
            link_name_bytes: 1_024,
            open_within: Duration::from_secs(20),
            close_within: Duration::from_secs(5),
            idle_time_out_min: Duration::from_secs(1),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        let mechanisms = ["ANONYMOUS", "MSSBCBS", "PLAIN", "EXTERNAL"].map(Symbol::from_static);
        Self {
            container_id: Text::from_static("mente"),
            properties: Map::default(),
            mechanisms: mechanisms.into(),
            without_sasl: false,
            idle_time_out: Some(Duration::from_secs(120)),
            limits: Limits::default(),
        }
    }
}
