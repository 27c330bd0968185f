//! `/store/events`: the events of all streams, in the order of their positions; and
//! `GET /streams/{stream}`: those of one.
//!
//! | query | means |
//! |---|---|
//! | `from` | first position (of a stream: revision); backwards the end if absent |
//! | `time` | in place of `from`: the first event that was appended then or later |
//! | `direction=backwards` | the newest first |
//! | `type=a,b` `tag=x,y` `category=` `correlation=` `causation=` | events of one of these types, with all of these tags, … (not of a stream) |
//! | `query=[{"types":["a"],"tags":["x","y"]},…]` | events that match at least one item (not beside the ones above) |
//! | `schema=written` | events as they were written; else in the current version of their type (`schemas.rs`) |
//! | `follow=true` | a tail without end, as of a topic (`tail.rs`); SSE ids are positions, of a stream revisions |
//!
//! A document is `{"events":[{"stream":…,"revision":0,"position":7,"appended":…,"actor":…,"event":{…}}],"next":8,"head":7}`,
//! the actor being the name of the key that was shown, if one was:
//! read on from `next` until there is none; `head` is the last position of the store as it was read
//! (backwards on the first page only), which a decision by all matches hands to its check as `after`.
//!
//! `POST /store/events` appends to several streams, all or nothing, if every check holds:
//! `{"events":[{"stream":"a-1","event":{…}}],"checks":[{"stream":"a-1","expected":"none"},{"query":[…],"after":7}]}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use mente_broker::{
    Append, Broker, Check, Direction, Found, Principal, Query, QueryItem, StreamEvent, StreamName,
};
use mente_engine::{Offset, limits};
use mente_wire::cloudevents;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::{json as answer, json_of};
use super::past::event_of;
use super::query::{Asked, Named, within};
use super::read::accepted;
use super::schemas::broker_for;
use super::streams::expected;
use super::tail::{self, Form, Source, write_line};
use super::{Door, body, position};

const EVENTS_DEFAULT: usize = 1_000;

/// What a reader of one stream says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OfStream {
    from: Option<u64>,
    direction: Option<String>,
    limit: Option<usize>,
    follow: Option<bool>,
    schema: Option<String>,
}

/// What a reader of the store says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OfStore {
    from: Option<u64>,
    time: Option<String>,
    direction: Option<String>,
    r#type: Option<String>,
    tag: Option<String>,
    category: Option<String>,
    correlation: Option<String>,
    causation: Option<String>,
    query: Option<String>,
    limit: Option<usize>,
    follow: Option<bool>,
    schema: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Item {
    types: Vec<String>,
    tags: Vec<String>,
    category: Option<String>,
    correlation: Option<String>,
    causation: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToAppend {
    events: Vec<Told>,
    #[serde(default)]
    checks: Vec<Checked>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    stream: String,
    event: Box<RawValue>,
}

/// One check: of a stream, or of a query.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Checked {
    stream: Option<String>,
    expected: Option<Value>,
    query: Option<Vec<Item>>,
    after: Option<u64>,
}

pub(super) async fn stream(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(asked): Asked<OfStream>,
    headers: HeaderMap,
) -> Result<Response> {
    let of = Of::Stream(StreamName::new(stream)?);
    let direction = direction(asked.direction.as_deref())?;
    let from = match resumed(&headers)? {
        Some(from) => Some(from),
        None => asked.from,
    };
    let broker = broker_for(&door, asked.schema.as_deref())?;
    let reader = Reader::new(broker, who, of, from, direction);
    read(door, reader, &headers, asked.limit, asked.follow).await
}

pub(super) async fn events(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Asked(asked): Asked<OfStore>,
    headers: HeaderMap,
) -> Result<Response> {
    let direction = direction(asked.direction.as_deref())?;
    let of = Of::Store(asked.query()?);
    let from = match (resumed(&headers)?, &asked.time) {
        (Some(from), _) => Some(from),
        (None, None) => asked.from,
        (None, Some(_)) if asked.from.is_some() => {
            let message = "from is a position and time a moment: say one of them";
            return Err(Refusal::bad_request(message));
        }
        (None, Some(time)) => Some(position_at(&door, &who, time).await?),
    };
    let broker = broker_for(&door, asked.schema.as_deref())?;
    let reader = Reader::new(broker, who, of, from, direction);
    read(door, reader, &headers, asked.limit, asked.follow).await
}

pub(super) async fn append(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    body: Body,
) -> Result<Response> {
    let held = body::read(&door, body).await?;
    let asked: ToAppend = serde_json::from_slice(&held.bytes)
        .map_err(|error| Refusal::bad_request(format!("the body: {error}")))?;
    let events = asked.events.iter().map(|told| {
        let stream = StreamName::new(&*told.stream)?;
        Ok((stream, event_of(&told.event)?))
    });
    let events = events.collect::<Result<_>>()?;
    let checks = asked.checks.into_iter().map(check);
    let append = Append::new(events, checks.collect::<Result<_>>()?);
    let appended = door.broker.append_store(&who, append).await?;
    let streams = appended.streams.iter().map(|(stream, to)| {
        json!({
            "stream": stream.as_str(),
            "firstRevision": to.first_revision,
            "lastRevision": to.last_revision,
            "lastPosition": to.last_position,
        })
    });
    let body = json!({
        "streams": streams.collect::<Vec<_>>(),
        "lastPosition": appended.last_position,
        "repeated": appended.repeated,
    });
    json_of(StatusCode::OK, &body)
}

async fn read(
    door: Arc<Door>,
    mut reader: Reader,
    headers: &HeaderMap,
    limit: Option<usize>,
    follow: Option<bool>,
) -> Result<Response> {
    let accepted = accepted(headers);
    let is_down = reader.direction == Direction::Backwards;
    let follow = follow.unwrap_or(accepted.is_event_stream() && !is_down);
    if is_down && accepted.is_event_stream() {
        let message =
            "server-sent events go forwards: accept application/json or application/x-ndjson";
        return Err(Refusal::bad_request(message));
    }
    if follow && is_down {
        let message = "what goes backwards ends at the first event: leave follow out";
        return Err(Refusal::bad_request(message));
    }
    if let Some(form) = accepted.form(follow)? {
        let left = limit.unwrap_or(usize::MAX);
        // A stream that is not there is told before the answer begins.
        reader.look().await?;
        return Ok(tail::answer(door, reader, form, follow, left));
    }
    let limit = limit.unwrap_or(EVENTS_DEFAULT);
    let limit = within("limit", limit, 1, limits::READ_EVENTS)?;
    let page = reader.page(limit).await?;
    door.metrics.read.add(page.len());
    Ok(answer(StatusCode::OK, reader.document(&page)))
}

/// What is read.
#[derive(Clone, Debug)]
enum Of {
    Store(Query),
    Stream(StreamName),
}

/// Reads the store or a stream, from where it stands.
#[derive(Debug)]
struct Reader {
    broker: Broker,
    who: Principal,
    of: Of,
    direction: Direction,
    /// Position or revision that is looked at next; `None`: there is nothing beyond.
    next: Option<u64>,
    /// Of the store, when it was last looked at.
    head: Option<u64>,
    /// Of the store's log, before it was last looked at.
    seen: Offset,
    /// Position behind the last event, forwards.
    behind: u64,
}

impl Reader {
    fn new(
        broker: Broker,
        who: Principal,
        of: Of,
        from: Option<u64>,
        direction: Direction,
    ) -> Self {
        let first = match direction {
            Direction::Forwards => 0,
            Direction::Backwards => u64::MAX,
        };
        Self {
            broker,
            who,
            of,
            direction,
            next: Some(from.unwrap_or(first)),
            head: None,
            seen: Offset(0),
            behind: 0,
        }
    }

    /// Refuses what cannot be read.
    async fn look(&self) -> Result<()> {
        let from = self.next.unwrap_or_default();
        self.find(from, 1).await.map(drop)
    }

    /// The next events, at most `max`.
    async fn page(&mut self, max: usize) -> Result<Vec<StreamEvent>> {
        loop {
            let before = self.next;
            let events = self.look_on(max).await?;
            let is_end = self.next.is_none() || self.next == before;
            // Of what was looked at nothing may be told, and there may be more.
            if !events.is_empty() || is_end {
                return Ok(events);
            }
        }
    }

    async fn look_on(&mut self, max: usize) -> Result<Vec<StreamEvent>> {
        let Some(from) = self.next else {
            return Ok(Vec::new());
        };
        // Before the look, so that nothing that comes after it is missed.
        self.seen = self.broker.store_bounds(&self.who).await?.end;
        let found = self.find(from, max).await?;
        // What came while a reader went backwards, it did not see.
        if self.direction == Direction::Forwards || from >= found.end {
            self.head = found.end.checked_sub(1);
        }
        if let (Direction::Forwards, Some(last)) = (self.direction, found.events.last()) {
            self.behind = last.place.position + 1;
        }
        self.next = found.next;
        Ok(found.events)
    }

    /// What is there from `from` on; the end is that of the store, or 0 if a stream is read.
    async fn find(&self, from: u64, max: usize) -> Result<Found> {
        let (broker, who, direction) = (&self.broker, &self.who, self.direction);
        let stream = match &self.of {
            Of::Store(query) => {
                return Ok(broker.find_events(who, query, from, direction, max).await?);
            }
            Of::Stream(stream) => stream,
        };
        let page = broker.read_stream_page(who, stream, from, self.behind, direction, max);
        let page = page.await?;
        let next = match direction {
            Direction::Forwards => Some(page.next.unwrap_or(from)),
            Direction::Backwards => page.next,
        };
        let (events, end) = (page.events, 0);
        Ok(Found { events, next, end })
    }

    /// The events keep the bytes of their data.
    fn document(&self, events: &[StreamEvent]) -> Vec<u8> {
        let mut out = b"{".to_vec();
        if let Of::Stream(stream) = &self.of {
            out.extend_from_slice(
                format!("\"stream\":{},", Value::from(stream.as_str())).as_bytes(),
            );
        }
        out.extend_from_slice(b"\"events\":[");
        for (index, event) in events.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let head = format!("{comma}{}\"event\":", self.head_of(event));
            out.extend_from_slice(head.as_bytes());
            cloudevents::write_event(&event.event, &mut out);
            out.push(b'}');
        }
        out.push(b']');
        let next = self.next.filter(|_| !events.is_empty());
        let told = [("next", next), ("head", self.head)];
        for (name, number) in told.into_iter().filter_map(|(n, told)| Some((n, told?))) {
            out.extend_from_slice(format!(",\"{name}\":{number}").as_bytes());
        }
        out.push(b'}');
        out
    }

    /// What stands before an event.
    fn head_of(&self, event: &StreamEvent) -> String {
        let stream = match self.of {
            Of::Store(_) => format!("\"stream\":{},", Value::from(event.stream.as_str())),
            Of::Stream(_) => String::new(),
        };
        let (revision, position) = (event.place.revision, event.place.position);
        let appended = event.time.to_rfc3339();
        let actor = event.actor.as_deref();
        let actor = actor.map_or(String::new(), |a| format!("\"actor\":{},", Value::from(a)));
        format!(
            "{{{stream}\"revision\":{revision},\"position\":{position},\"appended\":\"{appended}\",{actor}"
        )
    }
}

impl Source for Reader {
    async fn write(&mut self, max: usize, form: Form, out: &mut Vec<u8>) -> Result<usize> {
        let events = self.page(max).await?;
        for (at, event) in events.iter().enumerate() {
            // Who resumes behind one of several parts of an event would miss the others.
            let is_last = (events.get(at + 1)).is_none_or(|next| next.place != event.place);
            let id = match self.of {
                _ if !is_last => String::new(),
                Of::Store(_) => event.place.position.to_string(),
                Of::Stream(_) => event.place.revision.to_string(),
            };
            write_line(form, &id, &self.head_of(event), &event.event, out);
        }
        Ok(events.len())
    }

    async fn more(&self) -> Result<()> {
        Ok(self.broker.store_grown(self.seen).await.map(drop)?)
    }
}

impl OfStore {
    fn query(&self) -> Result<Query> {
        let split = |text: &Option<String>| {
            let parts = text.iter().flat_map(|text| text.split(','));
            parts.map(str::to_owned).collect::<Vec<_>>()
        };
        let item = Item {
            types: split(&self.r#type),
            tags: split(&self.tag),
            category: self.category.clone(),
            correlation: self.correlation.clone(),
            causation: self.causation.clone(),
        };
        let is_said = !item.types.is_empty()
            || !item.tags.is_empty()
            || item.category.is_some()
            || item.correlation.is_some()
            || item.causation.is_some();
        let Some(text) = &self.query else {
            let items = if is_said {
                vec![item.into()]
            } else {
                Vec::new()
            };
            return Ok(Query { items });
        };
        if is_said {
            let message =
                "query says all: leave type, tag, category, correlation and causation out";
            return Err(Refusal::bad_request(message));
        }
        let items: Vec<Item> = serde_json::from_str(text).map_err(|error| {
            let message = format!(
                "query: {error}; say a list such as [{{\"types\":[\"a\"],\"tags\":[\"x\"]}}]"
            );
            Refusal::bad_request(message)
        })?;
        let items = items.into_iter().map(QueryItem::from);
        Ok(Query {
            items: items.collect(),
        })
    }
}

impl From<Item> for QueryItem {
    fn from(item: Item) -> Self {
        Self {
            types: item.types,
            tags: item.tags,
            category: item.category,
            correlation: item.correlation,
            causation: item.causation,
            ..Self::default()
        }
    }
}

fn check(asked: Checked) -> Result<Check> {
    match asked {
        Checked {
            stream: Some(stream),
            expected: asked,
            query: None,
            after: None,
        } => {
            let text = asked.map(|asked| match asked {
                Value::String(text) => text,
                other => other.to_string(),
            });
            let expected = expected(text.as_deref())?;
            Ok(Check::Stream(StreamName::new(stream)?, expected))
        }
        Checked {
            stream: None,
            expected: None,
            query: Some(items),
            after,
        } => {
            let items = items.into_iter().map(QueryItem::from).collect();
            let query = Query { items };
            Ok(Check::Query { query, after })
        }
        _ => {
            let message = "a check is of a stream, {\"stream\":…,\"expected\":…}, or of a query, {\"query\":[…],\"after\":…}";
            Err(Refusal::bad_request(message))
        }
    }
}

fn direction(asked: Option<&str>) -> Result<Direction> {
    match asked {
        None | Some("forwards") => Ok(Direction::Forwards),
        Some("backwards") => Ok(Direction::Backwards),
        Some(other) => Err(Refusal::bad_request(format!(
            "direction is {other:?}, but must be forwards or backwards"
        ))),
    }
}

/// Behind the last event that an SSE client saw.
fn resumed(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let seen = id
        .to_str()
        .ok()
        .and_then(|id| id.trim().parse::<u64>().ok());
    let next = seen.and_then(|seen| seen.checked_add(1)).ok_or_else(|| {
        let message =
            "Last-Event-ID holds no id of this tail: it is the position of the last event";
        Refusal::bad_request(message)
    })?;
    Ok(Some(next))
}

async fn position_at(door: &Door, who: &Principal, time: &str) -> Result<u64> {
    let time = position::asked_time(time)?;
    let position = door.broker.position_at(who, time).await?;
    // Nothing of that time is there yet: what comes is.
    Ok(match position {
        Some(position) => position,
        None => {
            let nothing = Query::default();
            let found = door
                .broker
                .find_events(who, &nothing, u64::MAX, Direction::Forwards, 1);
            found.await?.end
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_said_in_one_way() {
        let query = |asked: OfStore| asked.query().map(|query| query.items.len()).ok();
        assert_eq!(query(OfStore::default()), Some(0));
        let tag = || OfStore {
            tag: Some("a,b".into()),
            ..OfStore::default()
        };
        assert_eq!(query(tag()), Some(1));
        let both = OfStore {
            query: Some("[]".into()),
            ..tag()
        };
        assert_eq!(query(both), None);
        let said = |text: &str| OfStore {
            query: Some(text.into()),
            ..OfStore::default()
        };
        assert_eq!(
            query(said(r#"[{"types":["a"]},{"tags":["x","y"]}]"#)),
            Some(2)
        );
        assert_eq!(query(said(r#"[{"tag":["x"]}]"#)), None);
    }

    #[test]
    fn a_check_is_one_of_two() {
        let read = |text: &str| check(serde_json::from_str(text).unwrap()).is_ok();
        assert!(read(r#"{"stream":"a-1","expected":"none"}"#));
        assert!(read(r#"{"stream":"a-1","expected":3}"#));
        assert!(read(r#"{"query":[{"types":["t"]}],"after":3}"#));
        assert!(read(r#"{"query":[]}"#));
        assert!(!read(r#"{"stream":"a-1","expected":-3}"#));
        assert!(!read(r#"{"stream":"a-1","after":3}"#));
        assert!(!read("{}"));
    }
}
