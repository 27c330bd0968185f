//! The queues, topics, subscriptions and rules of a namespace, declared in one file: that of Service Bus' emulator.
//!
//! ```text
//! file ─▶ mente-wire/servicebus/config ─▶ plan.rs ─▶ apply.rs ─▶ broker
//!          which properties, where         what differs, all of it looked at
//! ```
//! What the file leaves out stays: entities that it does not name, properties of entities that are there, rules of
//! subscriptions for which it has none. A subscription with rules in the file has exactly those.

mod apply;
mod export;
mod plan;

use mente_broker::{Broker, Error, Principal, Result};
use mente_wire::servicebus::config::{Config, plain};
use serde::Serialize;
use serde_json::{Map, Value};

pub use export::{Exported, export};
use plan::Plan;

/// An entity or rule of the file beside what is there.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    pub sign: Sign,
    /// `queue`, `topic`, `subscription` or `rule`.
    pub kind: &'static str,
    /// With `/` between the names of a topic, a subscription and a rule.
    pub name: String,
    /// What differs; of a new one from what it is without a word.
    pub fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Sign {
    #[serde(rename = "+")]
    Made,
    #[serde(rename = "~")]
    Changed,
    /// Of rules only.
    #[serde(rename = "-")]
    Removed,
    #[serde(rename = "=")]
    Same,
}

/// A property that differs; one that an entity does not have is none.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// It is fixed when the entity is made.
    pub anew: bool,
}

/// What is fixed when an entity is made.
const FIXED: [&str; 3] = [
    "RequiresDuplicateDetection",
    "RequiresSession",
    "EnablePartitioning",
];

impl Field {
    /// Those that differ, in the order of their names.
    fn between(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Self> {
        let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let differing = names
            .into_iter()
            .filter(|name| before.get(*name) != after.get(*name));
        let fields = differing.map(|name| Self {
            name: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
            anew: FIXED.contains(&&**name),
        });
        fields.collect()
    }
}

/// What applying the file would do, which must be right in all of it. The caller may manage everything, or is refused.
pub async fn diff(broker: &Broker, who: &Principal, file: &[u8]) -> Result<Vec<Change>> {
    Ok(plan(broker, who, file).await?.into_changes())
}

/// Does it, and says what it did: nothing if anything of the file is wrong, or of an entity that is there would have to
/// be made anew (`Conflict`). Where it breaks off, what came before is done and durable, and the next call goes on.
pub async fn apply(broker: &Broker, who: &Principal, file: &[u8]) -> Result<Vec<Change>> {
    let plan = plan(broker, who, file).await?;
    plan.check_fixed()?;
    plan.carry_out(broker, who).await
}

async fn plan(broker: &Broker, who: &Principal, file: &[u8]) -> Result<Plan> {
    let plain = plain(file).map_err(|wrong| Error::invalid(wrong.0))?;
    let config = Config::read(&plain).map_err(|wrong| Error::invalid(wrong.0))?;
    Plan::of(broker, who, &config).await
}
