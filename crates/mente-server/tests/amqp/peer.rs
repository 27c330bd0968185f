//! A client that says each frame itself.

use bytes::{Bytes, BytesMut};
use mente_wire::amqp::message::{Body, MapSection, Message, MessageId, Properties};
use mente_wire::amqp::performative::{Attach, Begin, Flow, Open, Performative, Role, Transfer};
use mente_wire::amqp::sasl::{Init, SaslCode};
use mente_wire::amqp::value::{Map, Symbol, Value};
use mente_wire::amqp::{Destination, FrameKind, Protocol, Sasl, Source, Target, frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    read: BytesMut,
    incoming_window: u32,
}

impl Peer {
    /// Says who it is by nothing, and opens a connection with one session on channel 1, as Python does.
    pub(crate) async fn begin(stream: impl Stream + 'static) -> Self {
        Self::begin_with(stream, 100).await
    }

    /// The same with a session that takes so many transfers.
    pub(crate) async fn begin_with(stream: impl Stream + 'static, incoming_window: u32) -> Self {
        let mut peer = Self {
            stream: Box::new(stream),
            read: BytesMut::new(),
            incoming_window,
        };
        peer.write(&Protocol::Sasl.header()).await;
        assert_eq!(peer.header().await, Protocol::Sasl);
        let Sasl::Mechanisms(offered) = peer.sasl().await else {
            panic!("no mechanisms");
        };
        assert_eq!(offered.server_mechanisms[0].as_str(), "ANONYMOUS");
        let mut out = Vec::new();
        let init = Init {
            mechanism: Symbol::from_static("ANONYMOUS"),
            ..Init::default()
        };
        Sasl::Init(init).write_frame(&mut out);
        peer.write(&out).await;
        let Sasl::Outcome(outcome) = peer.sasl().await else {
            panic!("no outcome");
        };
        assert_eq!(outcome.code, SaslCode::Ok);
        peer.write(&Protocol::Amqp.header()).await;
        assert_eq!(peer.header().await, Protocol::Amqp);
        let open = Open {
            container_id: "peer".into(),
            ..Open::default()
        };
        peer.say(&Performative::Open(Box::new(open))).await;
        assert!(matches!(peer.hear().await.0, Performative::Open(_)));
        let begin = Begin {
            incoming_window,
            outgoing_window: 100,
            handle_max: 100,
            ..Begin::default()
        };
        peer.say(&Performative::Begin(Box::new(begin))).await;
        assert!(matches!(peer.hear().await.0, Performative::Begin(_)));
        peer
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn say(&mut self, performative: &Performative) {
        let mut out = Vec::new();
        performative.write_frame(1, &mut out);
        self.write(&out).await;
    }

    /// The next frame with its payload.
    pub(crate) async fn hear(&mut self) -> (Performative, Bytes) {
        loop {
            let frame = self.frame().await;
            assert_eq!(frame.kind, FrameKind::Amqp);
            if !frame.body.is_empty() {
                return Performative::decode(&frame.body).unwrap();
            }
        }
    }

    async fn sasl(&mut self) -> Sasl {
        let frame = self.frame().await;
        assert_eq!(frame.kind, FrameKind::Sasl);
        Sasl::decode(&frame.body).unwrap()
    }

    async fn header(&mut self) -> Protocol {
        loop {
            if let Some(protocol) = Protocol::split(&mut self.read).unwrap() {
                return protocol;
            }
            self.more().await;
        }
    }

    async fn frame(&mut self) -> frame::Frame {
        loop {
            if let Some(frame) = frame::split(&mut self.read, 64 << 10).unwrap() {
                return frame;
            }
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let read = self.stream.read_buf(&mut self.read).await.unwrap();
        assert_ne!(read, 0, "the server has hung up");
    }

    /// Whether the server hangs up without another frame.
    pub(crate) async fn is_hung_up(&mut self) -> bool {
        self.read.is_empty() && matches!(self.stream.read_buf(&mut self.read).await, Ok(0) | Err(_))
    }

    /// A link to a node, or to the coordinator of transactions.
    pub(crate) async fn attach(&mut self, handle: u32, role: Role, target: Destination) -> Attach {
        let Destination::Target(node) = &target else {
            return self.ask(handle, role, None, Some(target)).await;
        };
        let source = Source {
            address: node.address.clone(),
            ..Source::default()
        };
        self.ask(handle, role, Some(source), Some(target)).await
    }

    async fn ask(
        &mut self,
        handle: u32,
        role: Role,
        source: Option<Source>,
        target: Option<Destination>,
    ) -> Attach {
        let attach = Attach {
            source,
            target,
            initial_delivery_count: Some(0),
            ..Attach::new(format!("link-{handle}").into(), handle, role)
        };
        self.say(&Performative::Attach(Box::new(attach))).await;
        let (Performative::Attach(answer), _) = self.hear().await else {
            panic!("no attach");
        };
        *answer
    }

    /// Shows a token on `$cbs`; the status, and the answer's correlation id.
    pub(crate) async fn put_token(&mut self, token: &str, id: MessageId) -> (i32, MessageId) {
        for (handle, role) in [(2, Role::Receiver), (3, Role::Sender)] {
            let answer = self.attach(handle, role, node("$cbs")).await;
            assert!(answer.source.is_some() && answer.properties.is_some());
        }
        let (Performative::Flow(flow), _) = self.hear().await else {
            panic!("no credit for requests");
        };
        assert!(flow.link_credit > Some(0));
        self.credit(2, 10, false).await;
        self.show_token(token, id, 0).await
    }

    /// The same once the links for it are there, as the delivery of this number.
    pub(crate) async fn show_token(
        &mut self,
        token: &str,
        id: MessageId,
        delivery: u32,
    ) -> (i32, MessageId) {
        self.show_token_for("q", token, id, delivery).await
    }

    /// The same for another queue.
    pub(crate) async fn show_token_for(
        &mut self,
        queue: &str,
        token: &str,
        id: MessageId,
        delivery: u32,
    ) -> (i32, MessageId) {
        let name = format!("sb://localhost/{queue}");
        let mut properties = Map::default();
        for (name, value) in [
            ("operation", "put-token"),
            ("type", "servicebus.windows.net:sastoken"),
            ("name", &name),
        ] {
            properties.0.push((name.into(), value.into()));
        }
        let message = Message {
            properties: Some(
                Properties {
                    message_id: Some(id),
                    ..Properties::default()
                }
                .encode(),
            ),
            application_properties: Some(MapSection::ApplicationProperties.encode(&properties)),
            body: Body::of_value(&token.into()),
            ..Message::default()
        };
        let mut payload = Vec::new();
        message.write(&mut payload);
        self.send(3, delivery, &payload).await;
        loop {
            if let (Performative::Transfer(_), payload) = self.hear().await {
                let answer = Message::split(&payload).unwrap();
                let entries = answer.read_map(MapSection::ApplicationProperties).unwrap();
                let Some(Value::Int(status)) = entries.get("status-code") else {
                    panic!("no status in {entries:?}");
                };
                let id = answer.read_properties().unwrap().correlation_id;
                return (*status, id.unwrap());
            }
        }
    }

    /// Takes so many on a link on which nothing has come yet.
    pub(crate) async fn credit(&mut self, handle: u32, credit: u32, drain: bool) {
        let flow = Flow {
            incoming_window: self.incoming_window,
            outgoing_window: 100,
            handle: Some(handle),
            delivery_count: Some(0),
            link_credit: Some(credit),
            drain,
            ..Flow::default()
        };
        self.say(&Performative::Flow(Box::new(flow))).await;
    }

    /// A delivery in frames, to its end or not.
    pub(crate) async fn send_in_parts(&mut self, handle: u32, id: u32, payload: &[u8], more: bool) {
        let mut transfer = Transfer {
            handle,
            delivery_id: Some(id),
            delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
            message_format: Some(0),
            ..Transfer::default()
        };
        let mut left = payload;
        while !left.is_empty() {
            let mut out = Vec::new();
            let written = transfer.write_frame(1, left.len(), more, 64 << 10, &mut out);
            let (now, behind) = left.split_at(written.unwrap());
            out.extend_from_slice(now);
            self.write(&out).await;
            left = behind;
        }
    }

    pub(crate) async fn send(&mut self, handle: u32, id: u32, payload: &[u8]) {
        let mut transfer = Transfer {
            handle,
            delivery_id: Some(id),
            delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
            message_format: Some(0),
            ..Transfer::default()
        };
        let mut out = Vec::new();
        let written = transfer.write_frame(1, payload.len(), false, 64 << 10, &mut out);
        assert_eq!(written, Some(payload.len()));
        out.extend_from_slice(payload);
        self.write(&out).await;
    }
}

pub(crate) fn node(address: &str) -> Destination {
    Destination::Target(Target {
        address: Some(address.into()),
        ..Target::default()
    })
}
