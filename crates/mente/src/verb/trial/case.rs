//! What a test file says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use mente_broker::StreamName;
use mente_engine::Event;
use mente_server::http::distinct::Distinct;
use mente_wire::cloudevents;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::{Failure, Result};
use crate::output::printable;

/// A test file, and a declaration beside it.
const FILE_BYTES: u64 = 16 << 20;
const CASES_PER_FILE: usize = 1_000;
/// No more than there are seconds in a day, see [`time`].
const EVENTS_PER_CASE: usize = 10_000;

/// An event as it was written: its data stays the bytes that came.
pub(super) type Given = BTreeMap<String, Box<RawValue>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: Option<String>,
    pub(super) projection: Value,
    pub(super) given: Vec<Given>,
    /// Rows by table or query.
    #[serde(default)]
    pub(super) expect: BTreeMap<String, Vec<Value>>,
    /// By the number of the event, from 1: a part of the message.
    #[serde(default)]
    pub(super) refuse: BTreeMap<usize, String>,
}

/// The cases of a file, one or an array.
pub(super) fn read(file: &Path) -> Result<Vec<Case>> {
    let text = text(file)?;
    let shown = file.display();
    let mut cases: Vec<Case> = if text.trim_start().starts_with('[') {
        parse(file, &text, "is no test of a projection")?
    } else {
        vec![parse(file, &text, "is no test of a projection")?]
    };
    if cases.is_empty() || cases.len() > CASES_PER_FILE {
        let message = format!(
            "{shown} has {} cases, not 1 to {CASES_PER_FILE}",
            cases.len()
        );
        return Err(Failure::usage(message));
    }
    for (index, case) in cases.iter_mut().enumerate() {
        let number = index + 1;
        case.find_declaration(file)?;
        case.check()
            .map_err(|what| Failure::usage(format!("{shown}, case {number}: {what}")))?;
    }
    Ok(cases)
}

impl Case {
    /// One that is named lies beside the test file.
    fn find_declaration(&mut self, beside: &Path) -> Result<()> {
        let named = self.projection.as_object().filter(|said| said.len() == 1);
        let Some(named) = named.and_then(|said| said.get("file")?.as_str()) else {
            return Ok(());
        };
        let file = beside.with_file_name(named);
        self.projection = parse(&file, &text(&file)?, "is no declaration")?;
        Ok(())
    }

    /// What could not fail, or is not tried here, is refused before anything is tried.
    fn check(&self) -> Result<(), String> {
        if self.projection.get("target").is_some() {
            return Err(
                "rows in a \"target\", PostgreSQL, are not tried: its statements are not SQLite's"
                    .to_owned(),
            );
        }
        if self.expect.is_empty() && self.refuse.is_empty() {
            return Err(
                "neither \"expect\" nor \"refuse\": say which rows there are to be, or which event is refused".to_owned(),
            );
        }
        let events = self.given.len();
        if events > EVENTS_PER_CASE {
            return Err(format!(
                "{events} events are given, more than {EVENTS_PER_CASE}"
            ));
        }
        for (number, part) in &self.refuse {
            if !(1..=events).contains(number) {
                return Err(format!(
                    "\"refuse\" names event {number}, and {events} are given, counted from 1"
                ));
            }
            if part.is_empty() {
                return Err(format!(
                    "\"refuse\" has no part of the message for event {number}"
                ));
            }
        }
        let is_row = |row: &Value| row.is_object() || row.is_array();
        match self.expect.values().flatten().find(|row| !is_row(row)) {
            Some(odd) => Err(format!("{odd} is no row: an object by column, or an array")),
            None => Ok(()),
        }
    }
}

/// The event and its stream, if it is one of the store; what it leaves out follows from its number alone.
pub(super) fn event(
    given: &Given,
    number: usize,
    is_of_store: bool,
) -> Result<(Option<StreamName>, Event), String> {
    let mut members: BTreeMap<&str, String> = given
        .iter()
        .map(|(name, raw)| (name.as_str(), raw.get().to_owned()))
        .collect();
    let stream = if is_of_store {
        let named = members.remove("stream");
        let named = named.ok_or("its \"stream\" is missing: the source is the store")?;
        let named: String =
            serde_json::from_str(&named).map_err(|_| "its \"stream\" is no text".to_owned())?;
        Some(StreamName::new(named).map_err(|error| error.message)?)
    } else {
        None
    };
    let made = [
        ("specversion", "1.0".to_owned()),
        ("id", format!("event-{number}")),
        ("source", "/mente/projection/test".to_owned()),
        ("time", time(number)),
    ];
    for (name, value) in made {
        members
            .entry(name)
            .or_insert_with(|| Value::from(value).to_string());
    }
    let member = |(name, raw): (&str, String)| format!("{}:{raw}", Value::from(name));
    let members: Vec<String> = members.into_iter().map(member).collect();
    let text = Bytes::from(format!("{{{}}}", members.join(",")));
    let event = cloudevents::parse_event(&text).map_err(|malformed| malformed.what)?;
    Ok((stream, event))
}

/// A second later each.
fn time(number: usize) -> String {
    let (hours, minutes, seconds) = (number / 3_600, number / 60 % 60, number % 60);
    format!("2026-01-01T{hours:02}:{minutes:02}:{seconds:02}Z")
}

/// No member is there twice: an expectation would be none, and a server refuses such a declaration.
fn parse<T: DeserializeOwned>(file: &Path, text: &str, what: &str) -> Result<T> {
    let read = serde_json::from_str::<Distinct>(text);
    read.and_then(|Distinct| serde_json::from_str(text))
        .map_err(|error| {
            let error = printable(&error.to_string());
            Failure::usage(format!("{} {what}: {error}", file.display()))
        })
}

fn text(file: &Path) -> Result<String> {
    let shown = file.display();
    let failed = |error| Failure::usage(format!("cannot read {shown}: {error}"));
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    opened
        .take(FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_BYTES {
        let message = format!("{shown} has more than {FILE_BYTES} bytes: make several files of it");
        return Err(Failure::usage(message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &str, is_of_store: bool) -> Result<(Option<StreamName>, Event), String> {
        event(&serde_json::from_str(given).unwrap(), 3_661, is_of_store)
    }

    #[test]
    fn what_an_event_leaves_out_follows_from_its_number() {
        let (stream, event) =
            made(r#"{"type":"E","stream":"a-1","data":{"n":1.10}}"#, true).unwrap();
        assert_eq!(stream.unwrap().as_str(), "a-1");
        assert_eq!((&*event.id, &*event.kind), ("event-3661", "E"));
        assert_eq!(event.time.as_deref(), Some("2026-01-01T01:01:01Z"));
        assert_eq!(
            event.data,
            mente_engine::Data::Json(Bytes::from_static(br#"{"n":1.10}"#))
        );
        let (_, event) = made(
            r#"{"type":"E","id":"x","time":"2020-01-01T00:00:00Z"}"#,
            false,
        )
        .unwrap();
        assert_eq!(
            (&*event.id, event.time.as_deref()),
            ("x", Some("2020-01-01T00:00:00Z"))
        );
        assert!(
            made(r#"{"type":"E"}"#, true)
                .unwrap_err()
                .contains("stream")
        );
        assert!(
            made(r#"{"type":"E","stream":7}"#, true)
                .unwrap_err()
                .contains("no text")
        );
        assert!(made("{}", false).unwrap_err().contains("type"));
    }
}
