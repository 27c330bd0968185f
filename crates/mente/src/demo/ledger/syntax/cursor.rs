//! Tokens one after the other, and what is made of a few of them: numbers, amounts, metadata.

use std::collections::BTreeSet;

use super::super::decimal::Decimal;
use super::lexer::{Kind, Token};
use super::{Amount, Fault, MetaValue, PartAmount, Place};

/// Deepest nesting of parentheses and signs.
const DEPTH: usize = 64;

pub(super) type Result<T> = std::result::Result<T, Fault>;

pub(super) struct Cursor {
    tokens: Vec<Token>,
    at: usize,
    pub(super) file: usize,
}

impl Cursor {
    pub(super) fn new(tokens: Vec<Token>, file: usize) -> Self {
        Self {
            tokens,
            at: 0,
            file,
        }
    }

    pub(super) fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// Of the next token, or of the last one.
    pub(super) fn place(&self) -> Place {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        Place {
            file: self.file,
            line: token.map_or(1, |token| token.line),
        }
    }

    pub(super) fn next(&mut self) -> Option<Kind> {
        let kind = self.peek().cloned();
        self.at += 1;
        kind
    }

    pub(super) fn skip(&mut self) {
        self.at += 1;
    }

    /// Whether the symbol stands there; then it is taken.
    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Symbol(found)) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    /// What was wanted is not there.
    pub(super) fn wrong(&self, wanted: &str) -> Fault {
        let message = match self.peek() {
            Some(Kind::Invalid(why)) => why.clone(),
            None => format!("the file ends where {wanted} is needed"),
            Some(Kind::Eol) => format!("the line ends where {wanted} is needed"),
            Some(kind) => format!("{} stands where {wanted} is needed", shown(kind)),
        };
        Fault::new(self.place(), message)
    }

    pub(super) fn end_of_line(&mut self) -> Result<()> {
        match self.peek() {
            None | Some(Kind::Eol) => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.wrong("the end of the line")),
        }
    }

    /// Goes on behind a directive that is wrong: at the next line that is not indented.
    pub(super) fn recover(&mut self) {
        while let Some(kind) = self.next() {
            if kind == Kind::Eol && self.peek() != Some(&Kind::Indent) {
                return;
            }
        }
    }

    pub(super) fn string(&mut self, wanted: &str) -> Result<String> {
        match self.optional_string() {
            Some(text) => Ok(text),
            None => Err(self.wrong(wanted)),
        }
    }

    pub(super) fn optional_string(&mut self) -> Option<String> {
        let Some(Kind::String(text)) = self.peek() else {
            return None;
        };
        let text = text.clone();
        self.at += 1;
        Some(text)
    }

    pub(super) fn currency(&mut self) -> Result<String> {
        self.optional_currency()
            .ok_or_else(|| self.wrong("a currency"))
    }

    pub(super) fn optional_currency(&mut self) -> Option<String> {
        let currency = match self.peek()? {
            Kind::Currency(name) => name.clone(),
            Kind::Capital(letter) => letter.to_string(),
            _ => return None,
        };
        self.at += 1;
        Some(currency)
    }

    fn begins_number(&self) -> bool {
        matches!(
            self.peek(),
            Some(Kind::Number(_) | Kind::Symbol("+" | "-" | "("))
        )
    }

    pub(super) fn number(&mut self) -> Result<Decimal> {
        self.sum(0)
    }

    pub(super) fn optional_number(&mut self) -> Result<Option<Decimal>> {
        self.begins_number().then(|| self.number()).transpose()
    }

    /// `+` and `-`, from left to right.
    fn sum(&mut self, depth: usize) -> Result<Decimal> {
        let mut value = self.product(depth)?;
        loop {
            if self.symbol("+") {
                value = value.plus(&self.product(depth)?);
            } else if self.symbol("-") {
                value = value.minus(&self.product(depth)?);
            } else {
                return Ok(value);
            }
        }
    }

    /// `*` and `/`, from left to right.
    fn product(&mut self, depth: usize) -> Result<Decimal> {
        let mut value = self.factor(depth)?;
        loop {
            let place = self.place();
            if self.symbol("*") {
                value = value.times(&self.factor(depth)?);
            } else if self.symbol("/") {
                let divisor = self.factor(depth)?;
                let quotient = value.divided_by(&divisor);
                value = quotient.ok_or_else(|| Fault::new(place, "a division by zero"))?;
            } else {
                return Ok(value);
            }
            if !value.is_sane() {
                let message = "a number gets too large or too small to be meant";
                return Err(Fault::new(place, message));
            }
        }
    }

    fn factor(&mut self, depth: usize) -> Result<Decimal> {
        if depth > DEPTH {
            let message = format!("parentheses and signs nest deeper than {DEPTH} levels");
            return Err(Fault::new(self.place(), message));
        }
        if self.symbol("-") {
            return Ok(self.factor(depth + 1)?.negated());
        }
        if self.symbol("+") {
            return self.factor(depth + 1);
        }
        if self.symbol("(") {
            let value = self.sum(depth + 1)?;
            if !self.symbol(")") {
                return Err(self.wrong("a )"));
            }
            return Ok(value);
        }
        match self.peek() {
            Some(Kind::Number(number)) => {
                let number = number.clone();
                self.at += 1;
                Ok(number)
            }
            _ => Err(self.wrong("a number")),
        }
    }

    pub(super) fn amount(&mut self) -> Result<Amount> {
        Ok(Amount {
            number: self.number()?,
            currency: self.currency()?,
        })
    }

    pub(super) fn part_amount(&mut self) -> Result<PartAmount> {
        Ok(PartAmount {
            number: self.optional_number()?,
            currency: self.optional_currency(),
        })
    }

    pub(super) fn tags_and_links(
        &mut self,
        tags: &mut BTreeSet<String>,
        links: &mut BTreeSet<String>,
    ) {
        loop {
            match self.peek() {
                Some(Kind::Tag(tag)) => tags.insert(tag.clone()),
                Some(Kind::Link(link)) => links.insert(link.clone()),
                _ => return,
            };
            self.at += 1;
        }
    }

    /// `key:`
    pub(super) fn key(&mut self) -> Result<String> {
        let Some(Kind::Key(key)) = self.peek() else {
            return Err(self.wrong("a key of metadata"));
        };
        let key = key.clone();
        self.at += 1;
        if self.symbol(":") {
            Ok(key)
        } else {
            Err(self.wrong("a :"))
        }
    }

    /// A value of metadata or of a custom directive, if one stands there.
    pub(super) fn value(&mut self) -> Result<Option<MetaValue>> {
        if self.begins_number() {
            let number = self.number()?;
            return Ok(Some(match self.optional_currency() {
                Some(currency) => MetaValue::Amount(Amount { number, currency }),
                None => MetaValue::Number(number),
            }));
        }
        let value = match self.peek() {
            Some(Kind::String(text) | Kind::Currency(text)) => MetaValue::Text(text.clone()),
            Some(Kind::Account(account)) => MetaValue::Account(account.clone()),
            Some(Kind::Capital(letter)) => MetaValue::Text(letter.to_string()),
            Some(Kind::Date(date)) => MetaValue::Text(date.to_string()),
            Some(Kind::Tag(tag)) => MetaValue::Tag(tag.clone()),
            Some(Kind::Bool(value)) => MetaValue::Bool(*value),
            Some(Kind::Null) => MetaValue::None,
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(value))
    }
}

fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Eol => "the end of the line".to_owned(),
        Kind::Indent => "an indented line".to_owned(),
        Kind::Bool(true) => "TRUE".to_owned(),
        Kind::Bool(false) => "FALSE".to_owned(),
        Kind::Null => "NULL".to_owned(),
        Kind::Capital(letter) | Kind::Flag(letter) => letter.to_string(),
        Kind::Symbol(text) | Kind::Keyword(text) => (*text).to_owned(),
        Kind::Date(date) => date.to_string(),
        Kind::Currency(text) | Kind::Account(text) => text.clone(),
        Kind::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Kind::Number(number) => number.to_string(),
        Kind::Tag(text) => format!("#{text}"),
        Kind::Link(text) => format!("^{text}"),
        Kind::Key(text) => format!("{text}:"),
        Kind::Invalid(why) => why.clone(),
    }
}
