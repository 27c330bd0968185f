//! This node among the others of a Kafka cluster: it joins their group, decides for the shards that it is
//! given, and tells the door who owns the rest.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use mente_broker::{Broker, show};
use mente_cluster::{Assignment, Change, ClusterEngine, Seat};
use mente_server::nodes::{Map, Node, Nodes};
use mente_server::tls::Trust;
use tokio::sync::watch;
use uuid::Uuid;

use crate::failure::{Failure, Result};

/// The name that a node keeps over its restarts.
const NAME: &str = "node";

/// What this node is to the others. The name lies in the directory of its views, the secret is new each time.
pub(super) fn nodes(data_dir: &Path, trust: Trust) -> Result<Arc<Nodes>> {
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    Ok(Arc::new(Nodes::new(name(data_dir)?, secret, trust)))
}

fn name(data_dir: &Path) -> Result<String> {
    let file = data_dir.join(NAME);
    let shown = file.display();
    match std::fs::read_to_string(&file) {
        Ok(text) if is_name(text.trim()) => Ok(text.trim().to_owned()),
        Ok(_) => Err(Failure::usage(format!(
            "{shown} is to hold this node's name, 1 to 40 letters, digits and dashes: mend it, or remove it for a new one"
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = Uuid::new_v4().simple().to_string();
            let name = format!("node-{}", &id[..8]);
            let written = std::fs::write(&file, format!("{name}\n"));
            written.with_context(|| format!("cannot write {shown}"))?;
            Ok(name)
        }
        Err(error) => {
            let words = format!("cannot read {shown}");
            Err(anyhow::Error::new(error).context(words).into())
        }
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=40).contains(&text.len()) && text.bytes().all(allowed)
}

/// Joins, and does as it is told until `leaving` says so; then leaves, so that the others go on at once.
pub(super) async fn take_part(
    engine: ClusterEngine,
    broker: Broker,
    nodes: Arc<Nodes>,
    seat: Seat,
    mut leaving: watch::Receiver<bool>,
) {
    let name = seat.instance.clone();
    let mut membership = engine.join(seat);
    let hold = membership.hold();
    nodes.set_hold(move || {
        hold.until()
            .is_some_and(|until| std::time::Instant::now() < until)
    });
    let mut own = BTreeSet::new();
    loop {
        let change = tokio::select! {
            _ = leaving.wait_for(|leave| *leave) => break,
            change = membership.next() => change,
        };
        match change {
            Some(Change::Assigned(assignment)) => {
                own = given(&assignment, &name);
                tracing::info!(
                    generation = assignment.generation,
                    nodes = assignment.nodes.len(),
                    own = show(&own),
                    "shards"
                );
                nodes.learn(map(&assignment));
                broker.own(&own).await;
            }
            Some(Change::Revoked { shards, done }) => {
                tracing::info!(shards = show(&shards), "handing on");
                own.retain(|shard| !shards.contains(shard));
                broker.own(&own).await;
                let _ = done.send(());
            }
            Some(Change::Lost) => {
                tracing::warn!("this node lost its place among the others");
                own.clear();
                nodes.learn(Map::default());
                broker.own(&own).await;
            }
            None => break,
        }
    }
    broker.own(&BTreeSet::new()).await;
    membership.leave().await;
}

fn given(assignment: &Assignment, name: &str) -> BTreeSet<u32> {
    let own = assignment.nodes.iter().find(|node| node.instance == name);
    own.map(|node| node.shards.clone()).unwrap_or_default()
}

fn map(assignment: &Assignment) -> Map {
    let node = |node: &mente_cluster::Node| Node {
        name: node.instance.clone(),
        address: node.address.clone(),
        secret: node.secret.clone(),
        shards: node.shards.clone(),
    };
    Map {
        generation: assignment.generation,
        nodes: assignment.nodes.iter().map(node).collect(),
    }
}
