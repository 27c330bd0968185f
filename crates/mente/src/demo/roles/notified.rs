//! Event notification: a webhook that hears `OrderShipped`, identifiers only, and is down for a
//! while. What it missed must come later.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::Seen;
use crate::demo::notes::Notes;

#[derive(Debug)]
pub(crate) struct Notified {
    pub(crate) notes: Notes,
    pub(crate) heard: Seen,
    pub(crate) down: AtomicBool,
}

impl Notified {
    /// Opens the webhook; answers its URL.
    pub(crate) async fn open(self: &Arc<Self>) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("webhook of the demo")?;
        let url = format!("http://{}/shipped", listener.local_addr()?);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = Arc::clone(&this);
                let service = hyper::service::service_fn(move |request| {
                    let this = Arc::clone(&this);
                    async move { Ok::<_, Infallible>(this.hear(request).await) }
                });
                let serve = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A broken connection is the sender's to notice.
                tokio::spawn(async { drop(serve.await) });
            }
        });
        Ok(url)
    }

    async fn hear(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let event: Value = serde_json::from_slice(&body).unwrap_or_default();
        let order = event["subject"].as_str().unwrap_or_default();
        if self.down.load(Ordering::Relaxed) {
            self.notes.note("was down", order, None);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        } else {
            self.notes.note("notified", order, None);
            self.heard.insert(order);
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        response
    }
}
