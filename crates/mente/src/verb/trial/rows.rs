//! Rows that were found beside rows that were expected, and which of them differ in what.

use std::collections::BTreeMap;

use mente_broker::nearest::suggestion;
use mente_server::projection::Answer;
use serde_json::Value;

/// Rows of one table or query that are told of; the others are counted.
const TOLD: usize = 10;
/// Longest row that is shown whole.
const SHOWN_BYTES: usize = 400;

/// The query of an expectation, which may be a table's name alone.
pub(super) fn statement(asked: &str) -> String {
    if is_query(asked) {
        return asked.to_owned();
    }
    format!("SELECT * FROM \"{}\"", asked.replace('"', "\"\""))
}

/// One line for each row that is not as expected. A query's rows have its order, those of a table have none.
pub(super) fn compare(asked: &str, answer: &Answer, expected: &[Value]) -> Vec<String> {
    let columns = &answer.columns;
    let mut wanted = Vec::with_capacity(expected.len());
    for (index, row) in expected.iter().enumerate() {
        match by_column(row, columns) {
            Ok(row) => wanted.push((index + 1, row)),
            Err(what) => return vec![format!("{asked}, row {}: {what}", index + 1)],
        }
    }
    let rows = answer
        .rows
        .iter()
        .map(|row| row.iter().map(plain).collect());
    let mut found: Vec<Vec<Value>> = rows.collect();
    if !is_query(asked) {
        take_equal(&mut wanted, &mut found);
    }
    let mut faults = Vec::new();
    let mut differing = 0;
    let mut tell = |fault: &dyn Fn() -> String| {
        differing += 1;
        if differing <= TOLD {
            faults.push(format!("{asked}, {}", fault()));
        }
    };
    let is_ordered = is_query(asked);
    let mut left = found.into_iter().map(Some).collect::<Vec<_>>();
    for (at, (number, row)) in wanted.iter().enumerate() {
        // Of rows without an order the one that is most alike was meant.
        let nearest = if is_ordered {
            Some(at)
        } else {
            alike(row, &left, at < TOLD)
        };
        match nearest.and_then(|nearest| left.get_mut(nearest)?.take()) {
            Some(other) if other == *row => {}
            Some(other) => tell(&|| format!("row {number}: {}", differences(columns, row, &other))),
            None => tell(&|| format!("row {number} is missing: {}", shown(columns, row))),
        }
    }
    for row in left.iter().flatten() {
        tell(&|| format!("a row too many: {}", shown(columns, row)));
    }
    if differing > TOLD {
        faults.push(format!("{asked}: {} rows more differ", differing - TOLD));
    }
    faults
}

fn is_query(asked: &str) -> bool {
    let first = asked.split_whitespace().next().unwrap_or_default();
    let is = |word: &&str| first.eq_ignore_ascii_case(word);
    asked.trim().contains(char::is_whitespace) && ["SELECT", "WITH", "VALUES"].iter().any(is)
}

/// An expected row in the order of the columns; what an object leaves out is NULL.
fn by_column(row: &Value, columns: &[String]) -> Result<Vec<Value>, String> {
    if let Some(values) = row.as_array() {
        if values.len() != columns.len() {
            let (count, names) = (columns.len(), columns.join(", "));
            return Err(format!(
                "it has {} values, and there are {count} columns: {names}",
                values.len()
            ));
        }
        return Ok(values.iter().map(plain).collect());
    }
    let members = row.as_object().ok_or("it is no row")?;
    let known: Vec<&str> = columns.iter().map(String::as_str).collect();
    if let Some(odd) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("no column {odd:?}{}", suggestion(odd, &known)));
    }
    let value = |name: &String| members.get(name).map_or(Value::Null, plain);
    Ok(columns.iter().map(value).collect())
}

/// A whole number is the same however SQLite keeps it: 3 and 3.0.
fn plain(value: &Value) -> Value {
    /// Below it every whole number is one of `f64` too.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.as_f64() {
        Some(real) if value.is_f64() && real.fract() == 0.0 && real.abs() < EXACT => {
            Value::from(real as i64)
        }
        _ => value.clone(),
    }
}

/// Takes away what is in both, each row as often as it is there.
fn take_equal(wanted: &mut Vec<(usize, Vec<Value>)>, found: &mut Vec<Vec<Value>>) {
    let text = |row: &[Value]| Value::from(row.to_vec()).to_string();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in &*found {
        *counts.entry(text(row)).or_default() += 1;
    }
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    wanted.retain(|(_, row)| {
        let text = text(row);
        let Some(count) = counts.get_mut(&text).filter(|count| **count > 0) else {
            return true;
        };
        *count -= 1;
        *taken.entry(text).or_default() += 1;
        false
    });
    found.retain(|row| match taken.get_mut(&text(row)) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
}

/// Which of those left has most values in common with `row`; not looked for where nobody is told of it.
fn alike(row: &[Value], left: &[Option<Vec<Value>>], is_told: bool) -> Option<usize> {
    let common = |other: &Vec<Value>| row.iter().zip(other).filter(|(a, b)| a == b).count();
    let rows = left.iter().enumerate().take_while(|_| is_told);
    let counted = rows.filter_map(|(at, other)| Some((common(other.as_ref()?), at)));
    let best = counted.max_by_key(|(common, at)| (*common, usize::MAX - at))?;
    (best.0 > 0).then_some(best.1)
}

fn differences(columns: &[String], wanted: &[Value], found: &[Value]) -> String {
    let values = columns.iter().zip(wanted.iter().zip(found));
    let differing = values.filter(|(_, (wanted, found))| wanted != found);
    let told = differing.map(|(column, (wanted, found))| {
        let (wanted, found) = (cut(wanted.to_string()), cut(found.to_string()));
        format!("{column} is {found}, expected {wanted}")
    });
    let told: Vec<String> = told.collect();
    format!("{}; found {}", told.join("; "), shown(columns, found))
}

fn shown(columns: &[String], row: &[Value]) -> String {
    let member = |(name, value): (&String, &Value)| format!("{}:{value}", Value::from(&**name));
    let members: Vec<String> = columns.iter().zip(row).map(member).collect();
    cut(format!("{{{}}}", members.join(",")))
}

fn cut(mut text: String) -> String {
    if text.len() > SHOWN_BYTES {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(asked: &str, found: Value, expected: Value) -> Vec<String> {
        let answer = Answer {
            columns: vec!["id".to_owned(), "sum".to_owned()],
            rows: serde_json::from_value(found).unwrap(),
            truncated: false,
        };
        compare(asked, &answer, expected.as_array().unwrap())
    }

    #[test]
    fn rows_of_a_table_have_no_order_and_those_of_a_query_have() {
        let found = json!([["a", 1], ["b", 2]]);
        let turned = json!([{"id": "b", "sum": 2.0}, ["a", 1]]);
        assert!(faults("t", found.clone(), turned.clone()).is_empty());
        let told = faults("SELECT * FROM t", found, turned);
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn each_row_that_differs_is_told_of() {
        let told = |found, expected| faults("t", found, expected);
        let differ = "t, row 1: sum is 3, expected 2; found {\"id\":\"a\",\"sum\":3}";
        assert_eq!(
            told(json!([["b", 1], ["a", 3]]), json!([["a", 2], ["b", 1]])),
            [differ]
        );
        let missing = "t, row 2 is missing: {\"id\":\"a\",\"sum\":1}";
        assert_eq!(
            told(json!([["a", 1]]), json!([["a", 1], ["a", 1]])),
            [missing]
        );
        let more = "t, a row too many: {\"id\":\"a\",\"sum\":1}";
        assert_eq!(told(json!([["a", 1], ["a", 1]]), json!([["a", 1]])), [more]);
        assert_eq!(told(json!([["a", null]]), json!([{"id": "a"}])).len(), 0);
        assert_eq!(told(json!([["a", 5]]), json!([{"id": "a"}])).len(), 1);
        assert_eq!(told(json!([["1", 5]]), json!([[1, 5]])).len(), 1);
        assert!(told(json!([]), json!([{"idd": 1}]))[0].contains("did you mean \"id\""));
        assert!(told(json!([]), json!([[1]]))[0].contains("2 columns"));
        let many: Vec<Value> = (0..30).map(|n| json!([n, n])).collect();
        let many = told(json!([]), json!(many));
        assert_eq!((many.len(), &*many[10]), (11, "t: 20 rows more differ"));
    }
}
