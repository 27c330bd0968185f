//! What a log is said to have, beside the files that its broker keeps of it.

use std::path::Path;
use std::time::{Duration, Instant};

use mente_cluster::ClusterEngine;
use mente_engine::conformance::batch;
use mente_engine::{Engine, LogId, Offset};

use crate::{broker, engine, log};

const MIB: u64 = 1 << 20;
/// Largest file of a log that is trimmed.
const FILE: u64 = 16 * MIB;
/// For whatever must happen soon.
const SOON: Duration = Duration::from_secs(60);

/// Appends a record of a mebibyte; where it lies.
async fn append(engine: &ClusterEngine, log: LogId) -> Offset {
    let record = batch(&["x".repeat(MIB as usize).as_str()]);
    let appended = engine.append(&[], vec![(log, record)]).await;
    appended.expect("appended")[0].base
}

/// The first offsets of the files of the one log whose directory is named so, in order.
fn files(data: &Path, name: &str) -> Vec<u64> {
    let all = std::fs::read_dir(data).expect("the broker's data");
    let is_it = |path: &std::path::PathBuf| path.to_string_lossy().contains(name);
    let directory = all.map(|entry| entry.unwrap().path()).find(is_it);
    let all = std::fs::read_dir(directory.expect("a directory of the log")).unwrap();
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let first = |name: String| name.strip_suffix(".log")?.parse().ok();
    let mut first: Vec<u64> = names.filter_map(first).collect();
    first.sort_unstable();
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_is_not_of_the_size_and_its_files_go() {
    let broker = broker::shared();
    let engine = engine(&broker.bootstrap);
    let log = log(&engine, "of-a-size", false).await;
    let files = || files(&broker.data(), "of-a-size");
    let size = async |from: Offset| engine.size(log, from.on()).await.expect("a size");
    let began = Instant::now();
    let soon = |what: &str| assert!(began.elapsed() < SOON, "{what} does not come to be");

    let first = append(&engine, log).await;
    engine
        .trim(log, Offset(first.0 + 1))
        .await
        .expect("trimmed");
    // The files become small beside the trim.
    let mut count = 0;
    while files().len() < 4 {
        append(&engine, log).await;
        count += 1;
        // Kafka's own would be of 1 GiB.
        assert!(count < 500, "the files stay large");
    }
    let whole = (count * MIB)..=(count * MIB + FILE);
    while size(Offset(0))
        .await
        .is_none_or(|bytes| !whole.contains(&bytes))
    {
        soon("the size of what was appended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last = append(&engine, log).await;
    let from = Offset(last.0 - 9);
    engine.trim(log, from).await.expect("trimmed");
    let kept = (10 * MIB)..=(10 * MIB + FILE);
    while files()[0] == first.0
        || size(Offset(0))
            .await
            .is_none_or(|bytes| !kept.contains(&bytes))
    {
        soon("the size of what is left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(files()[0] <= from.0, "only whole files go");
}
