//! `mente decider …` and `mente stream command`

use serde_json::Value;

use super::stream::{escape, read_program};
use super::{Caller, items, json as read_json};
use crate::args::{Connection, Decider, Output};
use crate::failure::Result;
use crate::output::{cell, line, printable, table};

pub(super) async fn run(verb: Decider) -> Result<()> {
    match verb {
        Decider::Ls(connection) => {
            let show = |answer: &Value| {
                let row =
                    |decider: &Value| vec![cell(decider.get("category")), cell(decider.get("by"))];
                let rows: Vec<_> = items(answer, "deciders").map(row).collect();
                table(&["CATEGORY", "DECIDED BY"], &rows)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", "/deciders", "", show).await
        }
        Decider::Set {
            category,
            file,
            connection,
        } => {
            let declared = read_program(&file)?;
            let done = |_: &Value| line(&format!("streams {category}-… take commands from now on"));
            let path = format!("/deciders/{}", escape(&category));
            let caller = Caller::new(&connection)?;
            caller.print("PUT", &path, declared, done).await
        }
        Decider::Get {
            category,
            connection,
        } => {
            let path = format!("/deciders/{}", escape(&category));
            let caller = Caller::new(&connection)?;
            let answer = caller.call("GET", &path, None, "").await?;
            line(&answer.text())
        }
        Decider::Rm {
            category,
            connection,
        } => {
            let path = format!("/deciders/{}", escape(&category));
            let caller = Caller::new(&connection)?;
            caller.call("DELETE", &path, None, "").await.map(|_| ())
        }
    }
}

/// Sends a command and shows what it led to.
pub(super) async fn command(stream: &str, command: &Value, connection: &Connection) -> Result<()> {
    let path = format!("/streams/{}/commands", escape(stream));
    let caller = Caller::new(connection)?;
    let content_type = Some("application/cloudevents+json");
    let answer = caller.call("POST", &path, content_type, command.to_string());
    let answer = answer.await?;
    if caller.output == Output::Json {
        return line(&answer.text());
    }
    let told = read_json(&answer)?;
    if items(&told, "events").next().is_none() {
        return line("there was nothing to do");
    }
    if told.get("repeated") == Some(&Value::Bool(true)) {
        line("it was decided before:")?;
    }
    let row = |event: &Value| {
        let columns = ["revision", "position", "type", "id"];
        columns
            .map(|name| printable(&cell(event.get(name))))
            .to_vec()
    };
    let rows: Vec<_> = items(&told, "events").map(row).collect();
    table(&["REVISION", "POSITION", "TYPE", "ID"], &rows)
}
