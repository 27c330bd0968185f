//! A fold at work, whether it is declared by event type or programmed: what the verbs of the past see.
//!
//! A [`Rule`] is what was declared; a [`Folder`] applies it for one request, a page of events at a time:
//! [`Folder::at_work`] makes the machine for a page and lends it. States go from page to page, the machine
//! does not, so that nothing that is bound to a thread lives while a page is read.

use std::sync::Arc;

use mente_engine::Clock;
use serde_json::{Map, Value};

use super::difference::{Change, between};
use super::javascript::{Left, Reducer, Script, Text};
use super::{Fold, State, at_event, member_bytes};
use crate::broker::StreamEvent;
use crate::error::{Error, Result};

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

/// A rule and what it may still do for one request.
#[derive(Clone)]
pub(crate) struct Folder {
    rule: Arc<Rule>,
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
    pub(crate) fn new(rule: Arc<Rule>, clock: Arc<dyn Clock>) -> Self {
        let left = Left::default();
        Self { rule, left, clock }
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
        if let (Self::Declared(fold), Folded::Declared(state)) = (self, &mut *state) {
            return fold.apply_and_tell(state, event);
        }
        let before = state.fields()?;
        self.apply(state, event)?;
        Ok(between(&before, &state.fields()?))
    }
}

impl Folded {
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

    /// About the bytes of its JSON form.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Declared(state) => state.fields.iter().map(member_bytes).sum(),
            Self::Reduced(text) => text.size_bytes(),
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

fn of_another() -> Error {
    let message = "a state of another fold";
    Error::new(crate::error::Kind::Internal, message)
}
