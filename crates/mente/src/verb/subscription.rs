//! `mente subscription …`

use serde_json::{Map, Value, json};

use super::{Caller, JSON, confirm, items, json as answer, tail};
use crate::args::{Begin, Connection, Output, Subscription};
use crate::failure::{Code, Failure, Result};
use crate::output::{cell, line, table};

const HEAD: [&str; 7] = [
    "NAME",
    "READY",
    "LEASED",
    "DELAYED",
    "DEAD",
    "COMPLETED",
    "MAX DELIVERIES",
];

pub(super) async fn run(verb: Subscription) -> Result<()> {
    match verb {
        Subscription::Ls { topic, connection } => {
            let caller = Caller::new(&connection)?;
            let path = format!("/topics/{topic}/subscriptions");
            let show = |answer: &Value| {
                let rows: Vec<_> = items(answer, "subscriptions").map(row).collect();
                table(&HEAD, &rows)
            };
            caller.print("GET", &path, "", show).await
        }
        Subscription::Create {
            topic,
            name,
            from,
            filter,
            lock_duration_ms,
            max_delivery_count,
            time_to_live_ms,
            ordered,
            connection,
        } => {
            let mut body = Map::new();
            if let Some(text) = filter {
                let filter: Value = serde_json::from_str(&text)
                    .map_err(|error| Failure::usage(format!("--filter is not JSON: {error}")))?;
                body.insert("filter".into(), filter);
            }
            let numbers = [
                ("lock_duration_ms", lock_duration_ms),
                ("max_delivery_count", max_delivery_count.map(u64::from)),
                ("time_to_live_ms", time_to_live_ms),
            ];
            for (name, value) in numbers {
                if let Some(value) = value {
                    body.insert(name.into(), value.into());
                }
            }
            body.insert("ordered".into(), ordered.into());
            let Begin(from) = from;
            let begin = cell(Some(&from));
            body.insert("from".into(), from);
            let caller = Caller::new(&connection)?;
            let path = format!("/topics/{topic}/subscriptions/{name}");
            let body = Value::Object(body).to_string();
            let show = |_: &Value| line(&format!("subscription {topic}/{name} from {begin}"));
            caller.print("PUT", &path, body, show).await
        }
        Subscription::Get {
            topic,
            name,
            connection,
        } => {
            let caller = Caller::new(&connection)?;
            let path = format!("/topics/{topic}/subscriptions/{name}");
            let show = |answer: &Value| table(&HEAD, &[row(answer)]);
            caller.print("GET", &path, "", show).await
        }
        Subscription::Rm {
            topic,
            name,
            yes,
            connection,
        } => {
            confirm(yes, &format!("delete subscription {topic}/{name}"))?;
            let caller = Caller::new(&connection)?;
            let path = format!("/topics/{topic}/subscriptions/{name}");
            caller.call("DELETE", &path, None, "").await.map(|_| ())
        }
        Subscription::Receive {
            topic,
            name,
            max,
            wait,
            ack,
            connection,
        } => {
            let base = format!("/topics/{topic}/eventsubscriptions/{name}");
            receive(&connection, &base, max, wait, ack).await
        }
        Subscription::Dlq {
            topic,
            name,
            from,
            limit,
            connection,
        } => {
            let from = from.map_or(String::new(), |from| format!("&from={from}"));
            let path =
                format!("/topics/{topic}/subscriptions/{name}/deadletters?limit={limit}{from}");
            dead_letters(&connection, &path).await
        }
        Subscription::Replay {
            topic,
            name,
            limit,
            connection,
        } => {
            let path =
                format!("/topics/{topic}/subscriptions/{name}/deadletters:replay?limit={limit}");
            let caller = Caller::new(&connection)?;
            caller.print("POST", &path, "", replayed).await
        }
    }
}

fn replayed(answer: &Value) -> Result<()> {
    let of = |name: &str| cell(answer.get(name));
    let (replayed, passed, remaining) = (of("replayed"), of("passed"), of("remaining"));
    let more = match answer.get("exact") {
        Some(Value::Bool(true)) => "",
        _ => "+",
    };
    line(&format!("{replayed} replayed, {remaining}{more} remain"))?;
    match passed.as_str() {
        "0" => Ok(()),
        _ => line(&format!(
            "{passed} passed over: their events are not to be had any more (dlq --from 0 shows them)"
        )),
    }
}

fn row(subscription: &Value) -> Vec<String> {
    let at = |pointer: &str| cell(subscription.pointer(pointer));
    let exact = subscription.pointer("/counts/exact") == Some(&Value::Bool(true));
    let ready = at("/counts/ready");
    vec![
        at("/name"),
        if exact { ready } else { format!("{ready}+") },
        at("/counts/leased"),
        at("/counts/delayed"),
        at("/counts/dead"),
        at("/counts/completed"),
        at("/settings/max_delivery_count"),
    ]
}

async fn receive(
    connection: &Connection,
    base: &str,
    max: u32,
    wait: u32,
    ack: bool,
) -> Result<()> {
    let caller = Caller::new(connection)?;
    let path = format!("{base}:receive?maxEvents={max}&maxWaitTime={wait}");
    let response = caller.call("POST", &path, None, "").await?;
    let read = answer(&response)?;
    let tokens: Vec<&Value> = items(&read, "value")
        .filter_map(|item| item.pointer("/brokerProperties/lockToken"))
        .collect();
    match connection.output {
        Output::Json => line(&response.text())?,
        Output::Table => {
            for item in items(&read, "value") {
                let at = |pointer: &str| cell(item.pointer(pointer));
                let (token, count) = (
                    at("/brokerProperties/lockToken"),
                    at("/brokerProperties/deliveryCount"),
                );
                let mut event = vec![at("/event/type"), at("/event/subject"), at("/event/data")];
                if item.get("stream").is_some() {
                    event.insert(0, format!("{}@{}", at("/stream"), at("/revision")));
                }
                line(&format!("{token}  try {count}  {}", event.join("  ")))?;
            }
        }
    }
    if !ack || tokens.is_empty() {
        return Ok(());
    }
    let body = json!({ "lockTokens": tokens }).to_string();
    let path = format!("{base}:acknowledge");
    let response = caller.call("POST", &path, Some(JSON), body).await?;
    let lost = items(&answer(&response)?, "failedLockTokens").count();
    if lost > 0 {
        let message = format!(
            "{lost} of {} locks were lost before the acknowledgement",
            tokens.len()
        );
        return Err(Failure::new(Code::Conflict, message));
    }
    Ok(())
}

async fn dead_letters(connection: &Connection, path: &str) -> Result<()> {
    let caller = Caller::new(connection)?;
    let lines = caller.client.lines(path, "application/x-ndjson").await;
    let mut lines = lines.map_err(super::failed)?;
    while let Some(text) = lines.next().await.map_err(super::failed)? {
        tail::show(&text, caller.output)?;
    }
    Ok(())
}
