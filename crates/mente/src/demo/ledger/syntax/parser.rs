//! One file to its directives. What breaks the language is told apart from what only breaks a
//! rule: with the first nothing is made of the journal, with the second most of it is.

use std::collections::{BTreeMap, BTreeSet};

use super::super::options::Options;
use super::cursor::{Cursor, Result};
use super::lexer::{Kind, Lexer};
use super::{Directive, Fault, Meta, MetaValue, Place};

/// Faults of the language that are told of one file.
const SYNTAX_FAULTS: usize = 20;

/// What one file says.
#[derive(Debug, Default)]
pub(in super::super) struct Parsed {
    pub(in super::super) directives: Vec<Directive>,
    pub(in super::super) includes: Vec<(Place, String)>,
    pub(in super::super) plugins: Vec<(Place, String)>,
    pub(in super::super) options: Options,
    /// Directives without a date, by kind.
    pub(in super::super) undated: BTreeMap<&'static str, u64>,
    /// It is no journal.
    pub(in super::super) syntax: Vec<Fault>,
    /// Rules that it breaks.
    pub(in super::super) faults: Vec<Fault>,
}

pub(super) struct Parser {
    pub(super) cursor: Cursor,
    pub(super) parsed: Parsed,
    /// Tags that every transaction has from here on; one may have been pushed twice.
    tags: Vec<String>,
    pub(super) meta: BTreeMap<String, Vec<MetaValue>>,
}

pub(in super::super) fn parse(text: &str, file: usize) -> Parsed {
    let tokens = Lexer::new(text).collect();
    let mut parser = Parser {
        cursor: Cursor::new(tokens, file),
        parsed: Parsed::default(),
        tags: Vec::new(),
        meta: BTreeMap::new(),
    };
    while parser.cursor.peek().is_some() {
        if let Err(fault) = parser.declaration() {
            if parser.parsed.syntax.len() >= SYNTAX_FAULTS {
                break;
            }
            parser.parsed.syntax.push(fault);
            parser.cursor.recover();
        }
    }
    parser.finish(file)
}

impl Parser {
    pub(super) fn fault(&mut self, place: Place, message: impl Into<String>) {
        self.parsed.faults.push(Fault::new(place, message));
    }

    fn declaration(&mut self) -> Result<()> {
        let place = self.cursor.place();
        match self.cursor.peek() {
            Some(Kind::Eol) => {
                self.cursor.skip();
                Ok(())
            }
            Some(Kind::Date(date)) => {
                let date = *date;
                self.cursor.skip();
                self.dated(date, place)
            }
            Some(Kind::Keyword(keyword)) => {
                let keyword = *keyword;
                self.cursor.skip();
                self.undated(keyword, place)
            }
            _ => Err(self.cursor.wrong("a date or a directive")),
        }
    }

    fn undated(&mut self, keyword: &'static str, place: Place) -> Result<()> {
        match keyword {
            "pushtag" | "poptag" => self.tag(keyword == "pushtag", place)?,
            "pushmeta" => {
                let (key, value) = self.key_value()?;
                self.cursor.end_of_line()?;
                self.meta.entry(key).or_default().push(value);
            }
            "popmeta" => self.popmeta(place)?,
            "option" => {
                let name = self.cursor.string("the name of an option, a text,")?;
                let value = self.cursor.string("the value of an option, a text,")?;
                self.cursor.end_of_line()?;
                for message in self.parsed.options.set(&name, &value) {
                    self.fault(place, message);
                }
            }
            "include" => {
                let path = self.cursor.string("the name of a file, a text,")?;
                self.cursor.end_of_line()?;
                self.parsed.includes.push((place, path));
            }
            "plugin" => {
                let name = self.cursor.string("the name of a plugin, a text,")?;
                self.cursor.optional_string();
                self.cursor.end_of_line()?;
                self.parsed.plugins.push((place, name));
            }
            _ => {
                let message = format!("a date is missing in front of {keyword}");
                return Err(Fault::new(place, message));
            }
        }
        *self.parsed.undated.entry(keyword).or_default() += 1;
        Ok(())
    }

    fn tag(&mut self, push: bool, place: Place) -> Result<()> {
        let Some(Kind::Tag(tag)) = self.cursor.peek() else {
            return Err(self.cursor.wrong("a #tag"));
        };
        let tag = tag.clone();
        self.cursor.skip();
        self.cursor.end_of_line()?;
        let pushed = self.tags.iter().position(|pushed| *pushed == tag);
        match pushed {
            _ if push => self.tags.push(tag),
            Some(index) => {
                self.tags.remove(index);
            }
            None => self.fault(place, format!("poptag of #{tag}, which was not pushed")),
        }
        Ok(())
    }

    fn popmeta(&mut self, place: Place) -> Result<()> {
        let key = self.cursor.key()?;
        self.cursor.end_of_line()?;
        match self.meta.get_mut(&key) {
            None => self.fault(place, format!("popmeta of {key}, which was not pushed")),
            Some(values) => {
                values.pop();
                if values.is_empty() {
                    self.meta.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Tags that are pushed, beside those of the directive itself.
    pub(super) fn pushed_tags(&self, tags: &mut BTreeSet<String>) {
        tags.extend(self.tags.iter().cloned());
    }

    /// An account, whose name may be none: that is told, and it is used nevertheless.
    pub(super) fn account(&mut self) -> Result<String> {
        let Some(Kind::Account(account)) = self.cursor.peek() else {
            return Err(self.cursor.wrong("an account"));
        };
        let (account, place) = (account.clone(), self.cursor.place());
        self.cursor.skip();
        self.check_account(place, &account);
        Ok(account)
    }

    fn check_account(&mut self, place: Place, account: &str) {
        if !self.parsed.options.allows(account) {
            self.fault(place, format!("{account} is no name of an account"));
        }
    }

    /// A value of metadata or of a custom directive, if one stands there.
    pub(super) fn value(&mut self) -> Result<Option<MetaValue>> {
        let place = self.cursor.place();
        let value = self.cursor.value()?;
        if let Some(MetaValue::Account(account)) = &value {
            self.check_account(place, account);
        }
        Ok(value)
    }

    pub(super) fn key_value(&mut self) -> Result<(String, MetaValue)> {
        let key = self.cursor.key()?;
        Ok((key, self.value()?.unwrap_or(MetaValue::None)))
    }

    /// Indented lines of metadata behind a directive; a key that comes twice has its last value.
    pub(super) fn meta_lines(&mut self) -> Result<Meta> {
        let mut meta = Meta::new();
        while self.cursor.peek() == Some(&Kind::Indent) {
            self.cursor.skip();
            if matches!(self.cursor.peek(), None | Some(Kind::Eol)) {
                self.cursor.skip();
                continue;
            }
            let (key, value) = self.key_value()?;
            self.cursor.end_of_line()?;
            meta.insert(key, value);
        }
        Ok(meta)
    }

    fn finish(mut self, file: usize) -> Parsed {
        let place = Place { file, line: 0 };
        for tag in std::mem::take(&mut self.tags) {
            self.fault(place, format!("#{tag} was pushed and not popped"));
        }
        for key in std::mem::take(&mut self.meta).into_keys() {
            self.fault(
                place,
                format!("the metadata {key} was pushed and not popped"),
            );
        }
        self.parsed
    }
}
