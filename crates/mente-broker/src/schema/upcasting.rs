//! The chain of upcasters at work: one event in, what is told of it out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mente_engine::{Attribute, Clock, Event, Shown, limits};

use super::declared::change;
use super::{PART, PARTS, Schemas, Upcaster, returned, set, set_version, version_of};
use crate::error::{Error, Kind, Result};
use crate::fold::javascript;
use crate::identity::derived;

/// Tells events of one page, with the programs that it compiled for them. It lives on one thread.
pub(crate) struct Upcasting<'a> {
    schemas: &'a Schemas,
    clock: Arc<dyn Clock>,
    programs: BTreeMap<(String, u32), javascript::Upcaster>,
    /// That programs may still take for this event.
    steps: u64,
}

impl<'a> Upcasting<'a> {
    pub(crate) fn new(schemas: &'a Schemas, clock: Arc<dyn Clock>) -> Self {
        Self {
            schemas,
            clock,
            programs: BTreeMap::new(),
            steps: 0,
        }
    }

    /// What is told of an event: nothing, itself in another version, or several. The error names type and
    /// version.
    pub(crate) fn tell(&mut self, written: &Event) -> Result<Vec<Event>> {
        let mut told: Vec<Event> = Vec::new();
        let mut left = VecDeque::from([written.clone()]);
        let (mut steps, mut bytes) = (0, 0);
        self.steps = limits::REDUCER_EVENT_STEPS;
        while let Some(event) = left.pop_front() {
            let made = self.step(&event).map_err(|error| at_type(&event, &error))?;
            let Some(made) = made else {
                bytes += event.size_bytes();
                told.push(event);
                continue;
            };
            steps += 1;
            for made in made.into_iter().rev() {
                left.push_front(made);
            }
            let many = if steps > limits::UPCAST_STEPS {
                Some(format!(
                    "it takes more than {} upcasters: do types become each other in a circle?",
                    limits::UPCAST_STEPS
                ))
            } else if told.len() + left.len() > limits::UPCAST_PARTS {
                let most = limits::UPCAST_PARTS;
                Some(format!("it would become more than {most} events"))
            } else if bytes + left.iter().map(Event::size_bytes).sum::<usize>()
                > limits::UPCAST_BYTES
            {
                let most = limits::UPCAST_BYTES;
                Some(format!("it would become more than {most} bytes"))
            } else {
                None
            };
            if let Some(message) = many {
                let error = Error::invalid(message);
                return Err(at_type(written, &error));
            }
        }
        number(written, &mut told);
        for event in &told {
            let valid = event.validate().map_err(Error::from);
            valid.map_err(|error| at_type(written, &error))?;
        }
        Ok(told)
    }

    /// One version on; `None` for what is current.
    fn step(&mut self, event: &Event) -> Result<Option<Vec<Event>>> {
        let Some(schema) = self.schemas.get(&event.kind) else {
            return Ok(None);
        };
        let version = version_of(event)?;
        let Some(upcaster) = schema.upcasters.get(version as usize - 1) else {
            return Ok(None);
        };
        Ok(Some(match upcaster {
            Upcaster::Drop => Vec::new(),
            Upcaster::Change(steps) => vec![change(steps, event)?],
            Upcaster::Split(parts) => {
                let parts = parts.iter().map(|part| part.of(event));
                parts.collect::<Result<_>>()?
            }
            Upcaster::Program { makes, .. } => {
                let told = self.program(event, version, upcaster)?;
                let told = told.into_iter().map(|mut told| {
                    if told.kind == event.kind {
                        set_version(&mut told, version + 1);
                    } else if !makes.contains(&told.kind) {
                        let kind = Shown(&told.kind);
                        let message = format!(
                            "the upcaster makes an event of type {kind}, which its types do not name"
                        );
                        return Err(Error::invalid(message));
                    }
                    Ok(told)
                });
                told.collect::<Result<_>>()?
            }
        }))
    }

    fn program(&mut self, event: &Event, version: u32, of: &Upcaster) -> Result<Vec<Event>> {
        let Upcaster::Program { script, .. } = of else {
            return Ok(Vec::new());
        };
        let is_json = matches!(&event.data, mente_engine::Data::Json(bytes)
            if serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_err());
        if is_json {
            let message = "the data is no JSON, though the event says that it is";
            return Err(Error::invalid(message));
        }
        let key = (event.kind.clone(), version);
        let program = match self.programs.remove(&key) {
            Some(program) => program,
            None => javascript::Upcaster::compile(script, Arc::clone(&self.clock))?,
        };
        let told = program.call(event, &mut self.steps)?;
        // After an error it is not used again.
        self.programs.insert(key, program);
        if told.len() > limits::UPCAST_PARTS {
            let (made, most) = (told.len(), limits::UPCAST_PARTS);
            let message = format!("it would become {made} events, more than {most}");
            return Err(Error::invalid(message));
        }
        let told = told.into_iter();
        told.map(|told| returned::event_of(event, told)).collect()
    }
}

/// Parts of one event are counted, and have ids of their own.
fn number(written: &Event, told: &mut [Event]) {
    let parts = told.len();
    if parts < 2 {
        return;
    }
    for (part, event) in (1_i32..).zip(told) {
        let number = part.to_string();
        event.id = derived(&["part", &written.source, &written.id, &number]);
        set(event, PART, Attribute::Integer(part));
        set(event, PARTS, Attribute::Integer(parts as i32));
    }
}

fn at_type(event: &Event, error: &Error) -> Error {
    let kind = Shown(&event.kind);
    let message = match version_of(event) {
        Ok(version) => format!(
            "the upcaster of type {kind}, version {version}, failed: {}",
            error.message
        ),
        Err(_) => format!("an event of type {kind}: {}", error.message),
    };
    let kind = match error.kind {
        // It may be told another time.
        Kind::Throttled => Kind::Throttled,
        _ => Kind::UpcastFailed,
    };
    Error::new(kind, message)
}
