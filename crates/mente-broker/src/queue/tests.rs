use super::*;

const LOCK: Duration = Duration::from_secs(60);

struct Bench {
    queue: Queue,
    now: Now,
    verdicts: Vec<Verdict>,
    next_ticket: u64,
}

/// A record that says nothing to queues.
fn arriving(offset: Offset, key: Option<&str>) -> Arriving<'_> {
    static NO_TERMS: Terms = Terms {
        target: None,
        time_to_live: None,
        due: None,
        hops: 0,
        note: None,
        origin: None,
        transaction: None,
        claim: None,
    };
    Arriving {
        offset,
        time: Timestamp(0),
        key: key.map(str::as_bytes),
        id: "",
        terms: &NO_TERMS,
        is_unanswered: false,
    }
}

/// A queue over one log with `records` records at offsets 0, 10, 20 and on, keys a, b, a, b.
fn bench(settings: Settings, records: u64) -> Bench {
    let queue = Queue::new(settings, Term(3), 7, &[Offset(0)]);
    let mut bench = Bench {
        queue,
        now: Now::default(),
        verdicts: Vec::new(),
        next_ticket: 1,
    };
    bench.scan(0, records);
    bench
}

impl Bench {
    fn scan(&mut self, from: u64, to: u64) {
        for i in from..to {
            let key = (i % 2).to_string();
            self.queue
                .arrive(0, &arriving(Offset(i * 10), Some(&key)), self.now);
        }
        self.act(|queue, now, effects| queue.scanned(0, Offset(to * 10), now, effects));
    }

    fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Queue, Now, &mut Effects) -> T,
    ) -> (T, Vec<(Ticket, Vec<Delivery>)>) {
        let mut effects = Effects::default();
        let done = act(&mut self.queue, self.now, &mut effects);
        self.verdicts.extend(effects.verdicts);
        (done, effects.served)
    }

    fn receive(&mut self, max: usize) -> Vec<Delivery> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let (_, mut served) = self
            .act(|q, now, out| q.receive(now, ticket, &Taking::locked(max, Duration::ZERO), out));
        served.pop().expect("served at once").1
    }

    fn offsets(&mut self, max: usize) -> Vec<u64> {
        self.receive(max).iter().map(|d| d.offset.0 / 10).collect()
    }

    fn settle(&mut self, token: LockToken, how: &Settlement) -> bool {
        self.act(|q, now, out| q.settle(now, token, how, out)).0
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotone += time;
        self.now.wall = self.now.wall.plus(time);
        self.act(|q, now, out| q.tick(now, out));
    }
}

fn release(delay: Duration) -> Settlement {
    Settlement::Release {
        delay,
        detail: String::new(),
    }
}

#[test]
fn what_is_out_is_not_handed_out_again_until_its_lock_ends() {
    let mut bench = bench(Settings::default(), 3);
    assert_eq!(bench.offsets(2), [0, 1]);
    assert_eq!(bench.offsets(2), [2]);
    assert_eq!(bench.offsets(2), [] as [u64; 0]);
    bench.pass(LOCK);
    let again = bench.receive(9);
    assert_eq!(
        again
            .iter()
            .map(|d| (d.offset.0, d.count))
            .collect::<Vec<_>>(),
        [(0, 2), (10, 2), (20, 2)]
    );
}

#[test]
fn a_settled_lease_is_void_and_the_floor_follows_the_oldest_open_record() {
    let mut bench = bench(Settings::default(), 3);
    let out = bench.receive(3);
    assert!(bench.settle(out[1].token, &Settlement::Complete));
    assert!(
        !bench.settle(out[1].token, &Settlement::Complete),
        "settled twice"
    );
    assert_eq!(bench.queue.durable().next().unwrap().floor, Offset(0));
    assert!(bench.settle(out[0].token, &Settlement::Complete));
    assert_eq!(bench.queue.durable().next().unwrap().floor, Offset(20));
    assert!(bench.settle(out[2].token, &Settlement::Complete));
    let durable = bench.queue.durable().next().unwrap();
    assert_eq!((durable.floor, durable.settled.len()), (Offset(30), 0));
}

#[test]
fn a_lease_past_its_end_or_of_another_owner_is_void() {
    let mut bench = bench(Settings::default(), 1);
    let out = bench.receive(1)[0].token;
    assert!(!bench.settle(
        LockToken {
            term: Term(2),
            ..out
        },
        &Settlement::Complete
    ));
    bench.now.monotone += LOCK;
    assert!(
        !bench.settle(out, &Settlement::Complete),
        "its time is over, timer or not"
    );
}

#[test]
fn lock_tokens_come_back_out_of_their_text_and_nothing_else_does() {
    let token = bench(Settings::default(), 1).receive(1)[0].token;
    assert_eq!(token.to_string(), "3-7-1");
    assert_eq!("3-7-1".parse(), Ok(token));
    for odd in ["", "3", "3-1", "3-7-1-1", "3-7-", "3-7-x", "-7-1"] {
        assert_eq!(odd.parse::<LockToken>(), Err(()), "{odd:?}");
    }
}

#[test]
fn renewing_keeps_the_lock() {
    let mut bench = bench(Settings::default(), 1);
    let out = bench.receive(1)[0].token;
    for _ in 0..3 {
        bench.pass(LOCK - Duration::from_millis(1));
        assert!(bench.settle(out, &Settlement::Renew));
    }
    assert!(bench.settle(out, &Settlement::Complete));
}

#[test]
fn a_released_record_waits_its_delay_and_counts() {
    let mut bench = bench(Settings::default(), 1);
    let out = bench.receive(1)[0].token;
    assert!(bench.settle(out, &release(Duration::from_secs(10))));
    assert!(bench.receive(1).is_empty());
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.receive(1)[0].count, 2);
}

#[test]
fn the_last_attempt_leads_to_the_dead_letters() {
    let mut bench = bench(
        Settings {
            max_delivery_count: 2,
            ..Settings::default()
        },
        1,
    );
    for _ in 0..2 {
        let out = bench.receive(1)[0].token;
        assert!(bench.settle(out, &release(Duration::ZERO)));
    }
    assert!(bench.receive(1).is_empty());
    let Some(Verdict::Dead {
        reason,
        attempts,
        floor,
        ..
    }) = bench.verdicts.last()
    else {
        panic!("{:?}", bench.verdicts)
    };
    assert_eq!(
        (reason.as_str(), *attempts, *floor),
        ("MaxDeliveryAttemptsExceeded", 2, 10)
    );
    assert_eq!(bench.queue.counts().dying, 1);
    bench.act(|q, _, out| q.buried(0, Offset(0), Some(Offset(5)), None, out));
    assert_eq!(bench.queue.counts().dying, 0);
}

#[test]
fn a_record_past_its_time_to_live_is_not_delivered() {
    let settings = Settings {
        time_to_live_ms: Some(1_000),
        ..Settings::default()
    };
    let mut bench = bench(settings, 2);
    bench.pass(Duration::from_secs(2));
    assert!(bench.receive(5).is_empty());
    let dead = bench
        .verdicts
        .iter()
        .filter(|v| matches!(v, Verdict::Dead { reason, .. } if reason == "TimeToLiveExceeded"));
    assert_eq!(dead.count(), 2);
}

#[test]
fn in_order_a_key_waits_for_its_elder() {
    let mut bench = bench(
        Settings {
            ordered: true,
            ..Settings::default()
        },
        6,
    );
    let out = bench.receive(9);
    assert_eq!(
        out.iter().map(|d| d.offset.0 / 10).collect::<Vec<_>>(),
        [0, 1],
        "one a key"
    );
    assert!(bench.settle(out[1].token, &Settlement::Complete));
    assert!(bench.settle(out[0].token, &release(Duration::from_secs(5))));
    assert_eq!(
        bench.offsets(9),
        [3],
        "key a waits for its retry, key b goes on"
    );
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.offsets(9), [0]);
}

#[test]
fn receivers_wait_in_line_and_leave_empty_handed() {
    let mut bench = bench(Settings::default(), 0);
    let wait = Duration::from_secs(10);
    for ticket in 1..=3 {
        let (_, served) =
            bench.act(|q, now, out| q.receive(now, Ticket(ticket), &Taking::locked(1, wait), out));
        assert!(served.is_empty());
    }
    bench.queue.forget(Ticket(1));
    bench.queue.arrive(0, &arriving(Offset(0), None), bench.now);
    let (_, served) = bench.act(|q, now, out| q.scanned(0, Offset(1), now, out));
    assert_eq!(
        served
            .iter()
            .map(|(t, d)| (t.0, d.len()))
            .collect::<Vec<_>>(),
        [(2, 1)]
    );
    bench.now.monotone += wait;
    let (_, served) = bench.act(|q, now, out| q.tick(now, out));
    assert_eq!(
        served
            .iter()
            .map(|(t, d)| (t.0, d.len()))
            .collect::<Vec<_>>(),
        [(3, 0)]
    );
}

#[test]
fn long_silence_moves_the_floor() {
    let mut bench = bench(Settings::default(), 0);
    bench.act(|q, now, out| q.scanned(0, Offset(50_000), now, out));
    assert_eq!(bench.queue.durable().next().unwrap().floor, Offset(50_000));
    assert_eq!(bench.verdicts.len(), 1);
}

#[test]
fn a_window_has_an_end() {
    let mut bench = bench(Settings::default(), 0);
    let window = partition::WINDOW as u64;
    bench.scan(0, window - 1);
    assert_eq!(bench.queue.counts_from(0), None, "scanning counts");
    bench.scan(window - 1, window);
    let end = Offset(window * 10);
    assert_eq!(
        (bench.queue.wants(0), bench.queue.counts_from(0)),
        (None, Some(end))
    );
    bench.act(|q, _, out| q.count(0, &[end, Offset(end.0 + 2)], Offset(end.0 + 3), out));
    assert_eq!(bench.queue.counts().ready, window + 2);
    bench.receive(1);
    assert_eq!(
        bench.queue.wants(0),
        Some(end),
        "what was counted is scanned all the same"
    );
}

#[test]
fn what_retention_took_is_not_waited_for() {
    let mut bench = bench(Settings::default(), 6);
    let out = bench.receive(2);
    assert!(bench.settle(out[1].token, &release(Duration::from_secs(5))));
    // Of six, one is out, one waits for its next try, two are ready; the log begins at the fifth.
    bench.act(|q, now, out| q.trimmed(0, Offset(40), now, out));
    let counts = bench.queue.counts();
    assert_eq!((counts.ready, counts.leased, counts.delayed), (2, 1, 0));
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.offsets(9), [4, 5]);
    assert!(bench.settle(out[0].token, &Settlement::Complete));
    assert_eq!(bench.queue.durable().next().unwrap().floor, Offset(40));
}

#[test]
fn renewing_in_order_keeps_the_key_too() {
    let ordered = Settings {
        ordered: true,
        ..Settings::default()
    };
    let mut bench = bench(ordered, 5);
    let out = bench.receive(9);
    assert!(bench.settle(out[0].token, &Settlement::Renew));
    assert!(bench.receive(9).is_empty(), "both keys are still out");
    assert!(bench.settle(out[0].token, &Settlement::Complete));
    assert_eq!(bench.offsets(9), [2]);
}

#[test]
fn a_key_that_is_stuck_does_not_hold_up_the_others() {
    let ordered = Settings {
        ordered: true,
        ..Settings::default()
    };
    let mut bench = bench(ordered, 0);
    let stuck = |bench: &mut Bench, i: u64, key: &str| {
        let at = Offset(i * 10);
        bench.queue.arrive(0, &arriving(at, Some(key)), bench.now);
        bench.act(|q, now, out| q.scanned(0, Offset(i * 10 + 1), now, out));
    };
    for i in 0..5_000 {
        stuck(&mut bench, i, "7");
    }
    assert!(bench.queue.wants(0).is_some(), "it reads on past the line");
    stuck(&mut bench, 5_000, "8");
    assert_eq!(bench.queue.counts().ready, 5_001);
    let out = bench.receive(9);
    let offsets: Vec<_> = out.iter().map(|d| d.offset.0 / 10).collect();
    assert_eq!(offsets, [0, 5_000]);
    assert!(bench.settle(out[0].token, &Settlement::Complete));
    assert_eq!(bench.offsets(9), [1], "the line moves up");
}

fn dead(bench: &mut Bench, ids: &[u64]) {
    let out = bench.receive(99);
    for delivery in out {
        let how = match ids.contains(&(delivery.offset.0 / 10)) {
            true => Settlement::Reject {
                reason: "Rejected".into(),
                detail: String::new(),
            },
            false => Settlement::Complete,
        };
        assert!(bench.settle(delivery.token, &how));
    }
    for (letter, id) in ids.iter().enumerate() {
        let at = Offset(letter as u64);
        bench.act(|q, _, out| q.buried(0, Offset(id * 10), Some(at), None, out));
    }
}

fn letters(ids: &[u64]) -> Vec<Letter> {
    let letter = |(at, id): (u64, &u64)| Letter {
        at: Offset(at),
        record: Some((0, Offset(id * 10))),
    };
    (0..).zip(ids).map(letter).collect()
}

impl Bench {
    fn revive(&mut self, from: u64, letters: &[Letter]) -> (u64, u64, Option<Stop>) {
        let (done, _) = self.act(|q, now, out| q.revive(now, Offset(from), letters, out));
        (done.revived, done.upto.0, done.stopped)
    }

    /// Reads what is sought, `records` a read.
    fn reread(&mut self, records: u64) {
        while let Some(from) = self.queue.sought(0) {
            for i in 0..records {
                let at = Offset(from.0 + i * 10);
                let key = (at.0 / 10 % 2).to_string();
                self.queue.revisit(0, &arriving(at, Some(&key)), self.now);
            }
            let next = Offset(from.0 + records * 10);
            self.act(|q, now, out| q.revisited(0, next, now, out));
        }
    }
}

#[test]
fn what_is_given_back_comes_as_if_for_the_first_time_and_once() {
    let mut bench = bench(Settings::default(), 6);
    dead(&mut bench, &[1, 4]);
    let letters = letters(&[1, 4]);
    let counts = |bench: &Bench| (bench.queue.counts().ready, bench.queue.counts().completed);
    assert_eq!(counts(&bench), (0, 4));
    assert_eq!(bench.revive(0, &letters), (2, 2, None));
    assert_eq!(bench.revive(0, &letters), (0, 2, Some(Stop::Moved)));
    assert_eq!(bench.revive(2, &letters), (0, 2, None), "they wait already");
    assert_eq!(counts(&bench), (2, 4), "counted before they are read again");
    assert!(bench.receive(9).is_empty());
    bench.reread(2);
    let out = bench.receive(9);
    let told: Vec<_> = out.iter().map(|d| (d.offset.0 / 10, d.count)).collect();
    assert_eq!(told, [(1, 1), (4, 1)]);
    assert!(bench.settle(out[0].token, &Settlement::Complete));
    assert!(bench.settle(out[1].token, &release(Duration::ZERO)));
    assert_eq!(bench.receive(9)[0].count, 2);
    assert_eq!(bench.queue.durable().next().unwrap().floor, Offset(60));
}

#[test]
fn letters_that_name_nothing_are_passed_over() {
    let mut bench = bench(Settings::default(), 4);
    dead(&mut bench, &[1]);
    bench.scan(4, 6);
    let forged = [
        None,
        Some((7, Offset(0))),
        Some((0, Offset(40))),
        Some((0, Offset(10))),
        Some((0, Offset(10))),
    ];
    let letters: Vec<_> = (3..)
        .zip(forged)
        .map(|(at, record)| Letter {
            at: Offset(at),
            record,
        })
        .collect();
    // Of these one is dead; one is still to be delivered, whatever the letter says.
    assert_eq!(bench.revive(0, &letters), (1, 8, None));
    let upto = |at| Letter {
        at: Offset(at),
        record: None,
    };
    assert_eq!(bench.revive(8, &[upto(u64::MAX)]), (0, u64::MAX, None));
    bench.reread(1);
    assert_eq!(bench.offsets(9), [1, 4, 5]);
}

#[test]
fn one_whose_copy_is_not_confirmed_waits_and_a_window_is_an_end() {
    let mut bench = bench(Settings::default(), 3);
    let out = bench.receive(3);
    let reject = Settlement::Reject {
        reason: "Rejected".into(),
        detail: String::new(),
    };
    out.iter()
        .for_each(|d| assert!(bench.settle(d.token, &reject)));
    bench.act(|q, _, out| q.buried(0, Offset(0), Some(Offset(0)), None, out));
    let all = letters(&[0, 1, 2]);
    assert_eq!(bench.revive(0, &all), (1, 1, Some(Stop::Unconfirmed)));
    for (id, at) in [(1, 1), (2, 2)] {
        bench.act(|q, _, out| q.buried(0, Offset(id * 10), Some(Offset(at)), None, out));
    }
    assert_eq!(bench.revive(1, &all[1..]), (2, 3, None));

    let window = partition::WINDOW as u64;
    let mut bench = self::bench(Settings::default(), 2 * window);
    let many: Vec<_> = (0..window + 3).collect();
    dead(&mut bench, &many);
    let letters = letters(&many);
    assert_eq!(
        bench.revive(0, &letters),
        (window, window, Some(Stop::Full))
    );
    bench.reread(1);
    let out = bench.receive(2);
    out.iter()
        .for_each(|d| assert!(bench.settle(d.token, &Settlement::Complete)));
    let rest = &letters[window as usize..];
    assert_eq!(
        bench.revive(window, rest),
        (2, window + 2, Some(Stop::Full))
    );
}

#[test]
fn what_cannot_be_read_again_dies_again_and_what_retention_took_is_lost() {
    let mut bench = bench(Settings::default(), 4);
    dead(&mut bench, &[0, 1, 2, 3]);
    assert_eq!(bench.revive(0, &letters(&[0, 1, 2, 3])).0, 4);
    // The first one is not there, the second cannot be read, the log begins at the last one then.
    bench.act(|q, now, out| q.revisited(0, Offset(5), now, out));
    bench.act(|q, _, out| q.unreadable(0, Offset(10), out));
    assert_eq!(bench.queue.counts().dying, 2);
    bench.act(|q, now, out| q.trimmed(0, Offset(30), now, out));
    bench.reread(1);
    assert_eq!(bench.offsets(9), [3]);
    let revived = &bench.queue.durable().next().unwrap().revived;
    assert_eq!(revived.keys().collect::<Vec<_>>(), [&Offset(30)]);
}

#[test]
fn what_is_given_back_has_its_whole_time_to_live_again() {
    let settings = Settings {
        time_to_live_ms: Some(1_000),
        ..Settings::default()
    };
    let mut bench = bench(settings, 1);
    bench.pass(Duration::from_secs(2));
    assert!(bench.receive(5).is_empty());
    bench.act(|q, _, out| q.buried(0, Offset(0), Some(Offset(0)), None, out));
    assert_eq!(bench.revive(0, &letters(&[0])).0, 1);
    bench.reread(1);
    bench.pass(Duration::from_millis(900));
    assert_eq!(bench.offsets(5), [0]);
}

#[test]
fn a_record_of_several_parts_is_settled_when_all_are() {
    let mut bench = bench(Settings::default(), 3);
    let parts = |token: LockToken| [0, 1, 2].map(|number| token.of_part(number, 3));
    let out = parts(bench.receive(1)[0].token);
    assert!(
        out.iter()
            .all(|token| token.to_string().parse() == Ok(*token))
    );
    assert!(bench.settle(out[1], &Settlement::Complete));
    assert!(!bench.settle(out[1], &Settlement::Complete), "twice");
    assert!(!bench.settle(out[1], &Settlement::Renew));
    assert!(bench.settle(out[0], &Settlement::Renew));
    assert!(bench.settle(out[0], &Settlement::Complete));
    assert_eq!(bench.queue.counts().leased, 1);
    assert!(bench.settle(out[2], &Settlement::Complete));
    assert_eq!(bench.queue.counts().completed, 1);
    // One that is given back takes the others along.
    let out = parts(bench.receive(1)[0].token);
    assert!(bench.settle(out[0], &Settlement::Complete));
    let back = Settlement::Release {
        delay: Duration::ZERO,
        detail: String::new(),
    };
    assert!(bench.settle(out[1], &back));
    assert!(!bench.settle(out[2], &Settlement::Complete));
    let again = bench.receive(1);
    assert_eq!(again[0].count, 2);
    assert_eq!(again[0].token.part(), None);
    for no in ["1-1-1-3-3", "1-1-1-0", "1-1-1-0-21", "1-1", ""] {
        assert_eq!(no.parse::<LockToken>(), Err(()), "{no}");
    }
}

/// A range that is sparse at first and dense at its end, cut by how far is counted: about as many matches are settled
/// before the cut as there are after it.
#[test]
fn what_lies_before_a_cut_range_is_not_deleted_unread() {
    let mut bench = bench(Settings::default(), 0);
    let joined = Verdict::Joined {
        partition: 0,
        ranges: vec![Range {
            from: 10,
            upto: 110,
            matches: 55,
        }],
    };
    bench.queue.apply(&joined);
    for offset in 0..partition::WINDOW as u64 {
        let arriving = arriving(Offset(offset), None);
        bench.queue.arrive(0, &arriving, bench.now);
    }
    let (next, reach) = (Offset(partition::WINDOW as u64), Offset(60));
    bench.act(|queue, now, effects| queue.scanned(0, next, now, effects));
    let matches = [8, 9, 10, 20, 30, 40, 50].map(Offset);
    for upto in [20, 30, 40, 50, 60].map(Offset) {
        let from = bench.queue.counts_from(0).unwrap();
        let within = |at: &&Offset| (from..upto).contains(*at);
        let matches: Vec<_> = matches.iter().filter(within).copied().collect();
        bench.act(|queue, _, effects| queue.count(0, &matches, upto, effects));
    }
    assert_eq!(bench.queue.counted(0), Some(reach));
    let mut delete = |max| {
        let before = (Timestamp(0), reach);
        let deleted =
            |q: &mut Queue, now, out: &mut Effects| q.delete_ready(now, max, before, None, out);
        bench.act(deleted).0
    };
    assert_eq!(delete(1), Some(1));
    // The window has seven more; behind it lie two.
    assert_eq!(delete(8), Some(7));
    assert_eq!(bench.queue.wants(0), Some(next));
}
