//! A client that says what a test wants, byte by byte of the codec.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::audit::Audit;
use crate::amqp::frame::{self, Protocol};
use crate::amqp::machine::{Connection, Event, Limits, LinkId, Options, SessionId};
use crate::amqp::performative::{Attach, Begin, Flow, Open, Role, Transfer};
use crate::amqp::sasl::{Init, SaslCode};
use crate::amqp::{Destination, Performative, Sasl, Source, Symbol, Target};

pub(super) struct Peer {
    pub(super) machine: Connection,
    pub(super) now: Duration,
    input: BytesMut,
    output: BytesMut,
    /// None if the client's own nonsense is more than the audit follows.
    audit: Option<Audit>,
}

/// Bounds that tests reach.
pub(super) fn limits() -> Limits {
    Limits {
        frame_bytes: 1_024,
        sessions: 4,
        links_per_session: 8,
        links: 16,
        unsettled_per_link: 10,
        unsettled: 15,
        delivery_bytes: 4_000,
        partial_bytes: 10_000,
        output_bytes: 8_000,
        incoming_window: 10,
        ..Limits::default()
    }
}

impl Peer {
    /// Before the first byte.
    pub(super) fn new(options: Options) -> Self {
        Self {
            machine: Connection::new(options, Duration::ZERO),
            now: Duration::ZERO,
            input: BytesMut::new(),
            output: BytesMut::new(),
            audit: Some(Audit::default()),
        }
    }

    /// Behind the exchange of opens.
    pub(super) fn opened(limits: Limits, open: Open) -> Self {
        let options = Options {
            limits,
            ..Options::default()
        };
        let mut peer = Self::new(options);
        peer.authenticated();
        let opened = peer.say(0, &Performative::Open(Box::new(open.clone())));
        assert_eq!(opened, [Event::Opened(Box::new(open))]);
        let heard = peer.hear();
        assert!(
            matches!(&heard[..], [(0, Performative::Open(_), _)]),
            "{heard:?}"
        );
        peer
    }

    pub(super) fn unaudited(limits: Limits) -> Self {
        let mut peer = Self::opened(limits, Open::default());
        peer.audit = None;
        peer
    }

    pub(super) fn authenticated(&mut self) {
        assert_eq!(self.say_bytes(&Protocol::Sasl.header()), []);
        let init = Init {
            mechanism: Symbol::from_static("ANONYMOUS"),
            ..Init::default()
        };
        let mut out = Vec::new();
        Sasl::Init(init).write_frame(&mut out);
        let asked = self.say_bytes(&out);
        assert!(
            matches!(&asked[..], [Event::Authenticate { .. }]),
            "{asked:?}"
        );
        self.machine.sasl_outcome(SaslCode::Ok).unwrap();
        assert_eq!(self.say_bytes(&Protocol::Amqp.header()), []);
        // The headers and SASL are the opening's tests'.
        while self.machine.poll_output(self.now).is_some() {}
    }

    /// With one session on channel 0.
    pub(super) fn begun(limits: Limits) -> (Self, SessionId) {
        let mut peer = Self::opened(limits, Open::default());
        let session = peer.begin(0, 1_000);
        (peer, session)
    }

    pub(super) fn begin(&mut self, channel: u16, incoming_window: u32) -> SessionId {
        let begin = Begin {
            incoming_window,
            outgoing_window: 1_000,
            ..Begin::default()
        };
        let begun = self.say(channel, &Performative::Begin(Box::new(begin)));
        let [Event::Begun { session, .. }] = begun[..] else {
            panic!("{begun:?}");
        };
        let heard = self.hear();
        assert!(
            matches!(&heard[..], [(_, Performative::Begin(_), _)]),
            "{heard:?}"
        );
        session
    }

    /// A link that the door has accepted as it was asked for. `role` is the client's.
    pub(super) fn attach(&mut self, channel: u16, handle: u32, role: Role) -> LinkId {
        let attach = attach(handle, role);
        let link = self.ask(channel, attach.clone());
        self.machine.accept(link, attach).unwrap();
        let heard = self.hear();
        let [(_, Performative::Attach(answer), _)] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert_ne!(answer.role, role);
        link
    }

    /// The same when other things are still to be heard.
    pub(super) fn attach_behind(&mut self, channel: u16, handle: u32, role: Role) -> LinkId {
        self.hear();
        self.attach(channel, handle, role)
    }

    pub(super) fn ask(&mut self, channel: u16, attach: Attach) -> LinkId {
        let asked = self.say(channel, &Performative::Attach(Box::new(attach)));
        let [Event::Attach { link, .. }] = asked[..] else {
            panic!("{asked:?}");
        };
        link
    }

    pub(super) fn say(&mut self, channel: u16, performative: &Performative) -> Vec<Event> {
        let mut out = Vec::new();
        performative.write_frame(channel, &mut out);
        if let Some(audit) = &mut self.audit {
            audit.said(channel, performative);
        }
        self.say_bytes(&out)
    }

    /// A transfer with its payload in one frame, whatever `more` says.
    pub(super) fn transfer(
        &mut self,
        channel: u16,
        transfer: &Transfer,
        payload: &[u8],
    ) -> Vec<Event> {
        let mut out = Vec::new();
        let frame = Performative::Transfer(transfer.clone());
        frame.write_frame(channel, &mut out);
        frame::end(0, payload.len(), &mut out);
        out.extend_from_slice(payload);
        self.say_bytes(&out)
    }

    pub(super) fn say_bytes(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.input.extend_from_slice(bytes);
        self.go_on()
    }

    pub(super) fn go_on(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.receive(&mut self.input, self.now)).collect()
    }

    /// All that the machine has to say. Empty frames are not in it.
    pub(super) fn hear(&mut self) -> Vec<(u16, Performative, Bytes)> {
        while let Some(bytes) = self.machine.poll_output(self.now) {
            self.output.extend_from_slice(&bytes);
        }
        let mut heard = Vec::new();
        while let Some(frame) = frame::split(&mut self.output, 1 << 20).unwrap() {
            if frame.body.is_empty() {
                continue;
            }
            let (performative, payload) = Performative::decode(&frame.body).unwrap();
            if let Some(audit) = &mut self.audit {
                audit.heard(frame.channel, &performative, payload.len());
            }
            heard.push((frame.channel, performative, payload));
        }
        assert!(self.output.is_empty(), "half a frame");
        heard
    }
}

pub(super) fn attach(handle: u32, role: Role) -> Attach {
    let address = Some("q1".into());
    Attach {
        source: Some(Source {
            address: address.clone(),
            ..Source::default()
        }),
        target: Some(Destination::Target(Target {
            address,
            ..Target::default()
        })),
        initial_delivery_count: (role == Role::Sender).then_some(0),
        ..Attach::new(format!("link-{handle}").into(), handle, role)
    }
}

pub(super) fn transfer(handle: u32, id: u32) -> Transfer {
    Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        message_format: Some(0),
        ..Transfer::default()
    }
}

/// A flow of a link with nothing received yet.
pub(super) fn credit(handle: u32, link_credit: u32, drain: bool) -> Performative {
    Performative::Flow(Box::new(Flow {
        next_incoming_id: Some(0),
        incoming_window: 1_000,
        outgoing_window: 1_000,
        handle: Some(handle),
        delivery_count: Some(0),
        link_credit: Some(link_credit),
        drain,
        ..Flow::default()
    }))
}
