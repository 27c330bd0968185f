//! `mente relay …`

use serde_json::Value;

use super::stream::{escape, read_declaration};
use super::{Caller, items};
use crate::args::Relay;
use crate::failure::Result;
use crate::output::{cell, printable, table};

const HEAD: [&str; 4] = ["NAME", "OUTBOX", "MOVED", "ERROR"];

pub(super) async fn run(verb: Relay) -> Result<()> {
    match verb {
        Relay::Ls(connection) => {
            let show = |answer: &Value| {
                let rows: Vec<_> = items(answer, "relays").map(row).collect();
                table(&HEAD, &rows)
            };
            let caller = Caller::new(&connection)?;
            caller.print("GET", "/relays", "", show).await
        }
        Relay::Set {
            name,
            file,
            connection,
        } => {
            let declared = read_declaration(&file)?;
            let path = format!("/relays/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.print("PUT", &path, declared, show).await
        }
        Relay::Get { name, connection } => {
            let path = format!("/relays/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.print("GET", &path, "", show).await
        }
        Relay::Rm { name, connection } => {
            let path = format!("/relays/{}", escape(&name));
            let caller = Caller::new(&connection)?;
            caller.call("DELETE", &path, None, "").await.map(drop)
        }
    }
}

fn row(status: &Value) -> Vec<String> {
    let of = |name: &str| printable(&cell(status.get(name)));
    ["name", "outbox", "moved", "error"].map(of).to_vec()
}

fn show(status: &Value) -> Result<()> {
    table(&HEAD, &[row(status)])
}
