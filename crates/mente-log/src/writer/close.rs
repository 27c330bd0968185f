//! The last word of a writer.

use super::{Stopped, Writer, is_full};
use crate::closing;
use crate::commit::{BLOCK, Header};
use crate::run::Position;

impl Writer {
    /// After the last commit. A full disk does without: then the log opens as after a kill.
    pub(super) fn tell_closed(&self) -> Result<(), Stopped> {
        let position = Position {
            at: self.at - BLOCK as u32,
            ..self.position()
        };
        let last = Header {
            salt: self.current.header.salt,
            position,
            sequence: self.sequence,
            durable_upto: position,
            catalogue_end: self.catalogue.known_end(),
            body_bytes: 0,
            body_crc: 0,
            entries: Vec::new(),
        };
        match closing::write(&*self.disk, last) {
            Err(error) if !is_full(&error) => Err(Stopped::at("write down where it ends")(error)),
            _ => Ok(()),
        }
    }
}
