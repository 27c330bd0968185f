//! What a statement can need of `events` and `states`, read from its words.
//!
//! ```text
//!   SELECT … FROM orders.totals t JOIN events e ON … WHERE e.type = 'Paid' AND e.position > 7 AND …
//!                                 └── a table, `e` ──┘       └─ conditions joined by AND ─┘
//! ```
//! SQLite has compiled the statement before and answers it in the end, with every condition looked at again.
//! So what is not understood here costs a look at more events, and what is understood must be so in SQLite's
//! eyes too: a condition counts only where it is one of several joined by AND behind the WHERE of the very
//! SELECT that names the table, and holds literals alone. Whatever could change what a name means makes this
//! file give up, and the whole table is looked at.

use std::collections::BTreeSet;

use super::only::{Only, condition};
use super::words::{Word, words};

/// Our tables.
pub(super) const EVENTS: &str = "events";
pub(super) const STATES: &str = "states";
/// Parentheses within each other that are looked into.
const DEPTH: usize = 32;
/// Tables of one SELECT, as SQLite has them at most.
const TABLES: usize = 64;
/// Columns that both tables have.
const SHARED: [&str; 2] = ["stream", "category"];

/// What a statement names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// By place where `events` stands; empty if it stands nowhere that was found.
    pub(super) events: Vec<Only>,
    pub(super) states: Vec<Only>,
    /// The first rows by position are enough.
    pub(super) first: Option<First>,
    /// What stands before dots.
    pub(super) qualifiers: BTreeSet<String>,
}

/// A plain look at one table, in the order of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) is_down: bool,
    /// Rows that are skipped, then taken.
    pub(super) offset: usize,
    pub(super) limit: Option<usize>,
}

/// A SELECT, as far as it is looked at.
#[derive(Default)]
struct Core<'a> {
    tables: Vec<Table<'a>>,
    /// Columns are not those of their tables any more.
    is_odd: bool,
    condition: &'a [Word],
}

struct Table<'a> {
    is_events: bool,
    /// By what its columns are named.
    name: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clause {
    Before,
    Columns,
    From,
    Where,
    Behind,
}

pub(super) fn named(sql: &str) -> Named {
    let Some(words) = words(sql) else {
        return Named {
            events: vec![Only::default()],
            states: vec![Only::default()],
            ..Named::default()
        };
    };
    let mut cores = Vec::new();
    selects(&words, 0, &mut cores);
    let mut named = Named {
        qualifiers: qualifiers(&words),
        ..Named::default()
    };
    for core in &cores {
        for table in &core.tables {
            let only = core.only(table);
            match table.is_events {
                true => named.events.push(only),
                false => named.states.push(only),
            }
        }
    }
    // Wherever else the names stand, they may mean the tables.
    for (name, found) in [(EVENTS, &mut named.events), (STATES, &mut named.states)] {
        if mentions(&words, name) != found.len() {
            found.push(Only::default());
        }
    }
    if named.events.len() == 1 && named.states.is_empty() {
        named.first = first(&words, &cores);
    }
    named
}

/// How often a name stands where it could be a table's.
fn mentions(words: &[Word], name: &str) -> usize {
    let is_ours = |at: &usize| {
        let before = |by: usize| at.checked_sub(by).and_then(|at| words.get(at));
        let is_prefix = words.get(at + 1).is_some_and(|next| next.is("."));
        // A text may be a name too, where SQLite looks for one.
        let is_other = |schema: &Word| {
            schema.name().is_some() && !schema.is_name("temp") && !schema.is_name("main")
        };
        let is_of_another =
            before(1).is_some_and(|dot| dot.is(".")) && before(2).is_some_and(is_other);
        let is_text = matches!(&words[*at], Word::Text(text) if text.eq_ignore_ascii_case(name));
        (words[*at].is_name(name) || is_text) && !is_prefix && !is_of_another
    };
    (0..words.len()).filter(is_ours).count()
}

fn qualifiers(words: &[Word]) -> BTreeSet<String> {
    let pairs = words.windows(2).filter(|pair| pair[1].is("."));
    pairs
        .filter_map(|pair| pair[0].name().map(str::to_owned))
        .collect()
}

/// The SELECTs among these words, and those within parentheses.
fn selects<'a>(words: &'a [Word], depth: usize, cores: &mut Vec<Core<'a>>) {
    if depth > DEPTH {
        return;
    }
    let mut core = Core::default();
    let mut clause = Clause::Before;
    let mut condition_from = 0;
    // A table is to come.
    let mut is_expected = false;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let is_end = clause == Clause::Where && word.is_one_of(&BEHIND_WHERE);
        if is_end {
            // Which may be a column's name, and then the condition goes on behind it.
            core.is_odd |= word.is_keyword("window");
            core.condition = &words[condition_from..at];
            clause = Clause::Behind;
        }
        let is_distinct_from = at > 0 && words[at - 1].is_keyword("distinct");
        if word.is("(") {
            let end = closing(words, at);
            selects(&words[at + 1..end], depth + 1, cores);
            is_expected = false;
            at = end;
        } else if word.is_keyword("select") {
            cores.push(std::mem::take(&mut core));
            clause = Clause::Columns;
        } else if word.is_keyword("from") && clause == Clause::Columns && !is_distinct_from {
            (clause, is_expected) = (Clause::From, true);
        } else if word.is_keyword("where") && clause == Clause::From {
            (clause, condition_from) = (Clause::Where, at + 1);
        } else if clause == Clause::From && word.is_one_of(&BEHIND_WHERE) {
            clause = Clause::Behind;
        } else if clause == Clause::From {
            core.is_odd |= word.is_one_of(&["natural", "using", "right", "full"]);
            if word.is(",") || word.is_keyword("join") {
                is_expected = true;
            } else if is_expected {
                is_expected = false;
                at = core.take_table(words, at);
            }
        }
        at += 1;
    }
    if clause == Clause::Where {
        core.condition = &words[condition_from..];
    }
    cores.push(core);
}

/// What ends a list of tables or a condition.
const BEHIND_WHERE: [&str; 8] = [
    "group",
    "having",
    "window",
    "order",
    "limit",
    "union",
    "intersect",
    "except",
];
/// What beside that may stand behind a table and is not its other name.
const BEHIND_TABLE: [&str; 13] = [
    "on", "using", "join", "left", "right", "full", "inner", "cross", "natural", "outer", "where",
    "indexed", "not",
];

/// Where the parenthesis that opens at `open` closes, or the end.
fn closing(words: &[Word], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(open) {
        if word.is("(") {
            depth += 1;
        } else if word.is(")") {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    words.len()
}

impl<'a> Core<'a> {
    /// Takes the table at `at`, if it is ours; where its last word stands.
    fn take_table(&mut self, words: &'a [Word], at: usize) -> usize {
        let get = |at: usize| words.get(at);
        let is_dot = |at: usize| get(at).is_some_and(|word| word.is("."));
        let (name_at, is_ours) = match is_dot(at + 1) {
            true => {
                let schema = &words[at];
                (at + 2, schema.is_name("temp") || schema.is_name("main"))
            }
            false => (at, true),
        };
        let Some(name) = get(name_at).and_then(Word::name) else {
            return at;
        };
        let is_events = name.eq_ignore_ascii_case(EVENTS);
        if !is_ours || !(is_events || name.eq_ignore_ascii_case(STATES)) {
            return name_at;
        }
        let mut end = name_at;
        let is_as = get(end + 1).is_some_and(|word| word.is_keyword("as"));
        let other = get(end + 1 + usize::from(is_as));
        let name = match other {
            Some(Word::Name { text, is_quoted }) => {
                let is_name = is_as
                    || *is_quoted
                    || !other.is_some_and(|word| {
                        word.is_one_of(&BEHIND_TABLE) || word.is_one_of(&BEHIND_WHERE)
                    });
                if is_name {
                    end += 1 + usize::from(is_as);
                    text
                } else {
                    name
                }
            }
            // A text may name a table too, and arguments are a function's.
            Some(Word::Text(_)) => {
                self.is_odd = true;
                name
            }
            Some(word) if word.is("(") => {
                self.is_odd = true;
                name
            }
            _ => name,
        };
        self.tables.push(Table { is_events, name });
        // SQLite refuses them.
        self.is_odd |= self.tables.len() > TABLES;
        end
    }

    fn only(&self, table: &Table<'a>) -> Only {
        let mut only = Only::default();
        if self.is_odd {
            return only;
        }
        let column = |words: &'a [Word]| match words {
            [Word::Name { text, .. }] => self.is_column_of(text, table).then_some(&**text),
            [of, dot, Word::Name { text, .. }] if dot.is(".") => {
                let is_its = of.is_name(table.name) && !self.is_twice(table);
                is_its.then_some(&**text)
            }
            _ => None,
        };
        for part in conjuncts(self.condition, 0) {
            if let Some(condition) = condition(part, &column) {
                only.and(condition);
            }
        }
        only
    }

    /// Whether a name without a table before it is of this table's column; SQLite has refused what could be
    /// of several.
    fn is_column_of(&self, name: &str, table: &Table<'a>) -> bool {
        let is_shared = SHARED
            .iter()
            .any(|shared| name.eq_ignore_ascii_case(shared));
        let alike = self
            .tables
            .iter()
            .filter(|other| is_shared || other.is_events == table.is_events);
        alike.count() == 1 && (is_shared || table.is_events)
    }

    fn is_twice(&self, table: &Table<'a>) -> bool {
        let same = self
            .tables
            .iter()
            .filter(|other| other.name.eq_ignore_ascii_case(table.name));
        same.count() > 1
    }
}

/// The parts of a condition that AND joins; none if OR is among them, or CASE: what its END ends is not always
/// to be seen from words.
fn conjuncts(words: &[Word], depth: usize) -> Vec<&[Word]> {
    if depth > DEPTH {
        return Vec::new();
    }
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    // Of BETWEEN … AND ….
    let mut betweens = 0_usize;
    while let Some(word) = words.get(at) {
        if word.is("(") {
            at = closing(words, at);
        } else if word.is_one_of(&["or", "case"]) {
            return Vec::new();
        } else if word.is_keyword("between") {
            betweens += 1;
        } else if word.is_keyword("and") && betweens > 0 {
            betweens -= 1;
        } else if word.is_keyword("and") {
            parts.push(&words[from..at]);
            from = at + 1;
        }
        at += 1;
    }
    parts.extend(words.get(from..));
    let parts = parts.into_iter();
    parts.flat_map(|part| within(part, depth)).collect()
}

/// A part in parentheses is what stands in them.
fn within(part: &[Word], depth: usize) -> Vec<&[Word]> {
    let is_whole = part.len() > 2 && part[0].is("(") && closing(part, 0) + 1 == part.len();
    match is_whole {
        true => conjuncts(&part[1..part.len() - 1], depth + 1),
        false => vec![part],
    }
}

/// Whether the statement takes the first rows of `events` by position and nothing else; what its functions
/// are is asked elsewhere.
fn first(words: &[Word], cores: &[Core<'_>]) -> Option<First> {
    let is_plain = |word: &Word| {
        !word.is_one_of(&[
            "with",
            "distinct",
            "group",
            "having",
            "window",
            "over",
            "union",
            "intersect",
            "except",
            "values",
            "join",
        ])
    };
    let selects = words.iter().filter(|word| word.is_keyword("select"));
    let mut full = cores.iter().filter(|core| !core.tables.is_empty());
    let (core, None) = (full.next()?, full.next()) else {
        return None;
    };
    let [
        Table {
            is_events: true,
            name,
        },
    ] = core.tables[..]
    else {
        return None;
    };
    if selects.count() != 1 || core.is_odd || !words.iter().all(is_plain) {
        return None;
    }
    let from = words.iter().position(|word| word.is_keyword("from"))?;
    let behind = words[from..]
        .iter()
        .position(|word| word.is_one_of(&BEHIND_WHERE));
    let behind = behind.map_or(words.len(), |behind| from + behind);
    let tables = words[from..behind]
        .iter()
        .position(|word| word.is_keyword("where"));
    let tables = &words[from..tables.map_or(behind, |at| from + at)];
    if tables.iter().any(|word| word.is(",")) || renames_position(&words[..from]) {
        return None;
    }
    ordered(&words[behind..], name)
}

/// Whether `position` could be another name for something in the list of columns.
fn renames_position(columns: &[Word]) -> bool {
    let pairs = columns.windows(2);
    let is_text =
        |word: &Word| matches!(word, Word::Text(text) if text.eq_ignore_ascii_case("position"));
    let mut named = pairs.filter(|pair| pair[1].is_name("position") || is_text(&pair[1]));
    named.any(|pair| match &pair[0] {
        Word::Mark(mark) => *mark == ")" || *mark == "*",
        before => !before.is_keyword("select"),
    })
}

/// `[ORDER BY position [DESC]] [LIMIT 10 [OFFSET 5]]`
fn ordered(mut words: &[Word], name: &str) -> Option<First> {
    let mut first = First {
        is_down: false,
        offset: 0,
        limit: None,
    };
    if let [semicolon] | [.., semicolon] = words
        && semicolon.is(";")
    {
        words = &words[..words.len() - 1];
    }
    if let [order, by, rest @ ..] = words
        && order.is_keyword("order")
        && by.is_keyword("by")
    {
        words = match rest {
            [of, dot, column, rest @ ..]
                if of.is_name(name) && dot.is(".") && column.is_name("position") =>
            {
                rest
            }
            [column, rest @ ..] if column.is_name("position") => rest,
            _ => return None,
        };
        if let [way, rest @ ..] = words
            && way.is_one_of(&["asc", "desc"])
        {
            first.is_down = way.is_keyword("desc");
            words = rest;
        }
    }
    let number = |word: &Word| match word {
        Word::Number(number) => number.parse().ok(),
        _ => None,
    };
    match words {
        [] => {}
        [limit, most] if limit.is_keyword("limit") => first.limit = Some(number(most)?),
        [limit, most, offset, skip] if limit.is_keyword("limit") && offset.is_keyword("offset") => {
            (first.limit, first.offset) = (Some(number(most)?), number(skip)?);
        }
        [limit, skip, comma, most] if limit.is_keyword("limit") && comma.is(",") => {
            (first.limit, first.offset) = (Some(number(most)?), number(skip)?);
        }
        _ => return None,
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the bounds of each place of `events` are, in short.
    fn check(sql: &str, expect: &[&str]) {
        let found: Vec<String> = named(sql).events.iter().map(short).collect();
        assert_eq!(found, expect, "{sql}");
    }

    fn short(only: &Only) -> String {
        let mut parts = Vec::new();
        for (name, values) in [
            ("s", &only.streams),
            ("c", &only.categories),
            ("t", &only.types),
        ] {
            if let Some(values) = values {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                parts.push(format!("{name}={}", values.join("|")));
            }
        }
        if only.low > 0 {
            parts.push(format!("{}..", only.low));
        }
        if only.high < u64::MAX {
            parts.push(format!("..{}", only.high));
        }
        parts.join(" ")
    }

    #[test]
    fn conditions_of_the_very_select_count() {
        check(
            "SELECT * FROM events WHERE type = 'a' AND position > 3",
            &["t=a 4.."],
        );
        check(
            "select 1 from temp.Events as E where ((e.type='a') and (e.stream='x-1'))",
            &["s=x-1 t=a"],
        );
        check(
            "SELECT * FROM orders.t o LEFT JOIN events e ON o.id = e.id WHERE e.type = 'a' ORDER BY 1",
            &["t=a"],
        );
        check(
            "SELECT (SELECT max(position) FROM events WHERE category = 'c') FROM events WHERE type IN ('a','b')",
            &["c=c", "t=a|b"],
        );
        check(
            "WITH x AS (SELECT * FROM events WHERE type = 'a') SELECT * FROM x WHERE type = 'b'",
            &["t=a"],
        );
        check(
            "SELECT 1 FROM events WHERE type = 'a' UNION ALL SELECT 2 FROM events e WHERE e.type = 'b'",
            &["t=a", "t=b"],
        );
        check(
            "SELECT 1 FROM events WHERE position BETWEEN 2 AND 5 AND (CASE WHEN 1 AND 0 OR 1 THEN 1 END) AND type='a'",
            &["t=a 2.. ..6"],
        );
        check(
            "SELECT a IS DISTINCT FROM b FROM events WHERE type = 'a'",
            &["t=a"],
        );
        check("SELECT 1", &[]);
    }

    #[test]
    fn what_could_mean_something_else_bounds_nothing() {
        for sql in [
            "SELECT * FROM events",
            "SELECT * FROM events WHERE type = 'a' OR position > 3",
            "SELECT * FROM events WHERE NOT (type = 'a' AND position > 3)",
            "SELECT * FROM events NATURAL JOIN t WHERE type = 'a'",
            "SELECT * FROM t RIGHT JOIN events ON 1 WHERE type = 'a'",
            "SELECT * FROM events JOIN t USING (id) WHERE type = 'a'",
            "SELECT * FROM events 'e' WHERE type = 'a'",
            "SELECT * FROM (events) WHERE type = 'a'",
            "SELECT * FROM events e WHERE events.type = 'a'",
            "SELECT type = 'a' FROM events GROUP BY 1 HAVING type = 'a'",
            "SELECT * FROM t WHERE id IN events",
            "SELECT * FROM 'events'",
            "SELECT * FROM temp.'events' WHERE type = 'a'",
            "SELECT * FROM 'temp'.events WHERE type = 'a'",
            "SELECT * FROM \u{feff}events",
            "SELECT * FROM events e, t h WHERE e.type='a' AND h.window = 2 OR e.position >= 0",
            "SELECT * FROM events e, t WHERE CASE WHEN t.end AND e.type='a' AND 1 THEN 1 ELSE 1 END",
        ] {
            check(sql, &[""]);
        }
        for sql in [
            "WITH events AS (SELECT 1 AS type) SELECT * FROM events WHERE type = 'a'",
            "SELECT 1 AS events FROM events WHERE type = 'a'",
            "SELECT * FROM events x JOIN t events WHERE events.type = 'a'",
        ] {
            assert!(named(sql).events.contains(&Only::default()), "{sql}");
        }
        let deep = format!(
            "SELECT {}(SELECT 1 FROM events WHERE type='a'){}",
            "(".repeat(99),
            ")".repeat(99)
        );
        check(&deep, &[""]);
    }

    #[test]
    fn the_first_rows_by_position_are_told() {
        let check = |sql: &str, expect: Option<(bool, usize, Option<usize>)>| {
            let first = named(sql).first;
            assert_eq!(
                first.map(|f| (f.is_down, f.offset, f.limit)),
                expect,
                "{sql}"
            );
        };
        check("SELECT * FROM events", Some((false, 0, None)));
        check(
            "SELECT type FROM events e ORDER BY e.position DESC LIMIT 5;",
            Some((true, 0, Some(5))),
        );
        check(
            "SELECT position, type FROM events WHERE type='a' LIMIT 5 OFFSET 7",
            Some((false, 7, Some(5))),
        );
        check(
            "SELECT * FROM events ORDER BY position LIMIT 7, 5",
            Some((false, 7, Some(5))),
        );
        for sql in [
            "SELECT DISTINCT type FROM events",
            "SELECT * FROM events ORDER BY type",
            "SELECT * FROM events ORDER BY position, type",
            "SELECT revision AS position FROM events ORDER BY position",
            "SELECT revision position FROM events ORDER BY position",
            "SELECT stream, revision AS 'position' FROM events ORDER BY position",
            "SELECT revision 'position' FROM events ORDER BY position",
            "SELECT -(revision) position FROM events ORDER BY position",
            "SELECT * FROM events, t ORDER BY position",
            "SELECT * FROM events LIMIT 2 + 3",
            "SELECT * FROM events LIMIT -1",
            "SELECT count(*) OVER () FROM events",
            "SELECT * FROM events WHERE position = (SELECT 1)",
            "SELECT type FROM events GROUP BY type",
            "SELECT * FROM states",
        ] {
            check(sql, None);
        }
    }
}
