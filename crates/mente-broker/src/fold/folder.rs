//! A fold at work, whether it is declared by event type or programmed: what the verbs of the past see.
//!
//! A [`Rule`] is what was declared; a [`Folder`] applies it for one request, a page of events at a time:
//! [`Folder::at_work`] makes the machine for a page and lends it. States go from page to page, the machine
//! does not, so that nothing that is bound to a thread lives while a page is read.

use std::sync::Arc;

use mente_engine::{Clock, Event};
use serde_json::{Map, Value};

use super::correction::CORRECTION;
use super::difference::{Change, between};
use super::javascript::{Left, Reducer, Script, Text};
use super::{Fold, State, at_event};
use crate::broker::StreamEvent;
use crate::error::{Error, Result};
use crate::schema::Schemas;

/// How the events of a category of streams make their state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rule {
    Declared(Fold),
    JavaScript(Script),
}

/// The state of one stream while it is folded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Folded {
    Declared(State),
    Reduced(Text),
}

/// A state as it is kept for a later request: its JSON, which takes a fraction of its tree of values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    text: Arc<str>,
    unmeasured_bytes: usize,
}

/// A rule and what it may still do for one request.
#[derive(Clone)]
pub(crate) struct Folder {
    rule: Arc<Rule>,
    /// Of this declaration and no other.
    number: u64,
    /// By which its events are told.
    schemas: Arc<Schemas>,
    left: Left,
    clock: Arc<dyn Clock>,
}

/// A rule, ready for events.
pub(crate) enum Machine<'a> {
    Declared(&'a Fold),
    Reducer(Reducer),
}

impl Rule {
    /// Reads a declaration. A source is compiled when a machine is made.
    pub(crate) fn parse(declared: &Value) -> Result<Self> {
        if let Some(script) = declared.as_object().and_then(Script::parse) {
            return script.map(Self::JavaScript);
        }
        Fold::parse(declared).map(Self::Declared)
    }

    /// Whether it may take long for one event, by what somebody wrote: then it is no work for the thread
    /// of an executor, which others wait for.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Self::JavaScript(_))
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self::Declared(Fold::default())
    }
}

impl Folder {
    /// `number` is that of the declaration.
    pub(crate) fn new(rule: Arc<Rule>, number: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            rule,
            number,
            schemas: Arc::default(),
            left: Left::default(),
            clock,
        }
    }

    /// The same over events that are told by these.
    pub(crate) fn over(self, schemas: Arc<Schemas>) -> Self {
        Self { schemas, ..self }
    }

    pub(crate) fn schemas(&self) -> &Arc<Schemas> {
        &self.schemas
    }

    /// Of what makes its states: the declaration, and the schemas that its events are told by.
    pub(crate) fn number(&self) -> (u64, u64) {
        (self.number, self.schemas.number())
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.rule.is_slow()
    }

    /// The state before the first event.
    pub(crate) fn begin(&self) -> Folded {
        match &*self.rule {
            Rule::Declared(_) => Folded::Declared(State::default()),
            Rule::JavaScript(_) => Folded::Reduced(Text::default()),
        }
    }

    /// A state that this fold kept.
    pub(crate) fn resume(&self, kept: &Kept) -> Result<Folded> {
        match &*self.rule {
            Rule::Declared(_) => State::of_text(&kept.text, kept.unmeasured_bytes)
                .map(Folded::Declared)
                .ok_or_else(of_another),
            Rule::JavaScript(_) => Ok(Folded::Reduced(Text::of(&kept.text))),
        }
    }

    /// Works on one page of events.
    pub(crate) fn at_work<T>(&mut self, work: impl FnOnce(&Machine<'_>) -> Result<T>) -> Result<T> {
        match &*self.rule {
            Rule::Declared(fold) => work(&Machine::Declared(fold)),
            Rule::JavaScript(script) => {
                let reducer = Reducer::compile(script, self.left, Arc::clone(&self.clock))?;
                let machine = Machine::Reducer(reducer);
                let done = work(&machine);
                if let Machine::Reducer(reducer) = machine {
                    self.left = reducer.left();
                }
                done
            }
        }
    }
}

impl Machine<'_> {
    /// Folds one event in. After an error the state is no state of the stream: drop it.
    pub(crate) fn apply(&self, state: &mut Folded, event: &StreamEvent) -> Result<()> {
        if event.event.kind == CORRECTION {
            return state
                .correct(&event.event)
                .map_err(|error| at_event(event, &error));
        }
        match (self, state) {
            (Self::Declared(fold), Folded::Declared(state)) => fold.apply(state, event),
            (Self::Reducer(reducer), Folded::Reduced(text)) => {
                let applied = reducer.apply(text, event);
                applied.map_err(|error| at_event(event, &error))
            }
            _ => Err(of_another()),
        }
    }

    /// The same, and tells what that changed.
    pub(crate) fn apply_and_tell(
        &self,
        state: &mut Folded,
        event: &StreamEvent,
    ) -> Result<Vec<Change>> {
        if let (Self::Declared(fold), Folded::Declared(state)) = (self, &mut *state)
            && event.event.kind != CORRECTION
        {
            return fold.apply_and_tell(state, event);
        }
        let before = state.fields()?;
        self.apply(state, event)?;
        Ok(between(&before, &state.fields()?))
    }
}

impl Folded {
    fn correct(&mut self, event: &Event) -> Result<()> {
        match self {
            Self::Declared(state) => state.correct(event),
            Self::Reduced(text) => {
                let mut state = State {
                    fields: text.fields()?,
                    unmeasured_bytes: 0,
                };
                state.correct(event)?;
                *text = Text::checked(state.into_value().to_string())?;
                Ok(())
            }
        }
    }

    fn fields(&self) -> Result<Map<String, Value>> {
        match self {
            Self::Declared(state) => Ok(state.fields.clone()),
            Self::Reduced(text) => text.fields(),
        }
    }

    pub(crate) fn into_value(self) -> Result<Value> {
        match self {
            Self::Declared(state) => Ok(state.into_value()),
            Self::Reduced(text) => text.fields().map(Value::Object),
        }
    }

    pub(crate) fn keep(&self) -> Kept {
        let (text, unmeasured_bytes) = match self {
            Self::Declared(state) => (
                Value::Object(state.fields.clone()).to_string().into(),
                state.unmeasured_bytes,
            ),
            Self::Reduced(text) => (text.as_str().into(), 0),
        };
        Kept {
            text,
            unmeasured_bytes,
        }
    }

    /// The fields that are other ones in `after`, in the order of their names.
    pub(crate) fn difference(&self, after: &Self) -> Result<Vec<Change>> {
        match (self, after) {
            (Self::Declared(before), Self::Declared(after)) => {
                Ok(between(&before.fields, &after.fields))
            }
            _ => Ok(between(&self.fields()?, &after.fields()?)),
        }
    }
}

impl Kept {
    pub(crate) fn size_bytes(&self) -> usize {
        self.text.len()
    }

    #[cfg(test)]
    pub(crate) fn of_text(text: String) -> Self {
        Self {
            text: text.into(),
            unmeasured_bytes: 0,
        }
    }
}

fn of_another() -> Error {
    let message = "a state of another fold";
    Error::new(crate::error::Kind::Internal, message)
}
