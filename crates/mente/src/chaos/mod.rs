//! `mente chaos`: proves on the user's own machine that what Mente acknowledged is still there.
//!
//! A server of its own is killed, stopped for a while, its clock is stepped, and where that can be done
//! its power is cut, while outside clients work with it. They write down what they did and were told; the
//! verdict comes from their files and from what is read at the end, by laws that know nothing of the
//! server.
//!
//! ```text
//! episode ─▶ clients ─▶ history/*.jsonl ─▶ mente_sim::check ─▶ report
//!    └─ faults ─▶ power (a file system that can be shut down), clock (that can be stepped)
//! ```

mod amqp;
mod clients;
mod clock;
mod cluster;
mod diary;
mod episode;
mod faults;
#[cfg(feature = "planted")]
mod hunt;
mod network;
mod power;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::failure::{Code, Failure};
use crate::output::line;
use episode::{Faults, Left, Means, Medium};
use power::FileSystem;
use report::Report;

#[derive(Debug, clap::Args)]
pub(crate) struct ChaosArgs {
    /// How long to work, shared by kills and power cuts, such as 60s, 10m or 2h; reading and
    /// judging come on top
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    time: Duration,
    /// So many kills instead of a time; then --cuts, --pauses and --steps count too
    #[arg(long, value_name = "COUNT", conflicts_with = "time")]
    kills: Option<u32>,
    /// So many power cuts on each file system instead of a time
    #[arg(long, value_name = "COUNT", conflicts_with = "time")]
    cuts: Option<u32>,
    /// So many times the server is stopped (SIGSTOP) for 1 to 60 s and goes on, among the kills
    #[arg(long, value_name = "COUNT", conflicts_with = "time")]
    pauses: Option<u32>,
    /// No pause is longer
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    longest_pause: Duration,
    /// So many times the server's wall clock is put forward or back while it runs, by up to an hour,
    /// among the kills; needs libfaketime
    #[arg(long, value_name = "COUNT", conflicts_with = "time")]
    steps: Option<u32>,
    /// Fail if the power cannot be cut on ext4 and XFS; by default it is cut where that can be
    /// done (as root on Linux), and said where not
    #[arg(long, conflicts_with = "no_power")]
    power: bool,
    /// Only kill
    #[arg(long)]
    no_power: bool,
    /// Instead: so many nodes on a Kafka cluster of three brokers, which this script runs (scripts/kafka of the
    /// repository); nodes are killed, stopped for a while and restarted in turn, and brokers killed
    #[arg(long, value_name = "SCRIPT", requires = "rounds", conflicts_with_all = ["time", "kills", "cuts", "pauses", "steps", "power"])]
    kafka: Option<PathBuf>,
    /// So many faults of a cluster, one after the other
    #[arg(long, value_name = "COUNT", requires = "kafka")]
    rounds: Option<u32>,
    /// Nodes of the cluster
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=9))]
    nodes: u32,
    /// Keep the histories there, with the server's log and data
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Chance of moments and of clients; a moment is still the machine's
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Judge the histories that an earlier run kept there, and do nothing else
    #[arg(long, value_name = "DIR", exclusive = true)]
    check: Option<PathBuf>,
    /// Start servers with a bug each, all that there are or these, and demand that clients of their queues find it
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "BUG", num_args = 0.., exclusive = true)]
    planted: Option<Vec<String>>,
}

/// Succeeds if nothing was lost or invented and no other law was broken.
pub(crate) fn run(args: &ChaosArgs) -> crate::failure::Result<()> {
    #[cfg(feature = "planted")]
    if let Some(bugs) = &args.planted {
        return hunt::run(bugs);
    }
    if let Some(folder) = &args.check {
        let mut report = Report::default();
        for episode in episodes(folder)? {
            judge(&episode, &mut report)?;
        }
        return verdict(&report, folder);
    }
    let means = means(args).map_err(|message| Failure::new(Code::Failed, message))?;
    let media = match args.kafka {
        Some(_) => Vec::new(),
        None => media(args)?,
    };
    let temporary = tempfile::Builder::new().prefix("mente-chaos-").tempdir();
    let temporary = temporary.context("cannot make a temporary directory")?;
    let folder = match &args.dir {
        Some(dir) => fresh(dir)?,
        None => temporary.path(),
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the executor")?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = work(args, &media, &means, folder) => Ok(report),
            signal = crate::run::signal() => Err(signal),
        }
    });
    let report = match report {
        Ok(report) => report,
        Err(signal) => {
            let message = format!("ended by {} before anything was proved", signal?);
            return Err(Failure::new(Code::Failed, message));
        }
    };
    let outcome = report
        .map_err(Failure::from)
        .and_then(|report| verdict(&report, folder));
    if outcome.is_err() && args.dir.is_none() {
        eprintln!(
            "chaos: everything is kept in {}",
            temporary.keep().display()
        );
    }
    outcome
}

/// Where the data will lie. As root this does not come back but once, in a namespace of its own.
fn media(args: &ChaosArgs) -> crate::failure::Result<Vec<Medium>> {
    let mut media = vec![Medium::Directory];
    if args.no_power {
        return Ok(media);
    }
    let able = power::enter();
    for file_system in FileSystem::ALL {
        match able.clone().and_then(|()| power::probe(file_system)) {
            Ok(()) => media.push(Medium::Disk(file_system)),
            Err(why) => {
                let name = file_system.name();
                let message = format!("the power of {name} cannot be cut here: {why}");
                if args.power {
                    return Err(Failure::new(Code::Failed, message));
                }
                eprintln!("chaos: {message}");
            }
        }
    }
    Ok(media)
}

/// `Err` says what is missing.
fn means(args: &ChaosArgs) -> Result<Means, String> {
    let of = |what: &'static str| move |why| format!("{what} here: {why}");
    let (pauses, steps) = (args.pauses.unwrap_or(0), args.steps.unwrap_or(0));
    if pauses > 0 {
        let tied = power::find("setpriv", "util-linux");
        tied.map_err(of("the server cannot be paused"))?;
    }
    let library = (steps > 0).then(clock::find).transpose();
    Ok(Means {
        longest_pause: args.longest_pause,
        library: library.map_err(of("its clock cannot be stepped"))?,
        variables: Vec::new(),
    })
}

async fn work(args: &ChaosArgs, media: &[Medium], means: &Means, folder: &Path) -> Result<Report> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("chaos: seed {seed}, files in {}", folder.display());
    let mut report = Report::default();
    if let (Some(script), Some(rounds)) = (&args.kafka, args.rounds) {
        // A fresh cluster for each few, so that a history stays small enough to be judged in memory.
        for (number, first) in (1..).zip((0..rounds).step_by(cluster::ROUNDS as usize)) {
            let plan = cluster::Plan {
                script,
                nodes: args.nodes,
                rounds: (rounds - first).min(cluster::ROUNDS),
                longest_pause: args.longest_pause,
            };
            let episode = folder.join(format!("{number}-cluster"));
            cluster::run(&episode, seed ^ number, plan).await?;
            judge(&episode, &mut report)?;
            if args.dir.is_none() {
                cluster::drop_data(&episode, args.nodes)?;
            }
        }
        return Ok(report);
    }
    let mut number = 0;
    for medium in media {
        let counts = [args.kills, args.cuts, args.pauses, args.steps];
        let [kills, cuts, pauses, steps] = counts.map(|count| count.unwrap_or(0));
        let mut left = match medium {
            _ if counts.iter().all(Option::is_none) => Left::Time(args.time / media.len() as u32),
            Medium::Directory => Left::Faults(Faults {
                own: kills,
                pauses,
                steps,
            }),
            Medium::Disk(_) => Left::Faults(Faults {
                own: cuts,
                ..Faults::default()
            }),
        };
        while !left.is_nothing() {
            number += 1;
            let episode = folder.join(format!("{number}-{}", medium.name()));
            left = episode::run(&episode, *medium, seed ^ number, left, means)
                .await
                .with_context(|| format!("episode {}", episode.display()))?;
            judge(&episode, &mut report)?;
            if args.dir.is_none() {
                // Its data has done its service; the histories stay until the end.
                drop_data(&episode)?;
            }
        }
    }
    Ok(report)
}

/// Histories in DIR/EPISODE/history, in their order.
fn episodes(folder: &Path) -> Result<Vec<PathBuf>> {
    let shown = folder.display();
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    let mut episodes: Vec<(u64, PathBuf)> = Vec::new();
    for entry in listed {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let number = name
            .split('-')
            .next()
            .and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|_| path.join("history").is_dir()) {
            episodes.push((number, path));
        }
    }
    anyhow::ensure!(
        !episodes.is_empty(),
        "{shown} holds no histories; give what an earlier run had as --dir"
    );
    episodes.sort();
    Ok(episodes.into_iter().map(|(_, path)| path).collect())
}

fn judge(episode: &Path, report: &mut Report) -> Result<()> {
    let history = diary::read(&episode.join("history"))?;
    let violations = report.take(&history);
    let name = episode.file_name().unwrap_or_default().to_string_lossy();
    match violations.len() {
        0 => eprintln!(
            "chaos: {name}: {} lines of history, every law holds",
            history.len()
        ),
        count => eprintln!(
            "chaos: {name}: {count} violations\n{}",
            report::show(&violations)
        ),
    }
    Ok(())
}

fn verdict(report: &Report, folder: &Path) -> crate::failure::Result<()> {
    line(&report.show())?;
    let message = if report.acknowledged() == 0 {
        "nothing was acknowledged, so nothing is proved: give it more time".to_owned()
    } else if report.is_clean() {
        return Ok(());
    } else {
        let shown = folder.display();
        format!("laws are broken: see above; the histories are in {shown}")
    };
    Err(Failure::new(Code::Failed, message))
}

/// A directory of ours alone: histories of two runs must not mix.
fn fresh(dir: &Path) -> Result<&Path> {
    let shown = dir.display();
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {shown}"))?;
    let mut inside = std::fs::read_dir(dir).with_context(|| format!("cannot read {shown}"))?;
    anyhow::ensure!(
        inside.next().is_none(),
        "{shown} is not empty: give a new directory, or judge this one with --check {shown}"
    );
    Ok(dir)
}

fn drop_data(episode: &Path) -> Result<()> {
    for name in ["disk.ext4", "disk.xfs"] {
        let _ = std::fs::remove_file(episode.join(name));
    }
    let data = episode.join("data");
    match data.exists() {
        true => std::fs::remove_dir_all(&data).context("cannot remove an episode's data"),
        false => Ok(()),
    }
}

/// A number with its unit: 90s, 10m, 2h.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: say something like 60s, 10m or 2h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number
        .checked_mul(factor)
        .filter(|s| (1..=7 * 86_400).contains(s));
    Ok(Duration::from_secs(seconds.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in ["", "60", "s", "0s", "-1s", "8760h", "1ü"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
