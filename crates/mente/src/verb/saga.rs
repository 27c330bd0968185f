//! `mente saga …`

use serde_json::Value;

use super::stream::{escape, read_declaration};
use super::{Caller, items};
use crate::args::Saga;
use crate::failure::Result;
use crate::output::{cell, printable, table};

const HEAD: [&str; 7] = [
    "NAME", "POSITION", "TIMERS", "DUE", "STUCK", "RUNS", "ERROR",
];
const STUCK: [&str; 4] = ["KEY", "POSITION", "TIMER", "WHY"];

pub(super) async fn run(verb: Saga) -> Result<()> {
    match verb {
        Saga::Ls(connection) => {
            let show = |answer: &Value| {
                let rows: Vec<_> = items(answer, "sagas").map(row).collect();
                table(&HEAD, &rows)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", "/sagas", "", show).await
        }
        Saga::Set {
            name,
            file,
            connection,
        } => {
            let declared = read_declaration(&file)?;
            let path = format!("/sagas/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.print("PUT", &path, declared, show).await
        }
        Saga::Get { name, connection } => {
            let path = format!("/sagas/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.print("GET", &path, "", show).await
        }
        Saga::Retry {
            name,
            key,
            connection,
        } => {
            let path = format!("/sagas/{}/{}/retry", escape(&name), escape(&key));
            let caller = Caller::new(&connection)?;
            caller.call("POST", &path, None, "").await.map(drop)
        }
        Saga::Skip {
            name,
            key,
            connection,
        } => {
            let path = format!("/sagas/{}/{}/skip", escape(&name), escape(&key));
            let caller = Caller::new(&connection)?;
            caller.call("POST", &path, None, "").await.map(drop)
        }
        Saga::Rm { name, connection } => {
            let path = format!("/sagas/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.call("DELETE", &path, None, "").await.map(drop)
        }
    }
}

fn row(status: &Value) -> Vec<String> {
    let of = |name: &str| printable(&cell(status.get(name)));
    let runs = if status["here"] == true { "here" } else { "-" };
    let mut row = ["name", "position", "timers", "due", "stuck"]
        .map(of)
        .to_vec();
    row.extend([runs.to_owned(), of("error")]);
    row
}

fn show(status: &Value) -> Result<()> {
    table(&HEAD, &[row(status)])?;
    if let Some(without) = status["withoutKey"].as_u64().filter(|without| *without > 0) {
        println!(
            "{without} events named no course since the server began: see where \"on\" looks for it"
        );
    }
    let stuck = items(status, "stuckAt").map(|stuck| {
        let of = |name: &str| printable(&cell(stuck.get(name)));
        ["key", "position", "timer", "why"].map(of).to_vec()
    });
    let stuck: Vec<_> = stuck.collect();
    if stuck.is_empty() {
        return Ok(());
    }
    println!();
    table(&STUCK, &stuck)
}
