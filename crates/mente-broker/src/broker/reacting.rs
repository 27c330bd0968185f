//! What a saga needs of the store beyond what readers and writers have: it is decided where the store is, and what it
//! wrote of itself is hidden from it by nothing.

use mente_engine::{Event, Term};

use super::streams::said_by;
use super::{Broker, StreamEvent, unexpected};
use crate::access::{Action, Principal, Resource, authorize};
use crate::duty::Progress;
use crate::error::{Error, Kind, Result};
use crate::journal::Definition;
use crate::name::{EntityName, StreamName};
use crate::shard::{Command, Reply};
use crate::store::{Append, Appended, Direction};

/// In whose name a saga appends.
pub fn saga_principal(saga: &EntityName) -> Principal {
    Principal::Key(format!("saga {saga}"))
}

impl Broker {
    /// Whether this caller may do that: for doors that begin it before the broker hears of it.
    pub fn may(&self, who: &Principal, action: Action, on: &dyn Resource) -> Result<()> {
        authorize(self.options.access, who, action, on)
    }

    /// Whether this caller may say what becomes of an entity.
    pub fn may_manage(&self, who: &Principal, entity: &EntityName) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, entity)
    }

    /// The streams of a saga's courses are written to by the saga alone.
    pub(super) fn check_courses(&self, who: &Principal, append: &Append) -> Result<()> {
        let catalogue = self.catalogue.get()?;
        // They are the last kind of definitions.
        let sagas = catalogue.definitions.keys().rev();
        let sagas = sagas.take_while(|(kind, _)| *kind == Definition::Saga);
        for (_, saga) in sagas {
            let is_its = |(stream, _): &&(StreamName, Event)| stream.category() == saga.as_str();
            if let Some((stream, _)) = append.events.iter().find(is_its)
                && who.name() != saga_principal(saga).name()
            {
                let message = format!(
                    "stream {stream} is a course of saga {saga}, which alone writes to it; mente saga retry and skip \
                     tell a course to go on"
                );
                return Err(Error::new(Kind::Forbidden, message));
            }
        }
        Ok(())
    }

    /// Under which term this node decides for the store; `None`: another node does, or nobody now.
    pub fn store_term(&self) -> Option<Term> {
        match self.duties[self.store_shard()].progress() {
            Progress::AtWork { term } => Some(term),
            Progress::Away | Progress::Restoring { .. } => None,
        }
    }

    /// Appends as [`Broker::append_store`] does, but by this node alone and while this is its term: what is late is
    /// not handed on to whoever has the store by then.
    pub async fn append_here(
        &self,
        who: &Principal,
        term: Term,
        append: Append,
    ) -> Result<Appended> {
        let append = self.admitted(who, append).await?;
        if self.store_term() != Some(term) {
            let message =
                "this node does not decide for the store any more, or did not all the time";
            return Err(Error::new(Kind::NotOwner, message));
        }
        let append = Command::Append(said_by(who, append));
        match self.ask_here(self.store_shard(), append).await? {
            Reply::Appended(appended) => Ok(appended),
            other => Err(unexpected(&other)),
        }
    }

    /// The last events of a stream before revision `below`, backwards, as they were written and whatever hides them
    /// from readers, at most `max`. None: there is none.
    pub async fn last_written(
        &self,
        who: &Principal,
        stream: &StreamName,
        below: u64,
        max: usize,
    ) -> Result<Vec<StreamEvent>> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let Some(from) = below.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let backwards = Direction::Backwards;
        let (places, _) = self.places(stream, from, 0, backwards, max).await?;
        self.events_at(&places).await
    }
}
