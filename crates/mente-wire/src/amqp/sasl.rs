//! What is said before AMQP itself, about who the client is (part 5 §5.3.3).

use bytes::Bytes;

use super::composite::{self, Composite, Field, Fields, Writer};
use super::decode::Reader;
use super::descriptor;
use super::error::Malformed;
use super::frame::{self, FrameKind};
use super::performative::unknown_choice;
use super::value::{Symbol, Text};

/// What a frame of the type SASL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    Mechanisms(Mechanisms),
    Init(Init),
    Challenge(Challenge),
    Response(Response),
    Outcome(SaslOutcome),
}

/// What the server offers. JS takes the first one that it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms {
    pub server_mechanisms: Vec<Symbol>,
}

/// What the client chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Init {
    pub mechanism: Symbol,
    pub initial_response: Option<Bytes>,
    pub hostname: Option<Text>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    pub challenge: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub response: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslOutcome {
    pub code: SaslCode,
    pub additional_data: Option<Bytes>,
}

/// How it ended (§5.3.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslCode {
    Ok,
    /// The client is not who it says.
    Auth,
    /// Something else, and no one knows whether it will pass.
    Sys,
    SysPerm,
    SysTemp,
}

impl Sasl {
    /// What the whole body of a frame says.
    pub fn decode(body: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let sasl = match composite::read_descriptor(&mut reader)? {
            Some(descriptor::SASL_MECHANISMS) => {
                Self::Mechanisms(composite::read_fields(&mut reader)?)
            }
            Some(descriptor::SASL_INIT) => Self::Init(composite::read_fields(&mut reader)?),
            Some(descriptor::SASL_CHALLENGE) => {
                Self::Challenge(composite::read_fields(&mut reader)?)
            }
            Some(descriptor::SASL_RESPONSE) => Self::Response(composite::read_fields(&mut reader)?),
            Some(descriptor::SASL_OUTCOME) => Self::Outcome(composite::read_fields(&mut reader)?),
            Some(_) => return Err(composite::unknown(&reader)),
            None => return Err(reader.malformed("null in place of a SASL frame's body")),
        };
        if !reader.is_empty() {
            return Err(reader.malformed("bytes behind the body of a SASL frame"));
        }
        Ok(sasl)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Mechanisms(mechanisms) => composite::write(mechanisms, out),
            Self::Init(init) => composite::write(init, out),
            Self::Challenge(challenge) => composite::write(challenge, out),
            Self::Response(response) => composite::write(response, out),
            Self::Outcome(outcome) => composite::write(outcome, out),
        }
    }

    /// Appends a whole frame.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        frame::write(FrameKind::Sasl, 0, out, |out| self.encode(out));
    }
}

impl Composite for Mechanisms {
    const NAME: &'static str = "sasl-mechanisms";
    const CODE: u64 = descriptor::SASL_MECHANISMS;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            server_mechanisms: fields.get_or("sasl-server-mechanisms", Vec::new())?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.server_mechanisms);
    }
}

impl Composite for Init {
    const NAME: &'static str = "sasl-init";
    const CODE: u64 = descriptor::SASL_INIT;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            mechanism: fields.need("mechanism")?,
            initial_response: fields.get("initial-response")?,
            hostname: fields.get("hostname")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .put(&self.mechanism)
            .maybe(&self.initial_response)
            .maybe(&self.hostname);
    }
}

impl Composite for Challenge {
    const NAME: &'static str = "sasl-challenge";
    const CODE: u64 = descriptor::SASL_CHALLENGE;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            challenge: fields.need("challenge")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.challenge);
    }
}

impl Composite for Response {
    const NAME: &'static str = "sasl-response";
    const CODE: u64 = descriptor::SASL_RESPONSE;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            response: fields.need("response")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.response);
    }
}

impl Composite for SaslOutcome {
    const NAME: &'static str = "sasl-outcome";
    const CODE: u64 = descriptor::SASL_OUTCOME;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            code: fields.need("code")?,
            additional_data: fields.get("additional-data")?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.code).maybe(&self.additional_data);
    }
}

impl Field for SaslCode {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(Some(match u8::read(reader)? {
            None => return Ok(None),
            Some(0) => Self::Ok,
            Some(1) => Self::Auth,
            Some(2) => Self::Sys,
            Some(3) => Self::SysPerm,
            Some(4) => Self::SysTemp,
            Some(_) => return Err(unknown_choice(reader)),
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let choice: u8 = match self {
            Self::Ok => 0,
            Self::Auth => 1,
            Self::Sys => 2,
            Self::SysPerm => 3,
            Self::SysTemp => 4,
        };
        choice.write(out);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::amqp::error::condition;
    use crate::amqp::testing::bytes;

    #[test]
    fn every_sasl_frame_comes_back() {
        let outcome = |code, data| {
            Sasl::Outcome(SaslOutcome {
                code,
                additional_data: data,
            })
        };
        let init = Init {
            mechanism: Symbol::from_static("ANONYMOUS"),
            initial_response: Some(Bytes::from_static(b"key")),
            hostname: Some("h".into()),
        };
        let offered = ["ANONYMOUS", "MSSBCBS", "PLAIN"].map(Symbol::from_static);
        let samples = [
            Sasl::Mechanisms(Mechanisms {
                server_mechanisms: offered.into(),
            }),
            Sasl::Init(init),
            Sasl::Init(Init::default()),
            Sasl::Challenge(Challenge {
                challenge: Bytes::from_static(b"c"),
            }),
            Sasl::Response(Response::default()),
            outcome(SaslCode::Ok, None),
            outcome(SaslCode::Auth, Some(Bytes::from_static(b"d"))),
            outcome(SaslCode::Sys, None),
            outcome(SaslCode::SysPerm, None),
            outcome(SaslCode::SysTemp, None),
        ];
        for sample in samples {
            let mut out = Vec::new();
            sample.write_frame(&mut out);
            let frame = frame::split(&mut BytesMut::from(&out[..]), frame::FRAME_BYTES_MIN);
            let frame = frame.unwrap().unwrap();
            assert_eq!(frame.kind, FrameKind::Sasl);
            assert_eq!(Sasl::decode(&frame.body), Ok(sample));
        }
    }

    #[test]
    fn one_mechanism_is_an_array_too() {
        let one = Sasl::Mechanisms(Mechanisms {
            server_mechanisms: vec![Symbol::from_static("X")],
        });
        let mut out = Vec::new();
        one.encode(&mut out);
        assert_eq!(out, bytes("00 53 40 c0 07 01 e0 04 01 a3 01 58"));
        assert_eq!(Sasl::decode(&bytes("00 53 40 c0 04 01 a3 01 58")), Ok(one));
    }

    #[test]
    fn what_is_no_sasl_is_refused() {
        for (hex, expect) in [
            ("", condition::DECODE_ERROR),
            ("40", condition::DECODE_ERROR),
            ("00 53 10 45", condition::NOT_IMPLEMENTED),
            ("00 53 41 45", condition::INVALID_FIELD),
            ("00 53 44 c0 03 01 50 05", condition::INVALID_FIELD),
            ("00 53 43 c0 03 01 a0 00 40", condition::DECODE_ERROR),
        ] {
            let refused = Sasl::decode(&bytes(hex)).unwrap_err();
            assert_eq!(refused.condition, expect, "{hex}: {refused}");
        }
    }
}
