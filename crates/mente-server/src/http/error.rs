//! What the door answers when it refuses: one table from kinds to statuses and codes, one body.
//!
//! `{"error":{"code","message"}}` and the header `x-ms-error-code`, as Event Grid's clients
//! read them, on every path. `Retry-After` stands on 503 only: one client repeats any refused
//! request that has it.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use mente_broker::{Error, Kind};
use mente_wire::eventgrid;

/// Longest message of an answer.
const MESSAGE_CHARS: usize = 500;

#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// The table.
fn answer(kind: Kind) -> (StatusCode, &'static str) {
    match kind {
        Kind::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
        Kind::Exists => (StatusCode::CONFLICT, "Exists"),
        Kind::Invalid => (StatusCode::BAD_REQUEST, "BadRequest"),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthorized"),
        Kind::Forbidden => (StatusCode::FORBIDDEN, "Forbidden"),
        Kind::Conflict => (StatusCode::CONFLICT, "Conflict"),
        Kind::Deleted => (StatusCode::GONE, "Deleted"),
        Kind::LockLost => (StatusCode::GONE, "TokenLost"),
        Kind::OutOfRange => (StatusCode::RANGE_NOT_SATISFIABLE, "OutOfRange"),
        Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge"),
        Kind::Full => (StatusCode::INSUFFICIENT_STORAGE, "QuotaExceeded"),
        Kind::Throttled | Kind::NotOwner => (StatusCode::SERVICE_UNAVAILABLE, "ServerBusy"),
        Kind::UpcastFailed => (StatusCode::UNPROCESSABLE_ENTITY, "UpcastFailed"),
        Kind::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "Refused"),
        Kind::DeciderFailed => (StatusCode::BAD_GATEWAY, "DeciderFailed"),
        Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, "Unsupported"),
        Kind::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "OutcomeUnknown"),
        Kind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "DataCorrupt"),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// What the caller sent may stand in the message, however long it is: the end is left out.
    fn shown(&self) -> Cow<'_, str> {
        match self.message.char_indices().nth(MESSAGE_CHARS) {
            Some((end, _)) => Cow::Owned(format!("{}…", &self.message[..end])),
            None => Cow::Borrowed(&self.message),
        }
    }

    /// The body, also for the places where no status can be sent any more.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        eventgrid::write_error(self.code, &self.shown(), &mut body);
        body
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, code) = answer(error.kind);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code, error = %error, "request failed");
        }
        Self::new(status, code, error.message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert("x-ms-error-code", HeaderValue::from_static(self.code));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("SharedAccessKey");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// To plain HTTP where the door speaks TLS.
pub(super) async fn speaks_tls() -> Refusal {
    let message = "this port speaks TLS: begin the address with https://";
    Refusal::new(StatusCode::BAD_REQUEST, "TlsRequired", message)
}

pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    let message = format!(
        "no path {:?} here; events are at /topics/TOPIC/events",
        uri.path()
    );
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
}

pub(super) async fn no_such_method() -> Refusal {
    let message = "this path has other methods: see the header allow";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}
