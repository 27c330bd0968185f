//! What a client sends to a coordinator, as the value of a message (part 4 §4.5.2, §4.5.3).
//! Accepting a declaration is the state [`DeliveryState::Declared`](super::DeliveryState).

use bytes::Bytes;

use super::composite::{self, Composite, Fields, Writer};
use super::decode::Reader;
use super::descriptor;
use super::error::Malformed;
use super::message::{Body, BodyKind, Message};
use super::value::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    Declare(Declare),
    Discharge(Discharge),
}

/// Asks for a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declare {
    /// Of a transaction that others take part in; nobody here has such.
    pub global_id: Option<Value>,
}

/// Ends a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discharge {
    pub txn_id: Bytes,
    /// Whether it is rolled back.
    pub fail: bool,
}

impl Control {
    /// What a message to a coordinator asks for.
    pub fn decode(message: &Message) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message.body.bytes());
        if message.body.kind() != BodyKind::Value {
            return Err(reader.malformed("a message to a coordinator whose body is not a value"));
        }
        composite::read_descriptor(&mut reader)?;
        match composite::read_descriptor(&mut reader)? {
            Some(descriptor::DECLARE) => composite::read_fields(&mut reader).map(Self::Declare),
            Some(descriptor::DISCHARGE) => composite::read_fields(&mut reader).map(Self::Discharge),
            Some(_) => Err(composite::unknown(&reader)),
            None => Err(reader.malformed("null in place of what a coordinator does")),
        }
    }

    /// The body of a message that asks for this.
    pub fn to_body(&self) -> Body {
        Body::of_described(|out| match self {
            Self::Declare(declare) => composite::write(declare, out),
            Self::Discharge(discharge) => composite::write(discharge, out),
        })
    }
}

impl Composite for Declare {
    const NAME: &'static str = "declare";
    const CODE: u64 = descriptor::DECLARE;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            global_id: fields.get("global-id")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.maybe(&self.global_id);
    }
}

impl Composite for Discharge {
    const NAME: &'static str = "discharge";
    const CODE: u64 = descriptor::DISCHARGE;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            txn_id: fields.need("txn-id")?,
            fail: fields.get_or("fail", false)?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.txn_id).put(&self.fail);
    }
}
