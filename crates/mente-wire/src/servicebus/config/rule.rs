//! The properties of a rule, read from the file and written as it has them.
//!
//! ```text
//! {"FilterType": "Correlation", "CorrelationFilter": {"Label": "a", "Properties": {"colour": "blue", "size": 3}}}
//! {"FilterType": "Sql", "SqlFilter": {"SqlExpression": "size > 3"}, "Action": {"SqlExpression": "SET size = 0"}}
//! ```
//! What the emulator has no word for: the types `True` and `False`, `Parameters` of an expression, and values
//! `{"Type": "duration", "Value": "PT1M"}` of types that JSON has not.

use mente_engine::Shown;
use serde_json::{Map, Number, Value, json};

use super::super::rule::{Correlation, Filter, RuleDescription, Sql, Typed};
use super::super::xml::Wrong;
use super::place::Place;

const TRUE: &str = "True";
const FALSE: &str = "False";
const SQL: &str = "Sql";
const CORRELATION: &str = "Correlation";

pub(super) fn read(place: &Place<'_>) -> Result<RuleDescription, Wrong> {
    let rule = place.object(&["FilterType", "SqlFilter", "CorrelationFilter", "Action"])?;
    let kind = rule.needed("FilterType")?;
    let said = kind.text()?;
    let is = |name: &str| said.eq_ignore_ascii_case(name);
    let (filter, other) = if is(SQL) {
        let filter = sql(&rule.needed("SqlFilter")?)?;
        (Filter::Sql(filter), &["CorrelationFilter"][..])
    } else if is(CORRELATION) {
        let filter = correlation(&rule.needed("CorrelationFilter")?)?;
        (Filter::Correlation(Box::new(filter)), &["SqlFilter"][..])
    } else if is(TRUE) || is(FALSE) {
        let filter = if is(TRUE) {
            Filter::True
        } else {
            Filter::False
        };
        (filter, &["SqlFilter", "CorrelationFilter"][..])
    } else {
        return Err(kind.wrong(&format!(
            "is {}, but must be \"Sql\" or \"Correlation\", or \"True\" or \"False\", which only Mente knows",
            Shown(&said)
        )));
    };
    if let Some(unused) = other.iter().find_map(|name| rule.get(name)) {
        return Err(unused.wrong(&format!("has no use where FilterType is {}", Shown(&said))));
    }
    Ok(RuleDescription {
        filter: Some(filter),
        action: rule.get("Action").map(sql).transpose()?,
        created: None,
        name: None,
    })
}

fn sql(place: &Place<'_>) -> Result<Sql, Wrong> {
    let object = place.object(&["SqlExpression", "Parameters"])?;
    Ok(Sql {
        expression: object.needed("SqlExpression")?.text()?,
        parameters: values(object.get("Parameters"))?,
    })
}

fn correlation(place: &Place<'_>) -> Result<Correlation, Wrong> {
    let mut read = Correlation::default();
    let object = place.all()?;
    let mut names = vec!["Properties"];
    for (name, text) in read.texts() {
        names.push(name);
        *text = object.get(name).map(Place::text).transpose()?;
    }
    object.check(&names)?;
    read.properties = values(object.get("Properties"))?;
    Ok(read)
}

fn values(place: Option<&Place<'_>>) -> Result<Vec<(String, Typed)>, Wrong> {
    let Some(place) = place else {
        return Ok(Vec::new());
    };
    let object = place.all()?;
    let pairs = object.members();
    let pairs = pairs.map(|(name, place)| Ok((name.to_owned(), value(place)?)));
    pairs.collect()
}

fn value(place: &Place<'_>) -> Result<Typed, Wrong> {
    if place.is_object() {
        let object = place.object(&["Type", "Value"])?;
        let (kind, value) = (object.needed("Type")?, object.needed("Value")?);
        let parsed = Typed::parse(&kind.text()?, &value.text()?);
        return parsed.map_err(|wrong| place.refused(&wrong.0));
    }
    let wanted = "a text, a number, true or false, or {\"Type\": \"dateTime\" or \"duration\", \"Value\": …}";
    let read = match place.read::<Value>(wanted)? {
        Value::String(text) => Some(Typed::String(text)),
        Value::Bool(flag) => Some(Typed::Boolean(flag)),
        Value::Number(number) => whole(&number).or_else(|| {
            let is_whole = number.is_u64();
            number.as_f64().filter(|_| !is_whole).map(Typed::Double)
        }),
        _ => None,
    };
    place.made(read, wanted)
}

fn whole(number: &Number) -> Option<Typed> {
    let long = number.as_i64()?;
    Some(i32::try_from(long).map_or(Typed::Long(long), Typed::Int))
}

/// What the file would say of a rule.
pub fn told(mut rule: RuleDescription) -> Map<String, Value> {
    let mut told = Map::new();
    let mut put = |name: &str, value: Value| told.insert(name.to_owned(), value);
    match rule.filter.take() {
        None | Some(Filter::True) => drop(put("FilterType", TRUE.into())),
        Some(Filter::False) => drop(put("FilterType", FALSE.into())),
        Some(Filter::Sql(sql)) => {
            put("FilterType", SQL.into());
            put("SqlFilter", told_sql(&sql));
        }
        Some(Filter::Correlation(mut filter)) => {
            put("FilterType", CORRELATION.into());
            let texts = filter.texts().into_iter();
            let texts =
                texts.filter_map(|(name, text)| Some((name.to_owned(), text.take()?.into())));
            let mut all: Map<String, Value> = texts.collect();
            if !filter.properties.is_empty() {
                all.insert("Properties".to_owned(), told_values(&filter.properties));
            }
            put("CorrelationFilter", all.into());
        }
    }
    if let Some(action) = rule.action {
        put("Action", told_sql(&action));
    }
    told
}

fn told_sql(sql: &Sql) -> Value {
    match sql.parameters.is_empty() {
        true => json!({ "SqlExpression": sql.expression }),
        false => {
            json!({ "SqlExpression": sql.expression, "Parameters": told_values(&sql.parameters) })
        }
    }
}

fn told_values(values: &[(String, Typed)]) -> Value {
    let told = values.iter().map(|(name, value)| {
        let natural = match value {
            Typed::String(text) => Some(Value::from(text.clone())),
            Typed::Boolean(flag) => Some(Value::from(*flag)),
            Typed::Int(number) => Some(Value::from(*number)),
            Typed::Long(number) => Some(Value::from(*number)),
            Typed::Double(number) => Number::from_f64(*number).map(Value::from),
            Typed::DateTime(_) | Typed::Duration(_) => None,
        };
        let typed = || {
            let (kind, text) = value.told();
            json!({ "Type": kind, "Value": text })
        };
        (name.clone(), natural.unwrap_or_else(typed))
    });
    Value::Object(told.collect())
}
