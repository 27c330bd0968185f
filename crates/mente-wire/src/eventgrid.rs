//! Bodies of Event Grid namespaces' data plane (api-version 2024-06-01), with the answers in
//! the shape that its own clients insist on.

use mente_engine::{Event, limits};

use crate::cloudevents::{Malformed, write_event};
use crate::json;

/// The answer to `:publish`; one client parses it, so it is not empty.
pub const PUBLISHED: &str = "{}";

/// Members of a settle request that are read past for the sake of later versions.
const MEMBERS: usize = 64;

/// One event that a receive call hands out.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub lock_token: &'a str,
    /// Counted from 1.
    pub delivery_count: u32,
    pub event: &'a Event,
    /// Of an event of a stream.
    pub place: Option<StreamPlace<'a>>,
}

/// Where an event stands in its stream, as readers of streams are told too.
#[derive(Clone, Copy, Debug)]
pub struct StreamPlace<'a> {
    pub stream: &'a str,
    pub revision: u64,
    pub position: u64,
    /// RFC 3339.
    pub appended: &'a str,
}

/// A lock token that could not be settled.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    pub lock_token: &'a str,
    pub code: &'a str,
    pub message: &'a str,
}

/// The body of `:acknowledge`, `:release`, `:reject` and `:renewLock`:
/// `{"lockTokens":[…]}`, in the sender's order, at most [`limits::LOCK_TOKENS_PER_SETTLE`].
pub fn parse_lock_tokens(body: &[u8]) -> Result<Vec<String>, Malformed> {
    read_lock_tokens(body).map_err(|what| Malformed::new(None, what))
}

fn read_lock_tokens(body: &[u8]) -> Result<Vec<String>, String> {
    let text =
        std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    let members = json::members(text, MEMBERS)?;
    let Some((_, raw)) = members.into_iter().find(|(name, _)| name == "lockTokens") else {
        return Err("the member lockTokens is missing".into());
    };
    let found = json::elements(raw.get(), limits::LOCK_TOKENS_PER_SETTLE)
        .map_err(|error| format!("lockTokens: {}", error.what))?;
    let mut tokens = Vec::with_capacity(found.len());
    for (index, raw) in found.into_iter().enumerate() {
        let token: String = serde_json::from_str(raw.get())
            .map_err(|error| format!("lockTokens[{index}]: {error}"))?;
        if token.len() > limits::LOCK_TOKEN_BYTES {
            let size_max = limits::LOCK_TOKEN_BYTES;
            return Err(format!(
                "lockTokens[{index}] is longer than {size_max} bytes"
            ));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Appends the answer to `:receive`; without events it is `{"value":[]}`.
pub fn write_received<'a>(events: impl IntoIterator<Item = Received<'a>>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"value\":");
    write_array(events, out, |received, out| {
        out.extend_from_slice(b"{\"brokerProperties\":{\"lockToken\":");
        json::write_string(out, received.lock_token);
        let count = format!(",\"deliveryCount\":{}}},", received.delivery_count);
        out.extend_from_slice(count.as_bytes());
        if let Some(place) = received.place {
            write_place(place, out);
        }
        out.extend_from_slice(b"\"event\":");
        write_event(received.event, out);
        out.push(b'}');
    });
    out.push(b'}');
}

fn write_place(place: StreamPlace<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"stream\":");
    json::write_string(out, place.stream);
    let (revision, position) = (place.revision, place.position);
    let numbers = format!(",\"revision\":{revision},\"position\":{position},\"appended\":");
    out.extend_from_slice(numbers.as_bytes());
    json::write_string(out, place.appended);
    out.push(b',');
}

/// Appends the answer to a settle call. Both lists are always there: one client walks the
/// second without looking whether it exists.
pub fn write_settled<'a>(
    succeeded: impl IntoIterator<Item = &'a str>,
    failed: impl IntoIterator<Item = Failed<'a>>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"succeededLockTokens\":");
    write_array(succeeded, out, |token, out| json::write_string(out, token));
    out.extend_from_slice(b",\"failedLockTokens\":");
    write_array(failed, out, |failed, out| {
        out.extend_from_slice(b"{\"lockToken\":");
        json::write_string(out, failed.lock_token);
        out.push(b',');
        write_error_member(failed.code, failed.message, out);
        out.push(b'}');
    });
    out.push(b'}');
}

/// Appends the body of an error answer.
pub fn write_error(code: &str, message: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    write_error_member(code, message, out);
    out.push(b'}');
}

fn write_error_member(code: &str, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"error\":{\"code\":");
    json::write_string(out, code);
    out.extend_from_slice(b",\"message\":");
    json::write_string(out, message);
    out.push(b'}');
}

fn write_array<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    write: impl Fn(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use mente_engine::Data;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lock_tokens_are_read_and_bounded() {
        let read = |body: &str| parse_lock_tokens(body.as_bytes()).map_err(|e| e.to_string());
        assert_eq!(
            read(r#" {"other":{"a":[1]}, "lockTokens":["a","\u00e4"]} "#),
            Ok(vec!["a".into(), "ä".into()])
        );
        assert_eq!(read(r#"{"lockTokens":[]}"#), Ok(vec![]));
        let many = format!(
            r#"{{"lockTokens":["x"{}]}}"#,
            ",\"x\"".repeat(limits::LOCK_TOKENS_PER_SETTLE)
        );
        let long = format!(
            r#"{{"lockTokens":["{}"]}}"#,
            "x".repeat(limits::LOCK_TOKEN_BYTES + 1)
        );
        for (bad, why) in [
            ("", "EOF"),
            ("[]", "expected a JSON object"),
            ("{}", "lockTokens is missing"),
            (r#"{"lockTokens":null}"#, "expected a JSON array"),
            (r#"{"lockTokens":["a",1]}"#, "lockTokens[1]"),
            (r#"{"lockTokens":[],"lockTokens":[]}"#, "twice"),
            (r#"{"lockTokens":["\ud800"]}"#, "lockTokens[0]"),
            (many.as_str(), "more than"),
            (long.as_str(), "longer than"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn answers_have_the_shape_that_clients_read() {
        let event = Event {
            id: "1".into(),
            source: "/s".into(),
            kind: "t".into(),
            data: Data::Json("null".into()),
            ..Event::default()
        };
        let received = Received {
            lock_token: "a\"b",
            delivery_count: 2,
            event: &event,
            place: None,
        };
        let place = Some(StreamPlace {
            stream: "a-\"1",
            revision: 3,
            position: 7,
            appended: "2026-01-01T00:00:00Z",
        });
        let of_stream = Received { place, ..received };
        assert_eq!(
            written(|out| write_received([of_stream], out)),
            r#"{"value":[{"brokerProperties":{"lockToken":"a\"b","deliveryCount":2},"stream":"a-\"1","revision":3,"position":7,"appended":"2026-01-01T00:00:00Z","event":{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null}}]}"#
        );
        assert_eq!(
            written(|out| write_received([received, received].into_iter().take(1), out)),
            r#"{"value":[{"brokerProperties":{"lockToken":"a\"b","deliveryCount":2},"event":{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null}}]}"#
        );
        assert_eq!(written(|out| write_received([], out)), r#"{"value":[]}"#);
        assert_eq!(
            written(|out| write_settled([], [], out)),
            r#"{"succeededLockTokens":[],"failedLockTokens":[]}"#
        );
        let failed = Failed {
            lock_token: "c",
            code: "LockLost",
            message: "gone",
        };
        assert_eq!(
            written(|out| write_settled(["a", "b"], [failed], out)),
            r#"{"succeededLockTokens":["a","b"],"failedLockTokens":[{"lockToken":"c","error":{"code":"LockLost","message":"gone"}}]}"#
        );
        assert_eq!(
            written(|out| write_error("NotFound", "no \"x\"", out)),
            r#"{"error":{"code":"NotFound","message":"no \"x\""}}"#
        );
    }
}
