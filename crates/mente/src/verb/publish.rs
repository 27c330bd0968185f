//! `mente pub TOPIC JSON`

use std::io::BufRead;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Caller, json as answer};
use crate::args::{Output, Publish};
use crate::failure::{Code, Failure, Result};
use crate::output::{cell, line};

const STRUCTURED: &str = "application/cloudevents+json";

pub(super) async fn publish(verb: Publish) -> Result<()> {
    let caller = Caller::new(&verb.connection)?;
    if verb.json != "-" {
        return one(&caller, &verb, &verb.json).await;
    }
    for read in std::io::stdin().lock().lines() {
        let text = read.map_err(|error| {
            Failure::new(Code::Failed, format!("cannot read standard input: {error}"))
        })?;
        if !text.trim().is_empty() {
            one(&caller, &verb, &text).await?;
        }
    }
    Ok(())
}

async fn one(caller: &Caller, verb: &Publish, data: &str) -> Result<()> {
    let path = format!("/topics/{}/events", verb.topic);
    let body = event(verb, data)?;
    let response = caller.call("POST", &path, Some(STRUCTURED), body).await?;
    if caller.output == Output::Json {
        return line(&response.text());
    }
    let place = answer(&response)?;
    let (partition, offset) = (cell(place.get("partition")), cell(place.get("offset")));
    line(&format!("{} {partition}:{offset}", verb.topic))
}

/// A structured event around `data`, which is sent byte for byte.
fn event(verb: &Publish, data: &str) -> Result<String> {
    let data: &RawValue = serde_json::from_str(data).map_err(|error| {
        Failure::usage(format!(
            "the data is not JSON ({error}); text needs its quotes, as in '\"hello\"'"
        ))
    })?;
    let id = match &verb.id {
        Some(id) => id.clone(),
        None => uuid::Uuid::now_v7().to_string(),
    };
    let mut event = json!({
        "specversion": "1.0",
        "id": id,
        "source": verb.source,
        "type": verb.kind,
    });
    let optional = [("subject", &verb.subject), ("partitionkey", &verb.key)];
    for (name, value) in optional {
        if let (Some(value), Some(members)) = (value, event.as_object_mut()) {
            members.insert(name.to_owned(), Value::from(value.as_str()));
        }
    }
    verb.causes.put(&mut event);
    let mut text = event.to_string();
    text.pop();
    Ok(format!("{text},\"data\":{data}}}"))
}
