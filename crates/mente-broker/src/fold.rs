//! How the events of a stream make its state: a fold that is declared, not programmed.
//!
//! ```json
//! {"OrderPlaced":  [{"merge": "data"}, {"set": {"status": "placed", "placed_at": "$.time"}}],
//!  "ItemAdded":    [{"append": {"items": "$.data.item"}}, {"add": {"total": "$.data.price"}}],
//!  "OrderShipped": [{"set": {"status": "shipped"}}]}
//! ```
//! By event type a list of operations on the state, which is always a JSON object:
//!
//! | operation | does |
//! |---|---|
//! | `merge`  | RFC 7386 merge of an object: `"data"`, a path, or a template |
//! | `set`    | replaces fields |
//! | `add`    | adds numbers; a field that is missing counts as 0; a decimal number written as text (`"12.50"`, at most 38 digits) adds exactly and stays text; an object adds field by field |
//! | `append` | puts a value behind those of a list, which is made if it is missing |
//! | `remove` | takes fields away (`"a"`, `["a","b"]`), or from lists their first equal element (`{"items":"$.data.item"}`) |
//!
//! Fields may be dotted, `address.city`. What stands at the right is a template: a text that
//! begins with `$.` is a path in the event (`template.rs`), everything else is meant as it
//! stands; `$$` makes a text that begins with `$`.
//!
//! Where `add` meets a decimal text and a JSON number, the sum is a text, if the number is whole: one
//! with a fraction is binary and not exactly what was written, so it leaves the field alone. So
//! does a sum of more digits than are kept. `"1.0"` and `"2.00"` make `"3.00"`. In an object each
//! field is treated for itself: `{"add":{"balances":"$.data.amounts"}}` keeps a balance for every
//! account and currency that amounts ever name.
//!
//! A path that leads nowhere sets nothing and is no error, because old events lack what was
//! thought of later. So is an operation on a field of another kind (`add` to a text). Events
//! of types that are not named leave the state alone. Without a declaration every event's data
//! is merged. No clock and no chance: equal events make equal state. Corrections (`correction.rs`) are
//! applied as they stand.
//!
//! What cannot be declared is programmed (`javascript.rs`); `folder.rs` is either of them at work.

pub(crate) mod correction;
mod decimal;
pub mod difference;
pub(crate) mod folder;
pub(crate) mod javascript;
pub(crate) mod template;
mod touch;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mente_engine::limits;
use serde_json::{Map, Number, Value};

use crate::broker::StreamEvent;
use crate::error::{Error, Kind, Result};
use crate::nearest::suggestion;
use decimal::Decimal;
use template::{Facts, Template};

pub(crate) const OPERATIONS: [&str; 5] = ["merge", "set", "add", "append", "remove"];

/// A declared fold. The default merges every event's data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fold {
    by_type: Option<BTreeMap<String, Vec<Operation>>>,
}

/// The state of one stream while it is folded: an object of bounded size and depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    fields: Map<String, Value>,
    /// Bytes put in since its size was last measured.
    unmeasured_bytes: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    Merge(Template),
    Set(Vec<(Field, Template)>),
    Add(Vec<(Field, Template)>),
    Append(Vec<(Field, Template)>),
    Remove(Vec<Field>),
    RemoveFrom(Vec<(Field, Template)>),
}

/// Where in the state: names from the outside in, at least one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field(Vec<String>);

impl Fold {
    /// Reads a declaration; refuses what it does not know, so that a slip is not a silent no-op.
    pub fn parse(declared: &Value) -> Result<Self> {
        let Value::Object(types) = declared else {
            return Err(Error::invalid(
                "a fold is an object of event types, each with a list of operations",
            ));
        };
        let size = size_bytes(declared);
        if size > limits::DEFINITION_BYTES {
            let message = format!(
                "the fold has {size} bytes, more than the limit of {}",
                limits::DEFINITION_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        let mut by_type = BTreeMap::new();
        for (kind, operations) in types {
            let Value::Array(operations) = operations else {
                let message = format!(
                    "{kind}: a list of operations is needed, like [{{\"merge\":\"data\"}}]"
                );
                return Err(Error::invalid(message));
            };
            let operations: Result<Vec<_>> = operations.iter().map(Operation::parse).collect();
            let operations = operations
                .map_err(|error| Error::new(error.kind, format!("{kind}: {}", error.message)))?;
            by_type.insert(kind.clone(), operations);
        }
        Ok(Self {
            by_type: Some(by_type),
        })
    }

    /// Folds one event in. After an error the state is no state of the stream: drop it.
    pub fn apply(&self, state: &mut State, event: &StreamEvent) -> Result<()> {
        let facts = Facts::new(event);
        let folded = self.operations(event).iter().try_for_each(|operation| {
            operation.run(state, &facts)?;
            state.check_size()
        });
        folded.map_err(|error| at_event(event, &error))
    }
}

/// The error with the event that it came at.
fn at_event(event: &StreamEvent, error: &Error) -> Error {
    let (stream, revision) = (&event.stream, event.place.revision);
    let message = format!("stream {stream} at revision {revision}: {}", error.message);
    Error::new(error.kind, message)
}

impl Fold {
    fn operations(&self, event: &StreamEvent) -> &[Operation] {
        static WHOLE_DATA: LazyLock<[Operation; 1]> =
            LazyLock::new(|| [Operation::Merge(Template::data())]);
        match &self.by_type {
            None => &*WHOLE_DATA,
            Some(by_type) => by_type.get(&event.event.kind).map_or(&[], Vec::as_slice),
        }
    }
}

impl State {
    /// From the JSON of its fields, and what came in since it was measured: so it goes on as it would have.
    fn of_text(text: &str, unmeasured_bytes: usize) -> Option<Self> {
        let fields = serde_json::from_str(text).ok()?;
        Some(Self {
            fields,
            unmeasured_bytes,
        })
    }

    /// Of these fields, however they came to be.
    pub(crate) fn of_fields(fields: Map<String, Value>) -> Self {
        Self {
            fields,
            unmeasured_bytes: 0,
        }
    }

    pub(crate) fn fields_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.fields
    }

    /// A copy of it.
    pub fn to_value(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.fields)
    }

    /// Lets a value in at `depth`, or says which bound it breaks. The depth of the whole is
    /// bounded by bounding each value that comes in.
    fn admit(&mut self, depth: usize, value: &Value) -> Result<()> {
        if depth + nesting(value) > limits::NESTING_DEPTH {
            let message = format!(
                "the state would nest deeper than {} levels: declare a fold that takes less in",
                limits::NESTING_DEPTH
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        self.unmeasured_bytes += size_bytes(value);
        Ok(())
    }

    /// Measures in any case.
    pub(crate) fn check_whole_size(&mut self) -> Result<()> {
        self.unmeasured_bytes = limits::STATE_BYTES;
        self.check_size()
    }

    /// Measures only after a good part of the limit came in, or every event would cost a walk
    /// over the whole state.
    fn check_size(&mut self) -> Result<()> {
        if self.unmeasured_bytes < limits::STATE_BYTES / 8 {
            return Ok(());
        }
        self.unmeasured_bytes = 0;
        let size: usize = self.fields.iter().map(member_bytes).sum();
        if size <= limits::STATE_BYTES {
            return Ok(());
        }
        let message = format!(
            "the state has {size} bytes, more than the limit of {}: declare a fold that keeps less",
            limits::STATE_BYTES
        );
        Err(Error::new(Kind::TooLarge, message))
    }
}

impl Operation {
    pub(crate) fn parse(declared: &Value) -> Result<Self> {
        let one = declared.as_object().filter(|map| map.len() == 1);
        let Some((operator, argument)) = one.and_then(|map| map.iter().next()) else {
            return Err(Error::invalid(format!(
                "an operation is an object of one of {}, not {declared}",
                OPERATIONS.join(", ")
            )));
        };
        match operator.as_str() {
            "merge" => match argument {
                Value::String(word) if word == "data" => Ok(Self::Merge(Template::data())),
                Value::Object(_) => Template::parse(argument, 1).map(Self::Merge),
                Value::String(path) if path.starts_with("$.") => {
                    Template::parse(argument, 1).map(Self::Merge)
                }
                _ => Err(Error::invalid(
                    "merge takes \"data\", a path such as \"$.data.order\", or an object",
                )),
            },
            "set" => assignments(operator, argument).map(Self::Set),
            "add" => assignments(operator, argument).map(Self::Add),
            "append" => assignments(operator, argument).map(Self::Append),
            "remove" => match argument {
                Value::String(field) => Ok(Self::Remove(vec![Field::parse(field)?])),
                Value::Array(fields) => {
                    let field = |field: &Value| {
                        let name = field.as_str();
                        let name =
                            name.ok_or_else(|| Error::invalid("remove takes names of fields"))?;
                        Field::parse(name)
                    };
                    Ok(Self::Remove(
                        fields.iter().map(field).collect::<Result<_>>()?,
                    ))
                }
                _ => assignments(operator, argument).map(Self::RemoveFrom),
            },
            other => {
                let hint = suggestion(other, &OPERATIONS);
                Err(Error::invalid(format!("no operation {other:?}{hint}")))
            }
        }
    }

    pub(crate) fn run(&self, state: &mut State, facts: &Facts<'_>) -> Result<()> {
        match self {
            Self::Merge(template) => {
                if let Some(patch @ Value::Object(_)) = template.fill(facts)? {
                    state.admit(0, &patch)?;
                    merge(&mut state.fields, patch);
                }
            }
            Self::Set(fields) => each(fields, state, facts, |slot, value| {
                *slot = Some(value);
            })?,
            Self::Add(fields) => each(fields, state, facts, add)?,
            Self::Append(fields) => each(fields, state, facts, |slot, value| {
                if let Value::Array(list) = slot.get_or_insert_with(|| Value::Array(Vec::new())) {
                    list.push(value);
                }
            })?,
            Self::Remove(fields) => {
                for field in fields {
                    if let Some((within, name)) = field.find(&mut state.fields) {
                        within.remove(name);
                    }
                }
            }
            Self::RemoveFrom(fields) => {
                for (field, template) in fields {
                    let Some(value) = template.fill(facts)? else {
                        continue;
                    };
                    let found = field.find(&mut state.fields);
                    let list = found.and_then(|(within, name)| within.get_mut(name));
                    if let Some(Value::Array(list)) = list
                        && let Some(index) = list.iter().position(|item| *item == value)
                    {
                        list.remove(index);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Changes each field that its template has a value for; the slot is `None` where the field is
/// missing, and stays missing if nothing is put in.
fn each(
    fields: &[(Field, Template)],
    state: &mut State,
    facts: &Facts<'_>,
    change: impl Fn(&mut Option<Value>, Value),
) -> Result<()> {
    for (field, template) in fields {
        let Some(value) = template.fill(facts)? else {
            continue;
        };
        state.admit(field.0.len(), &value)?;
        let found = field.find(&mut state.fields);
        let mut slot = found.and_then(|(within, name)| within.get_mut(name).map(Value::take));
        change(&mut slot, value);
        if let Some(value) = slot {
            state.unmeasured_bytes += field.0.iter().map(String::len).sum::<usize>();
            field.put(&mut state.fields, value);
        }
    }
    Ok(())
}

impl Field {
    pub(crate) fn parse(dotted: &str) -> Result<Self> {
        let names: Vec<String> = dotted.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) || names.len() >= limits::NESTING_DEPTH {
            let message = format!("{dotted:?} is no field: names with dots between them are");
            return Err(Error::invalid(message));
        }
        Ok(Self(names))
    }

    /// Whether the field is there.
    pub(crate) fn is_in(&self, fields: &Map<String, Value>) -> bool {
        let Some((name, path)) = self.0.split_last() else {
            return false;
        };
        let within = path.iter().try_fold(fields, |within, step| {
            within.get(step).and_then(Value::as_object)
        });
        within.is_some_and(|within| within.contains_key(name))
    }

    /// The object that holds the field, if there is one, and the field's name in it.
    pub(crate) fn find<'a>(
        &self,
        mut within: &'a mut Map<String, Value>,
    ) -> Option<(&'a mut Map<String, Value>, &str)> {
        let (name, path) = self.0.split_last()?;
        for step in path {
            within = within.get_mut(step)?.as_object_mut()?;
        }
        Some((within, name))
    }

    /// Puts a value there; what stands in the way and is no object gives way to one.
    pub(crate) fn put(&self, mut within: &mut Map<String, Value>, value: Value) {
        let Some((name, path)) = self.0.split_last() else {
            return;
        };
        for step in path {
            let next = within.entry(step.clone()).or_insert(Value::Null);
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            let Value::Object(map) = next else { return };
            within = map;
        }
        within.insert(name.clone(), value);
    }
}

pub(crate) fn assignments(operator: &str, argument: &Value) -> Result<Vec<(Field, Template)>> {
    let Value::Object(fields) = argument else {
        let message = format!("{operator} takes an object of fields, not {argument}");
        return Err(Error::invalid(message));
    };
    let parse = |(field, template): (&String, &Value)| {
        Ok((Field::parse(field)?, Template::parse(template, 1)?))
    };
    fields.iter().map(parse).collect()
}

/// RFC 7386: null takes a member away, an object goes in deep, anything else replaces.
fn merge(target: &mut Map<String, Value>, patch: Value) {
    let Value::Object(patch) = patch else { return };
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(&name);
            }
            Value::Object(_) => {
                let slot = target.entry(name).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(inner) = slot {
                    merge(inner, value);
                }
            }
            value => {
                target.insert(name, value);
            }
        }
    }
}

/// Adds what are numbers on both sides; everything else leaves the slot as it is. How deep it goes
/// is bounded by what the state admits.
fn add(slot: &mut Option<Value>, more: Value) {
    match (slot, more) {
        (slot @ None, Value::Number(more)) => *slot = Some(Value::Number(more)),
        (slot @ None, Value::String(more)) => {
            *slot = Decimal::parse(&more).map(|decimal| decimal.to_string().into());
        }
        (slot @ None, Value::Object(more)) => {
            let mut members = Map::new();
            add_members(&mut members, more);
            if !members.is_empty() {
                *slot = Some(Value::Object(members));
            }
        }
        (Some(Value::Object(members)), Value::Object(more)) => add_members(members, more),
        (Some(Value::Number(number)), Value::Number(more)) => *number = sum(number, &more),
        (Some(value), more) => {
            let sum = decimal(value).zip(decimal(&more));
            if let Some(sum) = sum.and_then(|(a, b)| a.checked_add(b)) {
                *value = sum.to_string().into();
            }
        }
        (None, Value::Null | Value::Bool(_) | Value::Array(_)) => {}
    }
}

fn add_members(members: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        let mut slot = members.get_mut(&name).map(Value::take);
        add(&mut slot, value);
        if let Some(value) = slot {
            members.insert(name, value);
        }
    }
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::String(text) => Decimal::parse(text),
        Value::Number(number) => Decimal::whole(number),
        _ => None,
    }
}

/// Whole numbers stay whole while they fit 64 bits.
fn sum(a: &Number, b: &Number) -> Number {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return sum.into();
    }
    let (x, y) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
    // Beyond what JSON can write the number stays as it was.
    Number::from_f64(x + y).unwrap_or_else(|| a.clone())
}

/// Levels of lists and objects; a plain value has none.
pub(crate) fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

/// About the bytes of its JSON form.
pub(crate) fn size_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size_bytes(item) + 1).sum::<usize>(),
        Value::Object(members) => 2 + members.iter().map(member_bytes).sum::<usize>(),
    }
}

fn member_bytes((name, value): (&String, &Value)) -> usize {
    name.len() + 4 + size_bytes(value)
}

#[cfg(test)]
mod tests;
