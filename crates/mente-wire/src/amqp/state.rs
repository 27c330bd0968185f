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

/// Types that are a descriptor and no fields, or few of them.
#[derive(Debug)]
struct Accepted;

#[derive(Debug)]
struct Released;

#[derive(Debug)]
struct Rejected(Option<Error>);

#[derive(Debug)]
struct Received {
    section_number: u32,
    section_offset: u64,
}

#[derive(Debug)]
struct Declared {
    txn_id: Bytes,
}

#[derive(Debug)]
struct TransactionalState {
    txn_id: Bytes,
    outcome: Option<Outcome>,
}

impl Field for DeliveryState {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let Some(code) = composite::read_descriptor(reader)? else {
            return Ok(None);
        };
        Ok(Some(match code {
            descriptor::RECEIVED => {
                let received: Received = composite::read_fields(reader)?;
                Self::Received {
                    section_number: received.section_number,
                    section_offset: received.section_offset,
                }
            }
            descriptor::DECLARED => {
                let Declared { txn_id } = composite::read_fields(reader)?;
                Self::Declared { txn_id }
            }
            descriptor::TRANSACTIONAL_STATE => {
                let TransactionalState { txn_id, outcome } = composite::read_fields(reader)?;
                Self::Transactional { txn_id, outcome }
            }
            code => Self::Outcome(Outcome::read_of(code, reader)?),
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Received {
                section_number,
                section_offset,
            } => {
                let received = Received {
                    section_number: *section_number,
                    section_offset: *section_offset,
                };
                composite::write(&received, out);
            }
            Self::Outcome(outcome) => outcome.write(out),
            Self::Declared { txn_id } => {
                let txn_id = txn_id.clone();
                composite::write(&Declared { txn_id }, out);
            }
            Self::Transactional { txn_id, outcome } => {
                let state = TransactionalState {
                    txn_id: txn_id.clone(),
                    outcome: outcome.clone(),
                };
                composite::write(&state, out);
            }
        }
    }
}

impl Outcome {
    fn read_of(code: u64, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match code {
            descriptor::ACCEPTED => {
                let Accepted = composite::read_fields(reader)?;
                Self::Accepted
            }
            descriptor::REJECTED => {
                let Rejected(error) = composite::read_fields(reader)?;
                Self::Rejected(error)
            }
            descriptor::RELEASED => {
                let Released = composite::read_fields(reader)?;
                Self::Released
            }
            descriptor::MODIFIED => Self::Modified(composite::read_fields(reader)?),
            _ => return Err(composite::unknown(reader)),
        })
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
            Self::Accepted => composite::write(&Accepted, out),
            Self::Rejected(error) => composite::write(&Rejected(error.clone()), out),
            Self::Released => composite::write(&Released, out),
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

impl Composite for Accepted {
    const NAME: &'static str = "accepted";
    const CODE: u64 = descriptor::ACCEPTED;

    fn read(_: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer<'_>) {}
}

impl Composite for Released {
    const NAME: &'static str = "released";
    const CODE: u64 = descriptor::RELEASED;

    fn read(_: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer<'_>) {}
}

impl Composite for Rejected {
    const NAME: &'static str = "rejected";
    const CODE: u64 = descriptor::REJECTED;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self(fields.get("error")?))
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.maybe(&self.0);
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

impl Composite for Received {
    const NAME: &'static str = "received";
    const CODE: u64 = descriptor::RECEIVED;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            section_number: fields.need("section-number")?,
            section_offset: fields.need("section-offset")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.section_number).put(&self.section_offset);
    }
}

impl Composite for Declared {
    const NAME: &'static str = "declared";
    const CODE: u64 = descriptor::DECLARED;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            txn_id: fields.need("txn-id")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.txn_id);
    }
}

impl Composite for TransactionalState {
    const NAME: &'static str = "transactional-state";
    const CODE: u64 = descriptor::TRANSACTIONAL_STATE;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            txn_id: fields.need("txn-id")?,
            outcome: fields.get("outcome")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.txn_id).maybe(&self.outcome);
    }
}
