//! A saga that is programmed: the source declares `react(state, event)`, which changes the state of the course that
//! the event belongs to, and returns what follows: `{events: [{stream, type, data, …}], timers: {name: MS}}`, either
//! of them, or nothing. A timer of null is taken back.
//!
//! It lives within the walls of a reducer: what follows from an event follows from it and the state alone, so that an
//! event that is reacted to again, after a crash, leads to the same. Each event has its own steps and its own time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Clock, Event, limits};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Left, Program, Role, Script, check, facts};
use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use crate::said;
use crate::store::{CAUSATION, CORRELATION};

/// A compiled source. It lives on one thread.
pub struct Reactor(Program);

/// What followed from an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Reacted {
    /// The text of a JSON object.
    pub state: String,
    /// For these streams; ids, sources and causes are the caller's to say.
    pub events: Vec<(StreamName, Event)>,
    /// In so many milliseconds from the event on; `None`: no more.
    pub timers: BTreeMap<String, Option<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Returned {
    state: Box<RawValue>,
    #[serde(default)]
    events: Option<Vec<Map<String, Value>>>,
    #[serde(default)]
    timers: Option<BTreeMap<String, Option<f64>>>,
}

impl Reactor {
    /// Compiles a source. Refuses one that is no JavaScript, or declares no saga, with the line.
    pub fn compile(source: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let script = Script::of(source)?;
        let memory_bytes = limits::REDUCER_MEMORY_BYTES;
        Program::compile(Role::React, memory_bytes, &script, Left::default(), clock).map(Self)
    }

    /// What follows from an event; `lies` tells it where that is. After an error it is not to be called again; it is no
    /// verdict on the event where its kind is [`Kind::Throttled`].
    pub fn call(&self, state: &str, event: &Event, lies: &[(&str, Value)]) -> Result<Reacted> {
        let event = facts::text_at(event, lies)?;
        let meter = &self.0.meter;
        let now = meter.clock.now().monotone;
        let time = Duration::from_millis(limits::REDUCER_PAGE_MS);
        meter.deadline.set(now + time);
        meter.request_steps.set(limits::REDUCER_REQUEST_STEPS);
        let told = self
            .0
            .call((state, event.as_str()), limits::REDUCER_EVENT_STEPS)?;
        self.0.check_is_done()?;
        let told = told.ok_or_else(|| Error::invalid("what the saga returned is no JSON"))?;
        if told.len() > limits::REACTED_BYTES {
            let (has, most) = (told.len(), limits::REACTED_BYTES);
            let message = format!(
                "what the saga returned has {has} bytes, more than the limit of {most}: let it return less"
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        let returned: Returned = serde_json::from_str(&told).map_err(|error| {
            Error::invalid(format!(
                "what the saga returned is not {{events, timers}}: {error}"
            ))
        })?;
        let state = returned.state.get().to_owned();
        check(&state)?;
        if state.len() > limits::SAGA_STATE_BYTES {
            let (has, most) = (state.len(), limits::SAGA_STATE_BYTES);
            let message =
                format!("the state of a course has {has} bytes, more than the limit of {most}");
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(Reacted {
            state,
            events: events_of(returned.events.unwrap_or_default())?,
            timers: timers_of(returned.timers.unwrap_or_default())?,
        })
    }
}

fn events_of(told: Vec<Map<String, Value>>) -> Result<Vec<(StreamName, Event)>> {
    if told.len() > limits::SAGA_EVENTS {
        let (made, most) = (told.len(), limits::SAGA_EVENTS);
        let message = format!("the saga returned {made} events, more than the limit of {most}");
        return Err(Error::new(Kind::TooLarge, message));
    }
    let made = told.into_iter().enumerate().map(|(at, told)| {
        event_of(told).map_err(|error| {
            Error::invalid(format!(
                "event {at} that the saga returned: {}",
                error.message
            ))
        })
    });
    made.collect()
}

fn event_of(mut told: Map<String, Value>) -> Result<(StreamName, Event)> {
    let stream = match told.remove("stream") {
        Some(Value::String(stream)) => StreamName::new(stream)?,
        _ => return Err(Error::invalid("it names no stream")),
    };
    let said = said::event_of(told)?;
    let says = |name| said.event.extension(name).is_some();
    if said.id.is_some() || says(CAUSATION) || says(CORRELATION) {
        let message = "id, causationid and correlationid follow from the event: leave them out";
        return Err(Error::invalid(message));
    }
    let kind = said.kind.ok_or_else(|| Error::invalid("it has no type"))?;
    let event = Event {
        source: said.source.unwrap_or_default(),
        kind,
        ..said.event
    };
    Ok((stream, event))
}

fn timers_of(told: BTreeMap<String, Option<f64>>) -> Result<BTreeMap<String, Option<u64>>> {
    let timer = |(name, ms): (String, Option<f64>)| {
        let most = limits::SAGA_TIMER_MS;
        let is_time = |ms: f64| ms.fract() == 0.0 && (0.0..=most as f64).contains(&ms);
        if name.is_empty() || name.len() > limits::DECLARED_NAME_BYTES || !ms.is_none_or(is_time) {
            let message = format!(
                "a timer has a name of 1 to {} bytes and whole milliseconds up to {most}, or null",
                limits::DECLARED_NAME_BYTES
            );
            return Err(Error::invalid(message));
        }
        Ok((name, ms.map(|ms| ms as u64)))
    };
    told.into_iter().map(timer).collect()
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reactor")
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::Pin;

    use mente_engine::{Attribute, Data, Now, Timestamp};

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

    fn react(body: &str) -> Result<Reacted> {
        let event = Event {
            id: "1".into(),
            source: "/t".into(),
            kind: "Placed".into(),
            ..Event::default()
        };
        let source = format!("function react(state, event) {{ {body} }}");
        let reactor = Reactor::compile(&source, Arc::new(Still))?;
        reactor.call("{\"n\":1}", &event, &[("stream", Value::from("order-7"))])
    }

    #[test]
    fn what_follows_is_state_events_and_timers() {
        let nothing = react("state.n += 1").unwrap();
        assert_eq!(nothing.state, "{\"n\":2}");
        assert!(nothing.events.is_empty() && nothing.timers.is_empty());
        let all = react(
            "return {events: [{stream: 'pay-' + event.stream, type: 'Asked', data: state, tags: 'a'}], \
             timers: {late: 1500, early: null}}",
        );
        let all = all.unwrap();
        let (stream, event) = &all.events[0];
        assert_eq!((stream.as_str(), &*event.kind), ("pay-order-7", "Asked"));
        assert_eq!(event.data, Data::Json("{\"n\":1}".into()));
        let tag = Attribute::Text("a".to_owned());
        assert_eq!(event.extension("tags"), Some(&tag));
        let timers = [("early".to_owned(), None), ("late".to_owned(), Some(1_500))];
        assert_eq!(all.timers, timers.into());
        // What is returned as state is not: there is one way to change it.
        let state = react("return {state: {n: 9}}").unwrap().state;
        assert_eq!(state, "{\"n\":1}");
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        for (body, says) in [
            ("return 1", "returned a number"),
            ("return [{}]", "returned an array"),
            ("return {event: []}", "unknown field `event`"),
            ("return {events: [{type: 'A'}]}", "names no stream"),
            ("return {events: [{stream: 'a-1'}]}", "has no type"),
            ("return {events: [{stream: '$$a', type: 'A'}]}", "$ first"),
            (
                "return {events: [{stream: 'a', type: 'A', id: 'x'}]}",
                "leave them out",
            ),
            (
                "return {events: [{stream: 'a', type: 'A', causationid: 'x'}]}",
                "leave them out",
            ),
            ("return {timers: {a: -1}}", "whole milliseconds"),
            ("return {timers: {a: 1.5}}", "whole milliseconds"),
            ("return {timers: {a: 1e15}}", "whole milliseconds"),
            ("return {timers: {'': 1}}", "a name of 1 to"),
            (
                "return {events: new Array(101).fill({stream: 'a', type: 'A'})}",
                "more than the limit",
            ),
            ("Date.now()", "a saga has none"),
            ("for (;;);", "the saga went on"),
            ("throw new Error('no')", "Error: no (line 1)"),
        ] {
            let error = react(body).map(|told| format!("{told:?}"));
            let error = error.expect_err(body);
            assert!(error.message.contains(says), "{body}: {error}");
        }
        let none = Reactor::compile("function reduce() {}", Arc::new(Still)).unwrap_err();
        assert!(
            none.message.contains("no function react(state, event)"),
            "{none}"
        );
    }
}
