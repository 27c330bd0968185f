//! `mente topic …`

use serde_json::{Value, json};

use super::{Caller, confirm, items};
use crate::args::Topic;
use crate::failure::Result;
use crate::output::{cell, line, table};

pub(super) async fn run(verb: Topic) -> Result<()> {
    match verb {
        Topic::Ls(connection) => {
            let caller = Caller::new(&connection)?;
            caller
                .print("GET", "/topics", "", |answer| {
                    let row = |topic: &Value| {
                        vec![cell(topic.get("name")), cell(topic.get("partitions"))]
                    };
                    let rows: Vec<_> = items(answer, "topics").map(row).collect();
                    table(&["NAME", "PARTITIONS"], &rows)
                })
                .await
        }
        Topic::Create {
            name,
            partitions,
            connection,
        } => {
            let caller = Caller::new(&connection)?;
            let body = json!({ "partitions": partitions }).to_string();
            caller
                .print("PUT", &format!("/topics/{name}"), body, |_| {
                    line(&format!("topic {name} with {partitions} partition(s)"))
                })
                .await
        }
        Topic::Get { name, connection } => {
            let caller = Caller::new(&connection)?;
            caller
                .print("GET", &format!("/topics/{name}"), "", |answer| {
                    let rows: Vec<_> = items(answer, "bounds").map(bounds).collect();
                    table(&["PARTITION", "START", "END"], &rows)
                })
                .await
        }
        Topic::Rm {
            name,
            yes,
            connection,
        } => {
            confirm(yes, &format!("delete topic {name} with all its events"))?;
            let caller = Caller::new(&connection)?;
            let path = format!("/topics/{name}");
            caller.call("DELETE", &path, None, "").await.map(|_| ())
        }
        Topic::Publish(publish) => super::publish::publish(publish).await,
        Topic::Tail(tail) => super::tail::tail(tail).await,
    }
}

fn bounds(partition: &Value) -> Vec<String> {
    let names = ["partition", "start", "end"];
    names.map(|name| cell(partition.get(name))).to_vec()
}
