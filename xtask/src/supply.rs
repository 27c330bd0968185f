//! What the house is built from: every package from the registry, under its checksum, with a licence that goes
//! together with ours, and nothing known against it. Needs no network: it reads Cargo.lock and what cargo has fetched anyway.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::root;

/// Licences that may go into an Apache-2.0 binary without asking anything of who runs it but to name them.
const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

pub(crate) fn check(faults: &mut Vec<String>) {
    match fs::read_to_string(root().join("Cargo.lock")) {
        Ok(lock) => {
            check_sources(&lock, faults);
            crate::advisories::check(&lock, faults);
        }
        Err(error) => faults.push(format!("cannot read Cargo.lock: {error}")),
    }
    match packages() {
        Ok(packages) => check_licences(&packages, faults),
        Err(why) => faults.push(why),
    }
}

/// Each package with its licence, `name v1.2.3|MIT OR Apache-2.0`.
fn packages() -> Result<BTreeSet<String>, String> {
    let listed = Command::new("cargo")
        .args(["tree", "--workspace", "--locked", "--no-dedupe"])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(root())
        .output();
    let listed = listed.map_err(|error| format!("cannot run cargo tree: {error}"))?;
    if !listed.status.success() {
        let why = String::from_utf8_lossy(&listed.stderr);
        return Err(format!("cargo tree: {}", why.trim()));
    }
    let lines = String::from_utf8_lossy(&listed.stdout);
    let packages = lines.lines().filter(|line| line.contains('|'));
    Ok(packages.map(str::to_owned).collect())
}

fn check_licences(packages: &BTreeSet<String>, faults: &mut Vec<String>) {
    if packages.is_empty() {
        faults.push("cargo tree names no package: nothing was checked".to_owned());
    }
    for line in packages {
        let (package, licence) = line.split_once('|').unwrap_or((line, ""));
        if !is_allowed(licence) {
            faults.push(format!(
                "{package} has the licence {licence:?}, which xtask/src/supply.rs does not allow"
            ));
        }
    }
}

/// No package from a repository or of another registry, none without a checksum.
fn check_sources(lock: &str, faults: &mut Vec<String>) {
    let mut registries = BTreeSet::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split('"').nth(1))
        };
        let name = field("name = ").unwrap_or("a package without a name");
        let Some(source) = field("source = ") else {
            continue;
        };
        registries.insert(source);
        if !source.starts_with("registry+") || field("checksum = ").is_none() {
            faults.push(format!(
                "{name} comes from {source}, not from the registry under a checksum"
            ));
        }
    }
    if registries.len() > 1 {
        faults.push(format!(
            "packages come from several registries: {registries:?}"
        ));
    }
}

/// An SPDX expression (SPDX 2.3, annex D): one alternative of which everything is allowed. An exception only
/// allows more. `/` is what `OR` was once.
fn is_allowed(licence: &str) -> bool {
    let spaced = licence
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    words.reverse();
    any_of(&mut words) == Some(true) && words.is_empty()
}

/// Takes alternatives from the end of `words`, which stand in reverse; `None` if they are none.
fn any_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = all_of(words)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        allowed |= all_of(words)?;
    }
    Some(allowed)
}

fn all_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = one(words)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        allowed &= one(words)?;
    }
    Some(allowed)
}

fn one(words: &mut Vec<&str>) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let allowed = any_of(words)?;
        return words.pop_if(|word| *word == ")").map(|_| allowed);
    }
    if words.pop_if(|word| *word == "WITH").is_some() {
        words.pop()?;
    }
    Some(LICENCES.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "(GPL-2.0-only OR (MIT AND ISC)) AND Zlib",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT OR Apache-2.0) AND AGPL-3.0-only",
            "MIT OR",
            "(MIT",
            "MIT ISC",
            "OR MIT",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_not_from_the_registry_is_named() {
        let good = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+here\"\nchecksum = \"0f\"\n\n[[package]]\nname = \"ours\"\n";
        let mut faults = Vec::new();
        check_sources(good, &mut faults);
        assert_eq!(faults, Vec::<String>::new());
        for bad in [
            good.replace("registry+here", "git+there"),
            good.replace("checksum", "other"),
            format!("{good}\n{}", good.replace("here", "there")),
        ] {
            let mut faults = Vec::new();
            check_sources(&bad, &mut faults);
            assert_eq!(faults.len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_named() {
        let packages = BTreeSet::from(["a v1.0.0|MIT".to_owned(), "b v2.0.0|SSPL-1.0".to_owned()]);
        let mut faults = Vec::new();
        check_licences(&packages, &mut faults);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("b v2.0.0"), "{faults:?}");
        check_licences(&BTreeSet::new(), &mut faults);
        assert_eq!(faults.len(), 2, "nothing at all is no proof");
    }
}
