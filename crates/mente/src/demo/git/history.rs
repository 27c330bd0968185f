//! The history as it is read: commit by commit, oldest first, each with what it changed against its
//! first parent.
//!
//! Trees are read as Git keeps them (`git cat-file`) and held against the tree before, directory
//! by directory where ids differ. `git log --raw` would be shorter, but it shows tidied modes: old
//! trees hold 100664, and their ids rest on it. The tree before is that of the first parent, since
//! that is the history that is read.

use super::object::{Format, Id};
use super::path;
use super::repository::{Repository, Running, failed};
use super::tree::{DEPTH, File};
use crate::failure::Result;

/// The largest tree object that is read.
const TREE_BYTES: usize = 64 << 20;
/// Longest path.
const PATH_BYTES: usize = 32 << 10;
/// What is kept of an author's name, and of a message's first line.
const TEXT_BYTES: usize = 1_000;
/// Longest id or number that Git says.
const WORD_BYTES: usize = 100;
const DIRECTORY: u32 = 0o40000;

/// Commits as they come.
#[derive(Debug)]
pub(super) struct History {
    log: Running,
    trees: Trees,
    /// The tree of the last commit.
    tree: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Commit {
    pub(super) id: String,
    /// Seconds since 1970, if Git can make sense of them.
    pub(super) time: Option<i64>,
    pub(super) author: String,
    /// The first line of its message.
    pub(super) message: String,
    pub(super) changes: Vec<Change>,
}

/// A file that is new or other than before, or gone.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    pub(super) file: Option<File>,
}

#[derive(Debug)]
struct Trees {
    git: Running,
    format: Format,
}

/// One line of a tree, in the tree's order.
#[derive(Debug)]
struct Entry {
    /// The name, with a `/` behind that of a directory.
    key: Box<[u8]>,
    file: File,
    /// What a directory holds.
    below: Vec<Self>,
}

impl History {
    pub(super) fn read(repository: &Repository) -> Result<Self> {
        Ok(Self {
            log: repository.log("%H%x00%ct%x00%an <%ae>%x00%s")?,
            trees: Trees {
                git: repository.objects()?,
                format: repository.format,
            },
            tree: Vec::new(),
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<Commit>> {
        let Some(id) = self.log.text(WORD_BYTES)? else {
            return Ok(None);
        };
        let [time, author, message] = [WORD_BYTES, TEXT_BYTES, TEXT_BYTES]
            .map(|limit| self.log.text(limit).map(Option::unwrap_or_default));
        let mut changes = Vec::new();
        let root = format!("{id}^{{tree}}");
        let before = std::mem::take(&mut self.tree);
        let tree = self
            .trees
            .compare(before, &root, &mut Vec::new(), &mut changes);
        self.tree = tree.map_err(|failure| failed(&format!("commit {id}: {failure}")))?;
        Ok(Some(Commit {
            id,
            time: time?.parse().ok(),
            author: author?,
            message: message?,
            changes,
        }))
    }
}

impl Trees {
    /// Reads a tree and notes how it differs from what was there before.
    fn compare(
        &mut self,
        before: Vec<Entry>,
        tree: &str,
        path: &mut Vec<u8>,
        changes: &mut Vec<Change>,
    ) -> Result<Vec<Entry>> {
        let mut entries = self.read(tree, path)?;
        let mut before = before.into_iter().peekable();
        for entry in &mut entries {
            while let Some(gone) = before.next_if(|old| old.key < entry.key) {
                remove(&gone, path, changes);
            }
            let old = before.next_if(|old| old.key == entry.key);
            let is_new = old.as_ref().is_none_or(|old| old.file != entry.file);
            let below = old.map(|old| old.below).unwrap_or_default();
            if !is_new {
                entry.below = below;
                continue;
            }
            let length = path.len();
            path.extend_from_slice(&entry.key);
            if path.len() > PATH_BYTES {
                return Err(odd(path, "is longer than what is read"));
            }
            if entry.file.mode == DIRECTORY {
                let tree = entry.file.id.to_string();
                entry.below = self.compare(below, &tree, path, changes)?;
            } else {
                changes.push(Change {
                    path: path.clone(),
                    file: Some(entry.file),
                });
            }
            path.truncate(length);
        }
        for gone in before {
            remove(&gone, path, changes);
        }
        Ok(entries)
    }

    fn read(&mut self, tree: &str, path: &[u8]) -> Result<Vec<Entry>> {
        let Some((id, kind, content)) = self.git.object(tree, TREE_BYTES)? else {
            let message = format!(
                "the tree {tree} is not there: fetch all of the repository, or look with git fsck"
            );
            return Err(failed(&message));
        };
        if kind != "tree" {
            return Err(failed(&format!("{id} is a {kind}, not a tree")));
        }
        if !path.is_empty() && content.is_empty() {
            return Err(odd(path, "is an empty directory, which paths cannot tell"));
        }
        if path.iter().filter(|byte| **byte == b'/').count() >= DEPTH {
            return Err(odd(path, "goes deeper than what is read"));
        }
        parse(self.format, &content).map_err(|why| {
            let message = format!("the tree {id} {why}, which no list of paths can tell");
            failed(&message)
        })
    }
}

/// A tree's content: `MODE NAME\0ID` again and again. What a list of paths could not tell is an
/// error, so that it is named here and not taken for a fault of the fold.
fn parse(format: Format, content: &[u8]) -> std::result::Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let broken = || "breaks off".to_owned();
        let space = rest.iter().position(|byte| *byte == b' ');
        let (mode, behind) = rest.split_at(space.ok_or_else(broken)?);
        let end = behind.iter().position(|byte| *byte == 0);
        let (name, behind) = behind.split_at(end.ok_or_else(broken)?);
        let name = name.get(1..).unwrap_or_default();
        let raw = behind.get(1..=format.width()).ok_or_else(broken)?;
        rest = behind.get(1 + format.width()..).unwrap_or_default();
        let shown = || String::from_utf8_lossy(name).into_owned();
        let text = std::str::from_utf8(mode).unwrap_or_default();
        let mode = u32::from_str_radix(text, 8).ok();
        let mode = mode.filter(|mode| format!("{mode:o}") == text);
        let mode = mode.ok_or_else(|| format!("has the mode {text:?} at {:?}", shown()))?;
        if name.is_empty() || name.contains(&b'/') {
            return Err(format!("holds {:?}, no name", shown()));
        }
        let mut key = name.to_vec();
        if mode == DIRECTORY {
            key.push(b'/');
        }
        if entries.last().is_some_and(|last| *last.key >= *key) {
            return Err(format!("is not in order at {:?}", shown()));
        }
        let twin = entries.binary_search_by(|entry| (*entry.key).cmp(name));
        if mode == DIRECTORY && twin.is_ok() {
            return Err(format!("holds {:?} twice", shown()));
        }
        entries.push(Entry {
            key: key.into(),
            file: File {
                mode,
                id: Id::from_raw(format, raw).ok_or_else(broken)?,
            },
            below: Vec::new(),
        });
    }
    Ok(entries)
}

/// All files of it are gone.
fn remove(entry: &Entry, path: &mut Vec<u8>, changes: &mut Vec<Change>) {
    let length = path.len();
    path.extend_from_slice(&entry.key);
    if entry.file.mode == DIRECTORY {
        for below in &entry.below {
            remove(below, path, changes);
        }
    } else {
        changes.push(Change {
            path: path.clone(),
            file: None,
        });
    }
    path.truncate(length);
}

fn odd(path: &[u8], why: &str) -> crate::failure::Failure {
    let shown: String = path::escape(path).chars().take(200).collect();
    failed(&format!("the path {shown:?} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(lines: &[(&str, &str)]) -> std::result::Result<Vec<String>, String> {
        let mut content = Vec::new();
        for (mode, name) in lines {
            content.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            content.extend_from_slice(&[7; 20]);
        }
        let key = |entry: &Entry| String::from_utf8_lossy(&entry.key).into_owned();
        Ok(parse(Format::Sha1, &content)?.iter().map(key).collect())
    }

    #[test]
    fn trees_are_read_as_git_keeps_them() {
        let read = tree(&[
            ("100664", "a.b"),
            ("40000", "a"),
            ("160000", "a0"),
            ("120000", "b c"),
        ]);
        assert_eq!(read.unwrap(), ["a.b", "a/", "a0", "b c"]);
        assert!(tree(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_paths_cannot_tell_is_named() {
        let file = "100644";
        for (lines, why) in [
            (&[("040000", "a")][..], "the mode \"040000\" at \"a\""),
            (&[("rw", "a")], "the mode \"rw\""),
            (&[(file, "")], "no name"),
            (&[(file, "a/b")], "no name"),
            (&[(file, "b"), (file, "a")], "not in order at \"a\""),
            (&[(file, "a"), (file, "a")], "not in order at \"a\""),
            (&[(file, "a"), (file, "a.b"), ("40000", "a")], "\"a\" twice"),
        ] {
            let said = tree(lines).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        for cut in [&b"100644"[..], b"100644 a", b"100644 a\0\x07"] {
            assert_eq!(parse(Format::Sha1, cut).unwrap_err(), "breaks off");
        }
    }
}
