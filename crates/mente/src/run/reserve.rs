//! How much of a disk is kept for consumers and deletions when it fills up.

use std::path::Path;
use std::str::FromStr;

use rustix::fs::statvfs;

/// Some files of the log: journals go on in one while their last ones wait to retire into a pack.
const LEAST_BYTES: u64 = 256 << 20;
/// Of a larger disk a share, since views, backups and others write there too.
const SHARE: u64 = 50;
const MOST_BYTES: u64 = 1 << 30;
/// A disk so small that this is less keeps this.
const SMALL_SHARE: u64 = 4;

/// As asked for, or what fits the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserve(Option<u64>);

impl Reserve {
    /// In bytes, on the disk of this directory, which is there; one file of the log at least.
    pub(crate) fn on(self, directory: &Path) -> std::io::Result<u64> {
        let bytes = match self.0 {
            Some(bytes) => bytes,
            None => {
                let disk = statvfs(directory)?;
                of_disk(disk.f_blocks.saturating_mul(disk.f_frsize))
            }
        };
        Ok(bytes.max(mente_log::Options::default().file_bytes.into()))
    }
}

fn of_disk(bytes: u64) -> u64 {
    let share = (bytes / SHARE).clamp(LEAST_BYTES, MOST_BYTES);
    share.min(bytes / SMALL_SHARE)
}

impl FromStr for Reserve {
    type Err = String;

    /// A number of bytes, or one with its unit: 512M, 2G.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: say something like 512M or 2G");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit: u64 = match &text[digits.len()..] {
            "" => 1,
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            "T" => 1 << 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let bytes = number.checked_mul(unit).ok_or_else(wrong)?;
        Ok(Self(Some(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_fits_the_disk() {
        const MIB: u64 = 1 << 20;
        for (disk, reserve) in [
            (100, 25),
            (1_000, 250),
            (8_000, 256),
            (20_000, 400),
            (10_000_000, 1_024),
        ] {
            assert_eq!(of_disk(disk * MIB), reserve * MIB, "{disk} MiB");
        }
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        let read = |text: &str| text.parse::<Reserve>().map(|reserve| reserve.0);
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512M", 512 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(read(text), Ok(Some(bytes)));
        }
        for wrong in ["", "M", "-1", "1.5G", "2GB", "99999999T", "1ü"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
