//! Restored = live: whatever commands come, the fold of the journal is the state of its owner.

use mente_engine::{Batch, BatchBuilder, Event, SetId};
use proptest::prelude::*;

use super::*;
use crate::filter::Filter;
use crate::journal;
use crate::queue::{Letter, Secret, Stop, Verdict};
use crate::queue::{LockToken, Settlement, Taking};
use crate::snapshot::{self, Replay};
use crate::structured::no_format;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        records: u8,
    },
    Receive {
        view: usize,
        max: usize,
    },
    Settle {
        nth: usize,
        how: Settlement,
    },
    Pass {
        millis: u64,
    },
    /// Somebody sets the wall clock: no lease and no delay may become longer by it.
    SetClock {
        seconds: i64,
    },
    Bury,
    /// Dead letters are copied, and the owner dies before it hears of it.
    CopyAndRestart,
    /// The first so many dead letters are given back.
    Replay {
        view: usize,
        letters: usize,
    },
    /// Retention takes some of the oldest records.
    Trim {
        records: usize,
    },
    /// The secrets of a webhook change.
    Sign {
        view: usize,
        secrets: Vec<u8>,
    },
    /// The state is told anew, and what lies before goes.
    Snapshot,
    /// The owner dies at a snapshot of which so many records are there.
    HalfSnapshot {
        records: usize,
    },
    /// The owner dies; another one restores from the journal.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let release = (0u64..3_000).prop_map(|ms| Settlement::Release {
        delay: Duration::from_millis(ms),
        detail: "later".into(),
    });
    let reject = Just(Settlement::Reject {
        reason: "Rejected".into(),
        detail: "no".into(),
    });
    let how = prop_oneof![3 => Just(Settlement::Complete), 2 => release, 1 => reject, 1 => Just(Settlement::Renew), 1 => Just(Settlement::Return)];
    prop_oneof![
        3 => (1u8..20).prop_map(|records| Step::Publish { records }),
        4 => (0usize..2, 1usize..4).prop_map(|(view, max)| Step::Receive { view, max }),
        5 => (0usize..8, how).prop_map(|(nth, how)| Step::Settle { nth, how }),
        2 => (0u64..4_000).prop_map(|millis| Step::Pass { millis }),
        1 => (-3_600i64..3_600).prop_map(|seconds| Step::SetClock { seconds }),
        1 => Just(Step::Bury),
        1 => Just(Step::CopyAndRestart),
        2 => (0usize..2, 1usize..12).prop_map(|(view, letters)| Step::Replay { view, letters }),
        1 => (0usize..2, prop::collection::vec(0u8..3, 0..3))
            .prop_map(|(view, secrets)| Step::Sign { view, secrets }),
        1 => Just(Step::Snapshot),
        1 => (1usize..6).prop_map(|records| Step::HalfSnapshot { records }),
        1 => Just(Step::Restart),
    ]
}

/// Of those that die, are given back, and die again.
fn rough_step() -> impl Strategy<Value = Step> {
    let reject = Settlement::Reject {
        reason: "Rejected".into(),
        detail: "no".into(),
    };
    let release = Settlement::Release {
        delay: Duration::from_millis(500),
        detail: "later".into(),
    };
    let how = prop_oneof![4 => Just(reject), 2 => Just(release), 1 => Just(Settlement::Complete)];
    prop_oneof![
        1 => (1u8..6).prop_map(|records| Step::Publish { records }),
        4 => (0usize..2, 2usize..6).prop_map(|(view, max)| Step::Receive { view, max }),
        6 => (0usize..8, how).prop_map(|(nth, how)| Step::Settle { nth, how }),
        1 => (0u64..4_000).prop_map(|millis| Step::Pass { millis }),
        3 => Just(Step::Bury),
        1 => Just(Step::CopyAndRestart),
        4 => (0usize..2, 1usize..12).prop_map(|(view, letters)| Step::Replay { view, letters }),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Restart),
    ]
}

struct World {
    shard: Shard,
    now: Now,
    /// The topic: offsets have holes.
    log: Vec<Arrival>,
    /// What retention took.
    taken: usize,
    end: Offset,
    journal: Vec<Batch>,
    /// Every decision ever, whatever snapshots took.
    decided: Vec<Decision>,
    out: Vec<(usize, LockToken)>,
    next_ticket: u64,
    /// The dead-letter log of each view: where the letter lies, and the offset of its record.
    letters: [Vec<(Offset, Offset)>; 2],
}

const VIEWS: [&str; 2] = ["all", "some"];

fn name(view: usize) -> SubscriptionName {
    SubscriptionName {
        topic: EntityName::new("orders").unwrap(),
        name: EntityName::new(VIEWS[view]).unwrap(),
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            shard: Shard::new(Term(1)),
            now: Now::default(),
            log: Vec::new(),
            taken: 0,
            end: Offset(0),
            journal: Vec::new(),
            decided: Vec::new(),
            out: Vec::new(),
            next_ticket: 1,
            letters: Default::default(),
        };
        let topic = Topic {
            set: SetId(9),
            partitions: 1,
        };
        let placed = r#"{"exact":{"type":"placed"}}"#;
        for (view, filter) in [
            (0, None),
            (1, Some(serde_json::from_str::<Filter>(placed).unwrap())),
        ] {
            let push = r#"{"url":"http://a/","timeout_ms":1000}"#;
            let settings = Settings {
                filter,
                ordered: view == 1,
                lock_duration_ms: 2_000,
                max_delivery_count: 3,
                push: (view == 1).then(|| serde_json::from_str(push).unwrap()),
                ..Settings::default()
            };
            let made = world.subscribe(view, &topic, settings);
            assert_eq!(made.unwrap(), Reply::Subscription(Made::Now));
        }
        world
    }

    fn subscribe(&mut self, view: usize, topic: &Topic, settings: Settings) -> Result<Reply> {
        self.command(Command::CreateSubscription {
            name: name(view),
            topic: topic.clone(),
            starts: vec![Offset(0)],
            settings,
        })
    }

    fn round(&mut self, act: impl FnOnce(&mut Shard, Now, Ticket, &mut Outcome)) -> Outcome {
        let mut out = Outcome::default();
        self.next_ticket += 1;
        act(
            &mut self.shard,
            self.now,
            Ticket(self.next_ticket),
            &mut out,
        );
        if !out.decisions.is_empty() {
            let first = self.shard.seq() + 1 - out.decisions.len() as u64;
            self.journal
                .extend(journal::encode(first, &out.decisions, self.now.wall, 500));
            self.decided.extend(out.decisions.iter().cloned());
        }
        out
    }

    fn command(&mut self, command: Command) -> Result<Reply> {
        let mut out = self.round(|shard, now, ticket, out| shard.decide(now, ticket, command, out));
        out.replies
            .pop()
            .expect("every command here is answered at once")
            .1
    }

    fn start(&self) -> Offset {
        self.log.get(self.taken).map_or(self.end, |a| a.offset)
    }

    /// A few records a read, until nobody wants to read on.
    fn scan(&mut self) {
        loop {
            let (start, end) = (self.start(), self.end);
            let mut wants = self.shard.wants().into_iter();
            let Some((log, from)) = wants.find(|(_, from)| *from < end) else {
                return;
            };
            if from < start {
                self.round(|shard, now, _, out| {
                    shard.trimmed(now, log, start, out);
                });
                continue;
            }
            let mut left = self.log.iter().filter(|a| a.offset >= from).cloned();
            let records: Vec<_> = left.by_ref().take(4).collect();
            let next = left.next().map_or(end, |a| a.offset);
            self.round(|shard, now, _, out| shard.arrive(now, log, from, &records, next, out));
        }
    }

    /// Matching records of a view that are there and not at their end, whoever has them.
    fn unsettled(&self, id: u64, view: &View) -> u64 {
        let ends = ends(self, id, view.queue.settings().filter.as_ref());
        let start = self.start().0;
        let left = ends
            .iter()
            .filter(|(offset, ends)| **offset >= start && **ends == 0);
        // Retention took these while they were out.
        let out = view.queue.open().filter(|(_, offset, _)| offset.0 < start);
        (left.count() + out.count()) as u64
    }

    /// Makes the copy, unless it is there.
    fn copy(&mut self, burial: &Burial) -> Offset {
        let view = usize::from(burial.name == name(1));
        let log = &mut self.letters[view];
        let mut behind = log.iter().filter(|(at, _)| *at >= burial.revived_upto);
        if let Some((at, _)) = behind.find(|(_, offset)| *offset == burial.offset) {
            return *at;
        }
        let at = Offset(log.last().map_or(1, |(at, _)| at.0 + 2));
        log.push((at, burial.offset));
        at
    }

    /// Letters that were not given back.
    fn parked(&self, view: usize) -> Vec<Letter> {
        let upto = self.shard.views[&self.shard.names[&name(view)]]
            .queue
            .revived_upto();
        let log = self.letters[view].iter().filter(|(at, _)| *at >= upto);
        log.map(|(at, offset)| Letter {
            at: *at,
            record: Some((0, *offset)),
        })
        .collect()
    }

    fn replay(&mut self, view: usize, letters: usize) {
        let id = self.shard.names[&name(view)];
        let from = self.shard.views[&id].queue.revived_upto();
        let letters: Vec<_> = self.parked(view).into_iter().take(letters).collect();
        let command = |letters: &[Letter]| Command::Revive {
            name: name(view),
            view: id,
            from,
            letters: letters.to_vec(),
        };
        let Ok(Reply::Revived(done)) = self.command(command(&letters)) else {
            panic!("not revived")
        };
        let passed: Vec<_> = letters.iter().filter(|l| l.at < done.upto).collect();
        let distinct: std::collections::BTreeSet<_> = passed.iter().map(|l| l.record).collect();
        assert_eq!(
            done.revived,
            distinct.len() as u64,
            "each once: {done:?} {letters:?}"
        );
        assert_eq!(done.stopped.is_none(), passed.len() == letters.len());
        // Said again, by somebody who did not hear of it.
        if !passed.is_empty() {
            let again = self.command(command(&letters));
            let Ok(Reply::Revived(again)) = again else {
                panic!()
            };
            let told = (again.revived, again.upto, again.stopped);
            assert_eq!(told, (0, done.upto, Some(Stop::Moved)));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish { records } => {
                for i in 0..u64::from(records) {
                    let offset = Offset(self.end.0 + i % 3);
                    let kind = if offset.0.is_multiple_of(2) {
                        "placed"
                    } else {
                        "other"
                    };
                    let key = Some(bytes::Bytes::from(format!("{}", offset.0 % 3)));
                    let event = Event {
                        kind: kind.into(),
                        key,
                        ..Event::default()
                    };
                    let record = event.to_record(self.now.wall);
                    let log = SetId(9).log(0);
                    self.log.push(Arrival::of(log, offset, record, no_format));
                    self.end = Offset(offset.0 + 1);
                }
            }
            Step::Receive { view, max } => {
                let command = Command::Receive {
                    name: name(view),
                    taking: Taking::locked(max, Duration::ZERO),
                };
                let Ok(Reply::Deliveries(deliveries)) = self.command(command) else {
                    panic!()
                };
                self.out
                    .extend(deliveries.into_iter().map(|d| (view, d.token)));
            }
            Step::Settle { nth, how } => {
                if self.out.is_empty() {
                    return;
                }
                let (view, token) = self.out[nth % self.out.len()];
                self.command(Command::Settle {
                    name: name(view),
                    tokens: vec![token],
                    how,
                    note: None,
                    lingers: false,
                })
                .unwrap();
            }
            Step::Pass { millis } => {
                self.now.monotone += Duration::from_millis(millis);
                self.now.wall.0 += millis as i64;
                self.round(|shard, now, _, out| shard.tick(now, out));
            }
            Step::SetClock { seconds } => {
                self.now.wall.0 += seconds * 1_000;
                self.round(|shard, now, _, out| shard.tick(now, out));
            }
            Step::Bury => {
                for burial in self.shard.burials() {
                    let at = self.copy(&burial);
                    self.round(|shard, _, _, out| shard.buried(&burial, Some(at), out));
                }
            }
            Step::CopyAndRestart => {
                for burial in self.shard.burials() {
                    self.copy(&burial);
                }
                self.take(Step::Restart);
            }
            Step::Replay { view, letters } => self.replay(view, letters),
            Step::Trim { records } => {
                self.taken = (self.taken + records).min(self.log.len());
                let (log, start) = (SetId(9).log(0), self.start());
                self.round(|shard, now, _, out| {
                    shard.trimmed(now, log, start, out);
                });
            }
            Step::Sign { view, secrets } => {
                let id = self.shard.names[&name(view)];
                let (topic, mut settings) = {
                    let view = &self.shard.views[&id];
                    (view.topic.clone(), view.queue.settings().clone())
                };
                let secrets = secrets.iter().map(|s| Secret::new(s.to_string()));
                settings.set_secrets(&secrets.collect::<Vec<_>>());
                let made = self.subscribe(view, &topic, settings.clone());
                assert_eq!(made.unwrap(), Reply::Subscription(Made::Before));
                let now = self.shard.views[&id].queue.settings();
                assert_eq!(now.secrets(), settings.secrets());
            }
            Step::Snapshot => {
                self.journal = snapshot::tell(&self.shard, self.now.wall, 500).unwrap();
            }
            Step::HalfSnapshot { records } => {
                let whole = snapshot::tell(&self.shard, self.now.wall, 500).unwrap();
                let all: Vec<_> = whole.iter().flat_map(Batch::records).collect();
                let some = all.into_iter().take(records).map(|r| r.unwrap().1);
                let some: Vec<_> = some.collect();
                self.journal.push(BatchBuilder::from_iter(&some).finish());
                self.take(Step::Restart);
            }
            Step::Restart => {
                self.shard = restored(&self.journal, self.shard.term);
                self.out.clear();
            }
        }
        self.scan();
    }
}

fn trim() -> impl Strategy<Value = Step> {
    (1usize..30).prop_map(|records| Step::Trim { records })
}

fn stories(
    step: impl Strategy<Value = Step>,
    rough: impl Strategy<Value = Step>,
) -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        prop::collection::vec(step, 1..60),
        prop::collection::vec(rough, 20..90)
    ]
}

fn restored(journal: &[Batch], last: Term) -> Shard {
    let mut replay = Replay::new();
    for record in journal.iter().flat_map(Batch::records) {
        replay.take(&record.unwrap().1).unwrap();
    }
    let (mut shard, _) = replay.finish();
    shard.take_over(Term(last.0 + 1), Store::default());
    shard
}

/// Records that are still to be settled, whoever has them.
fn open(shard: &Shard) -> Vec<(u64, u32, Offset, u32)> {
    let of_view = |(id, view): (&u64, &View)| {
        let open = view.queue.open();
        open.map(|(partition, offset, attempts)| (*id, partition, offset, attempts))
            .collect::<Vec<_>>()
    };
    shard.views.iter().flat_map(of_view).collect()
}

/// How often the journal says that each record of a view came to its end.
/// Without those after which it was given back.
fn ends(world: &World, id: u64, filter: Option<&Filter>) -> BTreeMap<u64, u32> {
    let matching = world
        .log
        .iter()
        .filter(|a| filter.is_none_or(|f| f.matches(a.event())));
    let mut ends: BTreeMap<u64, u32> = matching.map(|a| (a.offset.0, 0)).collect();
    let mut count = |offset, by: u32| {
        let ends = ends.get_mut(&offset).expect("published and matching");
        *ends = ends.wrapping_add(by);
    };
    for decision in &world.decided {
        match decision {
            Decision::View {
                view,
                verdict: Verdict::Settled { offsets, .. },
            } if *view == id => {
                offsets.iter().for_each(|offset| count(*offset, 1));
            }
            Decision::View {
                view,
                verdict: Verdict::Revived { offsets, .. },
            } if *view == id => {
                offsets.iter().for_each(|offset| count(*offset, u32::MAX));
            }
            Decision::View {
                view,
                verdict: Verdict::Dead { offset, .. },
            } if *view == id => count(*offset, 1),
            _ => {}
        }
    }
    ends
}

/// Records that are dead and were not given back since.
fn dead(world: &World, id: u64) -> Vec<u64> {
    let mut dead = std::collections::BTreeSet::new();
    for decision in &world.decided {
        match decision {
            Decision::View {
                view,
                verdict: Verdict::Dead { offset, .. },
            } if *view == id => {
                dead.insert(*offset);
            }
            Decision::View {
                view,
                verdict: Verdict::Revived { offsets, .. },
            } if *view == id => offsets.iter().for_each(|offset| {
                assert!(dead.remove(offset), "given back and not dead");
            }),
            _ => {}
        }
    }
    dead.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn restored_is_live(steps in stories(prop_oneof![20 => step(), 1 => trim()], prop_oneof![40 => rough_step(), 1 => trim()])) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            let mut other = World {
                shard: restored(&world.journal, world.shard.term),
                now: world.now,
                log: world.log.clone(),
                taken: world.taken,
                end: world.end,
                journal: Vec::new(),
                decided: world.decided.clone(),
                out: Vec::new(),
                next_ticket: 1,
                letters: world.letters.clone(),
            };
            prop_assert_eq!(other.shard.durable_state(), world.shard.durable_state());
            prop_assert_eq!(other.shard.digest().state, world.shard.digest().state);
            other.scan();
            for ((id, live), restored) in world.shard.views.iter().zip(other.shard.views.values()) {
                // One may have scanned further than the other; what is beyond is only counted.
                let (one, two) = (live.queue.open(), restored.queue.open());
                let start = world.start();
                let revived = &live.queue.durable().next().unwrap().revived;
                let is_revived = |(_, offset, _): &(u32, Offset, u32)| revived.contains_key(offset);
                let seen = |entry: &(u32, Offset, u32)| entry.1 >= start && !is_revived(entry);
                prop_assert!(one.filter(seen).zip(two.filter(seen)).all(|(one, two)| one == two));
                let back = |view: &View| {
                    let back = |entry: &(u32, Offset, u32)| entry.1 >= start && is_revived(entry);
                    view.queue.open().filter(back).collect::<Vec<_>>()
                };
                prop_assert_eq!(back(live), back(restored));
                let waiting = |view: &View| {
                    let counts = view.queue.counts();
                    counts.ready + counts.leased + counts.delayed
                };
                prop_assert_eq!(waiting(live), world.unsettled(*id, live));
                prop_assert_eq!(waiting(restored), other.unsettled(*id, restored));
            }
        }
    }

    #[test]
    fn every_record_comes_to_one_end(steps in stories(step(), rough_step())) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // Who dies only now stays parked, then every lease runs out, and everything else is received and completed.
        for _ in 0..100 {
            world.take(Step::Pass { millis: 3_000 });
            for view in 0..VIEWS.len() {
                world.out.clear();
                world.take(Step::Receive { view, max: 10 });
                for nth in 0..world.out.len() {
                    world.take(Step::Settle { nth, how: Settlement::Complete });
                }
            }
        }
        prop_assert_eq!(open(&world.shard), vec![]);
        world.take(Step::Bury);
        for view in 0..VIEWS.len() {
            let id = world.shard.names[&name(view)];
            let mut parked: Vec<_> = world.parked(view).iter().map(|l| l.record.unwrap().1.0).collect();
            parked.sort_unstable();
            prop_assert_eq!(parked, dead(&world, id), "what is dead has a letter, and nothing else has");
        }
        for (id, view) in &world.shard.views {
            let ends = ends(&world, *id, view.queue.settings().filter.as_ref());
            prop_assert!(ends.values().all(|count| *count == 1), "view {}: {:?}", id, ends);
        }
    }
}

#[test]
fn a_planted_difference_changes_the_digest() {
    let mut world = World::new();
    world.take(Step::Publish { records: 3 });
    world.take(Step::Receive { view: 0, max: 3 });
    world.take(Step::Settle {
        nth: 0,
        how: Settlement::Complete,
    });
    let honest = restored(&world.journal, Term(1)).digest();
    assert_eq!(honest.state, world.shard.digest().state);
    // The last decision never reached the live state.
    world.journal.pop();
    assert_ne!(
        restored(&world.journal, Term(1)).digest().state,
        honest.state
    );
}

#[test]
fn who_has_a_link_or_ends_a_transaction_uses_a_view() {
    let mut world = World::new();
    world.take(Step::Publish { records: 1 });
    let views = [name(0), name(1)];
    for view in 0..2 {
        world.take(Step::Receive { view, max: 1 });
    }
    let token = world.out[0].1;
    let idle = |world: &mut World| {
        let list = Command::ListSubscriptions {
            topic: None,
            bounds: Vec::new(),
        };
        let mut out = Outcome::default();
        world.shard.decide(world.now, Ticket(1), list, &mut out);
        let Some((_, Ok(Reply::Subscriptions(list)))) = out.replies.pop() else {
            panic!("{out:?}");
        };
        let idle = |name| list.iter().find(|info| info.name == name).unwrap().idle_ms;
        views.clone().map(idle)
    };
    assert_eq!(idle(&mut world), [0, 0]);
    world.take(Step::Pass { millis: 1_000 });
    assert_eq!(idle(&mut world), [1_000, 1_000]);
    let gone = SubscriptionName::hold(views[0].topic.clone());
    let attached = Command::Attached {
        names: vec![gone, views[1].clone()],
    };
    let settling = Settling {
        name: views[0].clone(),
        token,
        how: Settlement::Complete,
        note: None,
    };
    let transacting = Command::Transact(Transacting {
        settlings: vec![settling],
        held: None,
    });
    for (command, after) in [(attached, [2_000, 0]), (transacting, [0, 1_000])] {
        world.take(Step::Pass { millis: 1_000 });
        let mut out = Outcome::default();
        world.shard.decide(world.now, Ticket(1), command, &mut out);
        assert_eq!(idle(&mut world), after);
    }
}

/// A transaction is one record of the journal, which is to stay small.
#[test]
fn ranges_are_joined_behind_a_transaction_and_not_in_it() {
    let mut world = World::new();
    world.take(Step::Publish { records: 8 });
    world.take(Step::Receive { view: 0, max: 8 });
    // The first one stays, and offsets have holes.
    let settlings = world.out[1..].iter().map(|(_, token)| Settling {
        name: name(0),
        token: *token,
        how: Settlement::Complete,
        note: None,
    });
    let transacting = Transacting {
        settlings: settlings.collect(),
        held: None,
    };
    let before = world.decided.len();
    world.round(|shard, now, ticket, out| {
        shard.decide(now, ticket, Command::Transact(transacting), out);
    });
    let is_joined = |verdict: &Verdict| matches!(verdict, Verdict::Joined { .. });
    let [Decision::Together(together), joined] = &world.decided[before..] else {
        panic!("{:?}", &world.decided[before..]);
    };
    assert!(!together.is_empty() && together.iter().all(|(_, verdict)| !is_joined(verdict)));
    assert!(matches!(joined, Decision::View { verdict, .. } if is_joined(verdict)));
    let restored = restored(&world.journal, Term(1));
    assert_eq!(restored.durable_state(), world.shard.durable_state());
}
