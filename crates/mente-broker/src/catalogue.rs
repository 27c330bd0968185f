//! What all doors know: topics and declarations. The state of the shard that holds them, shared
//! with the doors as of the last durable decision.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::error::{Error, Kind, Result};
use crate::journal::{Decision, Definition, Topic};
use crate::name::EntityName;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    pub topics: BTreeMap<EntityName, Topic>,
    pub definitions: BTreeMap<(Definition, EntityName), serde_json::Value>,
}

impl Catalogue {
    /// Folds a decision; most are not about the catalogue.
    pub(crate) fn apply(&mut self, decision: &Decision) {
        match decision {
            Decision::TopicCreated { name, topic } => {
                self.topics.insert(name.clone(), topic.clone());
            }
            Decision::TopicDeleted { name } => {
                self.topics.remove(name);
            }
            Decision::Defined { kind, name, body } => {
                let key = (*kind, name.clone());
                self.definitions.insert(key, body.clone());
            }
            Decision::Undefined { kind, name } => {
                self.definitions.remove(&(*kind, name.clone()));
            }
            Decision::SubscriptionCreated { .. }
            | Decision::SubscriptionDeleted { .. }
            | Decision::SecretsSet { .. }
            | Decision::View { .. } => {}
        }
    }
}

/// The doors' handle on it; nothing until its shard has read its journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedCatalogue(Arc<RwLock<Option<Arc<Catalogue>>>>);

impl SharedCatalogue {
    /// As it is now; what comes later is not seen. Who keeps it makes the next change copy it.
    pub(crate) fn get(&self) -> Result<Arc<Catalogue>> {
        self.read().clone().ok_or_else(unread)
    }

    pub(crate) fn topic(&self, name: &EntityName) -> Result<Option<Topic>> {
        let shared = self.read();
        let catalogue = shared.as_ref().ok_or_else(unread)?;
        Ok(catalogue.topics.get(name).cloned())
    }

    pub(crate) fn is_read(&self) -> bool {
        self.read().is_some()
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Arc<Catalogue>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn replace(&self, catalogue: Catalogue) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(catalogue));
    }

    /// Takes durable decisions in, in place where no door looks at it just now.
    pub(crate) fn apply(&self, decisions: &[Decision]) {
        let mut news = decisions
            .iter()
            .filter(|d| d.changes_catalogue())
            .peekable();
        if news.peek().is_none() {
            return;
        }
        let mut shared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let catalogue = Arc::make_mut(shared.get_or_insert_default());
        news.for_each(|decision| catalogue.apply(decision));
    }
}

fn unread() -> Error {
    Error::new(Kind::Throttled, "the catalogue is not read yet: repeat")
}
