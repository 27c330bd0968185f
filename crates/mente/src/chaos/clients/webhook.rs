//! The webhook: writes every post into its own file before it answers. Some posts find it busy, and
//! some events it will never take.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mente_sim::history::Op;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::HOOK;
use crate::chaos::diary::Diary;

/// Ends with its value.
#[derive(Debug)]
pub(in crate::chaos) struct Webhook {
    pub(in crate::chaos) url: String,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Ear {
    diary: Diary,
    /// Guards the file too: a post's two lines stand together.
    chance: Mutex<fastrand::Rng>,
}

impl Webhook {
    pub(in crate::chaos) async fn open(diary: Diary, seed: u64, host: Ipv4Addr) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await.context("webhook")?;
        let url = format!("http://{}/", listener.local_addr()?);
        let chance = Mutex::new(fastrand::Rng::with_seed(seed));
        let ear = Arc::new(Ear { diary, chance });
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ear = Arc::clone(&ear);
                let service = hyper::service::service_fn(move |request| {
                    let ear = Arc::clone(&ear);
                    async move { Ok::<_, Infallible>(ear.hear(request).await) }
                });
                let serve = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A broken connection is the sender's to notice.
                tokio::spawn(async { drop(serve.await) });
            }
        });
        let accepting = accepting.abort_handle();
        Ok(Self { url, accepting })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Ear {
    async fn hear(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        let body = request.into_body().collect().await;
        // The sender died while it sent: nothing was heard.
        let event = body
            .ok()
            .and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
        let event: Value = event.unwrap_or_default();
        *response.status_mut() = match event["id"].as_str() {
            None => StatusCode::SERVICE_UNAVAILABLE,
            Some(value) => self.judge(value),
        };
        response
    }

    fn judge(&self, value: &str) -> StatusCode {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let status = match chance.u32(0..10) {
            _ if value.ends_with("77") => StatusCode::BAD_REQUEST,
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NO_CONTENT,
        };
        let told = self.diary.tell(&Op::Hear {
            subscription: HOOK.to_owned(),
            value: value.to_owned(),
            status: status.as_u16(),
        });
        // What is not written down did not happen.
        told.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| status)
    }
}
