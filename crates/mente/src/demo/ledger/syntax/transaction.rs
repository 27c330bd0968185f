//! Transactions and their postings.

use std::collections::BTreeSet;

use jiff::civil::Date;

use super::super::decimal::Decimal;
use super::cursor::Result;
use super::lexer::Kind;
use super::parser::Parser;
use super::{Body, CostSpec, Meta, MetaValue, PartAmount, Place, Posting, Total, Transaction};

impl Parser {
    /// What stands behind date and flag.
    pub(super) fn transaction(&mut self, date: Date, place: Place, flag: char) -> Result<()> {
        let texts = self.texts(place);
        let (mut tags, mut links) = (BTreeSet::new(), BTreeSet::new());
        self.cursor.tags_and_links(&mut tags, &mut links);
        self.cursor.end_of_line()?;
        let mut meta = Meta::new();
        let mut postings: Vec<Posting> = Vec::new();
        while self.cursor.peek() == Some(&Kind::Indent) {
            self.cursor.skip();
            match self.cursor.peek() {
                None | Some(Kind::Eol) => {}
                Some(Kind::Tag(_) | Kind::Link(_)) => {
                    let (mut more_tags, mut more_links) = (BTreeSet::new(), BTreeSet::new());
                    self.cursor.tags_and_links(&mut more_tags, &mut more_links);
                    if postings.is_empty() {
                        tags.append(&mut more_tags);
                        links.append(&mut more_links);
                    } else {
                        self.fault(place, "tags and links stand in front of the first posting");
                    }
                }
                Some(Kind::Key(_)) => {
                    let (key, value) = self.key_value()?;
                    let whose = postings
                        .last_mut()
                        .map_or(&mut meta, |posting| &mut posting.meta);
                    if !keep(whose, key.clone(), value) {
                        self.fault(place, format!("the metadata {key} is there twice"));
                    }
                }
                Some(_) => {
                    let posting = self.posting()?;
                    postings.push(posting);
                }
            }
            self.cursor.end_of_line()?;
        }
        self.pushed_tags(&mut tags);
        for (key, values) in &self.meta {
            if let (Some(value), false) = (values.last(), meta.contains_key(key)) {
                meta.insert(key.clone(), value.clone());
            }
        }
        let mut texts = texts.into_iter();
        let (payee, narration) = match (texts.next(), texts.next(), texts.next()) {
            (payee, Some(narration), None) => (payee, narration),
            (narration, None, _) => (None, narration.unwrap_or_default()),
            (_, _, Some(_)) => {
                let message = "a transaction has a payee and a narration, and no third text";
                self.fault(place, message);
                return Ok(());
            }
        };
        let transaction = Transaction {
            flag,
            payee,
            narration,
            tags,
            links,
            postings,
        };
        self.push(date, place, meta, Body::Transaction(transaction));
        Ok(())
    }

    /// Payee and narration; between them there may be a bar, as there was long ago.
    fn texts(&mut self, place: Place) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            if let Some(text) = self.cursor.optional_string() {
                // More than a third is no news.
                if texts.len() < 3 {
                    texts.push(text);
                }
            } else if self.cursor.symbol("|") {
                if !self.parsed.options.pipes_are_allowed {
                    self.fault(place, "the bar between payee and narration is deprecated");
                }
            } else {
                return texts;
            }
        }
    }

    fn posting(&mut self) -> Result<Posting> {
        let place = self.cursor.place();
        let flag = match self.cursor.peek() {
            Some(Kind::Symbol("*")) => Some('*'),
            Some(Kind::Flag(flag) | Kind::Capital(flag)) => Some(*flag),
            _ => None,
        };
        if flag.is_some() {
            self.cursor.skip();
        }
        let account = self.account()?;
        let mut posting = Posting {
            place,
            account,
            flag,
            units: None,
            cost: None,
            price: None,
            meta: Meta::new(),
        };
        if matches!(self.cursor.peek(), None | Some(Kind::Eol)) {
            return Ok(posting);
        }
        let units = self.cursor.part_amount()?;
        posting.cost = self.cost(place)?;
        if self.cursor.symbol("@@") {
            let price = self.cursor.part_amount()?;
            posting.price = self.unit_price(place, &units, price);
        } else if self.cursor.symbol("@") {
            let price = self.cursor.part_amount()?;
            posting.price = Some(self.not_negative(place, price));
        }
        posting.units = Some(units);
        self.check_currencies(&posting);
        Ok(posting)
    }

    /// The price of one, where that of all is given.
    fn unit_price(
        &mut self,
        place: Place,
        units: &PartAmount,
        price: PartAmount,
    ) -> Option<PartAmount> {
        let mut price = self.not_negative(place, price);
        let Some(units) = &units.number else {
            self.fault(place, "a total price stands on a posting without units");
            return None;
        };
        price.number = price.number.map(|total| {
            let unit = total.divided_by(&units.absolute());
            unit.unwrap_or_else(Decimal::zero)
        });
        Some(price)
    }

    fn not_negative(&mut self, place: Place, mut price: PartAmount) -> PartAmount {
        if let Some(number) = price.number.as_mut().filter(|number| number.is_negative()) {
            *number = number.absolute();
            self.fault(place, "a price is not negative");
        }
        price
    }

    fn check_currencies(&mut self, posting: &Posting) {
        let cost = posting
            .cost
            .as_ref()
            .and_then(|cost| cost.currency.as_ref());
        // A price of nothing was never compared.
        let price = posting.price.as_ref();
        let price = price.and_then(|price| price.currency.as_ref());
        if let (Some(cost), Some(price)) = (cost, price)
            && cost != price
        {
            let message = format!("the cost is in {cost}, but the price in {price}");
            self.fault(posting.place, message);
        }
    }

    fn cost(&mut self, place: Place) -> Result<Option<CostSpec>> {
        let is_total = if self.cursor.symbol("{{") {
            true
        } else if self.cursor.symbol("{") {
            false
        } else {
            return Ok(None);
        };
        let end = if is_total { "}}" } else { "}" };
        let mut spec = CostSpec::default();
        let (mut has_amount, mut has_merge) = (false, false);
        if !self.cursor.symbol(end) {
            loop {
                self.cost_part(place, &mut spec, &mut has_amount, &mut has_merge)?;
                if self.cursor.symbol(end) {
                    break;
                }
                if !self.cursor.symbol(",") {
                    return Err(self.cursor.wrong(&format!("a comma or {end}")));
                }
            }
        }
        if is_total && has_amount {
            if spec.total == Total::Absent {
                spec.total = spec.per.take().map_or(Total::Missing, Total::Number);
            } else {
                self.fault(place, "a cost in {{ }} has no part for one unit");
            }
            spec.per = Some(Decimal::zero());
        }
        Ok(Some(spec))
    }

    /// An amount, a date, a label or a star.
    fn cost_part(
        &mut self,
        place: Place,
        spec: &mut CostSpec,
        has_amount: &mut bool,
        has_merge: &mut bool,
    ) -> Result<()> {
        let twice = match self.cursor.peek() {
            Some(Kind::Date(date)) => {
                let date = *date;
                self.cursor.skip();
                let twice = spec.date.is_some();
                spec.date.get_or_insert(date);
                twice
            }
            Some(Kind::String(label)) => {
                let label = label.clone();
                self.cursor.skip();
                let twice = spec.label.is_some();
                spec.label.get_or_insert(label);
                twice
            }
            Some(Kind::Symbol("*")) => {
                self.cursor.skip();
                self.fault(
                    place,
                    "merging the costs of lots, {*}, is not built in beancount",
                );
                std::mem::replace(has_merge, true)
            }
            _ => {
                let per = self.cursor.optional_number()?;
                let total = if self.cursor.peek() == Some(&Kind::Flag('#')) {
                    self.cursor.skip();
                    let number = self.cursor.optional_number()?;
                    number.map_or(Total::Missing, Total::Number)
                } else {
                    Total::Absent
                };
                let currency = self.cursor.optional_currency();
                if currency.is_none() && (per.is_none() || total != Total::Absent) {
                    return Err(self.cursor.wrong("a cost"));
                }
                let twice = std::mem::replace(has_amount, true);
                if !twice {
                    (spec.per, spec.total, spec.currency) = (per, total, currency);
                }
                twice
            }
        };
        if twice {
            self.fault(place, "a cost names the same thing twice");
        }
        Ok(())
    }
}

/// Whether the key was free. To say the same constant or account again is no fault in beancount.
fn keep(meta: &mut Meta, key: String, value: MetaValue) -> bool {
    let Some(kept) = meta.get(&key) else {
        meta.insert(key, value);
        return true;
    };
    let is_shared = matches!(
        value,
        MetaValue::None | MetaValue::Bool(_) | MetaValue::Account(_)
    );
    is_shared && *kept == value
}
