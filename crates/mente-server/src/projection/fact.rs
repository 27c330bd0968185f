//! An event as the statements of a projection see it, and batches of them.

use mente_broker::{StoredEvent, StreamEvent};
use mente_engine::{Event, Offset, Timestamp};
use rusqlite::Statement;

use super::declaration::Parameter;

#[derive(Debug)]
pub(super) struct Fact {
    pub(super) partition: u32,
    pub(super) offset: Offset,
    time: Timestamp,
    pub(super) event: Event,
    /// Only events of the store have one.
    stream: Option<InStream>,
}

#[derive(Debug)]
struct InStream {
    name: String,
    revision: u64,
    position: u64,
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
    /// Leaves what lies below `end`.
    pub(super) fn truncate(&mut self, end: u64) {
        if self.next > end {
            self.facts.retain(|fact| fact.offset.0 < end);
            self.next = end;
        }
    }
}

impl Fact {
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

impl From<StoredEvent> for Fact {
    fn from(stored: StoredEvent) -> Self {
        Self {
            partition: stored.position.partition,
            offset: stored.position.offset,
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
