//! What only a message says of an event, to be looked at and changed.

use std::time::Duration;

use mente_engine::{Attribute, Event, Timestamp};

use super::attributes::PREFIXES;
use super::rest::Rest;
use super::{PARTITION_KEY, SCHEDULED, Stamp, id_text, natural_event, time_to_live};
use crate::amqp::message::Properties;
use crate::amqp::value::{Map, Symbol, Value};

const VIA_PARTITION_KEY: &str = "x-opt-via-partition-key";

/// The properties of a message, of the application and others.
#[derive(Clone, Debug)]
pub struct Kept {
    rest: Rest,
    /// An event of another door, of which a message was made for this.
    is_strange: bool,
}

impl Kept {
    /// None if the event did not come as a message.
    pub fn of(event: &Event) -> Option<Self> {
        let rest = event.rest.as_ref().and_then(Rest::decode)?;
        Some(Self {
            rest,
            is_strange: false,
        })
    }

    /// As the message that clients get of it, where it did not come as one.
    pub fn of_any(event: &Event) -> Self {
        Self::of(event).unwrap_or_else(|| {
            let stamp = Stamp {
                has_sessions: true,
                ..Stamp::default()
            };
            Self {
                rest: Rest::of_stranger(event, &stamp),
                is_strange: true,
            }
        })
    }

    pub fn properties(&self) -> &Properties {
        &self.rest.properties
    }

    pub fn properties_mut(&mut self) -> &mut Properties {
        &mut self.rest.properties
    }

    pub fn correlation_id(&self) -> Option<String> {
        self.rest.properties.correlation_id.as_ref().map(id_text)
    }

    /// As text, whatever the id came as.
    pub fn message_id(&self) -> Option<String> {
        self.rest.properties.message_id.as_ref().map(id_text)
    }

    pub fn time_to_live(&self) -> Option<Duration> {
        time_to_live(&self.rest.header, &self.rest.properties)
    }

    pub fn partition_key(&self) -> Option<&str> {
        self.rest.annotations.get(PARTITION_KEY)?.as_str()
    }

    pub fn set_partition_key(&mut self, key: Option<&str>) {
        self.annotate(PARTITION_KEY, key);
    }

    pub fn via_partition_key(&self) -> Option<&str> {
        self.rest.annotations.get(VIA_PARTITION_KEY)?.as_str()
    }

    pub fn set_via_partition_key(&mut self, key: Option<&str>) {
        self.annotate(VIA_PARTITION_KEY, key);
    }

    pub fn scheduled(&self) -> Option<Timestamp> {
        match self.rest.annotations.get(SCHEDULED.as_str())? {
            Value::Timestamp(at) => Some(*at),
            _ => None,
        }
    }

    fn annotate(&mut self, name: &'static str, value: Option<&str>) {
        let annotations = &mut self.rest.annotations;
        match value {
            Some(value) => annotations.set(Symbol::from_static(name), value.into()),
            None => annotations
                .0
                .retain(|(known, _)| known.as_str() != Some(name)),
        }
    }

    /// A property of the application by the name that `is_it`; or else the attribute, which one of them says.
    pub fn sent(&self, is_it: impl Fn(&str) -> bool) -> Option<&Value> {
        place(&self.rest.sent, is_it).map(|at| &self.rest.sent.0[at].1)
    }

    /// Under the name of the one that is there, else under `name`; `None` takes it away.
    pub fn set_sent(&mut self, name: &str, value: Option<Value>, is_it: impl Fn(&str) -> bool) {
        let at = place(&self.rest.sent, is_it);
        let sent = &mut self.rest.sent.0;
        match (at, value) {
            (Some(at), Some(value)) => sent[at].1 = value,
            (Some(at), None) => drop(sent.remove(at)),
            (None, Some(value)) => sent.push((name.into(), value)),
            (None, None) => {}
        }
    }

    /// The event with all of this in place of what it said: its attributes follow, as those of a message that comes.
    /// What it has beside these stays.
    pub fn put_into(mut self, event: &mut Event) {
        let before = Self::of_any(event);
        let natural = |kept: &Self| {
            natural_event(&kept.rest.properties, &kept.rest.sent, "").unwrap_or_default()
        };
        let (was, is) = (natural(&before), natural(&self));
        // Of one whose attributes are in its body only what changes is another.
        if was.id != is.id && !is.id.is_empty() {
            event.id = is.id;
        }
        if was.subject != is.subject {
            event.subject = is.subject;
        }
        if was.datacontenttype != is.datacontenttype {
            event.datacontenttype = is.datacontenttype;
        }
        let is_in = |all: &[(String, Attribute)], one| all.contains(one);
        let (gone, come): (Vec<_>, Vec<_>) = (
            was.extensions
                .iter()
                .filter(|one| !is_in(&is.extensions, one))
                .collect(),
            is.extensions
                .iter()
                .filter(|one| !is_in(&was.extensions, one))
                .collect(),
        );
        let changes = |name: &String| gone.iter().chain(&come).any(|(changed, _)| changed == name);
        event.extensions.retain(|(name, _)| !changes(name));
        event.extensions.extend(come.into_iter().cloned());
        let group = &mut self.rest.properties.group_id;
        // Which session a stranger is in, its queue says.
        if self.is_strange && *group == before.rest.properties.group_id {
            *group = None;
        }
        event.rest = Some(self.rest.encode());
    }
}

fn place(sent: &Map, is_it: impl Fn(&str) -> bool) -> Option<usize> {
    let mut names = sent.0.iter().map(|(name, _)| name.as_str());
    let own = names.position(|name| name.is_some_and(&is_it));
    let is_attribute = |name: Option<&str>| {
        let bare = name.and_then(|name| PREFIXES.iter().find_map(|p| name.strip_prefix(p)));
        bare.is_some_and(&is_it)
    };
    own.or_else(|| {
        sent.0
            .iter()
            .position(|(name, _)| is_attribute(name.as_str()))
    })
}
