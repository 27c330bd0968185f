//! A history as clients outside tell it, in which every law holds, and every law broken in it.

use super::*;
use crate::history::{
    Delivered, Expect, Found, How, InStream, Letter, Op, Phase, Place, Placed, Row, To, Value,
};

/// A call by its name here; invoked and ended at once, in this order.
type Step = (&'static str, Phase, Op);

fn publish(values: &[(&str, &str)], placed: &[u64]) -> Op {
    let sent = |(value, kind): &(&str, &str)| Value {
        value: (*value).into(),
        kind: (*kind).into(),
        key: String::new(),
    };
    let at = |offset: &u64| {
        Placed::At(Place {
            partition: 0,
            offset: *offset,
        })
    };
    Op::Publish {
        topic: "t".into(),
        values: values.iter().map(sent).collect(),
        placed: placed.iter().map(at).collect(),
        whole: false,
    }
}

fn receive(deliveries: &[(&str, u32)]) -> Op {
    let delivered = |(value, count): &(&str, u32)| Delivered {
        token: format!("{value}#{count}"),
        count: *count,
        place: None,
        value: (*value).into(),
    };
    Op::Receive {
        subscription: "t/work".into(),
        deliveries: deliveries.iter().map(delivered).collect(),
    }
}

fn settle(value: &str, count: u32, how: How) -> Op {
    Op::Settle {
        subscription: "t/work".into(),
        token: format!("{value}#{count}"),
        value: value.into(),
        how,
        delay_ms: 0,
        held: true,
    }
}

fn hear(value: &str, status: u16) -> Op {
    Op::Hear {
        subscription: "t/hook".into(),
        value: value.into(),
        status,
    }
}

fn append(id: &str, expected: Expect, to: Option<(u64, bool)>) -> Op {
    let to = to.map(|(at, repeated)| To {
        first_revision: at,
        last_revision: at,
        last_position: at,
        repeated,
    });
    Op::Append {
        stream: "s".into(),
        expected,
        ids: vec![id.into()],
        to,
    }
}

fn read(values: &[&str]) -> Op {
    let found = values.iter().zip(0..).map(|(value, offset)| Found {
        offset,
        value: (*value).into(),
    });
    Op::Read {
        topic: "t".into(),
        partition: 0,
        start: 0,
        end: Some(values.len() as u64),
        from: 0,
        next: values.len() as u64,
        found: found.collect(),
    }
}

/// As a reader on its way sees it.
fn without_end(mut op: Op) -> Op {
    if let Op::Read { end, .. } = &mut op {
        *end = None;
    }
    op
}

fn letter(value: &str, origin: &str) -> Letter {
    Letter {
        origin: origin.into(),
        reason: None,
        value: value.into(),
    }
}

fn good() -> Vec<Step> {
    let subscribe = |name: &str, kind: Option<&str>| Op::Subscribe {
        subscription: format!("t/{name}"),
        topic: "t".into(),
        kind: kind.map(str::to_owned),
        lock_ms: 1_000,
        max_deliveries: 10,
        ttl_ms: None,
        ordered: false,
    };
    let drained = |name: &str| Op::Drained {
        subscription: format!("t/{name}"),
    };
    let letters = |name: &str, letters: Vec<Letter>| Op::DeadLetters {
        subscription: format!("t/{name}"),
        letters,
    };
    let in_stream = |revision, id: &str| InStream {
        stream: None,
        revision,
        position: revision,
        id: id.into(),
    };
    let rows = Op::Rows {
        rows: vec![Row {
            stream: "s".into(),
            events: 2,
            last: "y".into(),
        }],
    };
    let restart = Op::Restart {
        how: "kill".into(),
        damaged: Vec::new(),
        ready_us: None,
    };
    let stream = Op::ReadStream {
        stream: "s".into(),
        events: vec![in_stream(0, "x"), in_stream(1, "y")],
    };
    use Phase::{Fail, Info, Ok};
    vec![
        ("", Ok, subscribe("work", None)),
        ("", Ok, subscribe("hook", Some("pushed"))),
        (
            "first",
            Ok,
            publish(&[("a", "plain"), ("b", "pushed")], &[0, 1]),
        ),
        ("perhaps", Info, publish(&[("c", "pushed")], &[])),
        ("refused", Fail, publish(&[("d", "plain")], &[])),
        ("reader", Ok, without_end(read(&["a", "b"]))),
        ("receive", Ok, receive(&[("a", 1), ("b", 1)])),
        ("complete", Ok, settle("a", 1, How::Complete)),
        ("release", Ok, settle("b", 1, How::Release)),
        ("restart", Ok, restart),
        ("again", Ok, receive(&[("b", 2), ("c", 1)])),
        ("reject", Ok, settle("b", 2, How::Reject)),
        ("maybe", Info, settle("c", 1, How::Complete)),
        ("heard", Ok, hear("b", 204)),
        ("busy", Ok, hear("c", 503)),
        ("never", Ok, hear("c", 400)),
        ("begin", Ok, append("x", Expect::NoStream, Some((0, false)))),
        ("broken", Info, append("y", Expect::Revision(0), None)),
        (
            "retry",
            Ok,
            append("y", Expect::Revision(0), Some((1, true))),
        ),
        ("loser", Fail, append("z", Expect::Revision(0), None)),
        ("drained", Ok, drained("work")),
        ("pushed", Ok, drained("hook")),
        ("dead", Ok, letters("work", vec![letter("b", "0-1")])),
        ("gone", Ok, letters("hook", vec![letter("c", "0-2")])),
        ("end", Ok, read(&["a", "b", "c"])),
        ("stream", Ok, stream),
        ("rows", Ok, rows),
        ("verify", Ok, Op::Verify { differing: vec![] }),
    ]
}

fn laws_broken(steps: &[Step]) -> Vec<Law> {
    let entries = steps.iter().zip(0..).flat_map(|((_, phase, op), time)| {
        [Phase::Invoke, *phase].map(|phase| Entry {
            process: 1,
            time,
            phase,
            op: op.clone(),
        })
    });
    let history: Vec<_> = entries.collect();
    check_to_end(&history)
        .into_iter()
        .map(|found| found.law)
        .collect()
}

/// With this step replaced the law is broken.
fn planted(law: Law, name: &str, phase: Phase, op: Op) {
    let mut steps = good();
    let step = steps.iter_mut().find(|(known, ..)| *known == name).unwrap();
    (step.1, step.2) = (phase, op);
    let broken = laws_broken(&steps);
    assert!(broken.contains(&law), "{law:?} by {name}: found {broken:?}");
}

/// Without this step the law is broken.
fn missing(law: Law, name: &str) {
    let steps: Vec<_> = good()
        .into_iter()
        .filter(|(known, ..)| *known != name)
        .collect();
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
fn log_laws() {
    let end = |values: &[&str]| read(values);
    planted(Law::Lost, "end", Phase::Ok, end(&["a"]));
    // Seen by a reader, acknowledged to nobody.
    planted(Law::Lost, "reader", Phase::Ok, end(&["a", "b", "c", "e"]));
    planted(Law::OffsetReused, "end", Phase::Ok, end(&["b", "a", "c"]));
    planted(Law::Lost, "end", Phase::Ok, end(&["b", "a", "c"]));
    planted(
        Law::Invented,
        "end",
        Phase::Ok,
        end(&["a", "b", "c", "nobody's"]),
    );
    planted(Law::Invented, "end", Phase::Ok, end(&["a", "b", "c", "d"]));
    planted(
        Law::Duplicated,
        "end",
        Phase::Ok,
        end(&["a", "b", "c", "a"]),
    );
    let later = publish(&[("d", "plain")], &[1]);
    planted(Law::OffsetReused, "refused", Phase::Ok, later.clone());
    planted(Law::OutOfOrder, "refused", Phase::Ok, later);
    let backwards = publish(&[("a", "plain"), ("b", "pushed")], &[1, 0]);
    planted(Law::OutOfOrder, "first", Phase::Ok, backwards);
    missing(Law::NotJudged, "end");
}

#[test]
fn queue_laws() {
    let again = receive(&[("b", 2), ("c", 1), ("a", 2)]);
    planted(Law::SettledAgain, "again", Phase::Ok, again);
    let stranger = receive(&[("b", 2), ("c", 1), ("nobody's", 1)]);
    planted(Law::Invented, "again", Phase::Ok, stranger);
    // Neither done, nor dead.
    planted(
        Law::Vanished,
        "complete",
        Phase::Ok,
        settle("a", 1, How::Release),
    );
    planted(
        Law::Vanished,
        "maybe",
        Phase::Fail,
        settle("c", 1, How::Complete),
    );
    let letters = |letters| Op::DeadLetters {
        subscription: "t/work".into(),
        letters,
    };
    planted(Law::Vanished, "dead", Phase::Ok, letters(vec![]));
    let b = letter("b", "0-1");
    let twice = letters(vec![b.clone(), b.clone()]);
    planted(Law::TwoEnds, "dead", Phase::Ok, twice);
    let both = letters(vec![b.clone(), letter("a", "0-0")]);
    planted(Law::WrongDelivery, "dead", Phase::Ok, both);
    planted(
        Law::Invented,
        "dead",
        Phase::Ok,
        letters(vec![letter("b", "0-7")]),
    );
    planted(
        Law::Invented,
        "dead",
        Phase::Ok,
        letters(vec![b, letter("d", "0-3")]),
    );
    planted(
        Law::TwoEnds,
        "release",
        Phase::Ok,
        settle("b", 1, How::Complete),
    );
    missing(Law::NotJudged, "drained");
    missing(Law::NotJudged, "dead");
    let stays = Op::Drained {
        subscription: "t/work".into(),
    };
    planted(Law::Stuck, "drained", Phase::Fail, stays);
    // Delivered without its place, and nobody reads it.
    planted(Law::Lost, "end", Phase::Ok, read(&["a", "b"]));
}

#[test]
fn webhook_laws() {
    missing(Law::Vanished, "heard");
    planted(Law::Vanished, "heard", Phase::Ok, hear("b", 503));
    planted(Law::WrongDelivery, "never", Phase::Ok, hear("c", 503));
    // An event that its filter does not let through.
    planted(Law::WrongDelivery, "busy", Phase::Ok, hear("a", 204));
    planted(Law::Invented, "busy", Phase::Ok, hear("nobody's", 204));
    missing(Law::NotJudged, "pushed");
}

#[test]
fn stream_laws() {
    let stream = |ids: &[(u64, &str)]| Op::ReadStream {
        stream: "s".into(),
        events: ids
            .iter()
            .map(|(at, id)| InStream {
                stream: None,
                revision: *at,
                position: *at,
                id: (*id).into(),
            })
            .collect(),
    };
    planted(Law::Lost, "stream", Phase::Ok, stream(&[(0, "x")]));
    planted(
        Law::RevisionGap,
        "stream",
        Phase::Ok,
        stream(&[(0, "x"), (2, "y")]),
    );
    planted(
        Law::Duplicated,
        "stream",
        Phase::Ok,
        stream(&[(0, "x"), (1, "x")]),
    );
    planted(
        Law::OffsetReused,
        "stream",
        Phase::Ok,
        stream(&[(0, "y"), (1, "x")]),
    );
    planted(
        Law::Lost,
        "stream",
        Phase::Ok,
        stream(&[(0, "y"), (1, "x")]),
    );
    // Refused, and there.
    let loser = stream(&[(0, "x"), (1, "y"), (2, "z")]);
    planted(Law::Invented, "stream", Phase::Ok, loser);
    let win = append("z", Expect::Revision(0), Some((1, false)));
    planted(Law::WonTwice, "loser", Phase::Ok, win);
    let moved = append("y", Expect::Any, Some((1, true)));
    planted(
        Law::RetryAnsweredOtherwise,
        "loser",
        Phase::Ok,
        append_at(&moved, 2),
    );
    let anew = append("y", Expect::Revision(0), Some((1, false)));
    planted(Law::RetryAnsweredOtherwise, "loser", Phase::Ok, anew);
    // Told to be refused when it was repeated, and there all the same.
    let refused = append("y", Expect::Revision(0), None);
    planted(Law::Invented, "retry", Phase::Fail, refused);
    let gap = append("x", Expect::NoStream, Some((1, false)));
    planted(Law::RevisionGap, "begin", Phase::Ok, gap);
    missing(Law::NotJudged, "stream");
}

fn append_at(op: &Op, at: u64) -> Op {
    let mut moved = op.clone();
    if let Op::Append { to: Some(to), .. } = &mut moved {
        (to.first_revision, to.last_revision, to.last_position) = (at, at, at);
    }
    moved
}

#[test]
fn fold_laws_and_damage() {
    let row = |events, last: &str| Op::Rows {
        rows: vec![Row {
            stream: "s".into(),
            events,
            last: last.into(),
        }],
    };
    planted(Law::FoldDiffers, "rows", Phase::Ok, row(3, "y"));
    planted(Law::FoldDiffers, "rows", Phase::Ok, row(2, "x"));
    planted(
        Law::FoldDiffers,
        "rows",
        Phase::Ok,
        Op::Rows { rows: vec![] },
    );
    let differing = vec!["journal 3".into()];
    planted(
        Law::FoldDiffers,
        "verify",
        Phase::Ok,
        Op::Verify { differing },
    );
    let damaged = Op::Restart {
        how: "cut_xfs".into(),
        damaged: vec!["log 3-0 is read-only".into()],
        ready_us: None,
    };
    planted(Law::DamageWithoutRot, "restart", Phase::Ok, damaged);
    missing(Law::NotJudged, "rows");
    missing(Law::NotJudged, "verify");
}
