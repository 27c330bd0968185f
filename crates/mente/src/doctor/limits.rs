//! What this process may take: open files, address space, sizes of files.

use mente_engine::limits::{HTTP_CONNECTIONS, LOG_OPEN_FILES, SQLITE_HEAP_BYTES};
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::run::FILES_WANTED;

/// The log's, and some for connections and views: with fewer hardly anybody is served.
const FILES_LEAST: u64 = LOG_OPEN_FILES as u64 + 256;
/// Bodies, caches, views and the stacks of threads, all at their limits.
const MEMORY_WANTED: u64 = 4 << 30;
const MEMORY_LEAST: u64 = 2 * SQLITE_HEAP_BYTES;
/// A file of the log.
const FILE_LEAST: u64 = 64 << 20;

pub(super) fn check() -> Vec<Finding> {
    // The server raises what is in force up to what is allowed.
    let files = getrlimit(Resource::Nofile).maximum;
    let memory = getrlimit(Resource::As).current;
    let file = getrlimit(Resource::Fsize).current;
    vec![judge_files(files), judge_memory(memory), judge_file(file)]
}

/// Whether a file of the log may be as large as it is.
pub(super) fn may_write_files() -> bool {
    let allowed = getrlimit(Resource::Fsize).current;
    allowed.is_none_or(|allowed| allowed >= FILE_LEAST)
}

fn judge_files(allowed: Option<u64>) -> Finding {
    let Some(allowed) = allowed.filter(|allowed| *allowed < FILES_WANTED) else {
        let message = format!("open files for {HTTP_CONNECTIONS} connections");
        return Finding::ok("files", message);
    };
    let message = format!("{allowed} open files are allowed, {FILES_WANTED} serve all connections");
    let advice = "raise it: ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of containers";
    if allowed < FILES_LEAST {
        return Finding::bad("files", message, advice);
    }
    Finding::warn("files", message, advice)
}

fn judge_memory(allowed: Option<u64>) -> Finding {
    let Some(allowed) = allowed.filter(|allowed| *allowed < MEMORY_WANTED) else {
        return Finding::ok("memory", "address space without a narrow limit");
    };
    let message = format!("{} MiB of address space are allowed", allowed >> 20);
    let advice = "raise it (ulimit -v): at its limits the server ends instead of going on";
    if allowed < MEMORY_LEAST {
        return Finding::bad("memory", message, advice);
    }
    Finding::warn("memory", message, advice)
}

fn judge_file(allowed: Option<u64>) -> Finding {
    let Some(allowed) = allowed else {
        return Finding::ok("file", "files of any size");
    };
    let message = format!("files of {} MiB are allowed", allowed >> 20);
    let advice =
        "raise it (ulimit -f): a file of the log has 32 MiB, one of a view as many as it needs";
    if allowed < FILE_LEAST {
        return Finding::bad("file", message, advice);
    }
    Finding::warn("file", message, advice)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Bad, Ok, Warn};
    use super::*;

    #[test]
    fn low_limits_are_told() {
        for (allowed, verdict) in [
            (None, Ok),
            (Some(65_536), Ok),
            (Some(4_096), Warn),
            (Some(256), Bad),
        ] {
            assert_eq!(judge_files(allowed).verdict, verdict, "{allowed:?}");
        }
        for (allowed, verdict) in [
            (None, Ok),
            (Some(8 << 30), Ok),
            (Some(2 << 30), Warn),
            (Some(1 << 20), Bad),
        ] {
            assert_eq!(judge_memory(allowed).verdict, verdict, "{allowed:?}");
        }
        for (allowed, verdict) in [(None, Ok), (Some(1 << 40), Warn), (Some(1 << 20), Bad)] {
            assert_eq!(judge_file(allowed).verdict, verdict, "{allowed:?}");
        }
    }
}
