use super::*;

const LOCK: Duration = Duration::from_secs(60);

struct Bench {
    queue: Queue,
    now: Now,
    verdicts: Vec<Verdict>,
    next_ticket: u64,
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
            self.queue
                .arrive(0, Offset(i * 10), Timestamp(0), Some(i % 2), self.now);
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
        let (_, mut served) =
            self.act(|q, now, out| q.receive(now, ticket, max, now.monotone, out));
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
    bench.act(|q, _, out| q.buried(0, Offset(0), Some(Offset(5)), out));
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
            bench.act(|q, now, out| q.receive(now, Ticket(ticket), 1, now.monotone + wait, out));
        assert!(served.is_empty());
    }
    bench.queue.forget(Ticket(1));
    bench
        .queue
        .arrive(0, Offset(0), Timestamp(0), None, bench.now);
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
    let stuck = |bench: &mut Bench, i: u64, key| {
        let at = Offset(i * 10);
        bench
            .queue
            .arrive(0, at, Timestamp(0), Some(key), bench.now);
        bench.act(|q, now, out| q.scanned(0, Offset(i * 10 + 1), now, out));
    };
    for i in 0..5_000 {
        stuck(&mut bench, i, 7);
    }
    assert!(bench.queue.wants(0).is_some(), "it reads on past the line");
    stuck(&mut bench, 5_000, 8);
    assert_eq!(bench.queue.counts().ready, 5_001);
    let out = bench.receive(9);
    let offsets: Vec<_> = out.iter().map(|d| d.offset.0 / 10).collect();
    assert_eq!(offsets, [0, 5_000]);
    assert!(bench.settle(out[0].token, &Settlement::Complete));
    assert_eq!(bench.offsets(9), [1], "the line moves up");
}
