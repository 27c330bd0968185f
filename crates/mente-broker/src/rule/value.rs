//! What properties, parameters and constants hold, and how two of them compare: as C# compares numbers, and with
//! "unknown" for what does not compare.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Borrowed where it lies in a message or a rule: to look at one costs nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value<'a> {
    /// No value: of a property that is not there, of one that is null, and of what is computed of these.
    Null,
    Boolean(bool),
    /// A long to every operator; it is told apart so that what is only kept or copied stays what it was.
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Cow<'a, str>),
    #[serde(with = "journaled_guid")]
    Guid(Uuid),
    #[serde(with = "journaled_binary")]
    Binary(Cow<'a, [u8]>),
    /// Milliseconds since 1970.
    Moment(i64),
    /// Milliseconds.
    Duration(i64),
}

impl Value<'_> {
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Boolean(value),
            Self::Int(value) => Value::Int(value),
            Self::Long(value) => Value::Long(value),
            Self::Double(value) => Value::Double(value),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Guid(value) => Value::Guid(value),
            Self::Binary(bytes) => Value::Binary(Cow::Owned(bytes.into_owned())),
            Self::Moment(at) => Value::Moment(at),
            Self::Duration(length) => Value::Duration(length),
        }
    }

    /// The same without a copy.
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Long(value) => Value::Long(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Guid(value) => Value::Guid(*value),
            Self::Binary(bytes) => Value::Binary(Cow::Borrowed(bytes)),
            Self::Moment(at) => Value::Moment(*at),
            Self::Duration(length) => Value::Duration(*length),
        }
    }

    /// Which of both is more. `None` is "unknown": of null, of kinds that do not compare (a text is never a number),
    /// and of kinds that are the same or not but have no order, if they are not the same.
    fn compare(&self, other: &Self) -> Option<Compared> {
        let ordered = |ordering| Some(Compared::Ordered(ordering));
        if let (Some(a), Some(b)) = (self.as_whole(), other.as_whole()) {
            return ordered(a.cmp(&b));
        }
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => ordered(a.cmp(b)),
            (Self::Moment(a), Self::Moment(b)) | (Self::Duration(a), Self::Duration(b)) => {
                ordered(a.cmp(b))
            }
            (Self::Boolean(a), Self::Boolean(b)) => Some(Compared::Same(a == b)),
            (Self::Guid(a), Self::Guid(b)) => Some(Compared::Same(a == b)),
            (Self::Binary(a), Self::Binary(b)) => Some(Compared::Same(a == b)),
            _ => match self.as_real()?.partial_cmp(&other.as_real()?) {
                Some(ordering) => ordered(ordering),
                // Not a number: it is neither less nor more nor the same, as in C#.
                None => Some(Compared::Apart),
            },
        }
    }

    pub(super) fn as_whole(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(i64::from(*value)),
            Self::Long(value) => Some(*value),
            _ => None,
        }
    }

    /// A number as C# promotes it beside a double.
    pub(super) fn as_real(&self) -> Option<f64> {
        match self {
            Self::Double(value) => Some(*value),
            whole => whole.as_whole().map(|value| value as f64),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Int(_) | Self::Long(_) | Self::Double(_) => "a number",
            Self::Text(_) => "a text",
            Self::Guid(_) => "a GUID",
            Self::Binary(_) => "binary",
            Self::Moment(_) => "a moment",
            Self::Duration(_) => "a duration",
        }
    }

    /// Characters and bytes that it holds beside itself.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// As it is journaled, not as rules compare: a double is itself by its bits.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Long(a), Self::Long(b))
            | (Self::Moment(a), Self::Moment(b))
            | (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Guid(a), Self::Guid(b)) => a == b,
            (Self::Binary(a), Self::Binary(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value<'_> {}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

enum Compared {
    Ordered(Ordering),
    Same(bool),
    Apart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn of(self, left: &Value<'_>, right: &Value<'_>) -> Truth {
        let Some(compared) = left.compare(right) else {
            return Truth::Unknown;
        };
        let ordering = match (compared, self) {
            (Compared::Ordered(ordering), _) => ordering,
            (Compared::Same(same), Self::Equal) => return same.into(),
            (Compared::Same(same), Self::NotEqual) => return (!same).into(),
            (Compared::Same(_), _) => return Truth::Unknown,
            (Compared::Apart, _) => return (self == Self::NotEqual).into(),
        };
        let holds = match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        };
        holds.into()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

/// Of three-valued logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    False,
    Unknown,
    True,
}

impl Truth {
    pub(super) fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }

    /// For `NOT IN`, `NOT LIKE` and `IS NOT NULL`.
    pub(super) fn unless(self, negated: bool) -> Self {
        if negated { self.not() } else { self }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

mod journaled_guid {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(value: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(from)?;
        Uuid::try_parse(&text).map_err(de::Error::custom)
    }
}

mod journaled_binary {
    use std::borrow::Cow;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, 'a, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Cow<'a, [u8]>, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        Ok(Cow::Owned(bytes))
    }
}
