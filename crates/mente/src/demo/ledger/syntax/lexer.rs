//! Bytes of a journal to tokens. A token is the longest that fits; a line that begins with `*`,
//! `:`, `#` or a flag is a heading of some outline editor and no token at all.

use jiff::civil::Date;

use super::super::decimal::{DIGITS_MAX, Decimal};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// The end of a line.
    Eol,
    /// A line begins with space.
    Indent,
    Bool(bool),
    Null,
    Currency(String),
    /// One capital letter with space behind it: a flag or a currency.
    Capital(char),
    Symbol(&'static str),
    Flag(char),
    Keyword(&'static str),
    Date(Date),
    Account(String),
    String(String),
    Number(Decimal),
    Tag(String),
    Link(String),
    Key(String),
    /// No token, and why.
    Invalid(String),
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) line: u32,
    pub(super) kind: Kind,
}

const KEYWORDS: [&str; 19] = [
    "txn",
    "balance",
    "open",
    "close",
    "commodity",
    "pad",
    "event",
    "query",
    "custom",
    "price",
    "note",
    "document",
    "pushtag",
    "poptag",
    "pushmeta",
    "popmeta",
    "option",
    "plugin",
    "include",
];

/// Longer ones first.
const SYMBOLS: [&str; 16] = [
    "@@", "{{", "}}", "|", "@", "{", "}", ",", "~", "+", "-", "/", "(", ")", "*", ":",
];

const FLAGS: &str = "!&#?%";

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn is_line_start(&self) -> bool {
        self.at == 0 || self.text.as_bytes().get(self.at - 1) == Some(&b'\n')
    }

    /// Space and comments between tokens; whether the line is indented.
    fn skip(&mut self) -> bool {
        let mut indented = false;
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
            if space > 0 {
                let next = rest.get(space..).and_then(|rest| rest.chars().next());
                indented |= self.is_line_start() && next.is_some_and(|c| c != '\n');
                self.at += space;
                if indented {
                    return true;
                }
            } else if rest.starts_with(';') || (self.is_line_start() && is_heading(rest)) {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else {
                return indented;
            }
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn token(&mut self) -> Kind {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Kind::Eol;
        };
        match first {
            '\n' => {
                self.at += 1;
                Kind::Eol
            }
            '"' => self.string(),
            '0'..='9' => self.number_or_date(),
            'a'..='z' => self.word(),
            '#' if tag_length(rest) > 0 => {
                self.at += 1;
                Kind::Tag(self.take(tag_length(rest)).to_owned())
            }
            '^' if tag_length(rest) > 0 => {
                self.at += 1;
                Kind::Link(self.take(tag_length(rest)).to_owned())
            }
            'A'..='Z' | '\u{80}'.. => self.name(),
            '/' if futures_length(rest) > 0 => {
                Kind::Currency(self.take(futures_length(rest)).to_owned())
            }
            _ => {
                if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                    self.at += symbol.len();
                    Kind::Symbol(symbol)
                } else if FLAGS.contains(first) {
                    self.at += 1;
                    Kind::Flag(first)
                } else {
                    self.invalid()
                }
            }
        }
    }

    /// Takes what stands there up to the next space.
    fn invalid(&mut self) -> Kind {
        let rest = self.rest();
        let length = rest.find([' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        let shown: String = self.take(length).chars().take(40).collect();
        Kind::Invalid(format!("nothing begins with {shown:?}"))
    }

    fn string(&mut self) -> Kind {
        let line = self.line;
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += at + 1;
                    return Kind::String(text);
                }
                '\\' => match characters.next() {
                    None | Some((_, '\n')) => break,
                    Some((_, escaped)) => text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'f' => '\u{c}',
                        'b' => '\u{8}',
                        other => other,
                    }),
                },
                '\n' => {
                    self.line += 1;
                    text.push('\n');
                }
                other => text.push(other),
            }
        }
        self.line = line;
        // What follows is read as if the quote were not there.
        self.at += 1;
        Kind::Invalid("a text that begins here has no end: a \" is missing".to_owned())
    }

    fn number_or_date(&mut self) -> Kind {
        let rest = self.rest();
        if let Some((length, date)) = date(rest) {
            let text = self.take(length);
            return date.map_or_else(
                || Kind::Invalid(format!("there is no day {text}")),
                Kind::Date,
            );
        }
        let is_part = |c: char| c.is_ascii_digit() || c == ',';
        let whole = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        // A comma at the end is punctuation.
        let whole = rest
            .get(..whole)
            .unwrap_or_default()
            .trim_end_matches(',')
            .len();
        let behind = rest.get(whole..).unwrap_or_default();
        let fraction = behind.strip_prefix('.').map_or(0, |digits| {
            1 + digits
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(digits.len())
        });
        let text = self.take(whole + fraction);
        let shown: String = text.chars().take(40).collect();
        if !has_commas_at_thousands(text) {
            return Kind::Invalid(format!("the commas of {shown} are not at the thousands"));
        }
        Decimal::parse(&text.replace(',', "")).map_or_else(
            || Kind::Invalid(format!("{shown} has more than {DIGITS_MAX} digits")),
            Kind::Number,
        )
    }

    /// A key, or a keyword.
    fn word(&mut self) -> Kind {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(length);
        if length > 1 && behind.starts_with(':') {
            self.at += length;
            return Kind::Key(word.to_owned());
        }
        match KEYWORDS.iter().find(|keyword| **keyword == word) {
            Some(keyword) => {
                self.at += length;
                Kind::Keyword(keyword)
            }
            None => self.invalid(),
        }
    }

    /// An account, a currency, or one of the few words in capitals.
    fn name(&mut self) -> Kind {
        let rest = self.rest();
        let account = account_length(rest);
        let currency = currency_length(rest);
        if account > currency {
            return Kind::Account(self.take(account).to_owned());
        }
        match rest.get(..currency).unwrap_or_default() {
            "" => {
                let mut characters = rest.chars();
                let first = characters.next().filter(char::is_ascii_uppercase);
                let is_alone = matches!(characters.next(), None | Some(' ' | '\t' | '\n' | '\r'));
                match first {
                    Some(letter) if is_alone => {
                        self.at += 1;
                        Kind::Capital(letter)
                    }
                    _ => self.invalid(),
                }
            }
            "TRUE" => self.constant(4, Kind::Bool(true)),
            "FALSE" => self.constant(5, Kind::Bool(false)),
            "NULL" => self.constant(4, Kind::Null),
            _ => Kind::Currency(self.take(currency).to_owned()),
        }
    }

    fn constant(&mut self, length: usize, kind: Kind) -> Kind {
        self.at += length;
        kind
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let indented = self.skip();
        if !indented && self.rest().is_empty() {
            return None;
        }
        let line = self.line;
        let kind = if indented { Kind::Indent } else { self.token() };
        if kind == Kind::Eol {
            self.line += 1;
        }
        Some(Token { line, kind })
    }
}

/// A line of an outline: `* Accounts`, `#+TITLE`. A tag is none.
fn is_heading(line: &str) -> bool {
    let mut characters = line.chars();
    let first = characters.next();
    let begins = first.is_some_and(|c| c == '*' || c == ':' || FLAGS.contains(c));
    begins
        && characters.next().is_some_and(|c| c != '\n')
        && !(first == Some('#') && tag_length(line) > 0)
}

/// Of what stands behind the `#` or `^`.
fn tag_length(text: &str) -> usize {
    let name = text.get(1..).unwrap_or_default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_/.".contains(c);
    name.find(|c| !is_part(c)).unwrap_or(name.len())
}

fn is_currency_part(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || "'._-".contains(c)
}

/// A capital, and as many parts behind it as end in a capital or a digit; one letter alone is none.
fn currency_length(text: &str) -> usize {
    let length = text.find(|c| !is_currency_part(c)).unwrap_or(text.len());
    let name = text.get(..length).unwrap_or_default();
    let name = name.trim_end_matches(['\'', '.', '_', '-']);
    if text.starts_with(|c: char| c.is_ascii_uppercase()) && name.len() > 1 {
        name.len()
    } else {
        0
    }
}

/// The currency of a future: a slash, and at least one letter behind it.
fn futures_length(text: &str) -> usize {
    let name = text.get(1..).unwrap_or_default();
    let length = name.find(|c| !is_currency_part(c)).unwrap_or(name.len());
    let name = name.get(..length).unwrap_or_default();
    let name = name.trim_end_matches(['\'', '.', '_', '-']);
    if name.contains(|c: char| c.is_ascii_uppercase()) {
        1 + name.len()
    } else {
        0
    }
}

/// At least two names with a colon between them; each begins with a capital or a digit, the first
/// with a capital, or with any letter beyond ASCII.
fn account_length(text: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || !c.is_ascii();
    let name_length = |text: &str| text.find(|c| !is_part(c)).unwrap_or(text.len());
    let begins = |text: &str, digits: bool| {
        text.starts_with(|c: char| {
            c.is_ascii_uppercase() || !c.is_ascii() || (digits && c.is_ascii_digit())
        })
    };
    if !begins(text, false) {
        return 0;
    }
    let (mut length, mut names) = (name_length(text), 1);
    while let Some(next) = text.get(length..).and_then(|rest| rest.strip_prefix(':')) {
        if !begins(next, true) {
            break;
        }
        length += 1 + name_length(next);
        names += 1;
    }
    if names > 1 { length } else { 0 }
}

/// `2014-01-31` or `2014/1/31`; its length, and the day if there is one.
fn date(text: &str) -> Option<(usize, Option<Date>)> {
    let digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let mut length = digits(text);
    if length < 4 {
        return None;
    }
    let mut parts = vec![text.get(..length)?];
    for _ in 0..2 {
        let rest = text.get(length..)?.strip_prefix(['-', '/'])?;
        let part = rest.get(..digits(rest)).filter(|part| !part.is_empty())?;
        length += 1 + part.len();
        parts.push(part);
    }
    let day = || {
        let year = parts.first()?.parse().ok().filter(|year| *year > 0)?;
        Date::new(
            year,
            parts.get(1)?.parse().ok()?,
            parts.get(2)?.parse().ok()?,
        )
        .ok()
    };
    Some((length, day()))
}

fn has_commas_at_thousands(number: &str) -> bool {
    let whole = number.split('.').next().unwrap_or_default();
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let mut rest = groups.peekable();
    let is_plain = rest.peek().is_none();
    is_plain || ((1..=3).contains(&first.len()) && rest.all(|group| group.len() == 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        Lexer::new(text).map(|token| token.kind).collect()
    }

    fn number(text: &str) -> Kind {
        Kind::Number(Decimal::parse(text).unwrap())
    }

    #[test]
    fn the_longest_token_wins() {
        let text = "Assets:US:Bank-1 USD NT.TO /6J V Étoile:Été open open: 1,000.00 2014-01-31 / #a-1 ^l {{ }}";
        let expect = vec![
            Kind::Account("Assets:US:Bank-1".to_owned()),
            Kind::Currency("USD".to_owned()),
            Kind::Currency("NT.TO".to_owned()),
            Kind::Currency("/6J".to_owned()),
            Kind::Capital('V'),
            Kind::Account("Étoile:Été".to_owned()),
            Kind::Keyword("open"),
            Kind::Key("open".to_owned()),
            Kind::Symbol(":"),
            number("1000.00"),
            Kind::Date(Date::constant(2014, 1, 31)),
            Kind::Symbol("/"),
            Kind::Tag("a-1".to_owned()),
            Kind::Link("l".to_owned()),
            Kind::Symbol("{{"),
            Kind::Symbol("}}"),
        ];
        assert_eq!(kinds(text), expect);
        assert_eq!(kinds("TRUE NULL"), [Kind::Bool(true), Kind::Null]);
    }

    #[test]
    fn lines_indents_comments_and_headings() {
        let text = "* Heading\n#+X: y\n#tag\n  1 ; comment\n\t; alone\n \n\"two\nlines\\n\" !";
        let lines: Vec<_> = Lexer::new(text)
            .map(|token| (token.line, token.kind))
            .collect();
        let expect = vec![
            (1, Kind::Eol),
            (2, Kind::Eol),
            (3, Kind::Tag("tag".to_owned())),
            (3, Kind::Eol),
            (4, Kind::Indent),
            (4, number("1")),
            (4, Kind::Eol),
            (5, Kind::Indent),
            (5, Kind::Eol),
            (6, Kind::Eol),
            (7, Kind::String("two\nlines\n".to_owned())),
            (8, Kind::Flag('!')),
        ];
        assert_eq!(lines, expect);
    }

    #[test]
    fn what_is_no_token_says_why() {
        for (text, why) in [
            ("\"no end", "no end"),
            ("12,34.0", "thousands"),
            ("2014-02-30", "no day"),
            ("0000-01-01", "no day"),
            ("assets", "nothing begins with"),
            ("\u{1}", "nothing begins with"),
            (&"1".repeat(39), "more than 38 digits"),
        ] {
            let found = kinds(text);
            assert!(
                matches!(&found[0], Kind::Invalid(said) if said.contains(why)),
                "{text}: {found:?}"
            );
        }
    }
}
