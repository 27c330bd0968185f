//! Rules of a subscription. JS takes an action for granted where it lists them, and knows what it is told by two
//! families of codes.

use mente_broker::SubscriptionName;
use mente_broker::rule::{CorrelationFilter, Parameters, Rule, RuleFilter, SqlAction, SqlFilter};
use mente_engine::Timestamp;
use mente_wire::amqp::value::{Map, Value};

use super::{Call, body_of, integer, text, wants};
use crate::amqp::condition::Refusal;
use crate::amqp::properties::{from_wire, to_wire};
use crate::amqp::requests::Answer;
use crate::rules;

/// Rules of one answer.
const LISTED: usize = 1_000;
/// Of SQL, in which the service tells its own version.
const COMPATIBILITY_LEVEL: Value = Value::Int(20);

/// Descriptors of what is listed (azure/service-bus 7, core/managementClient.ts).
const RULE: u64 = 0x137_0000_0004;
const NO_ACTION: u64 = 0x137_0000_0005;
const SQL_ACTION: u64 = 0x137_0000_0006;
const SQL_FILTER: u64 = 0x13_7000_0006;
const TRUE_FILTER: u64 = 0x13_7000_0007;
const FALSE_FILTER: u64 = 0x13_7000_0008;
const CORRELATION_FILTER: u64 = 0x13_7000_0009;

pub(super) async fn add(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let subscription = subscription(call)?;
    let name = text(body, "rule-name").ok_or_else(|| wants("rule-name", "a text"))?;
    let Some(described) = map(body, "rule-description") else {
        return Err(wants("rule-description", "a map"));
    };
    let rule = Rule {
        name: name.to_owned(),
        filter: filter(described)?,
        action: action(described)?,
        created_ms: call.broker.now().wall.0,
    };
    let added = call.broker.add_rule(&call.who, &subscription, rule);
    added.await?;
    Ok(Answer::ok(Map::default()))
}

pub(super) async fn remove(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let subscription = subscription(call)?;
    let name = text(body, "rule-name").ok_or_else(|| wants("rule-name", "a text"))?;
    let removed = call.broker.remove_rule(&call.who, &subscription, name);
    removed.await?;
    Ok(Answer::ok(Map::default()))
}

pub(super) async fn list(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let subscription = subscription(call)?;
    let skip: u32 = integer(body, "skip")?;
    let top: u32 = integer(body, "top")?;
    let all = call.broker.rules(&call.who, &subscription).await?;
    let page = all.iter().skip(skip as usize);
    let shown = page.take((top as usize).min(LISTED)).map(|rule| {
        let described = described(rule);
        Value::Map(body_of("rule-description", described))
    });
    let shown: Vec<Value> = shown.collect();
    if shown.is_empty() {
        return Ok(Answer {
            condition: None,
            ..Answer::none("")
        });
    }
    Ok(Answer::ok(body_of("rules", Value::List(shown))))
}

fn subscription(call: &Call) -> Result<SubscriptionName, Refusal> {
    match &call.place.subscription {
        Some(name) if call.place.letters.is_none() => Ok(SubscriptionName {
            topic: call.place.entity.clone(),
            name: name.clone(),
        }),
        _ => Err(Refusal::not_allowed(format!(
            "{} has no rules: subscriptions of topics have",
            call.place.path()
        ))),
    }
}

fn map<'a>(within: &'a Map, name: &str) -> Option<&'a Map> {
    match within.get(name) {
        Some(Value::Map(map)) => Some(map),
        _ => None,
    }
}

/// .NET and Java say a filter that takes everything, or nothing, in SQL.
fn filter(described: &Map) -> Result<RuleFilter, Refusal> {
    if let Some(sql) = map(described, "sql-filter") {
        let filter = SqlFilter::new(expression(sql, "sql-filter")?, Parameters::new())?;
        return Ok(RuleFilter::Sql(filter));
    }
    match map(described, "correlation-filter") {
        Some(fields) => Ok(RuleFilter::Correlation(correlation(fields)?)),
        None => Err(wants(
            "rule-description",
            "a map with the map sql-filter or correlation-filter",
        )),
    }
}

fn action(described: &Map) -> Result<Option<SqlAction>, Refusal> {
    match described.get("sql-rule-action") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Map(action)) => {
            let expression = expression(action, "sql-rule-action")?;
            Ok(Some(rules::action(expression, Parameters::new())?))
        }
        Some(_) => Err(wants("sql-rule-action", "a map with an expression")),
    }
}

fn expression<'a>(sql: &'a Map, name: &str) -> Result<&'a str, Refusal> {
    text(sql, "expression").ok_or_else(|| wants(name, "a map with an expression"))
}

fn correlation(fields: &Map) -> Result<CorrelationFilter, Refusal> {
    let field = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(wants(name, "a text")),
        },
    };
    let entries = map(fields, "properties").map_or(&[][..], |map| map.0.as_slice());
    let properties = entries.iter().map(|(name, value)| {
        let name = name.as_str();
        let name = name.ok_or_else(|| wants("properties", "names that are texts"))?;
        Ok((name.to_owned(), from_wire(value).into_owned()))
    });
    Ok(CorrelationFilter {
        content_type: field("content-type")?,
        correlation_id: field("correlation-id")?,
        label: field("label")?,
        message_id: field("message-id")?,
        reply_to: field("reply-to")?,
        reply_to_session_id: field("reply-to-session-id")?,
        session_id: field("session-id")?,
        to: field("to")?,
        properties: properties.collect::<Result<_, Refusal>>()?,
    })
}

fn described(rule: &Rule) -> Value {
    let list =
        |code: u64, fields: Vec<Value>| Value::described(Value::Ulong(code), Value::List(fields));
    let sql =
        |code: u64, expression: &str| list(code, vec![expression.into(), COMPATIBILITY_LEVEL]);
    let filter = match &rule.filter {
        RuleFilter::True => list(TRUE_FILTER, Vec::new()),
        RuleFilter::False => list(FALSE_FILTER, Vec::new()),
        RuleFilter::Sql(filter) => sql(SQL_FILTER, filter.expression()),
        RuleFilter::Correlation(filter) => list(CORRELATION_FILTER, fields(filter)),
    };
    let action = match &rule.action {
        Some(action) => sql(SQL_ACTION, action.expression()),
        None => list(NO_ACTION, Vec::new()),
    };
    let created = Value::Timestamp(Timestamp(rule.created_ms));
    list(
        RULE,
        vec![filter, action, rule.name.as_str().into(), created],
    )
}

fn fields(filter: &CorrelationFilter) -> Vec<Value> {
    let texts = [
        &filter.correlation_id,
        &filter.message_id,
        &filter.to,
        &filter.reply_to,
        &filter.label,
        &filter.session_id,
        &filter.reply_to_session_id,
        &filter.content_type,
    ];
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    let mut fields: Vec<Value> = texts.into_iter().map(text).collect();
    let properties = filter.properties.iter();
    let properties = properties.map(|(name, value)| (name.as_str().into(), to_wire(value)));
    fields.push(Value::Map(Map(properties.collect())));
    fields
}
