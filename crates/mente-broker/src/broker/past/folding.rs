//! The fold of a category: how it is declared, and who runs it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::oneshot;

use super::AsOf;
use super::pages::Past;
use super::states::UpTo;
use crate::access::{Action, Principal, authorize};
use crate::broker::Broker;
use crate::error::{Error, Kind, Result};
use crate::fold::folder::{Folded, Folder, Machine, Rule};
use crate::journal::Definition;
use crate::name::{EntityName, StreamName};
use crate::store::{Direction, Place};

/// Folds that are kept read; a category more costs the reading of all.
const FOLDS_READ: usize = 1_000;

/// Takes work that may take long to a thread that nobody waits for; the caller of the broker has it.
pub type Aside = fn(Box<dyn FnOnce() + Send>);

/// Where nobody else waits, as in tests, work that takes long is done on the spot.
pub fn on_the_spot(work: Box<dyn FnOnce() + Send>) {
    work();
}

/// Folds that were read, each with a number that no other declaration has in this process.
#[derive(Default)]
pub(in crate::broker) struct Folds {
    read: Mutex<(BTreeMap<EntityName, Read>, u64)>,
}

struct Read {
    declared: serde_json::Value,
    rule: Arc<Rule>,
    number: u64,
}

impl Folds {
    /// Reads a declaration, if it is another one than before.
    fn rule(
        &self,
        category: &EntityName,
        declared: &serde_json::Value,
    ) -> Result<(Arc<Rule>, u64)> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (folds, numbers) = &mut *read;
        if let Some(fold) = folds.get(category)
            && fold.declared == *declared
        {
            return Ok((Arc::clone(&fold.rule), fold.number));
        }
        let rule = Arc::new(Rule::parse(declared)?);
        if folds.len() >= FOLDS_READ {
            folds.clear();
        }
        *numbers += 1;
        let number = *numbers;
        let fold = Read {
            declared: declared.clone(),
            rule: Arc::clone(&rule),
            number,
        };
        folds.insert(category.clone(), fold);
        Ok((rule, number))
    }
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
        let mut folder = Folder::new(Arc::new(rule), 0, Arc::clone(&self.clock));
        self.fold_page(&mut folder, |_| Ok(())).await?;
        self.define(who, Definition::Fold, category, declared).await
    }

    /// How the events of this stream's category make a state.
    pub(super) async fn folder_of(&self, stream: &StreamName) -> Result<Folder> {
        let schemas = self.schemas().await?;
        let category = EntityName::new(stream.category()).ok();
        let catalogue = self.catalogue.get()?;
        let declared = category.and_then(|category| {
            let definitions = &catalogue.definitions;
            definitions.get_key_value(&(Definition::Fold, category))
        });
        let (rule, number) = match declared {
            Some(((_, category), declared)) => self.folds.rule(category, declared)?,
            None => (Arc::default(), 0),
        };
        let folder = Folder::new(rule, number, Arc::clone(&self.clock));
        Ok(folder.over(schemas))
    }

    /// The state that is kept nearest to what is asked for, and the events behind it; without one, the
    /// state before the first event, and all.
    pub(super) async fn begin<'a>(
        &'a self,
        who: &'a Principal,
        stream: &'a StreamName,
        as_of: AsOf,
        folder: &Folder,
        up_to: Option<UpTo>,
    ) -> Result<(Folded, Past<'a>)> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let schemas = Arc::clone(folder.schemas());
        let past = Past::new(self, who, stream, as_of, schemas);
        let nearest = |up_to| self.states.nearest(folder.number(), stream, up_to);
        let Some(snapshot) = up_to.and_then(nearest) else {
            return Ok((folder.begin(), past));
        };
        let (revision, position) = (snapshot.revision, snapshot.position);
        let forwards = Direction::Forwards;
        let (there, metadata) = self.places(stream, revision, position, forwards, 1).await?;
        let is_there = |place: &Place| place.revision == revision && place.position == position;
        // Of a stream that readers do not see as a whole the state is another one.
        let is_whole = !metadata.is_some_and(|metadata| metadata.hides());
        if !is_whole || !there.first().is_some_and(is_there) {
            self.states.forget(folder.number(), stream);
            return Ok((folder.begin(), past));
        }
        Ok((folder.resume(&snapshot.state)?, past.behind(&snapshot)))
    }

    /// Keeps a state now and then, while a long stream is folded.
    pub(super) fn keep_on_the_way(&self, folder: &Folder, past: &mut Past<'_>, state: &Folded) {
        if let Some(snapshot) = past.snapshot_on_the_way(state) {
            self.states.keep(folder.number(), past.stream(), snapshot);
        }
    }

    /// Keeps the state that was asked for.
    pub(super) fn keep(&self, folder: &Folder, past: &mut Past<'_>, state: &Folded) {
        if let Some(snapshot) = past.snapshot(state) {
            self.states.keep(folder.number(), past.stream(), snapshot);
        }
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
        let mut moved = folder.clone();
        let work = move || {
            let done = moved.at_work(work);
            (moved, done)
        };
        let (moved, done) = self.run_aside(work).await?;
        *folder = moved;
        done
    }

    /// Runs what may take long where nobody waits for the thread, and only so many at a time.
    pub async fn run_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = self.reducers.turn().await?;
        let (tell, told) = oneshot::channel();
        (self.options.aside)(Box::new(move || {
            let done = work();
            drop(turn);
            // Who asked may be gone.
            let _ = tell.send(done);
        }));
        told.await.map_err(|_| {
            let message = "the program was dropped before it was done: repeat";
            Error::new(Kind::Throttled, message)
        })
    }
}
