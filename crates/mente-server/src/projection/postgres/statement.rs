//! A statement of a declaration, made ready for PostgreSQL: `:subject` becomes `$1`, and what
//! would make the rows more or less than a fold of the log is refused by name.
//!
//! There is no sandbox as there is for SQLite: what a role may do, PostgreSQL says. What is
//! refused here would end the transaction that the checkpoint is in, or change Mente's own
//! tables, or give other rows at the next rebuild. Not all of the latter can be seen in a text;
//! `verify` tells.

use mente_broker::nearest::suggestion;
use tokio_postgres::types::Type;

use crate::projection::declaration::{PARAMETERS, Parameter};

/// First words of statements that change rows.
const CHANGES: [&str; 5] = ["insert", "update", "delete", "merge", "with"];
/// First words of those that make what rows lie in.
const MAKES: [&str; 9] = [
    "create", "alter", "comment", "grant", "revoke", "insert", "update", "delete", "with",
];
/// Functions that ask the clock, chance, or a counter that a rollback does not turn back.
const UNREPEATABLE_CALLS: [&str; 17] = [
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "random_normal",
    "gen_random_uuid",
    "gen_random_bytes",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "nextval",
    "setval",
    "txid_current",
    "pg_current_xact_id",
];
/// The same without brackets.
const UNREPEATABLE: [&str; 6] = [
    "current_timestamp",
    "current_date",
    "current_time",
    "localtimestamp",
    "localtime",
    "ctid",
];
/// Types of columns that count by themselves.
const COUNTERS: [&str; 7] = [
    "serial",
    "bigserial",
    "smallserial",
    "serial2",
    "serial4",
    "serial8",
    "identity",
];
/// Texts that a timestamp takes for the clock.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
const OWN_TABLES: &str = "mente_";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Init,
    Change,
}

/// SQL with `$1`, `$2` and so on, and the names that they stand for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) sql: String,
    pub(super) names: Vec<String>,
}

/// Takes a statement apart as PostgreSQL's lexer does, as far as names go.
pub(super) fn translate(sql: &str, used: Use) -> Result<Translated, String> {
    if sql.contains('\0') {
        return Err("the statement has a character NUL: take it out".to_owned());
    }
    let mut out = Translated {
        sql: String::with_capacity(sql.len()),
        names: Vec::new(),
    };
    let mut first: Option<&str> = None;
    // Whether a name stands right before, as before the type of a column.
    let mut is_behind_name = false;
    let mut rest = sql;
    while !rest.is_empty() {
        let (piece, behind) = next(rest)?;
        rest = behind;
        match piece {
            Piece::Parameter(name) => {
                let known = out.names.iter().position(|known| known == name);
                let index = known.unwrap_or_else(|| {
                    out.names.push(name.to_owned());
                    out.names.len() - 1
                });
                out.sql.push_str(&format!("${}", index + 1));
                is_behind_name = false;
                continue;
            }
            Piece::Positional => return Err("parameters are written :NAME".to_owned()),
            Piece::Word(word) => {
                check_word(word, behind, used == Use::Init && is_behind_name)?;
                first.get_or_insert(word);
                is_behind_name = true;
            }
            Piece::Name(name) => {
                check_name(name)?;
                is_behind_name = true;
            }
            Piece::Text(text) => {
                check_text(text)?;
                is_behind_name = false;
            }
            Piece::Other(other) => is_behind_name &= other.trim().is_empty(),
        }
        out.sql.push_str(piece.as_str());
    }
    let (allowed, what) = match used {
        Use::Init => (&MAKES[..], "makes tables"),
        Use::Change => (&CHANGES[..], "changes rows"),
    };
    let first = first.map(str::to_ascii_lowercase);
    if !first.is_some_and(|first| allowed.contains(&first.as_str())) {
        let allowed = allowed.join(", ").to_ascii_uppercase();
        return Err(format!(
            "the statement {what} and so begins with one of {allowed}"
        ));
    }
    if used == Use::Init && !out.names.is_empty() {
        return Err(format!("there is no event here, so no :{}", out.names[0]));
    }
    Ok(out)
}

/// What the names of a declared statement are of an event, with the types they have.
pub(super) fn parameters(names: &[String]) -> Result<(Vec<Parameter>, Vec<Type>), String> {
    let mut found = (Vec::new(), Vec::new());
    for name in names {
        let known = PARAMETERS.map(|(known, _)| known);
        let parameter = PARAMETERS.iter().find(|(known, _)| *known == name.as_str());
        let unknown = || format!("no parameter :{name}{}", suggestion(name, &known));
        let (_, parameter) = parameter.ok_or_else(unknown)?;
        found.0.push(*parameter);
        found.1.push(match parameter {
            Parameter::Data => Type::JSONB,
            Parameter::Time => Type::TIMESTAMPTZ,
            Parameter::Partition
            | Parameter::Offset
            | Parameter::Position
            | Parameter::Revision => Type::INT8,
            Parameter::Id
            | Parameter::Source
            | Parameter::Type
            | Parameter::Subject
            | Parameter::Stream => Type::TEXT,
        });
    }
    Ok(found)
}

#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    /// `:name`, without the colon.
    Parameter(&'a str),
    /// `$1`.
    Positional,
    Word(&'a str),
    /// Between double quotes.
    Name(&'a str),
    /// Between single quotes or dollars.
    Text(&'a str),
    Other(&'a str),
}

impl<'a> Piece<'a> {
    fn as_str(self) -> &'a str {
        match self {
            Piece::Parameter(text)
            | Piece::Word(text)
            | Piece::Name(text)
            | Piece::Text(text)
            | Piece::Other(text) => text,
            Piece::Positional => "",
        }
    }
}

/// The first piece of what is not empty, and the rest.
fn next(sql: &str) -> Result<(Piece<'_>, &str), String> {
    let starts = |prefix: &str| sql.starts_with(prefix);
    let cut = |length: usize| sql.split_at(length);
    if starts("::") || starts(":=") {
        let (other, rest) = cut(2);
        return Ok((Piece::Other(other), rest));
    }
    if starts("--") {
        let (comment, rest) = cut(sql.find('\n').unwrap_or(sql.len()));
        return Ok((Piece::Other(comment), rest));
    }
    if starts("/*") {
        let (comment, rest) = cut(comment_bytes(sql)?);
        return Ok((Piece::Other(comment), rest));
    }
    let first = sql.chars().next().unwrap_or(' ');
    let behind = &sql[first.len_utf8()..];
    let word = |text: &str| text.find(|c: char| !is_in_word(c)).unwrap_or(text.len());
    match first {
        ':' if behind.starts_with(begins_word) => {
            let (name, rest) = behind.split_at(word(behind));
            Ok((Piece::Parameter(name), rest))
        }
        '\'' => quoted(sql, 1, '\'', false).map(|(text, rest)| (Piece::Text(text), rest)),
        '"' => quoted(sql, 1, '"', false).map(|(name, rest)| (Piece::Name(name), rest)),
        'e' | 'E' if behind.starts_with('\'') => {
            quoted(sql, 2, '\'', true).map(|(text, rest)| (Piece::Text(text), rest))
        }
        '$' if behind.starts_with(|c: char| c.is_ascii_digit()) => Ok((Piece::Positional, behind)),
        '$' => dollars(sql),
        c if begins_word(c) => {
            let (word, rest) = cut(word(sql));
            Ok((Piece::Word(word), rest))
        }
        _ => {
            // Digits take letters along, so that no word begins inside a number.
            let length = if first.is_alphanumeric() {
                word(sql)
            } else {
                first.len_utf8()
            };
            let (other, rest) = cut(length);
            Ok((Piece::Other(other), rest))
        }
    }
}

fn begins_word(c: char) -> bool {
    c.is_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_in_word(c: char) -> bool {
    begins_word(c) || c.is_ascii_digit() || c == '$'
}

/// From the quote before `start` to the one that ends it; a doubled one stands for itself.
fn quoted(sql: &str, start: usize, quote: char, escapes: bool) -> Result<(&str, &str), String> {
    let mut characters = sql.char_indices().skip(start).peekable();
    while let Some((at, c)) = characters.next() {
        if escapes && c == '\\' {
            characters.next();
        } else if c == quote && characters.next_if(|(_, c)| *c == quote).is_none() {
            return Ok(sql.split_at(at + 1));
        }
    }
    Err(format!("a {quote} has no end"))
}

/// `$$ … $$` or `$tag$ … $tag$`.
fn dollars(sql: &str) -> Result<(Piece<'_>, &str), String> {
    let tag_end = sql[1..].find('$').map(|at| at + 2);
    let is_tag = |tag: &str| {
        tag[1..tag.len() - 1]
            .chars()
            .all(|c| is_in_word(c) && c != '$')
    };
    let Some(tag_end) = tag_end.filter(|end| is_tag(&sql[..*end])) else {
        let (other, rest) = sql.split_at(1);
        return Ok((Piece::Other(other), rest));
    };
    let (tag, body) = sql.split_at(tag_end);
    let end = body
        .find(tag)
        .ok_or_else(|| format!("a {tag} has no end"))?;
    let (text, rest) = sql.split_at(tag_end + end + tag.len());
    Ok((Piece::Text(text), rest))
}

/// Comments nest.
fn comment_bytes(sql: &str) -> Result<usize, String> {
    let (mut depth, mut at) = (0, 0);
    let bytes = sql.as_bytes();
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err("a comment has no end".to_owned())
}

fn check_word(word: &str, behind: &str, is_type: bool) -> Result<(), String> {
    check_name(word)?;
    let lower = word.to_ascii_lowercase();
    let is_call = behind.trim_start().starts_with('(');
    let is_unrepeatable = UNREPEATABLE.contains(&lower.as_str())
        || is_type && COUNTERS.contains(&lower.as_str())
        || is_call && UNREPEATABLE_CALLS.contains(&lower.as_str());
    if is_unrepeatable {
        return Err(format!(
            "{word} gives something else at every rebuild: take it from the event, as :time, :id or :position"
        ));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let head = name.trim_start_matches('"').get(..OWN_TABLES.len());
    if head.is_some_and(|head| head.eq_ignore_ascii_case(OWN_TABLES)) {
        return Err(format!("{name} is Mente's own: give it another name"));
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), String> {
    let inner = text.trim_matches(|c: char| c == '\'' || c.is_whitespace());
    let is_moment = MOMENTS
        .iter()
        .any(|moment| inner.eq_ignore_ascii_case(moment));
    if is_moment {
        return Err(format!(
            "{text} asks the clock, and then a rebuild gives other rows: use :time, the event's"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expect: &str, names: &[&str]) {
        let found = translate(sql, Use::Change).expect(sql);
        assert_eq!(
            (found.sql.as_str(), found.names),
            (expect, names.iter().map(|n| (*n).to_owned()).collect())
        );
    }

    #[test]
    fn names_become_numbers_where_they_are_parameters() {
        check(
            "INSERT INTO t VALUES (:subject, (:data ->> 'total')::numeric, :subject)",
            "INSERT INTO t VALUES ($1, ($2 ->> 'total')::numeric, $1)",
            &["subject", "data"],
        );
        check(
            "UPDATE t SET a = ':id', \":id\" = 1 -- :id",
            "UPDATE t SET a = ':id', \":id\" = 1 -- :id",
            &[],
        );
        check(
            "UPDATE t SET a = 'it''s :id', b = E'\\':id' WHERE c = :id",
            "UPDATE t SET a = 'it''s :id', b = E'\\':id' WHERE c = $1",
            &["id"],
        );
        check(
            "/* a /* :b */ :c */ DELETE FROM t WHERE x = $q$ :d $q$ AND y = $$:e$$",
            "/* a /* :b */ :c */ DELETE FROM t WHERE x = $q$ :d $q$ AND y = $$:e$$",
            &[],
        );
        check(
            "update t set a[1:2] = :data::int[], b = '\u{e4}:x'",
            "update t set a[1:2] = $1::int[], b = '\u{e4}:x'",
            &["data"],
        );
    }

    #[test]
    fn what_is_no_fold_is_refused() {
        for (sql, says) in [
            ("COMMIT", "begins with one of"),
            ("/* INSERT */ ROLLBACK", "begins with one of"),
            ("SELECT 1", "begins with one of"),
            ("", "begins with one of"),
            ("INSERT INTO t VALUES (now())", "every rebuild"),
            ("INSERT INTO t VALUES (CURRENT_TIMESTAMP)", "every rebuild"),
            (
                "INSERT INTO t VALUES (pg_catalog.random ())",
                "every rebuild",
            ),
            (
                "INSERT INTO t VALUES ('NOW'::timestamptz)",
                "asks the clock",
            ),
            ("DELETE FROM mente_checkpoint", "own"),
            ("DELETE FROM \"shop\".\"mente_projection\"", "own"),
            ("INSERT INTO t VALUES ($1)", ":NAME"),
            ("INSERT INTO t VALUES ('x", "no end"),
            ("INSERT INTO t VALUES ($a$ x", "no end"),
            ("/* INSERT", "no end"),
            ("INSERT INTO t VALUES (\"x", "no end"),
        ] {
            let error = translate(sql, Use::Change).expect_err(sql);
            assert!(error.contains(says), "{sql}: {error}");
        }
        assert!(translate("CREATE TABLE t (a bigserial)", Use::Init).is_err());
        assert!(translate("CREATE TABLE t (a text DEFAULT :id)", Use::Init).is_err());
        let named = "CREATE TABLE t (random text, now text, serial text, identity text)";
        assert!(translate(named, Use::Init).is_ok());
    }

    #[test]
    fn parameters_have_types() {
        let (_, types) = parameters(&["data".to_owned(), "offset".to_owned()]).unwrap();
        assert_eq!(types, [Type::JSONB, Type::INT8]);
        let error = parameters(&["dat".to_owned()]).unwrap_err();
        assert!(error.contains("did you mean \"data\""), "{error}");
    }

    #[test]
    fn no_text_panics() {
        let pieces = [
            "'", "\"", "$", "$$", "$a$", ":", "::", "e'", "\\", "--", "/*", "*/", "\u{e4}", "x",
            "1", "\n",
        ];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let _ = translate(&format!("INSERT {a}{b}{c}"), Use::Change);
                    let _ = translate(&format!("{a}{b}{c}"), Use::Init);
                }
            }
        }
    }
}
