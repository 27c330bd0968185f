//! The words of a statement, as SQLite cuts them; comments are none.

/// A word of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A keyword or a name. Only one without quotes can be a keyword.
    Name { text: String, is_quoted: bool },
    /// Between single quotes.
    Text(String),
    /// As it is written.
    Number(String),
    /// An operator or a mark; of several characters where they belong together.
    Mark(&'static str),
    /// A blob, a parameter, or what else nobody here asks about.
    Other,
}

/// Marks of which no other one is the beginning come first.
const MARKS: [&str; 26] = [
    "->>", "->", "||", "<<", ">>", "<=", ">=", "<>", "!=", "==", "=", "<", ">", "(", ")", ",", ".",
    ";", "+", "-", "*", "/", "%", "&", "|", "~",
];

impl Word {
    pub(super) fn is(&self, mark: &str) -> bool {
        matches!(self, Self::Mark(found) if *found == mark)
    }

    /// Whether it is this keyword, or may be.
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self, Self::Name { text, is_quoted: false } if text.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_one_of(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is_keyword(keyword))
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Name { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it names this, as SQLite compares names.
    pub(super) fn is_name(&self, name: &str) -> bool {
        self.name().is_some_and(|n| n.eq_ignore_ascii_case(name))
    }
}

/// `None`: they cannot be cut so.
pub(super) fn words(sql: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            // A byte order mark is white space to SQLite.
            c if c.is_ascii_whitespace() || c == '\u{feff}' => c.len_utf8(),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
            '\'' => {
                let (text, length) = quoted(rest, '\'')?;
                words.push(Word::Text(text));
                length
            }
            '"' | '`' | '[' => {
                let end = if first == '[' { ']' } else { first };
                let (text, length) = quoted(rest, end)?;
                let is_quoted = true;
                words.push(Word::Name { text, is_quoted });
                length
            }
            '0'..='9' => {
                let (number, length) = number(rest);
                words.push(Word::Number(number));
                length
            }
            c if is_of_name(c) => {
                let length = run(rest, is_of_name);
                let is_blob = length == 1
                    && first.eq_ignore_ascii_case(&'x')
                    && rest[length..].starts_with('\'');
                if is_blob {
                    words.push(Word::Other);
                    length + quoted(&rest[length..], '\'')?.1
                } else {
                    words.push(Word::Name {
                        text: rest[..length].to_owned(),
                        is_quoted: false,
                    });
                    length
                }
            }
            c => match MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
                Some(mark) => {
                    words.push(Word::Mark(mark));
                    mark.len()
                }
                None => {
                    words.push(Word::Other);
                    c.len_utf8()
                }
            },
        };
        rest = rest.get(length..)?;
    }
    Some(words)
}

/// What stands between quotes, of which two within stand for one; and how long it is with them.
fn quoted(rest: &str, end: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != end {
            text.push(c);
            continue;
        }
        // A bracket ends at the first one.
        if end != ']' && chars.next_if(|(_, next)| *next == end).is_some() {
            text.push(c);
            continue;
        }
        return Some((text, at + c.len_utf8()));
    }
    None
}

/// Digits and whatever else SQLite takes for a number or refuses.
fn number(rest: &str) -> (String, usize) {
    let mut length = run(rest, |c| is_of_name(c) || c == '.');
    let is_hexadecimal = rest.starts_with("0x") || rest.starts_with("0X");
    if !is_hexadecimal && rest[..length].ends_with(['e', 'E']) {
        let behind = &rest[length..];
        if behind.starts_with(['+', '-']) {
            length += 1 + run(&behind[1..], is_of_name);
        }
    }
    (rest[..length].to_owned(), length)
}

fn run(rest: &str, is_in: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !is_in(c)).unwrap_or(rest.len())
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expect: &[Word]) {
        assert_eq!(words(sql).as_deref(), Some(expect), "{sql}");
    }

    fn name(text: &str, is_quoted: bool) -> Word {
        let text = text.to_owned();
        Word::Name { text, is_quoted }
    }

    #[test]
    fn statements_are_cut_as_sqlite_cuts_them() {
        check(
            "a='it''s'--c\n/*x*/[b c]",
            &[
                name("a", false),
                Word::Mark("="),
                Word::Text("it's".into()),
                name("b c", true),
            ],
        );
        check(
            "x'00' \"q\"\"r\" 1.5e-3",
            &[
                Word::Other,
                name("q\"r", true),
                Word::Number("1.5e-3".into()),
            ],
        );
        check(
            "t->>'$.a'>=7",
            &[
                name("t", false),
                Word::Mark("->>"),
                Word::Text("$.a".into()),
                Word::Mark(">="),
                Word::Number("7".into()),
            ],
        );
        check(
            "?1:é",
            &[
                Word::Other,
                Word::Number("1".into()),
                Word::Other,
                name("é", false),
            ],
        );
        check("/* open", &[]);
        assert_eq!(words("'open"), None);
        assert_eq!(words("[open"), None);
    }
}
