//! `mente replica …`

use serde_json::{Value, json};

use super::{Caller, confirm, escape, items};
use crate::args::Replica;
use crate::failure::Result;
use crate::output::{cell, line, table};

/// Holds the key that the source asks for: a flag would show it to everyone on the machine.
const SOURCE_KEY: &str = "MENTE_SOURCE_KEY";

pub(super) async fn run(verb: Replica) -> Result<()> {
    match verb {
        Replica::Ls(connection) => {
            let show = |answer: &Value| {
                let rows: Vec<_> = items(answer, "replicas").map(row).collect();
                table(&HEAD, &rows)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", "/replicas", "", show).await
        }
        Replica::Create {
            name,
            from,
            topic,
            connection,
        } => {
            let mut source = json!({ "url": from, "topic": topic });
            if let Some(key) = std::env::var(SOURCE_KEY).ok().filter(|key| !key.is_empty()) {
                source["key"] = key.into();
            }
            let declared = json!({ "source": source }).to_string();
            let path = format!("/replicas/{name}");
            let caller = Caller::new(&connection)?;
            caller.print("PUT", &path, declared, show_status).await
        }
        Replica::Get {
            name,
            key: None,
            connection,
        } => {
            let path = format!("/replicas/{name}");
            let caller = Caller::new(&connection)?;
            caller.print("GET", &path, "", show_status).await
        }
        Replica::Get {
            name,
            key: Some(key),
            connection,
        } => {
            let path = format!("/replicas/{name}/items/{}", escape(&key));
            let show = |answer: &Value| {
                line(&cell(answer.pointer("/item/event")))?;
                show_age(answer)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", &path, "", show).await
        }
        Replica::Items {
            name,
            after,
            limit,
            connection,
        } => {
            let after = after.map_or(String::new(), |key| format!("&after={}", escape(&key)));
            let path = format!("/replicas/{name}/items?limit={limit}{after}");
            let show = |answer: &Value| {
                let rows: Vec<_> = items(answer, "items").map(item).collect();
                table(&["KEY", "PLACE", "DATA"], &rows)?;
                if let Some(next) = answer.get("next").and_then(Value::as_str) {
                    line(&format!("more behind {next}"))?;
                }
                show_age(answer)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", &path, "", show).await
        }
        Replica::Rm {
            name,
            yes,
            connection,
        } => {
            confirm(yes, &format!("delete replica {name} with its copy"))?;
            let caller = Caller::new(&connection)?;
            let path = format!("/replicas/{name}");
            caller.call("DELETE", &path, None, "").await.map(drop)
        }
    }
}

const HEAD: [&str; 9] = [
    "NAME",
    "STATE",
    "SOURCE",
    "ITEMS",
    "LAG",
    "SECONDS OLD",
    "ANSWERS",
    "GAPS",
    "ERROR",
];

fn row(status: &Value) -> Vec<String> {
    let of = |name: &str| cell(status.get(name));
    let at = |pointer: &str| cell(status.pointer(pointer));
    let source = format!("{} of {}", at("/source/topic"), at("/source/url"));
    let error = match status.get("error") {
        Some(error) => cell(Some(error)),
        None => at("/staleness/error"),
    };
    vec![
        of("name"),
        of("state"),
        source,
        of("items"),
        of("lag"),
        at("/staleness/seconds"),
        at("/staleness/sourceAnswers"),
        of("gaps"),
        error,
    ]
}

fn item(item: &Value) -> Vec<String> {
    let of = |name: &str| cell(item.get(name));
    let place = format!("{}:{}", of("partition"), of("offset"));
    vec![of("key"), place, cell(item.pointer("/event/data"))]
}

fn show_status(status: &Value) -> Result<()> {
    table(&HEAD, &[row(status)])?;
    show_incomplete(status)
}

fn show_age(answer: &Value) -> Result<()> {
    let seconds = match answer.pointer("/staleness/seconds") {
        Some(seconds) if !seconds.is_null() => format!("{seconds} s old at most"),
        _ => "the source was never heard to its end".to_owned(),
    };
    let answers = match answer.pointer("/staleness/sourceAnswers") {
        Some(Value::Bool(true)) => "the source answers",
        _ => "the source does not answer",
    };
    line(&format!("{seconds}, {answers}"))?;
    show_incomplete(answer)
}

fn show_incomplete(answer: &Value) -> Result<()> {
    let Some(staleness) = answer.get("staleness") else {
        return Ok(());
    };
    let at = |at: &Value| format!("{}:{}", cell(at.get("partition")), cell(at.get("offset")));
    let before: Vec<String> = items(staleness, "incompleteBefore").map(at).collect();
    if before.is_empty() {
        return Ok(());
    }
    line(&format!(
        "incomplete: keys that changed last before {} are not here, since retention had removed those events",
        before.join(",")
    ))
}
