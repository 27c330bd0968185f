//! Appends to streams that others append to as well, with the revision that it believes in. An append
//! of unknown outcome is sent again until it is answered, and some that were answered as well.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use mente_sim::history::{Expect, Op, Phase, To};
use serde_json::Value;

use super::{APPENDED, AWAY, Answer, BATCH, Hand, STREAMS, event};

/// The only refusal that the clients here give cause for.
const CONFLICT: u16 = 409;

pub(in crate::chaos) async fn append(mut hand: Hand) -> Result<()> {
    // The last revision of each stream, as far as it is known here.
    let mut believed: BTreeMap<String, u64> = BTreeMap::new();
    let mut number = 0;
    while !hand.is_over() {
        let stream = format!("ledger-{}", hand.chance.u64(0..STREAMS));
        let ids: Vec<_> = (0..hand.chance.u64(1..=3))
            .map(|at| format!("a{}-{number}-{at}", hand.diary.process))
            .collect();
        number += 1;
        let expected = match believed.get(&stream) {
            _ if hand.chance.u32(0..8) == 0 => Expect::Any,
            None => Expect::NoStream,
            Some(revision) => Expect::Revision(*revision),
        };
        let events: Vec<_> = ids
            .iter()
            .map(|id| event(&mut hand.chance, id, APPENDED, &stream))
            .collect();
        let body = Value::from(events).to_string();
        let again = hand.chance.u32(0..10) == 0;
        let mut won = insist(&hand, &stream, expected, &ids, &body).await?;
        if again && won.is_some() {
            won = insist(&hand, &stream, expected, &ids, &body).await?;
        }
        match won {
            Some(to) => {
                believed.insert(stream, to.last_revision);
            }
            // Somebody else was there first.
            None => {
                let from = believed.get(&stream).map_or(0, |last| last + 1);
                if let Some(last) = last_revision(&hand, &stream, from).await {
                    believed.insert(stream, last);
                }
            }
        }
        hand.pause(25).await;
    }
    Ok(())
}

/// Sends it until it is answered; `None` if it was refused or the work is over.
async fn insist(
    hand: &Hand,
    stream: &str,
    expected: Expect,
    ids: &[String],
    body: &str,
) -> Result<Option<To>> {
    let op = |to| Op::Append {
        stream: stream.to_owned(),
        expected,
        ids: ids.to_vec(),
        to,
    };
    let word = match expected {
        Expect::Any => "any".to_owned(),
        Expect::NoStream => "none".to_owned(),
        Expect::Revision(revision) => revision.to_string(),
    };
    let path = format!("/streams/{stream}?expected={word}");
    loop {
        hand.diary.note(Phase::Invoke, &op(None))?;
        match reach(hand, &path, BATCH, body).await {
            Answer::Ok(answer) => {
                let Some(to) = to(&answer) else {
                    bail!("an append is answered with {answer}");
                };
                hand.diary.note(Phase::Ok, &op(Some(to)))?;
                return Ok(Some(to));
            }
            Answer::Refused(status, why) => {
                if status != CONFLICT {
                    bail!("an append is refused: {status} {why}");
                }
                hand.diary.note(Phase::Fail, &op(None))?;
                return Ok(None);
            }
            Answer::Unreached => hand.diary.note(Phase::Unheard, &op(None))?,
            Answer::Unknown => hand.diary.note(Phase::Info, &op(None))?,
        }
        if hand.is_over() {
            return Ok(None);
        }
        tokio::time::sleep(AWAY).await;
    }
}

/// As long as nothing was sent it is the same call. An earlier one may have been made: that this one
/// was not is no proof against it.
pub(super) async fn reach(hand: &Hand, path: &str, content_type: &str, body: &str) -> Answer {
    loop {
        match hand.post(path, content_type, body.to_owned()).await {
            Answer::Unreached if !hand.is_over() => tokio::time::sleep(AWAY).await,
            answer => return answer,
        }
    }
}

fn to(answer: &Value) -> Option<To> {
    let number = |name| answer.get(name).and_then(Value::as_u64);
    Some(To {
        first_revision: number("firstRevision")?,
        last_revision: number("lastRevision")?,
        last_position: number("lastPosition")?,
        repeated: answer.get("repeated")?.as_bool()?,
    })
}

async fn last_revision(hand: &Hand, stream: &str, from: u64) -> Option<u64> {
    let path = format!("/streams/{stream}?from={from}&limit=5000");
    let answer = hand.client().request("GET", &path, None, "").await.ok()?;
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    answer.get("events")?.as_array()?.last()?["revision"].as_u64()
}
