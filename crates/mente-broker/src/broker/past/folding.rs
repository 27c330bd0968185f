//! The fold of a category: how it is declared, and who runs it.

use std::sync::Arc;

use futures::channel::oneshot;

use super::AsOf;
use super::pages::Past;
use crate::access::{Action, Principal, authorize};
use crate::broker::Broker;
use crate::error::{Error, Kind, Result};
use crate::fold::folder::{Folder, Machine, Rule};
use crate::journal::Definition;
use crate::name::{EntityName, StreamName};

/// Takes work that may take long to a thread that nobody waits for; the caller of the broker has it.
pub type Aside = fn(Box<dyn FnOnce() + Send>);

/// Where nobody else waits, as in tests, work that takes long is done on the spot.
pub fn on_the_spot(work: Box<dyn FnOnce() + Send>) {
    work();
}

impl Broker {
    /// Declares how the events of a category make a state, durable on return. Refuses what cannot be
    /// read, and a source that does not compile.
    pub async fn define_fold(
        &self,
        who: &Principal,
        category: &EntityName,
        declared: serde_json::Value,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, category)?;
        let rule = Rule::parse(&declared)?;
        let mut folder = Folder::new(Arc::new(rule), Arc::clone(&self.clock));
        self.fold_page(&mut folder, |_| Ok(())).await?;
        self.define(who, Definition::Fold, category, declared).await
    }

    /// How the events of this stream's category make a state.
    pub(super) fn folder_of(&self, stream: &StreamName) -> Result<Folder> {
        let declared = {
            let catalogue = self.catalogue.get()?;
            let name = EntityName::new(stream.category()).ok();
            name.and_then(|name| {
                let definitions = &catalogue.definitions;
                definitions.get(&(Definition::Fold, name)).cloned()
            })
        };
        let rule = declared.as_ref().map_or(Ok(Rule::default()), Rule::parse)?;
        Ok(Folder::new(Arc::new(rule), Arc::clone(&self.clock)))
    }

    /// Folds one page. A declared fold takes microseconds for an event, whatever is declared, and is run
    /// here. A reducer may loop until its steps are spent, seconds, which all the tasks of this thread
    /// would wait for: it is run aside, and only so many at a time.
    pub(super) async fn fold_page<T: Send + 'static>(
        &self,
        folder: &mut Folder,
        work: impl FnOnce(&Machine<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if !folder.is_slow() {
            return folder.at_work(work);
        }
        let turn = self.reducers.turn().await?;
        let mut moved = folder.clone();
        let (tell, told) = oneshot::channel();
        (self.options.aside)(Box::new(move || {
            let done = moved.at_work(work);
            drop(turn);
            // Who asked may be gone.
            let _ = tell.send((moved, done));
        }));
        let (moved, done) = told.await.map_err(|_| {
            let message = "the reducer was dropped before it was done: repeat";
            Error::new(Kind::Throttled, message)
        })?;
        *folder = moved;
        done
    }

    pub(super) fn past<'a>(
        &'a self,
        who: &'a Principal,
        stream: &'a StreamName,
        as_of: AsOf,
    ) -> Past<'a> {
        Past::new(self, who, stream, as_of)
    }
}
