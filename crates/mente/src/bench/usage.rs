//! What a server process uses, from the kernel's own books.

use anyhow::{Context, Result};

/// Clock ticks a second, as Linux counts processor time for every program.
const TICKS: f64 = 100.0;

/// Processor seconds, user and system, since the process began.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
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

/// Threads of the process.
pub(super) fn threads(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("threads")?;
    number(&status, "Threads:").context("threads")
}

/// Bytes that the process has had written to disks.
pub(super) fn written_bytes(pid: u32) -> Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).context("bytes written")?;
    number(&io, "write_bytes:").context("bytes written")
}

/// The machine's pages that wait to be written, or are being, in MiB.
pub(super) fn dirty_mib() -> Result<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").context("dirty pages")?;
    let kib = |name| number(&memory, name).context("dirty pages");
    Ok((kib("Dirty:")? + kib("Writeback:")?) / 1024)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
