//! The file of keys: lines `NAME=KEY`; `#` begins a comment line.

use std::path::Path;

use anyhow::Context;
use mente_server::http::Key;

use crate::failure::{Failure, Result};

pub(super) fn read(file: &Path) -> Result<Vec<Key>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the keys in {shown}"))?;
    let keys = parse(&text).map_err(|line| {
        // The line itself may hold a secret.
        Failure::usage(format!("line {line} of {shown} is not NAME=KEY"))
    })?;
    if keys.is_empty() {
        return Err(Failure::usage(format!(
            "{shown} holds no key, so nobody could enter; add a line NAME=KEY"
        )));
    }
    Ok(keys)
}

/// The keys, or the number of the line that is none.
fn parse(text: &str) -> Result<Vec<Key>, usize> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, secret) = line.split_once('=').ok_or(index + 1)?;
        let (name, secret) = (name.trim(), secret.trim());
        if name.is_empty() || secret.is_empty() {
            return Err(index + 1);
        }
        keys.push(Key {
            name: name.to_owned(),
            secret: secret.to_owned(),
        });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_one_a_line() {
        let keys = parse("# ours\n\nshop = a=b==\nadmin=x\n").unwrap();
        let pairs: Vec<_> = keys.iter().map(|k| (&*k.name, &*k.secret)).collect();
        assert_eq!(pairs, [("shop", "a=b=="), ("admin", "x")]);
        assert_eq!(parse("a=b\nsecret").unwrap_err(), 2);
        assert_eq!(parse("=b").unwrap_err(), 1);
    }
}
