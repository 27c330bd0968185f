//! `POST /sql`: one SELECT over the events of the store, the states of streams and the rows of projections.
//!
//! Takes `{"sql": "SELECT …", "limit": 100}` and answers
//! `{"columns":[…],"rows":[[…]],"truncated":false,"looked":{"events":7,"states":0},"asOf":41}`: `looked` is how
//! many events were read and states folded for it, `asOf` the last position that could be seen, if the query is of
//! either. With `Accept: application/vnd.apache.parquet` it is a file of the rows, all of them unless a limit is
//! said (`sql/columnar.rs`).
//!
//! | query | means |
//! |---|---|
//! | `as_of=POSITION\|TIME` | events and states as of then; the rows of projections are those of now, and refused |
//! | `min-position=POSITION`, of topics `PARTITION:OFFSET,…` | waits until everything up to there is in the rows |
//! | `wait_ms` | so long at most, then it is 504 |
//!
//! The tables are in `sql/mod.rs`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use mente_broker::{EntityName, Error, Kind, Principal};
use mente_engine::{Shown, limits};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::query::{Asked, within};
use super::{Door, body, position};
use crate::projection::query::Gathered;
use crate::sql::{self, AsOf, Least, Question};

/// What a file of rows is.
const PARQUET: &str = "application/vnd.apache.parquet";
/// Rows that are answered unless told otherwise.
const ROWS_DEFAULT: usize = 1_000;
/// How long a query waits for its rows unless told otherwise.
const WAIT_DEFAULT_MS: u64 = 5_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    sql: String,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    as_of: Option<String>,
    #[serde(rename = "min-position")]
    min_position: Option<String>,
    wait_ms: Option<u64>,
}

/// What a query waits for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    #[serde(rename = "min-position")]
    min_position: Option<String>,
    wait_ms: Option<u64>,
}

pub(super) async fn ask(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Asked(asked): Asked<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let waiting = Waiting {
        min_position: asked.min_position,
        wait_ms: asked.wait_ms,
    };
    let as_of = match &asked.as_of {
        None => AsOf::Now,
        Some(text) => as_of(text)?,
    };
    let held = body::read(&door, body).await?;
    let query: Query = body::json(&held.bytes)?;
    let projections = door.projections.as_deref();
    let question = Question::new(projections, &who, query.sql, as_of)?;
    waiting
        .wait(&door, &who, &question.views, question.is_of_store())
        .await?;
    if accepts_parquet(&headers) {
        return parquet(&door, &who, question, query.limit).await;
    }
    let limit = within(
        "limit",
        query.limit.unwrap_or(ROWS_DEFAULT),
        1,
        limits::QUERY_ROWS,
    )?;
    let gathered = Gathered::new(limit);
    let asked = door
        .queries
        .ask(&door.broker, projections, &who, question, gathered);
    let (Gathered { answer, .. }, looked) = asked.await?;
    let mut told = json!({
        "columns": answer.columns,
        "rows": answer.rows,
        "truncated": answer.truncated,
        "looked": {"events": looked.events, "states": looked.states},
    });
    if let Some(last) = looked.end.and_then(|end| end.checked_sub(1)) {
        told["asOf"] = last.into();
    }
    json_of(StatusCode::OK, &told)
}

fn accepts_parquet(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    accepted.is_some_and(|accept| accept.to_ascii_lowercase().contains(PARQUET))
}

#[cfg(not(feature = "parquet"))]
async fn parquet(_: &Door, _: &Principal, _: Question, _: Option<usize>) -> Result<Response> {
    let message = "this Mente was built without the feature parquet: accept application/json";
    Err(Error::new(Kind::Unsupported, message).into())
}

#[cfg(feature = "parquet")]
async fn parquet(
    door: &Door,
    who: &Principal,
    question: Question,
    limit: Option<usize>,
) -> Result<Response> {
    let limit = limit
        .map(|limit| within("limit", limit, 1, limits::EXPORT_ROWS))
        .transpose()?;
    let projections = door.projections.as_deref();
    let asked = door.queries.ask(
        &door.broker,
        projections,
        who,
        question,
        sql::Columns::new(limit),
    );
    let (columns, _) = asked.await?;
    // Packing takes a while.
    let written = tokio::task::spawn_blocking(move || columns.write()).await;
    let lost = |error: tokio::task::JoinError| Error::new(Kind::Internal, error.to_string());
    let file = written.map_err(lost)??;
    let head = [(header::CONTENT_TYPE, PARQUET)];
    Ok(axum::response::IntoResponse::into_response((head, file)))
}

impl Waiting {
    pub(super) fn is_said(&self) -> bool {
        self.min_position.is_some() || self.wait_ms.is_some()
    }

    /// Until the rows of these projections, and the store if it is read, are as far as was asked.
    pub(super) async fn wait(
        &self,
        door: &Door,
        who: &Principal,
        views: &[EntityName],
        is_of_store: bool,
    ) -> Result<()> {
        let wait_ms = self.wait_ms.unwrap_or(WAIT_DEFAULT_MS);
        let wait_ms = within("wait_ms", wait_ms, 0, limits::READ_WAIT_MS)?;
        let Some(text) = &self.min_position else {
            return match self.wait_ms {
                None => Ok(()),
                Some(_) => Err(Refusal::bad_request(
                    "wait_ms is how long to wait for a min-position",
                )),
            };
        };
        let least = Least::parse(text).ok_or_else(|| {
            Refusal::bad_request(format!(
                "min-position is {}; say a position such as 7, or of topics PARTITION:OFFSET such as 0:7,1:3",
                Shown(text)
            ))
        })?;
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let projections = door.projections.as_deref();
        let of = (views, is_of_store);
        let waited = sql::wait(&door.broker, projections, who, of, &least, until);
        let waited = tokio::select! {
            waited = waited => waited?,
            () = door.stopping.wait() => Err("the server, which stops,".to_owned()),
        };
        waited.map_err(|late| {
            let message = format!(
                "{late} has not come to {text} within {wait_ms} ms: ask again, or raise wait_ms"
            );
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "NotYetApplied", message)
        })
    }
}

fn as_of(text: &str) -> Result<AsOf> {
    if let Ok(position) = text.parse() {
        return Ok(AsOf::Position(position));
    }
    let time = position::asked_time(text).map_err(|_| {
        Refusal::bad_request(format!(
            "as_of is {}; say a position such as 7, or a time such as 2026-11-30T12:00:00Z or 1764504000000ms",
            Shown(text)
        ))
    })?;
    Ok(AsOf::Time(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        assert_eq!(as_of("7").unwrap(), AsOf::Position(7));
        let time = as_of("1970-01-01T00:00:01Z").unwrap();
        assert_eq!(time, AsOf::Time(mente_engine::Timestamp(1_000)));
        for bad in ["", "now", "-1", "7.5"] {
            assert!(as_of(bad).is_err(), "{bad}");
        }
    }
}
