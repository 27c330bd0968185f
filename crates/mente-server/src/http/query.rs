//! Path and query parameters, with refusals in the door's own words.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use mente_broker::{EntityName, SubscriptionName};
use serde::de::DeserializeOwned;

use super::error::{Refusal, Result};

/// Path parameters.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

/// Query parameters.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(names)| Self(names))
            .map_err(|error| Refusal::bad_request(format!("the path: {}", error.body_text())))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(asked)| Self(asked))
            .map_err(|error| Refusal::bad_request(error.body_text()))
    }
}

/// A subscription of a topic, or of the store.
pub(super) fn subscription_name(topic: String, name: String) -> Result<SubscriptionName> {
    Ok(SubscriptionName {
        topic: EntityName::source(topic)?,
        name: EntityName::new(name)?,
    })
}

/// A parameter inside its bounds.
pub(super) fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    low: T,
    high: T,
) -> Result<T> {
    if value >= low && value <= high {
        return Ok(value);
    }
    Err(Refusal::bad_request(format!(
        "{name} is {value}, but must be from {low} to {high}"
    )))
}
