//! Which fields an event may change, so that what it did change is found without a look at the
//! whole state.

use serde_json::{Map, Value};

use super::difference::{Change, compare};
use super::template::{Facts, Template};
use super::{Fold, Operation, State};
use crate::broker::StreamEvent;
use crate::error::Result;

type Path = Vec<String>;

impl Fold {
    /// Folds one event in, as [`Fold::apply`], and tells what that changed.
    pub fn apply_and_tell(&self, state: &mut State, event: &StreamEvent) -> Result<Vec<Change>> {
        let touched = self.touches(event)?;
        let before: Vec<(Path, Option<Value>)> = outermost(touched, &state.fields)
            .into_iter()
            .map(|path| {
                let value = at(&state.fields, &path).cloned();
                (path, value)
            })
            .collect();
        self.apply(state, event)?;
        let mut changes = Vec::new();
        for (mut path, before) in before {
            changes.extend(emptied(&path, &state.fields));
            let after = at(&state.fields, &path);
            compare(&mut path, before.as_ref(), after, &mut changes);
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        changes.dedup_by(|a, b| a.path == b.path);
        Ok(changes)
    }

    fn touches(&self, event: &StreamEvent) -> Result<Vec<Path>> {
        let facts = Facts::new(event);
        let mut touched = Vec::new();
        for operation in self.operations(event) {
            operation.touches(&facts, &mut touched)?;
        }
        Ok(touched)
    }
}

impl Operation {
    fn touches(&self, facts: &Facts<'_>, touched: &mut Vec<Path>) -> Result<()> {
        let mut below = |path: &Path, template: &Template| {
            template.fill(facts).map(|value| {
                leaves(&mut path.clone(), value.as_ref(), touched);
            })
        };
        match self {
            Self::Merge(template) => below(&Vec::new(), template)?,
            Self::Add(fields) => {
                for (field, template) in fields {
                    below(&field.0, template)?;
                }
            }
            Self::Set(fields) | Self::Append(fields) | Self::RemoveFrom(fields) => {
                touched.extend(fields.iter().map(|(field, _)| field.0.clone()));
            }
            Self::Remove(fields) => touched.extend(fields.iter().map(|field| field.0.clone())),
        }
        Ok(())
    }
}

/// The paths to the plain values in `value`.
fn leaves(path: &mut Path, value: Option<&Value>, found: &mut Vec<Path>) {
    match value {
        None => {}
        Some(Value::Object(members)) if !members.is_empty() => {
            for (name, member) in members {
                path.push(name.clone());
                leaves(path, Some(member), found);
                path.pop();
            }
        }
        // What is merged and is no object changes nothing.
        Some(_) if path.is_empty() => {}
        Some(_) => found.push(path.clone()),
    }
}

/// Sorted, each cut off where a plain value stands in its way, and none within another.
fn outermost(mut paths: Vec<Path>, fields: &Map<String, Value>) -> Vec<Path> {
    for path in &mut paths {
        let depth = object_depth(path, fields);
        // What is missing altogether stays whole: it is made name by name.
        if at(fields, &path[..depth]).is_some() {
            path.truncate(depth);
        }
    }
    paths.sort();
    let mut kept: Vec<Path> = Vec::with_capacity(paths.len());
    for path in paths {
        if !kept.last().is_some_and(|outer| path.starts_with(outer)) {
            kept.push(path);
        }
    }
    kept
}

/// How many names of `path` lead to the first value that is no object with members, or nowhere.
fn object_depth(path: &[String], fields: &Map<String, Value>) -> usize {
    let mut within = fields;
    for (depth, name) in path.iter().enumerate() {
        within = match within.get(name) {
            Some(Value::Object(members)) if !members.is_empty() => members,
            _ => return depth + 1,
        };
    }
    path.len()
}

/// The object above `path` that has nothing in it any more: it is a value of its own now.
fn emptied(path: &[String], fields: &Map<String, Value>) -> Option<Change> {
    let depth = object_depth(path, fields);
    let after = at(fields, &path[..depth])
        .filter(|after| depth < path.len() && after.as_object().is_some_and(Map::is_empty))?;
    Some(Change {
        path: path[..depth].to_vec(),
        before: None,
        after: Some(after.clone()),
    })
}

fn at<'a>(fields: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(fields.get(first)?, |value, name| value.get(name))
}
