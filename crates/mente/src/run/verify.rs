//! A closed data directory, opened and read as a whole: every batch of every log with its
//! checksum, then journals and streams folded again. Nothing is served meanwhile.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use mente_broker::{Broker, Chain, Head, Principal};
use mente_engine::{Engine, Error, Limit};

use super::clock::TokioClock;
use super::{Reserve, embedded, spawn};
use crate::failure::{Code, Failure, Result};
use crate::output::line;

/// A head of the store as `mente stream head` shows it: `7:HASH`.
pub(crate) fn noted(text: &str) -> Result<Head> {
    let parts = text.split_once(':');
    let head = parts.and_then(|(position, hash)| {
        Some(Head {
            position: position.parse().ok()?,
            hash: Chain::try_from(hash.to_owned()).ok()?,
        })
    });
    head.ok_or_else(|| {
        let message = format!("{text:?} is not what mente stream head shows, POSITION:HASH");
        Failure::usage(message)
    })
}

pub(crate) fn verify(data_dir: &Path, against: Option<&str>) -> Result<()> {
    let against = against.map(noted).transpose()?;
    if !holds_a_log(data_dir) {
        let message = format!("there is no log in {}", data_dir.display());
        return Err(Failure::new(Code::NotFound, message));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the executor")?;
    let driven = embedded::open(data_dir, Reserve::default())?;
    let mut sound = driven.is_sound();
    let read = runtime.block_on(async {
        let engine: Arc<dyn Engine> = Arc::new(driven.engine());
        sound &= read_all(&*engine).await?;
        fold_all(engine, against).await
    });
    runtime.shutdown_timeout(super::SHARDS_STOP_WAIT);
    driven.close()?;
    sound &= read?;
    if sound {
        return line("nothing is missing, nothing is damaged");
    }
    Err(Failure::new(
        Code::Failed,
        "something is missing or damaged: see above",
    ))
}

/// Opening a directory without one would make one.
pub(super) fn holds_a_log(data_dir: &Path) -> bool {
    let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
    let is_file = |ending: &str, path: &Path| path.extension().is_some_and(|e| e == ending);
    entries
        .map(|entry| entry.path())
        .any(|path| is_file("wal", &path) || is_file("pack", &path))
}

/// Whether all that the logs say they hold can be read.
async fn read_all(engine: &dyn Engine) -> Result<bool> {
    let (mut logs, mut bytes, mut sound) = (0, 0, true);
    for set in engine.list("").await.context("cannot list the logs")? {
        for index in 0..set.logs {
            logs += 1;
            let log = set.id.log(index);
            let bounds = engine.bounds(log).await.context("cannot read a log")?;
            let mut from = bounds.start;
            while from < bounds.end {
                let chunk = match engine.read(log, from, Limit::default()).await {
                    Ok(chunk) if chunk.next > from => chunk,
                    Ok(_) => {
                        damaged(set.name.as_str(), index, "its end cannot be reached")?;
                        sound = false;
                        break;
                    }
                    // Retention goes on.
                    Err(Error::Trimmed(start)) if start > from => {
                        from = start;
                        continue;
                    }
                    Err(error) => {
                        damaged(set.name.as_str(), index, &error.to_string())?;
                        sound = false;
                        break;
                    }
                };
                bytes += chunk.batches.iter().map(|b| b.size() as u64).sum::<u64>();
                from = chunk.next;
            }
        }
    }
    let mib = bytes as f64 / f64::from(1 << 20);
    line(&format!("read       {logs} logs, {mib:.1} MiB"))?;
    Ok(sound)
}

fn damaged(set: &str, index: u32, why: &str) -> Result<()> {
    line(&format!("DAMAGED    {set} partition {index}: {why}"))
}

async fn fold_all(engine: Arc<dyn Engine>, noted: Option<Head>) -> Result<bool> {
    let clock = Arc::new(TokioClock::new());
    let opened = Broker::open(engine, clock, mente_broker::Options::default()).await;
    let (broker, tasks) = opened.context("cannot open the broker on this data")?;
    let mut shards = spawn(tasks);
    let folded = async {
        broker.ready().await?;
        broker.verify_noted(&Principal::Anonymous, noted).await
    };
    let folded = tokio::select! {
        folded = folded => folded.context("cannot fold the journals")?,
        error = super::failure(&mut shards) => return Err(error.into()),
    };
    drop(broker);
    let mut equal = true;
    for part in folded {
        equal &= part.equal;
        let word = if part.equal { "equal" } else { "DIFFERENT" };
        line(&format!("{word:<10} {:<28}{}", part.what, part.detail))?;
    }
    Ok(equal)
}
