//! Publishes single events and batches. Every value is sent once: if it is there twice, Mente did it.

use anyhow::{Result, bail};
use mente_sim::history::{self, Op, Phase, Place, Placed};
use serde_json::Value;

use super::{AWAY, Answer, BATCH, Hand, PLAIN, PUSHED, STRUCTURED, TOPIC, event};

/// Codes of refusals in a batch that leave open what became of the event.
const UNKNOWN: [&str; 3] = ["OutcomeUnknown", "InternalError", "DataCorrupt"];

pub(in crate::chaos) async fn publish(mut hand: Hand) -> Result<()> {
    let mut number = 0;
    while !hand.is_over() {
        let is_batch = hand.chance.bool();
        let count = if is_batch { hand.chance.u64(2..=20) } else { 1 };
        let (mut values, mut events) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let value = format!("p{}-{number}", hand.diary.process);
            let kind = if number % 3 == 0 { PUSHED } else { PLAIN };
            let key = format!("key-{}", hand.chance.u32(0..16));
            events.push(event(&mut hand.chance, &value, kind, &key));
            values.push(history::Value {
                value,
                kind: kind.to_owned(),
                key,
            });
            number += 1;
        }
        send(&hand, is_batch, values, &events).await?;
        hand.pause(12).await;
    }
    Ok(())
}

async fn send(
    hand: &Hand,
    is_batch: bool,
    values: Vec<history::Value>,
    events: &[Value],
) -> Result<()> {
    let op = |placed| Op::Publish {
        topic: TOPIC.to_owned(),
        values: values.clone(),
        placed,
        whole: false,
    };
    hand.diary.note(Phase::Invoke, &op(Vec::new()))?;
    let path = format!("/topics/{TOPIC}/events");
    let (content_type, body) = match events {
        [one] if !is_batch => (STRUCTURED, one.to_string()),
        _ => (BATCH, Value::from(events).to_string()),
    };
    match hand.post(&path, content_type, body).await {
        Answer::Ok(answer) => {
            let answers = answer.get("events").and_then(Value::as_array);
            let answers = answers.map_or(std::slice::from_ref(&answer), Vec::as_slice);
            let placed = answers.iter().map(placed).collect();
            hand.diary.note(Phase::Ok, &op(placed))
        }
        Answer::Refused(status, why) => bail!("a publish is refused: {status} {why}"),
        Answer::Unknown => hand.diary.note(Phase::Info, &op(Vec::new())),
        Answer::Unreached => {
            hand.diary.note(Phase::Unheard, &op(Vec::new()))?;
            tokio::time::sleep(AWAY).await;
            Ok(())
        }
    }
}

fn placed(answer: &Value) -> Placed {
    let number = |name| answer.get(name).and_then(Value::as_u64);
    let code = answer.pointer("/error/code").and_then(Value::as_str);
    match (number("partition"), number("offset"), code) {
        (Some(partition), Some(offset), None) => Placed::At(Place {
            partition: u32::try_from(partition).unwrap_or(u32::MAX),
            offset,
        }),
        (_, _, Some(code)) if !UNKNOWN.contains(&code) => Placed::Refused,
        _ => Placed::Unknown,
    }
}
