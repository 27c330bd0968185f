//! A condition for one message, in three-valued logic. Nothing is copied of message or rule but what is computed.

use super::arithmetic::{negative, positive};
use super::expression::{Condition, Expression, Property, Scope};
use super::value::{Comparison, Truth, Value};
use super::{EvaluationError, Message, system};

type Result<T> = std::result::Result<T, EvaluationError>;

impl Condition {
    /// From the left to the right, and no further than it takes to know: what lies behind that does not fail.
    pub(super) fn evaluate(&self, message: &dyn Message) -> Result<Truth> {
        match self {
            Self::Or(parts) => until(parts, Truth::True, message),
            Self::And(parts) => until(parts, Truth::False, message),
            Self::Not(part) => Ok(part.evaluate(message)?.not()),
            Self::Compare(comparison, left, right) => {
                let left = left.evaluate(message)?;
                Ok(comparison.of(&left, &right.evaluate(message)?))
            }
            Self::IsNull { property, negated } => {
                let null = matches!(property.evaluate(message)?, Value::Null);
                Ok(Truth::from(null).unless(*negated))
            }
            Self::In {
                value,
                among,
                negated,
            } => Ok(one_of(value, among, message)?.unless(*negated)),
            Self::Like {
                value,
                pattern,
                negated,
            } => {
                let value = value.evaluate(message)?;
                let Value::Text(text) = &value else {
                    return Ok(Truth::Unknown);
                };
                let compute = |part: &Expression| part.evaluate(message).map(Value::into_owned);
                Ok(pattern.of(text, compute)?.unless(*negated))
            }
            Self::Exists(property) => match property.scope {
                Scope::System => Ok(system(&property.name, message)?.is_some().into()),
                Scope::User => Ok(message.user(&property.name).is_some().into()),
            },
        }
    }
}

/// The first part that is `last` decides; else what is unknown leaves all unknown.
fn until(parts: &[Condition], last: Truth, message: &dyn Message) -> Result<Truth> {
    let mut all = last.not();
    for part in parts {
        let truth = part.evaluate(message)?;
        if truth == last {
            return Ok(last);
        }
        if truth == Truth::Unknown {
            all = Truth::Unknown;
        }
    }
    Ok(all)
}

/// As if each were compared, and `OR` stood between.
fn one_of(value: &Expression, among: &[Expression], message: &dyn Message) -> Result<Truth> {
    let value = value.evaluate(message)?;
    if matches!(value, Value::Null) {
        return Ok(Truth::Unknown);
    }
    let mut any = Truth::False;
    for other in among {
        match Comparison::Equal.of(&value, &other.evaluate(message)?) {
            Truth::True => return Ok(Truth::True),
            Truth::Unknown => any = Truth::Unknown,
            Truth::False => {}
        }
    }
    Ok(any)
}

impl Expression {
    pub(super) fn evaluate<'a>(&'a self, message: &'a dyn Message) -> Result<Value<'a>> {
        match self {
            Self::Constant(value) | Self::Parameter(_, value) => Ok(value.borrowed()),
            Self::Property(property) => property.look(message),
            Self::Named(name) => named(&name.evaluate(message)?, message),
            Self::NewId => Ok(Value::Guid(message.new_id())),
            Self::Sum(first, rest) | Self::Product(first, rest) => {
                let mut value = first.evaluate(message)?;
                for (operator, part) in rest {
                    value = operator.of(value, part.evaluate(message)?)?;
                }
                Ok(value)
            }
            Self::Negative(part) => negative(part.evaluate(message)?),
            Self::Positive(part) => positive(part.evaluate(message)?),
        }
    }
}

impl Property {
    fn look<'a>(&self, message: &'a dyn Message) -> Result<Value<'a>> {
        let found = match self.scope {
            Scope::System => system(&self.name, message)?,
            Scope::User => message.user(&self.name),
        };
        Ok(found.unwrap_or(Value::Null))
    }
}

/// The name is one as the language has it: with a scope, or else of the user.
fn named<'a>(name: &Value<'_>, message: &'a dyn Message) -> Result<Value<'a>> {
    let name = match name {
        Value::Null => return Ok(Value::Null),
        Value::Text(name) => name.as_ref(),
        other => return Err(EvaluationError::Name(other.kind())),
    };
    let found = match name.split_once('.') {
        Some((scope, name)) if scope.eq_ignore_ascii_case("sys") => {
            system(system::spelling(name), message)?
        }
        Some((scope, name)) if scope.eq_ignore_ascii_case("user") => message.user(name),
        _ => message.user(name),
    };
    Ok(found.unwrap_or(Value::Null))
}

fn system<'a>(name: &str, message: &'a dyn Message) -> Result<Option<Value<'a>>> {
    let found = message.system(name);
    found.ok_or_else(|| EvaluationError::NoSystemProperty(name.to_owned()))
}
