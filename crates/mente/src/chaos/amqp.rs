//! A client of AMQP as Service Bus' SDKs are, small: one connection, one session, one call at a time. Nothing is
//! tried twice here, and whatever breaks ends the connection: the caller knows what he does not know.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mente_wire::amqp::message::{BATCH_FORMAT, Body, MapSection, Message, MessageId, Properties};
use mente_wire::amqp::performative::{
    Attach, Begin, Disposition, Flow, Open, ReceiverSettleMode, Role, SenderSettleMode, Transfer,
};
use mente_wire::amqp::sasl::{Init, SaslCode};
use mente_wire::amqp::{
    DeliveryState, Destination, Frame, Map, Outcome, Performative, Protocol, Sasl, Source, Symbol,
    Target, Value, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// An answer that takes longer is unknown.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest frame that is taken and sent.
const FRAME_BYTES: usize = 64 << 10;
/// Transfers that the server may send; more than ever come at once.
const WINDOW: u32 = 1 << 20;
const CHANNEL: u16 = 0;
/// How long a take waits behind its first message for more.
const LINGER: Duration = Duration::from_millis(20);
const SESSION_FILTER: Symbol = Symbol::from_static("com.microsoft:session-filter");
const TIMEOUT: Symbol = Symbol::from_static("com.microsoft:timeout");

/// Why there is no answer as it should be.
#[derive(Debug)]
pub(super) enum Failed {
    /// By this condition, with words. The connection is still there; a link that was refused is not.
    Refused(String, String),
    /// The connection is over.
    Broken(String),
    /// What came is no AMQP, or no answer to what was asked: no fault excuses it.
    Nonsense(String),
}

pub(super) type Result<T> = std::result::Result<T, Failed>;

/// A link by its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u32);

/// A link that is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    Sender(&'a str),
    /// With or without locks.
    Receiver {
        from: &'a str,
        locks: bool,
    },
    /// Of the next session that is free and has something.
    NextSession {
        from: &'a str,
        wait: Duration,
    },
}

pub(super) struct Delivery {
    id: u32,
    pub(super) tag: Bytes,
    pub(super) message: Message,
}

pub(super) struct Peer {
    stream: TcpStream,
    read: BytesMut,
    handles: u32,
    sent: u32,
    /// Transfers that came.
    came: u32,
    /// By handle, what links have counted that bring something.
    counts: Vec<u32>,
    /// By node, the links for requests and their answers.
    managed: Vec<(String, Link, Link)>,
}

impl Peer {
    pub(super) async fn connect(address: &str) -> Result<Self> {
        let until = Instant::now() + PATIENCE;
        let stream = timeout_at(until, TcpStream::connect(address)).await;
        let stream = stream.map_err(broken)?.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let mut peer = Self {
            stream,
            read: BytesMut::new(),
            handles: 0,
            sent: 0,
            came: 0,
            counts: Vec::new(),
            managed: Vec::new(),
        };
        let opened = timeout_at(until, peer.open()).await;
        opened.map_err(broken)??;
        Ok(peer)
    }

    async fn open(&mut self) -> Result<()> {
        self.write(&Protocol::Sasl.header()).await?;
        self.header(Protocol::Sasl).await?;
        self.sasl().await?;
        let mut init = Vec::new();
        Sasl::Init(Init {
            mechanism: Symbol::from_static("ANONYMOUS"),
            ..Init::default()
        })
        .write_frame(&mut init);
        self.write(&init).await?;
        match self.sasl().await? {
            Sasl::Outcome(outcome) if outcome.code == SaslCode::Ok => {}
            other => return Err(Failed::Broken(format!("not let in: {other:?}"))),
        }
        self.write(&Protocol::Amqp.header()).await?;
        self.header(Protocol::Amqp).await?;
        self.say(&Performative::Open(Box::new(Open {
            container_id: "mente-chaos".into(),
            ..Open::default()
        })))
        .await?;
        self.say(&Performative::Begin(Box::new(Begin {
            incoming_window: WINDOW,
            outgoing_window: WINDOW,
            ..Begin::default()
        })))
        .await?;
        loop {
            if let Performative::Begin(_) = self.hear().await?.0 {
                return Ok(());
            }
        }
    }

    /// A link, and the session that it has.
    pub(super) async fn attach(&mut self, wanted: Wanted<'_>) -> Result<(Link, Option<String>)> {
        let (handle, attach) = self.attach_of(wanted);
        let is_sender = attach.role == Role::Sender;
        self.say(&Performative::Attach(Box::new(attach))).await?;
        let until = Instant::now() + PATIENCE;
        let mut session = None;
        loop {
            match self.hear_until(until).await?.0 {
                Performative::Attach(answer) if answer.handle == handle => {
                    self.counts[handle as usize] = answer.initial_delivery_count.unwrap_or(0);
                    let Some(source) = answer.source else {
                        // The detach behind it says why.
                        continue;
                    };
                    let filter = source.filter.as_ref();
                    let granted = filter.and_then(|filter| filter.get(SESSION_FILTER.as_str()));
                    session =
                        granted.and_then(|value| value.undescribed().as_str().map(str::to_owned));
                    if !is_sender {
                        return Ok((Link(handle), session));
                    }
                }
                // It may send.
                Performative::Flow(flow) if is_sender && flow.handle == Some(handle) => {
                    return Ok((Link(handle), session));
                }
                _ => {}
            }
        }
    }

    fn attach_of(&mut self, wanted: Wanted<'_>) -> (u32, Attach) {
        let handle = self.handles;
        self.handles += 1;
        self.counts.push(0);
        let (node, role) = match wanted {
            Wanted::Sender(to) => (to, Role::Sender),
            Wanted::Receiver { from, .. } | Wanted::NextSession { from, .. } => {
                (from, Role::Receiver)
            }
        };
        let name = format!("link-{handle}");
        let mut source = Source {
            address: Some(node.into()),
            ..Source::default()
        };
        let mut attach = Attach {
            initial_delivery_count: Some(0),
            target: Some(Destination::Target(Target {
                address: Some(node.into()),
                ..Target::default()
            })),
            ..Attach::new(name.into(), handle, role)
        };
        match wanted {
            Wanted::Receiver { locks: false, .. } => {
                attach.sender_settles = SenderSettleMode::Settled;
            }
            Wanted::NextSession { wait, .. } => {
                let mut filter = Map::default();
                filter.set(SESSION_FILTER, Value::Null);
                source.filter = Some(filter);
                let mut properties = Map::default();
                let ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
                properties.set(TIMEOUT, Value::Uint(ms));
                attach.properties = Some(properties);
            }
            Wanted::Sender(_) | Wanted::Receiver { .. } => {}
        }
        // As the SDKs: what is sent under locks keeps them when the link goes.
        attach.receiver_settles = ReceiverSettleMode::Second;
        attach.source = Some(source);
        (handle, attach)
    }

    pub(super) async fn detach(&mut self, link: Link) -> Result<()> {
        let detach = mente_wire::amqp::performative::Detach {
            handle: link.0,
            closed: true,
            error: None,
        };
        self.say(&Performative::Detach(detach)).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.frame_until(until).await?.0 {
                Performative::Detach(detach) if detach.handle == link.0 => return Ok(()),
                Performative::Close(close) => return Err(Failed::Broken(format!("{close:?}"))),
                _ => {}
            }
        }
    }

    /// Sends messages as one delivery, and waits for what becomes of it.
    pub(super) async fn send(&mut self, link: Link, messages: &[Vec<u8>]) -> Result<Outcome> {
        let mut payload = Vec::new();
        let format = match messages {
            [one] => {
                payload.clone_from(one);
                0
            }
            several => {
                let body = Body::of_data(several.iter().map(Vec::as_slice));
                let batch = Message {
                    body,
                    ..Message::default()
                };
                batch.write(&mut payload);
                BATCH_FORMAT
            }
        };
        let id = self.transfer(link, format, &payload).await?;
        self.outcome(id).await
    }

    async fn transfer(&mut self, link: Link, format: u32, payload: &[u8]) -> Result<u32> {
        let id = self.sent;
        self.sent = self.sent.wrapping_add(1);
        let mut transfer = Transfer {
            handle: link.0,
            delivery_id: Some(id),
            delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
            message_format: Some(format),
            settled: Some(false),
            ..Transfer::default()
        };
        let (mut out, mut left) = (Vec::new(), payload);
        loop {
            let written = transfer.write_frame(CHANNEL, left.len(), false, FRAME_BYTES, &mut out);
            let Some(written) = written else {
                return Err(Failed::Broken("a frame has no room".to_owned()));
            };
            let (part, rest) = left.split_at(written);
            out.extend_from_slice(part);
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        self.write(&out).await?;
        Ok(id)
    }

    /// Everything that comes within this time, at most so much; nothing is on its way afterwards.
    pub(super) async fn take(
        &mut self,
        link: Link,
        most: u32,
        wait: Duration,
    ) -> Result<Vec<Delivery>> {
        self.credit(link, most, false).await?;
        let mut came = Vec::new();
        let mut until = Instant::now() + wait;
        while came.len() < most as usize {
            match self.next_delivery(link, until).await {
                Ok(Some(delivery)) => came.push(delivery),
                Ok(None) => {}
                Err(Failed::Broken(why)) if why == LATE => break,
                Err(failed) => return Err(failed),
            }
            until = until.min(Instant::now() + LINGER);
        }
        if came.len() == most as usize {
            return Ok(came);
        }
        let left = most.saturating_sub(u32::try_from(came.len()).unwrap_or(most));
        self.credit(link, left, true).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.hear_until(until).await? {
                (Performative::Transfer(transfer), payload) if transfer.handle == link.0 => {
                    came.push(self.delivery(transfer, payload, until).await?);
                }
                (Performative::Flow(flow), _)
                    if flow.handle == Some(link.0) && flow.link_credit == Some(0) =>
                {
                    self.counts[link.0 as usize] = flow.delivery_count.unwrap_or(0);
                    return Ok(came);
                }
                _ => {}
            }
        }
    }

    async fn next_delivery(&mut self, link: Link, until: Instant) -> Result<Option<Delivery>> {
        match self.hear_until(until).await? {
            (Performative::Transfer(transfer), payload) if transfer.handle == link.0 => {
                let until = Instant::now() + PATIENCE;
                self.delivery(transfer, payload, until).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The rest of what has begun to come.
    async fn delivery(
        &mut self,
        first: Transfer,
        payload: Bytes,
        until: Instant,
    ) -> Result<Delivery> {
        let (mut all, mut more) = (BytesMut::from(&payload[..]), first.more);
        self.came = self.came.wrapping_add(1);
        while more {
            if let (Performative::Transfer(part), payload) = self.hear_until(until).await? {
                self.came = self.came.wrapping_add(1);
                all.extend_from_slice(&payload);
                more = part.more;
            }
        }
        let count = &mut self.counts[first.handle as usize];
        *count = count.wrapping_add(1);
        Ok(Delivery {
            id: first.delivery_id.unwrap_or(0),
            tag: first.delivery_tag.unwrap_or_default(),
            message: Message::split(&all.freeze()).map_err(nonsense)?,
        })
    }

    async fn credit(&mut self, link: Link, credit: u32, drain: bool) -> Result<()> {
        let flow = Flow {
            next_incoming_id: Some(self.came),
            incoming_window: WINDOW,
            next_outgoing_id: self.sent,
            outgoing_window: WINDOW,
            handle: Some(link.0),
            delivery_count: Some(self.counts[link.0 as usize]),
            link_credit: Some(credit),
            drain,
            ..Flow::default()
        };
        self.say(&Performative::Flow(Box::new(flow))).await
    }

    /// Says what is to become of deliveries, and waits for what becomes of all of them.
    pub(super) async fn end(&mut self, endings: &[(&Delivery, Outcome)]) -> Result<Vec<Outcome>> {
        let mut out = Vec::new();
        for (delivery, outcome) in endings {
            let state = DeliveryState::Outcome(outcome.clone());
            let disposition = Disposition {
                settled: false,
                ..Disposition::settled(Role::Receiver, delivery.id, state)
            };
            Performative::Disposition(disposition).write_frame(CHANNEL, &mut out);
        }
        self.write(&out).await?;
        let mut told: Vec<Option<Outcome>> = vec![None; endings.len()];
        let until = Instant::now() + PATIENCE;
        while told.iter().any(Option::is_none) {
            let Performative::Disposition(said) = self.hear_until(until).await?.0 else {
                continue;
            };
            let of_them = said.first..=said.last.unwrap_or(said.first);
            for (told, (delivery, _)) in told.iter_mut().zip(endings) {
                if said.role != Role::Sender || !of_them.contains(&delivery.id) {
                    continue;
                }
                match &said.state {
                    Some(DeliveryState::Outcome(outcome)) if said.settled && told.is_none() => {
                        *told = Some(outcome.clone());
                    }
                    other => return Err(Failed::Nonsense(format!("an end is told by {other:?}"))),
                }
            }
        }
        Ok(told.into_iter().flatten().collect())
    }

    async fn outcome(&mut self, id: u32) -> Result<Outcome> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Performative::Disposition(said) = self.hear_until(until).await?.0 else {
                continue;
            };
            let of_it = said.first..=said.last.unwrap_or(said.first);
            if said.role == Role::Receiver && of_it.contains(&id) {
                return match said.state {
                    Some(DeliveryState::Outcome(outcome)) => Ok(outcome),
                    other => Err(Failed::Nonsense(format!("no outcome: {other:?}"))),
                };
            }
        }
    }

    /// A request about a node, and the body of its answer; a status that is no success is a refusal, and one that
    /// says that there is nothing is an empty map.
    pub(super) async fn request(&mut self, node: &str, operation: &str, body: Map) -> Result<Map> {
        let (requests, answers) = self.manage(node).await?;
        let mut entries = Map::default();
        let name = format!("com.microsoft:{operation}");
        entries.0.push(("operation".into(), name.as_str().into()));
        let id = MessageId::Ulong(self.sent.into());
        let request = Message {
            properties: Some(
                Properties {
                    message_id: Some(id),
                    ..Properties::default()
                }
                .encode(),
            ),
            application_properties: Some(MapSection::ApplicationProperties.encode(&entries)),
            body: Body::of_value(&Value::Map(body)),
            ..Message::default()
        };
        let mut payload = Vec::new();
        request.write(&mut payload);
        self.credit(answers, 1, false).await?;
        let sent = self.transfer(requests, 0, &payload).await?;
        let until = Instant::now() + PATIENCE;
        let answer = loop {
            match self.hear_until(until).await? {
                (Performative::Transfer(transfer), payload) if transfer.handle == answers.0 => {
                    break self.delivery(transfer, payload, until).await?;
                }
                (Performative::Disposition(said), _)
                    if said.role == Role::Receiver && said.first == sent =>
                {
                    if let Some(DeliveryState::Outcome(Outcome::Rejected(error))) = said.state {
                        return Err(Failed::Broken(format!("a request is rejected: {error:?}")));
                    }
                }
                _ => {}
            }
        };
        answered(&answer.message)
    }

    async fn manage(&mut self, node: &str) -> Result<(Link, Link)> {
        if let Some((_, requests, answers)) = self.managed.iter().find(|(of, ..)| of == node) {
            return Ok((*requests, *answers));
        }
        let address = format!("{node}/$management");
        let from = Wanted::Receiver {
            from: &address,
            locks: true,
        };
        let (answers, _) = self.attach(from).await?;
        let (requests, _) = self.attach(Wanted::Sender(&address)).await?;
        self.managed.push((node.to_owned(), requests, answers));
        Ok((requests, answers))
    }

    async fn say(&mut self, performative: &Performative) -> Result<()> {
        let mut out = Vec::new();
        performative.write_frame(CHANNEL, &mut out);
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let written = timeout_at(until, self.stream.write_all(bytes)).await;
        written.map_err(broken)?.map_err(broken)
    }

    async fn hear(&mut self) -> Result<(Performative, Bytes)> {
        self.hear_until(Instant::now() + PATIENCE).await
    }

    /// The next frame; one that ends a link is a refusal, one that ends more breaks the connection.
    async fn hear_until(&mut self, until: Instant) -> Result<(Performative, Bytes)> {
        let heard = self.frame_until(until).await?;
        match heard.0 {
            Performative::Detach(detach) => Err(match detach.error {
                Some(error) => {
                    let words = error.description.map(|text| text.as_str().to_owned());
                    let condition = error.condition.as_str().to_owned();
                    Failed::Refused(condition, words.unwrap_or_default())
                }
                None => Failed::Broken("a link was detached".to_owned()),
            }),
            Performative::End(end) => Err(Failed::Broken(format!("{end:?}"))),
            Performative::Close(close) => Err(Failed::Broken(format!("{close:?}"))),
            _ => Ok(heard),
        }
    }

    async fn frame_until(&mut self, until: Instant) -> Result<(Performative, Bytes)> {
        loop {
            let frame = timeout_at(until, self.frame()).await;
            let frame = frame.map_err(|_| Failed::Broken(LATE.to_owned()))??;
            if !frame.body.is_empty() {
                return Performative::decode(&frame.body).map_err(nonsense);
            }
        }
    }

    async fn sasl(&mut self) -> Result<Sasl> {
        let frame = self.frame().await?;
        Sasl::decode(&frame.body).map_err(nonsense)
    }

    async fn header(&mut self, expected: Protocol) -> Result<()> {
        loop {
            match Protocol::split(&mut self.read).map_err(nonsense)? {
                Some(protocol) if protocol == expected => return Ok(()),
                Some(other) => return Err(Failed::Nonsense(format!("{other:?} is offered"))),
                None => self.more().await?,
            }
        }
    }

    async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = frame::split(&mut self.read, FRAME_BYTES).map_err(nonsense)? {
                return Ok(frame);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) => Err(Failed::Broken("the server hung up".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

/// What a wait that is over is told as.
const LATE: &str = "no answer in time";

fn broken(error: impl std::fmt::Display) -> Failed {
    Failed::Broken(error.to_string())
}

fn nonsense(error: impl std::fmt::Display) -> Failed {
    Failed::Nonsense(error.to_string())
}

fn answered(message: &Message) -> Result<Map> {
    let entries = message.read_map(MapSection::ApplicationProperties);
    let entries = entries.map_err(nonsense)?;
    let text = |name| {
        entries
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match entries.get("statusCode") {
        Some(Value::Int(200..300)) => match message.body.read_value().map_err(nonsense)? {
            Some(Value::Map(body)) => Ok(body),
            _ => Ok(Map::default()),
        },
        Some(Value::Int(_)) => Err(Failed::Refused(
            text("errorCondition").to_owned(),
            text("statusDescription").to_owned(),
        )),
        other => Err(Failed::Nonsense(format!(
            "an answer with the status {other:?}"
        ))),
    }
}
