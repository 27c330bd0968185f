//! What rules ask of an event, and change in a copy of it. The broker knows what an event says itself; doors know more of
//! events that came through them, and hand that in ([`Options::properties`](crate::Options)).

use std::fmt::Debug;

use mente_engine::{Attribute, Event};
use uuid::Uuid;

use crate::identity;
use crate::rule::{EvaluationError, Message, Rule, Value, same_name};

/// What is known of the properties of events.
pub trait Properties: Debug + Send + Sync {
    fn of<'a>(&self, event: &'a Event) -> Box<dyn Message + 'a>;

    /// Makes of an event what the subscription of this rule gets.
    fn change(&self, event: &mut Event, rule: &Rule) -> Result<(), EvaluationError>;
}

/// Nothing but what the event says itself: its extension attributes are properties of the user.
#[derive(Clone, Copy, Debug)]
pub struct Natural;

#[derive(Debug)]
struct NaturalMessage<'a>(&'a Event);

impl Properties for Natural {
    fn of<'a>(&self, event: &'a Event) -> Box<dyn Message + 'a> {
        Box::new(NaturalMessage(event))
    }

    fn change(&self, event: &mut Event, rule: &Rule) -> Result<(), EvaluationError> {
        let name = Attribute::Text(rule.name.clone());
        event.extensions.push(("rulename".to_owned(), name));
        Ok(())
    }
}

impl Message for NaturalMessage<'_> {
    fn system(&self, name: &str) -> Option<Option<Value<'_>>> {
        natural_system(self.0, name)
    }

    fn user(&self, name: &str) -> Option<Value<'_>> {
        let known = self.0.extensions.iter();
        let (_, value) = known
            .into_iter()
            .find(|(known, _)| same_name(known, name))?;
        Some(match value {
            Attribute::Text(text) => Value::from(text.as_str()),
            Attribute::Integer(number) => Value::Long((*number).into()),
            Attribute::Boolean(flag) => Value::Boolean(*flag),
        })
    }

    fn new_id(&self) -> Uuid {
        new_id(self.0)
    }
}

/// The system properties that any event has.
pub fn natural_system<'a>(event: &'a Event, name: &str) -> Option<Option<Value<'a>>> {
    let text = |text: &'a Option<String>| text.as_deref().map(Value::from);
    Some(match () {
        () if same_name(name, "MessageId") => Some(Value::from(event.id.as_str())),
        () if same_name(name, "Label") || same_name(name, "Subject") => text(&event.subject),
        () if same_name(name, "ContentType") => text(&event.datacontenttype),
        () if same_name(name, "CorrelationId") => {
            let id = event.extension("correlationid");
            id.map(|id| Value::from(id.to_text()))
        }
        () if same_name(name, "SessionId") || same_name(name, "PartitionKey") => {
            let key = event.key.as_deref();
            key.and_then(|key| std::str::from_utf8(key).ok())
                .map(Value::from)
        }
        () if ["To", "ReplyTo", "ReplyToSessionId", "TimeToLive"]
            .iter()
            .any(|known| same_name(name, known)) =>
        {
            None
        }
        () if [
            "EnqueuedTimeUtc",
            "ScheduledEnqueueTimeUtc",
            "SequenceNumber",
            "DeliveryCount",
        ]
        .iter()
        .any(|known| same_name(name, known)) =>
        {
            None
        }
        () => return None,
    })
}

/// Of the event, so that what is decided again is decided the same.
pub fn new_id(event: &Event) -> Uuid {
    identity::derived_uuid(&["rule", &event.source, &event.id])
}
