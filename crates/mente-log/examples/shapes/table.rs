//! Rows of Markdown: over several rounds the median, and the range where it says most.

use std::path::Path;

use super::cases::Case;
use super::counted::{Beside, Commit, Counts, Role};
use super::machine::{self, Used};

const MIB: f64 = (1 << 20) as f64;

/// The figures of one case in one round, in the units of the columns.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    floor_ms: [f64; 2],
    megabytes_per_second: f64,
    append_ms: [f64; 4],
    written_per_byte: [f64; 3],
    device_per_byte: f64,
    device_per_written: f64,
    syncs_per_second: f64,
    flushes_per_second: f64,
    processor_us_per_append: f64,
    processors: f64,
    dirty_mib: [f64; 3],
    files: f64,
    kept_times: f64,
    /// Of the commits of each kind: how many, and times in milliseconds.
    commits: Vec<[f64; 4]>,
}

/// What a commit's sync ran beside, and whether it was the first in its file.
const KINDS: [(&str, Beside, bool); 5] = [
    ("nothing", Beside::Nothing, false),
    ("zeros", Beside::Files, false),
    ("a pack", Beside::Packs, false),
    ("both", Beside::Both, false),
    ("nothing, the first in its file", Beside::Nothing, true),
];

impl Outcome {
    pub(crate) fn new(
        case: &Case,
        mut floor: Vec<u32>,
        mut latencies: Vec<u32>,
        used: &Used,
        dirty: Vec<u64>,
        counts: &Counts,
        dir: &Path,
    ) -> Self {
        let appends = latencies.len() as f64;
        let batch = mente_engine::conformance::batch(&[&"x".repeat(case.batch_bytes)]);
        let bytes = appends * batch.size() as f64;
        let third = dirty.len().div_ceil(3).max(1);
        let mean = |part: Option<&[u64]>| {
            let part = part.unwrap_or_default();
            part.iter().sum::<u64>() as f64 / part.len().max(1) as f64 / MIB
        };
        let written =
            [Role::Appends, Role::Files, Role::Packs].map(|role| counts.written(role) as f64);
        let commits = counts.commits();
        Self {
            floor_ms: parts(&mut floor, [0.5, 0.99]),
            megabytes_per_second: bytes / used.seconds / 1e6,
            append_ms: parts(&mut latencies, [0.5, 0.99, 0.999, 1.0]),
            written_per_byte: written.map(|written| written / bytes),
            device_per_byte: used.device_bytes as f64 / bytes,
            device_per_written: used.device_bytes as f64 / written.iter().sum::<f64>(),
            syncs_per_second: counts.syncs() as f64 / used.seconds,
            flushes_per_second: used.device_flushes as f64 / used.seconds,
            processor_us_per_append: used.processor_seconds * 1e6 / appends,
            processors: used.processor_seconds / used.seconds,
            dirty_mib: [
                dirty.iter().max().map_or(0.0, |most| *most as f64 / MIB),
                mean(dirty.chunks(third).next()),
                mean(dirty.rchunks(third).next()),
            ],
            files: machine::files(dir) as f64,
            kept_times: bytes / case.kept_bytes as f64,
            commits: KINDS.map(|kind| of_kind(&commits, kind)).to_vec(),
        }
    }
}

fn of_kind(commits: &[Commit], (_, beside, is_first): (&str, Beside, bool)) -> [f64; 4] {
    let is_meant = |commit: &&Commit| commit.beside == beside && commit.is_first == is_first;
    let mut times: Vec<_> = commits
        .iter()
        .filter(is_meant)
        .map(|commit| commit.nanoseconds)
        .collect();
    let [p50, p99, p999] = parts(&mut times, [0.5, 0.99, 0.999]);
    [times.len() as f64, p50, p99, p999]
}

/// Parts of the times in order, in milliseconds.
fn parts<const N: usize>(times: &mut [u32], parts: [f64; N]) -> [f64; N] {
    times.sort_unstable();
    let last = times.len().saturating_sub(1) as f64;
    parts.map(|part| f64::from(times.get((last * part) as usize).copied().unwrap_or(0)) / 1e6)
}

pub(crate) fn print(title: &str, rows: &[(Case, Vec<Outcome>)]) {
    println!("\n### {title}\n");
    println!(
        "| logs | shape | MB/s | p50 ms | p99 ms | p99.9 ms | longest ms | the disk's own sync, p50 and p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (case, rounds) in rows {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {}, {} |",
            case.logs,
            case.shape,
            ranged(rounds, |o| o.megabytes_per_second),
            median(rounds, |o| o.append_ms[0]),
            ranged(rounds, |o| o.append_ms[1]),
            median(rounds, |o| o.append_ms[2]),
            median(rounds, |o| o.append_ms[3]),
            median(rounds, |o| o.floor_ms[0]),
            median(rounds, |o| o.floor_ms[1]),
        );
    }
    println!(
        "\n| logs | shape | device bytes per byte appended | written per byte: appends + files ahead + packs | syncs/s (flushes of the device) | processor µs per append (processors) | dirty MiB: most (mean of the first third, of the last) | files | times what is kept |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (case, rounds) in rows {
        println!(
            "| {} | {} | {} ({} of written) | {} + {} + {} | {} ({}) | {} ({}) | {} ({}, {}) | {} | {} |",
            case.logs,
            case.shape,
            median(rounds, |o| o.device_per_byte),
            median(rounds, |o| o.device_per_written),
            median(rounds, |o| o.written_per_byte[0]),
            median(rounds, |o| o.written_per_byte[1]),
            median(rounds, |o| o.written_per_byte[2]),
            median(rounds, |o| o.syncs_per_second),
            median(rounds, |o| o.flushes_per_second),
            median(rounds, |o| o.processor_us_per_append),
            median(rounds, |o| o.processors),
            median(rounds, |o| o.dirty_mib[0]),
            median(rounds, |o| o.dirty_mib[1]),
            median(rounds, |o| o.dirty_mib[2]),
            median(rounds, |o| o.files),
            median(rounds, |o| o.kept_times),
        );
    }
    println!(
        "\n| logs | shape | a commit, written and synced, beside | times | p50 ms | p99 ms | p99.9 ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (case, rounds) in rows {
        for (at, (beside, ..)) in KINDS.iter().enumerate() {
            let figure = |figure: usize| median(rounds, |o| o.commits[at][figure]);
            if rounds.iter().any(|o| o.commits[at][0] > 0.0) {
                println!(
                    "| {} | {} | {beside} | {} | {} | {} | {} |",
                    case.logs,
                    case.shape,
                    figure(0),
                    figure(1),
                    figure(2),
                    figure(3),
                );
            }
        }
    }
}

fn sorted(rounds: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> Vec<f64> {
    let mut figures: Vec<_> = rounds.iter().map(figure).collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures
}

fn median(rounds: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> String {
    median_of(&sorted(rounds, figure))
}

fn ranged(rounds: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> String {
    let figures = sorted(rounds, figure);
    let [first, .., last] = figures[..] else {
        return median_of(&figures);
    };
    format!(
        "{} ({} to {})",
        median_of(&figures),
        short(first),
        short(last)
    )
}

fn median_of(figures: &[f64]) -> String {
    short(figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN))
}

/// Two or three figures that count.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0..1.0 => format!("{figure:.2}"),
        1.0..10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
