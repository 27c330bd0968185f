//! The file of keys: lines `NAME=KEY`, or `NAME Listen Send=KEY` of a key that may do only that; `#` begins a
//! comment line.

use std::path::Path;

use anyhow::Context;
use mente_broker::entity::Rights;
use mente_server::http::Key;

use crate::failure::{Failure, Result};

pub(super) fn read(file: &Path) -> Result<Vec<Key>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the keys in {shown}"))?;
    let keys = parse(&text).map_err(|line| {
        // The line itself may hold a secret.
        Failure::usage(format!("line {line} of {shown} is not NAME=KEY, or NAME RIGHTS=KEY with some of the rights Listen, Send and Manage"))
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
        let mut words = name.split_whitespace();
        let (name, secret) = (words.next().ok_or(index + 1)?, secret.trim());
        if secret.is_empty() {
            return Err(index + 1);
        }
        // A right that is misspelt must not become all of them.
        let rights = words.map(|word| word.parse::<Rights>().map_err(|_| index + 1));
        let rights = rights.collect::<Result<Vec<_>, _>>()?;
        let rights = rights.into_iter().reduce(Rights::and);
        keys.push(Key {
            name: name.to_owned(),
            secret: secret.to_owned(),
            rights: rights.unwrap_or(Rights::ALL),
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
        assert!(keys.iter().all(|key| key.rights == Rights::ALL));
    }

    #[test]
    fn words_between_a_name_and_its_key_are_all_that_it_may_do() {
        let keys = parse("r Listen=a\nw  send =b\nrw Send Listen=c\nm Manage=d\nn=Listen\n");
        let rights = keys.unwrap().into_iter().map(|key| key.rights.to_string());
        let expect = ["Listen alone", "Send alone", "Listen and Send"];
        let all = ["Manage, Listen and Send"; 2];
        assert_eq!(Vec::from_iter(rights), [&expect[..], &all].concat());
        for faulty in ["r Lisen=a", "r Listen,Send=a", "two words=a"] {
            assert_eq!(parse(faulty).unwrap_err(), 1, "{faulty}");
        }
    }
}
