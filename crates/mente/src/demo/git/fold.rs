//! Events back into trees: each is read as what a stranger may have written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::object::{Format, Id};
use super::path;
use super::stream::Found;
use super::telling::{CHANGED, COMMITTED};
use super::tree::{File, Tree};
use crate::output::printable;

#[derive(Debug)]
pub(super) struct Fold {
    tree: Tree,
    format: Format,
}

/// A merge patch as far as it is looked at; `None` takes a file away.
#[derive(Debug, Deserialize)]
struct Patch {
    commit: Option<String>,
    tree: BTreeMap<String, Option<String>>,
}

impl Fold {
    pub(super) fn new(format: Format) -> Self {
        Self {
            tree: Tree::new(format),
            format,
        }
    }

    /// Takes an event in; the commit that is complete with it. An error says what is wrong with the
    /// event.
    pub(super) fn apply(&mut self, found: &Found) -> Result<Option<String>, String> {
        let event = &found.event;
        if event.kind != COMMITTED && event.kind != CHANGED {
            let kind = printable(&event.kind);
            return Err(format!("it is of the type {kind:?}, which no commit is"));
        }
        let data = event.data.as_ref().map_or("null", |data| data.get());
        let patch: Patch = serde_json::from_str(data)
            .map_err(|error| format!("its data is no patch of a tree: {error}"))?;
        for (name, file) in &patch.tree {
            let path = path::unescape(name);
            let path =
                path.ok_or_else(|| format!("{:?} is the name of no path", printable(name)))?;
            let file = match file {
                None => None,
                Some(text) => {
                    let file = File::parse(self.format, text);
                    let wrong = || format!("{:?} is no file", printable(text));
                    Some(file.ok_or_else(wrong)?)
                }
            };
            self.tree.set(&path, file)?;
        }
        if event.kind == CHANGED {
            return Ok(None);
        }
        if patch.commit.as_deref() != Some(&event.id) {
            return Err("its data names another commit than its id".to_owned());
        }
        Ok(Some(event.id.clone()))
    }

    /// Whether the tree is the one that Git has; how not.
    pub(super) fn compare(&mut self, of_git: Id) -> Result<(), String> {
        let id = self.tree.id()?;
        if id == of_git {
            return Ok(());
        }
        Err(format!("the tree of the events is {id}, Git's is {of_git}"))
    }

    /// Whether a state holds this commit and the same files, no more and no fewer; how not.
    pub(super) fn compare_state(&self, state: &Value, commit: &str) -> Result<(), String> {
        if state.get("commit").and_then(Value::as_str) != Some(commit) {
            return Err(format!("the state is not that of commit {commit}"));
        }
        let Some(tree) = state.get("tree").and_then(Value::as_object) else {
            return Err("the state has no tree".to_owned());
        };
        let (mut files, mut different) = (0, None);
        self.tree.each(|path, file| {
            files += 1;
            let name = path::escape(path);
            let value = tree.get(&name).and_then(Value::as_str);
            if different.is_none() && value != Some(&file.text()) {
                different = Some(format!(
                    "{:?} is {:?} in the state, but {:?}",
                    printable(&name),
                    value.map(printable),
                    file.text()
                ));
            }
        });
        match different {
            Some(different) => Err(different),
            None if files != tree.len() => {
                let held = tree.len();
                Err(format!("the state holds {held} files, the tree {files}"))
            }
            None => Ok(()),
        }
    }

    /// A file to show things on, best one whose name is easily typed.
    pub(super) fn example(&self) -> Option<String> {
        let mut best: Option<(bool, usize, String)> = None;
        self.tree.each(|path, _| {
            let Ok(name) = std::str::from_utf8(path) else {
                return;
            };
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
            if name.chars().all(is_plain) {
                // A dot leads deeper in the verbs, so names without one come first.
                let this = (name.contains('.'), name.len(), name.to_owned());
                if best.as_ref().is_none_or(|best| this < *best) {
                    best = Some(this);
                }
            }
        });
        best.map(|(_, _, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BLOB: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    const OTHER: &str = "45b983be36b73c0788dc9cbcb76cbb80fc7bb057";

    fn found(kind: &str, id: &str, data: &Value) -> Found {
        let found = json!({"revision": 3, "event": {"id": id, "type": kind, "data": data}});
        serde_json::from_str(&found.to_string()).unwrap()
    }

    fn committed(tree: Value) -> Found {
        found(COMMITTED, "c1", &json!({"commit": "c1", "tree": tree}))
    }

    fn folded(tree: Value) -> Fold {
        let mut fold = Fold::new(Format::Sha1);
        let commit = fold.apply(&committed(tree)).unwrap();
        assert_eq!(commit.as_deref(), Some("c1"));
        fold
    }

    #[test]
    fn one_wrong_object_id_is_found() {
        let of = |id: &str| json!({"a/b": format!("100644 {id}"), "c": format!("100755 {BLOB}")});
        let wanted = folded(of(BLOB)).tree.id().unwrap();
        assert_eq!(folded(of(BLOB)).compare(wanted), Ok(()));
        let said = folded(of(OTHER)).compare(wanted).unwrap_err();
        assert!(said.contains(&wanted.to_string()), "{said}");
    }

    #[test]
    fn a_state_is_compared_whole() {
        let file = |id: &str| format!("100644 {id}");
        let fold = folded(json!({"%FF": file(BLOB), "d/e": file(OTHER)}));
        let check = |state: Value| fold.compare_state(&state, "c1").unwrap_err();
        let tree = json!({"%FF": file(BLOB), "d/e": file(OTHER)});
        let same = json!({"commit": "c1", "tree": tree});
        assert_eq!(fold.compare_state(&same, "c1"), Ok(()));
        assert!(fold.compare_state(&same, "c2").is_err());
        let tree = json!({"%FF": file(BLOB), "d/e": file(BLOB)});
        let said = check(json!({"commit": "c1", "tree": tree}));
        assert!(said.starts_with("\"d/e\" is Some("), "{said}");
        let tree = json!({"%FF": file(BLOB), "d/e": file(OTHER), "f": file(BLOB)});
        let said = check(json!({"commit": "c1", "tree": tree}));
        assert_eq!(said, "the state holds 3 files, the tree 2");
        assert!(check(json!({"commit": "c1", "tree": {}})).contains("None"));
        assert!(check(json!({"commit": "c1"})).contains("no tree"));
        assert!(check(json!(null)).contains("not that of"));
    }

    #[test]
    fn strange_events_are_refused_and_say_why() {
        let mut fold = Fold::new(Format::Sha1);
        for (found, why) in [
            (found("Placed", "x", &json!({})), "\"Placed\""),
            (found(COMMITTED, "x", &json!(null)), "no patch"),
            (found(COMMITTED, "x", &json!({"commit": "x"})), "no patch"),
            (committed(json!({"a": 5})), "no patch"),
            (committed(json!({"%zz": null})), "no path"),
            (committed(json!({"": null})), "is no path"),
            (committed(json!({"/a": null})), "is no path"),
            (committed(json!({"a": "100644"})), "no file"),
            (committed(json!({"a": "100644 zz"})), "no file"),
            (
                found(COMMITTED, "c2", &json!({"commit": "c1", "tree": {}})),
                "another commit",
            ),
        ] {
            let said = fold.apply(&found).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let no_data = r#"{"revision": 0, "event": {"id": "x", "type": "git.Committed"}}"#;
        assert!(fold.apply(&serde_json::from_str(no_data).unwrap()).is_err());
    }

    #[test]
    fn parts_make_no_commit_and_examples_are_easily_typed() {
        let mut fold = Fold::new(Format::Sha1);
        let file = |id: &str| format!("100644 {id}");
        let part = json!({"tree": {"b.rs": file(BLOB), "a b": file(BLOB)}});
        assert_eq!(fold.apply(&found(CHANGED, "c1/1", &part)), Ok(None));
        assert_eq!(fold.example().as_deref(), Some("b.rs"));
        fold.apply(&committed(json!({"src/Makefile": file(BLOB)})))
            .unwrap();
        assert_eq!(fold.example().as_deref(), Some("src/Makefile"));
    }
}
