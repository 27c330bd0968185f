//! Restored = live, for queues of messages: whatever their clients do, who folds the verdicts and reads the log again
//! has the same messages, under the same numbers, with what was said of them.

use proptest::prelude::*;

use super::partition::WINDOW;
use super::remembered::Limits;
use super::shelf::tests::Fickle;
use super::*;
use crate::name::EntityName;

/// A message in the log.
#[derive(Clone, Debug)]
struct Sent {
    offset: Offset,
    time: Timestamp,
    id: u8,
    session: u8,
    terms: Terms,
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        ids: Vec<u8>,
        lives_ms: Option<u64>,
    },
    Receive {
        max: usize,
    },
    ReceiveDeferred {
        from: u64,
    },
    Settle {
        nth: usize,
        how: Settlement,
        note: Option<u8>,
    },
    Accept {
        session: u8,
    },
    Release {
        nth: usize,
    },
    SetState {
        nth: usize,
        state: Option<u8>,
    },
    Delete {
        max: usize,
    },
    Forward(bool),
    /// What goes elsewhere arrives there.
    Bury,
    /// Stragglers are copied.
    Copy,
    /// The copies are durable.
    Move,
    Pass {
        ms: u64,
    },
    /// The owner dies; another one restores, from all verdicts or from the state told anew.
    Restart {
        from_snapshot: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let abandon = Settlement::Release {
        delay: Duration::ZERO,
        detail: String::new(),
    };
    let reject = Settlement::Reject {
        reason: "Bad".into(),
        detail: String::new(),
    };
    let how = prop_oneof![
        3 => Just(Settlement::Complete), 2 => Just(abandon), 1 => Just(reject),
        2 => Just(Settlement::Defer), 1 => Just(Settlement::Return), 1 => Just(Settlement::Renew)
    ];
    let lives = prop_oneof![3 => Just(None), 1 => Just(Some(2_000)), 1 => Just(Some(9_000))];
    prop_oneof![
        4 => (prop::collection::vec(0..30u8, 1..8), lives)
            .prop_map(|(ids, lives_ms)| Step::Send { ids, lives_ms }),
        5 => (1..5usize).prop_map(|max| Step::Receive { max }),
        1 => (0..20u64).prop_map(|from| Step::ReceiveDeferred { from }),
        6 => (0..9usize, how, prop::option::of(0..9u8))
            .prop_map(|(nth, how, note)| Step::Settle { nth, how, note }),
        2 => (0..3u8).prop_map(|session| Step::Accept { session }),
        1 => (0..3usize).prop_map(|nth| Step::Release { nth }),
        1 => (0..3usize, prop::option::of(0..9u8)).prop_map(|(nth, state)| Step::SetState { nth, state }),
        1 => prop_oneof![1..4usize, 1..40usize].prop_map(|max| Step::Delete { max }),
        1 => any::<bool>().prop_map(Step::Forward),
        2 => Just(Step::Bury),
        2 => Just(Step::Copy),
        3 => Just(Step::Move),
        2 => (0..6_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => any::<bool>().prop_map(|from_snapshot| Step::Restart { from_snapshot }),
    ]
}

fn settings(has_sessions: bool, drops: bool, forwards: bool) -> Settings {
    let next = EntityName::new("next").unwrap();
    Settings {
        lock_duration_ms: 5_000,
        max_delivery_count: 3,
        messages: Some(Box::new(Messages {
            requires_session: has_sessions,
            duplicate_window_ms: drops.then_some(20_000),
            duplicate_windows: drops.then_some((0, 20_000)).into_iter().collect(),
            forward_to: forwards.then_some(next),
            trims: true,
            ..Messages::default()
        })),
        ..Settings::default()
    }
}

struct World {
    queue: Queue,
    log: Vec<Sent>,
    /// Where the log begins.
    start: Offset,
    /// The log of what was moved: of which records it holds copies.
    moved: Vec<Offset>,
    /// Copies of which nobody has said so.
    copied: Vec<(Offset, Offset)>,
    now: Now,
    verdicts: Vec<Verdict>,
    tokens: Vec<LockToken>,
    sessions: Vec<SessionLock>,
    ticket: u64,
    buried: u64,
}

/// Ids of which some lie on a shelf and some do not; those of who restores are all in memory.
fn partly_shelved() -> Arc<Remembered> {
    let limits = Limits {
        ids_per_block: 3,
        shelved_ids_min: 1,
        ..Limits::default()
    };
    let shelf = Fickle::taking(vec![true, true, false]);
    Arc::new(Remembered::within(limits, Some(shelf)))
}

impl World {
    fn new(settings: Settings) -> Self {
        let mut queue = Queue::new(settings, Term(1), 7, &[Offset(0)]);
        queue.remember_within(&partly_shelved());
        Self {
            queue,
            log: Vec::new(),
            start: Offset(0),
            moved: Vec::new(),
            copied: Vec::new(),
            now: Now::default(),
            verdicts: Vec::new(),
            tokens: Vec::new(),
            sessions: Vec::new(),
            ticket: 0,
            buried: 0,
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Queue, Now, &mut Effects) -> T) -> (T, Effects) {
        let mut effects = Effects::default();
        let done = act(&mut self.queue, self.now, &mut effects);
        self.verdicts.append(&mut effects.verdicts);
        (done, effects)
    }

    fn end(&self) -> Offset {
        self.log
            .last()
            .map_or(Offset(0), |sent| Offset(sent.offset.0 + 1))
    }

    /// Reads what the queue wants, a few records at a time, and counts what it does not.
    fn scan(&mut self) {
        while let Some(at) = self.queue.sought_moved() {
            assert_eq!(self.queue.wants(0), None, "what was moved comes before");
            for nth in at.0..self.moved.len() as u64 {
                let offset = self.moved[nth as usize];
                let sent = self.log.iter().find(|sent| sent.offset == offset);
                let copy = Sent {
                    offset: Offset(nth),
                    ..sent.unwrap().clone()
                };
                self.hand(&copy, |queue, arriving, now| {
                    queue.revisit_moved(arriving, now);
                });
            }
            self.act(|queue, now, effects| queue.revisited_moved(now, effects));
            self.act(|queue, now, effects| queue.lost_moved(at, now, effects));
        }
        let end = self.end();
        while let Some(from) = self.queue.wants(0).filter(|from| *from < end) {
            assert!(from >= self.start, "{from} is trimmed");
            let from = self.log.partition_point(|sent| sent.offset < from);
            let read: Vec<_> = self.log.iter().skip(from).take(3).cloned().collect();
            for sent in &read {
                self.arrive(sent);
            }
            let next = self
                .log
                .get(from + read.len())
                .map_or(end, |sent| sent.offset);
            self.act(|queue, now, effects| queue.scanned(0, next, now, effects));
        }
        if let Some(from) = self.queue.counts_from(0).filter(|from| *from < end) {
            let offsets = self.log.iter().map(|sent| sent.offset);
            let offsets: Vec<_> = offsets.filter(|at| *at >= from).collect();
            self.act(|queue, _, effects| queue.count(0, &offsets, end, effects));
        }
    }

    fn arrive(&mut self, sent: &Sent) {
        self.hand(sent, |queue, arriving, now| queue.arrive(0, arriving, now));
    }

    fn hand(&mut self, sent: &Sent, hand: impl FnOnce(&mut Queue, &Arriving<'_>, Now)) {
        let (id, session) = (sent.id.to_string(), sent.session.to_string());
        let arriving = Arriving {
            offset: sent.offset,
            time: sent.time,
            key: Some(session.as_bytes()),
            id: &id,
            terms: &sent.terms,
            is_unanswered: false,
        };
        hand(&mut self.queue, &arriving, self.now);
    }

    fn session(&self, nth: usize) -> Option<SessionLock> {
        self.sessions
            .iter()
            .rev()
            .nth(nth % self.sessions.len().max(1))
            .cloned()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { ids, lives_ms } => self.send(&ids, lives_ms),
            Step::Receive { max } => {
                self.ticket += 1;
                let (ticket, session) = (Ticket(self.ticket), self.session(0));
                if self.queue.has_sessions() && session.is_none() {
                    return;
                }
                let taking = Taking {
                    session,
                    ..Taking::locked(max, Duration::ZERO)
                };
                let (_, effects) = self.act(|q, now, out| q.receive(now, ticket, &taking, out));
                let served = effects.served.into_iter().flat_map(|(_, served)| served);
                self.tokens.extend(served.map(|delivery| delivery.token));
            }
            Step::ReceiveDeferred { from } => {
                let session = self.session(0);
                let numbers: Vec<_> = (from..from + 4).collect();
                let (handed, _) =
                    self.act(|q, now, _| q.receive_deferred(now, &numbers, session.as_ref()));
                self.tokens
                    .extend(handed.into_iter().flatten().map(|delivery| delivery.token));
            }
            Step::Settle { nth, how, note } => {
                let token = self.tokens.iter().rev().nth(nth % self.tokens.len().max(1));
                let Some(token) = token.copied() else { return };
                if let Some(note) = note {
                    self.act(|q, now, out| q.note(now, token, &note.to_string(), out));
                }
                self.act(|q, now, out| q.settle(now, token, &how, out));
            }
            Step::Accept { session } => {
                if !self.queue.has_sessions() {
                    return;
                }
                self.ticket += 1;
                let wanted = WantedSession::Named(session.to_string());
                let ticket = Ticket(self.ticket);
                let (_, effects) = self.act(|q, now, out| {
                    q.accept_session(now, ticket, &wanted, now.monotone, out)
                        .is_ok()
                });
                let locks = effects
                    .accepted
                    .into_iter()
                    .filter_map(|(_, accepted)| accepted);
                self.sessions.extend(locks.map(|accepted| accepted.lock));
            }
            Step::Release { nth } => {
                if let Some(lock) = self.session(nth) {
                    self.act(|q, now, out| q.release_session(now, &lock, out));
                }
            }
            Step::SetState { nth, state } => {
                if let Some(lock) = self.session(nth) {
                    let state = state.map(|state| state.to_string());
                    self.act(|q, now, out| q.set_session_state(now, &lock, state, out).is_ok());
                }
            }
            Step::Delete { max } => {
                let before = (self.now.wall, self.end());
                let there = self.queue.counts().ready;
                let (gone, _) =
                    self.act(|q, now, out| q.delete_ready(now, max as u64, before, None, out));
                // Of those that have no session all that were ready are gone, or as many as were to go.
                let left = self.queue.counts().ready;
                assert_eq!(
                    there - left,
                    gone.unwrap(),
                    "{there} were ready, {left} are"
                );
            }
            Step::Forward(forwards) => {
                let messages = self.queue.settings().messages();
                let drops = messages.duplicate_windows().is_some();
                self.queue
                    .set_settings(settings(messages.requires_session, drops, forwards));
                self.act(|q, _, out| q.forward_ready(out));
            }
            Step::Bury => {
                let dying = self.queue.durable().flat_map(|d| d.dying.iter());
                let dying: Vec<_> = dying.map(|(at, o)| (*at, o.clone())).collect();
                for (offset, Obituary { to, moved_to, .. }) in dying {
                    match moved_to {
                        None => assert!(offset >= self.start, "{offset} is trimmed"),
                        Some(at) => assert_eq!(self.moved[at.0 as usize], offset),
                    }
                    self.buried += 1;
                    let at = Some(Offset(self.buried));
                    self.act(|q, _, out| q.buried(0, offset, at, to, out));
                }
            }
            Step::Copy => {
                let end = Some(Offset(self.moved.len() as u64));
                self.copied = Vec::new();
                for straggler in self.queue.stragglers(end) {
                    let at = Offset(self.moved.len() as u64);
                    self.copied.push((straggler.offset, at));
                    self.moved.push(straggler.offset);
                }
            }
            Step::Move => {
                let copied = std::mem::take(&mut self.copied);
                self.act(|q, _, out| q.moved(&copied, out));
                self.start = self.queue.needs_from(0).unwrap().max(self.start);
            }
            Step::Pass { ms } => {
                let time = Duration::from_millis(ms);
                self.now.monotone += time;
                self.now.wall = self.now.wall.plus(time);
                self.act(|q, now, out| q.tick(now, out));
            }
            Step::Restart { from_snapshot } => {
                self.queue = match from_snapshot {
                    true => self.restored(&self.snapshot()),
                    false => self.restored(&self.verdicts),
                };
                self.tokens.clear();
                self.sessions.clear();
                self.copied.clear();
            }
        }
        self.scan();
    }

    fn send(&mut self, ids: &[u8], lives_ms: Option<u64>) {
        for id in ids {
            let terms = Terms {
                time_to_live: lives_ms.map(Duration::from_millis),
                ..Terms::default()
            };
            self.log.push(Sent {
                // With holes.
                offset: Offset(self.end().0 + u64::from(id % 3)),
                time: self.now.wall,
                id: *id,
                session: id % 3,
                terms,
            });
        }
    }

    fn snapshot(&self) -> Vec<Verdict> {
        self.queue
            .durable()
            .flat_map(|durable| durable.retell(0))
            .collect()
    }

    fn restored(&self, verdicts: &[Verdict]) -> Queue {
        let (settings, term) = (self.queue.settings().clone(), Term(self.queue.term.0 + 1));
        let mut queue = Queue::new(settings, term, 7, &[Offset(0)]);
        verdicts.iter().for_each(|verdict| queue.apply(verdict));
        queue
    }

    /// The same world, whose owner restored from these.
    fn with(&self, verdicts: &[Verdict]) -> Self {
        let mut other = Self {
            log: self.log.clone(),
            start: self.start,
            moved: self.moved.clone(),
            now: self.now,
            ..Self::new(self.queue.settings().clone())
        };
        other.queue = self.restored(verdicts);
        other
    }

    fn check(&self, verdicts: &[Verdict]) -> Result<(), TestCaseError> {
        let mut other = self.with(verdicts);
        let durable = |queue: &Queue| queue.durable().next().unwrap().clone();
        prop_assert_eq!(durable(&other.queue), durable(&self.queue));
        other.scan();
        // What is too late goes in a moment.
        other.step(Step::Pass { ms: 1 });
        let seen = |queue: &Queue| {
            let reach = queue.looked_to();
            let found = queue.peek(0, 1_000, None).found.into_iter();
            let there = found.map(|at| (at.offset, at.number, at.standing, at.failed, at.note));
            (reach, there.collect::<Vec<_>>())
        };
        let ((one, live), (two, restored)) = (seen(&self.queue), seen(&other.queue));
        let both = one.min(two);
        let within = |seen: Vec<(Offset, _, _, _, _)>| -> Vec<_> {
            seen.into_iter().filter(|at| at.0 < both).collect()
        };
        let is_late = |at: Offset| {
            let sent = self.log.iter().find(|sent| sent.offset == at);
            let lives = sent.and_then(|sent| Some(sent.time.plus(sent.terms.time_to_live?)));
            lives.is_some_and(|until| until <= self.now.wall)
        };
        let in_time = |seen: Vec<(Offset, u64, Standing, u32, Option<String>)>| -> Vec<_> {
            seen.into_iter()
                .filter(|at| at.2 == Standing::Deferred || !is_late(at.0))
                .collect()
        };
        // On its way elsewhere as soon as nobody has it.
        if self.queue.settings().messages().forward_to.is_none() {
            prop_assert_eq!(in_time(within(live)), in_time(within(restored)));
        }
        // What was put aside is to be had.
        if !other.queue.has_sessions() {
            let found = other.queue.peek(0, 1_000, None).found.into_iter();
            let aside = found.filter(|at| at.standing == Standing::Deferred);
            let numbers: Vec<_> = aside.map(|at| at.number).collect();
            let (handed, _) =
                other.act(|queue, now, _| queue.receive_deferred(now, &numbers, None));
            prop_assert_eq!(handed.map(|handed| handed.len()), Some(numbers.len()));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn restored_is_live(has_sessions: bool, drops: bool, steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new(settings(has_sessions, drops, false));
        for step in steps {
            world.step(step);
            world.check(&world.verdicts)?;
            world.check(&world.snapshot())?;
        }
    }
}

/// Four messages that nobody is done with, of each of which this was said, and sixteen behind them that are settled.
fn before_settled_ones(drops: bool, said: [(Settlement, Option<u8>); 4]) -> World {
    let mut world = World::new(settings(false, drops, false));
    let send = |world: &mut World, ids: Vec<u8>| {
        let (max, lives_ms) = (ids.len(), None);
        world.step(Step::Send { ids, lives_ms });
        world.step(Step::Receive { max });
    };
    send(&mut world, (0..4).collect());
    let first = world.tokens.clone();
    for ids in [4..12, 12..20] {
        send(&mut world, ids.collect());
        for nth in 0..8 {
            let (how, note) = (Settlement::Complete, None);
            world.step(Step::Settle { nth, how, note });
        }
    }
    world.tokens = first;
    for (nth, (how, note)) in said.into_iter().enumerate() {
        world.step(Step::Settle { nth, how, note });
    }
    world
}

fn not_done() -> impl Strategy<Value = (Settlement, Option<u8>)> {
    let delay = Duration::from_secs(3);
    let detail = String::new();
    let later = Settlement::Release { delay, detail };
    let how = prop_oneof![
        Just(Settlement::Defer),
        Just(later),
        Just(Settlement::Return)
    ];
    (how, prop::option::of(0..9u8))
}

proptest! {
    #[test]
    fn what_is_moved_is_what_it_was(
        drops: bool, twice: bool, said in [not_done(), not_done(), not_done(), not_done()],
        steps in prop::collection::vec(step(), 0..30),
    ) {
        let mut world = before_settled_ones(drops, said);
        let all = |world: &World| world.queue.peek(0, 99, None).found.into_iter().map(|at| PeekedAt { moved_to: None, ..at });
        let before: Vec<_> = all(&world).collect();
        let counts = world.queue.counts();
        world.step(Step::Copy);
        world.step(Step::Move);
        prop_assert_eq!(world.moved.len(), 4);
        if twice {
            // Copies of which nobody says so, for which the others are too old.
            world.moved.extend_from_within(..);
            world.moved.extend_from_within(..);
            world.step(Step::Copy);
            world.step(Step::Move);
            prop_assert_eq!(world.queue.needs_moved(), Some(Offset(16)));
        }
        let needed: Vec<_> = world.queue.durable().flat_map(Durable::needed).collect();
        prop_assert_eq!(needed, [world.end().on()], "nothing of the log is needed but what comes");
        prop_assert_eq!(all(&world).collect::<Vec<_>>(), before);
        prop_assert_eq!(world.queue.counts(), counts);
        world.check(&world.verdicts)?;
        world.check(&world.snapshot())?;
        for step in steps {
            world.step(step);
            world.check(&world.verdicts)?;
            world.check(&world.snapshot())?;
        }
        // All of it comes to its end in the end, and nothing is needed any more.
        let forward = Step::Restart { from_snapshot: true };
        world.step(forward);
        for _ in 0..60 {
            let from = world.queue.peek(0, 1, None).found.first().map_or(0, |at| at.number);
            world.step(Step::ReceiveDeferred { from });
            world.step(Step::Receive { max: 9 });
            for nth in 0..13 {
                world.step(Step::Settle { nth, how: Settlement::Complete, note: None });
            }
            world.step(Step::Bury);
            world.step(Step::Pass { ms: 3_000 });
        }
        prop_assert_eq!(world.queue.open().count(), 0);
        prop_assert_eq!(world.queue.needs_moved(), None);
    }
}

/// So many messages that are locked, and `completed` ones behind them, with holes between.
fn behind_locked_ones(locked: u8, completed: u64) -> World {
    let mut world = World::new(settings(false, false, false));
    world.step(Step::Send {
        ids: vec![1; locked.into()],
        lives_ms: None,
    });
    let max = locked.into();
    world.step(Step::Receive { max });
    let first = world.log.clone();
    for _ in 0..completed / 8 {
        let base = world.queue.looked_to().0;
        world.log = (0..8).map(|nth| sent_at(base + nth * nth)).collect();
        world.scan();
        let before = (world.now.wall, Offset(0));
        let (gone, _) = world.act(|q, now, out| q.delete_ready(now, 8, before, None, out));
        assert_eq!(gone, Some(8));
    }
    world.log = first;
    world
}

fn sent_at(offset: u64) -> Sent {
    Sent {
        offset: Offset(offset),
        time: Timestamp(0),
        id: 0,
        session: 0,
        terms: Terms::default(),
    }
}

#[test]
fn completions_behind_one_that_is_put_aside_are_a_few_numbers() {
    let mut world = behind_locked_ones(1, 8_000);
    world.step(Step::Settle {
        nth: 0,
        how: Settlement::Defer,
        note: None,
    });
    let snapshot = world.snapshot();
    let bytes = serde_json::to_vec(&snapshot).unwrap().len();
    assert!(bytes < 1_000, "{snapshot:?}");
    let restored = world.restored(&snapshot);
    assert!(
        restored.durable().eq(world.queue.durable()),
        "restored is live"
    );
    let counts = world.queue.counts();
    assert_eq!((counts.ready, counts.deferred), (0, 1));
}

/// A window that is full where a read ends in the middle of what is settled.
#[test]
fn what_is_settled_is_not_counted_where_it_has_holes() {
    let mut world = behind_locked_ones(WINDOW as u8, 80);
    let upto = world.queue.looked_to().0;
    assert_eq!(world.queue.durable().next().unwrap().settled.len(), 1);
    // For the worst, the holes come first.
    world.log.extend((upto - 80..=upto).map(sent_at));
    world.step(Step::Restart {
        from_snapshot: true,
    });
    assert_eq!(world.queue.counts().ready, WINDOW as u64 + 1);
}

/// As they were told before there were ranges.
#[test]
fn a_snapshot_that_names_each_settled_record_is_read() {
    let told = r#"[{"settled":{"partition":0,"offsets":[],"floor":3,"passed":1}},
        {"settled":{"partition":0,"offsets":[5,6,7,9],"floor":3,"passed":1}},{"deferred":{"partition":0,"offset":3}}]"#;
    let told: Vec<Verdict> = serde_json::from_str(told).unwrap();
    let mut world = World::new(settings(false, false, false));
    world.queue = world.restored(&told);
    world.log.extend((3..11).map(sent_at));
    world.scan();
    let found = world.queue.peek(0, 100, None).found.into_iter();
    let found: Vec<_> = found.map(|at| (at.offset.0, at.number)).collect();
    assert_eq!(found, [(3, 2), (4, 3), (8, 7), (10, 9)]);
}

/// Many go at once, whoever restores the queue at any moment of it.
#[test]
fn a_backlog_is_deleted_without_being_read() {
    let mut world = World::new(settings(false, false, false));
    world.log.extend((0..10_000).map(sent_at));
    world.scan();
    world.step(Step::Receive { max: 3 });
    let end = world.end();
    let delete = |world: &mut World, max: u64, below: Offset| {
        let before = (world.now.wall, below);
        let (verdicts, reads) = (world.verdicts.len(), world.queue.looked_to());
        let (gone, _) = world.act(|q, now, out| q.delete_ready(now, max, before, None, out));
        assert!(
            world.verdicts.len() - verdicts < 8,
            "one decision, not one for each"
        );
        (gone.unwrap(), world.queue.looked_to().0 - reads.0)
    };
    let waits = world.queue.counts().ready;
    assert_eq!(waits, 9_997);
    let (gone, passed) = delete(&mut world, 4_000, end);
    assert_eq!(gone, 4_000);
    assert!(passed > 3_900, "{passed} are passed unread");
    world.check(&world.verdicts).unwrap();
    world.check(&world.snapshot()).unwrap();
    // No more than was written before.
    world.scan();
    let (gone, _) = delete(&mut world, 4_000, Offset(6_000));
    assert!((1_900..2_100).contains(&gone), "{gone}");
    world.scan();
    let left = world.queue.counts().ready;
    assert_eq!(left, waits - 4_000 - gone);
    assert_eq!(delete(&mut world, 10_000, end).0, left);
    world.check(&world.verdicts).unwrap();
    world.check(&world.snapshot()).unwrap();
    // The numbers go on behind those that nobody saw.
    world.log.push(sent_at(10_000));
    world.scan();
    let found = world.queue.peek(0, 10, None).found;
    let numbers: Vec<_> = found.iter().map(|at| at.number).collect();
    assert_eq!(numbers, [1, 2, 3, 10_001]);
}
