//! Requests and answers, each a message: how tokens are put and entities are asked about. An answer goes to a link
//! of the same session, since Python names no address to answer to and JS the name of its link.

use bytes::Bytes;
use mente_wire::amqp::error::Malformed;
use mente_wire::amqp::message::{Body, MapSection, Message, MessageId, Properties};
use mente_wire::amqp::value::{Map, Value};

use super::condition::Refusal;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// Python's is a uuid and others' a text: the answer has it in the same type.
    id: Option<MessageId>,
    pub(super) reply_to: Option<String>,
    pub(super) properties: Map,
    pub(super) body: Value,
}

/// How the names of an answer's properties are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `status-code`, of the node for tokens.
    Tokens,
    /// `statusCode`, of management.
    Management,
}

/// What is answered: a status of HTTP's, with a body if it went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: i32,
    pub(super) description: String,
    pub(super) condition: Option<&'static str>,
    pub(super) body: Value,
}

impl Request {
    /// Of what comes back in the answer.
    pub(super) fn names_bytes(&self) -> usize {
        let id = match &self.id {
            Some(MessageId::String(text)) => text.as_str().len(),
            Some(MessageId::Binary(bytes)) => bytes.len(),
            Some(MessageId::Ulong(_) | MessageId::Uuid(_)) | None => 16,
        };
        id + self.reply_to.as_ref().map_or(0, String::len)
    }

    pub(super) fn read(payload: &Bytes) -> Result<Self, Malformed> {
        let message = Message::split(payload)?;
        let properties = message.read_properties()?;
        Ok(Self {
            id: properties.message_id.or(properties.correlation_id),
            reply_to: properties.reply_to.map(|text| text.as_str().to_owned()),
            properties: message.read_map(MapSection::ApplicationProperties)?,
            body: message.body.read_value()?.unwrap_or_default(),
        })
    }

    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name)?.as_str()
    }

    /// The message that goes back.
    pub(super) fn answer(&self, style: Style, answer: &Answer) -> Bytes {
        let properties = Properties {
            correlation_id: self.id.clone(),
            ..Properties::default()
        };
        let mut entries = Map::default();
        let mut put = |name: &str, value| entries.0.push((name.into(), value));
        let names = match style {
            Style::Tokens => ["status-code", "status-description", "error-condition"],
            Style::Management => ["statusCode", "statusDescription", "errorCondition"],
        };
        put(names[0], Value::Int(answer.status));
        put(names[1], answer.description.as_str().into());
        if let Some(condition) = answer.condition {
            let symbol = mente_wire::amqp::Symbol::from_static(condition);
            put(names[2], symbol.into());
        }
        let message = Message {
            properties: Some(properties.encode()),
            application_properties: Some(MapSection::ApplicationProperties.encode(&entries)),
            body: Body::of_value(&answer.body),
            ..Message::default()
        };
        let mut out = Vec::new();
        message.write(&mut out);
        out.into()
    }
}

impl Answer {
    pub(super) fn ok(body: Map) -> Self {
        Self {
            status: 200,
            description: "OK".to_owned(),
            condition: None,
            body: Value::Map(body),
        }
    }

    /// There is nothing, which is no failure.
    pub(super) fn none(condition: &'static str) -> Self {
        Self {
            status: 204,
            description: "No Content".to_owned(),
            condition: Some(condition),
            body: Value::Map(Map::default()),
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: refusal.status,
            description: refusal.shown().to_owned(),
            condition: Some(refusal.condition),
            body: Value::Map(Map::default()),
        }
    }
}

impl From<Result<Self, Refusal>> for Answer {
    fn from(result: Result<Self, Refusal>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use mente_wire::amqp::Uuid;

    use super::*;

    fn request(id: MessageId) -> Request {
        let properties = Properties {
            message_id: Some(id),
            reply_to: Some("there".into()),
            ..Properties::default()
        };
        let mut entries = Map::default();
        entries.0.push(("operation".into(), "put-token".into()));
        let message = Message {
            properties: Some(properties.encode()),
            application_properties: Some(MapSection::ApplicationProperties.encode(&entries)),
            body: Body::of_value(&"token".into()),
            ..Message::default()
        };
        let mut out = Vec::new();
        message.write(&mut out);
        Request::read(&out.into()).unwrap()
    }

    #[test]
    fn an_answer_names_its_request_in_the_same_type() {
        for id in [
            MessageId::Uuid(Uuid([7; 16])),
            MessageId::String("7".into()),
        ] {
            let request = request(id.clone());
            assert_eq!(request.property("operation"), Some("put-token"));
            assert_eq!(request.reply_to.as_deref(), Some("there"));
            assert_eq!(request.body, "token".into());
            let bytes = request.answer(Style::Management, &Answer::ok(Map::default()));
            let answer = Message::split(&bytes).unwrap();
            assert_eq!(answer.read_properties().unwrap().correlation_id, Some(id));
        }
    }

    #[test]
    fn the_two_nodes_spell_their_answers_each_in_its_way() {
        let request = request(MessageId::Ulong(1));
        let refused = Answer::from(Refusal::not_implemented("no"));
        for (style, code, condition) in [
            (Style::Tokens, "status-code", "error-condition"),
            (Style::Management, "statusCode", "errorCondition"),
        ] {
            let answer = Message::split(&request.answer(style, &refused)).unwrap();
            let entries = answer.read_map(MapSection::ApplicationProperties).unwrap();
            assert_eq!(entries.get(code), Some(&Value::Int(501)));
            let symbol = mente_wire::amqp::Symbol::from_static("amqp:not-implemented");
            assert_eq!(entries.get(condition), Some(&symbol.into()));
        }
    }
}
