//! A bug that a test plants to prove that it would find it: the checkpoint is there before its rows.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    Batch, Checkpoint, Database, Fact, Failure, Phase, read_checkpoint, run, write_checkpoint,
};

static PLANTED: AtomicBool = AtomicBool::new(false);

/// Plants the bug in every projection of this process.
pub fn plant(is_planted: bool) {
    PLANTED.store(is_planted, Ordering::SeqCst);
}

pub(crate) fn is_planted() -> bool {
    PLANTED.load(Ordering::SeqCst)
}

impl Database {
    /// Two transactions where one is right.
    pub(super) fn checkpoint_first(
        &mut self,
        batch: &Batch,
        facts: &[&Fact],
        next: u64,
    ) -> Result<(), (usize, Failure)> {
        let (owner, rules) = (self.owner.clone(), self.rules.clone());
        let own = |error: rusqlite::Error| (0, Failure::own("moving the checkpoint", &error));
        let transaction = self.begin().map_err(|failure| (0, failure))?;
        let before = read_checkpoint(&transaction, batch.partition).map_err(own)?;
        let mut checkpoint = before.unwrap_or(Checkpoint {
            first: batch.from,
            next: batch.from,
            applied: 0,
            last: None,
        });
        let skipped = facts.partition_point(|fact| fact.offset.0 < checkpoint.next);
        let folded = |fact: &&&Fact| owner.declaration.on.contains_key(&fact.event.kind);
        checkpoint.applied += facts[skipped..].iter().filter(folded).count() as u64;
        checkpoint.next = checkpoint.next.max(next);
        write_checkpoint(&transaction, &owner.name, batch.partition, checkpoint).map_err(own)?;
        transaction.commit().map_err(own)?;
        let transaction = self.begin().map_err(|failure| (0, failure))?;
        rules.enter(Phase::Change);
        let ran = run(&transaction, &rules, &owner, &facts[skipped..]);
        rules.enter(Phase::Own);
        ran.map_err(|(index, failure)| (skipped + index, failure))?;
        transaction.commit().map_err(own)?;
        self.checkpoints.insert(batch.partition, checkpoint);
        Ok(())
    }
}
