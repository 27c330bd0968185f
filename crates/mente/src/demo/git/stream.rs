//! The stream on the server, over HTTP as any program would. A request that was not answered is sent
//! again: an append says what it expects, and its events have ids.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::telling::Batch;
use crate::client::{Client, Error, Response};
use crate::failure::{Code, Failure, Result};
use crate::verb::{failed, refused};

const BATCH: &str = "application/cloudevents-batch+json";
/// Events of one read; each is as large as an append at most.
const PAGE_EVENTS: usize = 200;
/// A request that takes longer is repeated.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);
const REPETITIONS: u32 = 20;

#[derive(Debug)]
pub(super) struct Stream {
    client: Client,
    name: String,
    /// Somebody has answered: one who is away then may come back.
    is_known: AtomicBool,
}

/// An event as it was read back.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) revision: u64,
    pub(super) event: Event,
}

#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) data: Option<Box<RawValue>>,
}

/// What Mente makes of the stream.
#[derive(Debug)]
pub(super) enum State {
    Folded(serde_json::Value),
    /// It is larger than what a server folds to; why.
    TooLarge(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Appended {
    first_revision: u64,
    repeated: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    events: Vec<Found>,
}

#[derive(Debug, Deserialize)]
struct Folded {
    state: serde_json::Value,
}

impl Stream {
    /// `name` is of letters that a path may have.
    pub(super) fn new(client: Client, name: &str) -> Self {
        Self {
            client,
            name: name.to_owned(),
            is_known: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many events it has.
    pub(super) async fn length(&self) -> Result<u64> {
        let last = self.read("direction=backwards&limit=1").await?;
        Ok(last.first().map_or(0, |last| last.revision + 1))
    }

    /// Appends where revision `next` is expected to be free; true if the events are there already.
    pub(super) async fn append(&self, next: u64, batch: &Batch) -> Result<bool> {
        let expected = match next.checked_sub(1) {
            None => "none".to_owned(),
            Some(last) => last.to_string(),
        };
        let path = format!("/streams/{}?expected={expected}", self.name);
        let answer = self.call("POST", &path, batch.body().into()).await?;
        if answer.status == 409 {
            let message = format!(
                "the stream {} holds other events than this history from revision {next} on: it is of \
                 another repository, or history was rewritten; name a new one with --stream",
                self.name
            );
            return Err(Failure::new(Code::Conflict, message));
        }
        let appended: Appended = read(&answer)?;
        if appended.first_revision != next {
            let message = format!(
                "the server appended at revision {}, not at {next}",
                appended.first_revision
            );
            return Err(Failure::new(Code::Failed, message));
        }
        Ok(appended.repeated)
    }

    /// Some events from a revision on; none at the end.
    pub(super) async fn page(&self, from: u64) -> Result<Vec<Found>> {
        self.read(&format!("from={from}&limit={PAGE_EVENTS}")).await
    }

    async fn read(&self, asked: &str) -> Result<Vec<Found>> {
        let path = format!("/streams/{}?{asked}", self.name);
        let answer = self.call("GET", &path, Bytes::new()).await?;
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        Ok(read::<Page>(&answer)?.events)
    }

    /// The state by Mente's own fold.
    pub(super) async fn state(&self, at: u64) -> Result<State> {
        let path = format!("/streams/{}/state?at={at}", self.name);
        let answer = self.call("GET", &path, Bytes::new()).await?;
        if answer.status == 413 {
            return Ok(State::TooLarge(refused(&answer).message));
        }
        Ok(State::Folded(read::<Folded>(&answer)?.state))
    }

    async fn call(&self, method: &str, path: &str, body: Bytes) -> Result<Response> {
        let mut last = String::new();
        for _ in 0..REPETITIONS {
            let request = self.client.request(method, path, Some(BATCH), body.clone());
            let answer = tokio::time::timeout(PATIENCE, request).await;
            match answer {
                Ok(Ok(answer)) if answer.status < 500 => {
                    self.is_known.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Ok(answer)) => last = refused(&answer).message,
                Ok(Err(error)) if self.may_pass(&error) => last = error.to_string(),
                Ok(Err(error)) => return Err(failed(error)),
                Err(_) => last = format!("no answer within {PATIENCE:?}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        let message = format!("{method} {path} was repeated {REPETITIONS} times: {last}");
        Err(Failure::new(Code::Unreachable, message))
    }

    /// Whether to try again: a server may be restarted, but one that was never there is a wrong address.
    fn may_pass(&self, error: &Error) -> bool {
        match error {
            Error::Broken { .. } => true,
            Error::Unreachable { .. } | Error::Tls { .. } => self.is_known.load(Ordering::Relaxed),
            _ => false,
        }
    }
}

fn read<T: DeserializeOwned>(answer: &Response) -> Result<T> {
    if !(200..300).contains(&answer.status) {
        return Err(refused(answer));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        let message = format!("the answer is not understood ({error}); is this a Mente server?");
        Failure::new(Code::Failed, message)
    })
}
