//! The rules of a subscription, as Service Bus has them: which messages of its topic it gets, and what of them is other
//! for it.
//!
//! ```text
//! filter:  color = 'blue' AND quantity >= 10 OR sys.Label LIKE 'urgent%'
//! action:  SET quantity = quantity / 2; REMOVE note
//! ```
//! A text becomes tokens (`lexer.rs`), then conditions of values (`parser.rs`, `expression.rs`), and these are looked at
//! for each message (`evaluate.rs`). A property of the user that a message does not have makes what is asked of it
//! unknown, which is neither true nor false; a property of the system that nobody has is an error.
//!
//! Nothing here knows AMQP, the time or a source of chance: a [`Message`] is asked.

mod action;
mod arithmetic;
mod correlation;
mod evaluate;
mod expression;
mod lexer;
mod parser;
mod pattern;
mod sql;
mod system;
mod value;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

pub use action::ChangedMessage;
pub use correlation::CorrelationFilter;
pub use sql::{Parameters, SqlAction, SqlFilter};
pub use value::Value;

/// Longest text of a filter or an action.
pub const EXPRESSION_CHARS: usize = 1_024;
/// Most statements of one action.
pub const STATEMENTS: usize = 32;
/// Longest name of a rule.
pub const RULE_NAME_CHARS: usize = 50;
/// Most parameters of one text, and properties of one correlation filter.
pub const PARAMETERS: usize = 64;
/// Largest value of a parameter, and of what a correlation filter compares with.
pub const VALUE_BYTES: usize = 4 << 10;
/// The property of the user in which a copy says which rule made it.
pub const RULE_NAME: &str = "RuleName";

/// One of a subscription's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// As its maker spelt it.
    pub name: String,
    pub filter: RuleFilter,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<SqlAction>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleFilter {
    True,
    False,
    Sql(SqlFilter),
    Correlation(CorrelationFilter),
}

/// What rules ask of a message.
pub trait Message {
    /// `name` as in [`ChangedMessage::set_system`], or another of Service Bus' message: `EnqueuedTimeUtc`, `SequenceNumber`
    /// and so on. `Some(None)` if this message has none, `None` if no message has such a property. Ids are texts, whatever
    /// they came as.
    fn system(&self, name: &str) -> Option<Option<Value<'_>>>;
    /// By a name of any case ([`same_name`]).
    fn user(&self, name: &str) -> Option<Value<'_>>;
    /// What `newid()` is. The same for the same message if what is decided is decided again.
    fn new_id(&self) -> Uuid;
}

/// Why a rule has no answer for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error(
        "there is no system property sys.{0}; a property of the application is named without sys."
    )]
    NoSystemProperty(String),
    #[error("it divides by zero")]
    DivisionByZero,
    #[error("a number becomes too large")]
    Overflow,
    #[error("a text becomes too long")]
    TooLong,
    #[error("there is no {operator} of {left} and {right}")]
    Unfit {
        operator: char,
        left: &'static str,
        right: &'static str,
    },
    #[error("{0} has no sign")]
    NoSign(&'static str),
    #[error("what LIKE compares with is no pattern: {0}")]
    Pattern(&'static str),
    #[error("the name of a property is a text, not {0}")]
    Name(&'static str),
    #[error("the broker says what sys.{0} is, no action changes it")]
    ReadOnly(String),
    #[error("sys.{name} does not become {kind}")]
    WrongKind { name: String, kind: &'static str },
}

impl RuleFilter {
    /// What is unknown does not match.
    pub fn matches(&self, message: &dyn Message) -> Result<bool, EvaluationError> {
        match self {
            Self::True => Ok(true),
            Self::False => Ok(false),
            Self::Sql(filter) => filter.matches(message),
            Self::Correlation(filter) => filter.matches(message),
        }
    }

    /// Texts were checked when they were read ([`SqlFilter::new`]).
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::True | Self::False | Self::Sql(_) => Ok(()),
            Self::Correlation(filter) => filter.validate(),
        }
    }
}

impl Rule {
    /// What a subscription has where nobody says another one: it gets all messages.
    pub fn all(now_ms: i64) -> Self {
        Self {
            name: "$Default".to_owned(),
            filter: RuleFilter::True,
            action: None,
            created_ms: now_ms,
        }
    }

    pub fn validate(&self) -> Result<()> {
        let refused = |c: char| c.is_control() || matches!(c, '/' | '\\' | '@' | '?' | '#' | '*');
        let length = self.name.chars().count();
        if self.name.trim().is_empty() || length > RULE_NAME_CHARS || self.name.contains(refused) {
            return Err(Error::invalid(format!(
                "the name of a rule has 1 to {RULE_NAME_CHARS} characters and none of / \\ @ ? # *"
            )));
        }
        self.filter.validate()
    }

    /// Makes of a copy what this rule's subscription gets: changed by the action, and with the rule's name.
    pub fn change(&self, copy: &mut dyn ChangedMessage) -> Result<(), EvaluationError> {
        if let Some(action) = &self.action {
            action.apply(copy)?;
        }
        copy.set_user(RULE_NAME, Some(Value::from(self.name.clone())));
        Ok(())
    }
}

/// What a subscription gets of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The message as it is, once, however many rules without an action match.
    pub plain: bool,
    /// For each of these rules, which have actions, a copy ([`Rule::change`]).
    pub copies: Vec<usize>,
    /// Why the first rule that has no answer has none; the others are counted all the same.
    pub failed: Option<Failed>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter of the rule {rule:?} has no answer for this message: {error}")]
pub struct Failed {
    pub rule: String,
    pub error: EvaluationError,
}

/// Every rule is asked, so that what is selected does not hang on their order.
pub fn select(rules: &[Rule], message: &dyn Message) -> Selection {
    let mut selection = Selection::default();
    for (at, rule) in rules.iter().enumerate() {
        match rule.filter.matches(message) {
            Ok(false) => {}
            Ok(true) if rule.action.is_some() => selection.copies.push(at),
            Ok(true) => selection.plain = true,
            Err(error) => {
                selection.failed.get_or_insert_with(|| Failed {
                    rule: rule.name.clone(),
                    error,
                });
            }
        }
    }
    selection
}

/// Names of properties are the same whatever their case.
pub fn same_name(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    let lower = |c: char| c.to_lowercase();
    a.chars().flat_map(lower).eq(b.chars().flat_map(lower))
}

fn check_value(what: &str, name: &str, value: &Value<'_>) -> Result<()> {
    if value.size_bytes() > VALUE_BYTES {
        return Err(Error::invalid(format!(
            "the value of the {what} {name:?} is longer than {VALUE_BYTES} bytes"
        )));
    }
    if matches!(value, Value::Double(number) if !number.is_finite()) {
        return Err(Error::invalid(format!(
            "the value of the {what} {name:?} is no finite number"
        )));
    }
    Ok(())
}
