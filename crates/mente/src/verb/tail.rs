//! `mente tail TOPIC`

use serde_json::Value;

use super::{Caller, failed};
use crate::args::{Output, Tail};
use crate::client::Response;
use crate::failure::{Code, Failure, Result};
use crate::output::{cell, line};

pub(super) async fn tail(verb: Tail) -> Result<()> {
    let caller = Caller::new(&verb.connection)?;
    // A plus sign, as in a time with an offset, would arrive as a space.
    let from = verb.from.replace('+', "%2B");
    let follow = !verb.no_follow;
    let mut path = format!("/topics/{}/events?follow={follow}&from={from}", verb.topic);
    if let Some(partition) = verb.partition {
        path.push_str(&format!("&partition={partition}"));
    }
    if let Some(limit) = verb.limit {
        path.push_str(&format!("&limit={limit}"));
    }
    let lines = caller.client.lines(&path, "application/x-ndjson").await;
    let mut lines = lines.map_err(failed)?;
    while let Some(text) = lines.next().await.map_err(failed)? {
        show(&text, caller.output)?;
    }
    Ok(())
}

/// Prints one line of the answer; also that of dead letters, and of the store.
pub(super) fn show(text: &str, output: Output) -> Result<()> {
    let read: Value = serde_json::from_str(text)
        .map_err(|error| Failure::new(Code::Failed, format!("a line is not JSON: {error}")))?;
    // The server could not go on; it had begun to answer, so this is how it says so.
    if read.get("error").is_some() {
        return Err(super::refused(&Response {
            status: 500,
            headers: hyper::HeaderMap::new(),
            body: text.to_owned().into(),
        }));
    }
    if output == Output::Json {
        return line(text);
    }
    let event = read.get("event").unwrap_or(&Value::Null);
    let data = event.get("data").or(event.get("data_base64"));
    let of = |name: &str| cell(read.get(name));
    // Of a topic, or of the store.
    let place = match read.get("stream") {
        None => format!("{}:{}", of("partition"), of("offset")),
        Some(_) => format!("{}  {}@{}", of("position"), of("revision"), of("stream")),
    };
    let (kind, subject) = (cell(event.get("type")), cell(event.get("subject")));
    line(&format!("{place}  {kind}  {subject}  {}", cell(data)))
}
