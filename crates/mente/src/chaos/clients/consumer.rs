//! Works through a subscription with the calls of Event Grid namespaces: most is acknowledged, some
//! given back, at once or for later, some rejected, and some forgotten until the lock has run out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mente_sim::history::{Delivered, How, Op, Phase};
use serde_json::{Value, json};

use super::{AWAY, Answer, Hand, JSON, LOCK_MS};
use crate::chaos::diary::Diary;
use crate::client::Client;
use crate::demo::ask;

/// Events of one receive; each is settled by a hand of its own in the history.
const AT_ONCE: usize = 50;
/// How long what is left may take to come to its end.
const DRAIN: Duration = Duration::from_secs(120);
/// A lock of which this time is over has run out, whenever it began.
const FORGOTTEN: Duration = Duration::from_millis(LOCK_MS + LOCK_MS / 5);

/// How what is received is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    how: How,
    delay_s: u64,
}

impl Way {
    const COMPLETE: Self = Self::now(How::Complete);

    const fn now(how: How) -> Self {
        Self { how, delay_s: 0 }
    }

    /// `None`: not at all.
    fn draw(chance: &mut fastrand::Rng) -> Option<Self> {
        match chance.u32(0..100) {
            0..5 => None,
            5..8 => Some(Self::now(How::Reject)),
            8..12 => Some(Self::now(How::Release)),
            12..16 => Some(Self {
                how: How::Release,
                delay_s: chance.u64(1..=2),
            }),
            _ => Some(Self::COMPLETE),
        }
    }
}

/// Rests for up to so many milliseconds behind each receive.
pub(in crate::chaos) async fn consume(
    mut hand: Hand,
    subscription: &'static str,
    rest_ms: u64,
) -> Result<()> {
    let mut forgotten: VecDeque<(Instant, Delivered)> = VecDeque::new();
    while !hand.is_over() {
        let Some(deliveries) = receive(&hand, subscription, 1).await? else {
            tokio::time::sleep(AWAY).await;
            continue;
        };
        let mut settled: Vec<(Way, Vec<Delivered>)> = Vec::new();
        let mut put = |way, delivered| match settled.iter_mut().find(|(known, _)| *known == way) {
            Some((_, deliveries)) => deliveries.push(delivered),
            None => settled.push((way, vec![delivered])),
        };
        let now = Instant::now();
        // They are to be refused.
        while let Some((_, late)) = forgotten.pop_front_if(|(since, _)| now - *since > FORGOTTEN) {
            put(Way::COMPLETE, late);
        }
        for delivered in deliveries {
            match Way::draw(&mut hand.chance) {
                Some(way) => put(way, delivered),
                None => forgotten.push_back((now, delivered)),
            }
        }
        for (way, deliveries) in settled {
            settle(&hand, subscription, way, &deliveries).await?;
        }
        hand.pause(rest_ms).await;
    }
    Ok(())
}

/// Acknowledges everything that is left, until Mente says that nothing is.
pub(in crate::chaos) async fn drain(hand: &Hand, subscription: &str) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < DRAIN {
        let deliveries = receive(hand, subscription, 1).await?.unwrap_or_default();
        settle(hand, subscription, Way::COMPLETE, &deliveries).await?;
        if deliveries.is_empty() && left(hand.client(), subscription).await? == 0 {
            return drained(&hand.diary, subscription, true);
        }
    }
    drained(&hand.diary, subscription, false)
}

/// Records that have not come to their end.
pub(super) async fn left(client: &Client, subscription: &str) -> Result<u64> {
    let path = path(subscription, "subscriptions")?;
    let answer = ask(client, "GET", &path, &Value::Null).await?;
    let count = |name| answer["counts"][name].as_u64();
    let counts = ["ready", "leased", "delayed", "dying"].map(count);
    match counts.into_iter().sum() {
        Some(left) => Ok(left),
        None => bail!("{path} has no counts: {answer}"),
    }
}

pub(super) fn path(subscription: &str, kind: &str) -> Result<String> {
    let (topic, name) = subscription.split_once('/').context("subscription")?;
    Ok(format!("/topics/{topic}/{kind}/{name}"))
}

pub(super) fn drained(diary: &Diary, subscription: &str, is_empty: bool) -> Result<()> {
    let subscription = subscription.to_owned();
    let op = Op::Drained { subscription };
    diary.note(Phase::Invoke, &op)?;
    diary.note(if is_empty { Phase::Ok } else { Phase::Fail }, &op)
}

/// `None` if there was no answer.
async fn receive(hand: &Hand, subscription: &str, wait: u32) -> Result<Option<Vec<Delivered>>> {
    let op = |deliveries| Op::Receive {
        subscription: subscription.to_owned(),
        deliveries,
    };
    hand.diary.note(Phase::Invoke, &op(Vec::new()))?;
    let calls = path(subscription, "eventsubscriptions")?;
    let path =
        format!("{calls}:receive?api-version=2024-06-01&maxEvents={AT_ONCE}&maxWaitTime={wait}");
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
        Answer::Unreached => hand
            .diary
            .note(Phase::Unheard, &op(Vec::new()))
            .map(|()| None),
        Answer::Unknown => hand.diary.note(Phase::Info, &op(Vec::new())).map(|()| None),
    }
}

fn delivered(value: &Value) -> Option<Delivered> {
    let broker = value.get("brokerProperties")?;
    Some(Delivered {
        token: broker.get("lockToken")?.as_str()?.to_owned(),
        count: u32::try_from(broker.get("deliveryCount")?.as_u64()?).ok()?,
        place: None,
        value: value.pointer("/event/id")?.as_str()?.to_owned(),
    })
}

/// In calls of as many as one receive may have brought; in the history one each.
async fn settle(hand: &Hand, subscription: &str, way: Way, all: &[Delivered]) -> Result<()> {
    for deliveries in all.chunks(AT_ONCE) {
        let note = |phase: Phase, lane: usize, held: bool| {
            let Delivered { token, value, .. } = &deliveries[lane];
            let op = Op::Settle {
                subscription: subscription.to_owned(),
                token: token.clone(),
                value: value.clone(),
                how: way.how,
                delay_ms: way.delay_s * 1_000,
                held,
            };
            hand.diary.lane(1 + lane).note(phase, &op)
        };
        for lane in 0..deliveries.len() {
            note(Phase::Invoke, lane, false)?;
        }
        let verb = match way.how {
            How::Complete => "acknowledge?",
            How::Release => &format!("release?releaseDelayInSeconds={}&", way.delay_s),
            How::Reject => "reject?",
            How::Renew => "renewLock?",
        };
        let tokens: Vec<_> = deliveries.iter().map(|d| d.token.as_str()).collect();
        let calls = path(subscription, "eventsubscriptions")?;
        let path = format!("{calls}:{verb}api-version=2024-06-01");
        let body = json!({ "lockTokens": tokens }).to_string();
        let answer = hand.post(&path, JSON, body).await;
        for (lane, token) in tokens.iter().enumerate() {
            match &answer {
                Answer::Ok(answer) => {
                    let held = answer["succeededLockTokens"].as_array();
                    let held = held.is_some_and(|held| held.iter().any(|held| held == token));
                    note(Phase::Ok, lane, held)?;
                }
                Answer::Refused(status, why) => bail!("a settlement is refused: {status} {why}"),
                Answer::Unreached => note(Phase::Unheard, lane, false)?,
                Answer::Unknown => note(Phase::Info, lane, false)?,
            }
        }
    }
    Ok(())
}
