//! What a server holds while time passes: memory and files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bench::resident_mib;

const EVERY: Duration = Duration::from_secs(5);

pub(super) struct Growth {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Sample>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    hours: f64,
    memory_mib: f64,
    files_mib: f64,
}

#[derive(Debug)]
pub(super) struct Report {
    pub(super) memory_mib: f64,
    /// Percent an hour over the second half.
    pub(super) memory_slope: f64,
    pub(super) files_mib: f64,
    pub(super) files_most_mib: f64,
}

impl Growth {
    pub(super) fn watch(pid: u32, data: PathBuf) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (began, mut samples) = (Instant::now(), Vec::new());
            loop {
                if let Ok(memory_mib) = resident_mib(pid) {
                    samples.push(Sample {
                        hours: began.elapsed().as_secs_f64() / 3_600.0,
                        memory_mib,
                        files_mib: files_mib(&data),
                    });
                }
                if tokio::time::timeout(EVERY, &mut stopped).await.is_ok() {
                    return samples;
                }
            }
        });
        Self { stop, task }
    }

    pub(super) async fn finish(self) -> Result<Report> {
        let _ = self.stop.send(());
        let samples = self.task.await?;
        let last = samples.last().context("the server was never looked at")?;
        let later: Vec<_> = samples[samples.len() / 2..].to_vec();
        let most = samples.iter().map(|s| s.files_mib).fold(0.0, f64::max);
        Ok(Report {
            memory_mib: last.memory_mib,
            memory_slope: percent_an_hour(&later),
            files_mib: last.files_mib,
            files_most_mib: most,
        })
    }
}

/// The line of least squares through the memory, relative to its mean.
fn percent_an_hour(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (hours, memory) = (mean(|s| s.hours), mean(|s| s.memory_mib));
    let along: f64 = samples
        .iter()
        .map(|s| (s.hours - hours) * (s.memory_mib - memory))
        .sum();
    let across: f64 = samples.iter().map(|s| (s.hours - hours).powi(2)).sum();
    if across == 0.0 || memory == 0.0 {
        return 0.0;
    }
    along / across / memory * 100.0
}

fn files_mib(folder: &Path) -> f64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok());
    sizes.map(|meta| meta.len()).sum::<u64>() as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line() {
        let sample = |hours: f64| Sample {
            hours,
            memory_mib: 100.0 + 5.0 * hours,
            files_mib: 0.0,
        };
        let samples: Vec<_> = (0..100).map(|at| sample(f64::from(at) / 1_000.0)).collect();
        let slope = percent_an_hour(&samples);
        assert!((slope - 5.0).abs() < 0.1, "{slope}");
    }
}
