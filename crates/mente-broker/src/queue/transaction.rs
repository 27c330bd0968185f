//! Records of a hold view that a transaction wrote: they wait until it is committed, and go if it is not.
//!
//! They lie in the log before the decision that commits them, which settles what else the transaction does. Whoever
//! reads them first may be an owner that never hears of that, so they are given up by time.

use std::time::Duration;

use mente_engine::{Now, Offset};

use super::partition::State;
use super::{Arriving, Effects, Place, Queue, Timer, Verdict};

/// How long a record waits for the end of its transaction: beyond the time that a transaction has, so that the clock
/// of who wrote it may be off by minutes.
const UNDECIDED_WAIT: Duration = Duration::from_secs(5 * 60);
/// Records that are given up before they are read, as many as are remembered. All others go by time.
const GIVEN_UP: usize = 10_000;

impl Queue {
    pub(super) fn is_committed(&self, (partition, offset): Place) -> bool {
        let p = self.partitions.get(partition as usize);
        p.is_some_and(|p| p.durable.committed.contains(&offset))
    }

    pub(super) fn is_undecided(&self, (partition, offset): Place) -> bool {
        let p = self.partitions.get(partition as usize);
        let entry = p.and_then(|p| p.entries.get(&offset));
        entry.is_some_and(|entry| matches!(entry.state, State::Undecided { .. }))
    }

    pub(super) fn await_its_transaction(
        &mut self,
        place: Place,
        arriving: &Arriving<'_>,
        now: Now,
    ) {
        let left = match self.given_up.remove(&arriving.offset) {
            // With this very round.
            true => Duration::ZERO,
            false => arriving.time.plus(UNDECIDED_WAIT).since(now.wall),
        };
        // Never longer, whatever the clock of who wrote it said.
        self.delay(place, now.monotone + left.min(UNDECIDED_WAIT));
        let due = arriving.terms.due;
        self.entry(place).state = State::Undecided { due };
    }

    /// Whether these records may be committed: each waits for that, or was not looked at yet.
    pub fn may_commit(&self, offsets: &[Offset]) -> bool {
        let Some(p) = self.partitions.first() else {
            return false;
        };
        let reach = p.reach().0;
        let may = |offset: &Offset| match *offset >= reach {
            true => self.is_to_come(*offset) && !self.given_up.contains(offset),
            false => self.is_undecided((0, *offset)),
        };
        self.holds_back() && offsets.iter().all(may)
    }

    /// Whether a record was not looked at yet, and nothing was said of it.
    fn is_to_come(&self, offset: Offset) -> bool {
        let p = self.partitions.first();
        p.is_some_and(|p| {
            let is_said = p.durable.committed.contains(&offset) || p.is_at_its_end(offset);
            offset >= p.reach().0 && !is_said
        })
    }

    /// What the transaction wrote goes on when it is due.
    pub fn commit(&mut self, now: Now, offsets: &[Offset], effects: &mut Effects) {
        let verdict = Verdict::Committed {
            partition: 0,
            offsets: offsets.iter().map(|offset| offset.0).collect(),
        };
        self.decide(verdict, effects);
        for offset in offsets {
            self.go_on((0, *offset), now);
        }
        self.let_go(effects);
    }

    fn go_on(&mut self, place: Place, now: Now) {
        if !self.is_undecided(place) {
            // It finds its transaction committed when it comes.
            return;
        }
        let entry = self.entry(place);
        let (state, given_up) = (entry.state, entry.due_at.take());
        if let Some(at) = given_up {
            let (partition, offset) = place;
            self.timers
                .remove(&(at, Timer::Delay { partition, offset }));
        }
        let due = match state {
            State::Undecided { due } => due.unwrap_or(now.wall),
            _ => now.wall,
        };
        match due.since(now.wall) {
            Duration::ZERO => self.send_off(place, None),
            left => self.delay(place, now.monotone + left),
        }
    }

    /// The transaction came to nothing. What was not looked at yet goes when it comes.
    pub fn roll_back(&mut self, offsets: &[Offset], effects: &mut Effects) {
        for offset in offsets {
            if self.is_undecided((0, *offset)) {
                self.drop_record((0, *offset), effects);
            } else if self.is_to_come(*offset) && self.given_up.len() < GIVEN_UP {
                self.given_up.insert(*offset);
            }
        }
    }

    /// Whether all of these have gone on, and arrived.
    pub fn have_gone(&self, offsets: &[Offset]) -> bool {
        let gone = |offset: &Offset| {
            let p = self.partitions.first();
            p.is_some_and(|p| {
                let waits = p.entries.contains_key(offset) || p.durable.dying.contains_key(offset);
                p.reach().0 > *offset && !waits
            })
        };
        offsets.iter().all(gone)
    }
}

#[cfg(test)]
mod tests {
    use mente_engine::{Term, Timestamp};

    use super::*;
    use crate::name::EntityName;
    use crate::queue::{Messages, Settings};
    use crate::terms::Terms;

    fn hold() -> Queue {
        let settings = Settings {
            messages: Some(Box::new(Messages {
                hold_for: Some(EntityName::new("q").unwrap()),
                ..Messages::default()
            })),
            ..Settings::default()
        };
        Queue::new(settings, Term(1), 7, &[Offset(0)])
    }

    fn now() -> Now {
        Now {
            monotone: Duration::from_secs(9),
            wall: Timestamp(50_000),
        }
    }

    /// Reads on, over one record.
    fn read(queue: &mut Queue, offset: u64, due: Option<Timestamp>, effects: &mut Effects) {
        let terms = Terms {
            due,
            transaction: Some("t".into()),
            ..Terms::default()
        };
        let arriving = Arriving {
            offset: Offset(offset),
            time: now().wall,
            key: None,
            id: "x",
            terms: &terms,
            is_unanswered: false,
        };
        queue.arrive(0, &arriving, now());
        queue.scanned(0, Offset(offset + 1), now(), effects);
    }

    fn going(queue: &Queue) -> Vec<u64> {
        let durable = queue.durable().next().unwrap();
        durable.dying.keys().map(|offset| offset.0).collect()
    }

    #[test]
    fn the_commit_may_be_known_before_its_records_are_read() {
        let mut effects = Effects::default();
        let mut queue = hold();
        read(&mut queue, 0, None, &mut effects);
        let all = [Offset(0), Offset(1), Offset(2)];
        assert!(queue.may_commit(&all));
        queue.commit(now(), &all, &mut effects);
        assert_eq!(going(&queue), [0]);
        assert!(!queue.may_commit(&all[..1]) && !queue.may_commit(&all[1..]));
        assert!(!queue.have_gone(&all));
        // Who takes over knows it too, by what was decided or what is told of it.
        let durable = queue.durable().next().unwrap();
        let told = durable.retell(0);
        for verdicts in [&effects.verdicts, &told] {
            let mut restored = hold();
            verdicts.iter().for_each(|verdict| restored.apply(verdict));
            assert_eq!(restored.durable().next().unwrap(), durable);
            let mut effects = Effects::default();
            read(&mut restored, 1, None, &mut effects);
            let later = Some(now().wall.plus(Duration::from_secs(1)));
            read(&mut restored, 2, later, &mut effects);
            assert_eq!(going(&restored), [0, 1]);
            assert_eq!(restored.next_due(), Some(Duration::from_secs(10)));
        }
    }

    #[test]
    fn what_is_rolled_back_before_it_is_read_goes_when_it_comes() {
        let mut effects = Effects::default();
        let mut queue = hold();
        queue.roll_back(&[Offset(0), Offset(2)], &mut effects);
        assert!(!queue.may_commit(&[Offset(0)]) && queue.may_commit(&[Offset(1)]));
        (0..3).for_each(|offset| read(&mut queue, offset, None, &mut effects));
        queue.tick(now(), &mut effects);
        let open = |queue: &Queue, offset| queue.may_commit(&[Offset(offset)]);
        let are_open: Vec<_> = (0..3).map(|offset| open(&queue, offset)).collect();
        assert_eq!(are_open, [false, true, false]);
        assert_eq!(queue.durable().next().unwrap().floor, Offset(1));
        assert!(queue.given_up.is_empty());
    }

    #[test]
    fn what_is_rolled_back_is_gone_and_its_floor_rises() {
        let mut effects = Effects::default();
        let mut queue = hold();
        read(&mut queue, 0, None, &mut effects);
        read(&mut queue, 1, None, &mut effects);
        queue.roll_back(&[Offset(1), Offset(5)], &mut effects);
        assert!(!queue.may_commit(&[Offset(1)]) && queue.may_commit(&[Offset(0)]));
        let late = Now {
            monotone: now().monotone + UNDECIDED_WAIT,
            wall: now().wall.plus(UNDECIDED_WAIT),
        };
        queue.tick(late, &mut effects);
        assert!(going(&queue).is_empty() && !queue.may_commit(&[Offset(0)]));
        assert_eq!(queue.durable().next().unwrap().floor, Offset(2));
    }
}
