//! A text of the language in its smallest parts.

use std::iter::Peekable;
use std::str::Chars;

/// Why a text cannot be read, and where: the number of a character, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) at: usize,
    pub(super) why: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A name, or a word that the language has a use for.
    Word(String),
    /// A name between brackets or double quotation marks: never a word of the language.
    Name(String),
    Text(String),
    /// Without a sign; the smallest long has none that would fit.
    Integer(u64),
    Double(f64),
    Parameter(String),
    Symbol(&'static str),
    End,
}

/// The longer ones first.
const SYMBOLS: &[&str] = &[
    "<>", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", ".", ";",
];

/// Words that are no names unless they stand between brackets.
pub(super) const RESERVED: &[&str] = &[
    "AND", "OR", "NOT", "IS", "NULL", "IN", "LIKE", "ESCAPE", "EXISTS", "TRUE", "FALSE", "SET",
    "REMOVE",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Unread> {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
        at: 1,
    };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.token()?;
        let last = token.kind == Kind::End;
        tokens.push(token);
        if last {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    at: usize,
}

impl Lexer<'_> {
    fn token(&mut self) -> Result<Token, Unread> {
        self.run(char::is_whitespace);
        let at = self.at;
        let Some(first) = self.rest.peek().copied() else {
            return Ok(Token {
                at,
                kind: Kind::End,
            });
        };
        let kind = match first {
            '\'' => Kind::Text(self.enclosed('\'', "text")?),
            '"' => Kind::Name(self.name('"')?),
            '[' => Kind::Name(self.name(']')?),
            '@' => {
                self.next();
                let name = self.run(in_word);
                if name.is_empty() {
                    return Err(unread(at, "the name of a parameter follows @"));
                }
                Kind::Parameter(name)
            }
            '0'..='9' => self.number()?,
            letter if letter.is_alphabetic() => Kind::Word(self.run(in_word)),
            '_' => {
                return Err(unread(
                    at,
                    "a name begins with a letter; write any other one between brackets, [_name]",
                ));
            }
            other => self.symbol(other)?,
        };
        Ok(Token { at, kind })
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.at += usize::from(next.is_some());
        next
    }

    fn run(&mut self, takes: fn(char) -> bool) -> String {
        let mut run = String::new();
        while let Some(next) = self.rest.next_if(|next| takes(*next)) {
            self.at += 1;
            run.push(next);
        }
        run
    }

    fn name(&mut self, end: char) -> Result<String, Unread> {
        let at = self.at;
        let name = self.enclosed(end, "name")?;
        if name.is_empty() {
            return Err(unread(at, "a name has at least one character"));
        }
        Ok(name)
    }

    /// Up to the mark `end`, which stands for itself where it stands twice.
    fn enclosed(&mut self, end: char, what: &str) -> Result<String, Unread> {
        let at = self.at;
        self.next();
        let mut inside = String::new();
        while let Some(next) = self.next() {
            if next == end {
                if self.rest.peek() != Some(&end) {
                    return Ok(inside);
                }
                self.next();
            }
            inside.push(next);
        }
        Err(unread(at, &format!("the {what} has no end: {end} ends it")))
    }

    fn number(&mut self) -> Result<Kind, Unread> {
        let at = self.at;
        let digit = |c: char| c.is_ascii_digit();
        let mut text = self.run(digit);
        let mut whole = true;
        if self.rest.peek() == Some(&'.') {
            self.next();
            let fraction = self.run(digit);
            if fraction.is_empty() {
                return Err(unread(self.at, "digits follow the point of a number"));
            }
            text = format!("{text}.{fraction}");
            whole = false;
        }
        if matches!(self.rest.peek(), Some('e' | 'E')) {
            self.next();
            text.push('e');
            if let Some(sign) = self.rest.next_if(|next| matches!(next, '+' | '-')) {
                self.at += 1;
                text.push(sign);
            }
            let exponent = self.run(digit);
            if exponent.is_empty() {
                return Err(unread(self.at, "digits follow the e of a number"));
            }
            text.push_str(&exponent);
            whole = false;
        }
        if self.rest.peek().copied().is_some_and(in_word) {
            return Err(unread(self.at, "a letter follows a number at once"));
        }
        let too_large = || unread(at, &format!("the number {text} is too large"));
        if whole {
            return text.parse().map(Kind::Integer).map_err(|_| too_large());
        }
        let value: f64 = text.parse().map_err(|_| too_large())?;
        if value.is_infinite() {
            return Err(too_large());
        }
        Ok(Kind::Double(value))
    }

    fn symbol(&mut self, first: char) -> Result<Kind, Unread> {
        let at = self.at;
        let mut ahead = self.rest.clone();
        ahead.next();
        let second = ahead.next();
        let found = SYMBOLS.iter().find(|symbol| {
            let mut chars = symbol.chars();
            chars.next() == Some(first) && chars.next().is_none_or(|other| second == Some(other))
        });
        let Some(symbol) = found else {
            return Err(unread(at, &format!("{first:?} has no meaning here")));
        };
        for _ in symbol.chars() {
            self.next();
        }
        Ok(Kind::Symbol(symbol))
    }
}

pub(super) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(super) fn unread(at: usize, why: &str) -> Unread {
    Unread {
        at,
        why: why.to_owned(),
    }
}
