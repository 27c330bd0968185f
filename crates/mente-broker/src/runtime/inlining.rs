//! Appends that views have a say in: decided one by one at the end of a round, each when every view has taken it in.

use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Offset, limits};

use super::Tenure;
use crate::broker::{StreamEvent, stream_event};
use crate::error::{Error, Kind, Result};
use crate::queue::Ticket;
use crate::shard::{Outcome, Reply};
use crate::store::{Append, Facts};

/// How long a round asks views; those of its appends that are left then are to be repeated.
const ROUND_WAIT: Duration = Duration::from_millis(limits::INLINE_WAIT_MS);

/// An append that can be decided as long as the store in memory begins there.
#[derive(Debug)]
pub(super) struct Waiting {
    ticket: Ticket,
    append: Append,
    facts: Facts,
    first: u64,
}

impl Tenure<'_> {
    /// Decides an append of which `facts` say what the sealed part of the store does; where views have a say in
    /// it, at the end of the round.
    pub(super) fn ready(
        &mut self,
        ticket: Ticket,
        append: Append,
        facts: Facts,
        out: &mut Outcome,
    ) {
        if self.views.is_empty() {
            let now = self.runtime.clock.now();
            let reply = self.shard.append(now, &append, &facts, out);
            out.replies.push((ticket, reply));
            return;
        }
        let first = self.shard.store().first();
        self.waiting.push_back(Waiting {
            ticket,
            append,
            facts,
            first,
        });
    }

    /// Decides them one by one. What a view is too late for, or cannot do now, is not asked of it again in this round: the
    /// shard has others to serve.
    pub(super) async fn ask_views(&mut self, out: &mut Outcome) {
        if self.waiting.is_empty() {
            return;
        }
        let until = self.runtime.clock.now().monotone + ROUND_WAIT;
        let mut able = self.views_reach_the_end().await;
        while let Some(waiting) = self.waiting.pop_front() {
            // More was sealed meanwhile: it is looked up once more.
            if waiting.first != self.shard.store().first() {
                self.append(waiting.ticket, waiting.append, out);
                continue;
            }
            let reply = match able.clone() {
                Ok(()) => self.ask_of(&waiting, &mut able, out).await,
                Err(error) => Err(error),
            };
            if able.is_ok() && self.runtime.clock.now().monotone > until {
                let message = "appends wait for inline projections, which take long: repeat";
                able = Err(Error::new(Kind::Throttled, message));
            }
            out.replies.push((waiting.ticket, reply));
        }
    }

    async fn views_reach_the_end(&mut self) -> Result<()> {
        self.asked = true;
        let Some(fences) = self.store_fences else {
            return Ok(());
        };
        let bounds = self.runtime.engine.bounds(fences.events.log).await?;
        let views = Arc::clone(&self.views);
        for (_, view) in views.iter() {
            view.reach(bounds.end).await?;
        }
        Ok(())
    }

    async fn ask_of(
        &mut self,
        waiting: &Waiting,
        able: &mut Result<()>,
        out: &mut Outcome,
    ) -> Result<Reply> {
        let now = self.runtime.clock.now();
        let decided = self
            .shard
            .store()
            .decide(&waiting.append, &waiting.facts, now.wall)?;
        if decided.is_new() {
            // Where they lie in the log is not known yet.
            let events = decided
                .records()
                .map(|record| stream_event(Offset(0), record));
            let events = events.filter_map(Result::transpose);
            let applied = self.apply_to_views(events.collect::<Result<_>>()?).await;
            if let Err(error) = &applied
                && error.kind == Kind::Throttled
            {
                able.clone_from(&applied);
            }
            applied?;
        }
        Ok(self.shard.take_append(decided, out))
    }

    async fn apply_to_views(&mut self, events: Arc<[StreamEvent]>) -> Result<()> {
        let views = Arc::clone(&self.views);
        for (at, (_, view)) in views.iter().enumerate() {
            if let Err(error) = view.apply(Arc::clone(&events)).await {
                for (_, view) in &views[..at] {
                    view.take_back().await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// What the round appended is durable, up to `next`: whoever waits for an answer finds it in the views.
    pub(super) async fn keep_views(&mut self, next: Offset, out: &mut Outcome) {
        if !std::mem::take(&mut self.asked) {
            return;
        }
        let mut behind = None;
        let views = Arc::clone(&self.views);
        for (name, view) in views.iter() {
            if let Err(error) = view.keep(next).await {
                tracing::error!(view = %name, %error, "what was appended is not in it yet");
                behind.get_or_insert(error);
            }
        }
        let Some(error) = behind else { return };
        let appended = out.replies.iter_mut();
        for (_, reply) in appended.filter(|(_, reply)| matches!(reply, Ok(Reply::Appended(_)))) {
            let message = format!("the events are kept, but not in every view: {error}");
            *reply = Err(Error::new(Kind::Unknown, message));
        }
    }

    /// Nothing was appended, or it failed: what the log holds of it is seen when the views are next asked.
    pub(super) async fn undo_views(&mut self) {
        if std::mem::take(&mut self.asked) {
            let views = Arc::clone(&self.views);
            for (_, view) in views.iter() {
                view.undo().await;
            }
        }
    }
}
