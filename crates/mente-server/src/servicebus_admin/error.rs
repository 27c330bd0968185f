//! What the administration answers when it refuses: one table from kinds to statuses, one body.
//!
//! The sub-code in the detail is what .NET goes by: 40900 of a 409 is an entity that is there, 40901 another
//! change under way.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mente_broker::{Error, Kind};
use mente_wire::servicebus::{Wrong, atom};

/// Longest detail: what the caller sent may stand in it.
const DETAIL_CHARS: usize = 500;

#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    sub_code: u32,
    detail: String,
}

pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// The table.
fn answer(kind: Kind) -> (StatusCode, u32) {
    match kind {
        Kind::NotFound => (StatusCode::NOT_FOUND, 40_400),
        Kind::Exists | Kind::Deleted => (StatusCode::CONFLICT, 40_900),
        Kind::Conflict => (StatusCode::CONFLICT, 40_901),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, 40_100),
        Kind::Forbidden => (StatusCode::UNAUTHORIZED, 40_101),
        Kind::Invalid | Kind::OutOfRange | Kind::TooLarge | Kind::LockLost => {
            (StatusCode::BAD_REQUEST, 40_000)
        }
        Kind::Refused | Kind::UpcastFailed => (StatusCode::BAD_REQUEST, 40_000),
        // Any other sub-code than 40301 is a quota to .NET.
        Kind::Full => (StatusCode::FORBIDDEN, 40_300),
        Kind::Throttled | Kind::NotOwner => (StatusCode::SERVICE_UNAVAILABLE, 50_004),
        Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, 50_100),
        Kind::DeciderFailed | Kind::Unknown | Kind::Corrupt | Kind::Internal => {
            (StatusCode::INTERNAL_SERVER_ERROR, 50_000)
        }
    }
}

impl Refusal {
    fn new(status: StatusCode, sub_code: u32, detail: impl Into<String>) -> Self {
        Self {
            status,
            sub_code,
            detail: detail.into(),
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 40_000, detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 40_100, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, 40_400, detail)
    }

    pub(super) fn too_slow(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, 40_800, detail)
    }

    pub(super) fn no_such_method() -> Self {
        let detail = "this path has other methods; which ones is in the documentation";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 40_500, detail)
    }

    pub(super) fn not_ready(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 50_300, detail)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, sub_code) = answer(error.kind);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(kind = ?error.kind, error = %error, "an administrator's request failed");
        }
        Self::new(status, sub_code, error.message)
    }
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Self {
        Self::bad_request(wrong.0)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let detail = match self.detail.char_indices().nth(DETAIL_CHARS) {
            Some((end, _)) => &self.detail[..end],
            None => &self.detail,
        };
        let body = atom::write_error(self.status.as_u16(), self.sub_code, detail);
        let mut response = (self.status, body).into_response();
        let kind = HeaderValue::from_static("application/xml; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let again = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, again);
        }
        response
    }
}
