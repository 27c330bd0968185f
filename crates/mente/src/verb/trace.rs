//! `mente trace ID`

use serde_json::Value;

use super::{Caller, escape, items};
use crate::args::Connection;
use crate::failure::Result;
use crate::output::{cell, line};

/// A tree: each event below what caused it, and below each place of it who was told of it there.
pub(super) async fn trace(id: &str, time: Option<&str>, connection: &Connection) -> Result<()> {
    let time = time.map_or(String::new(), |time| format!("?time={}", escape(time)));
    let path = format!("/trace/{}{time}", escape(id));
    let show = |answer: &Value| {
        let mut last = None;
        for place in items(answer, "places") {
            let of = |name: &str| cell(place.get(name));
            let depth = place.get("depth").and_then(Value::as_u64).unwrap_or(0);
            let indent = "  ".repeat(usize::try_from(depth).unwrap_or(0).min(DEPTH_SHOWN));
            if last.replace(of("id")) != Some(of("id")) {
                let cause = match (place.get("parent"), place.get("causationid")) {
                    (None, Some(_)) => format!("  (caused by {})", of("causationid")),
                    _ => String::new(),
                };
                line(&format!("{indent}{} {}{cause}", of("type"), of("id")))?;
            }
            let by = match place.get("actor") {
                Some(_) => format!(" by {}", of("actor")),
                None => String::new(),
            };
            line(&format!(
                "{indent}  at {}, {}{by}",
                at(place),
                of("appended")
            ))?;
            for told in items(place, "subscriptions") {
                line(&format!("{indent}    > {}", subscription(told)))?;
            }
        }
        tell_bounds(answer);
        Ok(())
    };
    let caller = Caller::new(connection)?;
    caller.print("GET", &path, "", show).await
}

/// Deeper ones are not shown further to the right.
const DEPTH_SHOWN: usize = 40;

fn at(place: &Value) -> String {
    let of = |name: &str| cell(place.get(name));
    match place.get("stream") {
        Some(_) => format!(
            "{}@{} (position {})",
            of("stream"),
            of("revision"),
            of("position")
        ),
        None => format!("{} {}:{}", of("topic"), of("partition"), of("offset")),
    }
}

fn subscription(told: &Value) -> String {
    let of = |name: &str| cell(told.get(name));
    let state = match of("state").as_str() {
        "deadLettered" => format!("dead letter ({})", of("reason")),
        "delivered" => "delivered, not settled yet".to_owned(),
        "retrying" => format!("to be tried again after {} attempts", of("attempts")),
        other => other.to_owned(),
    };
    let webhook = match told.get("webhook") {
        Some(_) => format!(", webhook {}", of("webhook")),
        None => String::new(),
    };
    format!("{}/{}: {state}{webhook}", of("topic"), of("name"))
}

fn tell_bounds(answer: &Value) {
    for missing in items(answer, "incomplete") {
        eprintln!("incomplete: {}", cell(Some(missing)));
    }
    let of = |name: &str| cell(answer.pointer(&format!("/looked/{name}")));
    eprintln!(
        "looked at {} events of streams and {} of topics",
        of("store"),
        of("topics")
    );
}
