//! A message of Service Bus as an event, and back.
//!
//! What every door can say of a message becomes the event: `message-id` the id, `group-id` or else
//! `x-opt-partition-key` the key, `content-type` and `subject` the attributes of their names, a `correlation-id`
//! that is a text the extension `correlationid`, application properties `cloudEvents:*` (or `cloudEvents_*`)
//! attributes (the AMQP binding of CloudEvents), and the body the data. A message that says no type has
//! [`MESSAGE_TYPE`], one that says no source its entity.
//!
//! A message whose content type is `application/cloudevents+json` is the event that its body is (structured mode):
//! attributes and data are those of the body.
//!
//! All else is the event's rest (`rest.rs`), with which [`write`] makes the message again: its body by bytes
//! and kind, its properties by value and type. Events of other doors have no such rest, and are messages made of
//! their attributes.
//!
//! An event's id is the `message-id` even where `cloudEvents:id` is another one: duplicates of messages are
//! told by the former.

mod attributes;
mod body;
mod kept;
mod large;
mod rest;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mente_engine::event::has_control;
use mente_engine::{Attribute, Data, Event, Timestamp};

use self::attributes::{is_attribute, natural_attributes};
use self::body::{Form, enveloped};
pub use self::kept::Kept;
pub use self::large::{Packing, Unpacking};
use self::rest::{Annotations, Rest};
use super::error::{Malformed, condition};
use super::message::{Header, MapSection, Message, MessageId, Properties};
use super::value::{Map, Symbol, Text, Uuid, Value};
use super::{composite, decode, encode};

/// The type of an event that came as a message and says no type of its own.
pub const MESSAGE_TYPE: &str = "Mente.Message";

/// Longest message id, session id and partition key; Service Bus has the same bound.
const ID_CHARS: usize = 128;
/// Largest sections before the body, all together, and largest value of one application property.
const HEAD_BYTES: usize = 64 << 10;
const PROPERTY_BYTES: usize = 32 << 10;
/// About what a queue adds to a message, and how many annotations at most.
const ADDED_BYTES: usize = 256;
const ADDED_ANNOTATIONS: usize = 5;
/// Longest note, and most properties that it says.
const NOTE_BYTES: usize = 32 << 10;
const NOTE_PROPERTIES: usize = 256;
/// .NET's first moment, which stands for none.
const NO_TIME: Timestamp = Timestamp(-62_135_596_800_000);
/// The last moment that the SDKs can say.
const LAST_TIME: Timestamp = Timestamp(253_402_243_199_000);

const PARTITION_KEY: &str = "x-opt-partition-key";
const SCHEDULED: Symbol = Symbol::from_static("x-opt-scheduled-enqueue-time");
const NUMBER: Symbol = Symbol::from_static("x-opt-sequence-number");
const ENQUEUED: Symbol = Symbol::from_static("x-opt-enqueued-time");
const LOCKED_UNTIL: Symbol = Symbol::from_static("x-opt-locked-until");
const STATE: Symbol = Symbol::from_static("x-opt-message-state");
const LOCK_TOKEN: Symbol = Symbol::from_static("x-opt-lock-token");

/// Where an event's data is that is not with it (CloudEvents' Dataref), and the property of a message that says it.
const DATAREF: &str = "dataref";
const DATAREF_PROPERTY: &str = "cloudEvents:dataref";

const NAMELESS: &str = "an application property whose name is not a text";

/// Annotations that a queue makes: those of a sender are not handed on.
const OF_QUEUES: &[&str] = &[
    "x-opt-sequence-number",
    "x-opt-enqueue-sequence-number",
    "x-opt-enqueued-time",
    "x-opt-locked-until",
    "x-opt-message-state",
    "x-opt-lock-token",
    "x-opt-deadletter-source",
    "x-opt-partition-id",
];

/// Extension attributes that a dead letter has from the broker, and the application properties that say them.
const DEAD_LETTER: [(&str, Symbol); 2] = [
    ("deadletterreason", Symbol::from_static("DeadLetterReason")),
    (
        "deliveryresult",
        Symbol::from_static("DeadLetterErrorDescription"),
    ),
];

/// A message as it came: an event, and what queues need to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Its id is empty if the message has none: the caller makes one.
    pub event: Event,
    /// The `group-id`.
    pub session: Option<String>,
    pub partition_key: Option<String>,
    /// From when the message is enqueued.
    pub time_to_live: Option<Duration>,
    pub scheduled: Option<Timestamp>,
}

/// What the broker adds to a message that it hands out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp<'a> {
    /// The sequence number.
    pub number: u64,
    pub enqueued: Timestamp,
    /// Deliveries that failed before this one: the header's delivery count.
    pub failed: u32,
    pub locked_until: Option<Timestamp>,
    /// In the order of RFC 4122, as the annotation `x-opt-lock-token`; the delivery tag has .NET's.
    pub lock: Option<[u8; 16]>,
    pub scheduled: Option<Timestamp>,
    /// 0 active, 1 deferred, 2 scheduled: only who peeks is told.
    pub state: Option<i32>,
    /// As the sender said.
    pub time_to_live: Option<Duration>,
    /// The event is a dead letter: why is told by application properties.
    pub dead_letter: bool,
    /// An event of another door is shown in the session that its key is.
    pub has_sessions: bool,
    /// What [`note`] made.
    pub note: Option<&'a str>,
    /// The data is kept beside the event and is not handed out with it: it is told where.
    pub without_data: bool,
}

/// Why a message is not taken; the connection it came on can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Malformed(Malformed),
    /// More bytes of `what` than are taken.
    TooLarge {
        what: &'static str,
        max: usize,
    },
    /// More `unit`s of `what` than are taken.
    TooMany {
        what: &'static str,
        unit: &'static str,
        max: usize,
    },
    /// It contradicts itself, or cannot be kept as it is.
    Invalid(&'static str),
}

impl Unfit {
    /// The error condition that its sender is told.
    pub const fn condition(&self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.condition,
            Self::TooLarge { .. } => condition::MESSAGE_SIZE_EXCEEDED,
            Self::TooMany { .. } => "com.microsoft:argument-out-of-range",
            Self::Invalid(_) => "com.microsoft:argument-error",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "the message is malformed: {malformed}"),
            Self::TooLarge { what, max } => {
                write!(
                    f,
                    "{what} has more than {max} bytes, the most that is taken"
                )
            }
            Self::TooMany { what, unit, max } => {
                write!(
                    f,
                    "{what} has more than {max} {unit}, the most that is taken"
                )
            }
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Unfit {}

impl From<Malformed> for Unfit {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// The message that came to `entity`. What is wrong with it is said of it alone.
pub fn read(payload: &Bytes, entity: &str) -> Result<Incoming, Unfit> {
    let message = Message::split(payload)?;
    incoming(&message, entity, |declared| {
        Form::of(&message.body, declared)
    })
}

/// The message, with what is made of its body.
fn incoming(
    message: &Message,
    entity: &str,
    body: impl FnOnce(Option<&str>) -> Result<(Form, Data), Unfit>,
) -> Result<Incoming, Unfit> {
    let header = message.read_header()?;
    let properties = message.read_properties()?;
    let delivery = message.read_map(MapSection::DeliveryAnnotations)?;
    let annotations = message.read_map(MapSection::MessageAnnotations)?;
    let sent = message.read_map(MapSection::ApplicationProperties)?;
    message.read_map(MapSection::Footer)?;
    check_sizes(message, &sent)?;

    let session = properties
        .group_id
        .as_ref()
        .map(|id| id.as_str().to_owned());
    let partition_key = annotations.get(PARTITION_KEY).and_then(Value::as_str);
    let partition_key = partition_key.map(str::to_owned);
    check_chars("the session id (group-id)", session.as_deref())?;
    check_chars("the partition key", partition_key.as_deref())?;
    if let (Some(session), Some(key)) = (&session, &partition_key)
        && session != key
    {
        let what = "the message has a session id and a partition key that are not equal";
        return Err(Unfit::Invalid(what));
    }
    let scheduled = match annotations.get(SCHEDULED.as_str()) {
        None | Some(Value::Null) => None,
        Some(Value::Timestamp(at)) => Some(*at).filter(|at| *at != NO_TIME),
        Some(_) => {
            let what = "x-opt-scheduled-enqueue-time is not a timestamp";
            return Err(Unfit::Invalid(what));
        }
    };

    let declared = properties.content_type.as_ref();
    let (mut event, form) = match enveloped(&message.body, declared.map(Symbol::as_str)) {
        Some(event) => {
            let form = Form::Whole(message.body.clone());
            (told(event, &properties, entity)?, form)
        }
        None => {
            let event = natural_event(&properties, &sent, entity)?;
            let (form, data) = body(event.datacontenttype.as_deref())?;
            (Event { data, ..event }, form)
        }
    };
    let key = session.as_ref().or(partition_key.as_ref());
    event.key = key.map(|key| Bytes::from(key.clone()));
    let annotations = Annotations {
        delivery: without_those_of_queues(
            MapSection::DeliveryAnnotations,
            message.delivery_annotations.as_ref(),
            delivery,
        ),
        message: without_those_of_queues(
            MapSection::MessageAnnotations,
            message.message_annotations.as_ref(),
            annotations,
        ),
    };
    event.rest = Some(rest::encode(message, annotations, &form));
    Ok(Incoming {
        event,
        session,
        partition_key,
        time_to_live: time_to_live(&header, &properties),
        scheduled,
    })
}

fn natural_event(properties: &Properties, sent: &Map, entity: &str) -> Result<Event, Unfit> {
    let mut event = natural_attributes(sent)?;
    let declared = properties.content_type.as_ref();
    event.datacontenttype = declared.and_then(|declared| plain(declared.as_str()));
    told(event, properties, entity)
}

/// With what the properties say of it, and its entity.
fn told(mut event: Event, properties: &Properties, entity: &str) -> Result<Event, Unfit> {
    if let Some(id) = &properties.message_id {
        let id = id_text(id);
        check_chars("the message id", Some(&id))?;
        if has_control(&id) {
            let what = "the message id has a control character";
            return Err(Unfit::Invalid(what));
        }
        if !id.is_empty() {
            event.id = id;
        }
    }
    if event.source.is_empty() {
        event.source = ["/queues/", entity].concat();
    }
    if event.kind.is_empty() {
        MESSAGE_TYPE.clone_into(&mut event.kind);
    }
    if event.subject.is_none() {
        let label = properties.subject.as_ref();
        event.subject = label.and_then(|label| plain(label.as_str()));
    }
    if let Some(MessageId::String(id)) = &properties.correlation_id
        && event.extension("correlationid").is_none()
        && let Some(id) = plain(id.as_str())
    {
        let id = Attribute::Text(id);
        event.extensions.push(("correlationid".to_owned(), id));
    }
    Ok(event)
}

fn plain(text: &str) -> Option<String> {
    is_attribute(text).then(|| text.to_owned())
}

fn check_sizes(message: &Message, sent: &Map) -> Result<(), Unfit> {
    let sections = [
        &message.header,
        &message.delivery_annotations,
        &message.message_annotations,
        &message.properties,
        &message.application_properties,
    ];
    let size: usize = sections.into_iter().flatten().map(Bytes::len).sum();
    if size > HEAD_BYTES {
        return Err(Unfit::TooLarge {
            what: "the head of the message, header to application properties,",
            max: HEAD_BYTES,
        });
    }
    for (name, value) in &sent.0 {
        if name.as_str().is_none() {
            return Err(Unfit::Invalid(NAMELESS));
        }
        if size > PROPERTY_BYTES && encoded(value).len() > PROPERTY_BYTES {
            return Err(Unfit::TooLarge {
                what: "an application property",
                max: PROPERTY_BYTES,
            });
        }
    }
    Ok(())
}

fn check_chars(what: &'static str, text: Option<&str>) -> Result<(), Unfit> {
    // A text of so many bytes has no more characters.
    let text = text.filter(|text| text.len() > ID_CHARS);
    if text.is_some_and(|text| text.chars().nth(ID_CHARS).is_some()) {
        return Err(Unfit::TooMany {
            what,
            unit: "characters",
            max: ID_CHARS,
        });
    }
    Ok(())
}

/// The header's, or what lies between making and expiry where that says it better: a header's ends after 49 days.
fn time_to_live(header: &Header, properties: &Properties) -> Option<Duration> {
    let said = header.ttl_ms.filter(|ms| *ms < u32::MAX);
    let said = said.map(|ms| Duration::from_millis(ms.into()));
    let (made, expiry) = (properties.creation_time, properties.absolute_expiry_time);
    let between = || Some(expiry?.since(made?));
    let longest = header.ttl_ms.map(|ms| Duration::from_millis(ms.into()));
    said.or_else(between).or(longest)
}

/// The section as it came if it has nothing of a queue's.
fn without_those_of_queues(
    kind: MapSection,
    section: Option<&Bytes>,
    mut annotations: Map,
) -> Option<Bytes> {
    let section = section?;
    let count = annotations.0.len();
    let is_own = |name: &Value| !name.as_str().is_some_and(|name| OF_QUEUES.contains(&name));
    annotations.0.retain(|(name, _)| is_own(name));
    if annotations.0.len() == count {
        return Some(section.clone());
    }
    let section = kind.encode(&annotations);
    (!annotations.0.is_empty()).then_some(section)
}

/// Ids of any type as a text: uuids with hyphens, numbers in decimals, bytes in base64.
fn id_text(id: &MessageId) -> String {
    match id {
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Uuid(uuid) => uuid_text(*uuid),
        MessageId::Binary(bytes) => STANDARD.encode(bytes),
        MessageId::String(text) => text.as_str().to_owned(),
    }
}

fn uuid_text(Uuid(bytes): Uuid) -> String {
    let number = u128::from_be_bytes(bytes);
    let (a, b, c) = (number >> 96, number >> 80 & 0xffff, number >> 64 & 0xffff);
    let (d, e) = (number >> 48 & 0xffff, number & 0xffff_ffff_ffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out);
    out
}

/// The message that a client gets. A rest that nobody here wrote counts as none.
pub fn write(event: &Event, stamp: &Stamp<'_>) -> Bytes {
    let kept = event.rest.as_ref().map_or(0, Bytes::len);
    let data = event.data.bytes().map_or(0, Bytes::len);
    let mut out = Vec::with_capacity(kept + data + ADDED_BYTES);
    let (form, footer) = write_head(event, stamp, &mut out);
    form.write_body(&event.data, event.datacontenttype.as_deref(), &mut out);
    out.extend_from_slice(&footer);
    out.into()
}

/// Appends the sections before the body. What the body is to be, and the section behind it.
fn write_head(event: &Event, stamp: &Stamp<'_>, out: &mut Vec<u8>) -> (Form, Bytes) {
    let kept = event.rest.as_ref().and_then(Rest::decode);
    let rest = kept.unwrap_or_else(|| Rest::of_stranger(event, stamp));
    composite::write(&header(&rest.header, stamp), out);
    write_delivery_annotations(rest.delivery, stamp, out);
    MapSection::MessageAnnotations.write(&annotations(rest.annotations, stamp), out);
    composite::write(&properties(rest.properties, event, stamp), out);
    write_application_properties(rest.sent, event, stamp, out);
    (rest.form, rest.footer.unwrap_or_default())
}

fn header(sent: &Header, stamp: &Stamp<'_>) -> Header {
    let ms = |life: Duration| u32::try_from(life.as_millis()).unwrap_or(u32::MAX);
    Header {
        ttl_ms: stamp.time_to_live.map(ms).or(sent.ttl_ms),
        delivery_count: stamp.failed,
        ..sent.clone()
    }
}

/// AMQP has them end at the next hop; Service Bus hands them on, and its clients count on that.
fn write_delivery_annotations(mut sent: Map, stamp: &Stamp<'_>, out: &mut Vec<u8>) {
    if let Some(lock) = stamp.lock {
        let token = (LOCK_TOKEN.into(), Value::Uuid(Uuid(lock)));
        sent.0.insert(0, token);
    }
    if !sent.0.is_empty() {
        MapSection::DeliveryAnnotations.write(&sent, out);
    }
}

fn annotations(sent: Map, stamp: &Stamp<'_>) -> Map {
    let number = i64::try_from(stamp.number).unwrap_or(i64::MAX);
    let mut all = Map(Vec::with_capacity(ADDED_ANNOTATIONS + sent.0.len()));
    all.0.push((NUMBER.into(), Value::Long(number)));
    all.0
        .push((ENQUEUED.into(), Value::Timestamp(stamp.enqueued)));
    if let Some(until) = stamp.locked_until {
        all.0.push((LOCKED_UNTIL.into(), Value::Timestamp(until)));
    }
    if let Some(state) = stamp.state {
        all.0.push((STATE.into(), Value::Int(state)));
    }
    all.0.extend(sent.0);
    if let Some(due) = stamp.scheduled {
        all.set(SCHEDULED, Value::Timestamp(due));
    }
    all
}

/// SDKs tell when a message expires by the properties, so they say it also where the sender's do not.
fn properties(mut sent: Properties, event: &Event, stamp: &Stamp<'_>) -> Properties {
    let is_empty = |id: &MessageId| *id == MessageId::String("".into());
    if sent.message_id.as_ref().is_none_or(is_empty) {
        sent.message_id = Some(MessageId::String(event.id.as_str().into()));
    }
    if stamp.has_sessions && sent.group_id.is_none() {
        sent.group_id = event.key.clone().and_then(Text::from_utf8);
    }
    if let Some(life) = stamp.time_to_live
        && sent.absolute_expiry_time.is_none()
    {
        let expiry = stamp.enqueued.plus(life).min(LAST_TIME);
        sent.absolute_expiry_time = Some(expiry);
        sent.creation_time.get_or_insert(stamp.enqueued);
    }
    sent
}

fn write_application_properties(
    mut sent: Map,
    event: &Event,
    stamp: &Stamp<'_>,
    out: &mut Vec<u8>,
) {
    if let Some(changes) = stamp.note.and_then(read_note) {
        lay_over(&mut sent, changes);
    }
    if stamp.without_data
        && let Some(path) = event.extension(DATAREF)
    {
        let said = (
            Value::String(DATAREF_PROPERTY.into()),
            path.to_text().as_str().into(),
        );
        lay_over(&mut sent, Map(vec![said]));
    }
    if stamp.dead_letter {
        let said = DEAD_LETTER.into_iter().filter_map(|(attribute, name)| {
            let text = event.extension(attribute)?.to_text();
            Some((Value::String(name.into()), Value::from(reason(&text))))
        });
        lay_over(&mut sent, Map(said.collect()));
    }
    if !sent.0.is_empty() {
        MapSection::ApplicationProperties.write(&sent, out);
    }
}

/// What Service Bus calls the reasons that the broker has itself.
fn reason(said: &str) -> &str {
    match said {
        "TimeToLiveExceeded" => "TTLExpiredException",
        "MaxDeliveryAttemptsExceeded" => "MaxDeliveryCountExceeded",
        said => said,
    }
}

/// The last of equal names counts.
fn lay_over(sent: &mut Map, changes: Map) {
    for (name, value) in changes.0 {
        let is_same = |(known, _): &&mut (Value, Value)| known.as_str() == name.as_str();
        match sent.0.iter_mut().find(is_same) {
            Some((_, old)) => *old = value,
            None => sent.0.push((name, value)),
        }
    }
}

/// Application properties that a receiver changes, laid over those of an earlier note; the text comes back in
/// [`Stamp::note`].
pub fn note(earlier: Option<&str>, changes: &Map) -> Result<String, Unfit> {
    let what = "what receivers changed of the application properties";
    if changes.0.iter().any(|(name, _)| name.as_str().is_none()) {
        return Err(Unfit::Invalid(NAMELESS));
    }
    let mut all = earlier.and_then(read_note).unwrap_or_default();
    if all.0.len() + changes.0.len() > NOTE_PROPERTIES {
        return Err(Unfit::TooMany {
            what,
            unit: "entries",
            max: NOTE_PROPERTIES,
        });
    }
    let as_strings = changes.0.iter().map(|(name, value)| {
        let name = name.as_str().unwrap_or_default();
        (Value::from(name), value.clone())
    });
    lay_over(&mut all, Map(as_strings.collect()));
    let text = STANDARD.encode(encoded(&Value::Map(all)));
    if text.len() > NOTE_BYTES {
        return Err(Unfit::TooLarge {
            what,
            max: NOTE_BYTES,
        });
    }
    Ok(text)
}

fn read_note(text: &str) -> Option<Map> {
    if text.len() > NOTE_BYTES {
        return None;
    }
    let bytes = Bytes::from(STANDARD.decode(text).ok()?);
    match decode(&bytes) {
        Ok(Value::Map(map)) if map.0.iter().all(|(name, _)| name.as_str().is_some()) => Some(map),
        _ => None,
    }
}
