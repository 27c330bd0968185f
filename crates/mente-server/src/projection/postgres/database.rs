//! One schema with a projection's rows: rows and checkpoint move in the same transaction.
//!
//! Several **lanes** may fold a batch at one time, each on a connection of its own: the events of
//! one key are always in the same lane, in order, and each lane has its own checkpoint, so each
//! event is in the rows once however far the others are.

#[cfg(feature = "planted")]
mod planted;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use mente_broker::EntityName;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_postgres::{IsolationLevel, Transaction};

use super::checkpoint::{self, Claim, Lanes, lost, summed};
use super::digest;
use super::parked;
use super::run::{self, Prepared};
use super::session::{Session, own};
use super::statement::{Use, translate};
use super::switch;
use super::target::Target;
use crate::postgres::{may_pass, words};
use crate::projection::database::{Checkpoint, Checkpoints, Last, Owner};
use crate::projection::declaration::OnError;
use crate::projection::digest::TableDigest;
use crate::projection::fact::{Batch, Fact};
use crate::projection::parking::{Doomed, Fate, Held, Parking, record};
use crate::projection::status::Failure;

#[derive(Debug)]
pub(in crate::projection) struct Database {
    pub(super) runtime: Handle,
    /// The first holds the lock of the schema.
    lanes: Vec<Lane>,
    pub(super) claim: Claim,
    pub(super) owner: Owner,
    /// As committed; a lane without one has not begun.
    reached: Lanes,
    shown: Checkpoints,
    /// Shared by lanes that fold at one time on one thread.
    parking: Mutex<Parking>,
    /// Exactly how far each lane goes, for a fold that is compared.
    ends: Option<Lanes>,
    /// True when whoever waits for this is to come back as soon as it can.
    pub(super) stop: Arc<watch::Sender<bool>>,
    /// Rows of another declaration: to be read, not to be folded on.
    pub(in crate::projection) outdated: Option<&'static str>,
    /// The declaration that they are a fold by, if it is another one.
    pub(in crate::projection) earlier: Option<String>,
}

#[derive(Debug)]
pub(super) struct Lane {
    number: u32,
    pub(super) session: Session,
    pub(super) prepared: Prepared,
}

/// What all lanes know of a batch.
#[derive(Clone, Copy)]
struct Work<'a> {
    owner: &'a Owner,
    claim: &'a Claim,
    parking: &'a Mutex<Parking>,
    batch: &'a Batch,
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
        let mut parking = Parking::new(&owner.declaration);
        if parking.is_on() && !is_outdated {
            let (keys, held) = parked::known(&session.client).await?;
            parking.known(keys, held);
        }
        let mut lanes = vec![Lane::new(0, session)];
        for number in 1..owner.declaration.parallel {
            lanes.push(Lane::new(number, Session::open(target, schema).await?));
        }
        Ok(Self {
            runtime,
            shown: summed(&reached, owner.declaration.parallel),
            lanes,
            parking: Mutex::new(parking),
            claim,
            owner,
            reached,
            ends: None,
            stop: Arc::new(watch::Sender::new(false)),
            outdated: is_outdated.then_some("the declaration has changed"),
            earlier: is_outdated.then_some(told.declared),
        })
    }

    pub(in crate::projection) fn checkpoints(&self) -> &Checkpoints {
        &self.shown
    }

    /// What is parked, as of the last transaction.
    pub(in crate::projection) fn parked(&self) -> Option<Held> {
        lock(&self.parking).held()
    }

    /// For a fold that is compared: what was parked and skipped is so here too.
    pub(in crate::projection) fn treating(self, fate: Fate) -> Self {
        lock(&self.parking).treating(fate);
        self
    }

    pub(in crate::projection) fn fate(&self) -> Result<Fate, Failure> {
        let session = self.session()?;
        self.runtime.block_on(parked::fate(&session.client))
    }

    pub(super) fn session(&self) -> Result<&Session, Failure> {
        self.lanes
            .first()
            .map(|lane| &lane.session)
            .ok_or_else(lost)
    }

    pub(super) fn first_lane(&mut self) -> Result<&mut Lane, Failure> {
        self.lanes.first_mut().ok_or_else(lost)
    }

    /// A connection to change rows by, and in whose name.
    pub(super) fn owned(&mut self) -> Result<(&mut Session, &Claim), Failure> {
        let first = self.lanes.first_mut().ok_or_else(lost)?;
        Ok((&mut first.session, &self.claim))
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
        let work = Work {
            owner: &self.owner,
            claim: &self.claim,
            parking: &self.parking,
            batch,
        };
        let ends = &self.ends;
        let reached = &self.reached;
        let folding = self.lanes.iter_mut().zip(&mut parts).map(|(lane, facts)| {
            let place = (batch.partition, lane.number);
            let mut next = batch.next;
            if let Some(ends) = ends {
                next = next.min(ends.get(&place).map_or(0, |end| end.next));
                facts.retain(|fact| fact.offset.0 < next);
            }
            let before = reached.get(&place).copied();
            lane.fold(work, facts, next, before)
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

    /// Where the lane is afterwards, if it has begun, and what stopped it.
    async fn fold(
        &mut self,
        work: Work<'_>,
        facts: &[&Fact],
        next: u64,
        before: Option<Checkpoint>,
    ) -> (Option<Checkpoint>, Result<(), Failure>) {
        let (mut reached, mut rest) = (before, facts);
        loop {
            let none = Doomed::new();
            let (index, failure) = match self.transact(work, rest, next, reached, &none).await {
                Ok(after) => return (Some(after), Ok(())),
                Err((_, failure)) if failure.retry => return (reached, Err(failure)),
                Err(failed) => failed,
            };
            let record = record(rest, index);
            if let Some(fact) = rest.get(record.start).filter(|_| record.start > 0) {
                let before = &rest[..record.start];
                match self
                    .transact(work, before, fact.offset.0, reached, &none)
                    .await
                {
                    Ok(after) => reached = Some(after),
                    Err((_, failure)) => return (reached, Err(failure)),
                }
            }
            if !lock(work.parking).takes(&failure) {
                return (reached, Err(failure));
            }
            let failed = Doomed::from([(index - record.start, failure)]);
            match self
                .park(work, &rest[record.clone()], reached, failed)
                .await
            {
                Ok(after) => reached = after,
                Err(failure) => return (reached, Err(failure)),
            }
            rest = &rest[record.end..];
        }
    }

    /// Passes one record with an event that failed; others of it may fail as well.
    async fn park(
        &mut self,
        work: Work<'_>,
        facts: &[&Fact],
        before: Option<Checkpoint>,
        mut doomed: Doomed,
    ) -> Result<Option<Checkpoint>, Failure> {
        let Some(fact) = facts.first() else {
            return Ok(before);
        };
        // A cursor, and not where the next event lies.
        let next = fact.offset.0 + 1;
        loop {
            let (index, failure) = match self.transact(work, facts, next, before, &doomed).await {
                Ok(after) => return Ok(Some(after)),
                Err(failed) => failed,
            };
            if !lock(work.parking).takes(&failure) || doomed.contains_key(&index) {
                return Err(failure);
            }
            doomed.insert(index, failure);
        }
    }

    /// One transaction: is it still ours, the facts from the checkpoint on, then the checkpoint.
    /// On an error nothing is done, unless the answer to the commit is what was lost: then the
    /// tables tell, when they are opened again.
    async fn transact(
        &mut self,
        work: Work<'_>,
        facts: &[&Fact],
        next: u64,
        before: Option<Checkpoint>,
        doomed: &Doomed,
    ) -> Result<Checkpoint, (usize, Failure)> {
        #[cfg(feature = "planted")]
        if crate::projection::planted::is_planted() {
            return self.checkpoint_first(work, facts, next, before).await;
        }
        let start = |failure| (0, failure);
        let Work {
            owner,
            claim,
            parking,
            batch,
        } = work;
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
        let now = owner.programs.wall();
        let plan = lock(parking).plan(facts, &owner.declaration, doomed, now);
        let plan = plan.map_err(|failure| (skipped, failure))?;
        let ran = run::run(&transaction, prepared, owner, &plan.run).await;
        let failed = |(index, failure)| (skipped + plan.index(index), failure);
        after.applied += ran.map_err(failed)?;
        parked::insert(&transaction, &plan.park)
            .await
            .map_err(start)?;
        after.next = after.next.max(next);
        after.last = facts.last().map(|fact| Last::of(fact)).or(after.last);
        checkpoint::advance(&transaction, claim, place, before, after)
            .await
            .map_err(start)?;
        let committed = transaction.commit().await;
        committed.map_err(|error| (0, own("committing the rows", &error)))?;
        lock(parking).done(&plan);
        Ok(after)
    }
}

fn lock(parking: &Mutex<Parking>) -> MutexGuard<'_, Parking> {
    parking.lock().unwrap_or_else(PoisonError::into_inner)
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

pub(super) async fn begin(session: &mut Session) -> Result<Transaction<'_>, Failure> {
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
    if owner.declaration.on_error == OnError::Park {
        parked::make(transaction).await?;
    }
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
