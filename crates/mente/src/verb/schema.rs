//! `mente schema …`

use std::path::Path;

use serde_json::{Value, json};

use super::stream::{escape, read_declaration};
use super::{Caller, items, json as read_json};
use crate::args::{Output, Schema};
use crate::failure::{Code, Failure, Result};
use crate::output::{cell, line, printable, table};

pub(super) async fn run(verb: Schema) -> Result<()> {
    match verb {
        Schema::Ls(connection) => {
            let show = |answer: &Value| {
                let row =
                    |schema: &Value| vec![cell(schema.get("type")), cell(schema.get("version"))];
                let rows: Vec<_> = items(answer, "schemas").map(row).collect();
                table(&["TYPE", "VERSION"], &rows)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", "/schemas", "", show).await
        }
        Schema::Set {
            kind,
            file,
            connection,
        } => {
            let declared = declaration(&file)?;
            let show = |answer: &Value| {
                let version = cell(answer.get("version"));
                line(&format!(
                    "events of type {kind} are told in version {version} from now on"
                ))
            };
            let path = format!("/schemas/{}", escape(&kind));
            let caller = Caller::new(&connection)?;
            caller.print("PUT", &path, declared, show).await
        }
        Schema::Get { kind, connection } => {
            let path = format!("/schemas/{}", escape(&kind));
            let caller = Caller::new(&connection)?;
            let answer = caller.call("GET", &path, None, "").await?;
            line(&answer.text())
        }
        Schema::Check {
            kind,
            file,
            replay,
            connection,
        } => {
            let caller = Caller::new(&connection)?;
            check(&caller, &kind, declaration(&file)?, replay).await
        }
        Schema::Rm { kind, connection } => {
            let path = format!("/schemas/{}", escape(&kind));
            let caller = Caller::new(&connection)?;
            caller.call("DELETE", &path, None, "").await.map(|_| ())
        }
    }
}

async fn check(caller: &Caller, kind: &str, declared: String, replay: bool) -> Result<()> {
    let path = format!("/schemas/{}/check?replay={replay}", escape(kind));
    let answer = caller.call("POST", &path, Some(super::JSON), declared);
    let answer = answer.await?;
    let checked = read_json(&answer)?;
    match caller.output {
        Output::Json => line(&answer.text())?,
        Output::Table if replay => show_check(kind, &checked)?,
        Output::Table => line(&format!(
            "the schema of {kind} can be set; --replay looks at events"
        ))?,
    }
    match checked.get("failed").and_then(Value::as_u64) {
        Some(failed @ 1..) => {
            let message = format!("{failed} events cannot be told so");
            Err(Failure::new(Code::Failed, message))
        }
        _ => Ok(()),
    }
}

fn show_check(kind: &str, checked: &Value) -> Result<()> {
    let of = |name: &str| cell(checked.get(name));
    let (events, looked) = (of("events"), of("looked"));
    line(&format!(
        "{events} of {looked} events are of type {kind}, or become it"
    ))?;
    let versions = checked.get("byVersion").and_then(Value::as_object);
    for (version, events) in versions.into_iter().flatten() {
        line(&format!("  {events} say version {version}"))?;
    }
    let (split, parts) = (of("split"), of("parts"));
    for (count, what) in [
        (of("unchanged"), "are told as they were written"),
        (of("changed"), "are told otherwise"),
        (
            split,
            &format!("are told as several events, {parts} in all"),
        ),
        (of("dropped"), "are dropped"),
        (
            of("ahead"),
            "say a later version, and are told as they were written",
        ),
        (of("failed"), "cannot be told"),
    ] {
        if count != "0" {
            line(&format!("  {count} {what}"))?;
        }
    }
    for failure in items(checked, "failures") {
        let of = |name: &str| printable(&cell(failure.get(name)));
        let (place, id, message) = (of("place"), of("id"), of("message"));
        line(&format!("{place}, event {id}: {message}"))?;
    }
    Ok(())
}

/// A declaration with the sources that it names as files.
fn declaration(file: &str) -> Result<String> {
    let text = read_declaration(file)?;
    let mut declared: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{file} is no JSON: {error}")))?;
    let upcasters = declared.get_mut("upcasters").and_then(Value::as_object_mut);
    let named = upcasters
        .into_iter()
        .flat_map(|upcasters| upcasters.values_mut());
    for upcaster in named.filter_map(Value::as_object_mut) {
        if let Some(Value::String(source)) = upcaster.remove("file") {
            let beside = Path::new(file).parent().unwrap_or(Path::new("."));
            let source = read_declaration(&beside.join(source).display().to_string())?;
            upcaster.insert("javascript".to_owned(), json!(source));
        }
    }
    Ok(declared.to_string())
}
