//! The data directory: whose it is, who may read it, whether this version opens it.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mente_log::OpenError;

use super::Finding;
use super::holder;

pub(super) fn check(data_dir: &Path) -> Vec<Finding> {
    let shown = data_dir.display();
    match fs::metadata(data_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            vec![Finding::ok(
                "data",
                format!("{shown} is not there yet: a server makes it"),
            )]
        }
        Err(error) => {
            let message = format!("cannot look at {shown}: {error}");
            vec![Finding::bad("data", message, "mend the path or its mode")]
        }
        Ok(found) if !found.is_dir() => {
            let message = format!("{shown} is no directory");
            vec![Finding::bad(
                "data",
                message,
                "name another with --data-dir",
            )]
        }
        Ok(found) => vec![
            lock(data_dir),
            modes(found.permissions().mode()),
            formats(data_dir),
        ],
    }
}

fn lock(data_dir: &Path) -> Finding {
    let path = data_dir.join("lock");
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::ok("lock", "no server was here yet");
        }
        Err(error) => {
            let message = format!("cannot open {}: {error}", path.display());
            return Finding::bad(
                "lock",
                message,
                "let the user of the server read and write the directory",
            );
        }
        Ok(file) => file,
    };
    match file.try_lock_shared() {
        Ok(()) => Finding::ok("lock", "no server is at work here"),
        Err(TryLockError::WouldBlock) => {
            let holder = holder::of_lock(&path);
            let holder =
                holder.map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
            Finding::ok(
                "lock",
                format!("held by {holder}: a second server would be refused"),
            )
        }
        Err(TryLockError::Error(error)) => {
            let message = format!("files cannot be locked here: {error}");
            Finding::bad(
                "lock",
                message,
                "two servers could write at one time: name a directory on a local disk",
            )
        }
    }
}

/// Of the directory: what is inside is behind it.
fn modes(mode: u32) -> Finding {
    if mode & 0o077 == 0 {
        return Finding::ok("modes", "only its owner may look inside");
    }
    let message = format!("others may look inside (mode {:o})", mode & 0o777);
    Finding::warn(
        "modes",
        message,
        "events and secrets of webhooks lie there: chmod 700",
    )
}

fn formats(data_dir: &Path) -> Finding {
    match mente_log::inspect(data_dir) {
        Ok(found) if !found.damaged.is_empty() => {
            let message = format!("damaged headers: {}", found.damaged.join(", "));
            Finding::bad(
                "format",
                message,
                "run mente verify --data-dir with the server stopped; keep a copy",
            )
        }
        Ok(found) if found.readable == 0 => Finding::ok("format", "no files of a log are here yet"),
        Ok(found) => {
            let message = format!(
                "{} files of the log, their headers all readable by this version",
                found.readable
            );
            Finding::ok("format", message)
        }
        Err(error) => {
            let advice = match error {
                OpenError::Newer { .. } => "use the version that wrote it, or a later one",
                _ => "let the user of the server read the directory; then look at the disk",
            };
            Finding::bad("format", error.to_string(), advice)
        }
    }
}

/// A file that holds a secret.
pub(super) fn secret(file: &Path) -> Finding {
    let shown = file.display();
    let mode = match fs::metadata(file) {
        Ok(found) => found.permissions().mode(),
        Err(error) => {
            let message = format!("cannot look at {shown}: {error}");
            return Finding::bad("secret", message, "mend the path or its mode");
        }
    };
    let message = format!("{shown} has mode {:o}", mode & 0o777);
    let advice = "who reads it may do what its keys allow: chmod 600";
    if mode & 0o007 != 0 {
        Finding::bad("secret", message, advice)
    } else if mode & 0o070 != 0 {
        Finding::warn("secret", message, advice)
    } else {
        Finding::ok("secret", message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Bad, Ok, Warn};
    use super::*;

    fn verdict(findings: &[Finding], check: &str) -> Verdict {
        findings
            .iter()
            .find(|f| f.check == check)
            .expect("checked")
            .verdict
    }

    #[test]
    fn a_directory_is_looked_at_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert_eq!(verdict(&check(&data), "data"), Ok);
        assert!(!data.exists());
        fs::write(&data, "").unwrap();
        assert_eq!(verdict(&check(&data), "data"), Bad);
        fs::remove_file(&data).unwrap();
        let held = mente_log::RealDisk::open(&data).unwrap();
        let found = check(&data);
        assert_eq!(verdict(&found, "modes"), Ok);
        let lock = found.iter().find(|f| f.check == "lock").unwrap();
        let me = format!("(process {})", std::process::id());
        assert!(
            !cfg!(target_os = "linux") || lock.message.contains(&me),
            "{lock:?}"
        );
        drop(held);
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(data.join("00000001.wal"), "no header").unwrap();
        let found = check(&data);
        assert_eq!(
            (verdict(&found, "modes"), verdict(&found, "format")),
            (Warn, Bad)
        );
    }

    #[test]
    fn secrets_are_for_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        assert_eq!(secret(&file).verdict, Bad);
        fs::write(&file, "a=b").unwrap();
        for (mode, verdict) in [(0o600, Ok), (0o640, Warn), (0o644, Bad)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(secret(&file).verdict, verdict, "{mode:o}");
        }
    }
}
