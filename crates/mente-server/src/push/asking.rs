//! A webhook that is asked to decide a command: one question, one answer, on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, header};
use mente_broker::DecidingWebhook;
use mente_engine::limits;

use super::Options;
use super::address::Target;
use super::sender::connect;

/// Posts the question and gives the body of the answer: 200 with a decision, or 204 for none.
pub(crate) async fn ask(
    options: Options,
    webhook: DecidingWebhook,
    question: String,
) -> Result<Vec<u8>, String> {
    let timeout = Duration::from_millis(webhook.timeout_ms);
    match tokio::time::timeout(timeout, exchange(&options, &webhook.url, question)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
    }
}

async fn exchange(options: &Options, url: &str, question: String) -> Result<Vec<u8>, String> {
    let target = Target::parse(url)?;
    let mut connection = connect(&target, options).await?;
    let request = Request::post(target.path.as_str())
        .header(header::HOST, target.authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(
            header::USER_AGENT,
            concat!("mente/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(Bytes::from(question)))
        .map_err(|error| format!("no request can be made of it: {error}"))?;
    let answer = connection.send_request(request).await;
    let answer = answer.map_err(|error| format!("the exchange broke: {error}"))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => return Ok(Vec::new()),
        status => return Err(format!("the webhook answered {status}")),
    }
    let body = Limited::new(answer.into_body(), limits::DECISION_BYTES);
    let body = body.collect().await.map_err(|error| {
        let most = limits::DECISION_BYTES;
        format!("its answer cannot be read, of which {most} bytes are taken: {error}")
    })?;
    match body.to_bytes() {
        empty if empty.is_empty() => {
            Err("the webhook answered 200 with nothing: 204 says so".to_owned())
        }
        body => Ok(body.into()),
    }
}
