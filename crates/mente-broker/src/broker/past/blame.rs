//! Which event gave each field of a state its value.

use std::collections::BTreeMap;
use std::sync::Arc;

use mente_engine::limits;
use serde_json::Value;

use super::{Blamed, Cause};
use crate::broker::StreamEvent;
use crate::error::{Error, Kind, Result};
use crate::fold::difference::Change;
use crate::fold::size_bytes;
use crate::name::StreamName;

/// Fields and what last changed them.
#[derive(Default)]
pub(super) struct Fields {
    /// The only ones that are told: this one, written with dots, and those below it.
    within: Option<String>,
    blamed: BTreeMap<Vec<String>, (Option<Value>, Arc<Cause>)>,
}

impl Fields {
    pub(super) fn within(field: Option<&str>) -> Self {
        Self {
            within: field.map(str::to_owned),
            blamed: BTreeMap::new(),
        }
    }

    /// A field that is gone stays only if it was asked for.
    pub(super) fn take(&mut self, event: &StreamEvent, changes: Vec<Change>) {
        let by = Arc::new(Cause::of(event));
        let within = self.within.as_deref();
        for change in changes {
            if within.is_some_and(|field| !is_within(&change.path, field)) {
                continue;
            }
            if change.after.is_none() && within.is_none() {
                self.blamed.remove(&change.path);
            } else {
                let by = Arc::clone(&by);
                self.blamed.insert(change.path, (change.after, by));
            }
        }
    }

    /// Refuses an answer that is too large, every field with its cause beside it.
    pub(super) fn check(&self, stream: &StreamName) -> Result<()> {
        let field = |(path, (value, by)): (&Vec<String>, &(Option<Value>, Arc<Cause>))| {
            let names: usize = path.iter().map(|name| name.len() + 3).sum();
            let value = value.as_ref().map_or(0, size_bytes);
            names + value + by.id.len() + by.kind.len() + by.time.len() + 80
        };
        if self.blamed.iter().map(field).sum::<usize>() <= limits::BLAME_BYTES {
            return Ok(());
        }
        let message = format!(
            "the fields of stream {stream} and what changed them are more than {} bytes: name a field, or an earlier revision",
            limits::BLAME_BYTES
        );
        Err(Error::new(Kind::TooLarge, message))
    }

    pub(super) fn told(self) -> Vec<Blamed> {
        let told = |(path, (value, by))| Blamed { path, value, by };
        self.blamed.into_iter().map(told).collect()
    }
}

/// Whether a path, written with dots, is `field` or lies below it.
fn is_within(path: &[String], field: &str) -> bool {
    let mut rest = field;
    for name in path {
        match rest.strip_prefix(name.as_str()) {
            Some("") => return true,
            Some(left) => match left.strip_prefix('.') {
                Some(left) => rest = left,
                None => return false,
            },
            None => return false,
        }
    }
    false
}
