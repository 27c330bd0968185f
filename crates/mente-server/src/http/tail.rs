//! Answers that go on: a line or an SSE message per event, for as long as the client listens.
//! Where the events come from is a [`Source`].
//!
//! Nothing is read ahead of the client: the next events are read when the connection has taken
//! the last ones. A failure comes as the last line, since the status has long been sent.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use mente_broker::StoredEvent;
use mente_engine::{Event, Offset};
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

/// Events in an order, of which there may be more one day.
pub(super) trait Source: Send + 'static {
    /// Writes up to `max` of the events that are there now, and tells how many.
    fn write(
        &mut self,
        max: usize,
        form: Form,
        out: &mut Vec<u8>,
    ) -> impl Future<Output = Result<usize>> + Send;

    /// Resolves once there may be more.
    fn more(&self) -> impl Future<Output = Result<()>> + Send;
}

struct Tail<S> {
    door: Arc<Door>,
    source: S,
    form: Form,
    follow: bool,
    /// Events that may still be sent.
    left: usize,
}

/// At most `left` events; without `follow` also none beyond the end.
pub(super) fn answer<S: Source>(
    door: Arc<Door>,
    source: S,
    form: Form,
    follow: bool,
    left: usize,
) -> Response {
    let tail = Tail {
        door,
        source,
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

impl<S: Source> Tail<S> {
    /// The next events as text; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let max = self.left.min(EVENTS_AT_ONCE);
            if max == 0 || self.door.stopping.now() {
                return Ok(None);
            }
            let mut out = Vec::new();
            let count = self.source.write(max, self.form, &mut out).await?;
            if count > 0 {
                // The parts of one record stay together.
                self.left = self.left.saturating_sub(count);
                self.door.metrics.read.add(count);
                return Ok(Some(out.into()));
            }
            if !self.follow {
                return Ok(None);
            }
            tokio::select! {
                more = self.source.more() => more?,
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

impl Source for Reader {
    async fn write(&mut self, max: usize, form: Form, out: &mut Vec<u8>) -> Result<usize> {
        let mut seen: BTreeMap<u32, Offset> = self.positions().into_iter().collect();
        let events = self.read(max).await?;
        for (at, stored) in events.iter().enumerate() {
            let is_last = (events.get(at + 1)).is_none_or(|next| next.position != stored.position);
            if !is_last {
                write_part(stored, form, out);
                continue;
            }
            let others: Vec<_> = seen.iter().map(|(p, next)| (*p, *next)).collect();
            write(stored, form, &others, out);
            // Whatever follows is read from behind this one on.
            let behind = Offset(stored.position.offset.0.saturating_add(1));
            seen.insert(stored.position.partition, behind);
        }
        Ok(events.len())
    }

    async fn more(&self) -> Result<()> {
        self.grown().await
    }
}

/// Appends one of the events of a record that is not the last of them: who resumes gets all of them again.
fn write_part(stored: &StoredEvent, form: Form, out: &mut Vec<u8>) {
    write_line(form, "", &head(stored), &stored.event, out);
}

/// Appends one event; `others` is how far the partitions were read before it.
pub(super) fn write(stored: &StoredEvent, form: Form, others: &[(u32, Offset)], out: &mut Vec<u8>) {
    let (partition, offset) = (stored.position.partition, stored.position.offset);
    let id = match form {
        Form::EventStream => event_id(partition, offset, others),
        Form::Lines => String::new(),
    };
    write_line(form, &id, &head(stored), &stored.event, out);
}

/// How the line of an event of a topic begins; a key that is no text is not told.
fn head(stored: &StoredEvent) -> String {
    let (partition, offset) = (stored.position.partition, stored.position.offset);
    let mut head = format!("{{\"partition\":{partition},\"offset\":{offset},");
    if let Some(key) = key(&stored.event) {
        // Writing to a string does not fail.
        let _ = write!(head, "\"key\":{},", serde_json::Value::from(key));
    }
    head
}

/// What places an event in a partition, if it is text.
pub(super) fn key(event: &Event) -> Option<&str> {
    std::str::from_utf8(event.key.as_deref()?).ok()
}

/// Appends one event behind the `head` of its object; without an id, where one resumes before it.
pub(super) fn write_line(form: Form, id: &str, head: &str, event: &Event, out: &mut Vec<u8>) {
    if form == Form::EventStream {
        if !id.is_empty() {
            out.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        out.extend_from_slice(b"data: ");
    }
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(b"\"event\":");
    let begin = out.len();
    cloudevents::write_event(event, out);
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
