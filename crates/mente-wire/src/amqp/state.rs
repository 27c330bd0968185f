//! Errors (part 2 §2.8.14), and what becomes of a delivery: its states and outcomes (part 3
//! §3.4, part 4 §4.5).

use bytes::Bytes;

use super::composite::{self, Composite, Field, Fields, Writer};
use super::decode::Reader;
use super::descriptor;
use super::error::Malformed;
use super::value::{Map, Symbol, Text};

/// An error that one end tells the other. All three fields are written, null or not: Python
/// looks for the third one by its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One of [`condition`](super::condition), or a name of whoever defined others.
    pub condition: Symbol,
    pub description: Option<Text>,
    /// Its keys are symbols by the standard, and Python's are; those of JS, Java and Go are
    /// strings. [`Map::get`] finds both.
    pub info: Option<Map>,
}

/// Where a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// How much of it has come (§3.4.1).
    Received {
        section_number: u32,
        section_offset: u64,
    },
    Outcome(Outcome),
    /// The outcome of a message that declares a transaction (part 4 §4.5.5).
    Declared {
        txn_id: Bytes,
    },
    /// What it is if the transaction commits (part 4 §4.5.6).
    Transactional {
        txn_id: Bytes,
        outcome: Option<Outcome>,
    },
}

/// How a delivery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    /// With an error if there is one to tell: an answer to a dead-lettering has none, since SDKs
    /// take one for a failure.
    Rejected(Option<Error>),
    Released,
    Modified(Modified),
}

/// It may be delivered again, changed (§3.4.5). Service Bus defers and abandons with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modified {
    pub delivery_failed: bool,
    pub undeliverable_here: bool,
    /// Service Bus means application properties by them.
    pub message_annotations: Option<Map>,
}

impl Error {
    /// An error of a condition that is ASCII, which all of the standard are.
    pub fn new(condition: &'static str, description: impl Into<Text>) -> Self {
        Self {
            condition: Symbol::from_static(condition),
            description: Some(description.into()),
            info: None,
        }
    }
}

/// What a peer is told of bytes of its own.
impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(malformed.condition, malformed.to_string())
    }
}

impl Field for DeliveryState {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let Some(code) = composite::read_descriptor(reader)? else {
            return Ok(None);
        };
        let state = match code {
            descriptor::RECEIVED => composite::read_as("received", reader, |fields| {
                Ok(Self::Received {
                    section_number: fields.need("section-number")?,
                    section_offset: fields.need("section-offset")?,
                })
            }),
            descriptor::DECLARED => composite::read_as("declared", reader, |fields| {
                Ok(Self::Declared {
                    txn_id: fields.need("txn-id")?,
                })
            }),
            descriptor::TRANSACTIONAL_STATE => {
                composite::read_as("transactional-state", reader, |fields| {
                    Ok(Self::Transactional {
                        txn_id: fields.need("txn-id")?,
                        outcome: fields.get("outcome")?,
                    })
                })
            }
            code => Outcome::read_of(code, reader).map(Self::Outcome),
        };
        state.map(Some)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Received {
                section_number,
                section_offset,
            } => composite::write_as(descriptor::RECEIVED, out, |fields| {
                fields.put(section_number).put(section_offset);
            }),
            Self::Outcome(outcome) => outcome.write(out),
            Self::Declared { txn_id } => {
                composite::write_as(descriptor::DECLARED, out, |fields| {
                    fields.put(txn_id);
                });
            }
            Self::Transactional { txn_id, outcome } => {
                composite::write_as(descriptor::TRANSACTIONAL_STATE, out, |fields| {
                    fields.put(txn_id).maybe(outcome);
                });
            }
        }
    }
}

impl Outcome {
    fn read_of(code: u64, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match code {
            descriptor::ACCEPTED => composite::read_as("accepted", reader, |_| Ok(Self::Accepted)),
            descriptor::REJECTED => composite::read_as("rejected", reader, |fields| {
                fields.get("error").map(Self::Rejected)
            }),
            descriptor::RELEASED => composite::read_as("released", reader, |_| Ok(Self::Released)),
            descriptor::MODIFIED => composite::read_fields(reader).map(Self::Modified),
            _ => Err(composite::unknown(reader)),
        }
    }
}

impl Field for Outcome {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match composite::read_descriptor(reader)? {
            None => Ok(None),
            Some(code) => Self::read_of(code, reader).map(Some),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Accepted => composite::write_as(descriptor::ACCEPTED, out, |_| {}),
            Self::Rejected(error) => composite::write_as(descriptor::REJECTED, out, |fields| {
                fields.maybe(error);
            }),
            Self::Released => composite::write_as(descriptor::RELEASED, out, |_| {}),
            Self::Modified(modified) => composite::write(modified, out),
        }
    }
}

impl Composite for Error {
    const NAME: &'static str = "error";
    const CODE: u64 = descriptor::ERROR;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            condition: fields.need("condition")?,
            description: fields.get("description")?,
            info: fields.get("info")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.condition)
            .maybe(&self.description)
            .maybe(&self.info);
    }
}

impl Composite for Modified {
    const NAME: &'static str = "modified";
    const CODE: u64 = descriptor::MODIFIED;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            delivery_failed: fields.get_or("delivery-failed", false)?,
            undeliverable_here: fields.get_or("undeliverable-here", false)?,
            message_annotations: fields.get("message-annotations")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.delivery_failed)
            .put(&self.undeliverable_here)
            .maybe(&self.message_annotations);
    }
}
