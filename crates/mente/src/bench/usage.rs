//! What a server process uses, from the kernel's own books.

use anyhow::{Context, Result};

/// Clock ticks a second, as Linux counts processor time for every program.
const TICKS: f64 = 100.0;

/// Processor seconds, user and system, since the process began.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("processor time")?;
    // The name in brackets may hold anything; fields are counted behind it.
    let fields = stat.rsplit_once(')').context("processor time")?.1;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).context("user time")? + ticks(12).context("system time")?) / TICKS)
}

/// Resident memory in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("memory")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("memory")?;
    let kib: f64 = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .context("memory")?;
    Ok(kib / 1024.0)
}
