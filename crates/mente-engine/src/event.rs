//! One event, as every door sees it: CloudEvents attributes around a value.
//!
//! How it lies in a record is in `envelope.rs`; how it looks on a wire is the wire's business.

use bytes::Bytes;

use crate::{Shown, limits};

/// A CloudEvents 1.0 event and the key that places it in a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: String,
    pub source: String,
    /// The attribute `type`.
    pub kind: String,
    pub subject: Option<String>,
    /// RFC 3339, kept as it was written.
    pub time: Option<String>,
    pub datacontenttype: Option<String>,
    pub dataschema: Option<String>,
    /// Extension attributes in the order they came.
    pub extensions: Vec<(String, Attribute)>,
    pub data: Data,
    /// Records with one key keep their order. From `partitionkey`, else the subject.
    pub key: Option<Bytes>,
    /// What only the door that it came through can say of it, in that door's own form. It is kept with the
    /// event in logs; no other door shows it, and whoever can write records can write one.
    pub rest: Option<Bytes>,
}

/// The value of an extension attribute. CloudEvents' other types (binary, URI, timestamp) are
/// told apart by no JSON form, so they are text here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    Text(String),
    Integer(i32),
    Boolean(bool),
}

/// The payload, byte for byte. No data, empty data and JSON `null` are three things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    #[default]
    None,
    /// One JSON value as it was written, never parsed and printed again.
    Json(Bytes),
    /// A string of a content type that is not JSON; valid UTF-8.
    Text(Bytes),
    Binary(Bytes),
}

/// What an event breaks, in words for its sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    #[error("{0}")]
    Broken(String),
    #[error(
        "the event has {size} bytes, more than the limit of {}",
        limits::EVENT_BYTES
    )]
    TooLarge { size: usize },
}

impl Attribute {
    /// CloudEvents' canonical string form.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(integer) => integer.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
        }
    }
}

impl Data {
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::None => None,
            Self::Json(bytes) | Self::Text(bytes) | Self::Binary(bytes) => Some(bytes),
        }
    }

    /// Sorts bytes of a declared content type by what they can be.
    pub fn of(bytes: Bytes, datacontenttype: Option<&str>) -> Self {
        match datacontenttype {
            Some(declared) if is_json(declared) => Self::Json(bytes),
            Some(declared) if is_text(declared) && std::str::from_utf8(&bytes).is_ok() => {
                Self::Text(bytes)
            }
            _ => Self::Binary(bytes),
        }
    }
}

impl Event {
    pub fn extension(&self, name: &str) -> Option<&Attribute> {
        self.extensions
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }

    /// Bytes of attribute values, extension names, data and rest: what [`limits::EVENT_BYTES`] bounds.
    pub fn size_bytes(&self) -> usize {
        let required = self.id.len() + self.source.len() + self.kind.len();
        let optional = [
            &self.subject,
            &self.time,
            &self.datacontenttype,
            &self.dataschema,
        ];
        let optional: usize = optional.into_iter().flatten().map(String::len).sum();
        let extensions = self.extensions.iter().map(|(name, value)| {
            name.len()
                + match value {
                    Attribute::Text(text) => text.len(),
                    Attribute::Integer(_) | Attribute::Boolean(_) => size_of::<i32>(),
                }
        });
        let data = self.data.bytes().map_or(0, Bytes::len);
        let rest = self.rest.as_ref().map_or(0, Bytes::len);
        required + optional + extensions.sum::<usize>() + data + rest
    }

    /// Sets the key from `partitionkey`, else the subject, unless a door has set one.
    pub fn place(&mut self) {
        if self.key.is_none() {
            let chosen = self.extension("partitionkey").map(Attribute::to_text);
            let chosen = chosen.or_else(|| self.subject.clone());
            self.key = chosen.map(|text| Bytes::from(text.into_bytes()));
        }
    }

    /// Checks names, required attributes and sizes (CloudEvents 1.0.2 §3).
    pub fn validate(&self) -> Result<(), InvalidEvent> {
        for (name, value) in [
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.kind),
        ] {
            if value.is_empty() {
                return Err(InvalidEvent::Broken(format!(
                    "the required attribute {name} is missing or empty"
                )));
            }
            check_value(name, value)?;
        }
        let optional = [
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.datacontenttype),
            ("dataschema", &self.dataschema),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                check_value(name, value)?;
            }
        }
        for (name, value) in &self.extensions {
            check_name(name)?;
            if let Attribute::Text(text) = value {
                check_value(name, text)?;
            }
        }
        if self.extensions.len() > limits::HEADERS_PER_RECORD - 16 {
            return Err(InvalidEvent::Broken(format!(
                "{} extension attributes are too many",
                self.extensions.len()
            )));
        }
        let size = self.size_bytes();
        if size > limits::EVENT_BYTES {
            return Err(InvalidEvent::TooLarge { size });
        }
        Ok(())
    }
}

/// `*/json`, `*/*+json`, with or without parameters, in any case (CloudEvents JSON format §3.1).
pub fn is_json(content_type: &str) -> bool {
    let media = media_type(content_type);
    let sub = media.rsplit_once('/').map(|(_, sub)| sub);
    sub.is_some_and(|sub| sub.eq_ignore_ascii_case("json") || ends_with(sub, "+json"))
}

fn is_text(content_type: &str) -> bool {
    let media = media_type(content_type);
    let begin = media.as_bytes().first_chunk::<5>();
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(b"text/"))
        || ends_with(media, "/xml")
        || ends_with(media, "+xml")
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// In any case.
fn ends_with(media: &str, end: &str) -> bool {
    let from = media.len().checked_sub(end.len());
    let last = from.and_then(|from| media.as_bytes().get(from..));
    last.is_some_and(|last| last.eq_ignore_ascii_case(end.as_bytes()))
}

/// Whether a text has a control character, which no attribute may have (CloudEvents 1.0.2 §3.1).
pub fn has_control(text: &str) -> bool {
    // Most are of ASCII, and need not be looked at character by character.
    let is_plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    !is_plain && text.chars().any(char::is_control)
}

fn check_name(name: &str) -> Result<(), InvalidEvent> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain && !name.is_empty() && name.len() <= limits::ATTRIBUTE_NAME_BYTES && name != "data" {
        return Ok(());
    }
    Err(InvalidEvent::Broken(format!(
        "extension name {} must be 1 to {} lower-case letters and digits",
        Shown(name),
        limits::ATTRIBUTE_NAME_BYTES
    )))
}

fn check_value(name: &str, value: &str) -> Result<(), InvalidEvent> {
    if value.len() > limits::ATTRIBUTE_VALUE_BYTES {
        return Err(InvalidEvent::Broken(format!(
            "attribute {name} has {} bytes, more than the limit of {}",
            value.len(),
            limits::ATTRIBUTE_VALUE_BYTES
        )));
    }
    if has_control(value) {
        return Err(InvalidEvent::Broken(format!(
            "attribute {name} has a control character"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_its_media_type() {
        for json in [
            "application/json",
            "text/JSON; charset=utf-8",
            "application/vnd.x+json",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in ["application/jsonx", "json", "text/plain", "application/xml"] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn the_key_comes_from_the_door_then_partitionkey_then_subject() {
        let mut event = Event {
            subject: Some("s".into()),
            ..Event::default()
        };
        event.place();
        assert_eq!(event.key.as_deref(), Some(&b"s"[..]));
        let mut event = Event {
            subject: Some("s".into()),
            ..Event::default()
        };
        event
            .extensions
            .push(("partitionkey".into(), Attribute::Text("p".into())));
        event.place();
        assert_eq!(event.key.as_deref(), Some(&b"p"[..]));
    }
}
