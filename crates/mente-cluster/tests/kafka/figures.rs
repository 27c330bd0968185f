//! What the fence costs, beside a transaction per append. A few rounds by default, to see that
//! all of it works; for figures:
//!
//!     MENTE_FIGURES_ROUNDS=500 cargo test -p mente-cluster --test kafka --release figures -- --nocapture

use std::time::{Duration, Instant};

use mente_engine::conformance::{batch, read_all};
use mente_engine::{Engine, Limit};

use crate::{broker, engine, log, raw};

/// Rounds of each kind.
fn rounds() -> usize {
    let asked = std::env::var("MENTE_FIGURES_ROUNDS").ok();
    asked.map_or(20, |rounds| rounds.parse().expect("a number of rounds"))
}

#[tokio::test(flavor = "multi_thread")]
async fn figures() {
    let rounds = rounds();
    let broker = broker::any();
    let engine = engine(broker.bootstrap());
    let value = batch(&["x".repeat(200).as_str()]);

    let log = log(&engine, "figures", true).await;
    let mut claims = Vec::new();
    let mut fence = engine.claim(log).await.expect("claim");
    for _ in 0..rounds.min(100) {
        let since = Instant::now();
        fence = engine.claim(log).await.expect("claim");
        claims.push(since.elapsed());
    }
    let mut appends = Vec::new();
    for _ in 0..rounds {
        let since = Instant::now();
        engine
            .append(&[fence], vec![(log, value.clone())])
            .await
            .expect("append");
        appends.push(since.elapsed());
    }

    let kept = read_all(&engine, log, Limit::default()).await;
    assert_eq!(kept.len(), rounds, "what was measured was done");

    let log = self::log(&engine, "figures-plain", false).await;
    let mut ownerless = Vec::new();
    for _ in 0..rounds {
        let since = Instant::now();
        engine
            .append(&[], vec![(log, value.clone())])
            .await
            .expect("append");
        ownerless.push(since.elapsed());
    }

    let log = self::log(&engine, "figures-transactions", false).await;
    let name = "mente-test-figures";
    let mut client = raw::Client::connect(broker.bootstrap()).await;
    let mut producer = client.transactional(name).await;
    let (mut transactions, mut refused) = (Vec::new(), 0);
    for _ in 0..rounds {
        let since = Instant::now();
        while client
            .produce(log, &raw::transactional(&value, producer), Some(name))
            .await
            != 0
        {
            // The last transaction is not over yet.
            refused += 1;
        }
        producer = client.end(name, producer, true).await;
        transactions.push(since.elapsed());
    }
    println!("{rounds} rounds in turn, one at a time, 200 bytes");
    report("claim", &mut claims);
    report("append, owned", &mut appends);
    report("append, ownerless", &mut ownerless);
    report("transaction per append", &mut transactions);
    println!("transactions refused because the last was not over: {refused}");
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100];
    println!("{what}: p50 {:?}, p99 {:?}", at(50), at(99));
}
