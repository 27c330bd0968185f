//! Planted violations: each law is shown to fail where it must, and to hold where it may.

use super::*;
use crate::history::{
    Delivered, EXPIRED, Expect, Found, How, InStream, Letter, Op, Phase, Place, Placed, To, Value,
};

/// A history in the making. Every call takes a second of its own unless it is left open.
#[derive(Default)]
pub(super) struct Story {
    entries: Vec<Entry>,
    time: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Story {
    fn put(mut self, process: u64, phase: Phase, op: Op) -> Self {
        self.entries.push(Entry {
            process,
            time: self.time,
            phase,
            op,
        });
        self
    }

    pub(super) fn call(self, op: Op) -> Self {
        self.ended(Phase::Ok, op)
    }

    pub(super) fn ended(self, phase: Phase, op: Op) -> Self {
        let mut story = self.put(1, Phase::Invoke, op.clone()).put(1, phase, op);
        story.time += SECOND / 100;
        story
    }

    fn after(mut self, seconds: u64) -> Self {
        self.time += seconds * SECOND;
        self
    }

    #[track_caller]
    pub(super) fn breaks(self, laws: &[Law]) {
        let mut found: Vec<_> = check(&self.entries).into_iter().map(|v| v.law).collect();
        found.sort();
        found.dedup();
        assert_eq!(found, laws, "{:#?}", check(&self.entries));
    }
}

pub(super) fn at(offset: u64) -> Place {
    Place {
        partition: 0,
        offset,
    }
}

pub(super) fn publish(value: &str, offset: u64) -> Op {
    Op::Publish {
        topic: "t".into(),
        values: vec![Value {
            value: value.into(),
            kind: "even".into(),
            key: "k".into(),
        }],
        placed: vec![Placed::At(at(offset))],
        whole: false,
    }
}

fn read(start: u64, end: u64, found: &[(u64, &str)]) -> Op {
    let found = found.iter().map(|(offset, value)| Found {
        offset: *offset,
        value: (*value).into(),
    });
    Op::Read {
        topic: "t".into(),
        partition: 0,
        start,
        end: Some(end),
        from: start,
        next: end,
        found: found.collect(),
    }
}

#[test]
fn what_is_one_is_there_as_one() {
    let pair = |placed: &[u64]| {
        let value = |value: &str| Value {
            value: value.into(),
            kind: "even".into(),
            key: "k".into(),
        };
        let at = |(offset, partition): (&u64, u32)| {
            Placed::At(Place {
                partition,
                offset: *offset,
            })
        };
        Op::Publish {
            topic: "t".into(),
            values: vec![value("a"), value("b")],
            placed: placed.iter().zip(0..).map(at).collect(),
            whole: true,
        }
    };
    let second = |found: Op| match found {
        Op::Read {
            topic,
            start,
            end,
            from,
            next,
            found,
            ..
        } => Op::Read {
            topic,
            partition: 1,
            start,
            end,
            from,
            next,
            found,
        },
        other => other,
    };
    let unsure = || Story::default().ended(Phase::Info, pair(&[]));
    unsure()
        .call(read(0, 0, &[]))
        .call(second(read(0, 0, &[])))
        .breaks(&[]);
    let seen = || unsure().call(read(0, 1, &[(0, "a")]));
    seen().call(second(read(0, 1, &[(0, "b")]))).breaks(&[]);
    seen()
        .call(second(read(0, 0, &[])))
        .breaks(&[Law::NotWhole]);
}

fn trim(before: u64) -> Op {
    Op::Trim {
        topic: "t".into(),
        partition: 0,
        before,
    }
}

/// Two values, acknowledged at 0 and 1.
fn two() -> Story {
    Story::default().call(publish("a", 0)).call(publish("b", 1))
}

#[test]
fn an_honest_log_is_clean() {
    two()
        .call(read(0, 2, &[(0, "a"), (1, "b")]))
        .call(trim(1))
        .call(read(1, 2, &[(1, "b")]))
        .breaks(&[]);
    // Nobody knows of the second, and both are right.
    let unsure = || {
        Story::default()
            .call(publish("a", 0))
            .ended(Phase::Info, publish("b", 1))
    };
    unsure().call(read(0, 1, &[(0, "a")])).breaks(&[]);
    unsure().call(read(0, 2, &[(0, "a"), (1, "b")])).breaks(&[]);
    // Holes are the engine's.
    Story::default()
        .call(publish("a", 0))
        .call(publish("b", 5))
        .call(read(0, 6, &[(0, "a"), (5, "b")]))
        .breaks(&[]);
}

#[test]
fn what_was_acknowledged_or_seen_is_not_lost() {
    two().call(read(0, 1, &[(0, "a")])).breaks(&[Law::Lost]);
    two().call(read(0, 2, &[(1, "b")])).breaks(&[Law::Lost]);
    two().call(read(1, 2, &[(1, "b")])).breaks(&[Law::Lost]);
    two()
        .call(trim(1))
        .call(read(2, 2, &[]))
        .breaks(&[Law::Lost]);
    // Seen once, though never acknowledged.
    Story::default()
        .ended(Phase::Info, publish("a", 0))
        .call(read(0, 1, &[(0, "a")]))
        .call(read(0, 0, &[]))
        .breaks(&[Law::Lost]);
}

#[test]
fn nothing_is_invented_moved_or_put_twice() {
    two()
        .call(read(0, 3, &[(0, "a"), (1, "b"), (2, "c")]))
        .breaks(&[Law::Invented]);
    two()
        .ended(Phase::Fail, publish("c", 2))
        .call(read(0, 3, &[(0, "a"), (1, "b"), (2, "c")]))
        .breaks(&[Law::Invented]);
    two()
        .call(read(0, 3, &[(0, "a"), (1, "b"), (2, "b")]))
        .breaks(&[Law::Duplicated]);
    two()
        .call(publish("c", 1))
        .breaks(&[Law::OffsetReused, Law::OutOfOrder]);
    Story::default()
        .call(publish("a", 3))
        .call(publish("b", 2))
        .breaks(&[Law::OutOfOrder]);
    two()
        .call(trim(1))
        .call(read(1, 2, &[(1, "b")]))
        .call(read(0, 2, &[(0, "a"), (1, "b")]))
        .breaks(&[Law::Resurrected]);
    let gone = Op::DeleteTopic { topic: "t".into() };
    two()
        .call(gone)
        .call(read(0, 2, &[(0, "a"), (1, "b")]))
        .breaks(&[Law::Resurrected]);
}

fn subscribe() -> Op {
    subscribe_to("even", None)
}

fn subscribe_to(kind: &str, ttl_ms: Option<u64>) -> Op {
    Op::Subscribe {
        subscription: "t/s".into(),
        topic: "t".into(),
        kind: Some(kind.into()),
        lock_ms: 10_000,
        max_deliveries: 3,
        ttl_ms,
        ordered: true,
    }
}

fn receive(token: &str, count: u32) -> Op {
    receive_value("a", token, count)
}

fn receive_value(value: &str, token: &str, count: u32) -> Op {
    Op::Receive {
        subscription: "t/s".into(),
        deliveries: vec![Delivered {
            token: token.into(),
            count,
            place: Some(at(if value == "a" { 0 } else { 1 })),
            value: value.into(),
        }],
    }
}

fn settle(token: &str, how: How, held: bool) -> Op {
    Op::Settle {
        subscription: "t/s".into(),
        token: token.into(),
        value: "a".into(),
        how,
        delay_ms: 0,
        held,
    }
}

fn restart() -> Op {
    Op::Restart {
        how: "power".into(),
        damaged: Vec::new(),
        ready_us: None,
    }
}

fn out() -> Story {
    Story::default()
        .call(subscribe())
        .call(publish("a", 0))
        .call(receive("1", 1))
}

fn end(story: Story, letters: &[&str]) -> Story {
    end_by(story, letters, "Rejected")
}

fn end_by(story: Story, letters: &[&str], reason: &str) -> Story {
    let letters = letters.iter().map(|origin| Letter {
        origin: (*origin).into(),
        reason: Some(reason.into()),
        value: "a".into(),
    });
    let letters = Op::DeadLetters {
        subscription: "t/s".into(),
        letters: letters.collect(),
    };
    let drained = Op::Drained {
        subscription: "t/s".into(),
    };
    story.call(letters).call(drained)
}

#[test]
fn an_honest_queue_is_clean() {
    end(out().call(settle("1", How::Complete, true)), &[]).breaks(&[]);
    end(out().call(settle("1", How::Reject, true)), &["0-0"]).breaks(&[]);
    // Released, run out, lost by a restart, renewed.
    out()
        .call(settle("1", How::Release, true))
        .call(receive("2", 2))
        .breaks(&[]);
    out().after(11).call(receive("2", 2)).breaks(&[]);
    out().call(restart()).call(receive("2", 1)).breaks(&[]);
    out()
        .after(9)
        .call(settle("1", How::Renew, true))
        .after(5)
        .call(settle("1", How::Complete, true))
        .breaks(&[]);
    // A completion that nobody answered may have come too late.
    out()
        .ended(Phase::Info, settle("1", How::Complete, false))
        .call(restart())
        .call(receive("2", 1))
        .breaks(&[]);
}

#[test]
fn what_was_settled_does_not_come_again() {
    out()
        .call(settle("1", How::Complete, true))
        .call(receive("2", 2))
        .breaks(&[Law::SettledAgain]);
    out()
        .call(settle("1", How::Reject, true))
        .call(restart())
        .call(receive("2", 1))
        .breaks(&[Law::SettledAgain]);
}

#[test]
fn what_was_deleted_does_not_deliver() {
    let gone = Op::Unsubscribe {
        subscription: "t/s".into(),
    };
    let topic = Op::DeleteTopic { topic: "t".into() };
    let released = || out().call(settle("1", How::Release, true));
    released()
        .call(gone)
        .call(receive("2", 2))
        .breaks(&[Law::Resurrected]);
    released()
        .call(topic)
        .call(receive("2", 2))
        .breaks(&[Law::Resurrected]);
}

#[test]
fn one_lock_lives_at_a_time_and_ends_in_time() {
    out().call(receive("2", 2)).breaks(&[Law::TwoLocks]);
    let renewed = out().after(9).call(settle("1", How::Renew, true)).after(5);
    renewed.call(receive("2", 2)).breaks(&[Law::TwoLocks]);
    out()
        .after(11)
        .call(settle("1", How::Complete, true))
        .breaks(&[Law::LockHeldTooLong]);
    out()
        .call(restart())
        .call(settle("1", How::Complete, true))
        .breaks(&[Law::LockHeldTooLong]);
    out()
        .call(settle("1", How::Complete, true))
        .call(settle("1", How::Complete, true))
        .breaks(&[Law::LockHeldTooLong]);
}

#[test]
fn one_record_of_a_key_is_out_at_a_time() {
    let two = || out().call(publish("b", 1));
    let second = || receive_value("b", "2", 1);
    two().call(second()).breaks(&[Law::KeyOutTwice]);
    two()
        .call(settle("1", How::Complete, true))
        .call(second())
        .breaks(&[]);
    two().after(11).call(second()).breaks(&[]);
    two().call(restart()).call(second()).breaks(&[]);
}

fn release(delay_ms: u64) -> Op {
    let mut op = settle("1", How::Release, true);
    if let Op::Settle { delay_ms: of, .. } = &mut op {
        *of = delay_ms;
    }
    op
}

fn step(seconds: i64) -> Op {
    Op::Step {
        ms: seconds * 1_000,
    }
}

#[test]
fn a_delay_is_kept_by_the_monotone_clock() {
    let released = || out().call(release(5_000));
    released().after(5).call(receive("2", 2)).breaks(&[]);
    let early = || released().after(4);
    early().call(receive("2", 2)).breaks(&[Law::TooSoon]);
    // A step is no excuse while the server lives.
    let stepped = || released().call(step(3_600));
    stepped().call(receive("2", 2)).breaks(&[Law::TooSoon]);
    // Behind a restart it is what is left by the wall clock.
    stepped().call(restart()).call(receive("2", 2)).breaks(&[]);
    let restarted = early().call(restart());
    restarted.call(receive("2", 2)).breaks(&[Law::TooSoon]);
}

#[test]
fn a_time_to_live_is_one_of_the_wall_clock() {
    let sent = || {
        let begun = Story::default().call(subscribe_to("even", Some(60_000)));
        begun.call(publish("a", 0))
    };
    let dead = |story| end_by(story, &["0-0"], EXPIRED);
    dead(sent()).breaks(&[Law::ExpiredEarly]);
    dead(sent().call(step(-3_600))).breaks(&[Law::ExpiredEarly]);
    dead(sent().call(step(59))).breaks(&[Law::ExpiredEarly]);
    dead(sent().after(61)).breaks(&[]);
    dead(sent().call(step(3_600))).breaks(&[]);
    // Forward and back: it may have been found too old in between.
    dead(sent().call(step(3_600)).call(step(-3_600))).breaks(&[]);
    let received = |story: Story| story.call(receive("1", 1));
    received(sent().call(step(59))).breaks(&[]);
    received(sent().call(step(61))).breaks(&[Law::Expired]);
    received(sent().after(61)).breaks(&[Law::Expired]);
    received(sent().call(step(3_600)).call(step(-3_600))).breaks(&[]);
    received(sent().after(61).call(step(-30))).breaks(&[]);
    // For another reason, or where nothing expires.
    end_by(sent().after(61), &["0-0"], "Rejected").breaks(&[Law::WrongDelivery]);
    let never = out().after(61);
    end_by(never, &["0-0"], EXPIRED).breaks(&[Law::WrongDelivery]);
}

#[test]
fn a_server_that_is_away_for_a_while_may_have_let_go_of_its_locks() {
    let away = |story: Story| story.put(9, Phase::Invoke, restart());
    let back = |story: Story| story.put(9, Phase::Ok, restart());
    // Whoever is served before all others know that it is there again.
    back(away(out()).call(receive("2", 1))).breaks(&[]);
    let settled = |story: Story| story.call(settle("1", How::Complete, true));
    back(settled(away(out()))).breaks(&[]);
    settled(back(away(out()))).breaks(&[Law::LockHeldTooLong]);
}

#[test]
fn deliveries_are_counted() {
    out()
        .after(11)
        .call(receive("2", 1))
        .breaks(&[Law::DeliveryCount]);
    out()
        .call(settle("1", How::Release, true))
        .call(receive("2", 1))
        .breaks(&[Law::DeliveryCount]);
    out()
        .call(settle("1", How::Release, true))
        .call(receive("2", 3))
        .breaks(&[Law::DeliveryCount]);
    let second = || out().after(11).call(receive("2", 2)).after(11);
    second().call(receive("3", 3)).breaks(&[]);
    second()
        .call(receive("3", 3))
        .after(11)
        .call(receive("4", 4))
        .breaks(&[Law::DeliveryCount]);
}

#[test]
fn every_record_comes_to_one_end() {
    end(out().call(settle("1", How::Release, true)), &[]).breaks(&[Law::Vanished]);
    end(out().call(settle("1", How::Reject, true)), &[]).breaks(&[Law::Vanished]);
    let completed = || out().call(settle("1", How::Complete, true));
    end(completed(), &["0-0"]).breaks(&[Law::WrongDelivery, Law::TwoEnds]);
    let rejected = || out().call(settle("1", How::Reject, true));
    end(rejected(), &["0-0", "0-0"]).breaks(&[Law::TwoEnds]);
    let other = Story::default()
        .call(subscribe_to("odd", None))
        .call(publish("a", 0))
        .call(receive("1", 1));
    other.breaks(&[Law::WrongDelivery]);
}

fn append(expected: Expect, ids: &[&str], first: u64, position: u64, repeated: bool) -> Op {
    Op::Append {
        stream: "s".into(),
        expected,
        ids: ids.iter().map(|id| (*id).into()).collect(),
        to: Some(To {
            first_revision: first,
            last_revision: first + ids.len() as u64 - 1,
            last_position: position,
            repeated,
        }),
    }
}

fn events(of: &[(u64, u64, &str)]) -> Vec<InStream> {
    let event = |(revision, position, id): &(u64, u64, &str)| InStream {
        stream: Some("s".into()),
        revision: *revision,
        position: *position,
        id: (*id).into(),
    };
    of.iter().map(event).collect()
}

fn stream(of: &[(u64, u64, &str)]) -> Op {
    Op::ReadStream {
        stream: "s".into(),
        events: events(of),
    }
}

fn appended() -> Story {
    Story::default()
        .call(append(Expect::NoStream, &["a", "b"], 0, 1, false))
        .call(append(Expect::Revision(1), &["c"], 2, 2, false))
}

#[test]
fn an_honest_stream_is_clean() {
    let all = [(0, 0, "a"), (1, 1, "b"), (2, 2, "c")];
    appended()
        .call(append(Expect::NoStream, &["a", "b"], 0, 1, true))
        .ended(
            Phase::Fail,
            append(Expect::Revision(1), &["d"], 2, 2, false),
        )
        .call(stream(&all))
        .call(Op::ReadStore {
            events: events(&all),
        })
        .breaks(&[]);
}

#[test]
fn a_repeat_that_nobody_heard_tells_nothing_of_the_first() {
    let repeat = || append(Expect::Revision(1), &["c"], 2, 2, false);
    let never = || append(Expect::Revision(2), &["d"], 3, 3, false);
    appended()
        .ended(Phase::Unheard, repeat())
        .call(stream(&[(0, 0, "a"), (1, 1, "b"), (2, 2, "c")]))
        .breaks(&[]);
    appended()
        .ended(Phase::Unheard, never())
        .call(stream(&[
            (0, 0, "a"),
            (1, 1, "b"),
            (2, 2, "c"),
            (3, 3, "d"),
        ]))
        .breaks(&[Law::Invented]);
}

#[test]
fn streams_keep_their_laws() {
    appended()
        .call(stream(&[(0, 0, "a"), (1, 1, "b")]))
        .breaks(&[Law::Lost]);
    appended()
        .call(append(Expect::Revision(1), &["d"], 2, 3, false))
        .breaks(&[Law::OffsetReused, Law::WonTwice]);
    appended()
        .call(append(Expect::NoStream, &["a", "b"], 3, 4, false))
        .breaks(&[Law::RevisionGap, Law::RetryAnsweredOtherwise]);
    appended()
        .call(append(Expect::Any, &["d"], 3, 1, false))
        .breaks(&[Law::OutOfOrder, Law::OrderDisagreed]);
    appended()
        .call(stream(&[
            (0, 0, "a"),
            (1, 1, "b"),
            (2, 2, "c"),
            (3, 3, "x"),
        ]))
        .breaks(&[Law::Invented]);
    appended()
        .call(stream(&[(0, 0, "a"), (2, 2, "c")]))
        .breaks(&[Law::Lost, Law::NotWhole, Law::RevisionGap]);
    let store = |of: &[(u64, u64, &str)]| Op::ReadStore { events: events(of) };
    appended()
        .call(store(&[(0, 0, "a"), (1, 1, "b")]))
        .breaks(&[Law::Lost]);
    appended()
        .call(store(&[(0, 0, "a"), (1, 1, "b"), (2, 3, "c")]))
        .breaks(&[Law::RevisionGap]);
    appended()
        .call(stream(&[(0, 0, "a"), (1, 1, "b"), (2, 1, "c")]))
        .breaks(&[Law::OrderDisagreed]);
}

#[test]
fn folds_agree_and_damage_is_not_made_up() {
    let verify = Op::Verify {
        differing: vec!["journal 0".into()],
    };
    Story::default().call(verify).breaks(&[Law::FoldDiffers]);
    let restart = Op::Restart {
        how: "kill".into(),
        damaged: vec!["log 3".into()],
        ready_us: None,
    };
    Story::default()
        .call(restart)
        .breaks(&[Law::DamageWithoutRot]);
}
