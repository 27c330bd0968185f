//! What differs between two states, field by field.
//!
//! Objects are gone into; everything else, lists and the empty object included, is one value.

use serde_json::{Map, Value};

use super::{State, size_bytes};

/// A field whose value is another one, appeared or went.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Names from the outside in.
    pub path: Vec<String>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Change {
    /// About the bytes of its JSON form.
    pub fn size_bytes(&self) -> usize {
        let names = self.path.iter().map(|name| name.len() + 3);
        let values = [&self.before, &self.after].into_iter().flatten();
        names.sum::<usize>() + values.map(size_bytes).sum::<usize>() + 30
    }
}

/// The fields that differ between two states, in the order of their names.
pub fn difference(before: &State, after: &State) -> Vec<Change> {
    between(&before.fields, &after.fields)
}

/// The same of plain values.
pub fn between(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Change> {
    let mut changes = Vec::new();
    within(&mut Vec::new(), before, after, &mut changes);
    changes
}

/// The same below `path`, which is as it was after the call.
pub(super) fn compare(
    path: &mut Vec<String>,
    before: Option<&Value>,
    after: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    match (before.and_then(members), after.and_then(members)) {
        (None, None) if before == after => {}
        (None, None) => changes.push(Change {
            path: path.clone(),
            before: before.cloned(),
            after: after.cloned(),
        }),
        (old, new) => {
            // A value that gives way to an object, or the other way about, is a field of its own.
            if old.is_none() && before.is_some() {
                compare(path, before, None, changes);
            }
            if new.is_none() && after.is_some() {
                compare(path, None, after, changes);
            }
            let none = Map::new();
            let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
            within(path, old, new, changes);
        }
    }
}

fn within(
    path: &mut Vec<String>,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    changes: &mut Vec<Change>,
) {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let mut names: Vec<&String> = after.keys().chain(gone).collect();
    names.sort();
    for name in names {
        path.push(name.clone());
        compare(path, before.get(name), after.get(name), changes);
        path.pop();
    }
}

/// Of an object that has any.
fn members(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|members| !members.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(value: &Value) -> State {
        let fields = value.as_object().unwrap().clone();
        State {
            fields,
            unmeasured_bytes: 0,
        }
    }

    fn check(before: Value, after: Value, expected: Value) {
        let changes = difference(&state(&before), &state(&after));
        let told = |change: &Change| json!([change.path.join("."), change.before, change.after]);
        let told: Vec<_> = changes.iter().map(told).collect();
        assert_eq!(Value::from(told), expected, "{before} {after}");
    }

    #[test]
    fn every_field_is_told_once() {
        check(json!({}), json!({}), json!([]));
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1}}), json!([]));
        check(
            json!({"a": {"b": 1, "c": [1]}, "x": 0}),
            json!({"a": {"b": 2, "c": [1, 2]}, "y": {"z": null}}),
            json!([
                ["a.b", 1, 2],
                ["a.c", [1], [1, 2]],
                ["x", 0, null],
                ["y.z", null, null]
            ]),
        );
        let appeared = difference(&state(&json!({})), &state(&json!({"n": null})));
        assert_eq!(appeared[0].after, Some(Value::Null));
        assert_eq!(appeared[0].before, None);
    }

    #[test]
    fn a_value_that_becomes_an_object_goes() {
        check(
            json!({"a": 1}),
            json!({"a": {"b": 2}}),
            json!([["a", 1, null], ["a.b", null, 2]]),
        );
        check(
            json!({"a": {"b": 2}}),
            json!({"a": 1}),
            json!([["a", null, 1], ["a.b", 2, null]]),
        );
        check(
            json!({"a": {}}),
            json!({"a": {"b": 2}}),
            json!([["a", {}, null], ["a.b", null, 2]]),
        );
        check(json!({"a": {}}), json!({}), json!([["a", {}, null]]));
    }
}
