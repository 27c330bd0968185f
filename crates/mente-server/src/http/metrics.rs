//! Counters, as many as there are names in this file: no label comes from a request. Projections are told by
//! their names, of which there are [`limits::PROJECTIONS`] at most.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use mente_engine::Room;

use super::Door;
use crate::projection::Gauge;

/// What a request is about, by its path.
const CLASSES: [&str; 7] = [
    "publish",
    "read",
    "pull",
    "topic",
    "subscription",
    "admin",
    "other",
];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) published: Counter,
    pub(super) read: Counter,
    pub(super) received: Counter,
    pub(super) acknowledged: Counter,
    pub(super) released: Counter,
    pub(super) rejected: Counter,
    pub(super) renewed: Counter,
    requests: [[Counter; STATUSES.len()]; CLASSES.len()],
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a request by class and status.
pub(super) async fn count(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let class = class(request.method().as_str(), request.uri().path());
    let response = next.run(request).await;
    let status = usize::from(response.status().as_u16() / 100).clamp(1, STATUSES.len()) - 1;
    if let Some(counter) = door.metrics.requests.get(class).and_then(|c| c.get(status)) {
        counter.add(1);
    }
    response
}

/// The index of a request's class.
fn class(method: &str, path: &str) -> usize {
    let mut parts = path.trim_start_matches('/').split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some("livez" | "readyz" | "metrics"), None, _) => "admin",
        (Some("topics"), _, Some("events")) if method == "POST" => "publish",
        (Some("topics"), _, Some("events")) => "read",
        (Some("topics"), _, Some("eventsubscriptions")) => "pull",
        (Some("topics"), _, Some("subscriptions")) => "subscription",
        (Some("topics"), Some(_), None) if method == "POST" => "publish",
        (Some("topics"), _, None) => "topic",
        _ => "other",
    };
    CLASSES.iter().position(|c| *c == name).unwrap_or(0)
}

/// Appends how far each projection is behind, and what waits parked.
pub(super) fn projections(gauges: &[Gauge], out: &mut String) {
    type Value = fn(&Gauge) -> Option<f64>;
    let told: [(&str, &str, Value); 5] = [
        (
            "mente_projection_lag_events",
            "Offsets between the rows and the ends of the logs.",
            |gauge| Some(gauge.lag as f64),
        ),
        (
            "mente_projection_lag_seconds",
            "Age of the oldest event that is not in the rows.",
            |gauge| gauge.lag_seconds,
        ),
        (
            "mente_projection_parked_events",
            "Events that failed, and those of their keys behind them.",
            |gauge| Some(gauge.parked.events as f64),
        ),
        (
            "mente_projection_parked_keys",
            "Keys that are held up by an event that failed.",
            |gauge| Some(gauge.parked.keys as f64),
        ),
        (
            "mente_projection_failed",
            "Whether it has stopped until somebody does something.",
            |gauge| Some(f64::from(u8::from(gauge.is_failed))),
        ),
    ];
    for (name, help, value) in told {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for gauge in gauges {
            if let Some(value) = value(gauge) {
                let _ = writeln!(out, "{name}{{projection=\"{}\"}} {value}", gauge.name);
            }
        }
    }
}

impl Metrics {
    /// Prometheus' text format.
    pub(super) fn text(&self, body_bytes: usize, room: &Room) -> String {
        let mut out = String::new();
        let mut counter = |name: &str, help: &str, value: u64| {
            // Writing to a string does not fail.
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"
            );
        };
        let published = self.published.value();
        counter(
            "mente_events_published_total",
            "Events made durable.",
            published,
        );
        let read = self.read.value();
        counter("mente_events_read_total", "Events read by position.", read);
        let received = self.received.value();
        counter(
            "mente_events_received_total",
            "Events handed out under locks.",
            received,
        );
        counter(
            "mente_refused_for_room_total",
            "Appends and other decisions refused because the disk was full.",
            room.refused,
        );
        let _ = writeln!(
            out,
            "# HELP mente_events_settled_total Locks settled or renewed.\n# TYPE mente_events_settled_total counter"
        );
        for (how, counter) in [
            ("acknowledge", &self.acknowledged),
            ("release", &self.released),
            ("reject", &self.rejected),
            ("renew", &self.renewed),
        ] {
            let value = counter.value();
            let _ = writeln!(out, "mente_events_settled_total{{how=\"{how}\"}} {value}");
        }
        let _ = writeln!(
            out,
            "# HELP mente_http_requests_total Requests answered.\n# TYPE mente_http_requests_total counter"
        );
        for (class, counters) in CLASSES.iter().zip(&self.requests) {
            for (status, counter) in STATUSES.iter().zip(counters) {
                let value = counter.value();
                if value > 0 {
                    let _ = writeln!(
                        out,
                        "mente_http_requests_total{{class=\"{class}\",status=\"{status}\"}} {value}"
                    );
                }
            }
        }
        let mut gauge = |name: &str, help: &str, value: u64| {
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
            );
        };
        gauge(
            "mente_http_body_bytes",
            "Request bodies in memory.",
            body_bytes as u64,
        );
        if let Some(free) = room.free_bytes {
            gauge(
                "mente_disk_free_bytes",
                "What can still be written to the disk of the data.",
                free,
            );
            gauge(
                "mente_disk_reserve_bytes",
                "Below so many free bytes publishing is refused.",
                room.reserve_bytes,
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fall_into_few_classes() {
        for (method, path, expect) in [
            ("POST", "/topics/a/events", "publish"),
            ("POST", "/topics/a:publish", "publish"),
            ("GET", "/topics/a/events", "read"),
            ("POST", "/topics/a/eventsubscriptions/s:receive", "pull"),
            (
                "GET",
                "/topics/a/subscriptions/s/deadletters",
                "subscription",
            ),
            ("PUT", "/topics/a", "topic"),
            ("GET", "/topics", "topic"),
            ("GET", "/metrics", "admin"),
            ("GET", "/metrics/x", "other"),
            ("GET", "", "other"),
        ] {
            let found = CLASSES.get(class(method, path));
            assert_eq!(found, Some(&expect), "{method} {path}");
        }
    }
}
