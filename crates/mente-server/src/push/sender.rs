//! One webhook attempt: an event out, a verdict back.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use mente_broker::queue::{Push, Settlement};
use mente_broker::{CORRELATION, Position, Received, SubscriptionName};
use mente_engine::{Attribute, Event};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Options;
use super::address::Target;
use super::signature::Signer;

/// What is read of an answer; the rest closes the connection.
const ANSWER_BYTES: usize = 64 << 10;
/// Longest id, escaped, that stands in a header: receivers take heads of a few KiB.
const CAUSE_BYTES: usize = 1 << 10;
/// The longest wait that a receiver can ask for with Retry-After.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Posts to one webhook, one event at a time, over a connection that it keeps.
#[derive(Debug)]
pub(super) struct Sender {
    target: Target,
    options: Options,
    signer: watch::Receiver<Signer>,
    timeout: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Delivered,
    /// Try again, not before `wait`.
    Failed {
        detail: String,
        wait: Option<Duration>,
    },
    /// No attempt will do better.
    Refused {
        reason: &'static str,
        detail: String,
    },
}

impl Sender {
    pub(super) fn new(
        target: Target,
        options: Options,
        signer: watch::Receiver<Signer>,
        push: &Push,
    ) -> Self {
        let timeout = Duration::from_millis(push.timeout_ms);
        Self {
            target,
            options,
            signer,
            timeout,
            connection: None,
        }
    }

    /// One attempt, name look-up and answer included, within the time-out.
    pub(super) async fn attempt(
        &mut self,
        name: &SubscriptionName,
        received: &Received,
    ) -> Attempt {
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.exchange(name, received)).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(detail)) => self.failed(detail),
            Err(_) => self.failed(format!("no answer within {} ms", timeout.as_millis())),
        }
    }

    /// A connection on which something went wrong is not used again.
    fn failed(&mut self, detail: String) -> Attempt {
        self.connection = None;
        Attempt::Failed { detail, wait: None }
    }

    async fn exchange(
        &mut self,
        name: &SubscriptionName,
        received: &Received,
    ) -> Result<Attempt, String> {
        let mut body = Vec::new();
        mente_wire::cloudevents::write_event(&received.stored.event, &mut body);
        let body = Bytes::from(body);
        let kept = self.connection.take_if(|kept| kept.is_ready());
        if let Some(mut kept) = kept {
            // A server may close an idle connection just now: only then is it sent again, and a
            // receiver must bear an event that comes twice anyway.
            if let Ok(answer) = kept
                .send_request(self.request(name, received, body.clone()))
                .await
            {
                return self.judge(kept, answer).await;
            }
        }
        let mut fresh = connect(&self.target, &self.options).await?;
        let answer = fresh.send_request(self.request(name, received, body)).await;
        self.judge(
            fresh,
            answer.map_err(|e| format!("the exchange broke: {e}"))?,
        )
        .await
    }

    /// `webhook-id` is one for all attempts at this delivery; `-timestamp` is the attempt's.
    fn request(
        &self,
        name: &SubscriptionName,
        received: &Received,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let seconds = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |d| d.as_secs());
        let id = webhook_id(name, received.stored.position, received.token.part());
        let signature = self.signer.borrow().sign(&id, seconds, &body);
        let request = Request::post(self.target.path.as_str())
            .header(header::HOST, self.target.authority.as_str())
            .header(header::CONTENT_TYPE, mente_wire::cloudevents::STRUCTURED)
            .header(
                header::USER_AGENT,
                concat!("mente/", env!("CARGO_PKG_VERSION")),
            )
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("mente-subscription", name.to_string())
            .header("mente-delivery-count", received.count);
        let request = match signature {
            Some(signature) => request.header("webhook-signature", signature),
            None => request,
        };
        let request = match &received.of_stream {
            Some((stream, place)) => request
                .header("mente-stream", escaped(stream.as_str()))
                .header("mente-revision", place.revision)
                .header("mente-position", place.position),
            None => request,
        };
        causes(&received.stored.event)
            .into_iter()
            .fold(request, |request, (name, id)| request.header(name, id))
            .body(Full::new(body))
            .expect("the path was parsed, names and numbers are plain")
    }

    /// Reads the answer, as much as is allowed, and keeps the connection if it was all.
    async fn judge(
        &mut self,
        connection: SendRequest<Full<Bytes>>,
        answer: Response<Incoming>,
    ) -> Result<Attempt, String> {
        let attempt = verdict(answer.status(), retry_after(&answer));
        let body = http_body_util::Limited::new(answer.into_body(), ANSWER_BYTES)
            .collect()
            .await;
        if body.is_ok() {
            self.connection = Some(connection);
        }
        Ok(attempt)
    }
}

/// What the receiver writes into the events that it makes of this one: it caused them, and they belong to what it
/// belongs to. Ids that are no header's are left out; they are in the body too.
fn causes(event: &Event) -> Vec<(&'static str, String)> {
    let correlation = match event.extension(CORRELATION) {
        Some(Attribute::Text(id)) if !id.is_empty() => id,
        _ => &event.id,
    };
    let headers = [
        ("mente-causationid", escaped(&event.id)),
        ("mente-correlationid", escaped(correlation)),
    ];
    let fits = |(_, id): &(&str, String)| id.len() <= CAUSE_BYTES;
    headers.into_iter().filter(fits).collect()
}

/// No `.`, which is what parts the id from the rest where it is signed; and no sign of names
/// between the names, or two subscriptions could give the same id.
fn webhook_id(name: &SubscriptionName, position: Position, part: Option<(u32, u32)>) -> String {
    let Position { partition, offset } = position;
    let part = part.map_or(String::new(), |(number, _)| format!("/{number}"));
    format!("{}/{}/{partition}-{offset}{part}", name.topic, name.name).replace('.', ":")
}

/// As in a path: a header holds no text beyond ASCII.
fn escaped(stream: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    stream.bytes().map(escape).collect()
}

pub(super) async fn connect(
    target: &Target,
    options: &Options,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let address = target.resolve(options.reach).await?;
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|e| format!("cannot connect to {address}: {e}"))?;
    // Small bodies must not wait for each other; without it the exchange is only slower.
    let _ = stream.set_nodelay(true);
    match &target.tls {
        None => converse(stream).await,
        // Checked against the name, while the connection leads to the checked address.
        Some(name) => {
            let stream = options.trust.connect(name.clone(), stream).await?;
            converse(stream).await
        }
    }
}

async fn converse<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|e| format!("no HTTP there: {e}"))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "webhook connection ended");
        }
    });
    Ok(sender)
}

/// What a status means: Event Grid's rules for webhooks, 410 for a receiver that is gone.
fn verdict(status: StatusCode, wait: Option<Duration>) -> Attempt {
    let detail = format!("HTTP {status}");
    let refused = |reason| Attempt::Refused {
        reason,
        detail: detail.clone(),
    };
    match status.as_u16() {
        200..300 => Attempt::Delivered,
        400 => refused("BadRequest"),
        401 => refused("Unauthorized"),
        403 => refused("Forbidden"),
        410 => refused("Gone"),
        413 => refused("PayloadTooLarge"),
        // A redirect is not followed: the address behind it was not checked by anybody.
        _ => Attempt::Failed { detail, wait },
    }
}

fn retry_after(answer: &Response<Incoming>) -> Option<Duration> {
    let seconds = answer
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// What the queue is told.
pub(super) fn settlement(attempt: Attempt, push: &Push, count: u32, jitter: f64) -> Settlement {
    match attempt {
        Attempt::Delivered => Settlement::Complete,
        Attempt::Refused { reason, detail } => Settlement::Reject {
            reason: reason.into(),
            detail,
        },
        Attempt::Failed { detail, wait } => {
            let delay = push.retry.wait(count, jitter).max(wait.unwrap_or_default());
            Settlement::Release { delay, detail }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mente_broker::EntityName;
    use mente_engine::Offset;

    #[test]
    fn statuses_mean_what_event_grid_says() {
        assert_eq!(verdict(StatusCode::NO_CONTENT, None), Attempt::Delivered);
        for status in [301, 404, 408, 429, 500, 503] {
            let attempt = verdict(StatusCode::from_u16(status).unwrap(), None);
            assert!(matches!(attempt, Attempt::Failed { .. }), "{status}");
        }
        for status in [400, 401, 403, 410, 413] {
            let attempt = verdict(StatusCode::from_u16(status).unwrap(), None);
            assert!(matches!(attempt, Attempt::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn any_stream_has_a_header() {
        assert_eq!(escaped("order-17"), "order-17");
        assert_eq!(escaped("a b/\u{e4}%"), "a%20b%2F%C3%A4%25");
    }

    #[test]
    fn causes_are_passed_on() {
        let event = |id: &str, correlation: Option<&str>| Event {
            id: id.to_owned(),
            extensions: correlation
                .map(|id| (CORRELATION.to_owned(), Attribute::Text(id.to_owned())))
                .into_iter()
                .collect(),
            ..Event::default()
        };
        let of = |id: &str, correlation| -> Vec<String> {
            let causes = causes(&event(id, correlation));
            causes
                .into_iter()
                .map(|(name, id)| format!("{name}: {id}"))
                .collect()
        };
        let both = |a, b| {
            vec![
                format!("mente-causationid: {a}"),
                format!("mente-correlationid: {b}"),
            ]
        };
        assert_eq!(of("e 1", Some("c")), both("e%201", "c"));
        assert_eq!(of("e1", None), both("e1", "e1"));
        assert_eq!(of("e1", Some("")), both("e1", "e1"));
        let long = "x".repeat(2_000);
        assert_eq!(of("e1", Some(&long)), [both("e1", "").remove(0)]);
    }

    #[test]
    fn ids_differ_where_names_do() {
        let of = |topic: &str, name: &str| {
            let name = SubscriptionName {
                topic: EntityName::new(topic).unwrap(),
                name: EntityName::new(name).unwrap(),
            };
            let offset = Offset(7);
            let partition = 1;
            webhook_id(&name, Position { partition, offset }, None)
        };
        assert_eq!(of("shop.eu", "hook"), "shop:eu/hook/1-7");
        assert_ne!(of("a-b", "c"), of("a", "b-c"));
        assert_ne!(of("a.b", "c"), of("a~b", "c"));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_less() {
        let push: Push =
            serde_json::from_str(r#"{"url":"http://a/","retry":{"waits_ms":[1000]}}"#).unwrap();
        let failed = |wait| Attempt::Failed {
            detail: String::new(),
            wait,
        };
        let delay = |wait| match settlement(failed(wait), &push, 1, 0.0) {
            Settlement::Release { delay, .. } => delay.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(delay(Some(Duration::from_secs(9))), 9);
        assert_eq!(delay(Some(Duration::ZERO)), 1);
        assert_eq!(delay(None), 1);
    }
}
