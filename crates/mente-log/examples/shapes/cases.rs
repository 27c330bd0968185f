//! What is measured: which shape under which load.

use std::fmt;

/// What all logs together keep. More than the WAL's eight files, so that what stays is packed.
const KEPT_BYTES: u64 = 512 << 20;
/// So many times less: files die before anything is packed.
const SHORT: u64 = 4;
/// Of a WAL file and the largest segment.
const FILE_BYTES: u32 = 32 << 20;
const SMALL: usize = 1_000;
const LARGE: usize = 100_000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// The log of this crate; how it differs from what is default.
    Wal(WalKind),
    /// A file for every log, synced for every log.
    Segments { zeroed: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalKind {
    AsItIs,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) shape: Shape,
    pub(crate) logs: usize,
    /// A tenth of the logs takes two thirds of the appends.
    pub(crate) skewed: bool,
    pub(crate) batch_bytes: usize,
    pub(crate) kept_bytes: u64,
    pub(crate) file_bytes: u32,
    /// Bytes a second, whatever the answers do; else as much as 64 under way give.
    pub(crate) pace: Option<u64>,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wal(WalKind::AsItIs) => "WAL",
            Self::Segments { zeroed: false } => "segments",
            Self::Segments { zeroed: true } => "segments, zeroed ahead",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} logs, {}", self.logs, self.shape)
    }
}

const WALS: [Shape; 1] = [Shape::Wal(WalKind::AsItIs)];
const SEGMENTS: [Shape; 2] = [
    Shape::Segments { zeroed: false },
    Shape::Segments { zeroed: true },
];

/// The titles, and what runs in turn below each; everything kept is `scale` times smaller.
pub(crate) fn tables(scale: u32) -> Vec<(&'static str, Vec<Case>)> {
    let plain = |shape, logs| Case {
        shape,
        logs,
        skewed: false,
        batch_bytes: SMALL,
        kept_bytes: KEPT_BYTES / u64::from(scale),
        file_bytes: FILE_BYTES / scale,
        pace: None,
    };
    let each = |logs: &[usize], shapes: &[Shape], change: &dyn Fn(&mut Case)| {
        let mut cases = Vec::new();
        for logs in logs {
            for shape in shapes {
                let mut case = plain(*shape, *logs);
                change(&mut case);
                cases.push(case);
            }
        }
        cases
    };
    let all = [&WALS[..], &SEGMENTS[..]].concat();
    vec![
        (
            "64 of 1 KB under way",
            each(&[1, 100, 10_000], &all, &|_| {}),
        ),
        (
            "64 of 1 KB under way, skewed",
            each(&[10_000], &all, &|case| case.skewed = true),
        ),
        (
            "64 of 1 KB under way, short retention: nothing is packed",
            each(&[100], &all, &|case| case.kept_bytes /= SHORT),
        ),
        (
            "64 of 100 KB under way",
            each(&[100], &all, &|case| case.batch_bytes = LARGE),
        ),
        (
            "paced, 2 MB/s of 1 KB",
            each(&[100], &all, &|case| case.pace = Some(2_000_000)),
        ),
        (
            "paced, 50 MB/s of 1 KB",
            each(&[100], &WALS, &|case| case.pace = Some(50_000_000)),
        ),
        (
            "paced, 50 MB/s of 1 KB, short retention: nothing is packed",
            each(&[100], &WALS, &|case| {
                case.pace = Some(50_000_000);
                case.kept_bytes /= SHORT;
            }),
        ),
    ]
}
