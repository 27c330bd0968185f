//! Works through the subscription with the calls of Event Grid namespaces: most is acknowledged,
//! some given back, some rejected, and some forgotten until the lock runs out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{AWAY, Answer, Hand, JSON, WORK};
use crate::chaos::history::{Delivered, Diary, How, Op, Phase};
use crate::client::Client;
use crate::demo::ask;

/// Events of one receive; each is settled by a hand of its own in the history.
const AT_ONCE: usize = 50;
const CALLS: &str = "/topics/events/eventsubscriptions/work";
/// How long what is left may take to come to its end.
const DRAIN: Duration = Duration::from_secs(60);

pub(in crate::chaos) async fn consume(mut hand: Hand) -> Result<()> {
    while !hand.is_over() {
        let Some(deliveries) = receive(&hand, 1).await? else {
            tokio::time::sleep(AWAY).await;
            continue;
        };
        let mut settled = [Vec::new(), Vec::new(), Vec::new()];
        for delivered in deliveries {
            let how = match hand.chance.u32(0..100) {
                0..5 => None,
                5..8 => Some(2),
                8..16 => Some(1),
                _ => Some(0),
            };
            if let Some(how) = how {
                settled[how].push(delivered);
            }
        }
        let ways = [How::Complete, How::Release, How::Reject];
        for (how, deliveries) in ways.into_iter().zip(settled) {
            settle(&hand, how, &deliveries).await?;
        }
    }
    Ok(())
}

/// Acknowledges everything that is left, until Mente says that nothing is.
pub(in crate::chaos) async fn drain(hand: &Hand) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < DRAIN {
        let deliveries = receive(hand, 1).await?.unwrap_or_default();
        settle(hand, How::Complete, &deliveries).await?;
        if deliveries.is_empty() && left(&hand.client, "work").await? == 0 {
            return drained(&hand.diary, WORK);
        }
    }
    eprintln!("chaos: {WORK} is not empty after {DRAIN:?}");
    Ok(())
}

/// Records that have not come to their end.
pub(super) async fn left(client: &Client, name: &str) -> Result<u64> {
    let path = format!("/topics/events/subscriptions/{name}");
    let answer = ask(client, "GET", &path, &Value::Null).await?;
    let count = |name| answer["counts"][name].as_u64();
    let counts = ["ready", "leased", "delayed", "dying"].map(count);
    match counts.into_iter().sum() {
        Some(left) => Ok(left),
        None => bail!("{path} has no counts: {answer}"),
    }
}

pub(super) fn drained(diary: &Diary, subscription: &str) -> Result<()> {
    diary.tell(&Op::Drained {
        subscription: subscription.to_owned(),
    })
}

/// `None` if there was no answer.
async fn receive(hand: &Hand, wait: u32) -> Result<Option<Vec<Delivered>>> {
    let op = |deliveries| Op::Receive {
        subscription: WORK.to_owned(),
        deliveries,
    };
    hand.diary.note(Phase::Invoke, &op(Vec::new()))?;
    let path =
        format!("{CALLS}:receive?api-version=2024-06-01&maxEvents={AT_ONCE}&maxWaitTime={wait}");
    match hand.post(&path, JSON, String::new()).await {
        Answer::Ok(answer) => {
            let values = answer["value"].as_array().cloned().unwrap_or_default();
            let deliveries: Option<Vec<_>> = values.iter().map(delivered).collect();
            let Some(deliveries) = deliveries else {
                bail!("a receive is answered with {answer}");
            };
            hand.diary.note(Phase::Ok, &op(deliveries.clone()))?;
            Ok(Some(deliveries))
        }
        Answer::Refused(status, why) => bail!("a receive is refused: {status} {why}"),
        Answer::Unreached => hand.diary.note(Phase::Fail, &op(Vec::new())).map(|()| None),
        Answer::Unknown => hand.diary.note(Phase::Info, &op(Vec::new())).map(|()| None),
    }
}

fn delivered(value: &Value) -> Option<Delivered> {
    let broker = value.get("brokerProperties")?;
    Some(Delivered {
        token: broker.get("lockToken")?.as_str()?.to_owned(),
        count: u32::try_from(broker.get("deliveryCount")?.as_u64()?).ok()?,
        value: value.pointer("/event/id")?.as_str()?.to_owned(),
    })
}

/// One call for all of them, in the history one each.
async fn settle(hand: &Hand, how: How, deliveries: &[Delivered]) -> Result<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let note = |phase: Phase, lane: usize, held: bool| {
        let Delivered { token, value, .. } = &deliveries[lane];
        let op = Op::Settle {
            subscription: WORK.to_owned(),
            token: token.clone(),
            value: value.clone(),
            how,
            held,
        };
        hand.diary.lane(1 + lane).note(phase, &op)
    };
    for lane in 0..deliveries.len() {
        note(Phase::Invoke, lane, false)?;
    }
    let verb = match how {
        How::Complete => "acknowledge",
        How::Release => "release",
        How::Reject => "reject",
    };
    let tokens: Vec<_> = deliveries.iter().map(|d| d.token.as_str()).collect();
    let path = format!("{CALLS}:{verb}?api-version=2024-06-01");
    let answer = hand.post(&path, JSON, json!({ "lockTokens": tokens }).to_string());
    let answer = answer.await;
    for (lane, token) in tokens.iter().enumerate() {
        match &answer {
            Answer::Ok(answer) => {
                let held = answer["succeededLockTokens"].as_array();
                let held = held.is_some_and(|held| held.iter().any(|held| held == token));
                note(Phase::Ok, lane, held)?;
            }
            Answer::Refused(status, why) => bail!("a settlement is refused: {status} {why}"),
            Answer::Unreached => note(Phase::Fail, lane, false)?,
            Answer::Unknown => note(Phase::Info, lane, false)?,
        }
    }
    Ok(())
}
