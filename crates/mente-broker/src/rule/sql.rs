//! Filters and actions as texts: kept as they were given, and read once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::action::Statements;
use super::expression::Condition;
use super::lexer::Unread;
use super::value::{Truth, Value};
use super::{EXPRESSION_CHARS, EvaluationError, Message, PARAMETERS, check_value, parser};
use crate::error::{Error, Result};

/// By their names, with the @ or without.
pub type Parameters = BTreeMap<String, Value<'static>>;

/// Longest name of a parameter or of a property that a filter compares.
const NAME_CHARS: usize = 128;

/// A condition as a text, "SQL filter" in Service Bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct SqlFilter {
    expression: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: Parameters,
    #[serde(skip)]
    condition: Arc<Condition>,
}

/// What to change of a message as a text, "SQL action" in Service Bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct SqlAction {
    expression: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: Parameters,
    #[serde(skip)]
    pub(super) statements: Arc<Statements>,
}

impl SqlFilter {
    /// Refuses what is no condition, and says where and why.
    pub fn new(expression: impl Into<String>, parameters: Parameters) -> Result<Self> {
        let expression = expression.into();
        check("filter", &expression, &parameters)?;
        let condition = parser::condition(&expression, &parameters)
            .map_err(|unread| refusal("filter", &unread))?;
        Ok(Self {
            expression,
            parameters,
            condition: Arc::new(condition),
        })
    }

    /// The text as it was given.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What is unknown does not match.
    pub fn matches(&self, message: &dyn Message) -> Result<bool, EvaluationError> {
        Ok(self.condition.evaluate(message)? == Truth::True)
    }
}

impl SqlAction {
    /// Refuses what are no statements, and says where and why.
    pub fn new(expression: impl Into<String>, parameters: Parameters) -> Result<Self> {
        let expression = expression.into();
        check("action", &expression, &parameters)?;
        let statements = parser::statements(&expression, &parameters)
            .map_err(|unread| refusal("action", &unread))?;
        Ok(Self {
            expression,
            parameters,
            statements: Arc::new(Statements(statements)),
        })
    }

    /// The text as it was given.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// As it was understood: the same condition, with brackets where one binds otherwise than the next.
impl fmt::Display for SqlFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl fmt::Display for SqlAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statements.fmt(f)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    expression: String,
    #[serde(default)]
    parameters: Parameters,
}

impl TryFrom<Written> for SqlFilter {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        Self::new(written.expression, written.parameters)
    }
}

impl TryFrom<Written> for SqlAction {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        Self::new(written.expression, written.parameters)
    }
}

fn check(what: &str, expression: &str, parameters: &Parameters) -> Result<()> {
    if expression.chars().count() > EXPRESSION_CHARS {
        return Err(Error::invalid(format!(
            "the {what} is longer than {EXPRESSION_CHARS} characters"
        )));
    }
    if parameters.len() > PARAMETERS {
        return Err(Error::invalid(format!(
            "the {what} has more than {PARAMETERS} parameters"
        )));
    }
    let bare = |name: &str| name.strip_prefix('@').unwrap_or(name).to_lowercase();
    let names: Vec<_> = parameters.keys().map(|name| bare(name)).collect();
    for (at, (name, value)) in parameters.iter().enumerate() {
        check_name("parameter", name)?;
        check_value("parameter", name, value)?;
        if names[..at].contains(&names[at]) {
            return Err(Error::invalid(format!(
                "the parameter {name:?} is there twice: neither case nor the @ tells parameters apart"
            )));
        }
    }
    Ok(())
}

pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.chars().count() > NAME_CHARS {
        return Err(Error::invalid(format!(
            "the name of a {what} has 1 to {NAME_CHARS} characters"
        )));
    }
    Ok(())
}

fn refusal(what: &str, Unread { at, why }: &Unread) -> Error {
    Error::invalid(format!(
        "the {what} cannot be read at character {at}: {why}"
    ))
}
