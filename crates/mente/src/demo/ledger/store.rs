//! The stream of a journal on a server: reading it to its end, appending to it, asking its state.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::civil::Date;
use serde_json::Value;

use super::balances::Balances;
use super::events::{self, NewEvent, PADDED, TRANSACTED};
use crate::client::Client;
use crate::failure::{Code, Failure, Result};
use crate::verb::{escape, failed, refused};

/// Events that one page of a stream has.
const PAGE_EVENTS: usize = 1_000;
/// Events of one append, and its bytes; an engine on Kafka takes no more than a broker's message.
const APPEND_EVENTS: usize = 500;
const APPEND_BYTES: usize = 512 << 10;

#[derive(Debug)]
pub(super) struct Store<'a> {
    client: &'a Client,
    pub(super) stream: String,
}

/// An event of the stream, as far as it matters here.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) revision: u64,
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) date: Option<Date>,
    /// What it does to balances.
    pub(super) amounts: Balances,
    /// The id of the event that it takes back.
    pub(super) reverses: Option<String>,
}

impl<'a> Store<'a> {
    pub(super) fn new(client: &'a Client, stream: String) -> Self {
        Self { client, stream }
    }

    fn path(&self) -> String {
        format!("/streams/{}", escape(&self.stream))
    }

    /// Somebody else's fold of the category stays as it is.
    pub(super) async fn declare_fold(&self) -> Result<()> {
        let fold = events::fold();
        match self.call("GET", "/folds/ledger", None, Bytes::new()).await {
            Ok(declared) if declared == fold => return Ok(()),
            Ok(_) => {
                let message = "streams ledger-… have another fold on this server: `mente fold get ledger` shows it; use another server";
                return Err(Failure::new(Code::Conflict, message));
            }
            Err(failure) if failure.code == Code::NotFound => {}
            Err(failure) => return Err(failure),
        }
        let json = Some("application/json");
        self.call("PUT", "/folds/ledger", json, fold.to_string())
            .await?;
        Ok(())
    }

    /// Every event, page by page; none if there is no such stream.
    pub(super) async fn read(&self) -> Result<Vec<Held>> {
        let mut all: Vec<Held> = Vec::new();
        loop {
            let page = self.page(all.len() as u64, PAGE_EVENTS).await?;
            let events = page.get("events").and_then(Value::as_array);
            let events = events.map(Vec::as_slice).unwrap_or_default();
            if events.is_empty() {
                return Ok(all);
            }
            for event in events {
                all.push(held(event)?);
            }
        }
    }

    /// The data of one event.
    pub(super) async fn data(&self, revision: u64) -> Result<Value> {
        let mut page = self.page(revision, 1).await?;
        let data = page.pointer_mut("/events/0/event/data").map(Value::take);
        Ok(data.unwrap_or(Value::Null))
    }

    async fn page(&self, from: u64, limit: usize) -> Result<Value> {
        let path = format!("{}?from={from}&limit={limit}", self.path());
        match self.call("GET", &path, None, Bytes::new()).await {
            Err(failure) if failure.code == Code::NotFound => Ok(Value::Null),
            answer => answer,
        }
    }

    /// The balances of the state as of a revision.
    pub(super) async fn balances(&self, at: u64) -> Result<Balances> {
        let path = format!("{}/state?at={at}", self.path());
        let answer = self.call("GET", &path, None, Bytes::new()).await?;
        let balances = Balances::from_json(answer.pointer("/state/balances"));
        balances.map_err(|why| {
            let message = format!(
                "the state of {} at {at} is not as folded: {why}",
                self.stream
            );
            Failure::new(Code::Failed, message)
        })
    }

    /// Appends behind `last`, in as many requests as it takes.
    pub(super) async fn append(&self, mut last: Option<u64>, events: &[&NewEvent]) -> Result<()> {
        let mut rest = events.iter();
        loop {
            let mut body = String::from("[");
            let mut count = 0;
            while let Some(event) = rest.as_slice().first() {
                let is_full = body.len() + event.text.len() > APPEND_BYTES;
                if count == APPEND_EVENTS || (is_full && count > 0) {
                    break;
                }
                if count > 0 {
                    body.push(',');
                }
                body.push_str(&event.text);
                count += 1;
                rest.next();
            }
            if count == 0 {
                return Ok(());
            }
            body.push(']');
            last = Some(self.append_batch(last, body).await?);
        }
    }

    /// Appends a JSON list of CloudEvents; answers the last revision.
    pub(super) async fn append_batch(&self, last: Option<u64>, body: String) -> Result<u64> {
        let expected = last.map_or("none".to_owned(), |last| last.to_string());
        let path = format!("{}?expected={expected}", self.path());
        let batch = Some("application/cloudevents-batch+json");
        let answer = self.call("POST", &path, batch, body).await?;
        let revision = answer.get("lastRevision").and_then(Value::as_u64);
        revision.ok_or_else(|| {
            let message = "the answer to an append names no revision; is this a Mente server?";
            Failure::new(Code::Failed, message)
        })
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Result<Value> {
        let response = self.client.request(method, path, content_type, body).await;
        let response = response.map_err(failed)?;
        if !(200..300).contains(&response.status) {
            return Err(refused(&response));
        }
        Ok(serde_json::from_slice(&response.body).unwrap_or(Value::Null))
    }
}

fn held(event: &Value) -> Result<Held> {
    let revision = event.get("revision").and_then(Value::as_u64);
    let text = |path: &str| event.pointer(path).and_then(Value::as_str);
    let (Some(revision), Some(id), Some(kind)) = (revision, text("/event/id"), text("/event/type"))
    else {
        let message = format!("{event} is no event of a stream; is this a Mente server?");
        return Err(Failure::new(Code::Failed, message));
    };
    let date = text("/event/data/date").or_else(|| text("/event/time")?.get(..10));
    // What the fold leaves out counts for nothing here either.
    let moves = kind == TRANSACTED || kind == PADDED;
    let amounts = event.pointer("/event/data/amounts").filter(|_| moves);
    let amounts = Balances::from_json(amounts).map_err(|why| {
        let message = format!("the event at revision {revision} cannot be added up: {why}");
        Failure::new(Code::Failed, message)
    })?;
    Ok(Held {
        revision,
        id: id.to_owned(),
        kind: kind.to_owned(),
        date: date.and_then(|date| date.parse().ok()),
        amounts,
        reverses: text("/event/data/reverses").map(str::to_owned),
    })
}

/// What the journal adds to the stream.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) new: Vec<&'a NewEvent>,
    /// Revisions of events that are neither the journal's nor reversals.
    pub(super) foreign: Vec<u64>,
}

/// Only what comes behind all that is there can be added: an event is never changed, and none is
/// put in between.
pub(super) fn plan<'a>(journal: &'a [NewEvent], held: &[Held]) -> Result<Plan<'a>> {
    let there: BTreeSet<&str> = held.iter().map(|held| held.id.as_str()).collect();
    let ours: BTreeSet<&str> = journal.iter().map(|event| event.id.as_str()).collect();
    let is_foreign = |held: &&Held| !ours.contains(held.id.as_str()) && held.reverses.is_none();
    let plan = Plan {
        new: journal
            .iter()
            .filter(|event| !there.contains(event.id.as_str()))
            .collect(),
        foreign: held
            .iter()
            .filter(is_foreign)
            .map(|held| held.revision)
            .collect(),
    };
    let Some(first) = plan.new.first() else {
        return Ok(plan);
    };
    let last = held.iter().filter_map(|held| held.date).max();
    if plan.foreign.is_empty() && last.is_none_or(|last| last <= first.date) {
        return Ok(plan);
    }
    let what = match plan.foreign.first() {
        Some(revision) => format!("event {revision} of the stream is not in the journal"),
        None => format!(
            "the journal has something new of {}, and the stream goes on to {}",
            first.date,
            last.unwrap_or(first.date)
        ),
    };
    let message = format!(
        "{what}: an event is never changed and none put in between; reverse what was wrong, or give the journal another --stream"
    );
    Err(Failure::new(Code::Conflict, message))
}
