//! The engine under the broker in these tests: a real Apache Kafka.

use std::sync::Arc;

use mente_cluster::{ClusterEngine, Options};
use mente_engine::Engine;

use crate::broker::{bootstrap, prefix};

/// One with nothing in it.
pub(crate) fn open() -> Arc<dyn Engine> {
    let options = Options {
        prefix: prefix().parse().unwrap(),
        ..Options::new([bootstrap()])
    };
    Arc::new(ClusterEngine::new(options))
}
