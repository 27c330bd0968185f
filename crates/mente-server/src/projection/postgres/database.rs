//! One schema with a projection's rows: rows and checkpoint move in the same transaction.
//!
//! Several **lanes** may fold a batch at one time, each on a connection of its own: the events of
//! one key are always in the same lane, in order, and each lane has its own checkpoint, so each
//! event is in the rows once however far the others are.

#[cfg(feature = "planted")]
mod planted;

use std::sync::Arc;

use futures::future::join_all;
use mente_broker::EntityName;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_postgres::{IsolationLevel, Transaction};

use super::checkpoint::{self, Claim, Lanes, lost, summed};
use super::digest;
use super::run::{self, Prepared};
use super::session::{Session, own};
use super::statement::{Use, translate};
use super::switch;
use super::target::Target;
use crate::postgres::{may_pass, words};
use crate::projection::database::{Checkpoint, Checkpoints, Last, Owner};
use crate::projection::digest::TableDigest;
use crate::projection::fact::{Batch, Fact};
use crate::projection::status::Failure;

#[derive(Debug)]
pub(in crate::projection) struct Database {
    runtime: Handle,
    /// The first holds the lock of the schema.
    lanes: Vec<Lane>,
    claim: Claim,
    owner: Owner,
    /// As committed; a lane without one has not begun.
    reached: Lanes,
    shown: Checkpoints,
    /// Exactly how far each lane goes, for a fold that is compared.
    ends: Option<Lanes>,
    /// True when whoever waits for this is to come back as soon as it can.
    stop: Arc<watch::Sender<bool>>,
    /// Rows of another declaration: to be read, not to be folded on.
    pub(in crate::projection) outdated: Option<&'static str>,
}

#[derive(Debug)]
struct Lane {
    number: u32,
    session: Session,
    prepared: Prepared,
}

impl Database {
    /// Takes the schema over, and makes it if it is not there.
    pub(super) async fn open(
        target: &Target,
        schema: &str,
        owner: Owner,
        runtime: Handle,
    ) -> Result<Self, Failure> {
        let mut session = Session::open(target, schema).await?;
        session.lock(schema).await?;
        if session.has_schema().await? {
            if !session.has_rows().await? {
                return Err(Failure::plain(format!(
                    "schema {schema} is there and holds no projection's rows: declare another \"schema\", or drop it"
                )));
            }
        } else {
            make(&mut session, &owner).await?;
        }
        let told = checkpoint::read(&session.client).await?;
        if told.name != owner.name.as_str() {
            return Err(Failure::plain(format!(
                "schema {schema} holds the rows of projection {}: declare another \"schema\"",
                told.name
            )));
        }
        if told.source != owner.source {
            return Err(Failure::plain(format!(
                "the rows in schema {schema} are a fold of another log ({}, this is {}): say rebuild to \
                 build them anew from this one, or give the projection another schema",
                told.source, owner.source
            )));
        }
        let is_outdated = told.declared != owner.declaration.text;
        let claim = checkpoint::claim(&session.client, told.version).await?;
        let reached = checkpoint::read_all(&session.client).await?;
        let mut lanes = vec![Lane::new(0, session)];
        for number in 1..owner.declaration.parallel {
            lanes.push(Lane::new(number, Session::open(target, schema).await?));
        }
        Ok(Self {
            runtime,
            shown: summed(&reached, owner.declaration.parallel),
            lanes,
            claim,
            owner,
            reached,
            ends: None,
            stop: Arc::new(watch::Sender::new(false)),
            outdated: is_outdated.then_some("the declaration has changed"),
        })
    }

    pub(in crate::projection) fn checkpoints(&self) -> &Checkpoints {
        &self.shown
    }

    /// Sent true, it interrupts what runs.
    pub(in crate::projection) fn stopper(&self) -> Arc<watch::Sender<bool>> {
        Arc::clone(&self.stop)
    }

    /// Folds no event of a lane beyond where that lane is here.
    pub(in crate::projection) fn ending_at(mut self, ends: Lanes) -> Self {
        self.ends = Some(ends);
        self
    }

    /// Folds a batch in: of each lane all of it, or all before the event that fails. What is below
    /// a lane's checkpoint was folded before and is passed over.
    pub(in crate::projection) fn apply(&mut self, batch: &Batch) -> Result<(), Failure> {
        let runtime = self.runtime.clone();
        let mut stopped = self.stop.subscribe();
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => {
                    Err(Failure::passing("the projection is ending".to_owned()))
                }
                folded = self.fold(batch) => folded,
            }
        })
    }

    pub(in crate::projection) fn digest(&self) -> Result<Vec<TableDigest>, Failure> {
        let first = self.lanes.first().ok_or_else(lost)?;
        self.runtime.block_on(digest::tables(&first.session))
    }

    /// Puts the complete rebuilt rows into the place of the live ones.
    pub(in crate::projection) fn take_place(
        &mut self,
        live: &str,
        name: &EntityName,
    ) -> Result<(), Failure> {
        let first = self.lanes.first_mut().ok_or_else(lost)?;
        let switching = switch::switch(&mut first.session, &self.claim, live, name);
        self.runtime.block_on(switching)
    }

    /// Whether the session that would give it the live rows' place has ended.
    pub(in crate::projection) fn is_gone(&self) -> bool {
        let first = self.lanes.first();
        first.is_none_or(|lane| lane.session.client.is_closed())
    }

    async fn fold(&mut self, batch: &Batch) -> Result<(), Failure> {
        let count = self.lanes.len() as u32;
        let mut parts: Vec<Vec<&Fact>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for fact in &batch.facts {
            let lane = if count > 1 { fact.lane(count) } else { 0 };
            parts[lane as usize].push(fact);
        }
        let (owner, claim, ends) = (&self.owner, &self.claim, &self.ends);
        let reached = &self.reached;
        let folding = self.lanes.iter_mut().zip(&mut parts).map(|(lane, facts)| {
            let place = (batch.partition, lane.number);
            let mut next = batch.next;
            if let Some(ends) = ends {
                next = next.min(ends.get(&place).map_or(0, |end| end.next));
                facts.retain(|fact| fact.offset.0 < next);
            }
            let before = reached.get(&place).copied();
            lane.fold(owner, claim, batch, facts, next, before)
        });
        let mut failure = None;
        for (number, (after, folded)) in (0..).zip(join_all(folding).await) {
            if let Some(after) = after {
                self.reached.insert((batch.partition, number), after);
            }
            if let Err(error) = folded {
                // One that somebody has to mend says more than one that passes.
                let says_more = failure.as_ref().is_none_or(|known: &Failure| known.retry);
                if says_more {
                    failure = Some(error);
                }
            }
        }
        self.shown = summed(&self.reached, count);
        failure.map_or(Ok(()), Err)
    }
}

impl Lane {
    fn new(number: u32, session: Session) -> Self {
        Self {
            number,
            session,
            prepared: Prepared::default(),
        }
    }

    /// Where the lane is afterwards, if it went on, and what stopped it.
    async fn fold(
        &mut self,
        owner: &Owner,
        claim: &Claim,
        batch: &Batch,
        facts: &[&Fact],
        next: u64,
        before: Option<Checkpoint>,
    ) -> (Option<Checkpoint>, Result<(), Failure>) {
        let whole = self
            .transact(owner, claim, batch, facts, next, before)
            .await;
        let (index, failure) = match whole {
            Ok(after) => return (Some(after), Ok(())),
            Err(failed) => failed,
        };
        let Some(fact) = facts.get(index).filter(|_| index > 0 && !failure.retry) else {
            return (None, Err(failure));
        };
        // Events of one record are folded in together or not at all.
        let next = fact.offset.0;
        let facts = &facts[..facts.partition_point(|f| f.offset.0 < next)];
        match self
            .transact(owner, claim, batch, facts, next, before)
            .await
        {
            Ok(after) => (Some(after), Err(failure)),
            Err((_, failure)) => (None, Err(failure)),
        }
    }

    /// One transaction: is it still ours, the facts from the checkpoint on, then the checkpoint.
    /// On an error nothing is done, unless the answer to the commit is what was lost: then the
    /// tables tell, when they are opened again.
    async fn transact(
        &mut self,
        owner: &Owner,
        claim: &Claim,
        batch: &Batch,
        facts: &[&Fact],
        next: u64,
        before: Option<Checkpoint>,
    ) -> Result<Checkpoint, (usize, Failure)> {
        #[cfg(feature = "planted")]
        if crate::projection::planted::is_planted() {
            return self
                .checkpoint_first(owner, claim, batch, facts, next, before)
                .await;
        }
        let start = |failure| (0, failure);
        let place = (batch.partition, self.number);
        let Self {
            session, prepared, ..
        } = self;
        let transaction = begin(session).await.map_err(start)?;
        let found = checkpoint::begin(&transaction, claim, place.0, place.1).await;
        if found.map_err(start)? != before {
            return Err((0, lost()));
        }
        let mut after = before.unwrap_or(Checkpoint {
            first: batch.from,
            next: batch.from,
            applied: 0,
            last: None,
        });
        let skipped = facts.partition_point(|fact| fact.offset.0 < after.next);
        let facts = &facts[skipped..];
        let ran = run::run(&transaction, prepared, owner, facts).await;
        after.applied += ran.map_err(|(index, failure)| (skipped + index, failure))?;
        after.next = after.next.max(next);
        after.last = facts.last().map(|fact| Last::of(fact)).or(after.last);
        checkpoint::advance(&transaction, claim, place, before, after)
            .await
            .map_err(start)?;
        let committed = transaction.commit().await;
        committed.map_err(|error| (0, own("committing the rows", &error)))?;
        Ok(after)
    }
}

/// Compiles every statement of a declaration against tables that are rolled back.
pub(super) async fn check(target: &Target, schema: &str, owner: &Owner) -> Result<(), Failure> {
    owner.programs.of(&owner.declaration)?;
    let mut session = Session::open(target, schema).await?;
    let transaction = begin(&mut session).await?;
    make_tables(&transaction, schema, owner).await?;
    for (kind, statements) in &owner.declaration.on {
        for statement in statements {
            let checked = run::check(&transaction, statement).await;
            checked.map_err(|failure| Failure {
                message: format!("{kind}: {}", failure.message),
                ..failure
            })?;
        }
    }
    Ok(())
}

async fn begin(session: &mut Session) -> Result<Transaction<'_>, Failure> {
    let building = session.client.build_transaction();
    let begun = building
        .isolation_level(IsolationLevel::ReadCommitted)
        .start();
    begun
        .await
        .map_err(|error| own("beginning a transaction", &error))
}

async fn make(session: &mut Session, owner: &Owner) -> Result<(), Failure> {
    let schema = session.schema.clone();
    let transaction = begin(session).await?;
    make_tables(&transaction, &schema, owner).await?;
    let made = transaction.commit().await;
    made.map_err(|error| own("making the tables", &error))
}

async fn make_tables(
    transaction: &Transaction<'_>,
    schema: &str,
    owner: &Owner,
) -> Result<(), Failure> {
    checkpoint::make(transaction, schema, owner).await?;
    for statement in &owner.declaration.init {
        let failed = |message: String| Failure::statement(statement, message);
        let translated = translate(statement, Use::Init).map_err(failed)?;
        // Prepared, so that it is one statement and no more.
        let made = transaction.execute(translated.sql.as_str(), &[]).await;
        made.map_err(|error| Failure {
            retry: may_pass(&error),
            ..failed(words(&error))
        })?;
    }
    Ok(())
}
