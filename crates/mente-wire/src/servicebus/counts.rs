//! How many messages of an entity stand where.

use super::xml;

const NAMESPACE: &str = "http://schemas.microsoft.com/netservices/2011/06/servicebus";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub active: u64,
    pub dead_letters: u64,
    pub scheduled: u64,
    pub transfer: u64,
    pub transfer_dead_letters: u64,
}

impl Counts {
    pub(super) fn write(&self, out: &mut String, name: &str) {
        out.push_str(&format!("<{name} xmlns:d2p1=\"{NAMESPACE}\">"));
        for (name, count) in [
            ("d2p1:ActiveMessageCount", self.active),
            ("d2p1:DeadLetterMessageCount", self.dead_letters),
            ("d2p1:ScheduledMessageCount", self.scheduled),
            ("d2p1:TransferMessageCount", self.transfer),
            (
                "d2p1:TransferDeadLetterMessageCount",
                self.transfer_dead_letters,
            ),
        ] {
            xml::write(out, name, &count.to_string());
        }
        out.push_str(&format!("</{name}>"));
    }
}
