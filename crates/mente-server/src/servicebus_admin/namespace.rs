//! `GET /$namespaceinfo` and `GET /health`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mente_wire::servicebus::NamespaceInfo;

use super::Door;
use super::error::{Refusal, Result};
use super::request::{Request, entry};
use crate::described::UNKNOWN;

/// As Service Bus' emulator says it.
pub(super) async fn health(door: &Door) -> Result<Response> {
    let ready = door.broker.ready().await;
    ready.map_err(|error| Refusal::not_ready(error.message))?;
    let body = r#"{"status":"healthy","message":"Service is healthy."}"#;
    let mut response = body.into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// There is one namespace, of the tier that has everything.
pub(super) fn info(request: &Request<'_>) -> Response {
    let name = request.namespace().to_owned();
    let info = NamespaceInfo {
        alias: None,
        created: Some(UNKNOWN),
        sku: Some("Premium".to_owned()),
        units: Some(1),
        modified: Some(UNKNOWN),
        name: Some(name.clone()),
        kind: Some("Messaging".to_owned()),
    };
    let at = (UNKNOWN.0, UNKNOWN.0);
    let found = request.entry("$namespaceinfo", &name, at, info);
    entry(StatusCode::OK, found)
}
