//! The bug that a test plants to prove that it would find it: the checkpoint is there before its rows.

use super::{Checkpoint, Fact, Failure, Lane, Last, Work, begin, checkpoint, own, run};

impl Lane {
    /// Two transactions where one is right.
    pub(super) async fn checkpoint_first(
        &mut self,
        work: Work<'_>,
        facts: &[&Fact],
        next: u64,
        before: Option<Checkpoint>,
    ) -> Result<Checkpoint, (usize, Failure)> {
        let Work {
            owner,
            claim,
            batch,
            ..
        } = work;
        let start = |failure| (0, failure);
        let committing = |error: tokio_postgres::Error| (0, own("committing", &error));
        let place = (batch.partition, self.number);
        let mut after = before.unwrap_or(Checkpoint {
            first: batch.from,
            next: batch.from,
            applied: 0,
            last: None,
        });
        let skipped = facts.partition_point(|fact| fact.offset.0 < after.next);
        let facts = &facts[skipped..];
        let folded = |fact: &&&Fact| owner.declaration.on.contains_key(&fact.event.kind);
        after.applied += facts.iter().filter(folded).count() as u64;
        after.next = after.next.max(next);
        after.last = facts.last().map(|fact| Last::of(fact)).or(after.last);
        let Self {
            session, prepared, ..
        } = self;
        let transaction = begin(session).await.map_err(start)?;
        let advanced = checkpoint::advance(&transaction, claim, place, before, after).await;
        advanced.map_err(start)?;
        transaction.commit().await.map_err(committing)?;
        let transaction = begin(session).await.map_err(start)?;
        run::run(&transaction, prepared, owner, facts).await?;
        transaction.commit().await.map_err(committing)?;
        Ok(after)
    }
}
