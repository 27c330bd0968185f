//! Which events a subscription wants: the required dialects of the CloudEvents Subscriptions
//! API 0.1 §3.2.4 (`exact`, `prefix`, `suffix`, `all`, `any`, `not`), case-sensitive.
//!
//! ```json
//! {"all": [{"prefix": {"type": "shop.order."}}, {"not": {"exact": {"source": "/test"}}}]}
//! ```
//! An operator on an attribute that the event lacks does not match; `not` of it does.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mente_engine::{Attribute, Event, limits};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Filter {
    /// Every named attribute equals its value.
    Exact(BTreeMap<String, String>),
    /// Every named attribute begins with its value.
    Prefix(BTreeMap<String, String>),
    /// Every named attribute ends with its value.
    Suffix(BTreeMap<String, String>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

impl Filter {
    pub fn matches(&self, event: &Event) -> bool {
        match self {
            Self::Exact(wanted) => each(wanted, event, |value, text| value == text),
            Self::Prefix(wanted) => each(wanted, event, |value, text| value.starts_with(text)),
            Self::Suffix(wanted) => each(wanted, event, |value, text| value.ends_with(text)),
            Self::All(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Not(part) => !part.matches(event),
        }
    }

    /// Checks what serde cannot: nothing is empty, nothing too deep.
    pub fn validate(&self) -> Result<()> {
        self.check(0)
    }

    fn check(&self, depth: usize) -> Result<()> {
        if depth > limits::NESTING_DEPTH {
            return Err(Error::invalid(format!(
                "the filter nests deeper than {} levels",
                limits::NESTING_DEPTH
            )));
        }
        match self {
            Self::Exact(wanted) | Self::Prefix(wanted) | Self::Suffix(wanted) => {
                if wanted.is_empty() || wanted.values().any(String::is_empty) {
                    return Err(Error::invalid(
                        "a filter names at least one attribute, and no empty value",
                    ));
                }
                Ok(())
            }
            Self::All(parts) | Self::Any(parts) => {
                if parts.is_empty() {
                    return Err(Error::invalid("all and any hold at least one filter"));
                }
                parts.iter().try_for_each(|part| part.check(depth + 1))
            }
            Self::Not(part) => part.check(depth + 1),
        }
    }
}

fn each(
    wanted: &BTreeMap<String, String>,
    event: &Event,
    holds: impl Fn(&str, &str) -> bool,
) -> bool {
    wanted
        .iter()
        .all(|(name, text)| attribute(event, name).is_some_and(|value| holds(&value, text)))
}

/// The attribute in its canonical string form.
fn attribute<'a>(event: &'a Event, name: &str) -> Option<Cow<'a, str>> {
    let text = match name {
        "specversion" => Some("1.0"),
        "id" => Some(event.id.as_str()),
        "source" => Some(event.source.as_str()),
        "type" => Some(event.kind.as_str()),
        "subject" => event.subject.as_deref(),
        "time" => event.time.as_deref(),
        "datacontenttype" => event.datacontenttype.as_deref(),
        "dataschema" => event.dataschema.as_deref(),
        _ => {
            return event.extension(name).map(|value| match value {
                Attribute::Text(text) => Cow::Borrowed(text.as_str()),
                other => Cow::Owned(other.to_text()),
            });
        }
    };
    text.map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, expect: bool) {
        let event = Event {
            id: "1".into(),
            source: "/shop".into(),
            kind: "shop.order.placed".into(),
            subject: Some("o-7".into()),
            extensions: vec![("level".into(), Attribute::Integer(3))],
            ..Event::default()
        };
        let filter: Filter = serde_json::from_str(filter).expect(filter);
        filter.validate().unwrap();
        assert_eq!(filter.matches(&event), expect, "{filter:?}");
    }

    #[test]
    fn each_operator_says_yes_and_no() {
        check(
            r#"{"exact":{"type":"shop.order.placed","source":"/shop"}}"#,
            true,
        );
        check(
            r#"{"exact":{"type":"shop.order.placed","source":"/x"}}"#,
            false,
        );
        check(r#"{"exact":{"type":"Shop.order.placed"}}"#, false);
        check(r#"{"exact":{"level":"3"}}"#, true);
        check(r#"{"prefix":{"type":"shop.order."}}"#, true);
        check(r#"{"prefix":{"type":"order."}}"#, false);
        check(r#"{"suffix":{"subject":"-7"}}"#, true);
        check(r#"{"suffix":{"subject":"o"}}"#, false);
        check(
            r#"{"all":[{"exact":{"id":"1"}},{"exact":{"id":"2"}}]}"#,
            false,
        );
        check(
            r#"{"any":[{"exact":{"id":"1"}},{"exact":{"id":"2"}}]}"#,
            true,
        );
        check(r#"{"not":{"exact":{"id":"1"}}}"#, false);
        check(r#"{"exact":{"absent":"x"}}"#, false);
        check(r#"{"not":{"exact":{"absent":"x"}}}"#, true);
    }

    #[test]
    fn senseless_filters_are_refused() {
        for bad in [
            r#"{"all":[]}"#,
            r#"{"exact":{}}"#,
            r#"{"not":{"prefix":{"type":""}}}"#,
        ] {
            let filter: Filter = serde_json::from_str(bad).unwrap();
            assert!(filter.validate().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Filter>(r#"{"like":{"type":"x"}}"#).is_err());
        let deep = (0..40).fold(Filter::Any(vec![]), |part, _| Filter::Not(Box::new(part)));
        assert!(deep.validate().is_err());
    }
}
