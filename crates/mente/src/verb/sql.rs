//! `mente sql SELECT`

use std::fs;

use anyhow::Context;
use serde_json::{Value, json};

use super::projection::show_rows;
use super::{Caller, escape};
use crate::args::{Sql, Waiting};
use crate::failure::Result;
use crate::output::line;

/// What a file of rows is.
const PARQUET: &str = "application/vnd.apache.parquet";
/// Rows that are shown unless told otherwise.
const ROWS_DEFAULT: u32 = 100;

pub(super) async fn sql(asked: Sql) -> Result<()> {
    let caller = Caller::new(&asked.connection)?;
    let as_of = asked
        .as_of
        .as_deref()
        .map(|as_of| ("as_of", as_of.to_owned()));
    let path = format!(
        "/sql{}",
        query(as_of.into_iter().chain(waited(&asked.waiting)))
    );
    let mut body = json!({"sql": asked.sql});
    let Some(file) = asked.parquet else {
        body["limit"] = asked.limit.unwrap_or(ROWS_DEFAULT).into();
        let show = |answer: &Value| show_rows(answer);
        return caller.print("POST", &path, body.to_string(), show).await;
    };
    if let Some(limit) = asked.limit {
        body["limit"] = limit.into();
    }
    let answer = caller
        .accept("POST", &path, PARQUET, body.to_string())
        .await?;
    let shown = file.display();
    fs::write(&file, &answer.body).with_context(|| format!("cannot write {shown}"))?;
    line(&format!("{} bytes in {shown}", answer.body.len()))
}

/// The parameters of a query that waits.
pub(super) fn waited(waiting: &Waiting) -> impl Iterator<Item = (&'static str, String)> {
    let least = waiting
        .min_position
        .clone()
        .map(|least| ("min-position", least));
    let wait = waiting.wait_ms.map(|ms| ("wait_ms", ms.to_string()));
    least.into_iter().chain(wait)
}

/// As they stand in an address.
pub(super) fn query(parameters: impl Iterator<Item = (&'static str, String)>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let mark = if text.is_empty() { '?' } else { '&' };
        text.push_str(&format!("{mark}{name}={}", escape(&value)));
    }
    text
}
