//! Reads streams and their states while others append, and truncates streams now and then.

use anyhow::{Context, Result};
use mente_sim::history::{InStream, Op, Phase, Told};
use serde_json::{Value, json};

use super::{AWAY, Answer, Hand, JSON, STREAMS, text};
use crate::client::Client;

const PAGE: usize = 5_000;
/// Events that a truncation leaves at most.
const LEFT: u64 = 30;

pub(in crate::chaos) async fn study(mut hand: Hand) -> Result<()> {
    while !hand.is_over() {
        let stream = format!("ledger-{}", hand.chance.u64(0..STREAMS));
        let answered = match hand.chance.u32(0..8) {
            0 => truncate(&mut hand, &stream).await?,
            1..4 => read(&hand, &stream).await?,
            _ => state(&mut hand, &stream).await?,
        };
        if !answered {
            hand.elsewhere();
            tokio::time::sleep(AWAY).await;
        }
        hand.pause(40).await;
    }
    Ok(())
}

async fn read(hand: &Hand, stream: &str) -> Result<bool> {
    let op = |events| Op::ReadStream {
        stream: stream.to_owned(),
        events,
    };
    hand.diary.note(Phase::Invoke, &op(Vec::new()))?;
    let read = whole(hand.client(), stream).await;
    let is_answered = read.is_ok();
    match read {
        Ok(events) => hand.diary.note(Phase::Ok, &op(events))?,
        Err(_) => hand.diary.note(Phase::Info, &op(Vec::new()))?,
    }
    Ok(is_answered)
}

/// All that is to be seen of a stream; an error too if it was truncated meanwhile.
pub(super) async fn whole(client: &Client, stream: &str) -> Result<Vec<InStream>> {
    let mut events: Vec<InStream> = Vec::new();
    loop {
        let next = events.last().map_or(0, |last| last.revision + 1);
        let path = format!("/streams/{stream}?from={next}&limit={PAGE}");
        let response = client.request("GET", &path, None, "").await?;
        let page: Value = match response.status {
            200 => serde_json::from_slice(&response.body)?,
            // Nobody came to append to it.
            404 => return Ok(events),
            other => anyhow::bail!("{path} is answered with {other}: {}", response.text()),
        };
        let page = page["events"].as_array().context("a stream's events")?;
        let Some(first) = page.first() else {
            return Ok(events);
        };
        let goes_on = next == 0 || first["revision"] == next;
        anyhow::ensure!(goes_on, "{path} begins with {}", first["revision"]);
        events.extend(page.iter().map(in_stream));
    }
}

pub(super) fn in_stream(event: &Value) -> InStream {
    InStream {
        stream: event["stream"].as_str().map(str::to_owned),
        revision: event["revision"].as_u64().unwrap_or(u64::MAX),
        position: event["position"].as_u64().unwrap_or(u64::MAX),
        id: text(&event["event"]["id"]),
    }
}

async fn state(hand: &mut Hand, stream: &str) -> Result<bool> {
    let Some(last) = last_revision(hand, stream).await else {
        return Ok(false);
    };
    let back = hand.chance.u64(0..20) * hand.chance.u64(0..2);
    let at = hand.chance.bool().then(|| last.saturating_sub(back));
    let op = |told| Op::State {
        stream: stream.to_owned(),
        at,
        told,
    };
    hand.diary.note(Phase::Invoke, &op(None))?;
    let query = at.map_or(String::new(), |at| format!("?at={at}"));
    let path = format!("/streams/{stream}/state{query}");
    let told = match hand.client().request("GET", &path, None, "").await {
        Ok(answer) if answer.status == 200 => serde_json::from_slice(&answer.body).ok(),
        _ => None,
    };
    let told = told.as_ref().and_then(told_of);
    let phase = if told.is_some() {
        Phase::Ok
    } else {
        Phase::Info
    };
    hand.diary.note(phase, &op(told))?;
    Ok(phase == Phase::Ok)
}

fn told_of(answer: &Value) -> Option<Told> {
    let state = answer.get("state")?;
    let ids = state.get("ids")?.as_array()?.iter();
    Some(Told {
        revision: answer.get("revision")?.as_u64()?,
        ids: ids.map(text).collect(),
        events: state.get("events")?.as_u64()?,
    })
}

/// Hides what is old, if nobody said anything else meanwhile.
async fn truncate(hand: &mut Hand, stream: &str) -> Result<bool> {
    let path = format!("/streams/{stream}/metadata");
    let said = hand.client().request("GET", &path, None, "").await;
    let (Ok(said), Some(last)) = (said, last_revision(hand, stream).await) else {
        return Ok(false);
    };
    let Ok(said) = serde_json::from_slice::<Value>(&said.body) else {
        return Ok(false);
    };
    let before = last.saturating_sub(hand.chance.u64(0..LEFT));
    let is_more = said["metadata"]["truncateBefore"].as_u64().unwrap_or(0) < before;
    if said.get("metadata").is_none() || !is_more {
        return Ok(true);
    }
    let expected = match said["revision"].as_u64() {
        Some(revision) => revision.to_string(),
        None => "none".to_owned(),
    };
    let op = Op::Hide {
        stream: stream.to_owned(),
        before,
    };
    hand.diary.note(Phase::Invoke, &op)?;
    let body = json!({"truncateBefore": before}).to_string();
    let path = format!("{path}?expected={expected}");
    let answer = hand.send("PUT", &path, JSON, body).await;
    let phase = match answer {
        Answer::Ok(_) => Phase::Ok,
        Answer::Refused(..) => Phase::Fail,
        Answer::Unreached => Phase::Unheard,
        Answer::Unknown => Phase::Info,
    };
    hand.diary.note(phase, &op)?;
    Ok(matches!(phase, Phase::Ok | Phase::Fail))
}

async fn last_revision(hand: &Hand, stream: &str) -> Option<u64> {
    let path = format!("/streams/{stream}?direction=backwards&limit=1");
    let answer = hand.client().request("GET", &path, None, "").await.ok()?;
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    answer.get("events")?.as_array()?.first()?["revision"].as_u64()
}
