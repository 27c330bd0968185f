//! `mente stream state|log|diff|blame|whatif`: what a stream was, what changed it, and what it would
//! be otherwise.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::stream::{escape, read_declaration};
use super::{Caller, items};
use crate::args::{Alternative, Connection, When};
use crate::failure::{Failure, Result};
use crate::output::{cell, line, printable, table};

/// Changes of one event that a log shows to people.
const CHANGES_SHOWN: usize = 5;
/// Longest value that people are shown beside others.
const VALUE_CHARS: usize = 60;

pub(super) async fn state(stream: &str, when: &When, connection: &Connection) -> Result<()> {
    let path = format!("/streams/{}/state{}", escape(stream), asked(when, None));
    let show = |answer: &Value| {
        let state = answer.get("state").unwrap_or(&Value::Null);
        let state = serde_json::to_string_pretty(state).unwrap_or_default();
        line(&format!("revision {}", cell(answer.get("revision"))))?;
        state.lines().try_for_each(|text| line(&printable(text)))
    };
    let caller = Caller::new(connection)?;
    caller.print("GET", &path, "", show).await
}

pub(super) async fn log(
    stream: &str,
    before: Option<u64>,
    limit: u32,
    connection: &Connection,
) -> Result<()> {
    let before = before.map_or(String::new(), |before| format!("&before={before}"));
    let path = format!("/streams/{}/log?limit={limit}{before}", escape(stream));
    let show = |answer: &Value| {
        for step in items(answer, "steps") {
            let of = |name: &str| cell(step.get(name));
            let (revision, time) = (of("revision"), of("time"));
            line(&format!("{revision}  {time}  {}  {}", of("type"), of("id")))?;
            let shown = items(step, "changes").take(CHANGES_SHOWN);
            shown
                .map(changed)
                .try_for_each(|text| line(&format!("    {text}")))?;
            let changed = step.get("changed").and_then(Value::as_u64).unwrap_or(0);
            if let more @ 1.. = changed.saturating_sub(CHANGES_SHOWN as u64) {
                line(&format!("    and {more} more"))?;
            }
        }
        Ok(())
    };
    let caller = Caller::new(connection)?;
    caller.print("GET", &path, "", show).await
}

pub(super) async fn difference(
    stream: &str,
    from: u64,
    to: u64,
    connection: &Connection,
) -> Result<()> {
    let path = format!("/streams/{}/diff?from={from}&to={to}", escape(stream));
    let caller = Caller::new(connection)?;
    caller.print("GET", &path, "", show_changes).await
}

pub(super) async fn blame(
    stream: &str,
    field: Option<&str>,
    when: &When,
    connection: &Connection,
) -> Result<()> {
    let path = format!("/streams/{}/blame{}", escape(stream), asked(when, field));
    let show = |answer: &Value| {
        let row = |field: &Value| {
            let of = |name: &str| cell(field.get(name));
            let value = field.get("value").map_or("gone".to_owned(), short);
            vec![
                of("revision"),
                of("time"),
                of("type"),
                of("id"),
                dotted(field),
                value,
            ]
        };
        let rows: Vec<_> = items(answer, "fields").map(row).collect();
        table(&["REVISION", "TIME", "TYPE", "ID", "FIELD", "VALUE"], &rows)
    };
    let caller = Caller::new(connection)?;
    caller.print("GET", &path, "", show).await
}

/// The body of a what-if.
pub(super) fn otherwise(drop: &[u64], replace: &[String], append: &[String]) -> Result<String> {
    if drop.is_empty() && replace.is_empty() && append.is_empty() {
        let message = "what if what? Say --drop REVISION, --replace REVISION=FILE or --append FILE";
        return Err(Failure::usage(message));
    }
    let replace = replace.iter().map(|text| {
        let parts = text.split_once('=');
        let parts = parts.and_then(|(revision, file)| Some((revision.parse::<u64>().ok()?, file)));
        let (revision, file) = parts.ok_or_else(|| {
            Failure::usage(format!(
                "--replace is {text:?}; say REVISION=FILE, as in 3=event.json"
            ))
        })?;
        let event = event(file)?;
        Ok(format!("{{\"revision\":{revision},\"event\":{event}}}"))
    });
    let replace = replace.collect::<Result<Vec<_>>>()?.join(",");
    let append = append
        .iter()
        .map(|file| event(file).map(|event| event.to_string()));
    let append = append.collect::<Result<Vec<_>>>()?.join(",");
    let drop = json!(drop);
    Ok(format!(
        "{{\"drop\":{drop},\"replace\":[{replace}],\"append\":[{append}]}}"
    ))
}

pub(super) async fn what_if(
    stream: &str,
    otherwise: String,
    when: &When,
    connection: &Connection,
) -> Result<()> {
    let path = format!("/streams/{}/whatif{}", escape(stream), asked(when, None));
    let caller = Caller::new(connection)?;
    caller
        .print("POST", &path, otherwise, show_alternative)
        .await
}

/// What would be other, and what would have been sent.
fn show_alternative(answer: &Value) -> Result<()> {
    show_changes(answer)?;
    for effect in items(answer, "effects") {
        let of = |name: &str| printable(&cell(effect.get(name)));
        let would = match effect["wouldBeSent"].as_bool() {
            Some(true) => "would be sent",
            _ => "would not be sent",
        };
        let (kind, id, to) = (of("type"), of("id"), of("subscription"));
        line(&format!("{would} to {to}: {kind} {id}"))?;
    }
    if answer["allEffects"] == Value::Bool(false) {
        line("… and more: not all that would be sent is told")?;
    }
    Ok(())
}

/// Keeps a what-if under a name.
pub(super) async fn keep(
    name: &str,
    stream: &str,
    otherwise: &str,
    at: Option<u64>,
    connection: &Connection,
) -> Result<()> {
    let of = match at {
        Some(at) => format!("\"stream\":{},\"at\":{at}", json!(stream)),
        None => format!("\"stream\":{}", json!(stream)),
    };
    // Behind the brace that it begins with; events stay as they were written.
    let kept = format!("{{{of},{}", &otherwise[1..]);
    let path = format!("/alternatives/{}", escape(name));
    let done = |_: &Value| line(&format!("kept: mente alternative get {name}"));
    let caller = Caller::new(connection)?;
    caller.print("PUT", &path, kept, done).await
}

/// Makes an alternative true.
pub(super) async fn promote(
    path: &str,
    otherwise: String,
    at: Option<u64>,
    id: Option<&str>,
    connection: &Connection,
) -> Result<()> {
    let at = at.map(|at| format!("at={at}"));
    let id = id.map(|id| format!("id={}", escape(id)));
    let asked: Vec<String> = [at, id].into_iter().flatten().collect();
    let path = format!("{path}?{}", asked.join("&"));
    let show = |answer: &Value| {
        line(&format!("true as of revision {}", answer["lastRevision"]))?;
        show_changes(answer)
    };
    let caller = Caller::new(connection)?;
    caller.print("POST", &path, otherwise, show).await
}

pub(super) async fn alternative(verb: Alternative) -> Result<()> {
    match verb {
        Alternative::Ls(connection) => {
            let show = |answer: &Value| {
                let row = |kept: &Value| vec![cell(kept.get("name")), cell(kept.get("stream"))];
                let rows: Vec<_> = items(answer, "alternatives").map(row).collect();
                table(&["ALTERNATIVE", "STREAM"], &rows)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", "/alternatives", "", show).await
        }
        Alternative::Get { name, connection } => {
            let path = format!("/alternatives/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.print("GET", &path, "", show_alternative).await
        }
        Alternative::Promote {
            name,
            id,
            connection,
        } => {
            let path = format!("/alternatives/{}/promote", escape(&name));
            promote(&path, String::new(), None, id.as_deref(), &connection).await
        }
        Alternative::Rm { name, connection } => {
            let path = format!("/alternatives/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.call("DELETE", &path, None, "").await.map(|_| ())
        }
    }
}

/// The bytes of a file that holds one JSON value.
fn event(file: &str) -> Result<Box<RawValue>> {
    let text = read_declaration(file)?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{file} holds no JSON: {error}")))
}

fn show_changes(answer: &Value) -> Result<()> {
    let mut changes = items(answer, "changes").peekable();
    if changes.peek().is_none() {
        return line("no difference");
    }
    changes.map(changed).try_for_each(|text| line(&text))
}

pub(super) fn changed(change: &Value) -> String {
    let field = dotted(change);
    match (change.get("before"), change.get("after")) {
        (None, Some(after)) => format!("+ {field}  {}", short(after)),
        (Some(before), None) => format!("- {field}  {}", short(before)),
        (before, after) => {
            let [before, after] = [before, after].map(|value| value.map_or(String::new(), short));
            format!("~ {field}  {before} -> {after}")
        }
    }
}

fn dotted(of: &Value) -> String {
    let names = items(of, "path").filter_map(Value::as_str);
    printable(&names.collect::<Vec<_>>().join("."))
}

/// A value as JSON, cut off where it is long.
fn short(value: &Value) -> String {
    let text = printable(&value.to_string());
    match text.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn asked(when: &When, field: Option<&str>) -> String {
    let at = when.at.map(|at| format!("at={at}"));
    let time = when
        .time
        .as_deref()
        .map(|time| format!("time={}", escape(time)));
    let field = field.map(|field| format!("field={}", escape(field)));
    let asked: Vec<String> = [at, time, field].into_iter().flatten().collect();
    if asked.is_empty() {
        return String::new();
    }
    format!("?{}", asked.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_lines() {
        let shown = |change: Value| changed(&change);
        assert_eq!(
            shown(json!({"path": ["a", "b.c"], "before": 1, "after": "x"})),
            r#"~ a.b.c  1 -> "x""#
        );
        assert_eq!(shown(json!({"path": ["a"], "after": null})), "+ a  null");
        assert_eq!(
            shown(json!({"path": ["a\u{1b}"], "before": {}})),
            "- a\u{fffd}  {}"
        );
        assert_eq!(
            short(&json!("ä".repeat(100))).chars().count(),
            VALUE_CHARS + 1
        );
    }

    #[test]
    fn a_what_if_says_something() {
        assert!(otherwise(&[], &[], &[]).is_err());
        assert!(otherwise(&[], &["3".to_owned()], &[]).is_err());
        assert_eq!(
            otherwise(&[1, 2], &[], &[]).unwrap(),
            r#"{"drop":[1,2],"replace":[],"append":[]}"#
        );
    }
}
