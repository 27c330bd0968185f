//! The AMQP door from outside: what one port tells apart, who is let in, what is refused, and how it ends.

mod large;
mod messages;
mod peer;
mod rights;
mod transactions;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use mente_broker::entity::Rights;
use mente_broker::{Access, Broker, Options};
use mente_engine::memory::MemoryEngine;
use mente_engine::{Clock, Now, Timestamp};
use mente_server::amqp::{self, Amqp};
use mente_server::tls::Identity;
use mente_wire::amqp::message::MessageId;
use mente_wire::amqp::performative::{Attach, Performative, Role};
use mente_wire::amqp::{Error, Uuid};
use mente_wire::servicebus::sas::sign;
use peer::{Peer, Stream, node};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let monotone = self.0.elapsed();
        let wall = Timestamp(monotone.as_millis() as i64);
        Now { monotone, wall }
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep_until(self.0 + at))
    }
}

struct Door {
    broker: Broker,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

async fn door(access: Access) -> Door {
    door_that_makes(access, true).await
}

/// Of a broker that makes what is missing, or does not.
async fn door_that_makes(access: Access, create_topics: bool) -> Door {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("c"), directory.path().join("k"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Some(Identity::read(&cert, &key).unwrap());
    let key = amqp::Key {
        name: "root".to_owned(),
        secret: "secret".to_owned(),
        rights: Rights::ALL,
    };
    open(
        amqp::Options {
            tls,
            access,
            keys: vec![key],
        },
        made.cert.der().clone(),
        create_topics,
    )
    .await
}

async fn open(
    options: amqp::Options,
    certificate: CertificateDer<'static>,
    create_topics: bool,
) -> Door {
    let clock = Arc::new(TestClock(tokio::time::Instant::now()));
    let engine = Arc::new(MemoryEngine::new(3));
    let settings = Options {
        create_topics,
        access: options.access,
        ..Options::default()
    };
    let (broker, tasks) = Broker::open(engine, clock, settings).await.unwrap();
    tasks.into_iter().for_each(|task| drop(tokio::spawn(task)));
    let door = Amqp::bind("127.0.0.1:0".parse().unwrap(), broker.clone(), options).await;
    let door = door.unwrap();
    let address = door.address().unwrap();
    let (stop, stopping) = watch::channel(false);
    Door {
        broker,
        address,
        certificate,
        stop,
        running: tokio::spawn(door.run(stopping)),
    }
}

impl Door {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self) -> impl Stream + 'static {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.tcp().await).await.unwrap()
    }
}

/// The bytes within a WebSocket, as a stream. Messages end where no frame of AMQP does.
async fn within(stream: impl Stream + 'static) -> impl Stream + 'static {
    let mut request = "ws://localhost/$servicebus/websocket"
        .into_client_request()
        .unwrap();
    let protocol = HeaderValue::from_static("AMQPWSB10");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol.clone());
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    assert_eq!(
        response.headers().get("sec-websocket-protocol"),
        Some(&protocol)
    );
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (mut reader, mut writer) = tokio::io::split(theirs);
    tokio::spawn(async move {
        let mut bytes = [0; 7];
        loop {
            tokio::select! {
                read = reader.read(&mut bytes) => match read {
                    Ok(read) if read > 0 => {
                        let part = bytes[..read].to_vec();
                        socket.send(Message::Binary(part.into())).await.unwrap();
                    }
                    _ => break,
                },
                came = socket.next() => match came {
                    Some(Ok(Message::Binary(part))) => writer.write_all(&part).await.unwrap(),
                    _ => break,
                },
            }
        }
    });
    ours
}

/// A client that is let in with any key, told so under the id that it gave, of whatever type.
async fn is_let_in(stream: impl Stream + 'static) {
    let mut peer = Peer::begin(stream).await;
    let id = MessageId::Uuid(Uuid([7; 16]));
    let (status, answered) = peer.put_token("any", id.clone()).await;
    assert_eq!((status, answered), (202, id));
}

#[tokio::test]
async fn one_port_takes_tcp_tls_and_websockets_in_both() {
    let door = door(Access::Open).await;
    is_let_in(door.tcp().await).await;
    is_let_in(door.tls().await).await;
    is_let_in(within(door.tcp().await).await).await;
    is_let_in(within(door.tls().await).await).await;
}

/// What is answered to these bytes before the server hangs up.
async fn answer(door: &Door, bytes: &[u8]) -> String {
    let mut socket = door.tcp().await;
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // It may reset the connection, which says as much.
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_not_amqp_is_told_so_or_hung_up_on() {
    let mut door = door(Access::Open).await;
    let upgrade = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, more, expect) in [
        (
            "/other",
            "Sec-WebSocket-Protocol: AMQPWSB10\r\n",
            "HTTP/1.1 404",
        ),
        ("/$servicebus/websocket", "", "HTTP/1.1 400"),
        (
            "/$servicebus/websocket",
            "Sec-WebSocket-Protocol: mqtt\r\n",
            "HTTP/1.1 400",
        ),
        (
            "/$servicebus/websocket",
            "Sec-WebSocket-Protocol: amqp\r\n",
            "HTTP/1.1 101",
        ),
        (
            "/$servicebus/websocket",
            "Sec-WebSocket-Protocol: mqtt, AMQPWSB10\r\n",
            "HTTP/1.1 101",
        ),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\n{upgrade}{more}\r\n");
        let mut socket = door.tcp().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut start = vec![0; expect.len()];
        socket.read_exact(&mut start).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&start), expect, "{path} {more}");
    }
    // A browser hears where it is, and nothing else of it is waited for.
    let asked = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let told = answer(&door, asked).await;
    assert!(told.starts_with("HTTP/1.1 426"), "{told}");
    assert!(told.contains("this port speaks AMQP"), "{told}");
    // AMQP's own answer to what is not AMQP is the header that is.
    let header = "AMQP\u{3}\u{1}\u{0}\u{0}";
    assert_eq!(answer(&door, b"PUT / HTTP/1.1\r\n\r\n").await, header);
    assert_eq!(answer(&door, b"AMQP\0\0\x09\x01").await, header);
    door.stop.send(true).unwrap();
    door.running.await.unwrap();
    door = open(amqp::Options::default(), door.certificate, true).await;
    assert_eq!(answer(&door, b"\x16\x03\x01\x02\0\x01\0").await, "");
}

/// The error of the detach that follows an attach to nothing.
async fn refusal(peer: &mut Peer, answer: Attach) -> Error {
    assert_eq!((answer.source, answer.target), (None, None));
    let (Performative::Detach(detach), _) = peer.hear().await else {
        panic!("no detach");
    };
    assert!(detach.closed);
    detach.error.unwrap()
}

#[tokio::test]
async fn a_link_that_leads_nowhere_is_refused_by_name() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    for (handle, target, condition, words) in [
        (0, node("a~b"), "amqp:not-found", "holds ~"),
        (
            1,
            node("q/$Transfer/$DeadLetterQueue"),
            "amqp:not-allowed",
            "send to q",
        ),
        (
            2,
            node("t/Subscriptions/s"),
            "amqp:not-allowed",
            "send to t",
        ),
        (
            3,
            node("q/$DeadLetterQueue"),
            "amqp:not-allowed",
            "send to q",
        ),
    ] {
        let answer = peer.attach(handle, Role::Sender, target).await;
        let error = refusal(&mut peer, answer).await;
        assert_eq!(error.condition.as_str(), condition);
        let described = error.description.unwrap();
        assert!(described.as_str().contains(words), "{described}");
    }
}

#[tokio::test]
async fn who_has_no_key_is_not_let_in_where_keys_are_asked_for() {
    let door = door(Access::Keys).await;
    let forged = sign("sb://localhost/q", "root", "other", u64::MAX);
    for token in ["any", &forged] {
        let mut peer = Peer::begin(door.tcp().await).await;
        let id = MessageId::String("1".into());
        let (status, answered) = peer.put_token(token, id.clone()).await;
        assert_eq!((status, answered), (401, id));
        let answer = peer.attach(4, Role::Sender, node("q")).await;
        let error = refusal(&mut peer, answer).await;
        assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
    }
}

#[tokio::test]
async fn who_signs_with_a_key_is_let_in_to_what_it_signed_for() {
    let door = door(Access::Keys).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    let token = sign("sb://localhost/q", "root", "secret", u64::MAX);
    let (status, _) = peer.put_token(&token, MessageId::Ulong(1)).await;
    assert_eq!(status, 202);
    for (handle, address, is_signed_for) in [(4, "q", true), (5, "other", false)] {
        let address = format!("amqps://localhost/{address}/$DeadLetterQueue");
        let answer = peer.attach(handle, Role::Sender, node(&address)).await;
        let error = refusal(&mut peer, answer).await;
        // Nobody sends there, but who may not is told so.
        let expect = if is_signed_for {
            "amqp:not-allowed"
        } else {
            "amqp:unauthorized-access"
        };
        assert_eq!(error.condition.as_str(), expect);
    }
}

#[tokio::test]
async fn clients_are_told_that_the_server_stops() {
    let door = door(Access::Open).await;
    let mut peer = Peer::begin(door.tcp().await).await;
    door.stop.send(true).unwrap();
    let (Performative::Close(close), _) = peer.hear().await else {
        panic!("no close");
    };
    let error = close.error.unwrap();
    assert_eq!(error.condition.as_str(), "amqp:connection:forced");
    peer.say(&Performative::Close(Default::default())).await;
    assert!(peer.is_hung_up().await);
    door.running.await.unwrap();
}
