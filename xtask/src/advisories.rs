//! What is known to be wrong with packages: a table of the advisories of the Rust project's database, kept
//! beside this file, so that the check needs no network. `cargo xtask advisories DIR` writes it anew
//! from a checkout of `rustsec/advisory-db`, whose facts are in the public domain.

use std::fs;
use std::path::Path;
use std::process::Command;

use semver::{Version, VersionReq};

use crate::{Outcome, root};

const TABLE: &str = "xtask/advisories.tsv";
/// Advisories that hit a package of ours and not us, each with its reason.
const ACCEPTED: [(&str, &str); 0] = [];

struct Advisory<'a> {
    id: &'a str,
    package: &'a str,
    /// Such as `vulnerability`, `unsound` or `unmaintained`.
    kind: &'a str,
    /// Ranges of versions that it does not hit.
    spared: Vec<VersionReq>,
}

/// `lock` is the text of Cargo.lock.
pub(crate) fn check(lock: &str, faults: &mut Vec<String>) {
    let table = fs::read_to_string(root().join(TABLE));
    match table.map_err(|error| format!("cannot read {TABLE}: {error}")) {
        Ok(table) => check_with(&table, lock, faults),
        Err(why) => faults.push(why),
    }
}

fn check_with(table: &str, lock: &str, faults: &mut Vec<String>) {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let mut advisories = Vec::new();
    for line in lines {
        match Advisory::read(line) {
            Some(advisory) => advisories.push(advisory),
            None => faults.push(format!("{TABLE} has a line that is none: {line:?}")),
        }
    }
    if advisories.is_empty() {
        faults.push(format!("{TABLE} tells of nothing: nothing was checked"));
    }
    let mut met = Vec::new();
    for (name, version) in packages(lock) {
        let hits = advisories
            .iter()
            .filter(|a| a.package == name && !a.spared.iter().any(|range| range.matches(&version)));
        for hit in hits {
            met.push(hit.id);
            if !ACCEPTED.iter().any(|(id, _)| *id == hit.id) {
                let (id, kind) = (hit.id, hit.kind);
                faults.push(format!(
                    "{name} {version} is hit by {id} ({kind}): update it, or accept that with a reason in xtask/src/advisories.rs"
                ));
            }
        }
    }
    let stale = ACCEPTED.iter().filter(|(id, _)| !met.contains(id));
    faults.extend(stale.map(|(id, _)| format!("{id} is accepted and hits nothing")));
}

fn packages(lock: &str) -> impl Iterator<Item = (&str, Version)> {
    lock.split("[[package]]").skip(1).filter_map(|package| {
        let name = quoted(package, "name = ").next()?;
        let version = quoted(package, "version = ").next()?;
        Some((name, Version::parse(version).ok()?))
    })
}

/// What stands in quotes behind the first line that begins so: one word, or all of a list.
fn quoted<'a>(text: &'a str, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let at = text
        .split_inclusive('\n')
        .scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some((start, line))
        })
        .find_map(|(start, line)| line.starts_with(field).then_some(start + field.len()));
    let value = at.map_or("", |at| &text[at..]);
    let end = if value.starts_with('[') { ']' } else { '\n' };
    let value = value.split(end).next().unwrap_or_default();
    value.split('"').skip(1).step_by(2)
}

impl<'a> Advisory<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let (id, package, kind, spared) = (next()?, next()?, next()?, next()?);
        let ranges = spared.split('|').filter(|range| !range.is_empty());
        let spared: Result<_, _> = ranges.map(VersionReq::parse).collect();
        Some(Self {
            id,
            package,
            kind,
            spared: spared.ok()?,
        })
    }
}

/// Writes the table from a checkout of the database.
pub(crate) fn update(checkout: &str) -> Outcome {
    let checkout = Path::new(checkout);
    let mut lines = Vec::new();
    let failed = |error| format!("cannot read {}: {error}", checkout.display());
    for package in fs::read_dir(checkout.join("crates")).map_err(failed)? {
        for file in fs::read_dir(package.map_err(failed)?.path()).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            let text = fs::read_to_string(&path).map_err(failed)?;
            let line = line_of(&text).map_err(|why| format!("{}: {why}", path.display()))?;
            lines.extend(line);
        }
    }
    lines.sort();
    let said = Command::new("git")
        .args(["log", "-1", "--format=%h of %cs"])
        .current_dir(checkout)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    let version = String::from_utf8_lossy(&said.stdout);
    let table = format!(
        "# rustsec/advisory-db at {}: id, package, kind, ranges that are not hit. Written by `cargo xtask advisories`.\n{}\n",
        version.trim(),
        lines.join("\n")
    );
    fs::write(root().join(TABLE), table).map_err(|error| format!("cannot write {TABLE}: {error}"))
}

/// None for one that was taken back.
fn line_of(text: &str) -> Result<Option<String>, String> {
    let one = |field: &str| quoted(text, field).next();
    if one("withdrawn = ").is_some() {
        return Ok(None);
    }
    let id = one("id = ").ok_or("no id")?;
    let package = one("package = ").ok_or("no package")?;
    let kind = one("informational = ").unwrap_or("vulnerability");
    let spared = ["patched = ", "unaffected = "];
    let spared: Vec<_> = spared.iter().flat_map(|f| quoted(text, f)).collect();
    for range in &spared {
        VersionReq::parse(range).map_err(|error| format!("{range:?}: {error}"))?;
    }
    Ok(Some(format!(
        "{id}\t{package}\t{kind}\t{}",
        spared.join("|")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "```toml\n[advisory]\nid = \"RUSTSEC-1\"\npackage = \"a\"\ninformational = \"unsound\"\n\n[versions]\npatched = [\n  \">= 1.2.3, < 1.3.0\",\n  \">= 1.3.1\",\n]\nunaffected = [\"< 0.5\"]\n```\n# Title\n";
    const LINE: &str = "RUSTSEC-1\ta\tunsound\t>= 1.2.3, < 1.3.0|>= 1.3.1|< 0.5";

    #[test]
    fn an_advisory_is_a_line() {
        assert_eq!(line_of(TEXT), Ok(Some(LINE.to_owned())));
        let withdrawn = TEXT.replace("package", "withdrawn = \"2026-01-01\"\npackage");
        assert_eq!(line_of(&withdrawn), Ok(None));
        assert!(line_of(&TEXT.replace(">= 1.3.1", "newer")).is_err());
        assert!(line_of("no advisory").is_err());
    }

    #[test]
    fn a_version_that_is_hit_is_named() {
        for (version, faults) in [
            ("0.4.9", 0),
            ("0.5.0", 1),
            ("1.2.2", 1),
            ("1.2.3", 0),
            ("1.3.0", 1),
            ("2.0.0", 0),
        ] {
            let lock = format!("[[package]]\nname = \"a\"\nversion = \"{version}\"\n");
            let mut found = Vec::new();
            check_with(LINE, &lock, &mut found);
            assert_eq!(found.len(), faults, "{version}: {found:?}");
        }
        let mut found = Vec::new();
        check_with("# nothing\n", "", &mut found);
        check_with("RUSTSEC-1\ta\n", "", &mut found);
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
