//! What a request brings beside its path, and how it is answered.

use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use mente_broker::{Broker, Principal};
use mente_engine::{Timestamp, limits};
use mente_wire::servicebus::atom::{self, Description, Entry, Feed};

use super::error::{Refusal, Result};
use super::{Door, Way};

/// Longest name of a host (RFC 1035, with a port behind it).
const HOST_BYTES: usize = 262;

#[derive(Debug)]
pub(super) struct Request<'a> {
    way: &'a Way,
    pub(super) who: Principal,
    parts: Parts,
}

impl<'a> Request<'a> {
    pub(super) const fn new(way: &'a Way, who: Principal, parts: Parts) -> Self {
        Self { way, who, parts }
    }

    pub(super) const fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.way.door.broker
    }

    pub(super) fn door(&self) -> &Door {
        &self.way.door
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// It changes what is there, and makes nothing.
    pub(super) fn is_update(&self) -> bool {
        self.parts.headers.contains_key(header::IF_MATCH)
    }

    /// As the client says that it came here.
    pub(super) fn host(&self) -> &str {
        let host = self.parts.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let host = host.filter(|host| (1..=HOST_BYTES).contains(&host.len()));
        host.unwrap_or(&self.way.door.address)
    }

    /// What clients take for the name of the namespace: the first word of its host, if that is a name.
    pub(super) fn namespace(&self) -> &str {
        let first = self.host().split(['.', ':']).next();
        let begins_as_name =
            |word: &&str| word.starts_with(|char: char| char.is_ascii_alphabetic());
        first.filter(begins_as_name).unwrap_or("mente")
    }

    /// The URL of what lies at `path`, with the version that the client speaks.
    pub(super) fn url(&self, path: &str) -> String {
        let base = format!("{}://{}/{path}", self.way.scheme, self.host());
        match self.parameter("api-version") {
            Some(version) => format!("{base}?api-version={version}"),
            None => base,
        }
    }

    pub(super) fn path(&self) -> &str {
        self.parts.uri.path().trim_matches('/')
    }

    /// A parameter of the query as it stands there, whatever the case of its name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.parts.uri.query()?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let is_it = |known: &str| {
            let known = known.strip_prefix("%24").map(|bare| format!("${bare}"));
            known.is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        let found = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name) || is_it(known));
        found.map(|(_, value)| value)
    }

    pub(super) fn entry<T: Description>(
        &self,
        path: &str,
        title: &str,
        (created_ms, updated_ms): (i64, i64),
        description: T,
    ) -> Entry<T> {
        Entry {
            id: self.url(path),
            title: title.to_owned(),
            author: self.namespace().to_owned(),
            published: Timestamp(created_ms),
            updated: Timestamp(updated_ms),
            description,
        }
    }
}

/// A body of a declaration's size.
pub(super) async fn read(body: Body) -> Result<Bytes> {
    let time = Duration::from_secs(limits::HTTP_SENDER_SECONDS);
    let most = limits::DECLARATION_BYTES;
    let gathered = tokio::time::timeout(time, Limited::new(body, most).collect()).await;
    match gathered {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => {
            let detail = format!("the body ended early, or has more than {most} bytes: {error}");
            Err(Refusal::bad_request(detail))
        }
        Err(_) => Err(Refusal::too_slow(format!(
            "the body did not arrive within {} seconds",
            limits::HTTP_SENDER_SECONDS
        ))),
    }
}

pub(super) fn entry<T: Description>(status: StatusCode, entry: Entry<T>) -> Response {
    document(status, atom::ENTRY_TYPE, entry.write())
}

pub(super) fn feed<T: Description>(feed: Feed<T>) -> Response {
    document(StatusCode::OK, atom::FEED_TYPE, feed.write())
}

fn document(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = (status, text).into_response();
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
