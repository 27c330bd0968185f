//! An event as the statements of a projection see it, and batches of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mente_broker::{StoredEvent, StreamEvent};
use mente_engine::{Data, Event, Offset, Timestamp};
use rusqlite::Statement;
use serde_json::Value;

use super::declaration::Parameter;

#[derive(Debug)]
pub(super) struct Fact {
    pub(super) partition: u32,
    pub(super) offset: Offset,
    /// Which one it is of the events that its record is told as.
    pub(super) part: u32,
    pub(super) time: Timestamp,
    pub(super) event: Event,
    /// Only events of the store have one.
    pub(super) stream: Option<InStream>,
}

#[derive(Debug)]
pub(super) struct InStream {
    pub(super) name: String,
    pub(super) revision: u64,
    pub(super) position: u64,
}

/// What one read of a partition gave.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) partition: u32,
    pub(super) from: u64,
    /// Read on from here.
    pub(super) next: u64,
    pub(super) facts: Vec<Fact>,
}

impl Batch {
    /// Says of each event which one of its record it is.
    pub(super) fn number(&mut self) {
        let mut before: Option<(Offset, u32)> = None;
        for fact in &mut self.facts {
            fact.part = match before {
                Some((offset, part)) if offset == fact.offset => part + 1,
                _ => 0,
            };
            before = Some((fact.offset, fact.part));
        }
    }

    /// Leaves what lies below `end`.
    pub(super) fn truncate(&mut self, end: u64) {
        if self.next > end {
            self.facts.retain(|fact| fact.offset.0 < end);
            self.next = end;
        }
    }
}

impl Fact {
    /// Which of so many lanes folds it in: always the same one for one key.
    pub(super) fn lane(&self, count: u32) -> u32 {
        spread(&self.key()) % count
    }

    /// What it has an order with: the stream in the store. What has no key has an order only with
    /// what has none either.
    pub(super) fn key(&self) -> Vec<u8> {
        let stream = self.stream.as_ref().map(|stream| stream.name.as_bytes());
        let mut event = Event {
            key: self.event.key.clone(),
            subject: self.event.subject.clone(),
            extensions: self.event.extensions.clone(),
            ..Event::default()
        };
        event.place();
        let key = stream.or(event.key.as_deref());
        key.unwrap_or_default().to_vec()
    }

    /// What a program is told of where it lies, and of its time.
    pub(super) fn lies(&self) -> Vec<(&'static str, Value)> {
        let mut lies = Vec::with_capacity(4);
        if self.event.time.is_none() {
            lies.push(("time", Value::from(self.time.to_rfc3339())));
        }
        match &self.stream {
            Some(stream) => lies.extend([
                ("stream", Value::from(stream.name.as_str())),
                ("revision", Value::from(stream.revision)),
                ("position", Value::from(stream.position)),
            ]),
            None => lies.extend([
                ("partition", Value::from(self.partition)),
                ("offset", Value::from(self.offset.0)),
            ]),
        }
        lies
    }

    /// A parameter as PostgreSQL reads it. Data is JSON there: text that is none is a string of it,
    /// and bytes are a string with their base64.
    pub(super) fn text(&self, parameter: Parameter) -> Option<String> {
        let event = &self.event;
        let number =
            |of: &dyn Fn(&InStream) -> u64| self.stream.as_ref().map(|s| of(s).to_string());
        match parameter {
            Parameter::Id => Some(event.id.clone()),
            Parameter::Source => Some(event.source.clone()),
            Parameter::Type => Some(event.kind.clone()),
            Parameter::Subject => event.subject.clone(),
            Parameter::Time => {
                let own = event.time.clone();
                own.or_else(|| Some(self.time.to_rfc3339()))
            }
            Parameter::Data => match &event.data {
                Data::None => None,
                Data::Json(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                Data::Text(bytes) => Some(Value::from(String::from_utf8_lossy(bytes)).to_string()),
                Data::Binary(bytes) => Some(Value::from(STANDARD.encode(bytes)).to_string()),
            },
            Parameter::Partition => Some(self.partition.to_string()),
            Parameter::Offset => Some(self.offset.0.to_string()),
            Parameter::Position => number(&|s| s.position),
            Parameter::Revision => number(&|s| s.revision),
            Parameter::Stream => self.stream.as_ref().map(|stream| stream.name.clone()),
        }
    }

    pub(super) fn bind(
        &self,
        parameter: Parameter,
        index: usize,
        statement: &mut Statement<'_>,
    ) -> rusqlite::Result<()> {
        let event = &self.event;
        let number = |of: &dyn Fn(&InStream) -> u64| {
            self.stream.as_ref().map(|stream| of(stream).cast_signed())
        };
        match parameter {
            Parameter::Id => statement.raw_bind_parameter(index, &event.id),
            Parameter::Source => statement.raw_bind_parameter(index, &event.source),
            Parameter::Type => statement.raw_bind_parameter(index, &event.kind),
            Parameter::Subject => statement.raw_bind_parameter(index, &event.subject),
            Parameter::Time => match &event.time {
                Some(time) => statement.raw_bind_parameter(index, time),
                None => statement.raw_bind_parameter(index, self.time.to_rfc3339()),
            },
            Parameter::Data => {
                let bytes = event.data.bytes().map(|bytes| &bytes[..]);
                match bytes.map(std::str::from_utf8) {
                    Some(Ok(text)) => statement.raw_bind_parameter(index, text),
                    _ => statement.raw_bind_parameter(index, bytes),
                }
            }
            Parameter::Partition => statement.raw_bind_parameter(index, self.partition),
            Parameter::Offset => statement.raw_bind_parameter(index, self.offset.0.cast_signed()),
            Parameter::Position => statement.raw_bind_parameter(index, number(&|s| s.position)),
            Parameter::Revision => statement.raw_bind_parameter(index, number(&|s| s.revision)),
            Parameter::Stream => {
                let name = self.stream.as_ref().map(|stream| &stream.name);
                statement.raw_bind_parameter(index, name)
            }
        }
    }
}

/// FNV-1a, mixed once more since the last letters of a key hardly reach its upper half. Not the hash by
/// which keys are spread over partitions: the keys of one partition have much of that in common.
fn spread(key: &[u8]) -> u32 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, step);
    let mixed = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 32) as u32
}

impl From<StoredEvent> for Fact {
    fn from(stored: StoredEvent) -> Self {
        Self {
            partition: stored.position.partition,
            offset: stored.position.offset,
            part: 0,
            time: stored.time,
            event: stored.event,
            stream: None,
        }
    }
}

impl From<StreamEvent> for Fact {
    fn from(event: StreamEvent) -> Self {
        Self {
            partition: 0,
            offset: event.place.offset,
            part: 0,
            time: event.time,
            event: event.event,
            stream: Some(InStream {
                name: event.stream.as_str().to_owned(),
                revision: event.place.revision,
                position: event.place.position,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_alike_are_spread() {
        let mut lanes = [0; 4];
        for key in 0..400 {
            lanes[(spread(format!("order-{key}").as_bytes()) % 4) as usize] += 1;
        }
        assert!(
            lanes.iter().all(|&keys| (70..130).contains(&keys)),
            "{lanes:?}"
        );
    }
}
