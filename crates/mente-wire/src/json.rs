//! JSON taken apart one level at a time, every value left as it was written.
//!
//! serde_json skips values without recursion, so depth is bounded here, and only where a value
//! is kept: see [`check`].

use std::fmt;

use mente_engine::{Shown, limits};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Why an array was refused, and at which of its elements if that is known.
pub(crate) struct ArrayError {
    pub(crate) index: Option<usize>,
    pub(crate) what: String,
}

/// The members of one object in their order. Repeated names are refused: readers disagree
/// about which one counts (RFC 8259 §4).
pub(crate) fn members(text: &str, count_max: usize) -> Result<Vec<(String, &RawValue)>, String> {
    check_no_string(text, "object")?;
    let mut json = serde_json::Deserializer::from_str(text);
    let found = json.deserialize_map(Members { count_max });
    let found = found.map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(found)
}

/// The elements of one array.
pub(crate) fn elements(text: &str, count_max: usize) -> Result<Vec<&RawValue>, ArrayError> {
    check_no_string(text, "array").map_err(|what| ArrayError { index: None, what })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let mut found = None;
    let visitor = Elements {
        count_max,
        found: &mut found,
    };
    let done = json.deserialize_seq(visitor);
    done.map_err(|error| ArrayError {
        index: found.as_ref().map(Vec::len),
        what: error.to_string(),
    })?;
    json.end().map_err(|error| ArrayError {
        index: None,
        what: error.to_string(),
    })?;
    Ok(found.unwrap_or_default())
}

/// Told here, since serde's own error about a string repeats all of it.
fn check_no_string(text: &str, what: &str) -> Result<(), String> {
    match text.trim_start().starts_with('"') {
        true => Err(format!("a JSON {what} is expected, not a string")),
        false => Ok(()),
    }
}

/// Accepts bytes that are one JSON value which every reader can take: UTF-8, not deeper than
/// [`limits::NESTING_DEPTH`], no half of a surrogate pair (grammatical by RFC 8259 §8.2, but
/// one such event would make a whole answer unreadable to a strict parser).
pub(crate) fn check(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    check_depth_and_surrogates(text)?;
    Ok(text)
}

/// The second half of [`check`], for text whose grammar is known to be right.
pub(crate) fn check_depth_and_surrogates(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => check_string(&mut bytes)?,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::NESTING_DEPTH {
            let depth_max = limits::NESTING_DEPTH;
            return Err(format!("nested deeper than {depth_max} levels"));
        }
    }
    Ok(())
}

fn check_string(bytes: &mut std::str::Bytes<'_>) -> Result<(), String> {
    let lone = || Err("a \\u escape is half of a surrogate pair".to_owned());
    let mut half_open = false;
    while let Some(byte) = bytes.next() {
        let escaped = match byte {
            b'"' if half_open => return lone(),
            b'"' => return Ok(()),
            b'\\' if bytes.next() == Some(b'u') => code_unit(bytes),
            _ => 0,
        };
        half_open = match escaped {
            0xDC00..=0xDFFF if half_open => false,
            0xDC00..=0xDFFF => return lone(),
            _ if half_open => return lone(),
            0xD800..=0xDBFF => true,
            _ => false,
        };
    }
    Ok(())
}

fn code_unit(bytes: &mut std::str::Bytes<'_>) -> u32 {
    let digits = bytes.by_ref().take(4);
    let digits = digits.map(|byte| char::from(byte).to_digit(16).unwrap_or_default());
    digits.fold(0, |unit, digit| unit << 4 | digit)
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes every write");
}

struct Members {
    count_max: usize,
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Vec<(String, _)> = Vec::new();
        while let Some(member) = map.next_entry::<String, &RawValue>()? {
            if found.len() == self.count_max {
                let count_max = self.count_max;
                return Err(A::Error::custom(format!("more than {count_max} members")));
            }
            found.push(member);
        }
        let mut names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(A::Error::custom(format!(
                "member {} appears twice",
                Shown(name)
            )));
        }
        Ok(found)
    }
}

/// Leaves what it has found outside, so that an error can say where it happened.
struct Elements<'a, 'de> {
    count_max: usize,
    found: &'a mut Option<Vec<&'de RawValue>>,
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let found = self.found.insert(Vec::new());
        while let Some(value) = seq.next_element::<&RawValue>()? {
            if found.len() == self.count_max {
                let count_max = self.count_max;
                return Err(A::Error::custom(format!("more than {count_max} elements")));
            }
            found.push(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_checked_for_what_readers_differ_on() {
        let deepest = "[".repeat(limits::NESTING_DEPTH) + &"]".repeat(limits::NESTING_DEPTH);
        for good in [
            "1",
            " {\"a\" : [1.50, -0, 1e999999]}\n",
            r#""\ud83d\ude00 \\ud83d \" []""#,
            deepest.as_str(),
        ] {
            assert_eq!(check(good.as_bytes()), Ok(good));
        }
        let deeper = format!("[{deepest}]");
        let deep = "[".repeat(1_000_000);
        for bad in [
            "",
            "1 2",
            "{",
            "\"\t\"",
            "01",
            "NaN",
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx""#,
            r#""\ud83d\n""#,
            r#""\ud83d\ud83d\ude00""#,
            r#"{"\udead":1}"#,
            deeper.as_str(),
            deep.as_str(),
        ] {
            assert!(check(bad.as_bytes()).is_err());
        }
        assert!(check(b"\"\xff\"").is_err());
    }

    #[test]
    fn an_array_says_which_element_it_was() {
        let at = |text: &str| {
            elements(text, 3)
                .map_err(|e| e.index)
                .map(|found| found.len())
        };
        assert_eq!(at(" [1, {} ,\"x\"] "), Ok(3));
        assert_eq!(at("[]"), Ok(0));
        assert_eq!(at("[1,2,3,4]"), Err(Some(3)));
        assert_eq!(at("[1,tru]"), Err(Some(1)));
        assert_eq!(at("{}"), Err(None));
        assert_eq!(at("[1] 2"), Err(None));
    }
}
