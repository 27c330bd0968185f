//! Follows every partition of the topic: what a reader saw must be there for ever.

use anyhow::Result;
use mente_sim::history::{Found, Op, Phase};
use serde_json::Value;

use super::{AWAY, Hand, PARTITIONS, TOPIC, lines};
use crate::client::Client;

pub(in crate::chaos) async fn follow(mut hand: Hand) -> Result<()> {
    let mut positions = [0; PARTITIONS as usize];
    while !hand.is_over() {
        for (partition, from) in (0..).zip(&mut positions) {
            let op = |next, found| Op::Read {
                topic: TOPIC.to_owned(),
                partition,
                start: 0,
                end: None,
                from: *from,
                next,
                found,
            };
            hand.diary.note(Phase::Invoke, &op(*from, Vec::new()))?;
            match read(hand.client(), partition, *from, Some(500)).await {
                Ok(found) => {
                    let next = found.last().map_or(*from, |last| last.offset + 1);
                    hand.diary.note(Phase::Ok, &op(next, found))?;
                    *from = next;
                }
                Err(_) => {
                    hand.diary.note(Phase::Info, &op(*from, Vec::new()))?;
                    hand.elsewhere();
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
        hand.pause(30).await;
    }
    Ok(())
}

pub(super) async fn read(
    client: &Client,
    partition: u32,
    from: u64,
    limit: Option<u32>,
) -> Result<Vec<Found>> {
    let limit = limit.map_or(String::new(), |limit| format!("&limit={limit}"));
    let path = format!("/topics/{TOPIC}/events?partition={partition}&from={from}{limit}");
    let found = |line: &Value| Found {
        offset: line["offset"].as_u64().unwrap_or(u64::MAX),
        value: line["event"]["id"].as_str().unwrap_or_default().to_owned(),
    };
    lines(client, &path, found).await
}
