//! XML as far as the administration needs it: elements by their local names, whatever their prefixes, and texts.
//!
//! Documents are small, so they are read into a tree; how deep and how large it may be has bounds, and there are
//! no document types: whoever defines entities means harm.

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Deepest nesting; what SDKs send is half as deep.
const DEPTH: usize = 16;
/// Most elements, and most attributes of one.
const ELEMENTS: usize = 4_096;
const ATTRIBUTES: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Without its prefix, as are those of attributes.
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<Self>,
    /// All of it that is not in a child.
    pub(super) text: String,
}

/// What is wrong with a document, in words for its sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

impl Element {
    /// The outermost element of a document; its size is the caller's to bound.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        let mut count = 0;
        loop {
            let event = reader.read_event();
            let event = event.map_err(|error| Wrong(format!("not XML: {error}")))?;
            let done = match event {
                Event::Start(start) => {
                    count_to(&mut count)?;
                    if open.len() == DEPTH {
                        return Err(Wrong(format!("nested deeper than {DEPTH} elements")));
                    }
                    open.push(Self::of(&start)?);
                    continue;
                }
                Event::Empty(start) => {
                    count_to(&mut count)?;
                    Self::of(&start)?
                }
                Event::End(_) => match open.pop() {
                    Some(element) => element,
                    None => return Err(Wrong("an end without a beginning".to_owned())),
                },
                Event::Text(text) => {
                    put(&mut open, &text.xml10_content());
                    continue;
                }
                Event::CData(text) => {
                    put(&mut open, &text.xml10_content());
                    continue;
                }
                Event::GeneralRef(reference) => {
                    let char = reference.resolve_char_ref().ok().flatten();
                    let text = match (char, resolve_xml_entity(&reference)) {
                        (Some(char), _) => char.to_string(),
                        (None, Some(text)) => text.to_owned(),
                        (None, None) => {
                            return Err(Wrong("an entity that is not XML's own".to_owned()));
                        }
                    };
                    put(&mut open, &text);
                    continue;
                }
                Event::DocType(_) => {
                    return Err(Wrong("document types are not read".to_owned()));
                }
                Event::Eof => return Err(Wrong("it ends within an element".to_owned())),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            };
            match open.last_mut() {
                Some(parent) => parent.children.push(done),
                None => return Ok(done),
            }
        }
    }

    fn of(start: &BytesStart<'_>) -> Result<Self, Wrong> {
        let name = local(start.name().as_ref()).to_owned();
        let mut attributes = Vec::new();
        for attribute in start.attributes().take(ATTRIBUTES) {
            let attribute = attribute.map_err(|error| Wrong(format!("not XML: {error}")))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|error| Wrong(format!("not XML: {error}")))?;
            let name = local(attribute.key.as_ref()).to_owned();
            attributes.push((name, value.into_owned()));
        }
        Ok(Self {
            name,
            attributes,
            ..Self::default()
        })
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// It is there to say that there is nothing.
    pub(super) fn is_nil(&self) -> bool {
        self.attribute("nil") == Some("true")
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn count_to(count: &mut usize) -> Result<(), Wrong> {
    *count += 1;
    if *count > ELEMENTS {
        return Err(Wrong(format!("more than {ELEMENTS} elements")));
    }
    Ok(())
}

fn put(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// Without the prefix.
pub(super) fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// Appends `<name>text</name>`; `name` may have attributes.
pub(super) fn write(out: &mut String, name: &str, text: &str) {
    let end = name.split(' ').next().unwrap_or(name);
    out.push_str(&format!("<{name}>"));
    escape(out, text);
    out.push_str(&format!("</{end}>"));
}

/// Appends text so that it may also stand in an attribute; what XML has no character for becomes U+FFFD.
pub(super) fn escape(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(char))),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_local_and_texts_whole() {
        let text = "<?xml version=\"1.0\"?><!-- x --><ns0:a xmlns:ns0='u' i:type=\"T&amp;\">\n<b>1 &lt; <![CDATA[<2>]]>&#x33;</b><b/></ns0:a>";
        let element = Element::parse(text).unwrap();
        assert_eq!(element.name, "a");
        assert_eq!(element.attribute("type"), Some("T&"));
        assert_eq!(element.child("b").unwrap().text, "1 < <2>3");
        assert_eq!(element.children.len(), 2);
    }

    #[test]
    fn what_means_harm_is_refused() {
        for (text, what) in [
            ("", "it ends within an element"),
            ("<a><b></a>", "not XML"),
            ("<a>", "it ends within an element"),
            ("<a>&x;</a>", "an entity that is not XML's own"),
            ("<a>&#0;</a>", "an entity that is not XML's own"),
            ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "document types"),
            ("<a b='1' b='2'/>", "not XML"),
            ("</a>", "not XML"),
        ] {
            let wrong = Element::parse(text).unwrap_err();
            assert!(wrong.0.contains(what), "{text}: {wrong}");
        }
        let deep = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(Element::parse(&deep(DEPTH)).is_ok());
        let wrong = Element::parse(&deep(DEPTH + 1)).unwrap_err();
        assert!(wrong.0.contains("deeper"), "{wrong}");
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(Element::parse(&wide(ELEMENTS - 1)).is_ok());
        assert!(Element::parse(&wide(ELEMENTS)).is_err());
    }

    #[test]
    fn every_text_comes_back_but_for_what_xml_cannot_say() {
        let text = "<a href=\"&'\"> \t\r\n\u{e4}\u{1f600}";
        let mut out = String::new();
        write(&mut out, "t", text);
        assert_eq!(Element::parse(&out).unwrap().text, text);
        let mut out = String::new();
        write(&mut out, "t", "\u{1}\u{ffff}");
        assert_eq!(Element::parse(&out).unwrap().text, "\u{fffd}\u{fffd}");
    }
}
