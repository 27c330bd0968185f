//! What a text of the language is when it was read: conditions of values. Chains of one operator lie flat, so that
//! only brackets, signs and `NOT` nest, and those are counted when they are read.

use std::fmt;

use super::arithmetic::Operator;
use super::lexer::{RESERVED, in_word};
use super::pattern::Pattern;
use super::value::{Comparison, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// At least two.
    Or(Vec<Self>),
    /// At least two.
    And(Vec<Self>),
    Not(Box<Self>),
    Compare(Comparison, Expression, Expression),
    IsNull {
        property: Expression,
        negated: bool,
    },
    In {
        value: Expression,
        among: Vec<Expression>,
        negated: bool,
    },
    Like {
        value: Expression,
        pattern: Likeness,
        negated: bool,
    },
    Exists(Property),
}

/// Beside `LIKE`. Constant patterns are made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Likeness {
    pub(super) pattern: Expression,
    pub(super) escape: Option<Expression>,
    pub(super) made: Option<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Constant(Value<'static>),
    Property(Property),
    /// As it is spelt in the text, with its value.
    Parameter(String, Value<'static>),
    /// `property('name')`: which one is known when it is computed.
    Named(Box<Self>),
    NewId,
    Sum(Box<Self>, Vec<(Operator, Self)>),
    Product(Box<Self>, Vec<(Operator, Self)>),
    Negative(Box<Self>),
    Positive(Box<Self>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) scope: Scope,
    /// Of a property of the system as the house spells it.
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    System,
    User,
}

/// What an action does, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Set(Property, Expression),
    Remove(Property),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { " NOT" } else { "" };
        match self {
            Self::Or(parts) => between(f, parts, " OR ", Self::fmt_part),
            Self::And(parts) => between(f, parts, " AND ", Self::fmt_part),
            Self::Not(part) => {
                f.write_str("NOT ")?;
                part.fmt_part(f)
            }
            Self::Compare(comparison, left, right) => write!(f, "{left} {comparison} {right}"),
            Self::IsNull { property, negated } => write!(f, "{property} IS{} NULL", not(negated)),
            Self::In {
                value,
                among,
                negated,
            } => {
                write!(f, "{value}{} IN (", not(negated))?;
                between(f, among, ", ", Expression::fmt)?;
                f.write_str(")")
            }
            Self::Like {
                value,
                pattern,
                negated,
            } => {
                write!(f, "{value}{} LIKE {}", not(negated), pattern.pattern)?;
                pattern
                    .escape
                    .iter()
                    .try_for_each(|escape| write!(f, " ESCAPE {escape}"))
            }
            Self::Exists(property) => write!(f, "EXISTS({property})"),
        }
    }
}

impl Condition {
    fn fmt_part(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Or(_) | Self::And(_) | Self::Not(_) => write!(f, "({self})"),
            _ => write!(f, "{self}"),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => constant(f, value),
            Self::Property(property) => write!(f, "{property}"),
            Self::Parameter(name, _) => write!(f, "@{name}"),
            Self::Named(name) => write!(f, "property({name})"),
            Self::NewId => f.write_str("newid()"),
            Self::Sum(first, rest) | Self::Product(first, rest) => {
                first.fmt_part(f)?;
                rest.iter().try_for_each(|(operator, part)| {
                    write!(f, " {operator} ")?;
                    part.fmt_part(f)
                })
            }
            // In brackets a number keeps its sign apart.
            Self::Negative(part) => write!(f, "-({part})"),
            Self::Positive(part) => write!(f, "+({part})"),
        }
    }
}

impl Expression {
    fn fmt_part(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sum(..) | Self::Product(..) => write!(f, "({self})"),
            _ => write!(f, "{self}"),
        }
    }
}

fn constant(f: &mut fmt::Formatter<'_>, value: &Value<'_>) -> fmt::Result {
    match value {
        Value::Null => f.write_str("NULL"),
        Value::Boolean(true) => f.write_str("TRUE"),
        Value::Boolean(false) => f.write_str("FALSE"),
        Value::Long(value) => write!(f, "{value}"),
        Value::Double(value) => write!(f, "{value:?}"),
        Value::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
        // The language has no constants of these; parameters bring them.
        Value::Int(_)
        | Value::Guid(_)
        | Value::Binary(_)
        | Value::Moment(_)
        | Value::Duration(_) => f.write_str("?"),
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scope == Scope::System {
            f.write_str("sys.")?;
        }
        let reserved = RESERVED
            .iter()
            .any(|word| word.eq_ignore_ascii_case(&self.name));
        let begins = self.name.chars().next().is_some_and(char::is_alphabetic);
        if begins && !reserved && self.name.chars().all(in_word) {
            f.write_str(&self.name)
        } else {
            write!(f, "[{}]", self.name.replace(']', "]]"))
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(property, value) => write!(f, "SET {property} = {value};"),
            Self::Remove(property) => write!(f, "REMOVE {property};"),
        }
    }
}

fn between<T>(
    f: &mut fmt::Formatter<'_>,
    parts: &[T],
    mark: &str,
    write: fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    parts.iter().enumerate().try_for_each(|(at, part)| {
        if at > 0 {
            f.write_str(mark)?;
        }
        write(part, f)
    })
}
