//! A projection that is programmed: the source declares `project(event)`, which returns what the event does to
//! the rows: statements such as `{sql: "INSERT INTO t VALUES (:id)", params: {id: event.id}}`, a list of them or
//! one alone, or nothing.
//!
//! It lives within the walls of a reducer and knows the event and where it lies: so the rows are a fold of the
//! log still. Each event has its own steps and its own time, as with an upcaster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Clock, Event, limits};
use serde::Deserialize;
use serde_json::Value;

use super::{Left, Program, Role, Script, facts};
use crate::error::{Error, Kind, Result};

/// A compiled source. It lives on one thread.
pub struct Projector(Program);

/// A statement and what its parameters are, by their names: null, a boolean, a number or a text each.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Projected {
    pub sql: String,
    pub params: BTreeMap<String, Value>,
}

impl Projector {
    /// Compiles a source. Refuses one that is no JavaScript, or declares no projection, with the line.
    pub fn compile(source: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let script = Script::of(source)?;
        let memory_bytes = limits::REDUCER_MEMORY_BYTES;
        Program::compile(Role::Project, memory_bytes, &script, Left::default(), clock).map(Self)
    }

    /// What an event does; `lies` tells it where that is. After an error it is not to be called again.
    pub fn call(&self, event: &Event, lies: &[(&str, Value)]) -> Result<Vec<Projected>> {
        let event = facts::text_at(event, lies)?;
        let meter = &self.0.meter;
        let now = meter.clock.now().monotone;
        let time = Duration::from_millis(limits::REDUCER_PAGE_MS);
        meter.deadline.set(now + time);
        meter.request_steps.set(limits::REDUCER_REQUEST_STEPS);
        let told = self
            .0
            .call((event.as_str(),), limits::REDUCER_EVENT_STEPS)?;
        self.0.check_is_done()?;
        let told = told.ok_or_else(|| Error::invalid("what the projection returned is no JSON"))?;
        if told.len() > limits::PROJECTED_BYTES {
            let message = format!(
                "the statements of one event have {} bytes, more than the limit of {}: let it return less",
                told.len(),
                limits::PROJECTED_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        serde_json::from_str(&told).map_err(|error| {
            let message = format!("what the projection returned cannot be read: {error}");
            Error::invalid(message)
        })
    }
}

impl std::fmt::Debug for Projector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Projector")
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::Pin;

    use bytes::Bytes;
    use mente_engine::{Data, Now, Timestamp};
    use serde_json::json;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Now {
            Now {
                monotone: Duration::ZERO,
                wall: Timestamp(0),
            }
        }

        fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(ready(()))
        }
    }

    fn project(source: &str) -> Result<Vec<Projected>> {
        let event = Event {
            id: "1".into(),
            source: "/t".into(),
            kind: "T".into(),
            data: Data::Json(Bytes::from_static(b"{\"a\":[1,2],\"b\":1.5}")),
            ..Event::default()
        };
        let projector = Projector::compile(source, Arc::new(Still))?;
        projector.call(&event, &[("offset", Value::from(7))])
    }

    fn check(source: &str, expect: Value) {
        let told = project(source).expect(source);
        let told: Vec<_> = told
            .iter()
            .map(|one| json!([one.sql, one.params]))
            .collect();
        assert_eq!(Value::from(told), expect, "{source}");
    }

    fn refused(source: &str, says: &str) {
        let error = project(source)
            .map(|told| format!("{told:?}"))
            .expect_err(source);
        assert!(error.message.contains(says), "{source}: {error}");
    }

    #[test]
    fn statements_have_plain_values() {
        let all = "function project(event) { return {sql: 'A', params: {id: event.id, at: event.offset, \
                   a: event.data.a, b: event.data.b, c: undefined, d: null, e: true, f: 0 / 0}}; }";
        let expect = json!([["A", {"id": "1", "at": 7, "a": "[1,2]", "b": 1.5, "c": null, "d": null, "e": true, "f": null}]]);
        check(all, expect);
        check(
            "function project() { return [{sql: 'A'}, {sql: 'B', params: {}}]; }",
            json!([["A", {}], ["B", {}]]),
        );
        check("function project() {}", json!([]));
        check("const project = () => null;", json!([]));
    }

    #[test]
    fn what_is_no_statement_is_refused() {
        for odd in [
            "'A'",
            "1",
            "{}",
            "{sql: 1}",
            "['A']",
            "{sql: 'A', params: [1]}",
            "[[{sql: 'A'}]]",
            "() => 1",
        ] {
            let source = format!("function project() {{ return ({odd}); }}");
            refused(&source, "something else than {sql, params}");
        }
        refused("function reduce() {}", "no function project(event)");
        refused(
            "function project() { return {sql: 'A'.repeat(5e6)}; }",
            "more than the limit",
        );
        refused(
            "function project() { Math.random() }",
            "a projection has none",
        );
        refused("async function project() {}", "no later");
        refused("function project() { for (;;); }", "the projection went on");
    }
}
