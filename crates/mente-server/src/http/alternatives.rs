//! `/alternatives/{name}`: what-ifs that are kept, to be looked at again and made true.
//!
//! `PUT` takes `{"stream":"order-17","at":9,"drop":[3],"replace":[…],"append":[…]}`, what `whatif` of a stream
//! takes and of which stream; without `at` it is of the stream as it will be when somebody looks. What it
//! comes to is computed when it is asked for, so nothing is ever out of date.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{Definition, EntityName, Error, Kind, Principal, StreamName, WhatIf};
use mente_engine::limits;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::past::{self, Otherwise, Promoting, Replaced};
use super::query::{Asked, Named};
use super::{Door, body};

/// Kept ones; each may be as large as any declaration.
const KEPT: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    stream: String,
    at: Option<u64>,
    #[serde(default)]
    drop: BTreeSet<u64>,
    #[serde(default)]
    replace: Vec<Replaced>,
    #[serde(default)]
    append: Vec<Box<RawValue>>,
}

impl Kept {
    fn read(text: &str) -> Result<(StreamName, Option<u64>, WhatIf)> {
        let kept: Self = serde_json::from_str(text)
            .map_err(|error| Refusal::bad_request(format!("the alternative: {error}")))?;
        let what_if = past::otherwise(Otherwise {
            drop: kept.drop,
            replace: kept.replace,
            append: kept.append,
        })?;
        Ok((StreamName::new(kept.stream)?, kept.at, what_if))
    }

    fn of(
        door: &Door,
        who: &Principal,
        name: &EntityName,
    ) -> Result<(StreamName, Option<u64>, WhatIf)> {
        let catalogue = door.broker.catalogue(who)?;
        let key = (Definition::Alternative, name.clone());
        match catalogue.definitions.get(&key) {
            Some(kept) => Self::read(kept["told"].as_str().unwrap_or_default()),
            None => Err(Error::not_found("alternative", name.as_str()).into()),
        }
    }
}

/// `{"alternatives":[{"name":…,"stream":…}]}`
pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let catalogue = door.broker.catalogue(&who)?;
    let kept = catalogue.definitions.iter();
    let kept = kept.filter(|((kind, _), _)| *kind == Definition::Alternative);
    let named =
        kept.map(|((_, name), kept)| json!({"name": name.as_str(), "stream": kept["stream"]}));
    let body = json!({ "alternatives": named.collect::<Vec<_>>() });
    json_of(StatusCode::OK, &body)
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let held = body::read(&door, body).await?;
    let size = held.bytes.len();
    if size > limits::DEFINITION_BYTES {
        let message = format!(
            "the alternative has {size} bytes, more than the limit of {}",
            limits::DEFINITION_BYTES
        );
        return Err(Error::new(Kind::TooLarge, message).into());
    }
    let catalogue = door.broker.catalogue(&who)?;
    let of_kind = |(kind, known): &&(Definition, EntityName)| {
        *kind == Definition::Alternative && *known != name
    };
    if catalogue.definitions.keys().filter(of_kind).count() >= KEPT {
        let message = format!("{KEPT} alternatives are kept, the most there may be: delete one");
        return Err(Error::new(Kind::Throttled, message).into());
    }
    let told: Box<RawValue> = body::json(&held.bytes)?;
    let (stream, ..) = Kept::read(told.get())?;
    // As it was told: the data of its events keep their bytes.
    let kept = json!({ "stream": stream.as_str(), "told": told.get() });
    let kind = Definition::Alternative;
    door.broker.define(&who, kind, &name, kept).await?;
    json_of(StatusCode::OK, &told)
}

/// What the stream would be, by what it holds now: the answer of `whatif`.
pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<Response> {
    let (stream, at, what_if) = Kept::of(&door, &who, &EntityName::new(name)?)?;
    let as_of = past::as_of(at, None)?;
    let told = door.broker.stream_what_if(&who, &stream, as_of, &what_if);
    json_of(StatusCode::OK, &past::alternative(&stream, told.await?))
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<StatusCode> {
    let name = EntityName::new(name)?;
    let kind = Definition::Alternative;
    door.broker.undefine(&who, kind, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// As `promote` of its stream; it stays kept.
pub(super) async fn promote(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    Asked(asked): Asked<Promoting>,
) -> Result<Response> {
    let (stream, at, what_if) = Kept::of(&door, &who, &EntityName::new(name)?)?;
    let at = asked.at.or(at);
    past::promoted(&door, &who, &stream, at, asked.id, &what_if).await
}
