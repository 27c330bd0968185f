//! Values of the file with where they stand, so that whoever is told what is wrong need not look for it.

use std::fmt;

use mente_engine::Shown;
use serde::de::DeserializeOwned;

use super::super::xml::Wrong;
use super::{CONFIG_BYTES, CONFIG_ITEMS};
use crate::json;

/// A value and where it stands.
#[derive(Clone)]
pub struct Place<'a> {
    whole: &'a str,
    text: &'a str,
    /// Such as `UserConfig.Namespaces[0]`.
    path: String,
}

/// The members of an object that are known.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    pub(super) place: Place<'a>,
    members: Vec<(String, Place<'a>)>,
}

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// A file with blanks in place of its comments and of commas before an end, so that all else is where it was.
pub fn plain(file: &[u8]) -> Result<String, Wrong> {
    if file.len() > CONFIG_BYTES {
        return Err(Wrong(format!(
            "the file has {} bytes, but may have {CONFIG_BYTES} at most: put its entities into several files",
            file.len()
        )));
    }
    let text = std::str::from_utf8(file);
    let text = text.map_err(|error| Wrong(format!("the file is not UTF-8: {error}")))?;
    let mut bytes = text.as_bytes().to_vec();
    if text.starts_with('\u{feff}') {
        bytes[..3].fill(b' ');
    }
    let mut comma = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        let end = match (byte, bytes.get(at + 1)) {
            (b'"', _) => end_of_string(&bytes, at),
            (b'/', Some(b'/')) => blank(&mut bytes, at, b"\n").unwrap_or(bytes.len()),
            (b'/', Some(b'*')) => blank(&mut bytes, at, b"*/").ok_or_else(|| {
                let (line, column) = line_and_column(text, at);
                Wrong(format!(
                    "line {line}, column {column}: the comment that begins here has no end"
                ))
            })?,
            (b' ' | b'\t' | b'\r' | b'\n', _) => at + 1,
            (b',', _) => {
                comma = Some(at);
                at += 1;
                continue;
            }
            (b']' | b'}', _) => {
                if let Some(comma) = comma {
                    bytes[comma] = b' ';
                }
                at + 1
            }
            _ => at + 1,
        };
        let is_blank = bytes[at..end].iter().all(u8::is_ascii_whitespace);
        comma = comma.filter(|_| is_blank);
        at = end;
    }
    String::from_utf8(bytes).map_err(|error| Wrong(error.to_string()))
}

/// Where a string that begins there has ended, or the end of all.
fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = bytes.get(at).copied() {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Blanks out what begins there up to its end, which is told; none if there is no end.
fn blank(bytes: &mut [u8], begin: usize, end: &[u8]) -> Option<usize> {
    let behind = begin + 2;
    let found = bytes[behind..].windows(end.len()).position(|w| w == end);
    let last = found.map(|at| behind + at + end.len());
    let until = last.unwrap_or(bytes.len());
    let comment = &mut bytes[begin..until];
    for byte in comment.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
    last
}

/// As editors count: from 1, in characters.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

impl<'a> Place<'a> {
    pub(super) fn whole(text: &'a str) -> Result<Self, Wrong> {
        json::check(text.as_bytes()).map_err(|what| Wrong(format!("not JSON: {what}")))?;
        Ok(Self {
            whole: text,
            text: text.trim(),
            path: String::new(),
        })
    }

    /// That this is not as it should be.
    pub fn wrong(&self, what: &str) -> Wrong {
        let at = self.text.as_ptr() as usize - self.whole.as_ptr() as usize;
        let (line, column) = line_and_column(self.whole, at);
        let path = match &*self.path {
            "" => "the file",
            path => path,
        };
        Wrong(format!("line {line}, column {column}: {path} {what}"))
    }

    /// What of it the server does not take, in the words of whoever refuses it.
    pub fn refused(&self, why: &str) -> Wrong {
        self.wrong(&format!("is refused: {why}"))
    }

    fn is(&self, wanted: &str) -> Wrong {
        self.wrong(&format!("is {}, but must be {wanted}", Shown(self.text)))
    }

    fn within(&self, text: &'a str, path: String) -> Self {
        Self {
            whole: self.whole,
            text,
            path,
        }
    }

    /// Members of an object; those with null are not there.
    pub(super) fn all(&self) -> Result<Object<'a>, Wrong> {
        let found = match self.text.starts_with('{') {
            true => json::members(self.text, CONFIG_ITEMS),
            false => return Err(self.is("an object, {…}")),
        };
        let found = found.map_err(|what| self.wrong(&format!("is not right: {what}")))?;
        let members = found.into_iter().map(|(name, value)| {
            let path = match &*self.path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            (name, self.within(value.get(), path))
        });
        Ok(Object {
            place: self.clone(),
            members: members.filter(|(_, place)| place.text != "null").collect(),
        })
    }

    /// An object that has no members but these.
    pub(super) fn object(&self, known: &[&str]) -> Result<Object<'a>, Wrong> {
        let object = self.all()?;
        object.check(known)?;
        Ok(object)
    }

    pub(super) fn list(&self) -> Result<Vec<Self>, Wrong> {
        if !self.text.starts_with('[') {
            return Err(self.is("a list, […]"));
        }
        let found = json::elements(self.text, CONFIG_ITEMS)
            .map_err(|error| self.wrong(&format!("is not right: {}", error.what)))?;
        let items = found.into_iter().enumerate();
        let items =
            items.map(|(index, item)| self.within(item.get(), format!("{}[{index}]", self.path)));
        Ok(items.collect())
    }

    pub(super) fn text(&self) -> Result<String, Wrong> {
        self.read("a text in quotes")
    }

    /// A value of the type, or what it should be.
    pub(super) fn read<T: DeserializeOwned>(&self, wanted: &str) -> Result<T, Wrong> {
        serde_json::from_str(self.text).map_err(|_| self.is(wanted))
    }

    /// What is made of it, or what it should be.
    pub(super) fn made<T>(&self, made: Option<T>, wanted: &str) -> Result<T, Wrong> {
        made.ok_or_else(|| self.is(wanted))
    }

    pub(super) fn is_object(&self) -> bool {
        self.text.starts_with('{')
    }
}

impl<'a> Object<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&Place<'a>> {
        let found = self.members.iter().find(|(known, _)| known == name);
        found.map(|(_, place)| place)
    }

    pub(super) fn needed(&self, name: &str) -> Result<Place<'a>, Wrong> {
        let found = self.get(name).cloned();
        found.ok_or_else(|| self.place.wrong(&format!("has no {name}, which it needs")))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &Place<'a>)> {
        self.members.iter().map(|(name, place)| (&**name, place))
    }

    pub(super) fn check(&self, known: &[&str]) -> Result<(), Wrong> {
        let odd = self.members().find(|(name, _)| !known.contains(name));
        match odd {
            None => Ok(()),
            Some((_, place)) => {
                Err(place.wrong(&format!("is not known; there may be {}", known.join(", "))))
            }
        }
    }
}
