//! Books what others want too: appends to several streams at once, if nothing of a tag came behind what it
//! saw. An append of unknown outcome is sent again until it is answered, as by the appender.

use anyhow::{Context, Result};
use mente_sim::history::{Boundary, Op, Part, Phase, To};
use serde_json::{Value, json};

use super::appender::reach;
use super::{APPENDED, AWAY, Answer, Hand, JSON, STREAMS, event};

/// Few, so that bookers meet.
const TAGS: u64 = 3;
const CONFLICT: u16 = 409;

pub(in crate::chaos) async fn book(mut hand: Hand) -> Result<()> {
    let mut number = 0;
    while !hand.is_over() {
        let tag = format!("seat-{}", hand.chance.u64(0..TAGS));
        let Some(seen) = look(&hand, &tag).await else {
            hand.elsewhere();
            tokio::time::sleep(AWAY).await;
            continue;
        };
        let first = hand.chance.u64(0..STREAMS);
        let (mut parts, mut events) = (Vec::new(), Vec::new());
        for part in 0..hand.chance.u64(1..=3) {
            let stream = format!("ledger-{}", (first + part) % STREAMS);
            let ids = (0..hand.chance.u64(1..=2))
                .map(|at| format!("b{}-{number}-{part}-{at}", hand.diary.process));
            let ids: Vec<_> = ids.collect();
            for id in &ids {
                let mut event = event(&mut hand.chance, id, APPENDED, &stream);
                event["tags"] = tag.as_str().into();
                events.push(json!({"stream": stream, "event": event}));
            }
            parts.push(Part { stream, ids });
        }
        number += 1;
        // Some write whatever the others do.
        let check = (hand.chance.u32(0..8) > 0).then_some(seen);
        let checks = check.iter().map(|seen| match seen.after {
            Some(after) => json!({"query": [{"tags": [tag]}], "after": after}),
            None => json!({"query": [{"tags": [tag]}]}),
        });
        let checks: Vec<_> = checks.collect();
        let body = json!({"events": events, "checks": checks}).to_string();
        let op = |to| Op::AppendStore {
            parts: parts.clone(),
            tag: Some(tag.clone()),
            check,
            to,
        };
        let again = hand.chance.u32(0..10) == 0;
        if insist(&hand, &op, &body).await? && again {
            insist(&hand, &op, &body).await?;
        }
        hand.pause(25).await;
    }
    Ok(())
}

/// Where the store ended when the newest event of the tag was looked for: nothing of it lies behind.
async fn look(hand: &Hand, tag: &str) -> Option<Boundary> {
    let path = format!("/store/events?tag={tag}&direction=backwards&limit=1");
    let answer = hand.client().request("GET", &path, None, "").await.ok()?;
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    answer.get("events")?;
    let after = answer["head"].as_u64();
    Some(Boundary { after })
}

/// Sends it until it is answered; whether it was made.
async fn insist(hand: &Hand, op: &impl Fn(Vec<To>) -> Op, body: &str) -> Result<bool> {
    loop {
        hand.diary.note(Phase::Invoke, &op(Vec::new()))?;
        match reach(hand, "/store/events", JSON, body).await {
            Answer::Ok(answer) => {
                let to = told(&answer);
                let to = to.with_context(|| format!("an append is answered with {answer}"))?;
                hand.diary.note(Phase::Ok, &op(to))?;
                return Ok(true);
            }
            Answer::Refused(status, why) => {
                anyhow::ensure!(status == CONFLICT, "an append is refused: {status} {why}");
                hand.diary.note(Phase::Fail, &op(Vec::new()))?;
                return Ok(false);
            }
            Answer::Unreached => hand.diary.note(Phase::Unheard, &op(Vec::new()))?,
            Answer::Unknown => hand.diary.note(Phase::Info, &op(Vec::new()))?,
        }
        if hand.is_over() {
            return Ok(false);
        }
        tokio::time::sleep(AWAY).await;
    }
}

fn told(answer: &Value) -> Option<Vec<To>> {
    let repeated = answer.get("repeated")?.as_bool()?;
    let streams = answer.get("streams")?.as_array()?.iter();
    let to = streams.map(|stream| {
        let number = |name| stream.get(name).and_then(Value::as_u64);
        Some(To {
            first_revision: number("firstRevision")?,
            last_revision: number("lastRevision")?,
            last_position: number("lastPosition")?,
            repeated,
        })
    });
    to.collect()
}
