//! Answers that go on: a line or an SSE message per event, for as long as the client listens.
//!
//! Nothing is read ahead of the client: the next events are read when the connection has taken
//! the last ones. A failure comes as the last line, since the status has long been sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use mente_broker::StoredEvent;
use mente_engine::Offset;
use mente_wire::cloudevents;

use super::Door;
use super::error::Result;
use super::position::event_id;
use super::reader::Reader;

/// Events that are read and written at one time.
const EVENTS_AT_ONCE: usize = 500;
/// Quiet time after which an SSE client is told that the stream lives.
const ALIVE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    EventStream,
}

impl Form {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::EventStream => "text/event-stream",
        }
    }
}

struct Tail {
    door: Arc<Door>,
    reader: Reader,
    form: Form,
    follow: bool,
    /// Events that may still be sent.
    left: usize,
}

/// At most `left` events; without `follow` also none beyond the end of the topic.
pub(super) fn answer(
    door: Arc<Door>,
    reader: Reader,
    form: Form,
    follow: bool,
    left: usize,
) -> Response {
    let tail = Tail {
        door,
        reader,
        form,
        follow,
        left,
    };
    let chunks = stream::unfold(Some(tail), |tail| async move {
        let mut tail = tail?;
        match tail.next().await {
            Ok(Some(chunk)) => Some((Ok::<_, std::convert::Infallible>(chunk), Some(tail))),
            Ok(None) => None,
            Err(refusal) => {
                let body = refusal.body();
                Some((Ok(tail.last_words(&body)), None))
            }
        }
    });
    let headers = [
        (header::CONTENT_TYPE, form.content_type()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

impl Tail {
    /// The next events as text; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let max = self.left.min(EVENTS_AT_ONCE);
            if max == 0 || self.door.stopping.now() {
                return Ok(None);
            }
            let mut seen: BTreeMap<u32, Offset> = self.reader.positions().into_iter().collect();
            let events = self.reader.read(max).await?;
            if !events.is_empty() {
                self.left -= events.len();
                self.door.metrics.read.add(events.len());
                let mut out = Vec::new();
                for stored in &events {
                    let others: Vec<_> = seen.iter().map(|(p, next)| (*p, *next)).collect();
                    write(stored, self.form, &others, &mut out);
                    // Whatever follows is read from behind this one on.
                    let behind = Offset(stored.position.offset.0.saturating_add(1));
                    seen.insert(stored.position.partition, behind);
                }
                return Ok(Some(out.into()));
            }
            if !self.follow {
                return Ok(None);
            }
            tokio::select! {
                grown = self.reader.grown() => grown?,
                () = self.door.stopping.wait() => return Ok(None),
                () = tokio::time::sleep(ALIVE), if self.form == Form::EventStream => {
                    return Ok(Some(Bytes::from_static(b": alive\n\n")));
                }
            }
        }
    }

    fn last_words(&self, error: &[u8]) -> Bytes {
        let mut out = Vec::new();
        match self.form {
            Form::Lines => out.extend_from_slice(error),
            Form::EventStream => {
                out.extend_from_slice(b"event: error\ndata: ");
                out.extend_from_slice(error);
                out.push(b'\n');
            }
        }
        out.push(b'\n');
        out.into()
    }
}

/// Appends one event; `others` is how far the partitions were read before it.
pub(super) fn write(stored: &StoredEvent, form: Form, others: &[(u32, Offset)], out: &mut Vec<u8>) {
    let (partition, offset) = (stored.position.partition, stored.position.offset);
    if form == Form::EventStream {
        let id = event_id(partition, offset, others);
        out.extend_from_slice(format!("id: {id}\ndata: ").as_bytes());
    }
    let head = format!("{{\"partition\":{partition},\"offset\":{offset},\"event\":");
    out.extend_from_slice(head.as_bytes());
    let begin = out.len();
    cloudevents::write_event(&stored.event, out);
    // Data is written as it came and may be spread over lines; between its tokens any white
    // space is as good as another, and inside strings JSON has no raw line breaks.
    for byte in out.iter_mut().skip(begin) {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(match form {
        Form::Lines => b"}\n".as_slice(),
        Form::EventStream => b"}\n\n".as_slice(),
    });
}
