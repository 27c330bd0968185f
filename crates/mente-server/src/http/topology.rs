//! `/topology`: queues, topics, subscriptions and rules of Service Bus, declared in one file.
//!
//! | call | does |
//! |---|---|
//! | `PUT /topology` | makes and changes what the file says: `{"changes":[…]}`; 409 if something would have to be made anew |
//! | `POST /topology/diff` | says what that would do |
//! | `GET /topology` | `{"config":{…},"leftOut":[…]}`: the file that would make what is there, and what it cannot say |
//!
//! The body is the file of Service Bus' emulator as it is, comments too. What is wrong with it is said by line, column
//! and path.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::caller::Caller;
use super::error::Result;
use super::events::json_of;
use super::{Door, body};
use crate::topology;

pub(super) async fn get(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    json_of(StatusCode::OK, &topology::export(&door.broker, &who).await?)
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    body: Body,
) -> Result<Response> {
    let held = body::read(&door, body).await?;
    let changes = topology::apply(&door.broker, &who, &held.bytes).await?;
    json_of(StatusCode::OK, &json!({ "changes": changes }))
}

pub(super) async fn diff(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    body: Body,
) -> Result<Response> {
    let held = body::read(&door, body).await?;
    let changes = topology::diff(&door.broker, &who, &held.bytes).await?;
    json_of(StatusCode::OK, &json!({ "changes": changes }))
}
