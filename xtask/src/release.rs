//! The binary that goes to others: the same commit gives the same bytes, whatever directory it is built in.
//! What would tell the directory (panics, debug information, C's `__FILE__`) says `/mente` and `/cargo`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, execute, root};

/// Builds it and says where it lies.
pub(crate) fn build() -> Outcome {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let target =
        std::path::absolute(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    let binary = build_in(&root(), &target)?;
    println!("{}", binary.display());
    Ok(())
}

/// Builds the last commit in two directories of different names and compares.
pub(crate) fn reproduce() -> Outcome {
    let mut built = Vec::new();
    let parent = env::temp_dir().join(format!("mente-reproduce-{}", std::process::id()));
    for name in ["a", "another"] {
        let checkout = parent.join(name);
        let source = root();
        execute(
            Command::new("git")
                .args(["clone", "--quiet"])
                .args([&source, &checkout]),
        )?;
        let binary = build_in(&checkout, &checkout.join("target"))?;
        let read = fs::read(&binary);
        built.push(read.map_err(|error| format!("cannot read {}: {error}", binary.display()))?);
    }
    let differing = differing(&built[0], &built[1]);
    if differing > 0 {
        let kept = parent.display();
        return Err(format!("{differing} bytes differ; look into {kept}"));
    }
    println!("two builds of {} bytes, the same", built[0].len());
    fs::remove_dir_all(&parent)
        .map_err(|error| format!("cannot remove {}: {error}", parent.display()))
}

fn build_in(checkout: &Path, target: &Path) -> Result<PathBuf, String> {
    let checkout = fs::canonicalize(checkout)
        .map_err(|error| format!("cannot find {}: {error}", checkout.display()))?;
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let home = home.ok_or("CARGO_HOME is not known")?;
    // The longer path wins by coming last: the target directory may lie in the checkout.
    let known_as = [
        (&checkout, "/mente"),
        (&home, "/cargo"),
        (&target.to_owned(), "/target"),
    ];
    let is_spaced = |path: &Path| path.to_string_lossy().contains(char::is_whitespace);
    if let Some((path, _)) = known_as.iter().find(|(path, _)| is_spaced(path)) {
        return Err(format!(
            "a release is not built in {}: its name has spaces",
            path.display()
        ));
    }
    let renamed = known_as.map(|(path, name)| format!("{}={name}", path.display()));
    let for_rust: Vec<_> = renamed
        .iter()
        .map(|r| format!("--remap-path-prefix={r}"))
        .collect();
    let for_c: Vec<_> = renamed
        .iter()
        .map(|r| format!("-ffile-prefix-map={r}"))
        .collect();
    execute(
        Command::new("cargo")
            .args(["build", "--release", "--locked", "--package", "mente"])
            .arg("--manifest-path")
            .arg(checkout.join("Cargo.toml"))
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_ENCODED_RUSTFLAGS", for_rust.join("\u{1f}"))
            .env("CFLAGS", for_c.join(" ")),
    )?;
    Ok(target.join("release").join("mente"))
}

fn differing(a: &[u8], b: &[u8]) -> usize {
    let same_place = a.iter().zip(b).filter(|(a, b)| a != b).count();
    same_place + a.len().abs_diff(b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_differ_are_counted() {
        assert_eq!(differing(b"abc", b"abc"), 0);
        assert_eq!(differing(b"abc", b"axcde"), 3);
    }
}
