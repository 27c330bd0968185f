//! What holds for a stream as a whole: what readers see of it, and whether anything may come behind.
//!
//! It lies in the store as everything does: as events of a stream beside, `$$order-17` for `order-17`, of which
//! the last one counts. So it is as durable and ordered as what it is about, whoever asks can see who
//! changed it and when, and the index finds it like any stream. Nothing is taken out of the log: readers of
//! the stream do not see what is truncated, readers of the whole store do.

use mente_engine::{Data, Event, Record, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use crate::planted::{Planted, planted};

/// The type of the events that hold it.
pub const METADATA: &str = "Mente.StreamMetadata";

/// Of one stream; the default holds for streams that nothing was said of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Readers see the events from this revision on. A stream of no more events than this is deleted:
    /// it is not there until the next event comes, whose revision is the next all the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub truncate_before: u64,
    /// Readers see so many of the last events; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_count: Option<u64>,
    /// Readers see events that were appended at most so many seconds ago; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    /// Nothing is ever appended or read any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tombstone: bool,
    /// Of whoever uses the stream; Mente does not look at it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub custom: Map<String, Value>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Metadata {
    /// Refuses what would mean nothing.
    pub fn validate(&self) -> Result<()> {
        if self.max_count == Some(0) || self.max_age_seconds == Some(0) {
            let message =
                "maxCount and maxAgeSeconds are 1 at least: to show nothing, delete the stream";
            return Err(Error::invalid(message));
        }
        let size = self.to_json().len();
        if size > limits::DEFINITION_BYTES {
            let message = format!(
                "the metadata have {size} bytes, more than the limit of {}",
                limits::DEFINITION_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(())
    }

    /// Whether readers may see less than everything, or nothing.
    pub(crate) fn hides(&self) -> bool {
        if planted(Planted::ShowTruncated) {
            return false;
        }
        self.tombstone
            || self.truncate_before > 0
            || self.max_count.is_some()
            || self.max_age_seconds.is_some()
    }

    /// Of events up to revision `end` the first one that readers see, whatever its age.
    pub(crate) fn first(&self, end: u64) -> u64 {
        let counted = self.max_count.map_or(0, |max| end.saturating_sub(max));
        self.truncate_before.max(counted)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The event that says so, of this id.
    pub(crate) fn event(&self, id: String, of: &StreamName) -> Event {
        Event {
            id,
            source: "/mente".to_owned(),
            kind: METADATA.to_owned(),
            subject: Some(of.as_str().to_owned()),
            datacontenttype: Some("application/json".to_owned()),
            data: Data::Json(self.to_json().into()),
            ..Event::default()
        }
    }

    /// What a record of a stream of metadata says.
    fn of_record(record: &Record) -> Result<Self, String> {
        let value = record.value.as_deref().unwrap_or_default();
        serde_json::from_slice(value).map_err(|error| format!("no metadata: {error}"))
    }

    /// The same without what Mente does not look at.
    pub(super) fn rules_of(record: &Record) -> Result<Self, String> {
        Ok(Self {
            custom: Map::new(),
            ..Self::of_record(record)?
        })
    }

    /// What an event of a stream of metadata says.
    pub(crate) fn of_event(event: &Event) -> Result<Self> {
        let Data::Json(json) = &event.data else {
            return Err(Error::new(Kind::Corrupt, "metadata that are not JSON"));
        };
        serde_json::from_slice(json)
            .map_err(|error| Error::new(Kind::Corrupt, format!("no metadata: {error}")))
    }
}

pub(crate) fn is_tombstone(stream: &StreamName) -> Error {
    let message = format!("stream {stream} is deleted for good: choose another name");
    Error::new(Kind::Deleted, message)
}
