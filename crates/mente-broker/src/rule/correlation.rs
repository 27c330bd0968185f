//! Equal to each of some values: what costs least to look at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sql::check_name;
use super::value::{Comparison, Truth, Value};
use super::{EvaluationError, Message, PARAMETERS, check_value};
use crate::error::{Error, Result};

/// Every field that is there has this value in the message; texts are the same only in the same case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorrelationFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The subject, as the newer clients say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to_session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Of the application.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Value<'static>>,
}

impl CorrelationFilter {
    pub fn matches(&self, message: &dyn Message) -> Result<bool, EvaluationError> {
        for (name, wanted) in self.fields() {
            let Some(wanted) = wanted else { continue };
            let found = message
                .system(name)
                .ok_or_else(|| EvaluationError::NoSystemProperty(name.to_owned()))?;
            if !matches!(found, Some(Value::Text(text)) if text == wanted) {
                return Ok(false);
            }
        }
        let has = |(name, wanted): (&String, &Value<'_>)| {
            let found = message.user(name);
            found.is_some_and(|found| Comparison::Equal.of(&found, wanted) == Truth::True)
        };
        Ok(self.properties.iter().all(has))
    }

    pub fn validate(&self) -> Result<()> {
        let none = self.fields().iter().all(|(_, wanted)| wanted.is_none());
        if none && self.properties.is_empty() {
            return Err(Error::invalid(
                "a correlation filter names at least one property",
            ));
        }
        for (name, wanted) in self.fields() {
            if let Some(wanted) = wanted {
                check_value("property", name, &Value::from(wanted))?;
            }
        }
        if self.properties.len() > PARAMETERS {
            return Err(Error::invalid(format!(
                "a correlation filter names at most {PARAMETERS} properties"
            )));
        }
        for (name, value) in &self.properties {
            check_name("property", name)?;
            check_value("property", name, value)?;
            if matches!(value, Value::Null) {
                return Err(Error::invalid(format!(
                    "nothing is equal to null: leave the property {name:?} out of the correlation filter"
                )));
            }
        }
        Ok(())
    }

    fn fields(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("CorrelationId", self.correlation_id.as_deref()),
            ("Label", self.label.as_deref()),
            ("MessageId", self.message_id.as_deref()),
            ("To", self.to.as_deref()),
            ("SessionId", self.session_id.as_deref()),
            ("ReplyTo", self.reply_to.as_deref()),
            ("ReplyToSessionId", self.reply_to_session_id.as_deref()),
            ("ContentType", self.content_type.as_deref()),
        ]
    }
}
