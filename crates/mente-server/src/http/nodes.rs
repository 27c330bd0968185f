//! For the other nodes of a cluster, which show the secret that this one gave them through Kafka; and for
//! people: who is there, who owns which shard, and how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use mente_broker::{Broker, Progress};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Door;
use super::body;
use super::caller::{Caller, same};
use super::error::{Refusal, Result};
use super::events::json_of;
use crate::nodes::{Map, Node, Nodes, QUESTION_ID, SCHEME};

/// Another node of the cluster.
pub(super) struct Neighbour;

impl FromRequestParts<Arc<Door>> for Neighbour {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Refusal> {
        let shown = parts
            .headers
            .get(AUTHORIZATION)
            .map(|value| value.as_bytes());
        let secret = shown.and_then(|shown| shown.strip_prefix(SCHEME.as_bytes()));
        let is_own = |nodes: &Arc<Nodes>, secret| same(nodes.secret().as_bytes(), secret);
        let is_one = |nodes| secret.is_some_and(|secret| is_own(nodes, secret));
        if door.nodes.as_ref().is_some_and(is_one) {
            return Ok(Self);
        }
        let message = "this path is for the nodes of the cluster, which know this one's secret";
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            message,
        ))
    }
}

/// Decides what another node asks for, if the shard is this one's.
pub(super) async fn answer(
    _: Neighbour,
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Vec<u8>> {
    let question = body::read(&door, body).await?;
    let id = headers.get(QUESTION_ID);
    tracing::debug!(?id, "question of another node");
    Ok(door.broker.answer(&question.bytes).await)
}

/// How far this node's own shards are.
pub(super) async fn progress(_: Neighbour, State(door): State<Arc<Door>>) -> Result<Response> {
    json_of(StatusCode::OK, &json!(own_progress(&door.broker)))
}

/// How a node says it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Said {
    /// Reads its journal, and lacks so much of it.
    Restoring {
        behind: u64,
    },
    AtWork {
        term: u64,
    },
}

fn own_progress(broker: &Broker) -> BTreeMap<u32, Said> {
    let said = |progress| match progress {
        Progress::Away => None,
        Progress::Restoring { next, end } => Some(Said::Restoring {
            behind: end.0.saturating_sub(next.0),
        }),
        Progress::AtWork { term } => Some(Said::AtWork { term: term.0 }),
    };
    let progress = (0..).zip(broker.progress());
    progress
        .filter_map(|(shard, progress)| Some((shard, said(progress)?)))
        .collect()
}

/// `GET /api/cluster`: nodes and shards.
pub(super) async fn cluster(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
) -> Result<Response> {
    door.broker.check_cluster(&who)?;
    let mut said = own_progress(&door.broker);
    let map = match &door.nodes {
        None => alone(door.broker.progress().len()),
        Some(nodes) => {
            let map = nodes.map();
            let others = map.nodes.iter().filter(|node| node.name != nodes.name());
            let asked = others.map(|node| nodes.progress_of(&node.name));
            for told in futures::future::join_all(asked).await.into_iter().flatten() {
                let told: BTreeMap<u32, Said> = serde_json::from_slice(&told).unwrap_or_default();
                said.extend(told);
            }
            map
        }
    };
    let this = door.nodes.as_ref().map_or(ALONE, |nodes| nodes.name());
    let mut owners = BTreeMap::new();
    let mut nodes = Vec::new();
    for node in &map.nodes {
        owners.extend(node.shards.iter().map(|shard| (*shard, node.name.as_str())));
        nodes.push(json!({
            "node": node.name,
            "address": node.address,
            "this": node.name == this,
            "shards": node.shards,
        }));
    }
    let shards = shards(&door.broker, &owners, &said);
    let told = json!({"generation": map.generation, "nodes": nodes, "shards": shards});
    json_of(StatusCode::OK, &told)
}

/// What the only node there can be is called.
const ALONE: &str = "this";

fn alone(shards: usize) -> Arc<Map> {
    let node = Node {
        name: ALONE.to_owned(),
        address: String::new(),
        secret: String::new(),
        shards: (0..shards as u32).collect(),
    };
    Arc::new(Map {
        generation: 0,
        nodes: vec![node],
    })
}

fn shards(broker: &Broker, owners: &BTreeMap<u32, &str>, said: &BTreeMap<u32, Said>) -> Vec<Value> {
    let one = |shard: u32| {
        let mut told = match (owners.get(&shard), said.get(&shard)) {
            (Some(_), Some(said)) => json!(said),
            // Its owner did not say.
            (Some(_), None) => json!({"state": "unknown"}),
            (None, _) => json!({"state": "unowned"}),
        };
        told["shard"] = shard.into();
        if let Some(owner) = owners.get(&shard) {
            told["owner"] = (*owner).into();
        }
        told
    };
    (0..broker.progress().len() as u32).map(one).collect()
}
