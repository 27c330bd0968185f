//! What a saga is declared as.
//!
//! ```json
//! {"on": {"shop.OrderPlaced": "stream", "shop.PaymentTaken": "data.order"},
//!  "javascript": "function react(state, event) { … }"}
//! ```
//! `on` names the types of events and where each says which course it belongs to: an attribute (`stream`, `subject`,
//! `correlationid` …) or a member of its data (`data.order`, `data.order.id`), a text or a whole number.

use std::collections::BTreeMap;

use mente_broker::{EntityName, Error, Kind, Query, QueryItem, Result, StreamEvent, StreamName};
use mente_engine::{Data, limits};
use serde::Deserialize;
use serde_json::Value;

use super::course::RETRIED;

/// Members between data and the key, at most.
const DEPTH: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declaration {
    pub(super) on: BTreeMap<String, Key>,
    pub(super) javascript: String,
    /// Position in the store before which nothing is reacted to.
    pub(super) from: u64,
}

/// Where an event says which course it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Stream,
    Attribute(String),
    Data(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    on: BTreeMap<String, String>,
    javascript: String,
    /// Set when it is declared.
    from: Option<u64>,
}

impl Declaration {
    pub(super) fn parse(name: &EntityName, declared: &Value) -> Result<Self> {
        if name.as_str().contains('-') {
            let message =
                "a saga's name has no -: its streams are NAME-KEY, and so NAME is their category";
            return Err(Error::invalid(message));
        }
        let bytes = declared.to_string().len();
        if bytes > limits::DEFINITION_BYTES {
            let most = limits::DEFINITION_BYTES;
            let message = format!("the saga has {bytes} bytes, more than the limit of {most}");
            return Err(Error::new(Kind::TooLarge, message));
        }
        let form: Form = serde_json::from_value(declared.clone()).map_err(|error| {
            Error::invalid(format!(
                "saga {name} is {{\"on\":{{TYPE:KEY}},\"javascript\":SOURCE}}, perhaps with \"from\": {error}"
            ))
        })?;
        if form.on.is_empty() || form.on.len() > limits::SAGA_TYPES {
            let most = limits::SAGA_TYPES;
            return Err(Error::invalid(format!(
                "a saga is on 1 to {most} types of events"
            )));
        }
        if let Some(own) = form.on.keys().find(|kind| kind.starts_with("Mente.")) {
            let message = format!("{own} is one of Mente's own types, and no saga is on those");
            return Err(Error::invalid(message));
        }
        let key = |(kind, path): (String, String)| Ok((kind, Key::parse(&path)?));
        Ok(Self {
            on: form.on.into_iter().map(key).collect::<Result<_>>()?,
            javascript: form.javascript,
            from: form.from.unwrap_or(0),
        })
    }

    /// What is to be read: the events that it is on, and what is asked of its own courses.
    pub(super) fn query(&self, saga: &EntityName) -> Query {
        let told = QueryItem {
            types: self.on.keys().cloned().collect(),
            ..QueryItem::default()
        };
        let asked = QueryItem {
            types: vec![RETRIED.to_owned()],
            category: Some(saga.as_str().to_owned()),
            ..QueryItem::default()
        };
        Query {
            items: vec![told, asked],
        }
    }

    /// Which course an event belongs to; none if it does not say it, or what it says is no part of a stream's name.
    pub(super) fn key_of(&self, saga: &EntityName, event: &StreamEvent) -> Option<String> {
        let key = match self.on.get(&event.event.kind)? {
            Key::Stream => event.stream.as_str().to_owned(),
            Key::Attribute(name) => attribute(event, name)?,
            Key::Data(path) => member(&event.event.data, path)?,
        };
        (!key.is_empty() && stream_of(saga, &key).is_ok()).then_some(key)
    }
}

impl Key {
    fn parse(path: &str) -> Result<Self> {
        let is_word = |word: &str| !word.is_empty();
        let mut words = path.split('.');
        match words.next() {
            Some("stream") if path == "stream" => Ok(Self::Stream),
            Some("data") => {
                let path: Vec<String> = words.map(str::to_owned).collect();
                let is_path = (1..=DEPTH).contains(&path.len()) && path.iter().all(|w| is_word(w));
                is_path.then_some(Self::Data(path)).ok_or_else(|| {
                    Error::invalid(format!(
                        "a key in data is data.NAME, with at most {DEPTH} names"
                    ))
                })
            }
            Some(name) if name == path && is_word(name) => Ok(Self::Attribute(path.to_owned())),
            _ => Err(Error::invalid(format!(
                "the key {path:?} is neither stream, nor an attribute, nor data.NAME"
            ))),
        }
    }
}

/// The stream of one course.
pub(super) fn stream_of(saga: &EntityName, key: &str) -> Result<StreamName> {
    StreamName::new(format!("{saga}-{key}"))
}

/// The key of the course whose stream this is.
pub(super) fn key_in<'a>(saga: &EntityName, stream: &'a StreamName) -> Option<&'a str> {
    stream
        .as_str()
        .strip_prefix(saga.as_str())?
        .strip_prefix('-')
}

fn attribute(event: &StreamEvent, name: &str) -> Option<String> {
    let event = &event.event;
    match name {
        "id" => Some(event.id.clone()),
        "source" => Some(event.source.clone()),
        "type" => Some(event.kind.clone()),
        "subject" => event.subject.clone(),
        name => event.extension(name).map(mente_engine::Attribute::to_text),
    }
}

fn member(data: &Data, path: &[String]) -> Option<String> {
    let Data::Json(bytes) = data else {
        return None;
    };
    let data: Value = serde_json::from_slice(bytes).ok()?;
    let found = path.iter().try_fold(&data, |value, name| value.get(name));
    match found? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mente_engine::{Attribute, Event, Offset, Timestamp};
    use serde_json::json;

    use super::*;

    fn saga() -> EntityName {
        EntityName::new("fulfilment").unwrap()
    }

    fn event(kind: &str, data: &Value) -> StreamEvent {
        StreamEvent {
            stream: StreamName::new("order-7").unwrap(),
            place: mente_broker::store::Place {
                revision: 0,
                position: 0,
                offset: Offset(0),
            },
            time: Timestamp(0),
            actor: None,
            event: Event {
                kind: kind.to_owned(),
                data: Data::Json(data.to_string().into()),
                extensions: vec![("order".to_owned(), Attribute::Integer(9))],
                ..Event::default()
            },
        }
    }

    #[test]
    fn an_event_says_which_course_it_belongs_to() {
        let declared = json!({"javascript": "…", "on": {
            "Stream": "stream", "Attribute": "order", "Missing": "subject", "Data": "data.order.id",
        }});
        let saga = saga();
        let declaration = Declaration::parse(&saga, &declared).unwrap();
        let key = |kind: &str, data: Value| declaration.key_of(&saga, &event(kind, &data));
        assert_eq!(key("Stream", json!(1)).as_deref(), Some("order-7"));
        assert_eq!(key("Attribute", json!(1)).as_deref(), Some("9"));
        assert_eq!(key("Missing", json!(1)), None);
        let data = |id: Value| key("Data", json!({"order": {"id": id}}));
        assert_eq!(data(json!("a-1")).as_deref(), Some("a-1"));
        assert_eq!(data(json!(17)).as_deref(), Some("17"));
        for odd in [
            json!(null),
            json!(""),
            json!(1.5),
            json!([]),
            json!("a\n"),
            json!("x".repeat(200)),
        ] {
            assert_eq!(data(odd), None);
        }
        assert_eq!(key("Data", json!("a")), None);
        assert_eq!(key("Other", json!("a")), None);
        let stream = stream_of(&saga, "order-7").unwrap();
        assert_eq!(stream.as_str(), "fulfilment-order-7");
        assert_eq!(key_in(&saga, &stream), Some("order-7"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let js = "function react() {}";
        for (name, declared, says) in [
            (
                "a-b",
                json!({"on": {"A": "stream"}, "javascript": js}),
                "no -",
            ),
            ("a", json!({"on": {}, "javascript": js}), "1 to 64 types"),
            ("a", json!({"on": {"A": "stream"}}), "javascript"),
            (
                "a",
                json!({"on": {"A": "stream"}, "javascript": js, "key": 1}),
                "unknown field",
            ),
            (
                "a",
                json!({"on": {"A": "data"}, "javascript": js}),
                "data.NAME",
            ),
            (
                "a",
                json!({"on": {"A": "data."}, "javascript": js}),
                "data.NAME",
            ),
            (
                "a",
                json!({"on": {"A": "a.b"}, "javascript": js}),
                "neither stream",
            ),
            (
                "a",
                json!({"on": {"A": ""}, "javascript": js}),
                "neither stream",
            ),
            (
                "a",
                json!({"on": {"Mente.Timer": "stream"}, "javascript": js}),
                "own types",
            ),
        ] {
            let name = EntityName::new(name).unwrap();
            let error = Declaration::parse(&name, &declared).unwrap_err();
            assert!(error.message.contains(says), "{declared}: {error}");
        }
    }
}
