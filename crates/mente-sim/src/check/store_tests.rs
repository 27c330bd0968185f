//! Planted violations of the laws over the store, and over dead letters that were given back.

use super::tests::{Story, at, publish};
use super::*;
use crate::history::{
    Boundary, Delivered, Expect, How, InStream, Letter, Op, Part, Phase, Replayed, STORE, To, Told,
};

fn to(first: u64, count: u64, position: u64) -> To {
    To {
        first_revision: first,
        last_revision: first + count - 1,
        last_position: position,
        repeated: false,
    }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn append(names: &[&str], first: u64, position: u64) -> Op {
    Op::Append {
        stream: "s".into(),
        expected: Expect::Any,
        ids: ids(names),
        to: Some(to(first, names.len() as u64, position)),
    }
}

/// One event each for two streams, if nothing of the tag lies behind `after`.
fn two(names: [&str; 2], after: Option<u64>, [s, t]: [To; 2]) -> Op {
    let part = |stream: &str, id: &str| Part {
        stream: stream.into(),
        ids: ids(&[id]),
    };
    Op::AppendStore {
        parts: vec![part("s", names[0]), part("t", names[1])],
        tag: Some("seat".into()),
        check: Some(Boundary { after }),
        to: vec![s, t],
    }
}

fn event(stream: &str, (revision, position, id): (u64, u64, &str)) -> InStream {
    InStream {
        stream: Some(stream.into()),
        revision,
        position,
        id: id.into(),
    }
}

fn stream(events: &[(u64, u64, &str)]) -> Op {
    Op::ReadStream {
        stream: "s".into(),
        events: events.iter().map(|told| event("s", *told)).collect(),
    }
}

fn hide(before: u64) -> Op {
    Op::Hide {
        stream: "s".into(),
        before,
    }
}

#[test]
fn one_of_those_who_saw_the_same_wins() {
    let first = || two(["a", "b"], None, [to(0, 1, 0), to(0, 1, 1)]);
    let second = |after| two(["c", "d"], after, [to(1, 1, 2), to(1, 1, 3)]);
    let story = || Story::default().call(first());
    story().call(second(Some(1))).breaks(&[]);
    story().call(second(None)).breaks(&[Law::WonTwice]);
    story().call(second(Some(0))).breaks(&[Law::WonTwice]);
    // Nobody was told, but there it is.
    let store = Op::ReadStore {
        events: vec![
            event("s", (0, 0, "a")),
            event("t", (0, 1, "b")),
            event("s", (1, 2, "c")),
            event("t", (1, 3, "d")),
        ],
    };
    let story = story().ended(Phase::Info, second(None));
    story.call(store).breaks(&[Law::WonTwice]);
}

#[test]
fn an_append_is_there_as_one() {
    let tried = || {
        let append = two(["a", "b"], None, [to(0, 1, 0), to(0, 1, 1)]);
        Story::default().ended(Phase::Info, append)
    };
    let store = |events: &[InStream]| Op::ReadStore {
        events: events.to_vec(),
    };
    let (a, b) = (event("s", (0, 0, "a")), event("t", (0, 1, "b")));
    tried().call(store(&[a.clone(), b.clone()])).breaks(&[]);
    tried().call(store(&[])).breaks(&[]);
    tried()
        .call(store(std::slice::from_ref(&a)))
        .breaks(&[Law::NotWhole]);
    let other = Op::ReadStream {
        stream: "t".into(),
        events: vec![b],
    };
    tried()
        .call(other)
        .call(stream(&[]))
        .breaks(&[Law::NotWhole]);
    let apart = two(["a", "b"], None, [to(0, 1, 0), to(0, 1, 2)]);
    Story::default().call(apart).breaks(&[Law::NotWhole]);
}

#[test]
fn what_is_hidden_stays_hidden() {
    let story = || Story::default().call(append(&["a", "b", "c"], 0, 2));
    let (all, rest) = ([(0, 0, "a"), (1, 1, "b"), (2, 2, "c")], [(2, 2, "c")]);
    story().call(hide(2)).call(stream(&rest)).breaks(&[]);
    story()
        .call(hide(2))
        .call(stream(&all))
        .breaks(&[Law::Resurrected]);
    story().call(hide(2)).call(stream(&[])).breaks(&[Law::Lost]);
    story().call(hide(3)).call(stream(&[])).breaks(&[]);
    // Perhaps it is, perhaps not.
    let perhaps = || story().ended(Phase::Info, hide(2));
    perhaps().call(stream(&all)).breaks(&[]);
    perhaps().call(stream(&rest)).breaks(&[]);
    story()
        .call(stream(&rest))
        .breaks(&[Law::Lost, Law::NotWhole, Law::RevisionGap]);
    let again = |first| Op::Append {
        stream: "s".into(),
        expected: Expect::NoStream,
        ids: ids(&["d"]),
        to: Some(to(first, 1, 3)),
    };
    story().call(hide(3)).call(again(3)).breaks(&[]);
    story().call(again(3)).breaks(&[Law::RevisionGap]);
}

#[test]
fn a_state_is_the_fold_up_to_its_revision() {
    let story = || Story::default().call(append(&["a", "b", "c"], 0, 2));
    let state = |at, revision, names: &[&str]| Op::State {
        stream: "s".into(),
        at,
        told: Some(Told {
            revision,
            ids: ids(names),
            events: names.len() as u64,
        }),
    };
    story().call(state(Some(1), 1, &["a", "b"])).breaks(&[]);
    story().call(state(None, 2, &["a", "b", "c"])).breaks(&[]);
    story()
        .call(state(Some(1), 1, &["a"]))
        .breaks(&[Law::FoldDiffers]);
    story()
        .call(state(Some(1), 1, &["a", "c"]))
        .breaks(&[Law::FoldDiffers]);
    story()
        .call(state(None, 1, &["a", "b"]))
        .breaks(&[Law::FoldDiffers]);
    let hidden = || story().call(hide(1));
    hidden().call(state(Some(2), 2, &["b", "c"])).breaks(&[]);
    hidden()
        .call(state(Some(2), 2, &["a", "b", "c"]))
        .breaks(&[Law::Resurrected]);
}

/// A subscription whose record was rejected once.
fn rejected() -> Story {
    let subscribe = Op::Subscribe {
        subscription: "t/s".into(),
        topic: "t".into(),
        kind: None,
        lock_ms: 10_000,
        max_deliveries: 2,
        ttl_ms: None,
        ordered: false,
    };
    let story = Story::default().call(subscribe).call(publish("a", 0));
    let story = story.call(receive("t/s", "a", "1-1", 1));
    story
        .call(settle("t/s", "a", "1-1", How::Reject))
        .call(letters(&["a"]))
}

fn receive(subscription: &str, value: &str, token: &str, count: u32) -> Op {
    Op::Receive {
        subscription: subscription.into(),
        deliveries: vec![Delivered {
            token: token.into(),
            count,
            place: (subscription == "t/s").then(|| at(0)),
            value: value.into(),
        }],
    }
}

fn settle(subscription: &str, value: &str, token: &str, how: How) -> Op {
    Op::Settle {
        subscription: subscription.into(),
        token: token.into(),
        value: value.into(),
        how,
        delay_ms: 0,
        held: true,
    }
}

fn letters(values: &[&str]) -> Op {
    let letter = |value: &&str| Letter {
        origin: "0-0".into(),
        reason: None,
        value: (*value).into(),
    };
    Op::DeadLetters {
        subscription: "t/s".into(),
        letters: values.iter().map(letter).collect(),
    }
}

fn drained(subscription: &str) -> Op {
    Op::Drained {
        subscription: subscription.into(),
    }
}

#[test]
fn what_was_given_back_comes_again_and_nothing_else() {
    let replay = || Op::Replay {
        subscription: "t/s".into(),
        done: Some(Replayed {
            replayed: 1,
            all: true,
        }),
    };
    let again = || receive("t/s", "a", "1-2", 1);
    let completed = || settle("t/s", "a", "1-2", How::Complete);
    rejected().call(again()).breaks(&[Law::SettledAgain]);
    let revived = || rejected().call(replay()).call(again());
    revived()
        .call(completed())
        .call(letters(&[]))
        .call(drained("t/s"))
        .breaks(&[]);
    // Its letter may lie there still.
    revived()
        .call(completed())
        .call(letters(&["a"]))
        .call(drained("t/s"))
        .breaks(&[]);
    let third = receive("t/s", "a", "1-3", 1);
    revived()
        .call(completed())
        .call(third)
        .breaks(&[Law::SettledAgain]);
    let lost = rejected()
        .call(replay())
        .call(letters(&["a"]))
        .call(drained("t/s"));
    lost.breaks(&[Law::Vanished]);
    let twice = rejected().call(letters(&["a", "a"])).call(drained("t/s"));
    twice.breaks(&[Law::TwoEnds]);
}

#[test]
fn a_subscription_of_the_store_misses_nothing() {
    let name = "$store/all";
    let subscribe = Op::Subscribe {
        subscription: name.into(),
        topic: STORE.into(),
        kind: None,
        lock_ms: 10_000,
        max_deliveries: 2,
        ttl_ms: None,
        ordered: true,
    };
    let story = || {
        let story = Story::default()
            .call(subscribe.clone())
            .call(append(&["a", "b"], 0, 1));
        let story = story.call(receive(name, "a", "1-1", 1));
        story.call(settle(name, "a", "1-1", How::Complete))
    };
    let looked = Op::DeadLetters {
        subscription: name.into(),
        letters: Vec::new(),
    };
    let all = story().call(receive(name, "b", "1-2", 1));
    let all = all.call(settle(name, "b", "1-2", How::Complete));
    all.call(looked.clone()).call(drained(name)).breaks(&[]);
    story()
        .call(looked)
        .call(drained(name))
        .breaks(&[Law::Vanished]);
    story()
        .call(receive(name, "x", "1-2", 1))
        .breaks(&[Law::Invented]);
}
