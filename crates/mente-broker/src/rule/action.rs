//! What the action of a rule makes of the rule's own copy of a message.

use std::fmt;

use super::arithmetic::to_text;
use super::expression::{Property, Scope, Statement};
use super::sql::SqlAction;
use super::system::{self, Changes};
use super::value::Value;
use super::{EvaluationError, Message};

/// Most that one action sets, all in all: what a message may have of properties.
const SET_BYTES: usize = 64 << 10;

/// A copy that a rule changes. What it is told is seen by what it is asked for afterwards.
pub trait ChangedMessage: Message {
    /// `name` is one of `ContentType`, `CorrelationId`, `Label`, `MessageId`, `PartitionKey`, `ReplyTo`,
    /// `ReplyToSessionId`, `SessionId`, `To` and `ViaPartitionKey`, each a text, or `TimeToLive`, a duration. `None` takes
    /// it away.
    fn set_system(&mut self, name: &str, value: Option<Value<'static>>);
    /// Under the name of the one that is there, if one is but for its case; `None` takes it away.
    fn set_user(&mut self, name: &str, value: Option<Value<'static>>);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statements(pub(super) Vec<Statement>);

impl fmt::Display for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|statement| write!(f, "{statement}"))
    }
}

impl SqlAction {
    /// One after the other. At an error the message is changed in part, and no good any more.
    pub fn apply(&self, message: &mut dyn ChangedMessage) -> Result<(), EvaluationError> {
        let mut set_bytes = 0;
        for statement in &self.statements.0 {
            let (property, value) = match statement {
                Statement::Set(property, value) => {
                    (property, value.evaluate(message)?.into_owned())
                }
                Statement::Remove(property) => (property, Value::Null),
            };
            set_bytes += value.size_bytes();
            if set_bytes > SET_BYTES {
                return Err(EvaluationError::TooLong);
            }
            match property.scope {
                Scope::System => set_system(message, property, value)?,
                Scope::User => set_user(message, property, value),
            }
        }
        Ok(())
    }
}

fn set_system(
    message: &mut dyn ChangedMessage,
    property: &Property,
    value: Value<'static>,
) -> Result<(), EvaluationError> {
    let name = property.name.as_str();
    let wrong = |value: &Value<'_>| EvaluationError::WrongKind {
        name: name.to_owned(),
        kind: value.kind(),
    };
    let value = match system::changes(name) {
        None => return Err(EvaluationError::NoSystemProperty(name.to_owned())),
        Some(Changes::Never) => return Err(EvaluationError::ReadOnly(name.to_owned())),
        Some(Changes::Ignored) => return Ok(()),
        Some(_) if matches!(value, Value::Null) => None,
        Some(Changes::Text(longest)) => {
            let text = to_text(&value).ok_or_else(|| wrong(&value))?;
            if text.chars().count() > longest {
                return Err(EvaluationError::TooLong);
            }
            Some(Value::from(text.into_owned()))
        }
        Some(Changes::Duration) => match value {
            Value::Duration(_) => Some(value),
            other => return Err(wrong(&other)),
        },
    };
    message.set_system(name, value);
    Ok(())
}

/// A property without a value is not there. A whole number becomes of the kind of number that was there, if that holds
/// it; other kinds replace each other.
fn set_user(message: &mut dyn ChangedMessage, property: &Property, value: Value<'static>) {
    let was = message.user(&property.name);
    let value = match (value, was) {
        (Value::Null, _) => None,
        (Value::Long(whole), Some(Value::Int(_))) => {
            Some(i32::try_from(whole).map_or(Value::Long(whole), Value::Int))
        }
        (Value::Int(whole), Some(Value::Long(_))) => Some(Value::Long(i64::from(whole))),
        (Value::Int(whole), Some(Value::Double(_))) => Some(Value::Double(f64::from(whole))),
        (Value::Long(whole), Some(Value::Double(_))) => Some(Value::Double(whole as f64)),
        (other, _) => Some(other),
    };
    message.set_user(&property.name, value);
}
