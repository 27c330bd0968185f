//! Which rows of `events` or `states` can matter to a statement where it names the table once.

use std::collections::BTreeSet;

use mente_broker::{Query, QueryItem};
use mente_engine::limits;

use super::words::Word;

/// Bounds that every row of use lies within; rows beside them may be within too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Only {
    pub(super) streams: Option<BTreeSet<String>>,
    pub(super) categories: Option<BTreeSet<String>>,
    pub(super) types: Option<BTreeSet<String>>,
    correlations: Option<BTreeSet<String>>,
    causations: Option<BTreeSet<String>>,
    /// All of them.
    tags: BTreeSet<String>,
    /// The first position.
    pub(super) low: u64,
    /// The position behind the last one.
    pub(super) high: u64,
    /// Appended at this many milliseconds since 1970 or later.
    pub(super) since_ms: Option<i64>,
}

/// A condition that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The column is one of these.
    In(Column, BTreeSet<String>),
    /// At this position or behind it; before this one.
    Positions {
        low: u64,
        high: u64,
    },
    SinceMs(i64),
    /// It bounds nothing that can be looked for.
    Nothing,
    Tag(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Stream,
    Category,
    Type,
    Correlation,
    Causation,
}

impl Default for Only {
    /// All rows.
    fn default() -> Self {
        Self {
            streams: None,
            categories: None,
            types: None,
            correlations: None,
            causations: None,
            tags: BTreeSet::new(),
            low: 0,
            high: u64::MAX,
            since_ms: None,
        }
    }
}

impl Only {
    pub(super) fn and(&mut self, condition: Condition) {
        match condition {
            Condition::In(column, values) => {
                let values = match self.of(column).take() {
                    None => values,
                    Some(before) => before.intersection(&values).cloned().collect(),
                };
                *self.of(column) = Some(values);
            }
            Condition::Positions { low, high } => {
                self.low = self.low.max(low);
                self.high = self.high.min(high);
            }
            Condition::SinceMs(ms) => self.since_ms = self.since_ms.max(Some(ms)),
            Condition::Nothing => {}
            Condition::Tag(tag) => {
                self.tags.insert(tag);
            }
        }
    }

    fn of(&mut self, column: Column) -> &mut Option<BTreeSet<String>> {
        match column {
            Column::Stream => &mut self.streams,
            Column::Category => &mut self.categories,
            Column::Type => &mut self.types,
            Column::Correlation => &mut self.correlations,
            Column::Causation => &mut self.causations,
        }
    }

    /// Whether no row can be within.
    pub(super) fn is_nothing(&self) -> bool {
        let each = [
            &self.streams,
            &self.categories,
            &self.types,
            &self.correlations,
            &self.causations,
        ];
        let is_empty =
            |values: &&Option<BTreeSet<String>>| values.as_ref().is_some_and(BTreeSet::is_empty);
        self.low >= self.high || each.iter().any(is_empty)
    }

    /// What to look for in the store's index; `None`: all events. What it cannot say is left out.
    fn items(&self) -> Option<Vec<QueryItem>> {
        let mut items = vec![QueryItem::default()];
        let spread = |items: &mut Vec<QueryItem>,
                      values: &Option<BTreeSet<String>>,
                      put: fn(&mut QueryItem, String)| {
            let Some(values) = values else { return };
            if items.len() * values.len() > limits::QUERY_ITEMS {
                return;
            }
            *items = items
                .iter()
                .flat_map(|item| {
                    values.iter().map(|value| {
                        let mut item = item.clone();
                        put(&mut item, value.clone());
                        item
                    })
                })
                .collect();
        };
        spread(&mut items, &self.causations, |item, id| {
            item.causation = Some(id)
        });
        spread(&mut items, &self.correlations, |item, id| {
            item.correlation = Some(id)
        });
        spread(&mut items, &self.of_categories(), |item, c| {
            item.category = Some(c)
        });
        for item in &mut items {
            if let Some(types) = &self.types
                && types.len() <= limits::QUERY_VALUES / 2
            {
                item.types.extend(types.iter().cloned());
            }
            item.tags
                .extend(self.tags.iter().take(limits::QUERY_VALUES / 2).cloned());
        }
        (items != [QueryItem::default()]).then_some(items)
    }

    /// The index finds the streams of a category where it cannot find the streams.
    fn of_categories(&self) -> Option<BTreeSet<String>> {
        let category = |stream: &String| stream.split('-').next().unwrap_or(stream).to_owned();
        match (&self.categories, &self.streams) {
            (Some(categories), _) => Some(categories.clone()),
            (None, streams) => Some(streams.as_ref()?.iter().map(category).collect()),
        }
    }
}

/// What all of these look for together.
pub(super) fn query_of(each: &[Only]) -> Query {
    let mut items = Vec::new();
    for only in each {
        let Some(of_one) = only.items() else {
            return Query::default();
        };
        items.extend(of_one);
    }
    items.dedup();
    if items.len() > limits::QUERY_ITEMS {
        return Query::default();
    }
    Query { items }
}

/// Reads a condition such as `type = 'a'`, `e.position BETWEEN 3 AND 9` or `has_tag(tags, 'x')`, in which
/// `column` tells the column of a name with or without a table before it. `None`: it says something else.
pub(super) fn condition<'a>(
    words: &'a [Word],
    column: &impl Fn(&'a [Word]) -> Option<&'a str>,
) -> Option<Condition> {
    let of = |words: &'a [Word]| Some(column(words)?.to_ascii_lowercase());
    if let Some(tag) = tag(words, &of) {
        return Some(Condition::Tag(tag));
    }
    let length = match words.get(1)? {
        dot if dot.is(".") => 3,
        _ => 1,
    };
    let (left, rest) = words.split_at_checked(length)?;
    if let Some(name) = of(left) {
        return match rest {
            [between, low, and, high] if between.is_keyword("between") && and.is_keyword("and") => {
                let low = range(&name, ">=", low)?;
                Some(both(low, range(&name, "<=", high)?))
            }
            [is_in, open, values @ .., close]
                if is_in.is_keyword("in") && open.is("(") && close.is(")") =>
            {
                let column = Column::named(&name)?;
                Some(Condition::In(column, list(values)?))
            }
            [Word::Mark(mark), value] => compared(&name, mark, value),
            _ => None,
        };
    }
    // The other way round.
    let [value, Word::Mark(mark), right @ ..] = words else {
        return None;
    };
    let mirrored = match *mark {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        other => other,
    };
    compared(&of(right)?, mirrored, value)
}

impl Column {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "stream" => Self::Stream,
            "category" => Self::Category,
            "type" => Self::Type,
            "correlationid" => Self::Correlation,
            "causationid" => Self::Causation,
            _ => return None,
        })
    }
}

fn tag<'a>(words: &'a [Word], of: &impl Fn(&'a [Word]) -> Option<String>) -> Option<String> {
    let [function, open, tags @ .., comma, Word::Text(tag), close] = words else {
        return None;
    };
    let is_call = function.is_name("has_tag") && open.is("(") && comma.is(",") && close.is(")");
    (is_call && of(tags)? == "tags").then(|| tag.clone())
}

fn compared(name: &str, mark: &str, value: &Word) -> Option<Condition> {
    match (Column::named(name), value, mark) {
        (Some(column), Word::Text(text), "=" | "==") => {
            Some(Condition::In(column, [text.clone()].into()))
        }
        _ => range(name, mark, value),
    }
}

fn range(name: &str, mark: &str, value: &Word) -> Option<Condition> {
    match (name, value) {
        ("position", Word::Number(number)) => {
            let number: u64 = number.parse().ok()?;
            let behind = number.checked_add(1)?;
            let (low, high) = match mark {
                "=" | "==" => (number, behind),
                ">" => (behind, u64::MAX),
                ">=" => (number, u64::MAX),
                "<" => (0, number),
                "<=" => (0, behind),
                _ => return None,
            };
            Some(Condition::Positions { low, high })
        }
        // A clock may have been set back, so what ends here may go on behind what lies later.
        ("appended" | "appended_ms", _) if matches!(mark, "<" | "<=") => Some(Condition::Nothing),
        ("appended_ms", Word::Number(number)) if matches!(mark, "=" | "==" | ">" | ">=") => {
            number.parse().ok().map(Condition::SinceMs)
        }
        ("appended", Word::Text(text)) if matches!(mark, "=" | "==" | ">" | ">=") => {
            since(text).map(Condition::SinceMs)
        }
        _ => None,
    }
}

fn both(low: Condition, high: Condition) -> Condition {
    match (low, high) {
        (Condition::Positions { low, .. }, Condition::Positions { high, .. }) => {
            Condition::Positions { low, high }
        }
        (low, _) => low,
    }
}

fn list(words: &[Word]) -> Option<BTreeSet<String>> {
    let mut values = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        match word {
            Word::Text(text) if at % 2 == 0 => {
                values.insert(text.clone());
            }
            comma if at % 2 == 1 && comma.is(",") => {}
            _ => return None,
        }
    }
    (words.len() % 2 == 1).then_some(values)
}

/// A moment at or before every one whose text comes behind this one: of a text that is the beginning of a
/// moment's, the first one that begins so.
fn since(text: &str) -> Option<i64> {
    const LEAST: &str = "0000-01-01T00:00:00.000Z";
    let is_like = |(c, least): (u8, u8)| match least {
        b'0' | b'1' => c.is_ascii_digit(),
        mark => c == mark,
    };
    let text = text.strip_suffix('Z').unwrap_or(text);
    let is_cut = matches!(text.len(), 4 | 7 | 10 | 13 | 16 | 19 | 23);
    let has_shape = is_cut && text.bytes().zip(LEAST.bytes()).all(is_like);
    let whole = format!("{text}{}", LEAST.get(text.len()..)?);
    let moment: jiff::Timestamp = has_shape.then(|| whole.parse().ok())??;
    Some(moment.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    fn read(sql: &str) -> Option<Condition> {
        let words = words(sql).unwrap();
        condition(&words, &bare)
    }

    fn bare(words: &[Word]) -> Option<&str> {
        match words {
            [Word::Name { text, .. }] => Some(text),
            _ => None,
        }
    }

    fn positions(low: u64, high: u64) -> Option<Condition> {
        Some(Condition::Positions { low, high })
    }

    #[test]
    fn what_bounds_is_read() {
        let types = |types: &[&str]| {
            let types = types.iter().map(|&kind| kind.to_owned()).collect();
            Some(Condition::In(Column::Type, types))
        };
        assert_eq!(read("type = 'a'"), types(&["a"]));
        assert_eq!(read("'a' == TYPE"), types(&["a"]));
        assert_eq!(read("type IN ('a', 'b')"), types(&["a", "b"]));
        assert_eq!(read("position BETWEEN 3 AND 9"), positions(3, 10));
        assert_eq!(read("7 <= position"), positions(7, u64::MAX));
        assert_eq!(read("7 > position"), positions(0, 7));
        assert_eq!(read("position = 4"), positions(4, 5));
        assert_eq!(read("has_tag(tags, 'x')"), Some(Condition::Tag("x".into())));
        assert_eq!(read("appended_ms > 7"), Some(Condition::SinceMs(7)));
        assert_eq!(read("appended < '2026'"), Some(Condition::Nothing));
        let since = Some(Condition::SinceMs(1_764_504_000_000));
        for text in [
            "2025-11-30T12",
            "2025-11-30T12:00:00Z",
            "2025-11-30T12:00:00.000Z",
        ] {
            assert_eq!(read(&format!("appended >= '{text}'")), since);
        }
    }

    #[test]
    fn what_is_not_understood_bounds_nothing() {
        for sql in [
            "type = 5",
            "type = 'a' COLLATE NOCASE",
            "type || 'a' = 'ab'",
            "NOT type = 'a'",
            "type <> 'a'",
            "type IN ('a', 1)",
            "type IN ('a' 'b')",
            "type IN ()",
            "position = '5'",
            "position > 1.5",
            "position > -1",
            "position >= 3 + 4",
            "position BETWEEN 3 AND revision",
            "position = 18446744073709551615",
            "revision = 1",
            "id = 'a'",
            "has_tag('x', tags)",
            "has_tag(tags, 'x') = 0",
            "appended >= 'yesterday'",
            "appended >= '2026-1'",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }

    #[test]
    fn conditions_come_together() {
        let mut only = Only::default();
        for sql in [
            "type IN ('a','b')",
            "type = 'b'",
            "category IN ('x','y')",
            "position > 3",
        ] {
            only.and(read(sql).unwrap());
        }
        let query = query_of(std::slice::from_ref(&only));
        let found: Vec<_> = query
            .items
            .iter()
            .map(|i| (i.category.as_deref(), &*i.types))
            .collect();
        let b = &["b".to_owned()][..];
        assert_eq!(found, [(Some("x"), b), (Some("y"), b)]);
        assert!(!only.is_nothing());
        assert!(query_of(&[only.clone(), Only::default()]).items.is_empty());
        only.and(read("type = 'a'").unwrap());
        assert!(only.is_nothing());
    }
}
