//! `mente stream …` and `mente fold …`

use std::path::Path;

use serde_json::{Value, json};

use super::{Caller, decider, failed, items, past, tail};
use crate::args::{Causes, Connection, Fold, Stream};
use crate::failure::{Failure, Result};
use crate::output::{cell, line, table};

pub(super) async fn run(verb: Stream) -> Result<()> {
    match verb {
        Stream::Ls { from, connection } => {
            let show = |answer: &Value| {
                let row = |stream: &Value| {
                    let columns = ["name", "events", "position"];
                    columns.map(|name| cell(stream.get(name))).to_vec()
                };
                let rows: Vec<_> = items(answer, "streams").map(row).collect();
                table(&["STREAM", "EVENTS", "BEGAN AT"], &rows)?;
                if let Some(next) = answer.get("next") {
                    eprintln!("there may be more: --from {next}");
                }
                Ok(())
            };
            let path = format!("/streams?from={from}");
            let caller = Caller::new(&connection)?;
            caller.print("GET", &path, "", show).await
        }
        Stream::Append {
            stream,
            json,
            kind,
            id,
            expected,
            tags,
            causes,
            connection,
        } => {
            let mut event = event(kind, id, &json, &causes)?;
            if let Some(tags) = tags {
                event["tags"] = tags.into();
            }
            let path = format!("/streams/{}?expected={expected}", escape(&stream));
            let caller = Caller::new(&connection)?;
            let content_type = Some("application/cloudevents+json");
            let answer = caller
                .call("POST", &path, content_type, event.to_string())
                .await?;
            line(&answer.text())
        }
        Stream::Command {
            stream,
            json,
            kind,
            id,
            causes,
            connection,
        } => {
            let command = event(kind, id, &json, &causes)?;
            decider::command(&stream, &command, &connection).await
        }
        Stream::Find {
            kind,
            tags,
            category,
            correlation,
            causation,
            from,
            time,
            backwards,
            follow,
            limit,
            connection,
        } => {
            let texts = [
                ("type", kind),
                ("tag", tags),
                ("category", category),
                ("correlation", correlation),
                ("causation", causation),
                ("time", time),
                ("from", from.map(|from| from.to_string())),
                ("limit", limit.map(|limit| limit.to_string())),
                ("direction", backwards.then(|| "backwards".to_owned())),
            ];
            let texts = texts
                .into_iter()
                .filter_map(|(name, text)| Some((name, text?)));
            let asked: Vec<_> = texts
                .map(|(name, text)| format!("&{name}={}", escape(&text)))
                .collect();
            let path = format!("/store/events?follow={follow}{}", asked.concat());
            find(&path, &connection).await
        }
        Stream::Read {
            stream,
            from,
            limit,
            connection,
        } => {
            let path = format!("/streams/{}?from={from}&limit={limit}", escape(&stream));
            let show = |answer: &Value| {
                let row = |event: &Value| {
                    let of = |name: &str| cell(event.pointer(&format!("/event/{name}")));
                    vec![
                        cell(event.get("revision")),
                        of("type"),
                        of("id"),
                        of("data"),
                    ]
                };
                let rows: Vec<_> = items(answer, "events").map(row).collect();
                table(&["REVISION", "TYPE", "ID", "DATA"], &rows)
            };
            Caller::new(&connection)?
                .print("GET", &path, "", show)
                .await
        }
        Stream::Head { connection } => {
            let show = |answer: &Value| {
                let of = |name: &str| cell(answer.get(name));
                line(&format!("{}:{}", of("position"), of("hash")))
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", "/store/head", "", show).await
        }
        Stream::Metadata {
            stream,
            set,
            expected,
            connection,
        } => metadata(&stream, set, &expected, &connection).await,
        Stream::Truncate {
            stream,
            before,
            connection,
        } => truncate(&stream, before, &connection).await,
        Stream::Rm {
            stream,
            forever,
            expected,
            connection,
        } => {
            let path = format!(
                "/streams/{}?expected={expected}&forever={forever}",
                escape(&stream)
            );
            let done = |_: &Value| match forever {
                true => line(&format!("{stream} is deleted for good")),
                false => line(&format!("{stream} is deleted; an append begins it again")),
            };
            let caller = Caller::new(&connection)?;
            caller.print("DELETE", &path, "", done).await
        }
        Stream::State {
            stream,
            when,
            connection,
        } => past::state(&stream, &when, &connection).await,
        Stream::Log {
            stream,
            before,
            limit,
            connection,
        } => past::log(&stream, before, limit, &connection).await,
        Stream::Diff {
            stream,
            from,
            to,
            connection,
        } => past::difference(&stream, from, to, &connection).await,
        Stream::Blame {
            stream,
            field,
            when,
            connection,
        } => past::blame(&stream, field.as_deref(), &when, &connection).await,
        Stream::Whatif {
            stream,
            drop,
            replace,
            append,
            keep,
            when,
            connection,
        } => {
            let otherwise = past::otherwise(&drop, &replace, &append)?;
            match keep {
                None => past::what_if(&stream, otherwise, &when, &connection).await,
                Some(name) => past::keep(&name, &stream, &otherwise, when.at, &connection).await,
            }
        }
        Stream::Promote {
            stream,
            drop,
            replace,
            append,
            at,
            id,
            connection,
        } => {
            let otherwise = past::otherwise(&drop, &replace, &append)?;
            let path = format!("/streams/{}/promote", escape(&stream));
            past::promote(&path, otherwise, at, id.as_deref(), &connection).await
        }
    }
}

/// Shows what holds for a stream, or sets it from a file.
async fn metadata(
    stream: &str,
    set: Option<String>,
    expected: &str,
    connection: &Connection,
) -> Result<()> {
    let caller = Caller::new(connection)?;
    let path = format!("/streams/{}/metadata", escape(stream));
    let Some(file) = set else {
        let answer = caller.call("GET", &path, None, "").await?;
        return line(&answer.text());
    };
    let path = format!("{path}?expected={expected}");
    let done = |_: &Value| line(&format!("that holds for {stream} from now on"));
    caller
        .print("PUT", &path, read_declaration(&file)?, done)
        .await
}

/// Changes one part of the metadata and leaves the others, unless somebody else changes them meanwhile.
async fn truncate(stream: &str, before: u64, connection: &Connection) -> Result<()> {
    let caller = Caller::new(connection)?;
    let path = format!("/streams/{}/metadata", escape(stream));
    let answer = caller.call("GET", &path, None, "").await?;
    let mut told = super::json(&answer)?;
    let expected = match &told["revision"] {
        Value::Null => "none".to_owned(),
        revision => revision.to_string(),
    };
    told["metadata"]["truncateBefore"] = before.into();
    let path = format!("{path}?expected={expected}");
    let done = |_: &Value| {
        line(&format!(
            "{stream} begins at revision {before} for its readers"
        ))
    };
    caller
        .print("PUT", &path, told["metadata"].to_string(), done)
        .await
}

/// A line for each event, as they come.
async fn find(path: &str, connection: &Connection) -> Result<()> {
    let caller = Caller::new(connection)?;
    let lines = caller.client.lines(path, "application/x-ndjson").await;
    let mut lines = lines.map_err(failed)?;
    while let Some(text) = lines.next().await.map_err(failed)? {
        tail::show(&text, caller.output)?;
    }
    Ok(())
}

pub(super) async fn fold(verb: Fold) -> Result<()> {
    match verb {
        Fold::Set {
            category,
            file,
            connection,
        } => {
            let declared = read_program(&file)?;
            let path = format!("/folds/{category}");
            let done = |_: &Value| line(&format!("streams {category}-… are folded so from now on"));
            Caller::new(&connection)?
                .print("PUT", &path, declared, done)
                .await
        }
        Fold::Get {
            category,
            connection,
        } => {
            let caller = Caller::new(&connection)?;
            let answer = caller
                .call("GET", &format!("/folds/{category}"), None, "")
                .await?;
            line(&answer.text())
        }
    }
}

/// An event with JSON data, as one says it on the command line.
fn event(kind: String, id: Option<String>, data: &str, causes: &Causes) -> Result<Value> {
    let data: Value = serde_json::from_str(data)
        .map_err(|error| Failure::usage(format!("the data is not JSON: {error}")))?;
    let id = id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let mut event =
        json!({"specversion": "1.0", "id": id, "source": "/mente/cli", "type": kind, "data": data});
    causes.put(&mut event);
    Ok(event)
}

/// A declaration, or a source that is one on its own.
pub(super) fn read_program(file: &str) -> Result<String> {
    let declared = read_declaration(file)?;
    Ok(match is_javascript(file) {
        true => json!({ "javascript": declared }).to_string(),
        false => declared,
    })
}

/// By its name: what comes from standard input is JSON, which may hold a source.
fn is_javascript(file: &str) -> bool {
    let extension = Path::new(file).extension();
    extension.is_some_and(|extension| extension == "js")
}

/// A declaration from a file, or from standard input for `-`.
pub(super) fn read_declaration(file: &str) -> Result<String> {
    let read = if file == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))
}

/// A stream's name holds any text; a path does not.
pub(crate) fn escape(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let escape = |b: u8| {
        if plain(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_become_paths() {
        assert_eq!(super::escape("order-1/ä?"), "order-1%2F%C3%A4%3F");
    }
}
