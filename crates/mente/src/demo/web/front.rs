//! What the browser talks to: the page, one stream of everything that happens, what an order was,
//! and three things that a visitor can do. Nothing comes from another host, and no other site's page may act here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::board::{Board, Message};
use super::fold::Line;
use super::{past, recall, staff};
use crate::client::Client;
use crate::demo::rows::Rows;

const BODY_BYTES_MAX: usize = 16 << 10;
const LINES_MAX: usize = 50;
const QUANTITY_MAX: u64 = 99;
/// Quiet time after which a page is told that the stream lives.
const ALIVE: Duration = Duration::from_secs(15);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, content type, content.
const FILES: [(&str, &str, &str); 11] = [
    ("/", "text/html", include_str!("assets/index.html")),
    ("/shop.css", "text/css", include_str!("assets/shop.css")),
    (
        "/icon.svg",
        "image/svg+xml",
        include_str!("assets/icon.svg"),
    ),
    (
        "/shop.js",
        "text/javascript",
        include_str!("assets/shop.js"),
    ),
    ("/dom.js", "text/javascript", include_str!("assets/dom.js")),
    (
        "/sale.js",
        "text/javascript",
        include_str!("assets/sale.js"),
    ),
    (
        "/recall.js",
        "text/javascript",
        include_str!("assets/recall.js"),
    ),
    (
        "/past.js",
        "text/javascript",
        include_str!("assets/past.js"),
    ),
    (
        "/orders.js",
        "text/javascript",
        include_str!("assets/orders.js"),
    ),
    (
        "/events.js",
        "text/javascript",
        include_str!("assets/events.js"),
    ),
    (
        "/picture.js",
        "text/javascript",
        include_str!("assets/picture.js"),
    ),
];

#[derive(Debug)]
struct Front {
    client: Arc<Client>,
    board: Arc<Board>,
    rows: Rows,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cart {
    lines: Vec<CartLine>,
}

/// Without a price: what a browser says about prices is nobody's business.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CartLine {
    product: String,
    quantity: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    on: bool,
}

/// A request that was not understood, and why.
#[derive(Debug)]
struct Refused(StatusCode, String);

pub(super) fn router(
    client: Arc<Client>,
    board: Arc<Board>,
    rows: Rows,
    address: SocketAddr,
) -> Router {
    let front = Front {
        client,
        board,
        rows,
    };
    let mut router = Router::new();
    for (path, kind, content) in FILES {
        let headers = [(header::CONTENT_TYPE, format!("{kind}; charset=utf-8"))];
        router = router.route(path, get(move || async move { (headers.clone(), content) }));
    }
    router
        .route("/live", get(live))
        .route("/orders", post(order))
        .route("/orders/{order}", get(recalled))
        .route("/orders/{order}/past", get(was))
        .route("/orders/{order}/whatif", post(what_if))
        .route("/sales", get(sales))
        .route("/switches/{name}", put(turn))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(address, only_from_here))
        .layer(from_fn(guard))
        .with_state(Arc::new(front))
}

/// Headers of every answer.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// The page has no login: a name that leads here by somebody else's DNS is refused, and so is
/// what another site's page sends.
async fn only_from_here(
    State(address): State<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if is_from_here(address, request.headers()) {
        return next.run(request).await;
    }
    refusal(StatusCode::FORBIDDEN, "this page answers its own host only")
}

fn is_from_here(address: SocketAddr, headers: &HeaderMap) -> bool {
    let hosts = [
        address.to_string(),
        format!("localhost:{}", address.port()),
        format!("127.0.0.1:{}", address.port()),
    ];
    let ours = |value: &HeaderValue, prefix: &str| {
        hosts.iter().any(|host| *value == format!("{prefix}{host}"))
    };
    // Browsers name the origin of whatever changes something; other clients need not.
    let host = headers.get(header::HOST);
    let origin = headers.get(header::ORIGIN);
    host.is_some_and(|host| ours(host, "")) && origin.is_none_or(|origin| ours(origin, "http://"))
}

async fn live(State(front): State<Arc<Front>>) -> Response {
    let (state, changes) = front.board.watch();
    let begin = (Some(state), changes, front);
    let messages = stream::unfold(begin, |(first, mut changes, front)| async move {
        let (message, changes) = match first {
            Some(message) => (message, changes),
            None => match tokio::time::timeout(ALIVE, changes.recv()).await {
                Ok(Ok(message)) => (message, changes),
                // Too slow for single changes: the whole state is shorter.
                Ok(Err(RecvError::Lagged(_))) => front.board.watch(),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => (Message::from(": alive\n\n"), changes),
            },
        };
        let chunk = Bytes::copy_from_slice(message.as_bytes());
        let chunk: Result<_, std::convert::Infallible> = Ok(chunk);
        Some((chunk, (None, changes, front)))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, Body::from_stream(messages)).into_response()
}

async fn order(State(front): State<Arc<Front>>, headers: HeaderMap, body: Bytes) -> Response {
    let cart: Cart = match json_of(&headers, &body) {
        Ok(cart) => cart,
        Err(refused) => return refused.into_response(),
    };
    if cart.lines.is_empty() || cart.lines.len() > LINES_MAX {
        let words = format!("an order has from 1 to {LINES_MAX} lines");
        return refusal(StatusCode::BAD_REQUEST, &words);
    }
    let mut lines = Vec::new();
    for wanted in cart.lines {
        // The stock's own copy: the catalogue is not asked, and may be away.
        let Some(product) = front.board.product(&wanted.product) else {
            return refusal(StatusCode::BAD_REQUEST, "the stock knows no such product");
        };
        if !(1..=QUANTITY_MAX).contains(&wanted.quantity) {
            let words = format!("a quantity is from 1 to {QUANTITY_MAX}");
            return refusal(StatusCode::BAD_REQUEST, &words);
        }
        lines.push(Line {
            product: product.id,
            name: product.name,
            price: product.price,
            quantity: wanted.quantity,
        });
    }
    front.board.passed("stock-storefront", true);
    front.board.passed("storefront-stream", true);
    match staff::place(&front.client, front.rows, &lines).await {
        Ok(placed) => {
            let body = json!({"order": placed.order, "row": placed.row});
            answer(StatusCode::CREATED, &body)
        }
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &format!("{error:#}")),
    }
}

async fn recalled(State(front): State<Arc<Front>>, Path(order): Path<String>) -> Response {
    match recall::past(&front.client, &order).await {
        Ok(Some(past)) => answer(StatusCode::OK, &past),
        Ok(None) => refusal(StatusCode::NOT_FOUND, "no such order"),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &format!("{error:#}")),
    }
}

async fn was(
    State(front): State<Arc<Front>>,
    Path(order): Path<String>,
    Query(when): Query<past::When>,
) -> Response {
    told(past::at(&front.client, &order, &when).await)
}

/// Changes nothing, but what it asks is JSON.
async fn what_if(
    State(front): State<Arc<Front>>,
    Path(order): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match json_of(&headers, &body) {
        Ok(otherwise) => told(past::what_if(&front.client, &order, &otherwise).await),
        Err(refused) => refused.into_response(),
    }
}

async fn sales(State(front): State<Arc<Front>>) -> Response {
    match recall::sales(&front.client).await {
        Ok(rows) => answer(StatusCode::OK, &rows),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &format!("{error:#}")),
    }
}

async fn turn(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match json_of::<Turn>(&headers, &body) {
        Ok(turn) if front.board.turn(&name, turn.on) => StatusCode::NO_CONTENT.into_response(),
        Ok(_) => refusal(StatusCode::NOT_FOUND, "no such switch"),
        Err(refused) => refused.into_response(),
    }
}

fn json_of<T: for<'a> Deserialize<'a>>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refused> {
    if headers.get(header::CONTENT_TYPE) != Some(&HeaderValue::from_static("application/json")) {
        let words = "the body must be application/json".to_owned();
        return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, words));
    }
    let parsed = serde_json::from_slice(body);
    parsed.map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refusal(self.0, &self.1)
    }
}

fn told(told: past::Told) -> Response {
    match told {
        Ok(body) => answer(StatusCode::OK, &body),
        Err((status, words)) => refusal(status, &words),
    }
}

fn refusal(status: StatusCode, words: &str) -> Response {
    answer(status, &json!({ "error": words }))
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_and_other_sites_are_strangers() {
        let check = |host: &str, origin: Option<&str>, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let address = SocketAddr::from(([127, 0, 0, 1], 8490));
            assert_eq!(is_from_here(address, &headers), expect, "{headers:?}");
        };
        check("127.0.0.1:8490", None, true);
        check("localhost:8490", Some("http://localhost:8490"), true);
        check("shop.example:8490", None, false);
        check("127.0.0.1:8490", Some("http://shop.example"), false);
        check("127.0.0.1:8490", Some("null"), false);
        check("127.0.0.1:1", None, false);
    }
}
