//! What a machine says to its door, and what it answers to a door's commands.

use std::fmt;

use bytes::Bytes;

use crate::amqp::performative::{Attach, Begin, Open, ReceiverSettleMode, Role};
use crate::amqp::state::{DeliveryState, Error};
use crate::amqp::transaction::Control;
use crate::amqp::value::{Symbol, Text};

/// A session of one connection. Channels are used again and these are not: a command for a
/// session that has ended finds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(super) u64);

/// A link of one connection, which is never another one's either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    pub session: SessionId,
    pub(super) serial: u64,
}

/// A delivery of one session in one direction, as the wire numbers it: a serial number, which may
/// come again when the delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryId(pub u32);

/// Who ended something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Peer,
    /// The machine, since the peer did what it must not. The peer has been told.
    Machine,
}

/// What the peer did. What a door ends itself is no event:
/// to the door it has ended with the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing more is read until the door says who this is
    /// ([`sasl_outcome`](super::Connection::sasl_outcome)) or asks on
    /// ([`sasl_challenge`](super::Connection::sasl_challenge)).
    Authenticate {
        mechanism: Symbol,
        initial_response: Option<Bytes>,
        hostname: Option<Text>,
    },
    /// To the door's challenge; an answer is due as to [`Authenticate`](Self::Authenticate).
    Response(Bytes),
    /// It has been answered with what the options say.
    Opened(Box<Open>),
    /// It has been answered.
    Begun {
        session: SessionId,
        begin: Box<Begin>,
    },
    /// The door answers with [`accept`](super::Connection::accept) or
    /// [`refuse`](super::Connection::refuse), whenever it can. The role is the client's, and a
    /// target that is a coordinator makes the link one for transactions.
    Attach {
        link: LinkId,
        attach: Box<Attach>,
    },
    /// A receiver takes so many deliveries from now on, in place of what it took before. It may
    /// come before the door has accepted the link. To `drain` the door sends what it has, and
    /// then says [`drained`](super::Connection::drained).
    Credit {
        link: LinkId,
        credit: u32,
        drain: bool,
    },
    /// The session takes transfers again: deliveries that found [`Refused::NoWindow`] on any of
    /// its links may go.
    Window {
        session: SessionId,
    },
    Delivery(Box<Delivery>),
    /// Of a delivery that is large; more of it follows, at last the [`Delivery`](Self::Delivery) with its end.
    Part(Box<Part>),
    /// A delivery is larger than its link was bound to. Nothing more is heard of it but a state that comes later:
    /// the door settles it.
    TooLarge {
        link: LinkId,
        id: DeliveryId,
        settled: bool,
        /// The transaction that it was to be of, if it was.
        state: Option<DeliveryState>,
    },
    /// A delivery of which there were parts never was.
    Aborted {
        link: LinkId,
        id: DeliveryId,
    },
    /// In place of a delivery, on a link to a coordinator. The answer to a declaration is the
    /// state [`DeliveryState::Declared`].
    Control {
        link: LinkId,
        id: DeliveryId,
        settled: bool,
        control: Control,
    },
    Disposition(Box<Disposed>),
    /// It has been answered, and what was not settled on it is the door's to think of.
    Detached {
        link: LinkId,
        by: By,
        /// Whether the link is gone for good; the machine keeps nothing of it in either case.
        closed: bool,
        error: Option<Error>,
    },
    /// With all of its links.
    Ended {
        session: SessionId,
        by: By,
        error: Option<Error>,
    },
    /// With all of its sessions. The door writes what is left to write, and goes on to read until
    /// [`is_finished`](super::Connection::is_finished), so that the peer gets to read it.
    Closed {
        by: By,
        error: Option<Error>,
    },
}

/// A whole delivery of a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub link: LinkId,
    pub id: DeliveryId,
    /// What the sender calls it, unique on its link only.
    pub tag: Bytes,
    /// What the payload is; 0 is one message of part 3.
    pub format: u32,
    /// By the sender: no answer is wanted, and none is possible.
    pub settled: bool,
    pub receiver_settles: Option<ReceiverSettleMode>,
    /// The transaction that it belongs to, if it does.
    pub state: Option<DeliveryState>,
    /// A slice of what was read, if it came in one frame.
    pub payload: Bytes,
    /// What was handed on of it in parts, before this.
    pub handed_bytes: usize,
}

/// A part of a delivery whose end has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub link: LinkId,
    pub id: DeliveryId,
    /// The others as those of a [`Delivery`].
    pub format: u32,
    pub settled: bool,
    pub state: Option<DeliveryState>,
    pub payload: Bytes,
}

/// What the peer thinks of deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposed {
    /// Of the peer: a receiver speaks of what the door sent.
    pub role: Role,
    /// Those of the peer's range that are known and not settled, at least one.
    pub deliveries: Vec<(LinkId, DeliveryId)>,
    /// If so, they are done with. Else they wait for the door to settle them.
    pub settled: bool,
    pub state: Option<DeliveryState>,
}

/// A delivery to a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Of at most [`DELIVERY_TAG_BYTES`](crate::amqp::performative::DELIVERY_TAG_BYTES).
    pub tag: Bytes,
    pub format: u32,
    /// Whether no answer is waited for.
    pub settled: bool,
    pub state: Option<DeliveryState>,
    pub payload: Bytes,
    /// The payload goes on ([`append`](super::Connection::append)).
    pub more: bool,
}

/// Why a command was not done. Nothing of it has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The connection, session or link has ended, of which there is or was an event.
    Gone,
    /// Not at this point: an answer to what was not asked, a delivery on a link that was not
    /// accepted, credit for a link that sends.
    OutOfPlace,
    /// The receiver takes none at this time: wait for [`Event::Credit`].
    NoCredit,
    /// The session takes none at this time: wait for [`Event::Window`].
    NoWindow,
    /// Too much is waiting to be written, or an earlier delivery of the session: write first.
    Full,
    /// Too many deliveries of the link, or of all links, are not settled: wait for dispositions.
    Unsettled,
    /// No such delivery of this link waits to be settled.
    NoDelivery,
    /// A longer tag than the protocol has.
    TagTooLong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "it has ended",
            Self::OutOfPlace => "it is not the time for it, or not the role",
            Self::NoCredit => "the receiver has given no credit",
            Self::NoWindow => "the window of the session is shut",
            Self::Full => "too much waits to be written",
            Self::Unsettled => "too many deliveries are not settled",
            Self::NoDelivery => "no such delivery of the link is unsettled",
            Self::TagTooLong => "a delivery tag of more than 32 bytes",
        })
    }
}

impl std::error::Error for Refused {}
