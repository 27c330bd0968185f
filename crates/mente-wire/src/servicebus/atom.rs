//! The Atom documents in which the administration speaks: entries with one description each, feeds of them, errors.
//!
//! A description says in one place which elements it has and in which order ([`Description::fields`]), for reading and
//! for writing. Reading takes any order, prefix and element that it does not know; writing has the order of
//! the service, which readers of .NET are strict about.
//!
//! Two clients read more into the documents than Atom says: JS cuts names out of an entry's id, so its segments are
//! written `Subscriptions` and `Rules`; Python takes the second of exactly two links of a feed for the next page.

use mente_engine::Timestamp;

use super::authorization::{self, AuthorizationRule};
use super::counts::Counts;
use super::rule::{Filter, RuleDescription, Sql, read_action, write_action};
use super::span::Span;
use super::xml::{self, Element, Wrong};

pub const ENTRY_TYPE: &str = "application/atom+xml;type=entry;charset=utf-8";
pub const FEED_TYPE: &str = "application/atom+xml;type=feed;charset=utf-8";

const ATOM: &str = "http://www.w3.org/2005/Atom";
const CONNECT: &str = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// What is said of an entity. Its fields are none where a request leaves them out.
pub trait Description: Default {
    /// The name of its element.
    const ELEMENT: &'static str;

    /// All fields in the order of the service.
    fn fields(&mut self, fields: &mut dyn Fields);
}

/// Reads the elements of a description, or writes them.
pub trait Fields {
    fn text(&mut self, name: &'static str, value: &mut Option<String>);
    fn flag(&mut self, name: &'static str, value: &mut Option<bool>);
    fn number(&mut self, name: &'static str, value: &mut Option<u64>);
    fn span(&mut self, name: &'static str, value: &mut Option<Span>);
    /// Only the server says these: what a request has there is not read.
    fn time(&mut self, name: &'static str, value: &mut Option<Timestamp>);
    fn counts(&mut self, name: &'static str, value: &mut Option<Counts>);
    fn authorization(&mut self, name: &'static str, value: &mut Vec<AuthorizationRule>);
    /// Only requests have one.
    fn rule(&mut self, name: &'static str, value: &mut Option<RuleDescription>);
    fn filter(&mut self, name: &'static str, value: &mut Option<Filter>);
    fn action(&mut self, name: &'static str, value: &mut Option<Sql>);
}

/// A description and where it is found.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The whole URL.
    pub id: String,
    pub title: String,
    /// The namespace's.
    pub author: String,
    pub published: Timestamp,
    pub updated: Timestamp,
    pub description: T,
}

/// One page of descriptions.
#[derive(Clone, Debug)]
pub struct Feed<T> {
    pub id: String,
    pub title: String,
    pub updated: Timestamp,
    /// The URL of the next page.
    pub next: Option<String>,
    pub entries: Vec<Entry<T>>,
}

/// The name of the description in an entry that a client sent.
pub fn element_of(body: &[u8]) -> Result<String, Wrong> {
    let entry = parse(body)?;
    let described = entry
        .child("content")
        .and_then(|content| content.children.first());
    let described = described.map(|described| described.name.clone());
    described.ok_or_else(|| Wrong("an entry with a content is wanted here".to_owned()))
}

/// The description in an entry that a client sent.
pub fn read_entry<T: Description>(body: &[u8]) -> Result<T, Wrong> {
    let entry = parse(body)?;
    let content = entry.child("content");
    let described = content.and_then(|content| content.child(T::ELEMENT));
    let described = described.ok_or_else(|| {
        let name = T::ELEMENT;
        Wrong(format!("an entry whose content is a {name} is wanted here"))
    })?;
    self::described(described)
}

fn described<T: Description>(element: &Element) -> Result<T, Wrong> {
    let mut description = T::default();
    let mut reading = Reading {
        element,
        wrong: None,
    };
    description.fields(&mut reading);
    reading.wrong.map_or(Ok(description), Err)
}

fn parse(body: &[u8]) -> Result<Element, Wrong> {
    let text = std::str::from_utf8(body).map_err(|error| Wrong(format!("not UTF-8: {error}")))?;
    Element::parse(text.trim_start_matches('\u{feff}'))
}

impl<T: Description> Entry<T> {
    pub fn write(self) -> String {
        let mut out = String::new();
        self.put(&mut out, true);
        out
    }

    fn put(mut self, out: &mut String, is_outermost: bool) {
        match is_outermost {
            true => out.push_str(&format!("<entry xmlns=\"{ATOM}\">")),
            false => out.push_str("<entry>"),
        }
        xml::write(out, "id", &self.id);
        xml::write(out, "title type=\"text\"", &self.title);
        xml::write(out, "published", &self.published.to_rfc3339());
        xml::write(out, "updated", &self.updated.to_rfc3339());
        out.push_str("<author>");
        xml::write(out, "name", &self.author);
        out.push_str("</author>");
        link(out, "self", &self.id);
        let name = T::ELEMENT;
        let begin = format!(
            "<content type=\"application/xml\"><{name} xmlns=\"{CONNECT}\" xmlns:i=\"{INSTANCE}\">"
        );
        out.push_str(&begin);
        self.description.fields(&mut Writing { out });
        out.push_str(&format!("</{name}></content></entry>"));
    }
}

impl<T: Description> Feed<T> {
    pub fn write(self) -> String {
        let mut out = format!("<feed xmlns=\"{ATOM}\">");
        xml::write(&mut out, "title type=\"text\"", &self.title);
        xml::write(&mut out, "id", &self.id);
        xml::write(&mut out, "updated", &self.updated.to_rfc3339());
        link(&mut out, "self", &self.id);
        if let Some(next) = &self.next {
            link(&mut out, "next", next);
        }
        for entry in self.entries {
            entry.put(&mut out, false);
        }
        out.push_str("</feed>");
        out
    }
}

fn link(out: &mut String, rel: &str, href: &str) {
    out.push_str(&format!("<link rel=\"{rel}\" href=\""));
    xml::escape(out, href);
    out.push_str("\"/>");
}

/// What is answered to a refused request: clients show the detail, and some look for a sub-code in it.
pub fn write_error(status: u16, sub_code: u32, detail: &str) -> String {
    let mut out = String::from("<Error>");
    xml::write(&mut out, "Code", &status.to_string());
    xml::write(&mut out, "Detail", &format!("SubCode={sub_code}. {detail}"));
    out.push_str("</Error>");
    out
}

struct Reading<'a> {
    element: &'a Element,
    /// The first thing that is.
    wrong: Option<Wrong>,
}

impl Reading<'_> {
    /// The text of an element that is there and says something.
    fn said(&self, name: &str) -> Option<&str> {
        let element = self.element.child(name)?;
        let text = element.text.trim();
        (!element.is_nil() && !text.is_empty()).then_some(text)
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: &mut Option<T>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) {
        let Some(read) = self.said(name).map(read) else {
            return;
        };
        match read {
            Ok(read) => *value = Some(read),
            Err(what) => {
                self.wrong.get_or_insert(Wrong(format!("{name}: {what}")));
            }
        }
    }
}

impl Reading<'_> {
    /// What is made of a whole element.
    fn made<T>(
        &mut self,
        name: &str,
        value: &mut Option<T>,
        make: impl FnOnce(&Element) -> Result<Option<T>, Wrong>,
    ) {
        let element = self.element.child(name);
        match element.filter(|element| !element.is_nil()).map(make) {
            None => {}
            Some(Ok(made)) => *value = made,
            Some(Err(wrong)) => {
                self.wrong.get_or_insert(wrong);
            }
        }
    }
}

impl Fields for Reading<'_> {
    fn text(&mut self, name: &'static str, value: &mut Option<String>) {
        self.read(name, value, |text| Ok(text.to_owned()));
    }

    fn flag(&mut self, name: &'static str, value: &mut Option<bool>) {
        self.read(name, value, |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err("neither true nor false".to_owned()),
            }
        });
    }

    fn number(&mut self, name: &'static str, value: &mut Option<u64>) {
        let read = |text: &str| text.parse().map_err(|_| "no whole number".to_owned());
        self.read(name, value, read);
    }

    fn span(&mut self, name: &'static str, value: &mut Option<Span>) {
        self.read(name, value, |text| {
            Span::parse(text).map_err(|wrong| wrong.0)
        });
    }

    fn time(&mut self, _: &'static str, _: &mut Option<Timestamp>) {}

    fn counts(&mut self, _: &'static str, _: &mut Option<Counts>) {}

    fn authorization(&mut self, name: &'static str, value: &mut Vec<AuthorizationRule>) {
        if let Some(rules) = self.element.child(name) {
            match authorization::read(rules) {
                Ok(read) => *value = read,
                Err(wrong) => {
                    self.wrong.get_or_insert(wrong);
                }
            }
        }
    }

    fn rule(&mut self, name: &'static str, value: &mut Option<RuleDescription>) {
        self.made(name, value, |element| described(element).map(Some));
    }

    fn filter(&mut self, name: &'static str, value: &mut Option<Filter>) {
        self.made(name, value, |element| Filter::read(element).map(Some));
    }

    fn action(&mut self, name: &'static str, value: &mut Option<Sql>) {
        self.made(name, value, read_action);
    }
}

struct Writing<'a> {
    out: &'a mut String,
}

impl Writing<'_> {
    fn put(&mut self, name: &str, text: Option<String>) {
        if let Some(text) = text {
            xml::write(self.out, name, &text);
        }
    }
}

impl Fields for Writing<'_> {
    fn text(&mut self, name: &'static str, value: &mut Option<String>) {
        self.put(name, value.take());
    }

    fn flag(&mut self, name: &'static str, value: &mut Option<bool>) {
        self.put(name, value.map(|flag| flag.to_string()));
    }

    fn number(&mut self, name: &'static str, value: &mut Option<u64>) {
        self.put(name, value.map(|number| number.to_string()));
    }

    fn span(&mut self, name: &'static str, value: &mut Option<Span>) {
        self.put(name, value.map(|span| span.to_string()));
    }

    fn time(&mut self, name: &'static str, value: &mut Option<Timestamp>) {
        self.put(name, value.map(Timestamp::to_rfc3339));
    }

    fn counts(&mut self, name: &'static str, value: &mut Option<Counts>) {
        if let Some(counts) = value {
            counts.write(self.out, name);
        }
    }

    fn authorization(&mut self, name: &'static str, value: &mut Vec<AuthorizationRule>) {
        authorization::write(self.out, name, value);
    }

    fn rule(&mut self, _: &'static str, _: &mut Option<RuleDescription>) {}

    fn filter(&mut self, name: &'static str, value: &mut Option<Filter>) {
        if let Some(filter) = value {
            filter.write(self.out, name);
        }
    }

    fn action(&mut self, name: &'static str, value: &mut Option<Sql>) {
        write_action(self.out, name, value.as_ref());
    }
}
