//! What a client may hold a server to, looked at frame by frame: answers have their channels and
//! handles, and no transfer is sent beyond a window or a credit.

use std::collections::BTreeMap;

use crate::amqp::Performative;
use crate::amqp::performative::{Flow, Role, Transfer};

#[derive(Default)]
pub(super) struct Audit {
    /// By the server's channel.
    sessions: BTreeMap<u16, Session>,
    opened: bool,
    closed: bool,
}

#[derive(Default)]
struct Session {
    /// Transfers that have come, and the first one that may not come.
    seen: u32,
    bound: u32,
    deliveries: u32,
    links: BTreeMap<u32, Link>,
    /// Credit that is given before the answer to an attach.
    early: BTreeMap<u32, u32>,
}

struct Link {
    role: Role,
    /// Deliveries begun, and the first one that may not be.
    count: u32,
    bound: u32,
    in_part: bool,
}

impl Audit {
    /// What the client says.
    pub(super) fn said(&mut self, channel: u16, said: &Performative) {
        match said {
            Performative::Begin(begin) => {
                let session = Session {
                    bound: begin.incoming_window,
                    ..Session::default()
                };
                // A second one on the channel is nonsense that the test means.
                self.sessions.entry(channel).or_insert(session);
            }
            Performative::Flow(flow) => {
                if let Some(session) = self.sessions.get_mut(&channel) {
                    session.flow(flow);
                }
            }
            _ => {}
        }
    }

    /// What the server says.
    pub(super) fn heard(&mut self, channel: u16, heard: &Performative, payload: usize) {
        assert!(!self.closed, "a frame behind the close: {heard:?}");
        match heard {
            Performative::Open(_) => {
                assert!(!self.opened && channel == 0);
                self.opened = true;
            }
            Performative::Close(_) => self.closed = true,
            Performative::Begin(begin) => assert_eq!(begin.remote_channel, Some(channel)),
            _ => self.heard_of_session(channel, heard, payload),
        }
        assert!(self.opened, "a frame before the open: {heard:?}");
    }

    fn heard_of_session(&mut self, channel: u16, heard: &Performative, payload: usize) {
        let session = self.sessions.get_mut(&channel).expect("a session is there");
        match heard {
            Performative::Attach(attach) => {
                let link = Link {
                    role: attach.role,
                    count: attach.initial_delivery_count.unwrap_or(0),
                    bound: session.early.remove(&attach.handle).unwrap_or(0),
                    in_part: false,
                };
                session.links.insert(attach.handle, link);
            }
            Performative::Detach(detach) => {
                let gone = session.links.remove(&detach.handle);
                assert!(gone.is_some(), "a detach of nothing");
            }
            Performative::End(_) => {
                self.sessions.remove(&channel);
            }
            Performative::Flow(flow) => {
                assert_eq!(flow.next_outgoing_id, session.seen);
                if let Some(handle) = flow.handle {
                    let link = session.links.get_mut(&handle).expect("a flow of a link");
                    if link.role == Role::Sender {
                        link.count = flow.delivery_count.unwrap();
                    }
                }
            }
            Performative::Transfer(transfer) => session.transfer(transfer, payload),
            Performative::Disposition(disposition) => {
                assert!(disposition.settled);
                if disposition.role == Role::Sender {
                    assert!(
                        disposition.first < session.deliveries,
                        "settled before it is sent"
                    );
                }
            }
            _ => {}
        }
    }
}

impl Session {
    fn flow(&mut self, flow: &Flow) {
        let seen = flow.next_incoming_id.unwrap_or(0);
        self.bound = seen.saturating_add(flow.incoming_window);
        let Some(handle) = flow.handle else { return };
        let Some(credit) = flow.link_credit else {
            return;
        };
        let bound = flow.delivery_count.unwrap_or(0).saturating_add(credit);
        match self.links.get_mut(&handle) {
            Some(link) => link.bound = bound,
            None => {
                self.early.insert(handle, bound);
            }
        }
    }

    fn transfer(&mut self, transfer: &Transfer, payload: usize) {
        self.seen += 1;
        assert!(self.seen <= self.bound, "a transfer beyond the window");
        let link = self
            .links
            .get_mut(&transfer.handle)
            .expect("a transfer on a link");
        assert_eq!(link.role, Role::Sender);
        if !link.in_part {
            link.count += 1;
            assert_eq!(transfer.delivery_id, Some(self.deliveries));
            self.deliveries += 1;
            assert!(link.count <= link.bound, "a delivery beyond the credit");
        }
        link.in_part = transfer.more;
        assert!(!transfer.more || payload > 0, "a part of nothing");
    }
}
