//! Whether a sync takes as long as a disk needs.
//!
//! What can be known from here is that something answers too fast to have written anything. A device
//! that answers from a cache of its own, or a host that does not pass a flush on, can be as slow as an
//! honest one: only a pulled plug tells those.

use std::path::Path;

use super::Finding;
use crate::bench::sync::floor;

/// Enough for a p99 that is not the worst of a few; seconds on a slow disk.
const ROUNDS: usize = 300;
/// The fastest disks with a cache that outlives the power need more for a write and a flush.
const IMPLAUSIBLE_MICROS: f64 = 12.0;
/// Every durable answer takes longer.
const SLOW_MICROS: f64 = 50_000.0;

pub(super) fn check(ground: &Path) -> Finding {
    match floor(ground, ROUNDS) {
        Ok(times) => judge(times.micros(50), times.micros(99)),
        Err(error) => {
            let message = format!("cannot write and sync in {}: {error:#}", ground.display());
            Finding::bad(
                "sync",
                message,
                "let the user of the server write there, and make room",
            )
        }
    }
}

fn judge(p50: f64, p99: f64) -> Finding {
    let message = format!(
        "4 KiB written and synced in {:.3} ms (p50), {:.3} ms (p99)",
        p50 / 1e3,
        p99 / 1e3
    );
    if p50 < IMPLAUSIBLE_MICROS {
        let advice = "no disk is that fast: this is memory, or something that answers before it wrote, and what it acknowledged may be gone after a power cut";
        Finding::warn("sync", message, advice)
    } else if p99 > SLOW_MICROS {
        let advice = "no acknowledgement is faster than that: look for another disk, or for who else uses it";
        Finding::warn("sync", message, advice)
    } else {
        let known =
            "as a disk may; whether its own cache outlives a power cut only a pulled plug tells";
        Finding::ok("sync", format!("{message}, {known}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn too_fast_and_too_slow_are_told() {
        for (p50, p99, verdict) in [
            (2.0, 5.0, Verdict::Warn),
            (110.0, 240.0, Verdict::Ok),
            (9_000.0, 80_000.0, Verdict::Warn),
        ] {
            assert_eq!(judge(p50, p99).verdict, verdict, "{p50}");
        }
    }
}
