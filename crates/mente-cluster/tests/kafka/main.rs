//! The engine on a real Kafka: what every engine promises, what a fence is worth, and that
//! batches come back as they were sent.
//!
//! One broker for nearly all, started through `scripts/kafka`, with memories so short that
//! they end within a test. `MENTE_TEST_KAFKA=host:port` has the tests that need no such broker
//! run on another one. Without Java or Maven they fail.

mod broker;
mod fence;
mod figures;
mod group;
mod identity;
mod proxy;
mod raw;
mod size;

use std::sync::Arc;

use mente_cluster::{ClusterEngine, Options};
use mente_engine::conformance::{batch, read_all};
use mente_engine::{Engine, Limit, LogConfig, LogId, SetName, conformance};

use crate::broker::Broker;

/// Different in every run, since runs may share a cluster.
fn run_name() -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970");
    format!("{:x}-{:x}", since.as_millis(), std::process::id())
}

fn engine(bootstrap: &str) -> ClusterEngine {
    ClusterEngine::new(Options::new([bootstrap]))
}

async fn log(engine: &dyn Engine, name: &str, owned: bool) -> LogId {
    let name = SetName::new(format!("test/{}.{name}", run_name())).expect("a plain name");
    let config = LogConfig {
        owned,
        ..LogConfig::default()
    };
    engine
        .create(&name, 1, config)
        .await
        .expect("create")
        .log(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let broker = broker::any();
    let open = || Arc::new(engine(broker.bootstrap())) as Arc<dyn Engine>;
    conformance::run(&open, &run_name()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_and_its_fence_outlive_a_restart_of_the_broker() {
    let broker = Broker::start();
    let engine = engine(&broker.bootstrap);
    let (owned, plain) = (
        log(&engine, "owned", true).await,
        log(&engine, "plain", false).await,
    );
    let fence = engine.claim(owned).await.expect("claim");
    for round in ["before", "after"] {
        let sent = batch(&[round]);
        let appended = engine.append(&[fence], vec![(owned, sent.clone())]).await;
        appended.expect("the fence holds");
        engine
            .append(&[], vec![(plain, sent)])
            .await
            .expect("appended");
        if round == "before" {
            broker.restart();
        }
    }
    for log in [owned, plain] {
        let found = read_all(&engine, log, Limit::default()).await;
        let found: Vec<_> = found.into_iter().map(|(_, value)| value).collect();
        assert_eq!(found, ["before", "after"]);
    }
}
