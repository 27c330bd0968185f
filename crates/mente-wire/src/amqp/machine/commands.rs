//! What a door tells a machine to do. Nothing is done if it cannot be done.

use bytes::Bytes;

use super::Connection;
use super::event::{DeliveryId, LinkId, Outgoing, Refused, SessionId};
use crate::amqp::performative::Attach;
use crate::amqp::state::{DeliveryState, Error};

impl Connection {
    /// Accepts a link with the door's own fields: source and target (the client's, as a rule
    /// byte for byte), properties, modes, the largest message. Name, handle, role and the first
    /// delivery count are those of the link, whatever the answer says, and it has nothing
    /// unsettled: links are not recovered. A delivery that is larger than the answer says comes to
    /// the door all the same, up to [`Limits::delivery_bytes`](super::Limits): SDKs know a
    /// rejection as what it is, and a detached link only as some failure.
    pub fn accept(&mut self, link: LinkId, answer: Attach) -> Result<(), Refused> {
        let (session, wire) = self.session(link.session)?;
        let done = session.accept(link.serial, answer, wire);
        self.check_overlong();
        done
    }

    /// Has deliveries on a link that the door receives on refused as soon as they are known to be larger than
    /// `bytes` ([`Event::TooLarge`](super::Event)): what comes of one after that is passed over. Those that may be
    /// larger than [`Limits::part_bytes`](super::Limits) come in parts of about that size, smaller ones behind the
    /// first ([`Event::Part`](super::Event)).
    pub fn bound(&mut self, link: LinkId, bytes: usize) -> Result<(), Refused> {
        let (session, _) = self.session(link.session)?;
        session.bound(link.serial, bytes)
    }

    /// Refuses a link that the door has not accepted, in the way that SDKs know.
    pub fn refuse(&mut self, link: LinkId, error: Error) -> Result<(), Refused> {
        let (session, _) = self.session(link.session)?;
        match session.attached(link.serial) {
            Err(Refused::OutOfPlace) => self.detach(link, Some(error)),
            Err(refused) => Err(refused),
            Ok(_) => Err(Refused::OutOfPlace),
        }
    }

    /// Ends a link for good, with an error if the client is to know of one. What was sent on it
    /// and not settled is the door's to think of, and what was not written yet never is.
    pub fn detach(&mut self, link: LinkId, error: Option<Error>) -> Result<(), Refused> {
        let (session, wire) = self.session(link.session)?;
        let done = session.detach(link.serial, error, wire);
        self.check_overlong();
        done
    }

    /// Lets the client send `credit` deliveries from now on, in place of what it could before.
    pub fn grant(&mut self, link: LinkId, credit: u32) -> Result<(), Refused> {
        let (session, wire) = self.session(link.session)?;
        session.grant(link.serial, credit, wire)
    }

    /// What the peer takes on a link that the door sends on, or may still send on one that it
    /// receives on.
    pub fn credit(&mut self, link: LinkId) -> Result<u32, Refused> {
        let (session, _) = self.session(link.session)?;
        session.attached(link.serial).map(|link| link.credit)
    }

    /// Transfers that the peer still takes on the session of this link.
    pub fn window(&mut self, link: LinkId) -> Result<u32, Refused> {
        let (session, _) = self.session(link.session)?;
        Ok(session.peer_window)
    }

    /// Transfers that went on the session of this link, as it counts them: a serial number, by which to see whether
    /// any has gone since.
    pub fn transfers_sent(&mut self, link: LinkId) -> Result<u32, Refused> {
        let (session, _) = self.session(link.session)?;
        Ok(session.next_outgoing_id)
    }

    /// Largest delivery that comes on a link from now on: a larger one ends the link.
    pub fn end_above(&mut self, link: LinkId, delivery_bytes: usize) -> Result<(), Refused> {
        let (session, _) = self.session(link.session)?;
        session.attached(link.serial)?.delivery_bytes = delivery_bytes;
        Ok(())
    }

    /// Sends a delivery, whose credit is used up from here on. It is written as the peer's
    /// window allows, cut into its frames.
    pub fn send(&mut self, link: LinkId, outgoing: Outgoing) -> Result<DeliveryId, Refused> {
        let (session, wire) = self.session(link.session)?;
        let sent = session.send(link.serial, outgoing, wire);
        self.check_overlong();
        sent
    }

    /// Adds to the payload of a delivery that was sent with [`Outgoing::more`]; behind the last of it the delivery
    /// is whole. Until then the session begins no other one.
    pub fn append(
        &mut self,
        link: LinkId,
        id: DeliveryId,
        payload: Bytes,
        is_last: bool,
    ) -> Result<(), Refused> {
        let (session, wire) = self.session(link.session)?;
        let done = session.append(link.serial, id, payload, is_last, wire);
        self.check_overlong();
        done
    }

    /// Answers a drain when the door has sent what it had: the credit is gone.
    pub fn drained(&mut self, link: LinkId) -> Result<(), Refused> {
        let (session, wire) = self.session(link.session)?;
        let done = session.drained(link.serial, wire);
        self.check_overlong();
        done
    }

    /// Settles a delivery in either direction and tells the client, in whichever state: SDKs
    /// look for the outcome that they asked for.
    pub fn settle(
        &mut self,
        link: LinkId,
        id: DeliveryId,
        state: Option<DeliveryState>,
    ) -> Result<(), Refused> {
        let (session, wire) = self.session(link.session)?;
        let done = session.settle(link.serial, id, state, wire);
        self.check_overlong();
        done
    }

    /// Ends a session with all of its links. Python's clients do not notice: it is better to
    /// detach the links.
    pub fn end(&mut self, session: SessionId, error: Option<Error>) -> Result<(), Refused> {
        let done = self.end_session(session, error);
        self.check_overlong();
        done
    }
}
