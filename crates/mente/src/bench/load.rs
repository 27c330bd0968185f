//! Who makes the load: connections that each send the next request when the last is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::task::JoinSet;

use super::report::Times;
use crate::client::Client;

/// Payload of one event.
pub(super) const PAYLOAD_BYTES: usize = 1024;

/// What is sent again and again.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A round of load.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) took: Duration,
    pub(super) times: Times,
}

/// One event of 1 KB in binary mode.
pub(super) fn binary(path: &str) -> Shot {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "b"),
        ("ce-source", "/bench"),
        ("ce-type", "bench.Event"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    Shot {
        method: "POST",
        path: path.to_owned(),
        headers,
        body: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
    }
}

/// `count` events of 1 KB as a JSON batch.
pub(super) fn batch(path: &str, count: usize) -> Shot {
    batch_of(path, count, PAYLOAD_BYTES)
}

/// `count` events of a few bytes as a JSON batch.
pub(super) fn small_batch(path: &str, count: usize) -> Shot {
    batch_of(path, count, 16)
}

fn batch_of(path: &str, count: usize, payload_bytes: usize) -> Shot {
    let data = "x".repeat(payload_bytes);
    let event = |id: usize| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"bench.Event","data":"{data}"}}"#
        )
    };
    let body = format!("[{}]", (0..count).map(event).collect::<Vec<_>>().join(","));
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/cloudevents-batch+json"),
    );
    Shot {
        method: "POST",
        path: path.to_owned(),
        headers,
        body: Bytes::from(body),
    }
}

/// Sends `shots` requests over `connections`, made by `shot` from their number.
pub(super) async fn fire(
    url: &str,
    connections: usize,
    shots: usize,
    shot: impl Fn(usize) -> Shot + Send + Sync + 'static,
) -> Result<Round> {
    let (next, shot) = (Arc::new(AtomicUsize::new(0)), Arc::new(shot));
    let mut guns: JoinSet<Result<Vec<Duration>>> = JoinSet::new();
    let since = Instant::now();
    for _ in 0..connections {
        let (client, next, shot) = (Client::new(url)?, Arc::clone(&next), Arc::clone(&shot));
        guns.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= shots {
                    return Ok(times);
                }
                let Shot {
                    method,
                    path,
                    headers,
                    body,
                } = shot(number);
                let began = Instant::now();
                let answer = client.request_with(method, &path, headers, body).await?;
                times.push(began.elapsed());
                if !(200..300).contains(&answer.status) {
                    bail!("{path} answered {}: {}", answer.status, answer.text());
                }
            }
        });
    }
    let mut times = Vec::with_capacity(shots);
    while let Some(gun) = guns.join_next().await {
        times.extend(gun??);
    }
    Ok(Round {
        took: since.elapsed(),
        times: Times::of(times),
    })
}
