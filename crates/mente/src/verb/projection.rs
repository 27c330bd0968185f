//! `mente projection …`

use serde_json::{Value, json};

use super::sql::{query, waited};
use super::stream::read_declaration;
use super::{Caller, confirm, items, trial};
use crate::args::Projection;
use crate::failure::{Code, Failure, Result};
use crate::output::{cell, line, table};

pub(super) async fn run(verb: Projection) -> Result<()> {
    match verb {
        Projection::Ls(connection) => {
            let show = |answer: &Value| {
                let rows: Vec<_> = items(answer, "projections").map(row).collect();
                table(&HEAD, &rows)
            };
            Caller::new(&connection)?
                .print("GET", "/projections", "", show)
                .await
        }
        Projection::Create {
            name,
            file,
            connection,
        } => {
            let declared = read_declaration(&file)?;
            let path = format!("/projections/{name}");
            Caller::new(&connection)?
                .print("PUT", &path, declared, show_status)
                .await
        }
        Projection::Get { name, connection } => {
            let path = format!("/projections/{name}");
            Caller::new(&connection)?
                .print("GET", &path, "", show_status)
                .await
        }
        Projection::Rm {
            name,
            yes,
            connection,
        } => {
            confirm(yes, &format!("delete projection {name} with its rows"))?;
            let caller = Caller::new(&connection)?;
            caller
                .call("DELETE", &format!("/projections/{name}"), None, "")
                .await
                .map(drop)
        }
        Projection::Rebuild { name, connection } => {
            let path = format!("/projections/{name}/rebuild");
            Caller::new(&connection)?
                .print("POST", &path, "", show_status)
                .await
        }
        Projection::Resume { name, connection } => {
            let path = format!("/projections/{name}/resume");
            Caller::new(&connection)?
                .print("POST", &path, "", show_status)
                .await
        }
        Projection::Switch { name, connection } => {
            let path = format!("/projections/{name}/switch");
            Caller::new(&connection)?
                .print("POST", &path, "", show_status)
                .await
        }
        Projection::Rollback { name, connection } => {
            let path = format!("/projections/{name}/rollback");
            Caller::new(&connection)?
                .print("POST", &path, "", show_status)
                .await
        }
        Projection::Parked {
            name,
            key,
            limit,
            connection,
        } => {
            let limit = [("limit", limit.to_string())].into_iter();
            let asked = limit.chain(key.map(|key| ("key", key)));
            let path = format!("/projections/{name}/parked{}", query(asked));
            Caller::new(&connection)?
                .print("GET", &path, "", show_parked)
                .await
        }
        Projection::Retry {
            name,
            key,
            connection,
        } => {
            let path = format!("/projections/{name}/parked/retry");
            let asked = key.map_or_else(|| json!({}), |key| json!({ "key": key }));
            Caller::new(&connection)?
                .print("POST", &path, asked.to_string(), show_retried)
                .await
        }
        Projection::Skip {
            name,
            key,
            position,
            connection,
        } => {
            let path = format!("/projections/{name}/parked/skip");
            let asked = json!({"key": key, "position": position}).to_string();
            Caller::new(&connection)?
                .print("POST", &path, asked, show_retried)
                .await
        }
        Projection::Query {
            name,
            sql,
            limit,
            waiting,
            connection,
        } => {
            let waited = query(waited(&waiting));
            let path = format!("/projections/{name}/query{waited}");
            let asked = json!({"sql": sql, "limit": limit}).to_string();
            Caller::new(&connection)?
                .print("POST", &path, asked, show_rows)
                .await
        }
        Projection::Test { files } => trial::run(&files).await,
    }
}

const HEAD: [&str; 8] = [
    "NAME",
    "STATE",
    "SOURCE",
    "APPLIED",
    "LAG",
    "LAG SECONDS",
    "PARKED",
    "ERROR",
];

fn row(status: &Value) -> Vec<String> {
    let of = |name: &str| cell(status.get(name));
    let error = cell(status.pointer("/error/message"));
    let seconds = status.get("lagSeconds").and_then(Value::as_f64);
    let seconds = seconds.map_or_else(|| cell(None), |seconds| format!("{seconds:.1}"));
    vec![
        of("name"),
        of("state"),
        of("source"),
        of("applied"),
        of("lag"),
        seconds,
        cell(status.pointer("/parked/events")),
        error,
    ]
}

fn show_status(status: &Value) -> Result<()> {
    table(&HEAD, &[row(status)])?;
    if status.get("ready") == Some(&Value::Bool(true)) {
        line("rebuilt rows have caught up and wait: say switch")?;
    }
    let Some(kept) = status.get("kept") else {
        return Ok(());
    };
    let positions = items(kept, "partitions").map(|at| {
        let of = |name: &str| cell(at.get(name));
        format!("{}:{}", of("partition"), of("nextOffset"))
    });
    let positions: Vec<_> = positions.collect();
    line(&format!(
        "kept to go back to: {} events up to {}, {} bytes",
        cell(kept.get("applied")),
        positions.join(","),
        cell(kept.get("bytes")),
    ))
}

fn show_parked(parked: &Value) -> Result<()> {
    let words = |of: &Value| {
        let of = |name: &str| cell(of.get(name));
        [of("position"), of("eventType"), of("eventId"), of("error")]
    };
    if parked.get("ofKey").is_some() {
        let rows: Vec<_> = items(parked, "ofKey").map(|e| words(e).to_vec()).collect();
        table(&["POSITION", "TYPE", "ID", "ERROR"], &rows)?;
    } else {
        let row = |key: &Value| {
            let mut row = vec![cell(key.get("key")), cell(key.get("events"))];
            row.extend(words(key.get("first").unwrap_or(&Value::Null)));
            row
        };
        let rows: Vec<_> = items(parked, "heldUp").map(row).collect();
        table(&["KEY", "EVENTS", "FIRST", "TYPE", "ID", "ERROR"], &rows)?;
    }
    if parked.get("truncated") == Some(&Value::Bool(true)) {
        return Err(Failure::new(
            Code::Failed,
            "there are more: raise --limit, or ask for one --key",
        ));
    }
    Ok(())
}

fn show_retried(retried: &Value) -> Result<()> {
    let of = |path: &str| cell(retried.pointer(path));
    let left = of("/parked/events");
    line(&format!(
        "{} applied, {} skipped, {left} of {} keys still parked",
        of("/applied"),
        of("/skipped"),
        of("/parked/keys"),
    ))
}

pub(super) fn show_rows(answer: &Value) -> Result<()> {
    let names: Vec<String> = items(answer, "columns")
        .map(|name| cell(Some(name)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cells = |row: &Value| {
        row.as_array()
            .into_iter()
            .flatten()
            .map(|c| cell(Some(c)))
            .collect()
    };
    let rows: Vec<Vec<String>> = items(answer, "rows").map(cells).collect();
    table(&names, &rows)?;
    if answer.get("truncated") == Some(&Value::Bool(true)) {
        return Err(Failure::new(
            Code::Failed,
            "there are more rows: ask for less, or raise --limit",
        ));
    }
    Ok(())
}

/// `mente verify`: every projection folded again and compared.
pub(super) async fn verify(connection: crate::args::Connection, noted: Option<&str>) -> Result<()> {
    let caller = Caller::new(&connection)?;
    let body = match noted.map(crate::run::noted).transpose()? {
        Some(noted) => serde_json::json!({ "noted": noted }).to_string(),
        None => String::new(),
    };
    let answer = caller.call("POST", "/verify", None, body).await?;
    let answer = super::json(&answer)?;
    for part in items(&answer, "parts") {
        let of = |name: &str| cell(part.get(name));
        let equal = if part.get("equal") == Some(&Value::Bool(true)) {
            "equal"
        } else {
            "DIFFERENT"
        };
        line(&format!("{equal:<10}{:<28}{}", of("what"), of("detail")))?;
    }
    if answer.get("equal") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    Err(Failure::new(
        Code::Failed,
        "what is there is not the fold of the log: see above",
    ))
}
