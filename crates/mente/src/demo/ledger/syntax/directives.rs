//! Directives with a date, transactions apart.

use std::collections::BTreeSet;

use jiff::civil::Date;

use super::cursor::Result;
use super::lexer::Kind;
use super::parser::Parser;
use super::{Amount, Body, Booking, Directive, Fault, Meta, MetaValue, Place, Remark};

/// Most values of a custom directive.
const CUSTOM_VALUES: usize = 1_000;

impl Parser {
    pub(super) fn dated(&mut self, date: Date, place: Place) -> Result<()> {
        let keyword = match self.cursor.peek() {
            Some(Kind::Keyword("txn") | Kind::Symbol("*")) => return self.begun(date, place, '*'),
            Some(Kind::Flag(flag) | Kind::Capital(flag)) => {
                let flag = *flag;
                return self.begun(date, place, flag);
            }
            Some(Kind::Keyword(keyword)) => *keyword,
            _ => return Err(self.cursor.wrong("a directive")),
        };
        self.cursor.skip();
        let body = match keyword {
            "open" => self.open(place)?,
            "close" => Body::Close {
                account: self.account()?,
            },
            "balance" => self.balance()?,
            "pad" => Body::Pad {
                account: self.account()?,
                source: self.account()?,
            },
            "commodity" => remark("commodity", None, Some(self.cursor.currency()?), Vec::new()),
            "price" => {
                let currency = self.cursor.currency()?;
                let amount = MetaValue::Amount(self.cursor.amount()?);
                remark("price", None, Some(currency), vec![amount])
            }
            "event" => self.named("event", "a text")?,
            "query" => self.named("query", "the text of the query")?,
            "note" => self.attached("note", "the text of the note")?,
            "document" => self.attached("document", "the name of a file, a text,")?,
            "custom" => self.custom()?,
            _ => {
                let message = format!("{keyword} has no date in front of it");
                return Err(Fault::new(place, message));
            }
        };
        self.cursor.end_of_line()?;
        let meta = self.meta_lines()?;
        self.push(date, place, meta, body);
        Ok(())
    }

    fn begun(&mut self, date: Date, place: Place, flag: char) -> Result<()> {
        self.cursor.skip();
        self.transaction(date, place, flag)
    }

    pub(super) fn push(&mut self, date: Date, place: Place, meta: Meta, body: Body) {
        self.parsed.directives.push(Directive {
            date,
            place,
            meta,
            body,
        });
    }

    fn open(&mut self, place: Place) -> Result<Body> {
        let account = self.account()?;
        let mut currencies = Vec::new();
        if let Some(first) = self.cursor.optional_currency() {
            currencies.push(first);
            while self.cursor.symbol(",") {
                currencies.push(self.cursor.currency()?);
            }
        }
        let named = self.cursor.optional_string();
        let booking = named.map(|name| {
            Booking::parse(&name).unwrap_or_else(|| {
                self.fault(place, format!("{name:?} is no booking method"));
                self.parsed.options.booking
            })
        });
        Ok(Body::Open {
            account,
            currencies,
            booking,
        })
    }

    fn balance(&mut self) -> Result<Body> {
        let account = self.account()?;
        let number = self.cursor.number()?;
        let tolerance = if self.cursor.symbol("~") {
            Some(self.cursor.number()?)
        } else {
            None
        };
        let currency = self.cursor.currency()?;
        Ok(Body::Balance {
            account,
            amount: Amount { number, currency },
            tolerance,
        })
    }

    fn named(&mut self, kind: &'static str, wanted: &str) -> Result<Body> {
        let name = self.cursor.string("a name, a text,")?;
        let text = self.cursor.string(wanted)?;
        Ok(remark(kind, None, Some(name), vec![MetaValue::Text(text)]))
    }

    fn attached(&mut self, kind: &'static str, wanted: &str) -> Result<Body> {
        let account = self.account()?;
        let text = self.cursor.string(wanted)?;
        let mut body = remark(kind, Some(account), None, vec![MetaValue::Text(text)]);
        if let Body::Remark(remark) = &mut body {
            self.cursor
                .tags_and_links(&mut remark.tags, &mut remark.links);
            self.pushed_tags(&mut remark.tags);
        }
        Ok(body)
    }

    fn custom(&mut self) -> Result<Body> {
        let name = self.cursor.string("a name, a text,")?;
        let mut values = Vec::new();
        let is_value = |kind: &Kind| {
            // Metadata may be more than that.
            !matches!(
                kind,
                Kind::Currency(_) | Kind::Capital(_) | Kind::Tag(_) | Kind::Null
            )
        };
        while self.cursor.peek().is_some_and(is_value)
            && let Some(value) = self.value()?
        {
            if values.len() >= CUSTOM_VALUES {
                return Err(self.cursor.wrong("an end of the values"));
            }
            values.push(value);
        }
        Ok(remark("custom", None, Some(name), values))
    }
}

fn remark(
    kind: &'static str,
    account: Option<String>,
    name: Option<String>,
    values: Vec<MetaValue>,
) -> Body {
    Body::Remark(Remark {
        kind,
        account,
        name,
        values,
        tags: BTreeSet::new(),
        links: BTreeSet::new(),
    })
}
