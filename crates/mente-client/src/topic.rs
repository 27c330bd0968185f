//! A topic of a server: publish, and follow what comes.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{Client, Error, Lines};

const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
/// A line of JSON for each event.
pub(crate) const LINES: &str = "application/x-ndjson";
/// Most bytes that are read of the answer to a publish.
const PUBLISHED_BYTES_MAX: usize = 1 << 20;

/// A topic, of which nothing is asked before it is used.
///
/// ```no_run
/// # async fn example() -> Result<(), mente_client::Error> {
/// let client = mente_client::Client::new("http://127.0.0.1:8480")?;
/// let orders = client.topic("orders");
/// orders.publish(r#"{"specversion":"1.0","id":"1","source":"/shop","type":"Placed","subject":"order-1","data":{}}"#).await?;
/// let mut following = orders.follow("earliest").await?;
/// while let Some(told) = following.next().await? {
///     println!("{:?} at {}: {}", told.key, told.place.offset, told.event);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    client: &'a Client,
    name: &'a str,
}

/// Where an event lies in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Place {
    pub partition: u32,
    pub offset: u64,
}

/// An event, as a server tells it: one line.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    #[serde(flatten)]
    pub place: Place,
    /// What places it in a partition: events of one key keep their order. Not told where it is no text.
    #[serde(default)]
    pub key: Option<String>,
    /// A CloudEvent in JSON, as it came.
    pub event: Box<RawValue>,
}

/// The events of a topic from a place on, as they come.
#[derive(Debug)]
pub struct Following {
    lines: Lines,
}

impl Client {
    pub fn topic<'a>(&'a self, name: &'a str) -> Topic<'a> {
        Topic { client: self, name }
    }
}

impl Topic<'_> {
    /// Publishes one CloudEvent in JSON, durable on return. An event whose outcome is not known may be sent again
    /// with the same `id` and `source`, and be there twice.
    pub async fn publish(&self, event: impl Into<String>) -> Result<Place, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, STRUCTURED);
        let (path, event) = (self.path("events"), event.into());
        let answer = self
            .client
            .request_within("POST", &path, headers, event, PUBLISHED_BYTES_MAX);
        let answer = answer.await?;
        if answer.status != 200 {
            return Err(Error::Refused(Box::new(answer)));
        }
        serde_json::from_slice(&answer.body).map_err(|error| Error::Strange(error.to_string()))
    }

    /// Follows the topic without end, from `earliest`, `latest`, a time or an offset (`0:17,1:4` of several
    /// partitions) on.
    pub async fn follow(&self, from: &str) -> Result<Following, Error> {
        let path = format!("{}?follow=true&from={}", self.path("events"), escape(from));
        let lines = self.client.lines(&path, LINES).await?;
        Ok(Following { lines })
    }

    pub(crate) fn path(&self, of: &str) -> String {
        format!("/topics/{}/{of}", escape(self.name))
    }
}

impl Following {
    /// The next event; `None` once the server stops.
    pub async fn next(&mut self) -> Result<Option<Told>, Error> {
        let Some(line) = self.lines.next().await? else {
            return Ok(None);
        };
        let told = serde_json::from_str(&line);
        // What a server says last, if it cannot go on, has no place.
        told.map(Some).map_err(|_| Error::Strange(line))
    }
}

/// As a part of a path or a query.
pub(crate) fn escape(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}
