use super::*;

fn positions(each: &[(u32, u64)]) -> Positions {
    each.iter().copied().collect()
}

fn item(key: &str, offset: u64) -> Item {
    let place = Place {
        partition: 0,
        offset,
    };
    let event = format!(r#"{{"data":{offset}}}"#);
    let key = key.to_owned();
    Item {
        key,
        place,
        event,
        sum: offset,
    }
}

fn change(partition: u32, offset: u64) -> Change {
    Change {
        key: Some("a".into()),
        place: Place { partition, offset },
        item: Some("{}".into()),
        sum: offset,
    }
}

fn page(changes: Vec<Change>, next: &[(u32, u64)], ends: &[(u32, u64)]) -> Page {
    Page {
        topic_id: "t1".into(),
        changes,
        next: positions(next),
        ends: positions(ends),
    }
}

/// Takes a snapshot of one item in, as of these positions.
fn bootstrap(machine: &mut Machine, topic_id: &str, next: &[(u32, u64)], start: u64) -> Held {
    assert_eq!(machine.ask().1, Ask::Snapshot);
    let head = Head {
        topic_id: topic_id.into(),
        next: positions(next),
    };
    assert_eq!(machine.hear(1, Heard::Begins(head)), Some(Effect::Clear));
    let told = machine.hear(2, Heard::Told(item("a", 1)));
    assert_eq!(told, Some(Effect::Stage(item("a", 1))));
    let start = positions(&[(0, start)]);
    match machine.hear(3, Heard::Ends(Tail { items: 1, start })) {
        Some(Effect::Replace(held)) => held,
        other => panic!("{other:?}"),
    }
}

fn following() -> Machine {
    let mut machine = Machine::new(None);
    bootstrap(&mut machine, "t1", &[(0, 5)], 0);
    machine
}

fn applied(machine: &mut Machine, now_ms: i64, page: Page) -> Held {
    match machine.hear(now_ms, Heard::Page(page)) {
        Some(Effect::Apply(_, held)) => held,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_and_then_what_came_behind_it() {
    let mut machine = following();
    let (wait, ask) = machine.ask();
    assert!(wait.is_zero());
    let from = positions(&[(0, 5)]);
    let topic_id = "t1".to_owned();
    assert_eq!(ask, Ask::Changes { topic_id, from });
    // Behind its end there is more: it was not heard to be there.
    let held = applied(
        &mut machine,
        10,
        page(vec![change(0, 5)], &[(0, 6)], &[(0, 9)]),
    );
    assert_eq!((held.next, held.at_end_ms), (positions(&[(0, 6)]), Some(1)));
    let held = applied(
        &mut machine,
        11,
        page(vec![change(0, 8)], &[(0, 9)], &[(0, 9)]),
    );
    assert_eq!((held.snapshots, held.gaps), (1, 0));
    assert_eq!(held.at_end_ms, Some(11));
}

#[test]
fn a_restart_goes_on_from_what_the_copy_holds() {
    let held = following().held().unwrap().clone();
    let mut machine = Machine::new(Some(held));
    let changes = vec![change(0, 1), change(0, 5)];
    let held = applied(&mut machine, 10, page(changes, &[(0, 6)], &[(0, 6)]));
    assert_eq!((held.snapshots, held.next), (1, positions(&[(0, 6)])));
}

/// What comes first after a break is the last event once more: another log may have grown as long.
#[test]
fn who_comes_back_is_looked_at() {
    let broken_off = || {
        let mut machine = following();
        applied(
            &mut machine,
            10,
            page(vec![change(0, 5)], &[(0, 7)], &[(0, 7)]),
        );
        machine.hear(11, Heard::Silent("cut".into()));
        let from = positions(&[(0, 5)]);
        let topic_id = "t1".to_owned();
        assert_eq!(machine.ask().1, Ask::Changes { topic_id, from });
        machine
    };
    let mut machine = broken_off();
    let same = page(vec![change(0, 5), change(0, 8)], &[(0, 9)], &[(0, 9)]);
    let Some(Effect::Apply(changes, held)) = machine.hear(12, Heard::Page(same)) else {
        panic!("not taken");
    };
    assert_eq!(
        (changes, held.next),
        (vec![change(0, 8)], positions(&[(0, 9)]))
    );
    // A page may end with it, before what was known to hold nothing.
    let mut machine = broken_off();
    assert_eq!(
        machine.hear(
            12,
            Heard::Page(page(vec![change(0, 5)], &[(0, 6)], &[(0, 7)]))
        ),
        None
    );
    assert_eq!(machine.held().unwrap().next, positions(&[(0, 7)]));
    assert!(!machine.is_bootstrapping());
    let other = Change {
        sum: 99,
        ..change(0, 5)
    };
    for changes in [vec![other], vec![], vec![change(0, 8)]] {
        let mut machine = broken_off();
        machine.hear(12, Heard::Page(page(changes, &[(0, 9)], &[(0, 9)])));
        let held = bootstrap(&mut machine, "t1", &[(0, 9)], 0);
        assert_eq!(held.last_gap.unwrap().why, Why::OtherLog);
    }
    // It alone may be gone.
    let mut machine = broken_off();
    machine.hear(12, Heard::Lost(Why::Trimmed));
    let (topic_id, from) = ("t1".to_owned(), positions(&[(0, 7)]));
    assert_eq!(machine.ask().1, Ask::Changes { topic_id, from });
    machine.hear(13, Heard::Lost(Why::Trimmed));
    assert_eq!(machine.ask().1, Ask::Snapshot);
}

/// Pages are shared by partitions: one that is not reached is asked for again.
#[test]
fn a_page_may_end_before_what_is_to_be_compared() {
    let mut machine = Machine::new(None);
    bootstrap(&mut machine, "t1", &[(0, 5), (1, 5)], 0);
    let both = page(
        vec![change(0, 5), change(1, 5)],
        &[(0, 6), (1, 6)],
        &[(0, 6), (1, 6)],
    );
    applied(&mut machine, 10, both);
    machine.hear(11, Heard::Silent("cut".into()));
    let one = page(vec![change(0, 5)], &[(0, 6), (1, 5)], &[(0, 6), (1, 6)]);
    assert_eq!(machine.hear(12, Heard::Page(one)), None);
    let (topic_id, from) = ("t1".to_owned(), positions(&[(0, 6), (1, 5)]));
    assert_eq!(machine.ask().1, Ask::Changes { topic_id, from });
}

#[test]
fn half_a_snapshot_is_none() {
    let mut machine = following();
    machine.hear(4, Heard::Lost(Why::Trimmed));
    for ending in [
        Heard::Silent("cut".into()),
        Heard::Ends(Tail {
            items: 2,
            start: Positions::new(),
        }),
    ] {
        let head = Head {
            topic_id: "t1".into(),
            next: positions(&[(0, 9)]),
        };
        assert_eq!(machine.hear(5, Heard::Begins(head)), Some(Effect::Clear));
        assert!(machine.hear(6, Heard::Told(item("b", 8))).is_some());
        assert_eq!(machine.hear(7, ending), None);
        // What comes late of it is of nothing.
        assert_eq!(machine.hear(8, Heard::Told(item("c", 9))), None);
        assert_eq!(machine.ask().1, Ask::Snapshot);
        assert!(!machine.contact().answers);
        // What was there before is held, up to the gap.
        assert_eq!(machine.held().unwrap().next, positions(&[(0, 5)]));
    }
}

#[test]
fn whatever_the_source_cannot_go_on_from_is_a_gap() {
    let shorter = page(vec![], &[(0, 5)], &[(0, 4)]);
    let mut other = page(vec![], &[(0, 5)], &[(0, 5)]);
    other.topic_id = "t2".into();
    for (heard, why) in [
        (Heard::Lost(Why::Trimmed), Why::Trimmed),
        (Heard::Lost(Why::MadeAnew), Why::MadeAnew),
        (Heard::Page(other), Why::MadeAnew),
        (Heard::Page(shorter), Why::Shorter),
        // Goes back; begins before; goes back within; lies behind its end; forgets a partition.
        (
            Heard::Page(page(vec![], &[(0, 4)], &[(0, 9)])),
            Why::OutOfOrder,
        ),
        (
            Heard::Page(page(vec![change(0, 4)], &[(0, 6)], &[(0, 9)])),
            Why::OutOfOrder,
        ),
        (
            Heard::Page(page(vec![change(0, 7), change(0, 6)], &[(0, 9)], &[(0, 9)])),
            Why::OutOfOrder,
        ),
        (
            Heard::Page(page(vec![change(0, 9)], &[(0, 9)], &[(0, 9)])),
            Why::OutOfOrder,
        ),
        (Heard::Page(page(vec![], &[], &[])), Why::OutOfOrder),
    ] {
        let mut machine = following();
        let noted = machine.hear(20, heard.clone());
        let gap = Some(Gap { why, at_ms: 20 });
        assert!(
            matches!(&noted, Some(Effect::Apply(changes, held)) if changes.is_empty() && held.open_gap == gap),
            "{heard:?}"
        );
        // It is known after a restart too, whatever the source says then.
        let mut machine = Machine::new(machine.held().cloned());
        let held = bootstrap(&mut machine, "t3", &[(0, 99)], 50);
        assert_eq!((held.gaps, held.snapshots), (1, 2), "{heard:?}");
        assert_eq!(held.last_gap, Some(Gap { why, at_ms: 20 }));
        // A deletion among what was removed cannot be known: the copy says where it begins.
        assert_eq!(held.incomplete_before, positions(&[(0, 50)]));
        assert_eq!(
            (held.topic_id.as_str(), held.next),
            ("t3", positions(&[(0, 99)]))
        );
    }
}

#[test]
fn parts_of_one_record_have_one_offset() {
    let mut machine = following();
    let parts = vec![change(0, 5), change(0, 5)];
    applied(&mut machine, 10, page(parts, &[(0, 6)], &[(0, 6)]));
}

/// One that is new begins at its first event that is left, unless it is asked for from its first on.
#[test]
fn a_new_partition_is_asked_for_from_its_first_event() {
    let mut machine = following();
    let began_late = page(vec![change(1, 7)], &[(0, 5), (1, 8)], &[(0, 5), (1, 8)]);
    let Some(Effect::Apply(changes, held)) = machine.hear(10, Heard::Page(began_late)) else {
        panic!("not taken");
    };
    assert_eq!(changes, []);
    assert_eq!(held.next, positions(&[(0, 5), (1, 0)]));
}

#[test]
fn nothing_new_is_not_written_each_time() {
    let mut machine = following();
    let quiet = || Heard::Page(page(vec![], &[(0, 5)], &[(0, 5)]));
    assert!(
        machine.hear(1_000_000, quiet()).is_some(),
        "heard at its end"
    );
    assert_eq!(machine.hear(1_005_000, quiet()), None);
    assert_eq!(machine.contact().at_end_ms, Some(1_005_000));
    assert!(machine.hear(1_010_000, quiet()).is_some());
}

#[test]
fn a_source_that_does_not_answer_is_left_alone_longer_and_longer() {
    let mut machine = following();
    let mut waits = Vec::new();
    for _ in 0..8 {
        machine.hear(10, Heard::Silent("cut".into()));
        waits.push(machine.ask().0.as_millis());
    }
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
    assert!(!machine.contact().answers);
    machine.hear(11, Heard::Refused("401".into()));
    assert!(machine.contact().answers && machine.contact().error.is_some());
    machine.hear(12, Heard::Page(page(vec![], &[(0, 5)], &[(0, 5)])));
    assert!(machine.ask().0.is_zero() && machine.contact().error.is_none());
}

/// Right behind a snapshot too: its last item tells the log from another one.
#[test]
fn another_log_is_noticed_behind_a_snapshot() {
    let held = following().held().unwrap().clone();
    assert_eq!(held.last, BTreeMap::from([(0, Last { offset: 1, sum: 1 })]));
    for changes in [
        vec![],
        vec![Change {
            sum: 7,
            ..change(0, 1)
        }],
    ] {
        let mut machine = Machine::new(Some(held.clone()));
        let from = positions(&[(0, 1)]);
        let topic_id = "t1".to_owned();
        assert_eq!(machine.ask().1, Ask::Changes { topic_id, from });
        let noted = applied(&mut machine, 9, page(changes, &[(0, 8)], &[(0, 8)]));
        assert_eq!(noted.open_gap.unwrap().why, Why::OtherLog);
        assert_eq!(machine.ask().1, Ask::Snapshot);
    }
}

#[test]
fn an_item_outside_of_its_snapshot_breaks_it_off() {
    for outside in [5, u64::MAX] {
        let mut machine = Machine::new(None);
        let head = Head {
            topic_id: "t1".into(),
            next: positions(&[(0, 5)]),
        };
        machine.hear(1, Heard::Begins(head));
        assert_eq!(machine.hear(1, Heard::Told(item("a", outside))), None);
        assert!(machine.contact().error.is_some());
    }
}

/// The source does not say in which partition the last event is gone, so it is asked for one after the other.
#[test]
fn one_partition_that_was_trimmed_leaves_the_others_checked() {
    let broken_off = || {
        let mut machine = Machine::new(None);
        let begins = [(0, 5), (1, 5), (2, 5)];
        bootstrap(&mut machine, "t1", &begins, 0);
        let changes = vec![change(0, 5), change(1, 6), change(2, 7)];
        let next = [(0, 8), (1, 8), (2, 8)];
        applied(&mut machine, 10, page(changes, &next, &next));
        machine.hear(11, Heard::Silent("cut".into()));
        machine
    };
    let asked = |machine: &Machine| match machine.ask().1 {
        Ask::Changes { from, .. } => from,
        Ask::Snapshot => Positions::new(),
    };
    let mut machine = broken_off();
    assert_eq!(asked(&machine), positions(&[(0, 5), (1, 6), (2, 7)]));
    machine.hear(12, Heard::Lost(Why::Trimmed));
    assert_eq!(asked(&machine), positions(&[(0, 5), (1, 8), (2, 8)]));
    // This is the one.
    machine.hear(13, Heard::Lost(Why::Trimmed));
    assert_eq!(asked(&machine), positions(&[(0, 8), (1, 6), (2, 8)]));
    // What came behind the others waits until all are checked.
    let next = [(0, 8), (1, 8), (2, 9)];
    let same = page(vec![change(1, 6), change(2, 8)], &next, &next);
    assert_eq!(machine.hear(14, Heard::Page(same)), None);
    assert_eq!(asked(&machine), positions(&[(0, 8), (1, 8), (2, 7)]));
    let mut goes_on = machine;
    let same = page(vec![change(2, 7), change(2, 8)], &next, &next);
    let held = applied(&mut goes_on, 15, same);
    assert_eq!((held.next, held.open_gap), (positions(&next), None));
    let mut machine = broken_off();
    for _ in 0..2 {
        machine.hear(12, Heard::Lost(Why::Trimmed));
    }
    let other = page(vec![], &next, &next);
    let held = applied(&mut machine, 13, other);
    assert_eq!(held.open_gap.unwrap().why, Why::OtherLog);
    // Where all of them are gone, and what follows too, that is a gap.
    let mut machine = broken_off();
    for _ in 0..4 {
        assert_eq!(machine.hear(12, Heard::Lost(Why::Trimmed)), None);
    }
    let Some(Effect::Apply(_, held)) = machine.hear(13, Heard::Lost(Why::Trimmed)) else {
        panic!("no gap");
    };
    assert_eq!(held.open_gap.unwrap().why, Why::Trimmed);
}

#[test]
fn gaps_that_follow_on_gaps_are_mended_slower_and_slower() {
    let mut machine = following();
    let mut waits = Vec::new();
    for _ in 0..9 {
        machine.hear(10, Heard::Lost(Why::Trimmed));
        waits.push(machine.ask().0.as_secs());
        bootstrap(&mut machine, "t1", &[(0, 5)], 0);
        assert!(machine.ask().0.is_zero());
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    applied(
        &mut machine,
        10,
        page(vec![change(0, 5)], &[(0, 6)], &[(0, 6)]),
    );
    machine.hear(10, Heard::Lost(Why::Trimmed));
    assert!(machine.ask().0.is_zero());
}

#[test]
fn partitions_that_change_with_each_page_are_not_gathered() {
    let mut machine = following();
    let noted = applied(&mut machine, 10, page(vec![], &[(1, 0)], &[(1, 0)]));
    assert_eq!(noted.open_gap.unwrap().why, Why::OutOfOrder);
}
