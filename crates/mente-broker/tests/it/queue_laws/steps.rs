//! What happens to queues, at random.

use proptest::prelude::*;

use super::model::{How, Rules, Time, Which};
use super::world::Fuse;

const LOCK: Time = 5_000;

#[derive(Clone, Debug)]
pub(super) struct NewMessage {
    pub(super) id: usize,
    pub(super) session: usize,
    pub(super) lives: Option<Time>,
    /// From now.
    pub(super) due: Option<Time>,
}

/// What happens. Which lock, message or session is meant is a number that is taken among those that there are.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Send(Vec<NewMessage>),
    Schedule(Vec<NewMessage>),
    Cancel(Vec<usize>),
    Take {
        of: Which,
        max: usize,
        deletes: bool,
        session: usize,
    },
    TakeDeferred {
        of: Which,
        nth: Vec<usize>,
        deletes: bool,
        session: usize,
    },
    End {
        of: Which,
        nth: Vec<usize>,
        how: How,
        note: Option<u8>,
    },
    Renew {
        of: Which,
        nth: Vec<usize>,
    },
    Peek {
        of: Which,
        from: u64,
        max: usize,
        session: Option<usize>,
    },
    Delete {
        of: Which,
        max: usize,
        ago: Time,
    },
    Accept(Option<usize>),
    RenewSession(usize),
    Release(usize),
    SetState(usize, Option<u8>),
    GetState(usize),
    Forward(bool),
    Pass(Time),
    /// The server dies when nothing goes on, and is not there for a while.
    Crash {
        down: Time,
    },
    /// It dies over this.
    Die {
        fuse: Fuse,
        over: Box<Self>,
    },
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![5 => Just(Which::Queue), 2 => Just(Which::Letters), 1 => Just(Which::Other)]
}

fn time() -> impl Strategy<Value = Time> {
    prop::sample::select(vec![
        1, 500, 1_000, 2_500, 4_999, LOCK, 6_000, 20_000, 20_001,
    ])
}

fn new_messages() -> impl Strategy<Value = Vec<NewMessage>> {
    let lives =
        prop_oneof![3 => Just(None), 1 => prop::sample::select(vec![1_000, 7_000]).prop_map(Some)];
    let due = prop_oneof![4 => Just(None), 1 => prop::sample::select(vec![0, 1_000, 8_000]).prop_map(Some)];
    let message = (0..6usize, 0..3usize, lives, due);
    let message = message.prop_map(|(id, session, lives, due)| NewMessage {
        id,
        session,
        lives,
        due,
    });
    prop::collection::vec(message, 1..4)
}

/// What may be under way when the server dies.
fn act() -> impl Strategy<Value = Step> {
    let nth = || prop::collection::vec(0..9usize, 1..4);
    let how = prop_oneof![
        4 => Just(How::Complete), 3 => Just(How::CompleteSoon), 3 => Just(How::Abandon), 2 => Just(How::Defer),
        2 => Just(How::DeadLetter), 1 => Just(How::Return)
    ];
    let of_messages = prop_oneof![
        6 => new_messages().prop_map(Step::Send),
        2 => new_messages().prop_map(Step::Schedule),
        1 => nth().prop_map(Step::Cancel),
        7 => (which(), 1..5usize, prop::bool::weighted(0.15), 0..3usize)
            .prop_map(|(of, max, deletes, session)| Step::Take { of, max, deletes, session }),
        2 => (which(), nth(), prop::bool::weighted(0.3), 0..3usize)
            .prop_map(|(of, nth, deletes, session)| Step::TakeDeferred { of, nth, deletes, session }),
        8 => (which(), nth(), how, prop::option::of(0..9u8))
            .prop_map(|(of, nth, how, note)| Step::End { of, nth, how, note }),
        1 => (which(), nth()).prop_map(|(of, nth)| Step::Renew { of, nth }),
        1 => (which(), 1..4usize, 0..5_000i64).prop_map(|(of, max, ago)| Step::Delete { of, max, ago }),
        1 => any::<bool>().prop_map(Step::Forward),
        4 => time().prop_map(Step::Pass),
    ];
    prop_oneof![5 => of_messages, 1 => of_sessions()]
}

fn of_sessions() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::option::of(0..3usize).prop_map(Step::Accept),
        1 => (0..3usize).prop_map(Step::RenewSession),
        1 => (0..3usize).prop_map(Step::Release),
        2 => (0..3usize, prop::option::of(0..9u8)).prop_map(|(nth, state)| Step::SetState(nth, state)),
        1 => (0..3usize).prop_map(Step::GetState),
    ]
}

fn die(over: impl Strategy<Value = Step>) -> impl Strategy<Value = Step> {
    let fuse = (0..4u32, any::<bool>()).prop_map(|(appends, is_done)| Fuse { appends, is_done });
    (fuse, over).prop_map(|(fuse, over)| Step::Die {
        fuse,
        over: Box::new(over),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let peek = (which(), 0..9u64, 1..5usize, prop::option::of(0..3usize));
    prop_oneof![
        16 => act(),
        1 => peek.prop_map(|(of, from, max, session)| Step::Peek { of, from, max, session }),
        1 => prop::option::of(time()).prop_map(|down| Step::Crash { down: down.unwrap_or(0) }),
        2 => die(act()),
    ]
}

/// Much goes elsewhere while the server dies.
fn rough_step() -> impl Strategy<Value = Step> {
    let end = || {
        let nth = prop::collection::vec(0..5usize, 1..4);
        let how =
            prop_oneof![3 => Just(How::DeadLetter), 2 => Just(How::Abandon), 1 => Just(How::Defer)];
        let note = prop::option::of(0..9u8);
        let of = Which::Queue;
        (nth, how, note).prop_map(move |(nth, how, note)| Step::End { of, nth, how, note })
    };
    let take = (1..5usize, 0..2usize).prop_map(|(max, session)| Step::Take {
        of: Which::Queue,
        max,
        deletes: false,
        session,
    });
    prop_oneof![
        4 => new_messages().prop_map(Step::Send),
        5 => take,
        1 => Just(Step::Accept(None)),
        1 => any::<bool>().prop_map(Step::Forward),
        1 => end(),
        4 => die(end()),
        1 => die(new_messages().prop_map(Step::Send)),
        1 => die(time().prop_map(Step::Pass)),
    ]
}

/// The same ids come again and again, at the edges of their window too.
fn repeating_step() -> impl Strategy<Value = Step> {
    let times = prop::sample::select(vec![1, 9_999, 10_000, 20_000]);
    let down = times.clone().prop_map(|down| Step::Crash { down });
    let take = Step::Take {
        of: Which::Queue,
        max: 3,
        deletes: true,
        session: 0,
    };
    prop_oneof![
        5 => new_messages().prop_map(Step::Send),
        1 => new_messages().prop_map(Step::Schedule),
        3 => times.prop_map(Step::Pass),
        1 => down,
        1 => Just(take),
        1 => Just(Step::Accept(None)),
    ]
}

/// Sessions change hands, and what is kept with them changes.
fn session_step() -> impl Strategy<Value = Step> {
    let down = time().prop_map(|down| Step::Crash { down });
    prop_oneof![6 => of_sessions(), 4 => act(), 1 => down, 1 => die(of_sessions())]
}

pub(super) fn stories() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        2 => prop::collection::vec(step(), 1..60),
        1 => prop::collection::vec(rough_step(), 10..50),
        1 => prop::collection::vec(session_step(), 10..50),
        1 => prop::collection::vec(repeating_step(), 10..40),
    ]
}

pub(super) fn rules() -> impl Strategy<Value = Rules> {
    let rarely = || prop::bool::weighted(0.25);
    let most = prop_oneof![Just(2), Just(10)];
    let all = (
        rarely(),
        any::<bool>(),
        most,
        any::<bool>(),
        rarely(),
        rarely(),
    );
    all.prop_map(
        |(has_sessions, drops, max_delivery_count, letters_on_expiry, lives, forwards_letters)| {
            Rules {
                lock: LOCK,
                max_delivery_count,
                has_sessions,
                window: drops.then_some(20_000),
                letters_on_expiry,
                lives: lives.then_some(10_000),
                forwards_letters,
            }
        },
    )
}
