//! `mente soak`: hours of open load, retention deleting all the while, looked at for what hours
//! show: a loss, an order that breaks, memory or files that grow.
//!
//! ```text
//!  writers ──publish, each on its own schedule──▶ server ──▶ readers: every id, in order
//!                                                   └─────▶ receivers: every tenth, once settled
//! ```
//! The load is open: a writer that is late sends at once and its latency counts from when it
//! meant to send, so that a server that stands still is seen in every request it delays.

mod consume;
mod growth;
mod produce;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::client::Client;
use crate::demo::{Server, ask};
use crate::failure::{Code, Failure};
use crate::output::line;
use consume::{Read, Received};
use growth::Growth;
use produce::Sent;

const TOPIC: &str = "soak";
const PARTITIONS: u64 = 4;
/// What the topic keeps of each partition: some seconds' worth, so that files retire all the time.
const RETENTION_BYTES: u64 = 64 << 20;
/// How long consumers may take to come to the end once nothing is published any more.
const CATCH_UP: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How long, such as 90s, 30m or 2h
    #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = span)]
    length: Duration,
    /// Events of 1 KB a second
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Connections that publish
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    writers: u32,
    /// Where the server keeps its data; it needs some GiB
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The plan that all roles share.
#[derive(Debug)]
struct Plan {
    url: String,
    writers: u32,
    /// Between two events of one writer.
    pace: Duration,
    began: Instant,
    until: Instant,
    /// Nothing is published any more.
    published: AtomicBool,
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: say 90s, 30m or 2h");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    if number == 0 {
        return Err("no time at all shows nothing".to_owned());
    }
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

pub(crate) fn run(args: &SoakArgs) -> crate::failure::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the executor")?;
    let problems = runtime.block_on(soak(args))?;
    if problems == 0 {
        return Ok(());
    }
    let message = format!(
        "{problems} events were lost, out of order, not settled or not sent in time: see above"
    );
    Err(Failure::new(Code::Failed, message))
}

async fn soak(args: &SoakArgs) -> Result<u64> {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(&parent)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    let server = Server::start(folder.path()).await?;
    prepare(&server.url()).await?;
    let began = Instant::now();
    let plan = Arc::new(Plan {
        url: server.url(),
        writers: args.writers,
        pace: Duration::from_secs(1) * args.writers / args.rate.max(1),
        began,
        until: began + args.length,
        published: AtomicBool::new(false),
    });
    let growth = Growth::watch(
        server.pid().context("the server has ended")?,
        folder.path().join("data"),
    );
    let readers = (0..PARTITIONS).map(|partition| consume::read(Arc::clone(&plan), partition));
    let readers = tokio::spawn(futures::future::try_join_all(readers));
    let receivers = tokio::spawn(consume::receive_all(Arc::clone(&plan)));
    let sent = produce::publish_all(&plan).await?;
    plan.published
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let ended = async { Ok::<_, anyhow::Error>((readers.await??, receivers.await??)) };
    let (read, received) = match tokio::time::timeout(plan.left() + CATCH_UP * 2, ended).await {
        Ok(ended) => ended?,
        Err(_) => bail!("the consumers do not come to the end"),
    };
    let growth = growth.finish().await?;
    let problems = tell(args, &sent, &read, &received, &growth)?;
    server.stop().await?;
    Ok(problems)
}

impl Plan {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

async fn prepare(url: &str) -> Result<()> {
    let client = Client::new(url)?;
    let topic = json!({"partitions": PARTITIONS, "retention_bytes": RETENTION_BYTES});
    ask(&client, "PUT", &format!("/topics/{TOPIC}"), &topic).await?;
    let tenth = json!({
        "from": "earliest",
        "filter": {"exact": {"type": produce::TENTH}},
    });
    let path = format!("/topics/{TOPIC}/subscriptions/tenth");
    ask(&client, "PUT", &path, &tenth).await.map(drop)
}

/// Prints what was seen; gives how much of it must not be.
fn tell(
    args: &SoakArgs,
    sent: &Sent,
    read: &[Read],
    received: &Received,
    growth: &growth::Report,
) -> Result<u64> {
    let acknowledged: u64 = sent.acknowledged.iter().sum();
    let found: u64 = read.iter().map(|r| r.events).sum();
    let disorder: u64 = read.iter().map(|r| r.out_of_order).sum();
    let missed: u64 = read.iter().map(|r| r.missed).sum();
    let lost = missed + acknowledged.saturating_sub(found + missed);
    let tenths: u64 = sent.tenths();
    let unsettled = tenths.saturating_sub(received.settled());
    let micros = |part: f64| sent.latency.value_at_quantile(part) as f64 / 1e3;
    let seconds = args.length.as_secs_f64();
    let say = |name: &str, value: String, what: &str| {
        line(&format!("  {name:<14}{value:>12}   {what}")).map_err(|f| anyhow::anyhow!(f.message))
    };
    say(
        "acknowledged",
        acknowledged.to_string(),
        &format!(
            "events of 1 KB, {:.0} a second for {seconds:.0} s",
            acknowledged as f64 / seconds
        ),
    )?;
    say(
        "failed",
        sent.failed.to_string(),
        "publishes without an acknowledgement",
    )?;
    say(
        "unsent",
        sent.unsent.to_string(),
        "whose time came, and no writer was free before the end",
    )?;
    say(
        "latency",
        format!("{:.1} ms", micros(0.5)),
        &format!(
            "p50 from the intended time; p99 {:.1}, p99.9 {:.1}, most {:.0} ms",
            micros(0.99),
            micros(0.999),
            micros(1.0)
        ),
    )?;
    say("read", found.to_string(), "by readers that follow")?;
    say(
        "lost",
        lost.to_string(),
        "acknowledged, and passed over by its reader",
    )?;
    say("out of order", disorder.to_string(), "of one writer")?;
    say(
        "settled",
        received.settled().to_string(),
        &format!(
            "of {tenths} tenths, {} came more than once",
            received.repeated
        ),
    )?;
    say(
        "memory",
        format!("{:.0} MiB", growth.memory_mib),
        &format!(
            "at the end; {:+.2} % an hour over the second half",
            growth.memory_slope
        ),
    )?;
    say(
        "files",
        format!("{:.0} MiB", growth.files_mib),
        &format!("at the end; at most {:.0}", growth.files_most_mib),
    )?;
    // Beyond that the load was another one than asked for, and the figures say nothing of it.
    let slipped = sent.unsent.saturating_sub(acknowledged / 100);
    Ok(lost + disorder + unsettled + slipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("2h"), Ok(Duration::from_secs(7_200)));
        for bad in ["", "h", "5", "1d", "-1s", "1.5h", "0s"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
