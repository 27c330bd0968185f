//! `mente branch …`

use serde_json::{Value, json};

use super::past::changed;
use super::{Caller, confirm, escape, items};
use crate::args::Branch;
use crate::failure::Result;
use crate::output::{cell, line, table};

pub(super) async fn run(verb: Branch) -> Result<()> {
    match verb {
        Branch::Create {
            name,
            from,
            port,
            connection,
        } => {
            let caller = Caller::new(&connection)?;
            let mut body = json!({ "from": from });
            if let Some(port) = port {
                body["port"] = port.into();
            }
            let path = format!("/branches/{}", escape(&name));
            caller.print("PUT", &path, body.to_string(), created).await
        }
        Branch::Ls(connection) => {
            let caller = Caller::new(&connection)?;
            caller
                .print("GET", "/branches", "", |answer| {
                    let names = ["branch", "from", "at", "made", "url", "error"];
                    let row = |branch: &Value| names.map(|name| cell(branch.get(name))).to_vec();
                    let rows: Vec<_> = items(answer, "branches").map(row).collect();
                    table(&["BRANCH", "FROM", "AT", "MADE", "URL", "ERROR"], &rows)
                })
                .await
        }
        Branch::Diff {
            name,
            limit,
            connection,
        } => {
            let caller = Caller::new(&connection)?;
            let path = format!("/branches/{}/diff?limit={limit}", escape(&name));
            caller.print("GET", &path, "", differ).await
        }
        Branch::Rm {
            name,
            yes,
            connection,
        } => {
            confirm(
                yes,
                &format!("end branch {name} and delete what is only its own"),
            )?;
            let caller = Caller::new(&connection)?;
            let path = format!("/branches/{}", escape(&name));
            caller.call("DELETE", &path, None, "").await.map(|_| ())
        }
    }
}

fn created(branch: &Value) -> Result<()> {
    let (name, url) = (cell(branch.get("branch")), cell(branch.get("url")));
    line(&format!(
        "branch {name} is at {url}; webhooks are not called from it"
    ))?;
    if let Some(at) = branch.get("deliveries") {
        line(&format!(
            "what was decided (subscriptions, deliveries, declarations) is in part as of {}: earlier decisions are not kept any more",
            cell(Some(at))
        ))?;
    }
    for topic in items(branch, "missing") {
        line(&format!(
            "topic {} is not in it: it was deleted since",
            cell(Some(topic))
        ))?;
    }
    Ok(())
}

fn differ(answer: &Value) -> Result<()> {
    let mut is_same = true;
    for (kind, name) in [("topics", "topic"), ("streams", "stream")] {
        for thing in items(answer, kind) {
            is_same = false;
            events(name, thing)?;
        }
    }
    for projection in items(answer, "projections") {
        is_same = false;
        rows(projection)?;
    }
    if is_same {
        line("no difference")?;
    }
    for what in items(answer, "incomplete") {
        line(&format!("not all: {}", cell(Some(what))))?;
    }
    Ok(())
}

fn events(kind: &str, thing: &Value) -> Result<()> {
    let [default, branch] = ["default", "branch"].map(|side| cell(thing["events"].get(side)));
    line(&format!(
        "{kind} {}  only in default {default}, only in the branch {branch}",
        cell(thing.get(kind))
    ))?;
    for event in items(thing, "only") {
        let sign = match event["side"].as_str() {
            Some("default") => '-',
            _ => '+',
        };
        let words = ["at", "type", "id"].map(|word| cell(event.get(word)));
        line(&format!("  {sign} {}", words.join("  ")))?;
    }
    for change in items(thing, "changes") {
        line(&format!("  state {}", changed(change)))?;
    }
    Ok(())
}

fn rows(projection: &Value) -> Result<()> {
    let [default, branch] = ["default", "branch"].map(|side| cell(projection["lag"].get(side)));
    line(&format!(
        "projection {}  behind its events: default {default}, the branch {branch}",
        cell(projection.get("projection"))
    ))?;
    for differs in items(projection, "tables") {
        let [default, branch] = ["default", "branch"].map(|side| cell(differs["rows"].get(side)));
        line(&format!(
            "  table {}  rows in default {default}, in the branch {branch}, other contents",
            cell(differs.get("table"))
        ))?;
    }
    Ok(())
}
