//! Where a link leads: what its address names, whether that is there and open, and for a session whether it can be
//! had. A client waits for the answer, and a receiver of any session for as long as it said.

use std::sync::Arc;
use std::time::Duration;

use mente_broker::entity::{Entity, Receiving, Status};
use mente_broker::{
    Action, Broker, EntityName, Mode, Principal, SessionLock, SubscriptionName, WantedSession,
};
use mente_engine::{Timestamp, limits};
use mente_wire::amqp::performative::{Attach, Role, SenderSettleMode};
use mente_wire::amqp::value::{Map, Symbol, Value};
use mente_wire::amqp::{Destination, condition};

use super::Door;
use super::address::{Address, Letters, Place};
use super::client::{Desk, Done, Node};
use super::condition::{ENTITY_DISABLED, Refusal, TIMEOUT};
use super::tokens::{Claims, Need};

const SESSION_FILTER: &str = "com.microsoft:session-filter";
const LOCKED_UNTIL: Symbol = Symbol::from_static("com.microsoft:locked-until-utc");
const BATCH_BYTES: Symbol = Symbol::from_static("com.microsoft:max-message-batch-size");
/// Where a link sends that is attached to another entity, via which a transaction has its messages go.
const DESTINATION_PROPERTY: &str = "com.microsoft:transfer-destination-address";
/// How long the answer to an attach may take.
const WAIT_PROPERTY: &str = "com.microsoft:timeout";
const WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// How much before the end of its wait a client hears that there is no session: later it has given up.
const WAIT_MARGIN: Duration = Duration::from_millis(200);

/// .NET's ticks, of 100 ns, from the year 1 to 1970.
const TICKS_BEFORE_1970: i64 = 621_355_968_000_000_000;
const TICKS_PER_MS: i64 = 10_000;

/// Where a link leads.
#[derive(Debug)]
pub(super) enum Lead {
    /// To the coordinator of transactions.
    Coordinator,
    Requests(Node),
    Replies(Node),
    Sender {
        who: Principal,
        to: EntityName,
        path: String,
        /// Largest message.
        bytes: u64,
        requires_session: bool,
    },
    Receiver {
        who: Principal,
        view: SubscriptionName,
        mode: Mode,
        has_sessions: bool,
        session: Option<(SessionLock, Timestamp)>,
    },
}

/// What an attach asks for, without anything of the frame that it came in.
struct Wanted {
    role: Role,
    address: Result<Address, String>,
    /// The address that it is attached to, if it sends elsewhere.
    via: Option<Result<Address, String>>,
    is_coordinator: bool,
    mode: Mode,
    /// The filter is there: for a session of a name, or for any.
    session: Option<WantedSession>,
    wait: Duration,
}

/// Finds out where a link leads that a client asks for.
pub(super) fn lead(
    door: &Arc<Door>,
    claims: &Claims,
    attach: &Attach,
) -> impl Future<Output = Result<Lead, Refusal>> + Send + 'static {
    let wanted = Wanted::of(attach);
    let who = match need(attach) {
        Some(need) => claims.right(door, &need).map(|right| right.who),
        None => Ok(Principal::Anonymous),
    };
    let via = via(attach).map(|address| need_of(address, attach.role));
    let may_via = via.flatten().map(|need| claims.right(door, &need));
    let who = may_via.transpose().and(who);
    let door = Arc::clone(door);
    async move { wanted?.lead(&door.broker, who?).await }
}

/// What a client must be allowed for a link; who shows tokens needs none for that. A coordinator has no
/// address: who sends and settles within a transaction says who he is on the links that he does it by.
pub(super) fn need(attach: &Attach) -> Option<Need> {
    if matches!(attach.target, Some(Destination::Coordinator(_))) {
        return None;
    }
    need_of(address_of(attach), attach.role)
}

fn need_of(address: &str, role: Role) -> Option<Need> {
    let action = match Address::parse(address) {
        Ok(Address::Tokens) => return None,
        Ok(Address::Management(_)) | Err(_) => None,
        Ok(Address::Entity(place)) => {
            let action = match role {
                Role::Sender => Action::Send,
                Role::Receiver => Action::Listen,
            };
            Some((action, place.entity))
        }
    };
    let address = address.to_owned();
    Some(Need { address, action })
}

/// What a link is attached to that sends elsewhere.
fn via(attach: &Attach) -> Option<&str> {
    destination(attach).map(|_| attached_to(attach))
}

/// Where a link sends, if that is not what it is attached to.
fn destination(attach: &Attach) -> Option<&str> {
    let properties = attach.properties.as_ref();
    let said = properties.and_then(|properties| properties.get(DESTINATION_PROPERTY)?.as_str());
    said.filter(|_| attach.role == Role::Sender)
}

/// Of the node at the server's end.
fn address_of(attach: &Attach) -> &str {
    destination(attach).unwrap_or_else(|| attached_to(attach))
}

fn attached_to(attach: &Attach) -> &str {
    let source = attach.source.as_ref();
    let address = match (attach.role, &attach.target) {
        (Role::Receiver, _) => source.and_then(|source| source.address.as_ref()),
        (Role::Sender, Some(Destination::Target(target))) => target.address.as_ref(),
        (Role::Sender, _) => None,
    };
    address.map_or("", |address| address.as_str())
}

impl Wanted {
    fn of(attach: &Attach) -> Result<Self, Refusal> {
        let source = attach.source.as_ref();
        let filter = source.and_then(|source| source.filter.as_ref());
        let filter = filter.and_then(|filter| filter.get(SESSION_FILTER));
        let session = match filter.map(Value::undescribed) {
            None => None,
            Some(Value::Null) => Some(WantedSession::Next),
            Some(name) => match name.as_str() {
                Some(name) => Some(WantedSession::Named(name.to_owned())),
                None => {
                    let words = "a session filter that is neither a text nor null";
                    return Err(Refusal::argument(words));
                }
            },
        };
        let wait = attach.properties.as_ref();
        let wait = wait.and_then(|properties| properties.get(WAIT_PROPERTY)?.as_integer());
        let wait = wait.and_then(|ms| u64::try_from(ms).ok());
        let wait = wait.map_or(WAIT_DEFAULT, Duration::from_millis);
        Ok(Self {
            role: attach.role,
            address: Address::parse(address_of(attach)),
            via: via(attach).map(Address::parse),
            is_coordinator: matches!(attach.target, Some(Destination::Coordinator(_))),
            mode: match attach.sender_settles {
                SenderSettleMode::Settled => Mode::Delete,
                SenderSettleMode::Unsettled | SenderSettleMode::Mixed => Mode::Lock,
            },
            session,
            wait: wait
                .min(Duration::from_secs(limits::RECEIVE_WAIT_SECONDS.into()))
                .saturating_sub(WAIT_MARGIN),
        })
    }

    async fn lead(self, broker: &Broker, who: Principal) -> Result<Lead, Refusal> {
        if self.is_coordinator {
            return match self.role {
                Role::Sender => Ok(Lead::Coordinator),
                Role::Receiver => Err(Refusal::not_allowed(
                    "the coordinator of transactions sends nothing",
                )),
            };
        }
        let not_found = |message| Refusal::new(condition::NOT_FOUND, 404, message);
        match self.via.clone().transpose().map_err(not_found)? {
            None => {}
            Some(Address::Entity(place)) => drop(entity(broker, &who, &place).await?),
            Some(_) => {
                let words = "no message goes on via a node that answers requests";
                return Err(Refusal::not_allowed(words));
            }
        }
        let node = match self.address.clone().map_err(not_found)? {
            Address::Tokens => Node::Tokens,
            Address::Management(place) => {
                let found = find(broker, &who, &place).await?;
                let receiving = found.receiving;
                Node::Management {
                    who,
                    place,
                    has_sessions: receiving.is_some_and(|receiving| receiving.requires_session),
                }
            }
            Address::Entity(place) => {
                return match self.role {
                    Role::Sender => sender(broker, who, &place).await,
                    Role::Receiver => self.receiver(broker, who, &place).await,
                };
            }
        };
        Ok(match self.role {
            Role::Sender => Lead::Requests(node),
            Role::Receiver => Lead::Replies(node),
        })
    }

    async fn receiver(
        self,
        broker: &Broker,
        who: Principal,
        place: &Place,
    ) -> Result<Lead, Refusal> {
        let found = find(broker, &who, place).await?;
        let path = place.path();
        let Some(receiving) = found.receiving else {
            return Err(Refusal::not_allowed(format!(
                "{path} is a topic: its messages are received from {path}/Subscriptions/NAME"
            )));
        };
        if !found.may_receive {
            return Err(disabled(&path, "receive from"));
        }
        if let Some(to) = &receiving.forward_to
            && place.letters.is_none()
        {
            return Err(Refusal::not_allowed(format!(
                "{path} forwards its messages to {}: receive them there",
                to.as_path()
            )));
        }
        let view = place.view();
        // What was given up on is in no session.
        let has_sessions = receiving.requires_session && place.letters.is_none();
        let session = match (self.session, has_sessions) {
            (None, false) => None,
            (None, true) => {
                return Err(Refusal::not_allowed(format!(
                    "{path} requires sessions: it is not possible to create a non-sessionful receiver for it"
                )));
            }
            (Some(_), false) => {
                return Err(Refusal::not_allowed(format!(
                    "{path} does not require sessions: a sessionful receiver cannot be created on it"
                )));
            }
            (Some(wanted), true) => {
                let accepted = broker.accept_session(&who, &view, wanted, self.wait).await;
                let accepted = accepted.map_err(Refusal::of_session)?;
                let Some(accepted) = accepted else {
                    let words = format!("no session of {path} is free and has messages");
                    return Err(Refusal::new(TIMEOUT, 408, words));
                };
                Some(accepted)
            }
        };
        Ok(Lead::Receiver {
            who,
            view,
            mode: self.mode,
            has_sessions: receiving.requires_session,
            session,
        })
    }
}

async fn sender(broker: &Broker, who: Principal, place: &Place) -> Result<Lead, Refusal> {
    let path = place.path();
    if place.letters.is_some() || place.subscription.is_some() {
        return Err(Refusal::not_allowed(format!(
            "{path} takes no messages: send to {}",
            place.entity.as_path()
        )));
    }
    let entity = entity(broker, &who, place).await?;
    let sending = entity.sending();
    if !sending.status.may_send() {
        return Err(disabled(&path, "send to"));
    }
    let bytes = usize::try_from(sending.max_message_kilobytes).unwrap_or(usize::MAX);
    let bytes = bytes.saturating_mul(1 << 10) as u64;
    Ok(Lead::Sender {
        who,
        to: place.entity.clone(),
        path,
        bytes: bytes.min(limits::MESSAGE_BYTES),
        requires_session: entity
            .queue()
            .is_some_and(|queue| queue.receiving.requires_session),
    })
}

/// What there is at a place.
struct Found {
    /// None of a topic.
    receiving: Option<Receiving>,
    may_receive: bool,
}

async fn find(broker: &Broker, who: &Principal, place: &Place) -> Result<Found, Refusal> {
    if place.subscription.is_none() {
        let entity = entity(broker, who, place).await?;
        let receiving = entity.queue().map(|queue| queue.receiving.clone());
        let receiving = match place.letters {
            None => receiving,
            Some(Letters::Own) if receiving.is_none() => return Err(missing(&place.path())),
            Some(Letters::Own) => receiving,
            Some(Letters::OfTransfers) => {
                broker.open_transfer_letters(who, &place.entity).await?;
                // A topic has them too.
                Some(receiving.unwrap_or_default())
            }
        };
        return Ok(Found {
            receiving,
            may_receive: entity.sending().status.may_receive(),
        });
    }
    let view = Place {
        letters: None,
        ..place.clone()
    };
    let subscription = broker.message_subscription(who, &view.view()).await?;
    let subscription = subscription.ok_or_else(|| missing(&place.path()))?;
    let status: Status = subscription.properties.status;
    Ok(Found {
        receiving: Some(subscription.properties.receiving),
        may_receive: status.may_receive(),
    })
}

async fn entity(broker: &Broker, who: &Principal, place: &Place) -> Result<Arc<Entity>, Refusal> {
    let entity = broker.entity(who, &place.entity).await?;
    entity.ok_or_else(|| missing(&place.path()))
}

pub(super) fn missing(path: &str) -> Refusal {
    let words = format!("the messaging entity {path:?} could not be found; create it first");
    Refusal::new(condition::NOT_FOUND, 404, words)
}

fn disabled(path: &str, what: &str) -> Refusal {
    let words = format!("it is not possible to {what} {path}: its status forbids it");
    Refusal::new(ENTITY_DISABLED, 400, words)
}

impl Lead {
    /// The attach that goes back: the client's but for what was found. Its map of properties is never left out,
    /// which JS would fail at.
    pub(super) fn answer(&self, asked: &Attach) -> Attach {
        let mut answer = Attach {
            properties: Some(Map::default()),
            offered_capabilities: Vec::new(),
            max_message_size: None,
            ..asked.clone()
        };
        let mut properties = Map::default();
        match self {
            Self::Coordinator | Self::Requests(_) | Self::Replies(_) => {
                answer.max_message_size = Some(limits::EVENT_BYTES as u64);
            }
            Self::Sender { bytes, .. } => {
                answer.max_message_size = Some(*bytes);
                // A batch stays one of events, whatever one message may be.
                let batch = (*bytes).min(limits::EVENT_BYTES as u64);
                properties.set(BATCH_BYTES, Value::Ulong(batch));
            }
            Self::Receiver { session, .. } => {
                if let Some((lock, until)) = session {
                    properties.set(LOCKED_UNTIL, Value::Long(ticks(*until)));
                    grant_filter(&mut answer, &lock.session);
                }
            }
        }
        answer.properties = Some(properties);
        answer
    }

    /// Nobody is there any more to have it.
    pub(super) fn give_back(self, desk: &Desk) {
        if let Self::Receiver {
            who,
            view,
            session: Some((lock, _)),
            ..
        } = self
        {
            release(desk, who, view, lock);
        }
    }
}

/// Gives up a session, whoever had it.
pub(super) fn release(desk: &Desk, who: Principal, view: SubscriptionName, lock: SessionLock) {
    let broker = desk.broker();
    desk.begin(async move {
        if let Err(error) = broker.release_session(&who, &view, &lock).await {
            tracing::debug!(%error, "a session was not released: its lock runs out");
        }
        Done::Nothing
    });
}

/// The filter comes back with the session that was granted, described as it was asked for: Go reads nothing else, and
/// JS only what is plain.
fn grant_filter(answer: &mut Attach, session: &str) {
    let filter = answer
        .source
        .as_mut()
        .and_then(|source| source.filter.as_mut());
    let mut entries = filter.into_iter().flat_map(|filter| filter.0.iter_mut());
    if let Some((_, value)) = entries.find(|(key, _)| key.as_str() == Some(SESSION_FILTER)) {
        *value = match value {
            Value::Described(asked) => Value::described(asked.descriptor.clone(), session.into()),
            _ => session.into(),
        };
    }
}

/// What requests may name to be answered on this link: JS says its name, others its address.
pub(super) fn names_of(attach: &Attach) -> Vec<String> {
    let target = match &attach.target {
        Some(Destination::Target(target)) => target.address.as_ref(),
        _ => None,
    };
    let target = target.map(|address| address.as_str().to_owned());
    let name = attach.name.as_str().to_owned();
    std::iter::once(name).chain(target).collect()
}

/// A moment as .NET counts it.
fn ticks(at: Timestamp) -> i64 {
    let ticks = at.0.saturating_mul(TICKS_PER_MS);
    ticks.saturating_add(TICKS_BEFORE_1970)
}

#[cfg(test)]
mod tests {
    use mente_wire::amqp::Source;

    use super::*;

    fn attach(filter: Option<Value>) -> Attach {
        let filter = filter.map(|value| {
            let mut filter = Map::default();
            filter.set(Symbol::from_static(SESSION_FILTER), value);
            filter
        });
        Attach {
            source: Some(Source {
                address: Some("q".into()),
                filter,
                ..Source::default()
            }),
            ..Attach::new("link".into(), 0, Role::Receiver)
        }
    }

    #[test]
    fn a_session_is_asked_for_plain_or_described() {
        let described = Value::described(Value::Ulong(0x13_7000_000c), "s".into());
        let nothing = Value::described(Value::Ulong(0x13_7000_000c), Value::Null);
        let named = WantedSession::Named("s".to_owned());
        for (filter, expect) in [
            (None, None),
            (Some("s".into()), Some(named.clone())),
            (Some(described), Some(named)),
            (Some(Value::Null), Some(WantedSession::Next)),
            (Some(nothing), Some(WantedSession::Next)),
        ] {
            let wanted = Wanted::of(&attach(filter.clone())).ok().unwrap();
            assert_eq!(wanted.session, expect, "{filter:?}");
        }
        assert!(Wanted::of(&attach(Some(Value::Uint(1)))).is_err());
    }

    #[test]
    fn the_answer_names_the_session_that_was_granted_as_it_was_asked_for() {
        let described = |value| Value::described(Value::Ulong(0x13_7000_000c), value);
        for (asked, granted) in [
            (Value::Null, "s-1".into()),
            (described(Value::Null), described("s-1".into())),
        ] {
            let mut answer = attach(Some(asked));
            grant_filter(&mut answer, "s-1");
            let filter = answer.source.unwrap().filter.unwrap();
            assert_eq!(filter.get(SESSION_FILTER), Some(&granted));
        }
    }

    #[test]
    fn a_moment_is_told_in_ticks_of_dot_net() {
        // 2024-01-01T00:00:00Z is 638,396,640,000,000,000 there.
        assert_eq!(ticks(Timestamp(1_704_067_200_000)), 638_396_640_000_000_000);
    }
}
