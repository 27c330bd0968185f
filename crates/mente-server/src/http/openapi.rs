//! `GET /openapi.json`: what this door takes and gives, as OpenAPI 3.1.
//!
//! The document is kept by hand in `openapi.json` and held to the truth from two sides: here,
//! that it names exactly what is routed; and by a Python test of the binary, that it is valid and
//! that real requests and answers have its shapes.

use axum::http::StatusCode;
use axum::response::Response;

use super::events::json;

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn get() -> Response {
    json(StatusCode::OK, DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, header};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use serde_json::Value;
    use tokio::sync::{Semaphore, watch};

    use super::super::{Door, Stopping, grid, metrics::Metrics, projections, router, routes};
    use super::*;

    async fn door() -> Router {
        let broker = crate::alone::broker().await;
        router(Arc::new(Door {
            broker,
            keys: Vec::new(),
            tls: None,
            metrics: Metrics::default(),
            webhooks: None,
            projections: None,
            relays: None,
            sagas: None,
            replicas: None,
            queries: Default::default(),
            backups: None,
            branches: None,
            nodes: None,
            backing_up: Arc::new(Semaphore::new(1)),
            snapshots: Arc::new(Semaphore::new(1)),
            bodies: Arc::new(Semaphore::new(1)),
            seats: Arc::new(Semaphore::new(1)),
            room: Arc::new(Semaphore::new(1 << 20)),
            stopping: Stopping(watch::channel(false).1),
        }))
    }

    async fn call(door: &Router, method: &str, path: &str) -> Response {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).unwrap();
        let service = TowerToHyperService::new(door.clone());
        service.call(request).await.unwrap()
    }

    /// What is routed, as `METHOD path`: the methods of a path are those that a refusal names,
    /// and a verb in the path is each of its words.
    async fn routed() -> BTreeSet<String> {
        let door = door().await;
        let mut found = BTreeSet::new();
        for (path, _) in routes() {
            let refused = call(&door, "TRACE", &path.replace(['{', '}'], "x")).await;
            assert_eq!(refused.status(), 405, "{path}");
            let allowed = refused.headers()[header::ALLOW].to_str().unwrap();
            // Every GET answers HEAD too.
            for method in allowed.split(',').filter(|method| *method != "HEAD") {
                for path in spelled(method, path) {
                    found.insert(format!("{method} {path}"));
                }
            }
        }
        found
    }

    fn spelled(method: &str, path: &str) -> Vec<String> {
        match (method, path) {
            ("POST", "/topics/{topic}") => vec![format!("{path}:publish")],
            ("POST", "/topics/{topic}/eventsubscriptions/{subscription}") => {
                let words = grid::VERBS.iter();
                words.map(|(word, _)| format!("{path}:{word}")).collect()
            }
            ("POST", "/projections/{projection}/{verb}") => {
                let words = projections::VERBS.iter();
                words
                    .map(|(word, _)| path.replace("{verb}", word))
                    .collect()
            }
            _ => vec![path.to_owned()],
        }
    }

    fn documented(document: &Value) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                if method != "parameters" {
                    found.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        found
    }

    #[tokio::test]
    async fn every_route_is_documented_and_every_operation_is_routed() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let routed = routed().await;
        assert!(
            routed.contains("POST /topics/{topic}:publish"),
            "{routed:?}"
        );
        assert_eq!(routed, documented(&document));
    }

    /// Paths are matched by their words, so a wrong spelling would end where no path is.
    #[tokio::test]
    async fn documented_paths_lead_somewhere() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let door = door().await;
        for operation in documented(&document) {
            let (method, path) = operation.split_once(' ').unwrap();
            let path = path.replace("{position}", "0:1").replace(['{', '}'], "");
            let answer = call(&door, method, &path).await;
            let status = answer.status();
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
            let body = String::from_utf8_lossy(&body.unwrap()).into_owned();
            let lost = ["no path", "no call", "posting to a topic", "does not"];
            assert!(
                !lost.iter().any(|words| body.contains(words)),
                "{operation}: {body}"
            );
            assert_ne!(status, 405, "{operation}");
        }
    }

    #[test]
    fn the_document_is_of_this_version() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
