//! What each call means, decided in call order on the writer's view of the logs. A call that
//! is refused leaves no trace but a broken fence.

use mente_engine::engine::{self, Change};
use mente_engine::{
    Appended, Batch, Error, Fence, LogConfig, LogId, Offset, SetId, SetName, Term, Timestamp,
    limits,
};

use super::{Draft, Writer};
use crate::catalogue::{Head, Record, set_bytes};
use crate::commit::Staged;
use crate::queue::{Call, Reply};

impl Writer {
    pub(super) fn decide(&mut self, call: Call, draft: &mut Draft) {
        if self.is_refused(call.needs()) {
            return self.refuse_full(call);
        }
        match call {
            Call::Create {
                name,
                logs,
                config,
                reply,
            } => {
                let result = self.create(name, logs, config, draft);
                draft.answer(reply, result);
            }
            Call::Alter { set, change, reply } => {
                let result = self.alter(set, change, draft);
                draft.answer(reply, result);
            }
            Call::Delete { set, reply } => {
                let result = self.delete(set, draft);
                draft.answer(reply, result);
            }
            Call::Append {
                fences,
                batches,
                reply,
            } => {
                let result = self.append(&fences, batches, draft);
                draft.answer(reply, result);
            }
            Call::Trim { log, before, reply } => {
                let result = self.trim(log, before, draft);
                draft.answer(reply, result);
            }
            Call::Claim { log, reply } => {
                let result = self.claim(log, draft);
                draft.answer(reply, result);
            }
            // Written down, since a restart would not see it before the next read there.
            Call::Rot { log, at } => self.change(Record::Damaged { log, at }, draft),
        }
    }

    /// The disk is full: nothing was done, and what comes later under the same fences must not be.
    /// What needs no room is done nevertheless: a server must come up on a full disk.
    pub(super) fn refuse_full(&mut self, call: Call) {
        let call = match call {
            Call::Create {
                name,
                logs,
                config,
                reply,
            } => match self.existing(&name, logs, config) {
                // Whoever does not wait any more needs no answer.
                Some(answer) => return drop(reply.send(answer)),
                None => Call::Create {
                    name,
                    logs,
                    config,
                    reply,
                },
            },
            call => call,
        };
        if let Call::Append { fences, .. } = &call {
            self.break_fences(fences);
        }
        self.shared.space.count_refused();
        call.answer_error(self.shared.space.room().refusal());
    }

    fn check_catalogue(&self) -> Result<(), Error> {
        self.catalogue
            .corrupt
            .map_or(Ok(()), |at| Err(Error::Corrupt(at)))
    }

    fn change(&mut self, record: Record, draft: &mut Draft) {
        self.catalogue.apply(&record);
        draft.records.push(record);
    }

    fn create(
        &mut self,
        name: SetName,
        logs: u32,
        config: LogConfig,
        draft: &mut Draft,
    ) -> Result<SetId, Error> {
        check_logs(logs)?;
        if let Some(answer) = self.existing(&name, logs, config) {
            return answer;
        }
        self.check_catalogue()?;
        self.check_snapshot_room(set_bytes(&name, logs as usize))?;
        let id = SetId(u128::from(self.catalogue.next_set));
        self.change(
            Record::Set {
                id,
                name,
                config,
                logs,
            },
            draft,
        );
        Ok(id)
    }

    /// The answer for a name that is taken.
    fn existing(
        &self,
        name: &SetName,
        logs: u32,
        config: LogConfig,
    ) -> Option<Result<SetId, Error>> {
        let id = *self.catalogue.names.get(name)?;
        let set = &self.catalogue.sets[&id];
        let there = (set.logs.len(), set.config.owned);
        Some(engine::same_set(name, there, (logs, config.owned)).map(|()| id))
    }

    /// The catalogue must fit, twice, into what is held back for it on a full disk.
    fn check_snapshot_room(&self, more_bytes: usize) -> Result<(), Error> {
        if self.catalogue.snapshot_bytes() + more_bytes <= self.held_back_bytes() / 2 {
            return Ok(());
        }
        let sets = self.catalogue.sets.len();
        let message = format!(
            "there are {sets} sets of logs, as many as files of this size can name: delete some"
        );
        Err(Error::Busy(message))
    }

    fn alter(&mut self, id: SetId, change: Change, draft: &mut Draft) -> Result<(), Error> {
        self.check_catalogue()?;
        let set = self.catalogue.sets.get(&id).ok_or(Error::Gone)?;
        let record = match change {
            Change::Logs(logs) => {
                check_logs(logs)?;
                let more = (logs as usize)
                    .checked_sub(set.logs.len())
                    .ok_or_else(|| Error::NotDone("the number of logs only grows".into()))?;
                self.check_snapshot_room(set_bytes(&set.name, more))?;
                Record::Logs { id, logs }
            }
            Change::Retention(retention) => {
                self.has_new_retention = true;
                Record::Retention { id, retention }
            }
        };
        self.change(record, draft);
        Ok(())
    }

    fn delete(&mut self, id: SetId, draft: &mut Draft) -> Result<(), Error> {
        self.check_catalogue()?;
        if !self.catalogue.sets.contains_key(&id) {
            return Err(Error::Gone);
        }
        // What the same commit stages for it would outlive it in no reader's view, but it
        // keeps offsets honest for whoever reads the files by hand.
        self.change(Record::Deleted { id }, draft);
        self.shared.queue.forget_fence(id);
        Ok(())
    }

    fn trim(&mut self, log: LogId, before: Offset, draft: &mut Draft) -> Result<(), Error> {
        let head = self.catalogue.head(log).ok_or(Error::Gone)?;
        // Never past damage: what it took must stay told.
        let start = before.min(head.end).min(head.corrupt.unwrap_or(head.end));
        if start > head.start {
            self.check_catalogue()?;
            self.change(Record::Trim { log, start }, draft);
        }
        Ok(())
    }

    fn claim(&mut self, log: LogId, draft: &mut Draft) -> Result<Fence, Error> {
        let set = self.catalogue.sets.get(&log.set).ok_or(Error::Gone)?;
        if !set.config.owned {
            return Err(Error::NotDone("only an owned log is claimed".into()));
        }
        let head = self.catalogue.head_mut(log).ok_or(Error::Gone)?;
        head.check_sound()?;
        head.term = Term(head.term.0 + 1);
        head.broken = false;
        let (term, at) = (head.term, head.end);
        let batch = Batch::of_term(term, Timestamp(0));
        draft.stage(log, head, batch, true);
        Ok(Fence { log, term, at })
    }

    fn append(
        &mut self,
        fences: &[Fence],
        batches: Vec<(LogId, Batch)>,
        draft: &mut Draft,
    ) -> Result<Vec<Appended>, Error> {
        if let Err(error) = self.check_append(fences, &batches) {
            self.break_fences(fences);
            return Err(error);
        }
        let mut appended = Vec::with_capacity(batches.len());
        for (log, batch) in batches {
            let head = self.catalogue.head_mut(log).ok_or(Error::Gone)?;
            appended.push(draft.stage(log, head, batch, false));
        }
        Ok(appended)
    }

    fn check_append(&self, fences: &[Fence], batches: &[(LogId, Batch)]) -> Result<(), Error> {
        for fence in fences {
            let head = self.catalogue.head(fence.log).ok_or(Error::Gone)?;
            if head.broken || head.term != fence.term {
                return Err(Error::Fenced);
            }
        }
        for (log, _) in batches {
            let set = self.catalogue.sets.get(&log.set).ok_or(Error::Gone)?;
            let head = set.logs.get(log.index as usize).ok_or(Error::Gone)?;
            if set.config.owned && !fences.iter().any(|fence| fence.log == *log) {
                let why = "an owned log is written under its fence only";
                return Err(Error::NotDone(why.into()));
            }
            head.check_sound()?;
        }
        Ok(())
    }

    fn break_fences(&mut self, fences: &[Fence]) {
        for fence in fences {
            if let Some(head) = self.catalogue.head_mut(fence.log)
                && head.term == fence.term
            {
                head.broken = true;
            }
        }
    }
}

impl Head {
    fn check_sound(&self) -> Result<(), Error> {
        self.corrupt.map_or(Ok(()), |at| Err(Error::Corrupt(at)))
    }
}

impl Draft {
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Error>) {
        self.replies.push(Box::new(move |outcome| {
            // Whoever does not wait any more needs no answer.
            let _ = reply.send(outcome.and(result));
        }));
    }

    fn stage(&mut self, log: LogId, head: &mut Head, batch: Batch, is_term: bool) -> Appended {
        let base = head.end;
        head.end = Offset(base.0 + u64::from(batch.offset_span()));
        let appended = Appended {
            base,
            last: Offset(head.end.0 - 1),
        };
        self.staged.push(Staged {
            log,
            is_term,
            base,
            batch,
        });
        appended
    }
}

fn check_logs(logs: u32) -> Result<(), Error> {
    if (1..=limits::LOGS_PER_SET).contains(&logs) {
        return Ok(());
    }
    Err(Error::NotDone(format!(
        "a set has 1 to {} logs, not {logs}",
        limits::LOGS_PER_SET
    )))
}
