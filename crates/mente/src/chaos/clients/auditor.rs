//! Reads everything at the end, as an outsider does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mente_sim::history::{Letter, Op, Row};
use serde_json::{Value, json};

use super::consumer::{drained, left};
use super::historian::{in_stream, whole};
use super::reader::read;
use super::{
    BRIEF, HOOK, Hand, LEDGERS, PARTITIONS, PROJECTION, STREAMS, TOPIC, WORK, lines, text,
};
use crate::client::Client;
use crate::demo::ask;

/// How long the webhook and the view may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(120);
const PAGE: usize = 5_000;

/// When nothing is under way any more and the pulled subscription is drained.
pub(in crate::chaos) async fn audit(hand: &Hand) -> Result<()> {
    pushed(hand).await?;
    for name in [WORK, BRIEF, HOOK, LEDGERS] {
        dead_letters(hand, name).await?;
    }
    topic(hand).await?;
    let mut events = 0;
    for number in 0..STREAMS {
        events += stream(hand, &format!("ledger-{number}")).await?;
    }
    store(hand).await?;
    rows(hand, events).await?;
    let verified = ask(hand.client(), "POST", "/verify", &Value::Null).await?;
    let parts = verified["parts"].as_array();
    let parts = parts.context("verify names no parts")?.iter();
    let differing = parts.filter(|part| part["equal"] != true);
    let differing = differing.map(|part| format!("{}: {}", part["what"], part["detail"]));
    hand.diary.tell(&Op::Verify {
        differing: differing.collect(),
    })
}

async fn pushed(hand: &Hand) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < CATCH_UP {
        if left(hand.client(), HOOK).await? == 0 {
            return drained(&hand.diary, HOOK, true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drained(&hand.diary, HOOK, false)
}

async fn dead_letters(hand: &Hand, subscription: &str) -> Result<()> {
    hand.diary.tell(&Op::DeadLetters {
        subscription: subscription.to_owned(),
        letters: letters(hand.client(), subscription).await?,
    })
}

pub(super) async fn letters(client: &Client, subscription: &str) -> Result<Vec<Letter>> {
    let (topic, name) = subscription.split_once('/').context("subscription")?;
    let (mut letters, mut from) = (Vec::new(), 0);
    loop {
        let path =
            format!("/topics/{topic}/subscriptions/{name}/deadletters?from={from}&limit={PAGE}");
        let letter = |line: &Value| {
            let letter = Letter {
                origin: text(&line["event"]["deadletterorigin"]),
                reason: Some(text(&line["event"]["deadletterreason"])),
                value: text(&line["event"]["id"]),
            };
            (line["offset"].as_u64(), letter)
        };
        let page = lines(client, &path, letter).await?;
        let Some((last, _)) = page.last() else {
            return Ok(letters);
        };
        from = last.context("a dead letter without its offset")? + 1;
        letters.extend(page.into_iter().map(|(_, letter)| letter));
    }
}

async fn topic(hand: &Hand) -> Result<()> {
    let path = format!("/topics/{TOPIC}");
    let topic = ask(hand.client(), "GET", &path, &Value::Null).await?;
    for partition in 0..PARTITIONS {
        let end = topic["bounds"][partition as usize]["end"].as_u64();
        let end = end.with_context(|| format!("{path} names no bounds: {topic}"))?;
        let found = read(hand.client(), partition, 0, None).await?;
        let next = found.last().map_or(0, |last| last.offset + 1).max(end);
        hand.diary.tell(&Op::Read {
            topic: TOPIC.to_owned(),
            partition,
            start: 0,
            end: Some(end),
            from: 0,
            next,
            found,
        })?;
    }
    Ok(())
}

/// Answers how many events it has, also those that are hidden.
async fn stream(hand: &Hand, stream: &str) -> Result<u64> {
    let events = whole(hand.client(), stream).await?;
    let count = events.last().map_or(0, |last| last.revision + 1);
    hand.diary.tell(&Op::ReadStream {
        stream: stream.to_owned(),
        events,
    })?;
    Ok(count)
}

/// Everything that was appended, and what was said of streams.
async fn store(hand: &Hand) -> Result<()> {
    let (mut events, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let path = format!("/store/events?from={from}&limit={PAGE}");
        let page = ask(hand.client(), "GET", &path, &Value::Null).await?;
        let told = page["events"].as_array().context("the store's events")?;
        events.extend(told.iter().map(in_stream));
        next = page["next"].as_u64().filter(|next| *next > from);
    }
    hand.diary.tell(&Op::ReadStore { events })
}

/// The rows once there are as many events in them, or the time is over.
async fn rows(hand: &Hand, events: u64) -> Result<()> {
    let path = format!("/projections/{PROJECTION}/query");
    let query = json!({ "sql": "SELECT stream, events, last FROM ledgers ORDER BY stream" });
    let since = Instant::now();
    loop {
        let answer = ask(hand.client(), "POST", &path, &query).await?;
        let rows = answer["rows"].as_array().context("rows")?;
        let rows: Vec<_> = rows
            .iter()
            .map(|row| Row {
                stream: text(&row[0]),
                events: row[1].as_u64().unwrap_or(0),
                last: text(&row[2]),
            })
            .collect();
        let applied: u64 = rows.iter().map(|row| row.events).sum();
        if applied >= events || since.elapsed() > CATCH_UP {
            return hand.diary.tell(&Op::Rows { rows });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
