//! A connection as a value: bytes in, events out, commands in, bytes out (part 2 §2.4 to §2.6).
//!
//! ```text
//!            bytes ──▶ receive ──▶ Event ──▶ door
//!   socket                                    │ accept, grant, send, settle, …
//!            bytes ◀── poll_output ◀──────────┘
//! ```
//! No socket, no clock, no executor. The machine keeps the numbers of the protocol right: frames,
//! channels, handles, windows, credit that was given, ids of deliveries, time-outs. What the
//! numbers are for is the door's: it grants credit, settles, drains, refuses and names
//! deliveries, and nothing of that happens without its command.
//!
//! [`receive`](Connection::receive) returns one event at a time and reads no further, so that no
//! queue of events exists; a door that wants no more for now does not call it. Everything else
//! that is kept has its bound in [`Limits`].
//!
//! Start reading at [`event`], then here, then `session`, `link`, `incoming`, `outgoing`.

pub mod event;
pub mod options;

mod commands;
mod incoming;
mod link;
mod opening;
mod outgoing;
mod session;
mod settle;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

pub use event::{
    By, Delivery, DeliveryId, Disposed, Event, LinkId, Outgoing, Part, Refused, SessionId,
};
pub use options::{Limits, Options};

use super::error::{Malformed, condition};
use super::frame::{self, FRAME_BYTES_MIN, Frame, FrameKind, Protocol};
use super::performative::{Begin, Close, End, Performative};
use super::sasl::Sasl;
use super::state::Error;
use opening::Phase;
use session::Session;
use wire::{Fault, Wire, free_number};

/// The server's end of one connection.
#[derive(Debug)]
pub struct Connection {
    options: Options,
    phase: Phase,
    wire: Wire,
    /// By the peer's number.
    channels: BTreeMap<u16, Channel>,
    /// Where sessions that are there are, by the peer's channel.
    sessions: BTreeMap<SessionId, u16>,
    sessions_begun: u64,
    peer_channel_max: u16,
    /// How long the peer waits for a sign of ours.
    peer_idle: Option<Duration>,
    /// The latest moment that anybody told.
    now: Duration,
    /// When the last frame came, and when the last one went.
    heard: Duration,
    spoke: Duration,
    /// The door reads nothing at present, so that nothing can come.
    is_deaf: bool,
    /// What came with the last event, or by a command.
    untold: Option<Event>,
}

#[derive(Debug)]
struct Channel {
    /// Ours.
    out: u16,
    /// None if we have ended it and the peer has not: what it still sends is passed over.
    session: Option<Session>,
}

enum Input {
    Header(Protocol),
    Frame(Frame),
}

impl Connection {
    /// `now` is any clock that only goes forward.
    pub fn new(mut options: Options, now: Duration) -> Self {
        let frame_bytes = &mut options.limits.frame_bytes;
        *frame_bytes = (*frame_bytes).max(FRAME_BYTES_MIN as u32);
        Self {
            phase: Phase::Greeting {
                until: now + options.limits.open_within,
            },
            wire: Wire::new(FRAME_BYTES_MIN),
            channels: BTreeMap::new(),
            sessions: BTreeMap::new(),
            sessions_begun: 0,
            peer_channel_max: 0,
            peer_idle: None,
            now,
            heard: now,
            spoke: now,
            is_deaf: false,
            untold: None,
            options,
        }
    }

    /// Takes frames out of `bytes` up to the first one that is an event. Without an event more
    /// bytes are needed, or what [`wants_bytes`](Self::wants_bytes) says.
    pub fn receive(&mut self, bytes: &mut BytesMut, now: Duration) -> Option<Event> {
        self.now = self.now.max(now);
        if let Some(event) = self.untold.take() {
            return Some(event);
        }
        while self.wants_bytes() {
            let input = match self.split(bytes) {
                Ok(Some(input)) => input,
                Ok(None) => return None,
                Err(malformed) => return self.illegible(malformed, bytes),
            };
            self.heard = self.now;
            let taken = match input {
                Input::Header(protocol) => self.greeted(protocol),
                Input::Frame(frame) => self.frame(&frame),
            };
            let event = match taken {
                Ok(event) => event,
                Err(fault) => self.fail(fault),
            };
            self.check_overlong();
            let event = event.or_else(|| self.untold.take());
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Whether there is any use in more bytes: not while the door has to say who the peer is, not
    /// while too much waits to be written, and not after the end. A door that reads on
    /// nevertheless keeps the bytes in its own buffer.
    pub fn wants_bytes(&self) -> bool {
        let is_deaf = matches!(self.phase, Phase::Judged { .. } | Phase::Finished);
        !is_deaf && self.wire.written_bytes() < self.options.limits.output_bytes
    }

    /// What is to be written, in this order. The door calls it after events and commands.
    pub fn poll_output(&mut self, now: Duration) -> Option<Bytes> {
        self.now = self.now.max(now);
        for session in self
            .channels
            .values_mut()
            .filter_map(|channel| channel.session.as_mut())
        {
            session.pump(&mut self.wire);
        }
        self.wire.frame_last();
        self.check_overlong();
        let out = self.wire.take();
        if out.is_some() {
            self.spoke = self.now;
        }
        out
    }

    /// Whether [`send`](Self::send) finds room.
    pub const fn has_room(&self) -> bool {
        self.wire.has_room(&self.options.limits)
    }

    /// What is held of deliveries that have begun to come in.
    pub const fn partial_bytes(&self) -> usize {
        self.wire.partial_bytes
    }

    /// Whether nothing more is read. The door writes what is left and closes its socket.
    pub const fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    fn split(&mut self, bytes: &mut BytesMut) -> Result<Option<Input>, Malformed> {
        let most = match self.phase {
            Phase::Greeting { .. } | Phase::Trusted { .. } => {
                return Ok(Protocol::split(bytes)?.map(Input::Header));
            }
            Phase::Offered { .. } | Phase::Challenged { .. } => FRAME_BYTES_MIN,
            Phase::Closing {
                is_legible: false, ..
            } => {
                bytes.clear();
                return Ok(None);
            }
            _ => self.options.limits.frame_bytes as usize,
        };
        Ok(frame::split(bytes, most)?.map(Input::Frame))
    }

    fn frame(&mut self, frame: &Frame) -> Result<Option<Event>, Fault> {
        let is_sasl = matches!(self.phase, Phase::Offered { .. } | Phase::Challenged { .. });
        if is_sasl != (frame.kind == FrameKind::Sasl) {
            let words = "a frame of SASL where AMQP is spoken, or the other way round";
            return Err(Fault::connection(condition::FRAMING_ERROR, words));
        }
        if is_sasl {
            let sasl = Sasl::decode(&frame.body).map_err(Fault::malformed)?;
            return self.sasl(sasl);
        }
        if frame.body.is_empty() {
            return Ok(None);
        }
        let (performative, payload) =
            Performative::decode(&frame.body).map_err(Fault::malformed)?;
        if self.is_closing() {
            if matches!(performative, Performative::Close(_)) {
                self.phase = Phase::Finished;
            }
            return Ok(None);
        }
        match (&self.phase, performative) {
            (Phase::Unopened { .. }, Performative::Open(open)) => self.opened(open).map(Some),
            (Phase::Open, Performative::Close(close)) => Ok(Some(self.closed(close))),
            (Phase::Open, Performative::Begin(begin)) => self.begun(frame.channel, begin).map(Some),
            (Phase::Open, Performative::End(end)) => Ok(self.ended(frame.channel, end)),
            (Phase::Open, performative) if !matches!(performative, Performative::Open(_)) => {
                self.of_session(frame.channel, performative, payload)
            }
            _ => {
                let words = "an open that is not the first frame, or a first frame that is not one";
                Err(Fault::connection(condition::NOT_ALLOWED, words))
            }
        }
    }

    fn begun(&mut self, channel: u16, begin: Box<Begin>) -> Result<Event, Fault> {
        let limits = self.options.limits;
        if channel >= limits.sessions {
            let words = "a channel above the highest of the connection";
            return Err(Fault::connection(condition::FRAMING_ERROR, words));
        }
        if begin.remote_channel.is_some() || self.channels.contains_key(&channel) {
            let words = "a begin on a channel with a session, or in answer to none";
            return Err(Fault::connection(condition::NOT_ALLOWED, words));
        }
        let is_used = |number| {
            let mut taken = self.channels.values();
            taken.any(|channel| u32::from(channel.out) == number)
        };
        let out = free_number(channel.into(), self.peer_channel_max.into(), is_used);
        let Some(out) = out.and_then(|out| u16::try_from(out).ok()) else {
            let words = "no channel is left that the open of the connection allows for an answer";
            return Err(Fault::connection(condition::RESOURCE_LIMIT_EXCEEDED, words));
        };
        let id = SessionId(self.sessions_begun);
        self.sessions_begun += 1;
        let session = Session::begin(id, channel, out, &begin, limits, &mut self.wire);
        self.sessions.insert(id, channel);
        let session = Some(session);
        self.channels.insert(channel, Channel { out, session });
        Ok(Event::Begun { session: id, begin })
    }

    fn ended(&mut self, channel: u16, end: End) -> Option<Event> {
        // Of a channel without a session: the same leniency as for a detach.
        let session = self.channels.remove(&channel)?.session?;
        let id = session.id;
        self.sessions.remove(&id);
        let answer = Performative::End(End::default());
        self.wire.put(session.channel, &answer);
        session.close(&mut self.wire);
        Some(Event::Ended {
            session: id,
            by: By::Peer,
            error: end.error,
        })
    }

    /// What has a session around it.
    fn of_session(
        &mut self,
        channel: u16,
        performative: Performative,
        payload: Bytes,
    ) -> Result<Option<Event>, Fault> {
        let Some(found) = self.channels.get_mut(&channel) else {
            // Python detaches links behind the end of their session.
            return match performative {
                Performative::Detach(_) => Ok(None),
                _ => Err(Fault::connection(
                    condition::NOT_ALLOWED,
                    "a frame on a channel without a session",
                )),
            };
        };
        let Some(session) = &mut found.session else {
            return Ok(None);
        };
        let wire = &mut self.wire;
        match performative {
            Performative::Attach(attach) => session.attach(*attach, wire).map(Some),
            Performative::Detach(detach) => Ok(session.detached(detach, wire)),
            Performative::Flow(flow) => {
                let (event, is_opened) = session.receive_flow(&flow, wire)?;
                let opened = is_opened.then_some(Event::Window {
                    session: session.id,
                });
                // At most one event is told at a time.
                if event.is_some() {
                    self.untold = opened;
                    return Ok(event);
                }
                Ok(opened)
            }
            Performative::Transfer(transfer) => session.transfer(transfer, payload, wire),
            Performative::Disposition(disposition) => session.disposition(disposition, wire),
            Performative::Open(_)
            | Performative::Begin(_)
            | Performative::End(_)
            | Performative::Close(_) => Ok(None),
        }
    }

    /// Ends what has to end, and tells the peer.
    fn fail(&mut self, fault: Fault) -> Option<Event> {
        match fault {
            Fault::Connection(_) if self.is_closing() => {
                // It has been told of the end, and nothing is made of what it says.
                self.phase = self.phase.illegible();
                None
            }
            Fault::Connection(error) => Some(self.fail_connection(error, true)),
            Fault::Session(session, error) => {
                self.end_session(session, Some(error.clone())).ok()?;
                Some(Event::Ended {
                    session,
                    by: By::Machine,
                    error: Some(error),
                })
            }
            Fault::Link(link, error) => {
                let (session, wire) = self.session(link.session).ok()?;
                session
                    .detach(link.serial, Some(error.clone()), wire)
                    .ok()?;
                Some(Event::Detached {
                    link,
                    by: By::Machine,
                    closed: true,
                    error: Some(error),
                })
            }
        }
    }

    const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// What follows cannot be read.
    fn illegible(&mut self, malformed: Malformed, bytes: &mut BytesMut) -> Option<Event> {
        bytes.clear();
        if self.is_closing() {
            self.phase = self.phase.illegible();
            return None;
        }
        Some(self.fail_connection(malformed.into(), false))
    }

    /// A frame that had to be larger than the peer takes.
    fn check_overlong(&mut self) {
        if std::mem::take(&mut self.wire.is_overlong) && matches!(self.phase, Phase::Open) {
            let words = "a frame does not fit into what the peer takes";
            let error = Error::new(condition::FRAME_SIZE_TOO_SMALL, words);
            self.untold = Some(self.fail_connection(error, true));
        }
    }

    fn end_session(&mut self, id: SessionId, error: Option<Error>) -> Result<(), Refused> {
        let channel = self.sessions.remove(&id).ok_or(Refused::Gone)?;
        let found = self.channels.get_mut(&channel).ok_or(Refused::Gone)?;
        let session = found.session.take().ok_or(Refused::Gone)?;
        let end = Performative::End(End { error });
        self.wire.put(session.channel, &end);
        session.close(&mut self.wire);
        Ok(())
    }

    fn session(&mut self, id: SessionId) -> Result<(&mut Session, &mut Wire), Refused> {
        let channel = self.sessions.get(&id).ok_or(Refused::Gone)?;
        let found = self.channels.get_mut(channel).ok_or(Refused::Gone)?;
        let session = found.session.as_mut().ok_or(Refused::Gone)?;
        Ok((session, &mut self.wire))
    }

    /// Drops all sessions, of which nothing can be said any more.
    fn drop_sessions(&mut self) {
        self.untold = None;
        self.sessions.clear();
        for session in std::mem::take(&mut self.channels).into_values() {
            if let Some(session) = session.session {
                session.close(&mut self.wire);
            }
        }
    }

    fn closed(&mut self, close: Close) -> Event {
        self.drop_sessions();
        let answer = Performative::Close(Close::default());
        self.wire.put(0, &answer);
        self.phase = Phase::Finished;
        Event::Closed {
            by: By::Peer,
            error: close.error,
        }
    }
}
