//! One record of a log, read for the views.

use std::sync::OnceLock;

use mente_engine::{Event, LogId, Offset, Record, Timestamp};

use crate::filter::Filter;
use crate::queue::Arriving;
use crate::structured::{ParseEvent, binary_id, event_of};
use crate::terms::Terms;

/// Most views ask only where it lies, for its key and its terms: its event is made when one wants to see it.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub log: LogId,
    pub offset: Offset,
    pub time: Timestamp,
    /// What readers are told in its place, if that is something else.
    pub told: Option<Vec<Event>>,
    /// What readers are told is not known, since that failed.
    pub is_untold: bool,
    /// What the record says to queues.
    pub terms: Terms,
    record: Record,
    parse: ParseEvent,
    /// Aside, since few are made: there are many arrivals in a row.
    event: OnceLock<Box<Event>>,
}

impl Arrival {
    pub(crate) fn of(log: LogId, offset: Offset, record: Record, parse: ParseEvent) -> Self {
        Self {
            log,
            offset,
            time: record.timestamp,
            told: None,
            is_untold: false,
            terms: Terms::of(&record),
            record,
            parse,
            event: OnceLock::new(),
        }
    }

    /// As it was written.
    pub(crate) fn event(&self) -> &Event {
        self.event.get_or_init(|| {
            let event = event_of(&self.record, "", self.log.index, self.offset, self.parse);
            Box::new(event)
        })
    }

    /// With another event in the place of what was written.
    pub(crate) fn with(&self, event: Event) -> Self {
        Self {
            told: None,
            is_untold: false,
            event: OnceLock::from(Box::new(event)),
            ..self.clone()
        }
    }

    /// What filters see.
    pub(crate) fn seen_mut(&mut self) -> impl Iterator<Item = &mut Event> {
        self.event();
        let written = self.event.get_mut().map(|event| &mut **event).into_iter();
        written.chain(self.told.iter_mut().flatten())
    }

    /// Bytes of what only the door can read that the record came through.
    pub(super) fn rest_bytes(&self) -> usize {
        self.record.rest_bytes()
    }

    /// Whether a subscription with this filter gets anything of it.
    pub(super) fn is_wanted(&self, filter: Option<&Filter>) -> bool {
        let Some(filter) = filter else {
            return self.is_untold || self.told.as_ref().is_none_or(|told| !told.is_empty());
        };
        match &self.told {
            // It may be what the subscription wants: it is told again, or why not, when it is handed out.
            _ if self.is_untold => true,
            None => filter.matches(self.event()),
            Some(told) => told.iter().any(|event| filter.matches(event)),
        }
    }

    pub(super) fn arriving(&self, is_unanswered: bool) -> Arriving<'_> {
        let made = self.event.get();
        let id = binary_id(&self.record).filter(|_| made.is_none());
        Arriving {
            offset: self.offset,
            time: self.time,
            key: match made {
                Some(event) => event.key.as_deref(),
                None => self.record.key.as_deref(),
            },
            id: id.unwrap_or_else(|| &self.event().id),
            terms: &self.terms,
            is_unanswered,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mente_engine::SetId;

    use super::*;
    use crate::structured::no_format;

    #[test]
    fn a_record_is_known_by_the_same_id_and_key_whether_its_event_was_made_or_not() {
        let header = |name: &'static str, value: &'static [u8]| {
            let name = Bytes::from_static(name.as_bytes());
            (name, Some(Bytes::from_static(value)))
        };
        let version = || header("ce_specversion", b"1.0");
        let written = Event {
            id: "7".into(),
            key: Some(Bytes::from_static(b"k")),
            ..Event::default()
        };
        let of = |headers| Record {
            headers,
            ..Record::default()
        };
        let records = [
            written.to_record(Timestamp(1)),
            Record::default(),
            of(vec![
                version(),
                header("ce_id", b"a"),
                header("ce_id", b"b"),
            ]),
            of(vec![version(), header("ce_id", b"\xff")]),
            of(vec![version(), header("ce_id", b"")]),
            of(vec![version()]),
            of(vec![header("ce_id", b"a")]),
            of(vec![version(), (Bytes::from_static(b"ce_id"), None)]),
        ];
        for record in records {
            let log = SetId(1).log(0);
            let arrival = Arrival::of(log, Offset(5), record, no_format);
            let lazy = arrival.arriving(false);
            let (id, key) = (lazy.id.to_owned(), lazy.key.map(<[u8]>::to_vec));
            let event = arrival.event();
            assert_eq!(
                (id, key),
                (event.id.clone(), event.key.clone().map(Into::into))
            );
        }
    }
}
