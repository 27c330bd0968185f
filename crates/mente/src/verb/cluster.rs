//! `mente cluster`

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Caller, items};
use crate::args::Connection;
use crate::failure::Result;
use crate::output::{cell, line, table};

pub(super) async fn cluster(connection: Connection) -> Result<()> {
    let caller = Caller::new(&connection)?;
    caller
        .print("GET", "/api/cluster", "", |answer| {
            let rows: Vec<_> = items(answer, "nodes").map(node).collect();
            table(&["NODE", "ADDRESS", "SHARDS"], &rows)?;
            let is_idle = |shard: &&Value| shard["state"] != "at_work";
            let rows: Vec<_> = items(answer, "shards").filter(is_idle).map(shard).collect();
            if rows.is_empty() {
                return line("every shard is at work");
            }
            line("")?;
            table(&["SHARD", "STATE", "OWNER", "BEHIND"], &rows)
        })
        .await
}

fn node(node: &Value) -> Vec<String> {
    let number = |shard: &Value| u32::try_from(shard.as_u64()?).ok();
    let shards: BTreeSet<_> = items(node, "shards").filter_map(number).collect();
    let this = if node["this"] == true {
        " (answers)"
    } else {
        ""
    };
    vec![
        format!("{}{this}", cell(node.get("node"))),
        cell(node.get("address")),
        format!("{}: {}", shards.len(), mente_broker::show(&shards)),
    ]
}

fn shard(shard: &Value) -> Vec<String> {
    let names = ["shard", "state", "owner", "behind"];
    names.map(|name| cell(shard.get(name))).to_vec()
}
