//! CloudEvents 1.0.2: structured JSON, batches, and HTTP binary mode.
//!
//! `data` is kept byte for byte and, where the input allows, as a slice of it. An event that
//! is read here has passed [`Event::validate`]; its `key` is for the door to set
//! ([`Event::place`]), and no form written here carries it.
//!
//! Three differences do not survive a form that has no words for them:
//! - binary mode knows no types: an integer extension comes back as its text;
//! - binary mode has one empty body: no data with a content type comes back as empty data, and
//!   empty data without a content type as no data;
//! - white space around a JSON value is not part of `data` in a structured event.

mod binary;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use mente_engine::{Attribute, Event, InvalidEvent};

pub(crate) use binary::content_type;
pub use binary::{Binary, from_binary, to_binary};
pub use read::{parse_batch, parse_event};
pub use write::{write_batch, write_event};

pub const STRUCTURED: &str = "application/cloudevents+json";
pub const BATCH: &str = "application/cloudevents-batch+json";

/// What these formats say of themselves; an extension never writes over it.
const OWN_NAMES: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "data_base64",
];

/// How a message carries events (HTTP binding §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Binary,
    Structured,
    Batch,
}

/// Input that is no CloudEvent, in words for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Which event of a batch, counted from 0.
    pub event: Option<usize>,
    pub what: String,
}

impl Mode {
    /// The mode of a message of this content type; `None` is a CloudEvents format other than
    /// JSON, which nobody here can read (415).
    pub fn of(content_type: Option<&str>) -> Option<Self> {
        let media = media_type(content_type.unwrap_or_default());
        match media.as_str() {
            STRUCTURED => Some(Self::Structured),
            BATCH => Some(Self::Batch),
            other if is_cloudevents(other) => None,
            _ => Some(Self::Binary),
        }
    }
}

impl Malformed {
    /// Input may be quoted in `what`, so its length is bounded.
    pub(crate) fn new(event: Option<usize>, mut what: String) -> Self {
        const WHAT_BYTES: usize = 400;
        what.truncate(what.floor_char_boundary(WHAT_BYTES));
        Self { event, what }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Some(index) => write!(f, "event {index}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Malformed {}

/// What an event must be like to be one. How large it may be is for its taker to say, who can
/// tell an event that is too large from a wrong one.
fn check(event: &Event) -> Result<(), String> {
    match event.validate() {
        Err(InvalidEvent::Broken(what)) => Err(what),
        Ok(()) | Err(InvalidEvent::TooLarge { .. }) => Ok(()),
    }
}

fn media_type(content_type: &str) -> String {
    let media = content_type.split(';').next().unwrap_or_default();
    media.trim().to_ascii_lowercase()
}

/// Every format of CloudEvents begins so, batches included.
fn is_cloudevents(content_type: &str) -> bool {
    media_type(content_type).starts_with("application/cloudevents")
}

/// The extensions of an event that can be written: a record that others wrote may repeat names
/// or use ours, and a message that says one thing twice is refused by its readers.
fn extensions(event: &Event) -> impl Iterator<Item = (&str, &Attribute)> {
    let mut written = BTreeSet::new();
    event.extensions.iter().filter_map(move |(name, value)| {
        let folded = name.to_ascii_lowercase();
        let free = !name.is_empty() && !OWN_NAMES.contains(&folded.as_str());
        (free && written.insert(folded)).then_some((name.as_str(), value))
    })
}
