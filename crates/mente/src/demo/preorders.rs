//! Pre-orders: paid, reserved and sent by three services, each of which may fail. A saga leads a pre-order from one to the
//! next, and undoes what was done when a later one fails. What becomes of one follows from its number: the services
//! act by it, and the books know beforehand what each stream has to have in the end.

mod retold;

use anyhow::Result;
use mente_broker::identity::derived;
use serde_json::{Map, Value, json};

use super::roles::ask;
use crate::client::Client;
pub(crate) use retold::{Retold, Told, end};

/// The saga, and the category of its streams.
pub(crate) const SAGA: &str = "fulfilment";
/// What the saga tells a timer as.
pub(crate) const SILENCE: &str = "Mente.Timer";
/// What goes before each type of the shop's own.
pub(crate) const SHOP: &str = "shop.";
/// So many orders go with one pre-order, of which there are so many at least.
const ORDERS_EACH: u64 = 10;
const AT_LEAST: u64 = 20;
/// How long a payment may take: so long that no slow machine and no kill turns a good one into a late one.
const PATIENCE_MS: u64 = 30 * 60_000;
/// The same for one of which nothing will be heard in time.
const PATIENCE_FOR_THE_SILENT_MS: u64 = 300;

/// A service's name, which is the category of its streams, and what it may be asked.
pub(crate) type Trade = (&'static str, &'static [&'static str]);

/// In the order in which a pre-order comes to them.
pub(crate) const TRADES: [Trade; 3] = [
    ("payment", &["PaymentAsked", "RefundAsked"]),
    ("reservation", &["ReservationAsked", "ReleaseAsked"]),
    ("parcel", &["ParcelAsked"]),
];

/// What the saga is on, beside its timer.
const ON: [&str; 7] = [
    "PreorderPlaced",
    "PaymentTaken",
    "PaymentDeclined",
    "Reserved",
    "OutOfStock",
    "ParcelSent",
    "ParcelLost",
];

const FULFILMENT: &str = "const UNDONE_BY = { payment: 'RefundAsked', reservation: 'ReleaseAsked' };
const NEXT = {
  'shop.PaymentTaken': { did: 'payment', step: 'reserving', ask: ['reservation', 'ReservationAsked'] },
  'shop.Reserved': { did: 'reservation', step: 'shipping', ask: ['parcel', 'ParcelAsked'] },
  'shop.ParcelSent': { did: 'parcel', step: 'done', ask: ['preorder', 'PreorderFulfilled'] },
};
const WHY = {
  'shop.PaymentDeclined': 'no money',
  'shop.OutOfStock': 'out of stock',
  'shop.ParcelLost': 'parcel lost',
  'Mente.Timer': 'no answer in time',
};
function react(state, event) {
  const tell = (stream, type, more) => {
    const { order, price } = state;
    return { stream: `${stream}-${order}`, type: `shop.${type}`, data: { order, price, ...more } };
  };
  if (event.type === 'shop.PreorderPlaced') {
    const { order, price, patience } = event.data;
    Object.assign(state, { order, price, step: 'paying', done: [] });
    return { events: [tell('payment', 'PaymentAsked')], timers: { silence: patience } };
  }
  if (state.step === 'cancelled') {
    // Nobody waits for it any more, and yet the money is gone.
    if (event.type !== 'shop.PaymentTaken') return;
    state.step = 'repaid';
    return { events: [tell('payment', 'RefundAsked')] };
  }
  const timers = { silence: null };
  if (NEXT[event.type]) {
    const { did, step, ask } = NEXT[event.type];
    state.done.push(did);
    state.step = step;
    return { events: [tell(...ask)], timers };
  }
  // The last that was done is undone first.
  const undo = state.done.reverse().map((did) => tell(did, UNDONE_BY[did]));
  Object.assign(state, { step: 'cancelled', done: [] });
  return { events: [...undo, tell('preorder', 'PreorderCancelled', { why: WHY[event.type] })], timers };
}";

/// What becomes of a pre-order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Good,
    /// The payment is declined.
    Penniless,
    OutOfStock,
    /// The parcel goes astray.
    Lost,
    /// The payment is taken when it was given up.
    Silent,
}

pub(crate) fn fate(number: u64) -> Fate {
    match number % 10 {
        3 => Fate::Penniless,
        5 => Fate::OutOfStock,
        7 => Fate::Lost,
        9 => Fate::Silent,
        _ => Fate::Good,
    }
}

/// How many there are on a day of so many orders.
pub(crate) fn count(orders: u64) -> u64 {
    (orders / ORDERS_EACH).max(AT_LEAST)
}

/// A stream, the type of an event in it, and the type of what caused that; nothing caused the first one.
pub(crate) type Follows = (&'static str, &'static str, &'static str);

const GOOD: [Follows; 8] = [
    ("preorder", "PreorderPlaced", ""),
    ("payment", "PaymentAsked", "PreorderPlaced"),
    ("payment", "PaymentTaken", "PaymentAsked"),
    ("reservation", "ReservationAsked", "PaymentTaken"),
    ("reservation", "Reserved", "ReservationAsked"),
    ("parcel", "ParcelAsked", "Reserved"),
    ("parcel", "ParcelSent", "ParcelAsked"),
    ("preorder", "PreorderFulfilled", "ParcelSent"),
];
const PENNILESS: [Follows; 4] = [
    ("preorder", "PreorderPlaced", ""),
    ("payment", "PaymentAsked", "PreorderPlaced"),
    ("payment", "PaymentDeclined", "PaymentAsked"),
    ("preorder", "PreorderCancelled", "PaymentDeclined"),
];
const OUT_OF_STOCK: [Follows; 8] = [
    ("preorder", "PreorderPlaced", ""),
    ("payment", "PaymentAsked", "PreorderPlaced"),
    ("payment", "PaymentTaken", "PaymentAsked"),
    ("reservation", "ReservationAsked", "PaymentTaken"),
    ("reservation", "OutOfStock", "ReservationAsked"),
    ("payment", "RefundAsked", "OutOfStock"),
    ("preorder", "PreorderCancelled", "OutOfStock"),
    ("payment", "Refunded", "RefundAsked"),
];
const LOST: [Follows; 12] = [
    ("preorder", "PreorderPlaced", ""),
    ("payment", "PaymentAsked", "PreorderPlaced"),
    ("payment", "PaymentTaken", "PaymentAsked"),
    ("reservation", "ReservationAsked", "PaymentTaken"),
    ("reservation", "Reserved", "ReservationAsked"),
    ("parcel", "ParcelAsked", "Reserved"),
    ("parcel", "ParcelLost", "ParcelAsked"),
    ("reservation", "ReleaseAsked", "ParcelLost"),
    ("payment", "RefundAsked", "ParcelLost"),
    ("preorder", "PreorderCancelled", "ParcelLost"),
    ("reservation", "Released", "ReleaseAsked"),
    ("payment", "Refunded", "RefundAsked"),
];
const SILENT: [Follows; 6] = [
    ("preorder", "PreorderPlaced", ""),
    ("payment", "PaymentAsked", "PreorderPlaced"),
    ("preorder", "PreorderCancelled", SILENCE),
    ("payment", "PaymentTaken", "PaymentAsked"),
    ("payment", "RefundAsked", "PaymentTaken"),
    ("payment", "Refunded", "RefundAsked"),
];

impl Fate {
    /// Every event of such a pre-order, those of a stream in their order. Written down by hand: the saga's program and
    /// the services are held against it.
    pub(crate) fn events(self) -> &'static [Follows] {
        match self {
            Self::Good => &GOOD,
            Self::Penniless => &PENNILESS,
            Self::OutOfStock => &OUT_OF_STOCK,
            Self::Lost => &LOST,
            Self::Silent => &SILENT,
        }
    }

    /// The steps of the saga's course.
    pub(crate) fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Good => &["paying", "reserving", "shipping", "done"],
            Self::Penniless => &["paying", "cancelled"],
            Self::OutOfStock => &["paying", "reserving", "cancelled"],
            Self::Lost => &["paying", "reserving", "shipping", "cancelled"],
            Self::Silent => &["paying", "cancelled", "repaid"],
        }
    }

    /// Why it is cancelled; none that is fulfilled.
    pub(crate) fn why(self) -> Option<&'static str> {
        match self {
            Self::Good => None,
            Self::Penniless => Some("no money"),
            Self::OutOfStock => Some("out of stock"),
            Self::Lost => Some("parcel lost"),
            Self::Silent => Some("no answer in time"),
        }
    }

    /// What a service says to a question; nothing to one that there is not.
    pub(crate) fn answer(self, asked: &str) -> Option<&'static str> {
        Some(match (asked, self) {
            ("PaymentAsked", Self::Penniless) => "PaymentDeclined",
            ("PaymentAsked", _) => "PaymentTaken",
            ("RefundAsked", _) => "Refunded",
            ("ReservationAsked", Self::OutOfStock) => "OutOfStock",
            ("ReservationAsked", _) => "Reserved",
            ("ReleaseAsked", _) => "Released",
            ("ParcelAsked", Self::Lost) => "ParcelLost",
            ("ParcelAsked", _) => "ParcelSent",
            _ => return None,
        })
    }
}

/// Questions that so many pre-orders lead to.
pub(crate) fn questions(preorders: u64) -> usize {
    let events = (0..preorders).flat_map(|number| fate(number).events());
    events.filter(|(_, kind, _)| is_question(kind)).count()
}

pub(crate) fn is_question(kind: &str) -> bool {
    kind.ends_with("Asked")
}

/// Id of the answer to a question: answered again it is the same event.
pub(crate) fn answer_id(question: &str) -> String {
    derived(&["shop.Answer", question])
}

/// What is pre-ordered is not in the catalogue yet: it has prices of its own.
pub(crate) fn data(number: u64) -> Value {
    let patience = match fate(number) {
        Fate::Silent => PATIENCE_FOR_THE_SILENT_MS,
        _ => PATIENCE_MS,
    };
    let product = format!("novelty-{}", number % 5);
    json!({"order": number, "product": product, "price": 2_000 + number % 7 * 100, "patience": patience})
}

/// Declares the saga, on what is from now on.
pub(crate) async fn furnish(client: &Client) -> Result<()> {
    let key = |kind| (format!("{SHOP}{kind}"), json!("data.order"));
    let on: Map<_, _> = ON.into_iter().map(key).collect();
    let saga = json!({ "on": on, "javascript": FULFILMENT });
    ask(client, "PUT", &format!("/sagas/{SAGA}"), &saga).await?;
    Ok(())
}
