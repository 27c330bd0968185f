//! The file system under the data: what it is, and how much of it is left.

use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Finding;
use crate::run::Reserve;

/// Free space that is less than so many reserves is worth a word.
const COMFORT: u64 = 2;

pub(super) fn check(ground: &Path, reserve: Reserve) -> Vec<Finding> {
    let found = statvfs(ground).map_err(std::io::Error::from);
    let found = found.and_then(|disk| Ok((disk, reserve.on(ground)?)));
    let (disk, reserve) = match found {
        Ok(found) => found,
        Err(error) => {
            let message = format!("cannot look at {}: {error}", ground.display());
            return vec![Finding::bad("disk", message, "mend the path or its mode")];
        }
    };
    let mut findings = vec![kind(ground)];
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let message = "it is mounted read-only";
        findings.push(Finding::bad(
            "disk",
            message,
            "mount it for writing; after an error of the disk, check it first",
        ));
    }
    findings.push(room(disk.f_bavail.saturating_mul(disk.f_frsize), reserve));
    findings
}

fn room(free: u64, reserve: u64) -> Finding {
    let mib = |bytes: u64| bytes >> 20;
    let message = format!(
        "{} MiB free, of which {} are kept for consumers",
        mib(free),
        mib(reserve)
    );
    if free < reserve {
        let advice = "publishing is refused, or will be with the next file of the log: delete topics, shorten how long they keep events, or give it more room";
        Finding::bad("room", message, advice)
    } else if free < reserve.saturating_mul(COMFORT) {
        Finding::warn(
            "room",
            message,
            "publishing will be refused soon: make room",
        )
    } else {
        Finding::ok("room", message)
    }
}

fn kind(ground: &Path) -> Finding {
    let shown = ground.display();
    match magic(ground) {
        Some(magic) => judge(magic, &shown.to_string()),
        None => Finding::warn(
            "disk",
            format!("{shown} is on a file system that cannot be told here"),
            "see to it that it is a local disk",
        ),
    }
}

/// By what the kernel calls it.
fn judge(magic: u64, shown: &str) -> Finding {
    let (name, is_local) = match magic {
        0xef53 => ("ext4", true),
        0x5846_5342 => ("XFS", true),
        0x9123_683e => ("Btrfs", true),
        0x2fc1_2fc1 => ("ZFS", true),
        0xf2f5_2010 => ("F2FS", true),
        0xca45_1a4e => ("bcachefs", true),
        0x0102_1994 | 0x8584_58f6 => {
            let message = format!("{shown} is in memory (tmpfs)");
            return Finding::bad(
                "disk",
                message,
                "all of it is gone with a restart: name a directory on a disk",
            );
        }
        0x794c_7630 => {
            let message = format!("{shown} is the layer of a container (overlay)");
            return Finding::warn(
                "disk",
                message,
                "it goes with the container: mount a volume there",
            );
        }
        0x6969 => ("NFS", false),
        0xff53_4d42 | 0xfe53_4d42 => ("SMB", false),
        0x0102_1997 => ("9P", false),
        0x00c3_6400 => ("Ceph", false),
        0x6573_5546 => ("FUSE", false),
        other => {
            let message =
                format!("{shown} is on a file system of kind {other:#x}, which is unknown here");
            return Finding::warn("disk", message, "power cuts were tried on ext4 and XFS");
        }
    };
    let message = format!("{shown} is on {name}");
    if is_local {
        return Finding::ok("disk", message);
    }
    let advice = "whether a sync reaches a disk there, and a lock holds, is its server's to say: prefer a local disk";
    Finding::warn("disk", message, advice)
}

#[cfg(target_os = "linux")]
fn magic(ground: &Path) -> Option<u64> {
    // Some of them do not fit the kernel's own signed words.
    let kind = rustix::fs::statfs(ground).ok()?.f_type as u64;
    Some(kind & 0xffff_ffff)
}

#[cfg(not(target_os = "linux"))]
fn magic(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn file_systems_differ_in_what_they_promise() {
        for (magic, verdict) in [
            (0xef53, Verdict::Ok),
            (0x5846_5342, Verdict::Ok),
            (0x0102_1994, Verdict::Bad),
            (0x794c_7630, Verdict::Warn),
            (0x6969, Verdict::Warn),
            (1, Verdict::Warn),
        ] {
            assert_eq!(judge(magic, "data").verdict, verdict, "{magic:#x}");
        }
    }

    #[test]
    fn room_is_measured_by_the_reserve() {
        for (free, verdict) in [(99, Verdict::Bad), (199, Verdict::Warn), (200, Verdict::Ok)] {
            assert_eq!(room(free, 100).verdict, verdict, "{free}");
        }
    }
}
