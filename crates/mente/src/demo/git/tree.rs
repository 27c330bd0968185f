//! The demo's own fold: a tree of directories that takes changes one path at a time and knows
//! the id that Git gives it. It shares nothing with Mente's fold, and nothing with how the
//! history was read.
//!
//! Directories stand in their parent under their name and a `/`. That is how Git sorts a tree,
//! and it keeps a file and a directory of one name apart, so that changes may come in any order:
//! a patch has none.

use std::collections::BTreeMap;

use super::object::{Format, Id};

/// Directories in each other that are followed, here and in the reading of trees.
pub(super) const DEPTH: usize = 512;

#[derive(Debug)]
pub(super) struct Tree {
    root: Directory,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// As in Git's trees, `0o100644`.
    pub(super) mode: u32,
    pub(super) id: Id,
}

#[derive(Debug, Default)]
struct Directory {
    entries: BTreeMap<Box<[u8]>, Entry>,
    /// Until something below changes.
    id: Option<Id>,
}

#[derive(Debug)]
enum Entry {
    File(File),
    Directory(Directory),
}

impl File {
    /// `100644 4b825d…`, its value in the state.
    pub(super) fn parse(format: Format, text: &str) -> Option<Self> {
        let (mode, id) = text.split_once(' ')?;
        let file = Self {
            mode: u32::from_str_radix(mode, 8).ok()?,
            id: Id::from_hex(format, id)?,
        };
        // One text for one file.
        (format!("{:o}", file.mode) == mode).then_some(file)
    }

    pub(super) fn text(&self) -> String {
        format!("{:o} {}", self.mode, self.id)
    }
}

impl Tree {
    pub(super) fn new(format: Format) -> Self {
        Self {
            root: Directory::default(),
            format,
        }
    }

    /// Puts a file there, or takes it away. Refuses what no path of Git's can be.
    pub(super) fn set(&mut self, path: &[u8], file: Option<File>) -> Result<(), String> {
        let refused = |why: &str| format!("{:?} {why}", String::from_utf8_lossy(path));
        if path.contains(&0) || path.split(|byte| *byte == b'/').any(<[u8]>::is_empty) {
            return Err(refused("is no path"));
        }
        if path.iter().filter(|byte| **byte == b'/').count() >= DEPTH {
            return Err(refused(&format!("goes more than {DEPTH} directories deep")));
        }
        self.root.set(path, file);
        Ok(())
    }

    /// Git's id of it. Only directories that changed since the last time are hashed.
    pub(super) fn id(&mut self) -> Result<Id, String> {
        self.root.hash(self.format)
    }

    /// Calls with each file and its path, in Git's order.
    pub(super) fn each(&self, mut visit: impl FnMut(&[u8], &File)) {
        self.root.each(&mut Vec::new(), &mut visit);
    }
}

impl Directory {
    fn set(&mut self, path: &[u8], file: Option<File>) {
        self.id = None;
        let Some(slash) = path.iter().position(|byte| *byte == b'/') else {
            match file {
                Some(file) => self.entries.insert(path.into(), Entry::File(file)),
                None => self.entries.remove(path),
            };
            return;
        };
        let (name, rest) = path.split_at(slash + 1);
        if file.is_some() && !self.entries.contains_key(name) {
            let empty = Entry::Directory(Self::default());
            self.entries.insert(name.into(), empty);
        }
        if let Some(Entry::Directory(below)) = self.entries.get_mut(name) {
            below.set(rest, file);
            // Git keeps no empty directories.
            if below.entries.is_empty() {
                self.entries.remove(name);
            }
        }
    }

    fn hash(&mut self, format: Format) -> Result<Id, String> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let mut content = Vec::new();
        let mut both = None;
        let files: Vec<&Box<[u8]>> = self.entries.keys().collect();
        for key in files {
            if let Some(name) = key.strip_suffix(b"/")
                && self.entries.contains_key(name)
            {
                both = Some(String::from_utf8_lossy(name).into_owned());
            }
        }
        if let Some(name) = both {
            return Err(format!("{name:?} is a file and a directory"));
        }
        for (key, entry) in &mut self.entries {
            let (mode, id) = match entry {
                Entry::File(file) => (file.mode, file.id),
                Entry::Directory(below) => (0o40000, below.hash(format)?),
            };
            content.extend_from_slice(format!("{mode:o} ").as_bytes());
            content.extend_from_slice(key.strip_suffix(b"/").unwrap_or(key));
            content.push(0);
            content.extend_from_slice(id.raw());
        }
        let id = format.tree_id(&content);
        self.id = Some(id);
        Ok(id)
    }

    fn each(&self, path: &mut Vec<u8>, visit: &mut impl FnMut(&[u8], &File)) {
        for (key, entry) in &self.entries {
            let length = path.len();
            path.extend_from_slice(key);
            match entry {
                Entry::File(file) => visit(path, file),
                Entry::Directory(below) => below.each(path, visit),
            }
            path.truncate(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the file that holds nothing.
    const EMPTY: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

    fn file(mode: u32) -> Option<File> {
        let id = Id::from_hex(Format::Sha1, EMPTY).unwrap();
        Some(File { mode, id })
    }

    fn id(tree: &mut Tree) -> String {
        tree.id().unwrap().to_string()
    }

    /// The ids are those that `git write-tree` gives.
    #[test]
    fn names_sort_as_git_sorts_them() {
        let mut tree = Tree::new(Format::Sha1);
        for path in ["a0", "a/b", "a.b", "a-b", "b"] {
            tree.set(path.as_bytes(), file(0o100644)).unwrap();
        }
        assert_eq!(id(&mut tree), "5e60e743b8f00b2270a3cd7162aca462264ae0be");
        let mut order = Vec::new();
        tree.each(|path, _| order.push(String::from_utf8_lossy(path).into_owned()));
        assert_eq!(order, ["a-b", "a.b", "a/b", "a0", "b"]);
        for path in ["a0", "a-b", "a.b", "b", "a/b"] {
            tree.set(path.as_bytes(), None).unwrap();
        }
        assert_eq!(id(&mut tree), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    }

    #[test]
    fn a_file_becomes_a_directory_in_any_order() {
        let mut made = Tree::new(Format::Sha1);
        made.set(b"a/b/c", file(0o100755)).unwrap();
        let wanted = id(&mut made);
        for is_removed_first in [false, true] {
            let mut tree = Tree::new(Format::Sha1);
            tree.set(b"a", file(0o100644)).unwrap();
            id(&mut tree);
            if is_removed_first {
                tree.set(b"a", None).unwrap();
                tree.set(b"a/b/c", file(0o100755)).unwrap();
            } else {
                tree.set(b"a/b/c", file(0o100755)).unwrap();
                assert!(tree.id().unwrap_err().contains("\"a\" is a file and"));
                tree.set(b"a", None).unwrap();
            }
            assert_eq!(id(&mut tree), wanted);
        }
    }

    #[test]
    fn one_other_bit_is_another_tree() {
        let mut tree = Tree::new(Format::Sha1);
        tree.set(b"deep/er/file", file(0o100644)).unwrap();
        tree.set(b"other/file", file(0o100644)).unwrap();
        let before = id(&mut tree);
        tree.set(b"deep/er/file", file(0o100664)).unwrap();
        assert_ne!(id(&mut tree), before);
        let wrong = Id::from_hex(Format::Sha1, &EMPTY.replacen('e', "f", 1));
        let wrong = wrong.map(|id| File { mode: 0o100644, id });
        tree.set(b"deep/er/file", wrong).unwrap();
        assert_ne!(id(&mut tree), before);
        tree.set(b"deep/er/file", file(0o100644)).unwrap();
        assert_eq!(id(&mut tree), before);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let mut tree = Tree::new(Format::Sha1);
        let deep = vec![b'/'; 1 << 20];
        let too_deep = "a/".repeat(DEPTH) + "a";
        for bad in [
            &b""[..],
            b"/a",
            b"a/",
            b"a//b",
            b"a\0",
            &deep,
            too_deep.as_bytes(),
        ] {
            assert!(tree.set(bad, file(0o100644)).is_err());
            assert!(tree.set(bad, None).is_err());
        }
        let just_not = "a/".repeat(DEPTH - 1) + "a";
        tree.set(just_not.as_bytes(), file(0o100644)).unwrap();
        tree.id().unwrap();
        tree.set(b"a/b", None).unwrap();
        tree.set(b"a/a/b/c", None).unwrap();
    }

    #[test]
    fn a_value_of_the_state_is_one_file() {
        let text = format!("100644 {EMPTY}");
        assert_eq!(File::parse(Format::Sha1, &text).unwrap().text(), text);
        for bad in [
            "", "100644", "0100644 ", "100644  ", "+100644 ", "888 ", "100644",
        ] {
            assert_eq!(File::parse(Format::Sha1, &format!("{bad}{EMPTY}")), None);
        }
    }
}
