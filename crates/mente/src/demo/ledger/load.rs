//! A journal from its file and the files that it includes, in beancount's order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::options::Options;
use super::syntax::{Directive, Fault, Place, parse};
use crate::failure::{Code, Failure, Result};

/// Most files of one journal.
const FILES: usize = 1_000;
/// Most bytes of all files of one journal.
const BYTES: u64 = 64 << 20;

/// What all files say together, in order, and nothing completed.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) files: Vec<PathBuf>,
    pub(super) directives: Vec<Directive>,
    /// Those of the first file; the included ones have theirs for their own names of accounts.
    pub(super) options: Options,
    pub(super) plugins: Vec<String>,
    /// Directives without a date, by kind.
    pub(super) undated: BTreeMap<&'static str, u64>,
    pub(super) faults: Vec<Fault>,
}

/// Fails if the file cannot be read, or if any of them is no journal.
pub(super) fn load(path: &Path) -> Result<Source> {
    let mut loader = Loader::default();
    let first = std::fs::canonicalize(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    loader.waiting.push_back((None, first));
    while let Some((from, path)) = loader.waiting.pop_front() {
        loader.read(from, path)?;
    }
    loader.finish()
}

/// `FILE:LINE: what is wrong`.
pub(super) fn told(files: &[PathBuf], fault: &Fault) -> String {
    let file = files.get(fault.place.file);
    let name = file.and_then(|file| file.file_name()).unwrap_or_default();
    let name = name.to_string_lossy();
    match fault.place.line {
        0 => format!("{name}: {}", fault.message),
        line => format!("{name}:{line}: {}", fault.message),
    }
}

#[derive(Default)]
struct Loader {
    files: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
    /// Files to read, and where they are included.
    waiting: VecDeque<(Option<Place>, PathBuf)>,
    bytes: u64,
    options: Option<Options>,
    directives: Vec<Directive>,
    plugins: Vec<String>,
    undated: BTreeMap<&'static str, u64>,
    syntax: Vec<Fault>,
    faults: Vec<Fault>,
}

impl Loader {
    fn read(&mut self, from: Option<Place>, path: PathBuf) -> Result<()> {
        if !self.seen.insert(path.clone()) {
            let message = format!("{} is included a second time", path.display());
            self.fault(from, message);
            return Ok(());
        }
        if self.files.len() >= FILES {
            let message = format!("the journal has more than {FILES} files");
            return Err(Failure::usage(message));
        }
        let read = read(&path, BYTES - self.bytes);
        let text = match (read, from) {
            (Ok(text), _) => text,
            (Err(message), None) => return Err(Failure::usage(message)),
            (Err(message), Some(place)) => {
                self.syntax.push(Fault::new(place, message));
                return Ok(());
            }
        };
        self.bytes += text.len() as u64;
        let file = self.files.len();
        self.files.push(path.clone());
        let parsed = parse(&text, file);
        self.directives.extend(parsed.directives);
        self.syntax.extend(parsed.syntax);
        self.faults.extend(parsed.faults);
        for (kind, count) in parsed.undated {
            *self.undated.entry(kind).or_default() += count;
        }
        let names = parsed.plugins.into_iter().map(|(_, name)| name);
        self.plugins.extend(names);
        // As in beancount, the first file alone says how to count.
        self.options.get_or_insert(parsed.options);
        let folder = path.parent().unwrap_or(Path::new("/"));
        for (place, pattern) in parsed.includes {
            self.include(place, folder, &pattern);
        }
        Ok(())
    }

    /// Names of files may have `*`, `?`, `[…]` and `**` in them.
    fn include(&mut self, place: Place, folder: &Path, pattern: &str) {
        let folder = glob::Pattern::escape(&folder.to_string_lossy());
        let whole = if Path::new(pattern).is_absolute() {
            pattern.to_owned()
        } else {
            format!("{folder}/{pattern}")
        };
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found: Vec<PathBuf> = match glob::glob_with(&whole, options) {
            Ok(paths) => paths.flatten().take(FILES + 1).collect(),
            Err(error) => {
                let message = format!("include {pattern:?} is no name of files: {error}");
                self.fault(Some(place), message);
                return;
            }
        };
        if found.is_empty() {
            self.fault(Some(place), format!("include {pattern:?} finds no file"));
        }
        for path in found {
            let path = std::fs::canonicalize(&path).unwrap_or(path);
            self.waiting.push_back((Some(place), path));
        }
    }

    fn fault(&mut self, place: Option<Place>, message: String) {
        let place = place.unwrap_or(Place { file: 0, line: 0 });
        self.faults.push(Fault::new(place, message));
    }

    fn finish(mut self) -> Result<Source> {
        if !self.syntax.is_empty() {
            let told: Vec<_> = self
                .syntax
                .iter()
                .map(|fault| told(&self.files, fault))
                .collect();
            let message = format!("{}\nnothing was written", told.join("\n"));
            return Err(Failure::new(Code::Failed, message));
        }
        // Stable: what is equal stays as it was read.
        self.directives.sort_by_key(Directive::order);
        Ok(Source {
            files: self.files,
            directives: self.directives,
            options: self.options.unwrap_or_default(),
            plugins: self.plugins,
            undated: self.undated,
            faults: self.faults,
        })
    }
}

fn read(path: &Path, left: u64) -> std::result::Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let about = std::fs::metadata(path).map_err(cannot)?;
    if !about.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    if about.len() > left {
        return Err(format!(
            "{} is too large: a journal has at most {} MiB",
            path.display(),
            BYTES >> 20
        ));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    String::from_utf8(bytes).map_err(|error| {
        let read = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to());
        let line = 1 + read.filter(|byte| **byte == b'\n').count();
        format!("{}:{line}: this is no text in UTF-8", path.display())
    })
}
