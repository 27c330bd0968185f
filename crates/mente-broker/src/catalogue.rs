//! What all doors know: topics and declarations. The state of the shard that holds them, shared
//! with the doors as of the last durable decision.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use mente_engine::Offset;
use serde::Deserialize;

use crate::bell::Bell;
use crate::entity::Entity;
use crate::error::{Error, Kind, Result};
use crate::journal::{Decision, Definition, Topic};
use crate::name::EntityName;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    pub topics: BTreeMap<EntityName, Topic>,
    pub definitions: BTreeMap<(Definition, EntityName), serde_json::Value>,
    /// Those of `definitions` that are queues and topics of messages, read: each send asks for one.
    entities: BTreeMap<EntityName, Arc<Entity>>,
}

impl Catalogue {
    /// The properties of a queue or a topic of messages, whose topic may be gone.
    ///
    /// # Errors
    ///
    /// `Corrupt` if what was declared is none.
    pub(crate) fn entity(&self, name: &EntityName) -> Result<Option<Arc<Entity>>> {
        if let Some(entity) = self.entities.get(name) {
            return Ok(Some(Arc::clone(entity)));
        }
        let body = self.definitions.get(&(Definition::Entity, name.clone()));
        body.map(|body| read_entity(name, body)).transpose()
    }

    /// All that are there, in the order of their names.
    pub(crate) fn entities(&self) -> Result<Vec<(EntityName, Arc<Entity>)>> {
        let kinds = self.definitions.keys();
        let names = kinds
            .filter(|(kind, name)| *kind == Definition::Entity && self.topics.contains_key(name));
        let entities = names.map(|(_, name)| Ok(self.entity(name)?.map(|it| (name.clone(), it))));
        entities.filter_map(Result::transpose).collect()
    }

    /// The versions of event types, by type.
    pub fn schemas(&self) -> impl Iterator<Item = (&EntityName, &serde_json::Value)> {
        let schemas = self.definitions.iter();
        let schemas = schemas.filter(|((kind, _), _)| *kind == Definition::Schema);
        schemas.map(|((_, name), declared)| (name, declared))
    }

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
                if *kind == Definition::Entity {
                    self.entities.remove(name);
                    // What cannot be read says so to whoever asks for it.
                    let read = read_entity(name, body).ok();
                    self.entities
                        .extend(read.map(|entity| (name.clone(), entity)));
                }
            }
            Decision::Undefined { kind, name } => {
                self.definitions.remove(&(*kind, name.clone()));
                if *kind == Definition::Entity {
                    self.entities.remove(name);
                }
            }
            Decision::SubscriptionCreated { .. }
            | Decision::SubscriptionDeleted { .. }
            | Decision::SecretsSet { .. }
            | Decision::SettingsChanged { .. }
            | Decision::Sealed(_)
            | Decision::View { .. }
            | Decision::Together(_) => {}
        }
    }
}

/// The doors' handle on it; nothing until its shard has read its journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedCatalogue {
    known: Arc<RwLock<Option<Arc<Catalogue>>>>,
    followed: Arc<Followed>,
}

/// How far the journal was read where another node decides on it.
#[derive(Debug, Default)]
struct Followed {
    next: AtomicU64,
    /// Rung when it was read, or read on.
    bell: Bell,
    /// How often schemas may have changed.
    schemas: AtomicU64,
}

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

    pub(crate) fn entity(&self, name: &EntityName) -> Result<Option<Arc<Entity>>> {
        let shared = self.read();
        shared.as_ref().ok_or_else(unread)?.entity(name)
    }

    /// As the journal of another node says up to `next`.
    pub(crate) fn follow(&self, catalogue: &Catalogue, next: Offset) {
        let is_same = self.read().as_deref() == Some(catalogue);
        if !is_same {
            self.replace(catalogue.clone());
        }
        self.followed.next.store(next.0, Ordering::Release);
        self.followed.bell.ring();
    }

    /// Resolves once all of the journal below `end` is in it.
    pub(crate) async fn until(&self, end: Offset) {
        loop {
            let rung = self.followed.bell.after(self.followed.bell.rings());
            if self.followed.next.load(Ordering::Acquire) >= end.0 {
                return;
            }
            rung.await;
        }
    }

    /// Another one after every change of a schema, in this process.
    pub(crate) fn schemas_number(&self) -> u64 {
        self.followed.schemas.load(Ordering::Acquire)
    }

    /// Resolves once it is read, or read on.
    pub(crate) fn rung(&self) -> impl Future<Output = ()> + Send + use<> {
        self.followed.bell.after(self.followed.bell.rings())
    }

    pub(crate) fn is_read(&self) -> bool {
        self.read().is_some()
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Arc<Catalogue>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn replace(&self, catalogue: Catalogue) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.replace(Arc::new(catalogue));
        let after = known.as_deref();
        let is_same = before
            .is_some_and(|before| after.is_some_and(|after| before.schemas().eq(after.schemas())));
        drop(known);
        if !is_same {
            self.followed.schemas.fetch_add(1, Ordering::AcqRel);
        }
        self.followed.bell.ring();
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
        let mut shared = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let catalogue = Arc::make_mut(shared.get_or_insert_default());
        let mut are_schemas = false;
        news.for_each(|decision| {
            are_schemas |= decision.changes_schemas();
            catalogue.apply(decision);
        });
        drop(shared);
        if are_schemas {
            self.followed.schemas.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn read_entity(name: &EntityName, body: &serde_json::Value) -> Result<Arc<Entity>> {
    Entity::deserialize(body).map(Arc::new).map_err(|error| {
        let message = format!("what is known of {name} cannot be read: {error}");
        Error::new(Kind::Corrupt, message)
    })
}

fn unread() -> Error {
    Error::new(Kind::Throttled, "the catalogue is not read yet: repeat")
}
