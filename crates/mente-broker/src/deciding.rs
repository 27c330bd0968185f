//! Who decides the commands of a category of streams, and what a decision is.
//!
//! ```json
//! {"javascript": "function decide(state, command) { … }"}
//! {"webhook": "https://…", "timeoutMs": 5000}
//! ```
//! A program returns events, a webhook answers `{"events":[…]}`, and either may say `{"refuse":"why"}` in place of
//! them. An event has a `type`, and what it likes of `subject`, `data`, `time`, `source`, tags and other
//! attributes. What it is known by follows from the command: its id is a UUIDv5 of the stream, the command's id
//! and its place, `causationid` is the command's id, `correlationid` the command's.

use mente_engine::{Attribute, Event, limits};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::fold::javascript::{self, Script};
use crate::identity::derived;
use crate::name::StreamName;
use crate::said;
use crate::store::{CAUSATION, CORRELATION};

const TIMEOUT_DEFAULT_MS: u64 = 5_000;

/// Who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decider {
    JavaScript(Script),
    Webhook(DecidingWebhook),
}

/// Where commands are sent to be decided.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DecidingWebhook {
    #[serde(rename = "webhook")]
    pub url: String,
    /// Until the whole answer is there.
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
}

/// What a decider made of a command.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    Events(Vec<Map<String, Value>>),
    Refused(String),
}

/// What a webhook is asked.
#[derive(Serialize)]
struct Question<'a> {
    stream: &'a str,
    revision: Option<u64>,
    state: &'a Value,
    command: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    events: Option<Vec<Map<String, Value>>>,
    refuse: Option<String>,
}

impl Decider {
    /// Reads a declaration. A source is compiled when it is called.
    pub(crate) fn parse(declared: &Value) -> Result<Self> {
        if let Some(script) = declared.as_object().and_then(Script::parse) {
            return script.map(Self::JavaScript);
        }
        let webhook: DecidingWebhook =
            serde_json::from_value(declared.clone()).map_err(|error| {
                let shapes = "{\"javascript\": SOURCE} or {\"webhook\": URL, \"timeoutMs\": 5000}";
                Error::invalid(format!("a decider is {shapes}: {error}"))
            })?;
        if webhook.url.len() > limits::DEFINITION_BYTES {
            let most = limits::DEFINITION_BYTES;
            let message = format!("the webhook's URL has more than {most} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        if !(1..=limits::DECIDER_TIMEOUT_MS).contains(&webhook.timeout_ms) {
            let most = limits::DECIDER_TIMEOUT_MS;
            return Err(Error::invalid(format!("timeoutMs is 1 to {most}")));
        }
        Ok(Self::Webhook(webhook))
    }
}

impl Decision {
    /// Reads what a program returned or a webhook answered; nothing at all is no event.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Events(Vec::new()));
        }
        if text.len() > limits::DECISION_BYTES {
            let (has, most) = (text.len(), limits::DECISION_BYTES);
            return Err(Error::invalid(format!(
                "it has {has} bytes, more than {most}"
            )));
        }
        let told: Told = serde_json::from_slice(text).map_err(|error| {
            Error::invalid(format!(
                "it is neither {{\"events\":[…]}} nor {{\"refuse\":\"why\"}}: {error}"
            ))
        })?;
        match (told.events, told.refuse) {
            (Some(events), None) if events.len() > limits::DECIDED_EVENTS => {
                let (made, most) = (events.len(), limits::DECIDED_EVENTS);
                Err(Error::invalid(format!(
                    "it is {made} events, more than {most}"
                )))
            }
            (Some(events), None) => Ok(Self::Events(events)),
            (None, Some(why)) => Ok(Self::Refused(why)),
            (None, None) => Err(Error::invalid("it says neither events nor refuse")),
            (Some(_), Some(_)) => Err(Error::invalid("it says both events and refuse")),
        }
    }
}

/// What a webhook is asked: `{"stream":…,"revision":7,"state":{…},"command":{…}}`; the revision is null where
/// there is no stream yet.
pub(crate) fn question(
    stream: &StreamName,
    revision: Option<u64>,
    state: &Value,
    command: &Event,
) -> Result<String> {
    let no_json = |error| Error::new(Kind::Internal, format!("a question is no JSON: {error}"));
    let command = RawValue::from_string(javascript::text_of(command)?).map_err(no_json)?;
    let question = Question {
        stream: stream.as_str(),
        revision,
        state,
        command: &command,
    };
    serde_json::to_string(&question).map_err(no_json)
}

/// The id of the event at this place of what a command led to.
pub(crate) fn event_id(stream: &StreamName, command: &str, at: usize) -> String {
    derived(&["command", stream.as_str(), command, &at.to_string()])
}

/// The events of a decision, as they are appended.
pub(crate) fn events_of(
    stream: &StreamName,
    command: &Event,
    source: &str,
    told: Vec<Map<String, Value>>,
) -> Result<Vec<Event>> {
    let made = told.into_iter().enumerate().map(|(at, told)| {
        let event = event_of(stream, command, source, at, told);
        event.map_err(|error| Error::invalid(format!("event {at}: {}", error.message)))
    });
    made.collect()
}

fn event_of(
    stream: &StreamName,
    command: &Event,
    source: &str,
    at: usize,
    told: Map<String, Value>,
) -> Result<Event> {
    let said = said::event_of(told)?;
    let mut event = Event {
        id: event_id(stream, &command.id, at),
        source: said.source.unwrap_or_else(|| source.to_owned()),
        kind: said.kind.unwrap_or_default(),
        ..said.event
    };
    let says = |name| event.extension(name).is_some();
    if said.id.is_some() || says(CAUSATION) || says(CORRELATION) {
        let message = "id, causationid and correlationid follow from the command: leave them out";
        return Err(Error::invalid(message));
    }
    let correlation = match command.extension(CORRELATION) {
        Some(attribute) => attribute.clone(),
        None => Attribute::Text(command.id.clone()),
    };
    let cause = Attribute::Text(command.id.clone());
    let causes = [(CORRELATION, correlation), (CAUSATION, cause)];
    let causes = causes.map(|(name, attribute)| (name.to_owned(), attribute));
    event.extensions.extend(causes);
    event.validate()?;
    Ok(event)
}

fn timeout_default() -> u64 {
    TIMEOUT_DEFAULT_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(value: Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_declaration_is_one_of_two() {
        let webhook = Decider::parse(&json!({"webhook": "http://a/"})).unwrap();
        let Decider::Webhook(webhook) = webhook else {
            panic!("{webhook:?}");
        };
        assert_eq!(
            (webhook.url.as_str(), webhook.timeout_ms),
            ("http://a/", 5_000)
        );
        let source = "function decide(state, command) {}";
        let program = Decider::parse(&json!({ "javascript": source })).unwrap();
        assert!(matches!(program, Decider::JavaScript(_)));
        for bad in [
            json!({}),
            json!([]),
            json!({"webhook": 1}),
            json!({"webhook": "http://a/", "timeoutMs": 0}),
            json!({"webhook": "http://a/", "timeoutMs": 60_001}),
            json!({"webhook": "http://a/", "secret": "s"}),
            json!({"webhook": "http://a/", "javascript": source}),
        ] {
            assert!(Decider::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_decision_is_events_or_a_refusal() {
        let parse = |text: &str| Decision::parse(text.as_bytes());
        assert_eq!(parse("").unwrap(), Decision::Events(Vec::new()));
        let events = objects(json!([{"type": "paid"}]));
        assert_eq!(
            parse(r#"{"events":[{"type":"paid"}]}"#).unwrap(),
            Decision::Events(events)
        );
        let refused = Decision::Refused("no".to_owned());
        assert_eq!(parse(r#"{"refuse":"no"}"#).unwrap(), refused);
        let many = format!(
            r#"{{"events":[{}{{}}]}}"#,
            "{},".repeat(limits::DECIDED_EVENTS)
        );
        for bad in [
            "{}",
            "[]",
            "null",
            r#"{"refuse":1}"#,
            r#"{"events":[],"refuse":"no"}"#,
            r#"{"event":{}}"#,
            &many,
        ] {
            assert!(parse(bad).is_err(), "{bad:.40}");
        }
    }

    #[test]
    fn what_an_event_is_known_by_follows_from_the_command() {
        let stream = StreamName::new("order-1").unwrap();
        let command = Event {
            id: "c1".to_owned(),
            ..Event::default()
        };
        let of = |told| events_of(&stream, &command, "/streams", objects(told));
        let made = of(json!([
            {"type": "paid", "data": {"n": 1}, "tags": "a,b"},
            {"type": "sent", "source": "/shop"}
        ]));
        let made = made.unwrap();
        let ids: Vec<_> = made.iter().map(|event| event.id.clone()).collect();
        assert_eq!(
            ids,
            [event_id(&stream, "c1", 0), event_id(&stream, "c1", 1)]
        );
        assert_ne!(ids[0], ids[1]);
        let sources: Vec<_> = made.iter().map(|event| event.source.as_str()).collect();
        assert_eq!(sources, ["/streams", "/shop"]);
        for event in &made {
            let caused = Attribute::Text("c1".to_owned());
            assert_eq!(event.extension(CAUSATION), Some(&caused));
            assert_eq!(event.extension(CORRELATION), Some(&caused));
        }
        let correlated = Event {
            extensions: vec![(CORRELATION.to_owned(), Attribute::Text("k".to_owned()))],
            ..command.clone()
        };
        let made = events_of(
            &stream,
            &correlated,
            "/s",
            objects(json!([{"type": "paid"}])),
        );
        let belongs = Attribute::Text("k".to_owned());
        assert_eq!(made.unwrap()[0].extension(CORRELATION), Some(&belongs));
        for bad in [
            json!([{}]),
            json!([{"type": "paid", "id": "mine"}]),
            json!([{"type": "paid", "causationid": "x"}]),
            json!([{"type": "paid", "correlationid": "x"}]),
            json!([{"type": "paid", "specversion": "0.3"}]),
            json!([{"type": 7}]),
            json!([{"type": "paid", "Amount": 7}]),
        ] {
            assert!(of(bad.clone()).is_err(), "{bad}");
        }
    }
}
