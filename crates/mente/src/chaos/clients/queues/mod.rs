//! Who works with queues, as clients of Service Bus do: senders, receivers with locks and without, one who goes from
//! session to session, and one who schedules. Each has a connection of its own, makes a new one when it breaks, and
//! has one call at a time.

mod ending;
mod receiver;
mod sender;
mod sessions;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use mente_sim::history::{DEAD, Messages, Op, Phase, What};
use mente_wire::amqp::message::{Body, MapSection, Message, MessageId, Properties};
use mente_wire::amqp::{Map, Symbol, Value};
use tokio::task::JoinSet;

use super::{AWAY, Diaries, Hand};
use crate::chaos::amqp::{Failed, Link, Peer, Wanted};
use crate::chaos::diary::Diary;
use crate::client::Client;
pub(super) use ending::empty;

/// Received under locks: completed, given back, put aside, given up, forgotten.
const PLAIN: &str = "plain";
/// Received and deleted.
const BRIEF: &str = "brief";
/// Sent again under the same ids.
const ONCE: &str = "once";
const SESSIONS: &str = "sessions";
/// Scheduled, and now and then cancelled.
const LATER: &str = "later";
/// Most of what comes is given back, and a message is dead when that was so a few times.
const FEW: &str = "few";
const ALL: [&str; 6] = [PLAIN, BRIEF, ONCE, SESSIONS, LATER, FEW];

/// The shortest that Service Bus knows.
const LOCK_MS: u64 = 5_000;
/// More than any of them fails in an episode.
const DELIVERIES_MAX: u32 = 1_000;
/// Of [`FEW`].
const DELIVERIES_FEW: u32 = 3;
const SENDER_LINKS_MS: u64 = 20;

/// Conditions of refusals that left nothing behind: nobody decided, or what was there before is over.
const UNDONE: [&str; 2] = [
    "com.microsoft:server-busy",
    "com.microsoft:session-cannot-be-locked",
];
const LOST: [&str; 2] = [
    "com.microsoft:message-lock-lost",
    "com.microsoft:session-lock-lost",
];

/// A client of queues.
struct Teller {
    hand: Hand,
    /// Of each node.
    addresses: Vec<String>,
    peer: Option<Peer>,
    /// Links of the connection, by node.
    links: Vec<(String, Link)>,
    /// How many there were before it.
    connection: u64,
}

/// What a call came to.
enum Told<T> {
    Ok(T),
    /// By this condition.
    Refused(String),
    Unknown,
}

impl Teller {
    fn new(hand: Hand, addresses: &[String]) -> Self {
        Self {
            hand,
            addresses: addresses.to_vec(),
            peer: None,
            links: Vec::new(),
            connection: 0,
        }
    }

    fn note(&self, phase: Phase, queue: &str, what: What) -> Result<()> {
        let queue = queue.to_owned();
        self.hand
            .diary
            .note(phase, &Op::Messages(Messages { queue, what }))
    }

    /// A link to this node that is there already, or a new one; `None` if there is none for now.
    async fn link(&mut self, wanted: Wanted<'_>) -> Result<Option<Link>> {
        let (Wanted::Sender(node) | Wanted::Receiver { from: node, .. }) = wanted else {
            bail!("a session is asked for");
        };
        if let Some((_, link)) = self.links.iter().find(|(of, _)| of == node) {
            return Ok(Some(*link));
        }
        let Some(peer) = self.peer().await? else {
            return Ok(None);
        };
        match peer.attach(wanted).await {
            Ok((link, _)) => {
                self.links.push((node.to_owned(), link));
                Ok(Some(link))
            }
            Err(failed) => {
                self.away(&failed).await?;
                Ok(None)
            }
        }
    }

    /// The connection, if there is one or can be.
    async fn peer(&mut self) -> Result<Option<&mut Peer>> {
        if self.peer.is_none() {
            let at = self.hand.at.load(std::sync::atomic::Ordering::Relaxed);
            let address = &self.addresses[at % self.addresses.len()];
            match Peer::connect(address).await {
                Ok(peer) => self.peer = Some(peer),
                Err(failed) => self.away(&failed).await?,
            }
        }
        Ok(self.peer.as_mut())
    }

    /// Whether there are links for requests about this node: before anything is told of one, since what fails while
    /// they are made asked for nothing.
    async fn has_links(&mut self, queue: &str) -> Result<bool> {
        let Some(peer) = self.peer().await? else {
            return Ok(false);
        };
        let shown = peer.request(queue, "peek-message", the_first(1)).await;
        match self.told(shown).await? {
            Told::Ok(_) => return Ok(true),
            Told::Refused(_) => self.leave(),
            Told::Unknown => {}
        }
        Ok(false)
    }

    /// The connection is of no use any more; fails if the server is to blame.
    async fn away(&mut self, failed: &Failed) -> Result<()> {
        if let Failed::Nonsense(what) = failed {
            bail!("the server says what nobody may say: {what}");
        }
        tracing::debug!(?failed, "an AMQP client begins anew");
        self.leave();
        tokio::time::sleep(AWAY).await;
        Ok(())
    }

    fn leave(&mut self) {
        self.peer = None;
        self.links.clear();
        self.connection += 1;
        self.hand.elsewhere();
    }

    /// What a call came to; whoever knows nothing has lost his connection too.
    async fn told<T>(&mut self, came: std::result::Result<T, Failed>) -> Result<Told<T>> {
        Ok(match came {
            Ok(came) => Told::Ok(came),
            Err(Failed::Refused(condition, words)) => {
                tracing::debug!(condition, words, "an AMQP client is refused");
                Told::Refused(condition)
            }
            Err(failed) => {
                self.away(&failed).await?;
                Told::Unknown
            }
        })
    }

    /// How a call that was refused is to be told: undone, or nobody knows.
    fn refused(condition: &str) -> Phase {
        match UNDONE.contains(&condition) {
            true => Phase::Unheard,
            false => Phase::Info,
        }
    }
}

/// Makes the queues, and lets their clients in.
pub(super) async fn begin(
    administration: &str,
    addresses: &[String],
    diaries: &Diaries,
    work: &mut JoinSet<Result<()>>,
    hand: impl Fn(u64, &str) -> Result<Hand>,
) -> Result<()> {
    let diary = diaries.open(60, "queues")?;
    furnish(administration, addresses.len() > 1, &diary).await?;
    let teller = |number, name| Ok::<_, anyhow::Error>(Teller::new(hand(number, name)?, addresses));
    for (number, queue) in (61..).zip([PLAIN, PLAIN, BRIEF, ONCE]) {
        work.spawn(sender::send(teller(number, "sender")?, queue));
    }
    work.spawn(sender::send_in_sessions(teller(65, "sender")?));
    work.spawn(sender::schedule(teller(66, "scheduler")?));
    for (number, queue) in (67..).zip([PLAIN, PLAIN, ONCE, LATER]) {
        work.spawn(receiver::receive(teller(number, "receiver")?, queue));
    }
    work.spawn(receiver::delete(teller(71, "deleter")?));
    for number in 72..74 {
        work.spawn(sessions::attend(teller(number, "attendant")?));
    }
    work.spawn(sender::send(teller(74, "sender")?, FEW));
    work.spawn(receiver::receive(teller(75, "receiver")?, FEW));
    Ok(())
}

async fn furnish(administration: &str, has_nodes: bool, diary: &Diary) -> Result<()> {
    let client = Client::new(&format!("http://{administration}"))?;
    for queue in ALL {
        let resends = queue == ONCE;
        // Longer than an episode, and than the clock is stepped by.
        let more = match queue {
            SESSIONS => "<RequiresSession>true</RequiresSession>",
            ONCE => {
                "<RequiresDuplicateDetection>true</RequiresDuplicateDetection><DuplicateDetectionHistoryTimeWindow>P1D</DuplicateDetectionHistoryTimeWindow>"
            }
            _ => "",
        };
        // In the order of Service Bus' schema.
        let lock = format!("<LockDuration>PT{}S</LockDuration>", LOCK_MS / 1_000);
        let deliveries_max = match queue {
            FEW => DELIVERIES_FEW,
            _ => DELIVERIES_MAX,
        };
        let most = format!("<MaxDeliveryCount>{deliveries_max}</MaxDeliveryCount>");
        let entry = format!(
            r#"<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml"><QueueDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">{lock}{more}{most}</QueueDescription></content></entry>"#
        );
        let kind = Some("application/atom+xml;type=entry;charset=utf-8");
        let path = format!("/{queue}?api-version=2021-05");
        let made = client.request("PUT", &path, kind, entry).await?;
        if made.status != 201 {
            bail!("queue {queue} is not made: {} {}", made.status, made.text());
        }
        for (name, resends, max_deliveries) in [
            (queue.to_owned(), resends, Some(deliveries_max)),
            (format!("{queue}{DEAD}"), true, None),
        ] {
            let what = What::Make {
                lock_ms: LOCK_MS,
                resends,
                max_deliveries,
                has_nodes,
            };
            diary.tell(&Op::Messages(Messages { queue: name, what }))?;
        }
    }
    Ok(())
}

/// A message that says its value as its id.
fn message(value: &str, session: Option<&str>, filler: usize, due: Option<Value>) -> Vec<u8> {
    let properties = Properties {
        message_id: Some(MessageId::String(value.into())),
        group_id: session.map(Into::into),
        ..Properties::default()
    };
    let annotations = due.map(|due| {
        let mut annotations = Map::default();
        annotations.set(Symbol::from_static("x-opt-scheduled-enqueue-time"), due);
        MapSection::MessageAnnotations.encode(&annotations)
    });
    let message = Message {
        properties: Some(properties.encode()),
        message_annotations: annotations,
        body: Body::of_data([vec![b'x'; filler].as_slice()]),
        ..Message::default()
    };
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

/// What a message says of itself: its value, and its number.
fn value_of(message: &Message) -> Result<(String, u64)> {
    let properties = message.read_properties();
    let properties = properties.map_err(|why| anyhow::anyhow!("properties: {why}"))?;
    let Some(MessageId::String(value)) = properties.message_id else {
        bail!("a message without its id: {properties:?}");
    };
    let number = annotation(message, "x-opt-sequence-number")?;
    let number = number.context("a message without a number")?;
    Ok((value.as_str().to_owned(), u64::try_from(number)?))
}

fn annotation(message: &Message, name: &str) -> Result<Option<i128>> {
    let annotations = message.read_map(MapSection::MessageAnnotations);
    let annotations = annotations.map_err(|why| anyhow::anyhow!("annotations: {why}"))?;
    Ok(annotations.get(name).and_then(Value::as_integer))
}

/// How long a receiver waits for the first message.
const WAIT: Duration = Duration::from_millis(300);

/// What a request to peek at so many messages says.
fn the_first(count: i32) -> Map {
    Map(vec![
        ("from-sequence-number".into(), Value::Long(0)),
        ("message-count".into(), Value::Int(count)),
    ])
}
