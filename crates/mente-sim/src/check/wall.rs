//! The wall clock of the server, as far as it is known from its steps: what is told in calls is true
//! within them.

use crate::history::{Call, Op};

/// One stretch between two steps, both of them included.
#[derive(Debug)]
struct Stretch {
    from: u64,
    until: u64,
    /// How far the wall clock is ahead of the clients' own.
    ahead: i128,
}

/// In nanoseconds, from the same beginning as the clients' own clock.
#[derive(Debug)]
pub(super) struct Wall(Vec<Stretch>);

impl Wall {
    pub(super) fn new(calls: &[Call<'_>]) -> Self {
        let mut stretches = vec![Stretch {
            from: 0,
            until: u64::MAX,
            ahead: 0,
        }];
        for call in calls {
            let (Op::Step { ms }, Some(last)) = (call.op, stretches.last_mut()) else {
                continue;
            };
            last.until = call.ended_at;
            let ahead = last.ahead + i128::from(*ms) * 1_000_000;
            stretches.push(Stretch {
                from: call.invoked_at,
                until: u64::MAX,
                ahead,
            });
        }
        Self(stretches)
    }

    fn during(&self, from: u64, until: u64) -> impl Iterator<Item = &Stretch> {
        let first = self.0.partition_point(|stretch| stretch.until < from);
        let stretches = self.0[first..].iter();
        stretches.take_while(move |stretch| stretch.from <= until)
    }

    /// The least and the most that it may have shown in this time.
    pub(super) fn between(&self, from: u64, until: u64) -> (i128, i128) {
        let least = |s: &Stretch| i128::from(s.from.max(from)) + s.ahead;
        let most = |s: &Stretch| i128::from(s.until.min(until)) + s.ahead;
        let least = self.during(from, until).map(least).min();
        let most = self.during(from, until).map(most).max();
        (least.unwrap_or_default(), most.unwrap_or_default())
    }

    pub(super) fn may_have_stepped(&self, from: u64, until: u64) -> bool {
        self.during(from, until).count() > 1
    }
}
