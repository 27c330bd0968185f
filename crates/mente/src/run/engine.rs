//! Which engine a server runs on, and what follows from that; everything else of it is the same.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use mente_cluster::ClusterEngine;
use mente_engine::{Engine, SetName};
use mente_log::{Embedded, RealDisk};

use super::{Reserve, embedded};
use crate::args::{Choice, Kind};
use crate::failure::{Failure, Result};

/// Names the journals that the views in a directory were made from.
const OF_CLUSTER: &str = "kafka-journals";

/// An engine at work.
pub(super) enum Running {
    Embedded(embedded::Driven),
    Kafka {
        engine: ClusterEngine,
        /// Brokers to begin with, as they were given.
        bootstrap: String,
        /// Only held: no other server uses the directory of the views.
        _views: RealDisk,
    },
}

/// Opens the engine that was chosen. Inside of an executor, which is to run its tasks.
pub(super) fn open(choice: &Choice, data_dir: &Path, reserve: Reserve) -> Result<Running> {
    match choice.engine {
        Kind::Embedded => {
            if data_dir.join(OF_CLUSTER).exists() {
                return Err(Failure::usage(format!(
                    "{} holds the views of a server on Kafka: say --engine kafka, or use another directory",
                    data_dir.display()
                )));
            }
            embedded::open(data_dir, reserve).map(Running::Embedded)
        }
        Kind::Kafka => on_kafka(choice, data_dir),
    }
}

fn on_kafka(choice: &Choice, data_dir: &Path) -> Result<Running> {
    if super::verify::holds_a_log(data_dir) {
        return Err(Failure::usage(format!(
            "{} holds an embedded log, which a server on Kafka would not show: use another directory",
            data_dir.display()
        )));
    }
    let shown = data_dir.display();
    let views =
        RealDisk::open(data_dir).with_context(|| format!("cannot use the directory {shown}"))?;
    let options = mente_cluster::Options {
        prefix: choice.kafka_prefix.clone(),
        ..mente_cluster::Options::new(choice.kafka_bootstrap.iter())
    };
    Ok(Running::Kafka {
        engine: ClusterEngine::new(options),
        bootstrap: choice.kafka_bootstrap.join(","),
        _views: views,
    })
}

impl Running {
    pub(super) fn engine(&self) -> Arc<dyn Engine> {
        match self {
            Self::Embedded(driven) => Arc::new(driven.engine()),
            Self::Kafka { engine, .. } => Arc::new(engine.clone()),
        }
    }

    /// The log, if it is this server's own.
    pub(super) fn log(&self) -> Option<Embedded> {
        match self {
            Self::Embedded(driven) => Some(driven.engine()),
            Self::Kafka { .. } => None,
        }
    }

    /// The engine, if there may be other nodes on it.
    pub(super) fn cluster(&self) -> Option<ClusterEngine> {
        match self {
            Self::Embedded(_) => None,
            Self::Kafka { engine, .. } => Some(engine.clone()),
        }
    }

    /// Where Kafka clients find the same events: in the cluster itself.
    pub(super) fn kafka(&self) -> Option<&str> {
        match self {
            Self::Embedded(_) => None,
            Self::Kafka { bootstrap, .. } => Some(bootstrap),
        }
    }

    /// Refuses a cluster that may lose what it acknowledges, unless somebody said that it may.
    pub(super) async fn check_safety(&self, choice: &Choice) -> Result<()> {
        let Self::Kafka { engine, .. } = self else {
            return Ok(());
        };
        let faults = engine.unsafe_settings().await;
        let faults = faults.context("cannot ask the Kafka cluster for its settings")?;
        for fault in &faults.others {
            tracing::warn!(%fault, "TOPICS OF THIS CLUSTER MAY LOSE ACKNOWLEDGED EVENTS");
        }
        if choice.allow_unsafe_kafka {
            for fault in &faults.own {
                tracing::warn!(%fault, "THIS CLUSTER MAY LOSE ACKNOWLEDGED EVENTS");
            }
            return Ok(());
        }
        if faults.own.is_empty() {
            return Ok(());
        }
        let faults = faults.own.join("; ");
        Err(Failure::usage(format!(
            "this Kafka cluster may lose acknowledged events: {faults}. Mend that, or say --allow-unsafe-kafka to try things out"
        )))
    }

    /// Makes sure that the views in the directory were made from this engine's events: their checkpoints
    /// mean nothing in another cluster. The first server on the directory leaves its mark there.
    pub(super) async fn check_views(&self, journals: &SetName, data_dir: &Path) -> Result<()> {
        let Self::Kafka { engine, .. } = self else {
            return Ok(());
        };
        let listed = engine.list(journals.as_str()).await;
        let listed = listed.context("cannot ask the Kafka cluster for its topics")?;
        let found = listed.iter().find(|set| set.name == *journals);
        let id = found.context("the journals do not show")?.id.to_string();
        let mark = data_dir.join(OF_CLUSTER);
        match std::fs::read_to_string(&mark) {
            Ok(text) if text.trim() == id => Ok(()),
            Ok(_) => Err(Failure::usage(format!(
                "{} holds the views of another Kafka cluster or prefix: use another directory",
                data_dir.display()
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let written = std::fs::write(&mark, format!("{id}\n"));
                Ok(written.with_context(|| format!("cannot write {}", mark.display()))?)
            }
            Err(error) => {
                let words = format!("cannot read {}", mark.display());
                Err(anyhow::Error::new(error).context(words).into())
            }
        }
    }

    pub(super) fn close(self) -> Result<()> {
        match self {
            Self::Embedded(driven) => driven.close(),
            Self::Kafka { .. } => Ok(()),
        }
    }
}
