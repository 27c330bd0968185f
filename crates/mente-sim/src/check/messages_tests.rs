//! A history of queues in which every law holds, and every law broken in it.

use super::messages::{check, judged};
use super::*;
use crate::history::{DEAD, Ending, Messages, Op, Phase, TOO_OFTEN, Taken, Way, What};

const SECOND: u64 = 1_000_000_000;

/// Who has a call that goes on while others have theirs.
const LONG: u64 = 40;

/// Who calls, by its name here; how it ended, and what it was. Each lasts a second.
type Step = (&'static str, u64, Phase, Op);

fn of(queue: &str, what: What) -> Op {
    Op::Messages(Messages {
        queue: queue.into(),
        what,
    })
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.into()).collect()
}

fn send(values: &[&str]) -> Op {
    let (values, session) = (texts(values), None);
    of("q", What::Send { values, session })
}

fn in_session(session: &str, values: &[&str]) -> Op {
    let (values, session) = (texts(values), Some(session.into()));
    of("s", What::Send { values, session })
}

fn schedule(value: &str, delay_ms: u64) -> Op {
    let what = What::Schedule {
        values: texts(&[value]),
        delay_ms,
        numbers: vec![9],
    };
    of("q", what)
}

fn cancel(value: &str) -> Op {
    let value = value.into();
    of("q", What::Cancel { value })
}

/// Value, number, failed deliveries, and its lock by the term and its own.
fn taken(value: &str, number: u64, failed: u32, token: &str) -> Taken {
    Taken {
        value: value.into(),
        number,
        failed,
        token: token.into(),
        reason: None,
    }
}

fn take_as(queue: &str, way: Way, session: Option<&str>, came: Vec<Taken>) -> Op {
    let what = What::Take {
        way,
        session: session.map(str::to_owned),
        came,
        most: Some(20),
    };
    of(queue, what)
}

fn take(came: Vec<Taken>) -> Op {
    take_as("q", Way::Lock, None, came)
}

fn dead(value: &str, reason: &str) -> Op {
    let mut letter = taken(value, 1, 0, "0000000001d");
    letter.reason = Some(reason.into());
    take_as(&format!("q{DEAD}"), Way::Lock, None, vec![letter])
}

fn end_in(queue: &str, session: Option<&str>, token: &str, ending: Ending) -> Op {
    let what = What::End {
        value: String::new(),
        token: token.into(),
        ending,
        session: session.map(str::to_owned),
        held: true,
    };
    of(queue, what)
}

fn end(token: &str, ending: Ending) -> Op {
    end_in("q", None, token, ending)
}

fn give_up(reason: &str) -> Ending {
    let reason = reason.into();
    Ending::DeadLetter { reason }
}

fn accept(session: &str) -> Op {
    let session = Some(session.into());
    of("s", What::Accept { session })
}

fn leave(session: &str) -> Op {
    let session = session.into();
    of("s", What::Leave { session })
}

fn set(session: &str, state: &str) -> Op {
    let (session, state) = (session.into(), state.into());
    of("s", What::SetState { session, state })
}

fn state(session: &str, state: Option<&str>) -> Op {
    let (session, state) = (session.into(), state.map(str::to_owned));
    of("s", What::State { session, state })
}

fn restart() -> Op {
    Op::Restart {
        how: "kill".into(),
        damaged: Vec::new(),
        ready_us: None,
    }
}

fn good() -> Vec<Step> {
    let make = |queue: &str| {
        let what = What::Make {
            lock_ms: 8_000,
            resends: false,
            max_deliveries: None,
            has_nodes: false,
        };
        of(queue, what)
    };
    let (letters, lock) = (format!("q{DEAD}"), Way::Lock);
    let s = |came| take_as("s", lock, Some("A"), came);
    use Phase::{Fail, Info, Ok};
    vec![
        ("", 1, Ok, make("q")),
        ("", 1, Ok, make(&letters)),
        ("", 1, Ok, make("s")),
        ("first", 1, Ok, send(&["a", "b", "c"])),
        ("perhaps", 1, Info, send(&["d"])),
        ("refused", 1, Fail, send(&["e"])),
        ("later", 1, Ok, schedule("f", 10_000)),
        ("never", 1, Ok, schedule("g", 10_000)),
        ("cancelled", 1, Ok, cancel("g")),
        (
            "receive",
            2,
            Ok,
            take(vec![
                taken("a", 1, 0, "0000000001a"),
                taken("b", 2, 0, "0000000001b"),
                taken("c", 3, 0, "0000000001c"),
            ]),
        ),
        ("complete", 2, Ok, end("0000000001a", Ending::Complete)),
        ("abandon", 2, Ok, end("0000000001b", Ending::Abandon)),
        ("again", 2, Ok, take(vec![taken("b", 2, 1, "0000000001e")])),
        ("defer", 2, Ok, end("0000000001e", Ending::Defer)),
        ("restart", 3, Ok, restart()),
        (
            "asked",
            2,
            Ok,
            take_as(
                "q",
                Way::Deferred,
                None,
                vec![taken("b", 2, 1, "0000000002a")],
            ),
        ),
        ("done", 2, Ok, end("0000000002a", Ending::Complete)),
        // The first lock on it was void.
        (
            "rest",
            2,
            Ok,
            take(vec![
                taken("c", 3, 0, "0000000002b"),
                taken("d", 4, 0, "0000000002c"),
            ]),
        ),
        ("reject", 2, Ok, end("0000000002b", give_up("bad"))),
        ("maybe", 2, Info, end("0000000002c", Ending::Complete)),
        (
            "due",
            2,
            Ok,
            take_as("q", Way::Delete, None, vec![taken("f", 5, 0, "")]),
        ),
        ("dead", 4, Ok, dead("c", "bad")),
        (
            "buried",
            4,
            Ok,
            end_in(&letters, None, "0000000001d", Ending::Complete),
        ),
        ("A", 5, Ok, in_session("A", &["x", "y"])),
        ("B", 5, Ok, in_session("B", &["z"])),
        ("mine", 6, Ok, accept("A")),
        ("set", 6, Ok, set("A", "one")),
        ("in order", 6, Ok, s(vec![taken("x", 1, 0, "0000000003a")])),
        (
            "x",
            6,
            Ok,
            end_in("s", Some("A"), "0000000003a", Ending::Complete),
        ),
        ("left", 6, Ok, leave("A")),
        ("yours", 7, Ok, accept("A")),
        ("state", 7, Ok, state("A", Some("one"))),
        ("next", 7, Ok, s(vec![taken("y", 2, 0, "0000000003b")])),
        (
            "y",
            7,
            Ok,
            end_in("s", Some("A"), "0000000003b", Ending::Complete),
        ),
        ("away", 7, Ok, leave("A")),
        ("theirs", 7, Ok, accept("B")),
        (
            "other",
            7,
            Ok,
            take_as("s", lock, Some("B"), vec![taken("z", 3, 0, "0000000003c")]),
        ),
        (
            "z",
            7,
            Ok,
            end_in("s", Some("B"), "0000000003c", Ending::Complete),
        ),
        ("gone", 7, Ok, leave("B")),
        ("empty", 8, Ok, of("q", What::Emptied)),
        ("no letters", 8, Ok, of(&letters, What::Emptied)),
        ("no sessions", 8, Ok, of("s", What::Emptied)),
    ]
}

fn laws_broken(steps: &[Step]) -> Vec<Law> {
    laws_broken_in(&history(steps))
}

fn history(steps: &[Step]) -> Vec<Entry> {
    let entries = steps
        .iter()
        .zip(0..)
        .flat_map(|((_, process, phase, op), at)| {
            // An invocation has nothing of the answer.
            [(Phase::Invoke, 2 * at), (*phase, 2 * at + 1)].map(|(phase, half)| Entry {
                process: *process,
                time: half * SECOND / 2,
                phase,
                op: op.clone(),
            })
        });
    entries.collect()
}

fn laws_broken_in(history: &[Entry]) -> Vec<Law> {
    let calls = calls(history);
    let mut findings = Findings::default();
    check(&calls, &mut findings);
    judged(&calls, &mut findings);
    let found = findings.in_order().into_iter();
    found.map(|found| found.law).collect()
}

/// With this step replaced the law is broken.
#[track_caller]
fn planted(law: Law, name: &str, phase: Phase, op: Op) {
    let mut steps = good();
    let step = steps.iter_mut().find(|(known, ..)| *known == name).unwrap();
    (step.2, step.3) = (phase, op);
    let broken = laws_broken(&steps);
    assert!(broken.contains(&law), "{law:?} by {name}: found {broken:?}");
}

/// With this step put in behind that one the law is broken.
#[track_caller]
fn added(law: Law, name: &str, process: u64, op: Op) {
    let mut steps = good();
    let at = steps.iter().position(|(known, ..)| *known == name).unwrap();
    steps.insert(at + 1, ("added", process, Phase::Ok, op));
    let broken = laws_broken(&steps);
    assert!(
        broken.contains(&law),
        "{law:?} behind {name}: found {broken:?}"
    );
}

/// What is broken once the step `name`, which is put in behind `behind`, was begun before the step `begun` was.
fn while_it_goes_on(behind: &str, begun: &str, op: Op) -> Vec<Law> {
    let mut steps = good();
    let of = |steps: &[Step], name: &str| steps.iter().position(|(known, ..)| *known == name);
    let at = of(&steps, behind).unwrap() + 1;
    steps.insert(at, ("long", LONG, Phase::Ok, op));
    let before = of(&steps, begun).unwrap();
    laws_broken_in(&begun_before(&steps, at, before))
}

/// The call of the step at `at` goes on since before the step at `before` was begun.
fn begun_before(steps: &[Step], at: usize, before: usize) -> Vec<Entry> {
    let mut history = history(steps);
    let mut invoke = history.remove(2 * at);
    invoke.time = history[2 * before].time;
    history.insert(2 * before, invoke);
    history
}

/// Without this step the law is broken.
#[track_caller]
fn missing(law: Law, name: &str) {
    let mut steps = good();
    steps.retain(|(known, ..)| *known != name);
    assert_eq!(steps.len(), good().len() - 1, "{name}");
    let broken = laws_broken(&steps);
    assert!(
        broken.contains(&law),
        "{law:?} without {name}: found {broken:?}"
    );
}

#[test]
fn a_good_history_breaks_no_law() {
    assert_eq!(laws_broken(&good()), Vec::new());
}

#[test]
fn what_was_accepted_comes_once_and_to_one_end() {
    use Phase::{Fail, Info, Ok};
    // Nobody is done with it, or it never came.
    missing(Law::Vanished, "complete");
    planted(
        Law::Vanished,
        "complete",
        Fail,
        end("0000000001a", Ending::Complete),
    );
    missing(Law::Vanished, "due");
    missing(Law::Vanished, "dead");
    missing(Law::Invented, "perhaps");
    planted(Law::Invented, "perhaps", Fail, send(&["d"]));
    let completed = |token| take(vec![taken("a", 1, 0, token)]);
    added(Law::SettledAgain, "again", 2, completed("0000000001f"));
    added(Law::SettledAgain, "rest", 2, completed("0000000002f"));
    let deleted = take_as("q", Way::Delete, None, vec![taken("f", 5, 0, "")]);
    added(Law::SettledAgain, "due", 2, deleted);
    let twice = end("0000000002b", Ending::Complete);
    added(Law::TwoEnds, "reject", 2, twice);
    // What nobody was told of may be either.
    let unknown = planted_without(&["reject", "dead", "buried"], "rest", Info, give_up("bad"));
    assert_eq!(unknown, Vec::new());
    planted(Law::Stuck, "empty", Fail, of("q", What::Emptied));
    missing(Law::NotJudged, "empty");
    added(Law::NotJudged, "empty", 1, send(&["h"]));
    planted(
        Law::Invented,
        "due",
        Ok,
        take(vec![taken("e", 5, 0, "0000000002d")]),
    );
}

/// Without these steps, and with another end of `c` behind that one.
fn planted_without(gone: &[&str], behind: &str, phase: Phase, ending: Ending) -> Vec<Law> {
    let mut steps = good();
    steps.retain(|(name, ..)| !gone.contains(name));
    let at = steps.iter().position(|(name, ..)| *name == behind).unwrap();
    steps.insert(at + 1, ("", 2, phase, end("0000000002b", ending)));
    // Nothing was given up for certain, and nothing need be dead: it is completed later.
    let again = take(vec![taken("c", 3, 0, "0000000004a")]);
    let done = end("0000000004a", Ending::Complete);
    let last = steps.iter().position(|(name, ..)| *name == "due").unwrap();
    let late = [
        ("", 9, Phase::Ok, restart()),
        ("", 2, Phase::Ok, again),
        ("", 2, Phase::Ok, done),
    ];
    steps.splice(last..last, late);
    laws_broken(&steps)
}

#[test]
fn numbers_are_dense_and_each_is_of_one_message() {
    use Phase::Ok;
    let came = |number| take(vec![taken("b", number, 1, "0000000001e")]);
    planted(Law::Duplicated, "again", Ok, came(6));
    let due = |number| take_as("q", Way::Delete, None, vec![taken("f", number, 0, "")]);
    planted(Law::OffsetReused, "due", Ok, due(4));
    planted(Law::RevisionGap, "due", Ok, due(6));
    planted(Law::OutOfOrder, "first", Ok, send(&["b", "a", "c"]));
    let mut steps = good();
    // A number below one that was answered before it was sent.
    let at = steps
        .iter()
        .position(|(name, ..)| *name == "first")
        .unwrap();
    steps[at].3 = send(&["b", "c"]);
    steps.insert(at + 1, ("", 1, Ok, send(&["a"])));
    assert!(laws_broken(&steps).contains(&Law::OutOfOrder));
}

#[test]
fn locks_and_failures_are_counted() {
    use Phase::Ok;
    let again = |failed| take(vec![taken("b", 2, failed, "0000000001e")]);
    planted(Law::DeliveryCount, "again", Ok, again(0));
    planted(Law::DeliveryCount, "again", Ok, again(3));
    // One lock may have run out since it was sent, and what a restart voids counts for nothing.
    let rest = vec![
        taken("c", 3, 2, "0000000002b"),
        taken("d", 4, 0, "0000000002c"),
    ];
    planted(Law::DeliveryCount, "rest", Ok, take(rest));
    let live = take(vec![taken("c", 3, 0, "0000000001f")]);
    added(Law::TwoLocks, "complete", 2, live);
    let same = take(vec![taken("b", 2, 1, "0000000001b")]);
    planted(Law::TwoLocks, "again", Ok, same);
    let late = end("0000000001c", Ending::Complete);
    added(Law::LockHeldTooLong, "asked", 2, late);
    let twice = end("0000000001a", Ending::Complete);
    added(Law::LockHeldTooLong, "abandon", 2, twice);
}

#[test]
fn what_nobody_saw_go_is_no_more_than_was_asked_for() {
    use Phase::{Info, Ok};
    let of = |steps: &[Step], name| steps.iter().position(|(known, ..)| *known == name);
    let after = |most: u32, came: Vec<Taken>| {
        let mut steps = good();
        let at = of(&steps, "due").unwrap();
        let mut op = take_as("q", Way::Delete, None, came);
        steps[at].3 = op.clone();
        if let Op::Messages(Messages {
            what: What::Take { most: told, .. },
            ..
        }) = &mut op
        {
            *told = Some(most);
        }
        steps.insert(at, ("", 71, Info, op));
        // One more that never comes, and has no number.
        let first = of(&steps, "first").unwrap();
        steps.insert(first + 1, ("", 12, Ok, send(&["h"])));
        laws_broken(&steps)
    };
    // Those that went unseen may have had numbers, which are fewer than the messages, since nothing came behind.
    let due = |number| vec![taken("f", number, 0, "")];
    assert_eq!(after(0, due(5)), [Law::Vanished]);
    assert_eq!(after(1, due(5)), Vec::new());
    assert_eq!(after(1, due(6)), Vec::new());
    assert_eq!(after(1, due(7)), [Law::RevisionGap]);
    assert_eq!(after(1, Vec::new()), [Law::Vanished]);
    assert_eq!(after(2, Vec::new()), Vec::new());
    let more = (0..21).map(|number| taken("a", number, 0, ""));
    planted(Law::WrongDelivery, "again", Ok, take(more.collect()));
}

/// With such a queue, this end of `c`, and this dead letter of it.
fn dies(max: Option<u32>, phase: Phase, ending: Ending, reason: &str) -> Vec<Law> {
    dies_behind(false, max, phase, ending, reason)
}

fn dies_behind(
    has_nodes: bool,
    max: Option<u32>,
    phase: Phase,
    ending: Ending,
    reason: &str,
) -> Vec<Law> {
    let mut steps = good();
    let make = of(
        "q",
        What::Make {
            lock_ms: 8_000,
            resends: false,
            max_deliveries: max,
            has_nodes,
        },
    );
    steps[0].3 = make;
    for (known, _, step_phase, op) in &mut steps {
        match *known {
            "rest" => {
                *op = take(vec![
                    taken("c", 3, 1, "0000000002b"),
                    taken("d", 4, 0, "0000000002c"),
                ]);
            }
            "reject" => (*step_phase, *op) = (phase, end("0000000002b", ending.clone())),
            "dead" => *op = dead("c", reason),
            _ => {}
        }
    }
    // It was given back once before.
    let behind = steps.iter().position(|(name, ..)| *name == "receive");
    let abandoned = end("0000000001c", Ending::Abandon);
    steps.insert(behind.unwrap() + 1, ("", 2, Phase::Ok, abandoned));
    laws_broken(&steps)
}

#[test]
fn what_is_dead_says_why() {
    use Phase::{Info, Ok};
    let wrong = [Law::WrongDelivery];
    assert_eq!(dies(None, Info, give_up("bad"), "bad"), []);
    assert_eq!(dies(None, Ok, give_up("bad"), TOO_OFTEN), wrong);
    assert_eq!(dies(Some(2), Ok, give_up("bad"), TOO_OFTEN), wrong);
    // The lock of nobody else ran out in one life of the server.
    assert_eq!(dies(Some(2), Ok, Ending::Abandon, TOO_OFTEN), []);
    assert_eq!(dies(Some(3), Ok, Ending::Abandon, TOO_OFTEN), wrong);
    // Between nodes one may have been lost, and run out before the restart.
    let of_nodes = |max| dies_behind(true, Some(max), Ok, Ending::Abandon, TOO_OFTEN);
    assert_eq!(of_nodes(3), []);
    assert_eq!(of_nodes(4), wrong);
    assert_eq!(dies(Some(2), Ok, Ending::Abandon, "bad"), wrong);
    // Neither could have come again.
    let broken = dies(Some(1), Ok, Ending::Abandon, TOO_OFTEN);
    assert_eq!(broken, [Law::DeliveryCount; 3]);
    // Somebody who was not answered wanted to give it up for another reason: he did not.
    let mut steps = good();
    let of = |name| {
        good()
            .iter()
            .position(|(known, ..)| *known == name)
            .unwrap()
    };
    steps[of("dead")].3 = dead("c", "worse");
    steps.insert(
        of("reject"),
        ("", 5, Info, end("0000000002b", give_up("worse"))),
    );
    assert_eq!(laws_broken(&steps), wrong);
}

#[test]
fn a_batch_is_there_as_a_whole() {
    use Phase::{Info, Ok};
    planted(Law::NotWhole, "perhaps", Info, send(&["d", "h"]));
    planted(Law::NotWhole, "perhaps", Info, send(&["h", "d"]));
    // Of which nothing is there may not be there at all.
    let mut steps = good();
    let at = steps.iter().position(|(name, ..)| *name == "perhaps");
    steps[at.unwrap()].3 = send(&["h", "i"]);
    steps.insert(at.unwrap(), ("", 12, Ok, send(&["d"])));
    assert_eq!(laws_broken(&steps), Vec::new());
}

/// The end of a lock, told to be over.
fn lost(token: &str, ending: Ending) -> Op {
    let mut op = end(token, ending);
    if let Op::Messages(Messages {
        what: What::End { held, .. },
        ..
    }) = &mut op
    {
        *held = false;
    }
    op
}

#[test]
fn who_was_refused_ended_nothing() {
    use Phase::{Ok, Unheard};
    let of = |steps: &[Step], name| steps.iter().position(|(known, ..)| *known == name);
    // Turned away without a decision: the lock lives on, and nobody else has one.
    let mut steps = good();
    let at = of(&steps, "complete").unwrap();
    steps[at] = ("", 2, Unheard, end("0000000001c", Ending::Complete));
    let live = take(vec![taken("c", 3, 0, "0000000001f")]);
    steps.insert(at + 1, ("", 5, Ok, live));
    assert!(laws_broken(&steps).contains(&Law::TwoLocks));
    // What was not put aside did not fail by that.
    let deferred = ("", 2, Unheard, end("0000000001c", Ending::Defer));
    let again = take(vec![taken("c", 3, 2, "0000000001f")]);
    let mut steps = good();
    let at = of(&steps, "rest").unwrap();
    steps.splice(at..at, [("", 5, Ok, again), ("", 9, Ok, restart())]);
    let at = of(&steps, "complete").unwrap();
    steps.insert(at, deferred);
    assert!(laws_broken(&steps).contains(&Law::DeliveryCount));
    // Of a lock that was lost it is known only that it was over, which this one was not.
    let early = lost("0000000001c", Ending::Complete);
    let mut steps = good();
    let at = of(&steps, "complete").unwrap();
    steps.insert(at, ("", 5, Ok, early.clone()));
    assert_eq!(laws_broken(&steps), [Law::LockLostEarly]);
    // Somebody may have ended it; or its shard has gone elsewhere, and nothing is handed out by it any more.
    let perhaps = end("0000000001c", Ending::Abandon);
    steps.insert(at, ("", 5, Phase::Info, perhaps));
    assert_eq!(laws_broken(&steps), Vec::new());
    let mut steps = good();
    let at = of(&steps, "again").unwrap();
    steps.insert(at + 1, ("", 5, Ok, early));
    assert_eq!(laws_broken(&steps), Vec::new());
}

#[test]
fn locks_of_calls_that_went_on_together_are_one_at_a_time() {
    let together = |behind, begun, came| while_it_goes_on(behind, begun, came);
    let live = || take(vec![taken("c", 3, 0, "0000000001f")]);
    assert_eq!(together("receive", "receive", live()), [Law::TwoLocks]);
    assert_eq!(together("abandon", "receive", live()), [Law::TwoLocks]);
    let deleted = take_as("q", Way::Delete, None, vec![taken("c", 3, 0, "")]);
    let broken = together("receive", "receive", deleted);
    assert!(broken.contains(&Law::TwoLocks), "{broken:?}");
    // One take brings it twice.
    let twice = vec![
        taken("b", 2, 1, "0000000001e"),
        taken("b", 2, 1, "0000000001f"),
    ];
    planted(Law::TwoLocks, "again", Phase::Ok, take(twice));
    // The first lock was given back, perhaps or not, before the call that went on all the time was over.
    let mut steps = good();
    steps.retain(|(name, ..)| *name != "again");
    let of = |name| steps.iter().position(|(known, ..)| *known == name).unwrap();
    let (first, abandon) = (of("receive"), of("abandon"));
    for phase in [Phase::Ok, Phase::Info] {
        let mut steps = steps.clone();
        steps[abandon].2 = phase;
        let again = take(vec![taken("b", 2, 1, "0000000001e")]);
        steps.insert(abandon + 1, ("", LONG, Phase::Ok, again));
        let history = begun_before(&steps, abandon + 1, first);
        assert_eq!(laws_broken_in(&history), Vec::new());
    }
    let others = together("theirs", "theirs", accept("B"));
    assert_eq!(others, [Law::TwoLocks]);
}

#[test]
fn what_was_put_aside_cancelled_or_given_up_stays_so() {
    use Phase::Ok;
    let unasked = take(vec![taken("b", 2, 1, "0000000002a")]);
    planted(Law::WrongDelivery, "asked", Ok, unasked);
    planted(
        Law::WrongDelivery,
        "defer",
        Ok,
        end("0000000001e", Ending::Abandon),
    );
    let cancelled = take_as("q", Way::Delete, None, vec![taken("g", 6, 0, "")]);
    added(Law::Resurrected, "due", 2, cancelled);
    planted(Law::TooSoon, "later", Ok, schedule("f", 60_000));
    planted(Law::WrongDelivery, "dead", Ok, dead("c", "other"));
    planted(Law::WrongDelivery, "dead", Ok, dead("a", "bad"));
    planted(Law::Invented, "dead", Ok, dead("e", "bad"));
    let given_up = take(vec![taken("c", 3, 0, "0000000002f")]);
    added(Law::SettledAgain, "reject", 2, given_up);
}

#[test]
fn a_session_is_one_receivers_and_in_order() {
    use Phase::{Fail, Ok};
    let s = |came| take_as("s", Way::Lock, Some("A"), came);
    added(Law::TwoLocks, "mine", 7, accept("A"));
    missing(Law::TwoLocks, "left");
    // Somebody else has it, and it is settled all the same.
    let mut steps = good();
    let at = steps.iter().position(|(name, ..)| *name == "left").unwrap();
    let late = end_in("s", Some("A"), "0000000003a", Ending::Complete);
    steps[at].2 = Fail;
    steps.insert(at + 2, ("", 6, Ok, late));
    assert!(laws_broken(&steps).contains(&Law::LockHeldTooLong));
    let mut steps = good();
    for (name, came) in [
        ("in order", taken("y", 2, 0, "0000000003a")),
        ("next", taken("x", 1, 0, "0000000003b")),
    ] {
        let step = steps.iter_mut().find(|(known, ..)| *known == name).unwrap();
        step.3 = s(vec![came]);
    }
    assert!(laws_broken(&steps).contains(&Law::OutOfOrder));
    let turned = vec![
        taken("y", 2, 0, "0000000003e"),
        taken("x", 1, 0, "0000000003a"),
    ];
    planted(Law::OutOfOrder, "in order", Ok, s(turned));
    planted(
        Law::WrongDelivery,
        "next",
        Ok,
        s(vec![taken("z", 3, 0, "0000000003b")]),
    );
    missing(Law::WrongDelivery, "theirs");
    planted(Law::Lost, "state", Ok, state("A", None));
    planted(Law::Lost, "state", Ok, state("A", Some("two")));
    added(Law::Lost, "set", 6, set("A", "two"));
    missing(Law::Lost, "set");
}

#[test]
fn what_is_scheduled_is_due_when_time_has_passed_or_a_clock_says_so() {
    let told = [
        (-3_600, 10_000, false),
        (3_600, 60_000, false),
        (-3_600, 60_000, true),
    ];
    for (seconds, delay_ms, is_early) in told {
        let mut steps = good();
        let at = steps.iter().position(|(known, ..)| *known == "later");
        let at = at.unwrap();
        steps[at].3 = schedule("f", delay_ms);
        let ms = seconds * 1_000;
        steps.insert(at + 1, ("stepped", 9, Phase::Ok, Op::Step { ms }));
        let broken = laws_broken(&steps);
        assert_eq!(
            broken.contains(&Law::TooSoon),
            is_early,
            "{seconds} s, {delay_ms} ms: {broken:?}"
        );
    }
}
