//! A rule's description and the rule.

use jiff::civil::DateTime;
use mente_broker::rule::{CorrelationFilter, Parameters, Rule, RuleFilter, SqlFilter, Value};
use mente_broker::{Error, Result};
use mente_engine::Timestamp;
use mente_wire::servicebus::{Correlation, Filter, RuleDescription, Span, Sql, Typed};

use crate::rules;

/// The rule that a new subscription has, of which not even the name need be said.
pub(crate) fn first(said: Option<RuleDescription>, now_ms: i64) -> Result<Rule> {
    let all = Rule::all(now_ms);
    match said {
        None => Ok(all),
        Some(mut said) => {
            let name = said.name.take().unwrap_or(all.name);
            rule(said, name, now_ms)
        }
    }
}

/// Without a filter it takes everything.
pub(crate) fn rule(said: RuleDescription, name: String, created_ms: i64) -> Result<Rule> {
    let action = said.action;
    let action = action.map(|sql| rules::action(sql.expression, parameters(sql.parameters)?));
    let filter = match said.filter {
        None | Some(Filter::True) => RuleFilter::True,
        Some(Filter::False) => RuleFilter::False,
        Some(Filter::Sql(sql)) => {
            RuleFilter::Sql(SqlFilter::new(sql.expression, parameters(sql.parameters)?)?)
        }
        Some(Filter::Correlation(filter)) => RuleFilter::Correlation(correlation(*filter)?),
    };
    Ok(Rule {
        name,
        filter,
        action: action.transpose()?,
        created_ms,
    })
}

fn correlation(said: Correlation) -> Result<CorrelationFilter> {
    Ok(CorrelationFilter {
        content_type: said.content_type,
        correlation_id: said.correlation_id,
        label: said.label,
        message_id: said.message_id,
        reply_to: said.reply_to,
        reply_to_session_id: said.reply_to_session_id,
        session_id: said.session_id,
        to: said.to,
        properties: parameters(said.properties)?,
    })
}

fn parameters(said: Vec<(String, Typed)>) -> Result<Parameters> {
    let mut all = Parameters::new();
    for (name, typed) in said {
        let value = value(&name, typed)?;
        if all.insert(name.clone(), value).is_some() {
            let detail = format!("the value {name:?} is there twice");
            return Err(Error::invalid(detail));
        }
    }
    Ok(all)
}

fn value(name: &str, typed: Typed) -> Result<Value<'static>> {
    let wrong = |what: &str| Error::invalid(format!("the value {name:?} is no {what}"));
    Ok(match typed {
        Typed::String(text) => Value::from(text),
        Typed::Int(number) => Value::Int(number),
        Typed::Long(number) => Value::Long(number),
        Typed::Double(number) => Value::Double(number),
        Typed::Boolean(flag) => Value::Boolean(flag),
        Typed::DateTime(text) => {
            let at = moment(text.trim());
            Value::Moment(at.ok_or_else(|| wrong("moment; one is 2026-11-30T12:00:00Z"))?)
        }
        Typed::Duration(text) => {
            let (sign, length) = match text.trim().strip_prefix('-') {
                Some(length) => (-1, length),
                None => (1, text.trim()),
            };
            let span = Span::parse(length).map_err(|wrong| Error::invalid(wrong.0))?;
            let ms = span.ms().and_then(|ms| i64::try_from(ms).ok());
            Value::Duration(sign * ms.unwrap_or(i64::MAX))
        }
    })
}

/// Without a time zone, as Python writes it, it is of UTC.
fn moment(text: &str) -> Option<i64> {
    let with_zone = text.parse::<jiff::Timestamp>();
    let at = with_zone.ok().or_else(|| {
        let bare: DateTime = text.parse().ok()?;
        let at = jiff::tz::TimeZone::UTC.to_timestamp(bare);
        at.ok()
    });
    at.map(jiff::Timestamp::as_millisecond)
}

pub(crate) fn description(rule: &Rule) -> RuleDescription {
    let filter = match &rule.filter {
        RuleFilter::True => Filter::True,
        RuleFilter::False => Filter::False,
        RuleFilter::Sql(filter) => Filter::Sql(sql(filter.expression(), filter.parameters())),
        RuleFilter::Correlation(filter) => Filter::Correlation(Box::new(told(filter))),
    };
    let action = rule.action.as_ref();
    RuleDescription {
        filter: Some(filter),
        action: action.map(|action| sql(action.expression(), action.parameters())),
        created: Some(Timestamp(rule.created_ms)),
        name: Some(rule.name.clone()),
    }
}

fn told(filter: &CorrelationFilter) -> Correlation {
    Correlation {
        correlation_id: filter.correlation_id.clone(),
        message_id: filter.message_id.clone(),
        to: filter.to.clone(),
        reply_to: filter.reply_to.clone(),
        label: filter.label.clone(),
        session_id: filter.session_id.clone(),
        reply_to_session_id: filter.reply_to_session_id.clone(),
        content_type: filter.content_type.clone(),
        properties: typed(&filter.properties),
    }
}

fn sql(expression: &str, parameters: &Parameters) -> Sql {
    Sql {
        expression: expression.to_owned(),
        parameters: typed(parameters),
    }
}

fn typed(values: &Parameters) -> Vec<(String, Typed)> {
    let typed = values
        .iter()
        .map(|(name, value)| (name.clone(), typed_value(value)));
    typed.collect()
}

/// JS knows no `long`, and XML Schema no type of some that AMQP has: these are told as their texts.
fn typed_value(value: &Value<'_>) -> Typed {
    match value {
        Value::Null => Typed::String(String::new()),
        Value::Boolean(flag) => Typed::Boolean(*flag),
        Value::Int(number) => Typed::Int(*number),
        Value::Long(number) => Typed::Long(*number),
        Value::Double(number) => Typed::Double(*number),
        Value::Text(text) => Typed::String(text.clone().into_owned()),
        Value::Guid(id) => Typed::String(id.to_string()),
        Value::Binary(bytes) => {
            use base64::Engine as _;
            Typed::String(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        Value::Moment(at) => Typed::DateTime(Timestamp(*at).to_rfc3339()),
        Value::Duration(ms) => {
            let sign = if *ms < 0 { "-" } else { "" };
            Typed::Duration(format!("{sign}{}", Span::of(Some(ms.unsigned_abs()))))
        }
    }
}
