//! Corrections: what an alternative of the past, made true, adds to a stream. A past that others have
//! read is not written anew; an event comes behind that makes the state what it would have been.
//!
//! ```json
//! {"type": "Mente.Correction",
//!  "data": {"changes": [{"path": ["total"], "after": 5}, {"path": ["coupon"]}], "dropped": [3], "replaced": []}}
//! ```
//! Every fold applies the changes as they stand, whatever it declares or programs for other types: `after` is
//! put at the path, without it the field goes. Data of another shape leave the state alone, as any old event
//! does that lacks what was thought of later.

use mente_engine::{Data, Event, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::difference::Change;
use super::{Field, State};
use crate::error::Result;

/// The type of the events.
pub const CORRECTION: &str = "Mente.Correction";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Correction {
    changes: Vec<Put>,
    /// Revisions that are to count as if they had not happened.
    dropped: Vec<u64>,
    /// Those that are to count as if they had been others.
    replaced: Vec<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Put {
    path: Vec<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    after: Option<Value>,
}

/// `null` is a value to be put.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The event that makes these changes.
pub(crate) fn event(
    id: String,
    changes: Vec<Change>,
    dropped: Vec<u64>,
    replaced: Vec<u64>,
) -> Event {
    let changes = changes.into_iter().map(|change| Put {
        path: change.path,
        after: change.after,
    });
    let correction = Correction {
        changes: changes.collect(),
        dropped,
        replaced,
    };
    let data = serde_json::to_vec(&correction).unwrap_or_default();
    Event {
        id,
        source: "/mente".to_owned(),
        kind: CORRECTION.to_owned(),
        datacontenttype: Some("application/json".to_owned()),
        data: Data::Json(data.into()),
        ..Event::default()
    }
}

impl State {
    /// Makes the changes that a correction names.
    pub(super) fn correct(&mut self, event: &Event) -> Result<()> {
        let Data::Json(data) = &event.data else {
            return Ok(());
        };
        let correction: Correction = serde_json::from_slice(data).unwrap_or_default();
        let is_path = |put: &Put| (1..=limits::NESTING_DEPTH).contains(&put.path.len());
        let (puts, gone): (Vec<Put>, Vec<Put>) = (correction.changes.into_iter())
            .filter(is_path)
            .partition(|put| put.after.is_some());
        // First what goes: a value may stand where fields of an object come.
        for put in gone {
            remove(&mut self.fields, &put.path);
        }
        for Put { path, after } in puts {
            if let Some(after) = after {
                self.admit(path.len(), &after)?;
                self.unmeasured_bytes += path.iter().map(String::len).sum::<usize>();
                Field(path).put(&mut self.fields, after);
            }
        }
        self.check_size()
    }
}

/// Takes a field away, and what holds nothing any more without it.
fn remove(within: &mut Map<String, Value>, path: &[String]) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    let is_empty = match within.get_mut(name) {
        Some(Value::Object(inner)) if !rest.is_empty() => {
            remove(inner, rest);
            inner.is_empty()
        }
        _ => rest.is_empty(),
    };
    if is_empty {
        within.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::difference::between;
    use super::*;

    fn state() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!({})),
            Just(json!([1, {"a": 2}])),
            (0..3).prop_map(|n| json!(n)),
        ];
        let name = prop_oneof![Just("a"), Just("b"), Just("c.d"), Just("")];
        let name = name.prop_map(str::to_owned);
        let tree = leaf.prop_recursive(3, 12, 3, move |inner| {
            let members = prop::collection::btree_map(name.clone(), inner, 0..4);
            members.prop_map(|members| Value::Object(members.into_iter().collect()))
        });
        prop::collection::btree_map("[abc]", tree, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    fn fields(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    proptest! {
        #[test]
        fn a_difference_made_into_a_correction_makes_the_other_state(
            before in state(),
            after in state(),
        ) {
            let changes = between(&fields(&before), &fields(&after));
            let event = event("c1".into(), changes, vec![1], vec![]);
            let mut state = State {
                fields: fields(&before),
                unmeasured_bytes: 0,
            };
            state.correct(&event).unwrap();
            prop_assert_eq!(state.to_value(), after);
        }
    }

    /// A state may nest as deep as this, and what is in it may be corrected.
    #[test]
    fn the_deepest_field_is_corrected() {
        let deepest = vec!["a".to_owned(); limits::NESTING_DEPTH];
        let change = Change {
            path: deepest,
            before: None,
            after: Some(json!(1)),
        };
        let event = event("c".into(), vec![change], vec![], vec![]);
        let mut state = State::default();
        state.correct(&event).unwrap();
        let deep = (0..limits::NESTING_DEPTH).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert_eq!(state.to_value(), deep);
    }

    #[test]
    fn data_of_another_shape_change_nothing() {
        for data in [
            "7",
            "[]",
            r#"{"changes":[{"path":"a"}]}"#,
            r#"{"changes":[{"path":[]}]}"#,
            "{",
        ] {
            let event = Event {
                kind: CORRECTION.to_owned(),
                data: Data::Json(data.into()),
                ..Event::default()
            };
            let mut state = State {
                fields: fields(&json!({"a": 1})),
                unmeasured_bytes: 0,
            };
            state.correct(&event).unwrap();
            assert_eq!(state.to_value(), json!({"a": 1}), "{data}");
        }
        let deep = vec!["a".to_owned(); 10_000];
        let event = event(
            "c".into(),
            vec![Change {
                path: deep,
                before: None,
                after: Some(json!(1)),
            }],
            vec![],
            vec![],
        );
        let mut state = State::default();
        state.correct(&event).unwrap();
        assert_eq!(state.to_value(), json!({}));
    }
}
