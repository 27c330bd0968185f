//! What rules see of a message that came through this door, and how they change the copy of one. What came through
//! other doors is seen as the broker sees it; its copy is changed as the message that clients get of it.

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::time::Duration;

use mente_broker::properties::{Natural, Properties, natural_system, new_id};
use mente_broker::rule::{ChangedMessage, EvaluationError, Message, Rule, Value, same_name};
use mente_engine::{Event, Timestamp};
use mente_wire::amqp::event::Kept;
use mente_wire::amqp::message::MessageId;
use mente_wire::amqp::value::Symbol;
use mente_wire::amqp::{self, Uuid as WireUuid};
use uuid::Uuid;

/// Ticks of .NET, of 100 ns each.
const TICKS_PER_MS: i64 = 10_000;
/// From the year 1, where .NET begins, to 1970.
const YEAR_1_MS: i64 = -62_135_596_800_000;
const TIMESPAN: &str = "com.microsoft:timespan";
const DATETIME_OFFSET: &str = "com.microsoft:datetime-offset";
const URI: &str = "com.microsoft:uri";

/// What the broker says of a message, and no rule can know when it arrives.
const OF_THE_BROKER: &[&str] = &[
    "DeadLetterSource",
    "DeliveryCount",
    "EnqueuedSequenceNumber",
    "EnqueuedTimeUtc",
    "ExpiresAtUtc",
    "LockedUntilUtc",
    "LockToken",
    "SequenceNumber",
    "Size",
    "State",
];

/// To be handed to the broker.
#[derive(Clone, Copy, Debug)]
pub struct OfMessages;

/// Nothing is read before somebody asks: most subscriptions have one rule that takes everything.
struct Seen<'a> {
    event: &'a Event,
    kept: OnceCell<Option<Kept>>,
}

/// A copy that is changed.
struct Copy<'a> {
    event: &'a Event,
    kept: Kept,
}

impl Properties for OfMessages {
    fn of<'a>(&self, event: &'a Event) -> Box<dyn Message + 'a> {
        match event.rest {
            Some(_) => Box::new(Seen {
                event,
                kept: OnceCell::new(),
            }),
            None => Natural.of(event),
        }
    }

    /// At an error the event is as it was.
    fn change(&self, event: &mut Event, rule: &Rule) -> Result<(), EvaluationError> {
        let mut copy = Copy {
            event,
            kept: Kept::of_any(event),
        };
        rule.change(&mut copy)?;
        let kept = copy.kept;
        kept.put_into(event);
        Ok(())
    }
}

impl Seen<'_> {
    fn kept(&self) -> Option<&Kept> {
        self.kept.get_or_init(|| Kept::of(self.event)).as_ref()
    }
}

impl Message for Seen<'_> {
    fn system(&self, name: &str) -> Option<Option<Value<'_>>> {
        match self.kept() {
            Some(kept) => system(self.event, kept, name),
            None => natural_system(self.event, name),
        }
    }

    fn user(&self, name: &str) -> Option<Value<'_>> {
        match self.kept() {
            Some(kept) => user(kept, name),
            // A rest that nobody here wrote.
            None => Natural.of(self.event).user(name).map(Value::into_owned),
        }
    }

    fn new_id(&self) -> Uuid {
        new_id(self.event)
    }
}

impl Message for Copy<'_> {
    fn system(&self, name: &str) -> Option<Option<Value<'_>>> {
        system(self.event, &self.kept, name)
    }

    fn user(&self, name: &str) -> Option<Value<'_>> {
        user(&self.kept, name)
    }

    fn new_id(&self) -> Uuid {
        new_id(self.event)
    }
}

impl ChangedMessage for Copy<'_> {
    /// Those that a rule cannot change are refused where it is made (`rules.rs`).
    fn set_system(&mut self, name: &str, value: Option<Value<'static>>) {
        let text = match &value {
            Some(Value::Text(text)) => Some(&**text),
            _ => None,
        };
        let id = text.map(|text| MessageId::String(text.into()));
        let properties = self.kept.properties_mut();
        match name {
            "ContentType" => {
                let ascii = text.map(|text| bytes::Bytes::copy_from_slice(text.as_bytes()));
                properties.content_type = ascii.and_then(Symbol::from_ascii);
            }
            "CorrelationId" => properties.correlation_id = id,
            "Label" => properties.subject = text.map(Into::into),
            "MessageId" => properties.message_id = id,
            "ReplyTo" => properties.reply_to = text.map(Into::into),
            "ReplyToSessionId" => properties.reply_to_group_id = text.map(Into::into),
            "To" => properties.to = text.map(Into::into),
            "PartitionKey" => self.kept.set_partition_key(text),
            "ViaPartitionKey" => self.kept.set_via_partition_key(text),
            _ => {}
        }
    }

    fn set_user(&mut self, name: &str, value: Option<Value<'static>>) {
        let value = value.map(|value| to_wire(&value));
        self.kept
            .set_sent(name, value, |known| same_name(known, name));
    }
}

fn system<'a>(event: &'a Event, kept: &'a Kept, name: &str) -> Option<Option<Value<'a>>> {
    let properties = kept.properties();
    let text = |text: &'a Option<amqp::value::Text>| text.as_ref().map(|t| Value::from(t.as_str()));
    let is = |known: &str| same_name(name, known);
    Some(match () {
        () if is("MessageId") => {
            let own = kept.message_id().filter(|id| !id.is_empty());
            Some(own.map_or_else(|| Value::from(event.id.as_str()), Value::from))
        }
        () if is("CorrelationId") => kept.correlation_id().map(Value::from),
        () if is("Label") || is("Subject") => text(&properties.subject),
        () if is("ContentType") => {
            let declared = properties.content_type.as_ref();
            declared.map(|declared| Value::from(declared.as_str()))
        }
        () if is("To") => text(&properties.to),
        () if is("ReplyTo") => text(&properties.reply_to),
        () if is("ReplyToSessionId") => text(&properties.reply_to_group_id),
        () if is("SessionId") => text(&properties.group_id),
        () if is("PartitionKey") => match kept.partition_key() {
            Some(key) => Some(Value::from(key)),
            None => text(&properties.group_id),
        },
        () if is("ViaPartitionKey") => kept.via_partition_key().map(Value::from),
        () if is("TimeToLive") => kept.time_to_live().map(duration),
        () if is("ScheduledEnqueueTimeUtc") => kept.scheduled().map(|at| Value::Moment(at.0)),
        () if OF_THE_BROKER.iter().any(|known| is(known)) => None,
        () => return None,
    })
}

fn user<'a>(kept: &'a Kept, name: &str) -> Option<Value<'a>> {
    let value = kept.sent(|known| same_name(known, name))?;
    Some(from_wire(value))
}

fn duration(length: Duration) -> Value<'static> {
    Value::Duration(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

/// Of what rules compute nothing with, lists and decimals among others, they see that it is there without a value.
pub(super) fn from_wire(value: &amqp::Value) -> Value<'_> {
    use amqp::Value as Wire;
    if let Some(number) = value.as_integer() {
        return i64::try_from(number).map_or(Value::Double(number as f64), Value::Long);
    }
    match value {
        Wire::Boolean(flag) => Value::Boolean(*flag),
        Wire::Float(bits) => Value::Double(f32::from_bits(*bits).into()),
        Wire::Double(bits) => Value::Double(f64::from_bits(*bits)),
        Wire::Char(letter) => Value::from(letter.to_string()),
        Wire::Timestamp(at) => Value::Moment(at.0),
        Wire::Uuid(WireUuid(bytes)) => Value::Guid(Uuid::from_bytes(*bytes)),
        Wire::Binary(bytes) => Value::Binary(bytes.as_ref().into()),
        Wire::String(text) => Value::from(text.as_str()),
        Wire::Symbol(text) => Value::from(text.as_str()),
        Wire::Described(described) => {
            let ticks = described.value.as_integer();
            let ms = ticks.and_then(|ticks| i64::try_from(ticks / i128::from(TICKS_PER_MS)).ok());
            match (described.descriptor.as_str(), ms) {
                (Some(TIMESPAN), Some(ms)) => Value::Duration(ms),
                (Some(DATETIME_OFFSET), Some(ms)) => Value::Moment(ms.saturating_add(YEAR_1_MS)),
                (Some(URI), _) => described.value.as_str().map_or(Value::Null, Value::from),
                _ => Value::Null,
            }
        }
        _ => Value::Null,
    }
}

pub(super) fn to_wire(value: &Value<'_>) -> amqp::Value {
    use amqp::Value as Wire;
    match value {
        Value::Null => Wire::Null,
        Value::Boolean(flag) => Wire::Boolean(*flag),
        Value::Int(number) => Wire::Int(*number),
        Value::Long(number) => Wire::Long(*number),
        Value::Double(number) => Wire::Double(number.to_bits()),
        Value::Text(text) => Wire::from(&**text),
        Value::Guid(id) => Wire::Uuid(WireUuid(id.into_bytes())),
        Value::Binary(bytes) => Wire::Binary(bytes::Bytes::copy_from_slice(bytes)),
        Value::Moment(at) => Wire::Timestamp(Timestamp(*at)),
        Value::Duration(ms) => {
            let ticks = ms.saturating_mul(TICKS_PER_MS);
            Wire::described(Symbol::from_static(TIMESPAN).into(), Wire::Long(ticks))
        }
    }
}
