//! An order's past, for the page's slider: what Mente says of one revision of its stream, and what the
//! order would be if events of it had not happened. Nothing here writes.
//!
//! Unlike the staff, a visitor who moves a slider does not wait: each question is put once, for a
//! short time, and an answer that does not come is told as such. The page asks again.

use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Client;
use crate::demo::ordering::is_order;

/// How long the server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// What an order's past is made of is small; others may have written more into its stream.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const DROPPED_MAX: usize = 100;

/// What is told to the page, or with what status and words it is refused.
pub(super) type Told = Result<Value, (StatusCode, String)>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    /// Revision; the last one if absent.
    at: Option<u64>,
}

/// Revisions that are to be thought away.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Otherwise {
    drop: Vec<u64>,
}

/// `{"first":0,"last":2,"at":1,"state":{…},"step":{…},"fields":[…]}`: `step` as `log` tells it, `fields`
/// as `blame` does. A revision that readers of the stream do not see, or that there is not yet, is
/// answered with the nearest one: a slider has no place beyond its ends.
pub(super) async fn at(client: &Client, order: &str, when: &When) -> Told {
    let stream = stream_of(order)?;
    let ends = [
        format!("{stream}?limit=1"),
        format!("{stream}?direction=backwards&limit=1"),
    ];
    let [first, last] = ends.each_ref().map(|path| get(client, path));
    let (first, last) = tokio::try_join!(first, last)?;
    let revision = |page: &Value| page.pointer("/events/0/revision").and_then(Value::as_u64);
    let (Some(first), Some(last)) = (revision(&first), revision(&last)) else {
        let words = "nothing of this order can be read any more".to_owned();
        return Err((StatusCode::NOT_FOUND, words));
    };
    let at = when.at.unwrap_or(last).min(last).max(first);
    // What was does not change, so three answers about one revision belong together.
    let paths = [
        format!("{stream}/state?at={at}"),
        format!("{stream}/log?before={}&limit=1", at.saturating_add(1)),
        format!("{stream}/blame?at={at}"),
    ];
    let [state, log, blame] = paths.each_ref().map(|path| get(client, path));
    let (mut state, mut log, mut blame) = tokio::try_join!(state, log, blame)?;
    Ok(json!({
        "first": first, "last": last, "at": at,
        "state": state["state"].take(),
        "step": log["steps"][0].take(),
        "fields": blame["fields"].take(),
    }))
}

/// `{"revision":2,"changes":[…]}`: from the order as it is to the order as it would be.
pub(super) async fn what_if(client: &Client, order: &str, otherwise: &Otherwise) -> Told {
    let path = format!("{}/whatif", stream_of(order)?);
    if otherwise.drop.is_empty() || otherwise.drop.len() > DROPPED_MAX {
        let words = format!("from 1 to {DROPPED_MAX} events can be thought away");
        return Err((StatusCode::BAD_REQUEST, words));
    }
    let drop = json!({ "drop": otherwise.drop });
    let mut told = ask_once(client, "POST", &path, &drop.to_string()).await?;
    Ok(json!({"revision": told["revision"].take(), "changes": told["changes"].take()}))
}

fn stream_of(order: &str) -> Result<String, (StatusCode, String)> {
    match is_order(order) {
        true => Ok(format!("/streams/{order}")),
        false => Err((StatusCode::NOT_FOUND, "no such order".to_owned())),
    }
}

async fn get(client: &Client, path: &str) -> Told {
    ask_once(client, "GET", path, "").await
}

/// A refusal of Mente's keeps its status and its words; no answer is 502.
async fn ask_once(client: &Client, method: &str, path: &str, body: &str) -> Told {
    let away = |why: String| (StatusCode::BAD_GATEWAY, why);
    let body = Bytes::copy_from_slice(body.as_bytes());
    let request = client.request(method, path, Some("application/json"), body);
    let response = match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(away(error.to_string())),
        Err(_) => return Err(away(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    if response.body.len() > ANSWER_BYTES_MAX {
        let words = format!("the answer is more than this page takes: {ANSWER_BYTES_MAX} bytes");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, words));
    }
    let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    if (200..300).contains(&response.status) {
        return Ok(answer);
    }
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let words = answer.pointer("/error/message").and_then(Value::as_str);
    Err((status, words.unwrap_or("refused without a word").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_orders_are_asked_about_and_a_server_that_is_away_is_told() {
        // A port that was free a moment ago: nobody answers there.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        drop(socket);
        let client = Client::new(&url).unwrap();
        let now = When { at: None };
        for strange in ["", "cart-1", "order-1/../x", "order-1?at=0", "order-ä"] {
            let refused = at(&client, strange, &now).await.unwrap_err();
            assert_eq!(refused.0, StatusCode::NOT_FOUND, "{strange:?}");
        }
        let refused = at(&client, "order-1", &now).await.unwrap_err();
        assert_eq!(refused.0, StatusCode::BAD_GATEWAY);
        assert!(refused.1.contains("cannot reach"), "{}", refused.1);
        for drop in [Vec::new(), vec![0; DROPPED_MAX + 1]] {
            let asked = what_if(&client, "order-1", &Otherwise { drop }).await;
            assert_eq!(asked.unwrap_err().0, StatusCode::BAD_REQUEST);
        }
    }
}
