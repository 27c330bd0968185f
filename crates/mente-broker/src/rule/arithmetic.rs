//! What `+ - * / %` make of two values: as C# does with longs and doubles, but what overflows or divides by zero is an
//! error and no number.

use std::borrow::Cow;
use std::fmt;

use super::EvaluationError;
use super::value::Value;

/// Longest text that a rule makes: `SET a = a + a` doubles it.
pub(super) const TEXT_BYTES: usize = mente_engine::limits::ATTRIBUTE_VALUE_BYTES;

type Result<T> = std::result::Result<T, EvaluationError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub(super) fn of<'a>(self, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>> {
        if let (Some(a), Some(b)) = (left.as_whole(), right.as_whole()) {
            return self.whole(a, b).map(Value::Long);
        }
        match (self, &left, &right) {
            (_, Value::Null, _) | (_, _, Value::Null) => Ok(Value::Null),
            (Self::Add, Value::Text(_), _) | (Self::Add, _, Value::Text(_)) => join(left, &right),
            (Self::Add, Value::Moment(at), Value::Duration(length))
            | (Self::Add, Value::Duration(length), Value::Moment(at)) => {
                self.whole(*at, *length).map(Value::Moment)
            }
            (Self::Subtract, Value::Moment(at), Value::Duration(length)) => {
                self.whole(*at, *length).map(Value::Moment)
            }
            (Self::Subtract, Value::Moment(a), Value::Moment(b))
            | (Self::Add | Self::Subtract, Value::Duration(a), Value::Duration(b)) => {
                self.whole(*a, *b).map(Value::Duration)
            }
            _ => match (left.as_real(), right.as_real()) {
                (Some(a), Some(b)) => self.real(a, b).map(Value::Double),
                _ => Err(self.unfit(&left, &right)),
            },
        }
    }

    fn whole(self, a: i64, b: i64) -> Result<i64> {
        let divides = matches!(self, Self::Divide | Self::Remainder);
        if divides && b == 0 {
            return Err(EvaluationError::DivisionByZero);
        }
        let result = match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b),
            Self::Remainder => a.checked_rem(b),
        };
        result.ok_or(EvaluationError::Overflow)
    }

    fn real(self, a: f64, b: f64) -> Result<f64> {
        let result = match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide | Self::Remainder if b == 0.0 => {
                return Err(EvaluationError::DivisionByZero);
            }
            Self::Divide => a / b,
            Self::Remainder => a % b,
        };
        // A message may bring an infinity along, a rule does not make one.
        let made = !result.is_finite() && a.is_finite() && b.is_finite();
        if made {
            return Err(EvaluationError::Overflow);
        }
        Ok(result)
    }

    fn unfit(self, left: &Value<'_>, right: &Value<'_>) -> EvaluationError {
        EvaluationError::Unfit {
            operator: self.as_char(),
            left: left.kind(),
            right: right.kind(),
        }
    }

    pub(super) fn as_char(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
            Self::Remainder => '%',
        }
    }
}

pub(super) fn negative(value: Value<'_>) -> Result<Value<'_>> {
    let whole = |value: i64| value.checked_neg().ok_or(EvaluationError::Overflow);
    match value {
        Value::Null => Ok(Value::Null),
        Value::Int(value) => whole(i64::from(value)).map(Value::Long),
        Value::Long(value) => whole(value).map(Value::Long),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(length) => whole(length).map(Value::Duration),
        other => Err(EvaluationError::NoSign(other.kind())),
    }
}

pub(super) fn positive(value: Value<'_>) -> Result<Value<'_>> {
    match value {
        Value::Int(value) => Ok(Value::Long(i64::from(value))),
        Value::Null | Value::Long(_) | Value::Double(_) | Value::Duration(_) => Ok(value),
        other => Err(EvaluationError::NoSign(other.kind())),
    }
}

/// As C# joins a text with what it has a plain text of.
pub(super) fn to_text<'a>(value: &'a Value<'_>) -> Option<Cow<'a, str>> {
    Some(match value {
        Value::Text(text) => Cow::Borrowed(text),
        Value::Int(value) => Cow::Owned(value.to_string()),
        Value::Long(value) => Cow::Owned(value.to_string()),
        Value::Double(value) => Cow::Owned(value.to_string()),
        Value::Boolean(value) => Cow::Borrowed(if *value { "True" } else { "False" }),
        Value::Guid(value) => Cow::Owned(value.to_string()),
        Value::Null | Value::Binary(_) | Value::Moment(_) | Value::Duration(_) => return None,
    })
}

fn join<'a>(left: Value<'a>, right: &Value<'_>) -> Result<Value<'a>> {
    let (Some(first), Some(second)) = (to_text(&left), to_text(right)) else {
        return Err(Operator::Add.unfit(&left, right));
    };
    if first.len() + second.len() > TEXT_BYTES {
        return Err(EvaluationError::TooLong);
    }
    Ok(Value::Text(Cow::Owned([first, second].concat())))
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_char())
    }
}
