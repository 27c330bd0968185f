//! Clients of the AMQP port that mean harm. In each test a well-behaved client next to them sends and receives.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mente_engine::limits;
use mente_wire::amqp::message::{Body, Message};
use mente_wire::amqp::performative::{Begin, Disposition, Performative, Role, Transfer};
use mente_wire::amqp::{DeliveryState, Outcome, Protocol};

use crate::attack::{Attacked, until};
use crate::connections::allow_files;
use crate::peer::{Peer, node};
use crate::server::SOON;

/// Of AMQP's frames, before their body: size, offset, type, channel.
const HEADER_BYTES: usize = 8;

struct Door {
    attacked: Attacked,
    address: String,
}

async fn door() -> Door {
    let attacked = Attacked::start(&["--amqp", "127.0.0.1:0"]).await;
    let ports = attacked.server.data().with_file_name("ports.json");
    let ports: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(ports).unwrap()).unwrap();
    let address = ports["amqp"].as_str().unwrap().to_owned();
    let door = Door { attacked, address };
    // What every first client makes counts as nobody's attack.
    door.serves("well").await;
    door
}

impl Door {
    fn tcp(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    }

    async fn peer(&self) -> Peer {
        self.peer_with(1_000).await
    }

    /// With a session that takes so many transfers.
    async fn peer_with(&self, window: u32) -> Peer {
        let stream = tokio::net::TcpStream::connect(&self.address).await;
        Peer::begin_with(stream.unwrap(), window).await
    }

    /// By the soft limit of the server.
    fn open_files_allowed(&self) -> usize {
        let pid = self.attacked.server.process.id();
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.unwrap().split_whitespace().next().unwrap();
        soft.parse().unwrap()
    }

    /// A client that means well sends to this queue, and completes what it receives from it.
    async fn serves(&self, queue: &str) {
        let mut peer = self.peer().await;
        fill(&mut peer, queue, 1, 10).await;
        peer.attach(1, Role::Receiver, node(queue)).await;
        peer.credit(1, 1, false).await;
        let (Performative::Transfer(transfer), _) = peer.hear().await else {
            panic!("no transfer");
        };
        let accepted = DeliveryState::Outcome(Outcome::Accepted);
        let id = transfer.delivery_id.unwrap();
        let done = Disposition {
            settled: false,
            ..Disposition::settled(Role::Receiver, id, accepted.clone())
        };
        peer.say(&Performative::Disposition(done)).await;
        let (Performative::Disposition(said), _) = peer.hear().await else {
            panic!("no disposition");
        };
        assert_eq!((said.first, said.state), (id, Some(accepted)));
    }
}

fn message(bytes: usize) -> Vec<u8> {
    let message = Message {
        body: Body::of_data([vec![b'x'; bytes].as_slice()]),
        ..Message::default()
    };
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

/// Messages of so many bytes each, all accepted.
async fn fill(peer: &mut Peer, queue: &str, count: u32, bytes: usize) {
    peer.attach(0, Role::Sender, node(queue)).await;
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
    let message = message(bytes);
    for id in 0..count {
        send(peer, id, &message).await;
        loop {
            match peer.hear().await.0 {
                Performative::Disposition(said) => {
                    let accepted = Some(DeliveryState::Outcome(Outcome::Accepted));
                    assert_eq!(said.state, accepted);
                    break;
                }
                Performative::Flow(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A delivery in as many frames as it takes.
async fn send(peer: &mut Peer, id: u32, payload: &[u8]) {
    peer.write(&delivery(0, 1, id, payload, false)).await;
}

/// The frames of a delivery, on this link of this channel; those of one that is to go on, if it is.
fn delivery(handle: u32, channel: u16, id: u32, payload: &[u8], goes_on: bool) -> Vec<u8> {
    let (mut out, mut left) = (Vec::new(), payload);
    while !left.is_empty() {
        let mut transfer = Transfer {
            handle,
            delivery_id: Some(id),
            delivery_tag: Some(id.to_be_bytes().to_vec().into()),
            message_format: Some(0),
            ..Transfer::default()
        };
        // One byte more is claimed where more is to follow.
        let claimed = left.len() + usize::from(goes_on);
        let fitting = transfer.write_frame(channel, claimed, false, 32 << 10, &mut out);
        let (part, rest) = left.split_at(fitting.unwrap().min(left.len()));
        out.extend_from_slice(part);
        if part.len() < fitting.unwrap() {
            out.push(b'x');
        }
        left = rest;
    }
    out
}

/// A frame with this body.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(HEADER_BYTES + body.len()).unwrap();
    let head = [&size.to_be_bytes()[..], &[2, kind, 0, 1]].concat();
    [&head[..], body].concat()
}

/// Reads until the server hangs up; it does.
fn is_sent_away(socket: &mut TcpStream) {
    if let Err(error) = socket.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn bombs_are_told_from_frames_and_cost_what_they_weigh() {
    let door = door().await;
    // attach, list32 of so many values; then what it is said to hold.
    let attach = [0x00, 0x53, 0x12, 0xd0];
    let nested = [0xc0, 0xff, 0x01].repeat(20_000);
    let described = [0x00].repeat(60_000);
    let nothings = [&[0xf0][..], &[0, 0, 0, 9], &[0xff; 4], &[0x40, 0, 0, 0]].concat();
    let larger = [&[0xb0][..], &[0xff; 4]].concat();
    for bomb in [&nested, &described, &nothings, &larger] {
        let claimed = u32::try_from(bomb.len() + 4).unwrap();
        let list = [&attach[..], &claimed.to_be_bytes(), &[0, 0, 0, 14], bomb].concat();
        for body in [bomb.as_slice(), &list] {
            let mut peer = door.peer().await;
            peer.write(&frame(0, body)).await;
            let (Performative::Close(close), _) = peer.hear().await else {
                panic!("no close");
            };
            assert!(close.error.is_some());
        }
        // Before anybody said who he is frames are small.
        let mut socket = door.tcp();
        socket.write_all(&Protocol::Sasl.header()).unwrap();
        let _ = socket.write_all(&frame(1, bomb));
        is_sent_away(&mut socket);
    }
    // A frame that says that it is larger than any.
    let mut peer = door.peer().await;
    peer.write(&[0x7f, 0xff, 0xff, 0xff, 2, 0, 0, 1]).await;
    assert!(matches!(peer.hear().await.0, Performative::Close(_)));
    door.serves("well").await;
    door.attacked.survives(20).await;
}

#[tokio::test]
async fn what_nobody_signed_for_holds_little_memory() {
    let door = door().await;
    // Parts of requests to the node for tokens that never end: nobody knows yet who it is.
    let part = vec![b'x'; 3 << 20];
    let mut peers = Vec::new();
    for _ in 0..100 {
        let mut peer = door.peer().await;
        peer.attach(0, Role::Sender, node("$cbs")).await;
        let frames = delivery(0, 1, 0, &part, true);
        peers.push(tokio::spawn(async move {
            // It is refused in the middle of it, or taken.
            peer.write(&frames).await;
            std::future::pending::<()>().await;
        }));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    door.serves("well").await;
    door.attacked.survives(80).await;
}

#[tokio::test]
async fn thousands_of_connections_that_say_nothing_hold_nobody_up_and_go() {
    allow_files();
    let door = door().await;
    let files = door.attacked.open_files();
    let most = limits::AMQP_CONNECTIONS.min(door.open_files_allowed() / 4);
    let header = Protocol::Sasl.header();
    let mut halves: Vec<TcpStream> = (0..most - 20)
        .map(|number| {
            let mut socket = door.tcp();
            match number % 4 {
                0 => {}
                1 => socket.write_all(&header[..3]).unwrap(),
                2 => socket.write_all(&header).unwrap(),
                _ => socket.write_all(b"GET /$servicebus").unwrap(),
            }
            socket
        })
        .collect();
    door.serves("well").await;
    // Beyond the last seat they are hung up on, and nobody else is.
    let mut more: Vec<TcpStream> = (0..200).map(|_| door.tcp()).collect();
    is_sent_away(more.last_mut().unwrap());
    let mut at_once = 0;
    for socket in &mut more {
        socket.set_nonblocking(true).unwrap();
        at_once += u32::from(matches!(socket.read(&mut [0; 64]), Ok(0)));
    }
    assert!(at_once >= 100, "only {at_once} were hung up on");
    drop(more);
    // A byte a second is no sign of life.
    for _ in 0..25 {
        for socket in &mut halves {
            let _ = socket.write_all(b"A");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for socket in &mut halves {
        is_sent_away(socket);
    }
    until(async || door.attacked.open_files() <= files + 5).await;
    door.serves("well").await;
    door.attacked.survives(250).await;
}

/// Of a window that is never opened nothing is held, and others receive meanwhile.
#[tokio::test]
async fn windows_that_stay_shut_hold_nothing() {
    let door = door().await;
    let mut filler = door.peer().await;
    fill(&mut filler, "full", 80, 900 << 10).await;
    let mut shut = Vec::new();
    // Shut from the beginning, and after the first transfers.
    for window in [0, 20].repeat(4) {
        let mut peer = door.peer_with(window).await;
        for handle in 0..8 {
            peer.attach(handle, Role::Receiver, node("full")).await;
        }
        for handle in 0..8 {
            peer.credit(handle, 1_000_000, false).await;
        }
        shut.push(peer);
    }
    let mut well = door.peer().await;
    well.attach(1, Role::Receiver, node("full")).await;
    well.credit(1, 5, false).await;
    for _ in 0..5 {
        let (Performative::Transfer(first), _) = well.hear().await else {
            panic!("no transfer");
        };
        let mut more = first.more;
        while more {
            let (Performative::Transfer(part), _) = well.hear().await else {
                panic!("no transfer");
            };
            more = part.more;
        }
    }
    door.serves("well").await;
    door.attacked.survives(120).await;
}

#[tokio::test]
async fn receivers_that_never_read_hold_up_nobody() {
    let door = door().await;
    let mut filler = door.peer().await;
    fill(&mut filler, "full", 100, 900 << 10).await;
    let begun = door.attacked.resident_mib();
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let mut peer = door.peer_with(1 << 30).await;
        for handle in 0..8 {
            peer.attach(handle, Role::Receiver, node("full")).await;
        }
        for handle in 0..8 {
            peer.credit(handle, 1_000_000, false).await;
        }
        deaf.push(peer);
    }
    for _ in 0..20 {
        door.serves("well").await;
    }
    let grown = door.attacked.resident_mib().saturating_sub(begun);
    println!("{grown} MiB for {} receivers that do not read", deaf.len());
    assert!(grown <= 10 * 12, "{grown} MiB");
    door.attacked.survives(250).await;
}

#[tokio::test]
async fn senders_that_know_of_no_credit_are_slowed_down() {
    let door = door().await;
    let payload = message(900 << 10);
    let mut floods = Vec::new();
    for _ in 0..10 {
        let mut peer = door.peer().await;
        peer.attach(0, Role::Sender, node("flooded")).await;
        let payload = payload.clone();
        // Nothing that comes back is read.
        floods.push(tokio::spawn(async move {
            for id in 0..2_000 {
                peer.write(&delivery(0, 1, id, &payload, false)).await;
            }
        }));
    }
    for _ in 0..5 {
        door.serves("well").await;
    }
    for flood in floods {
        flood.abort();
    }
    door.attacked.survives(450).await;
}

#[tokio::test]
async fn more_sessions_and_links_than_there_may_be_end_the_connection_and_no_other() {
    let door = door().await;
    for _ in 0..4 {
        let mut peer = door.peer().await;
        let mut out = Vec::new();
        for channel in 2..2_000 {
            let begin = Begin {
                incoming_window: 1,
                outgoing_window: 1,
                ..Begin::default()
            };
            Performative::Begin(Box::new(begin)).write_frame(channel, &mut out);
        }
        peer.write(&out).await;
        loop {
            if let Performative::Close(close) = peer.hear().await.0 {
                let error = close.error.unwrap();
                assert_eq!(error.condition.as_str(), "amqp:connection:framing-error");
                break;
            }
        }
    }
    let mut peers = Vec::new();
    for _ in 0..10 {
        let mut peer = door.peer().await;
        let mut out = Vec::new();
        for handle in 0..100 {
            let attach = mente_wire::amqp::performative::Attach {
                target: Some(node("$cbs")),
                initial_delivery_count: Some(0),
                ..mente_wire::amqp::performative::Attach::new(
                    format!("l{handle}").into(),
                    handle,
                    Role::Sender,
                )
            };
            Performative::Attach(Box::new(attach)).write_frame(1, &mut out);
        }
        peer.write(&out).await;
        peers.push(peer);
    }
    door.serves("well").await;
    door.attacked.survives(60).await;
}

/// What is said of thousands of deliveries again and again is looked at once.
#[tokio::test]
async fn what_is_said_of_all_deliveries_at_once_and_again_holds_nobody_up() {
    const COUNT: u32 = 5_000;
    let door = door().await;
    let mut peer = door.peer_with(1 << 30).await;
    let batch: Vec<Vec<u8>> = (0..500).map(|_| message(1)).collect();
    peer.attach(0, Role::Sender, node("many")).await;
    assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
    let body = Body::of_data(batch.iter().map(Vec::as_slice));
    let mut payload = Vec::new();
    Message {
        body,
        ..Message::default()
    }
    .write(&mut payload);
    for id in 0..COUNT / 500 {
        let mut transfer = Transfer {
            handle: 0,
            delivery_id: Some(id),
            delivery_tag: Some(id.to_be_bytes().to_vec().into()),
            message_format: Some(mente_wire::amqp::message::BATCH_FORMAT),
            ..Transfer::default()
        };
        let mut out = Vec::new();
        let written = transfer.write_frame(1, payload.len(), false, 64 << 10, &mut out);
        assert_eq!(written, Some(payload.len()));
        out.extend_from_slice(&payload);
        peer.write(&out).await;
    }
    settled(&mut peer, COUNT / 500).await;
    peer.attach(1, Role::Receiver, node("many")).await;
    peer.credit(1, COUNT, false).await;
    for _ in 0..COUNT {
        let (Performative::Transfer(_), _) = peer.hear().await else {
            panic!("no transfer");
        };
    }
    // It never settles: it only says how far it is, of all of them.
    let received = DeliveryState::Received {
        section_number: 0,
        section_offset: 0,
    };
    let wide = |state| {
        let disposition = Disposition {
            last: Some(u32::MAX >> 2),
            settled: false,
            ..Disposition::settled(Role::Receiver, 0, state)
        };
        let mut out = Vec::new();
        Performative::Disposition(disposition).write_frame(1, &mut out);
        out
    };
    peer.write(&wide(received).repeat(20_000)).await;
    door.serves("well").await;
    let accepted = DeliveryState::Outcome(Outcome::Accepted);
    peer.write(&wide(accepted).repeat(20_000)).await;
    door.serves("well").await;
    // Each of them is answered once.
    settled(&mut peer, COUNT).await;
    door.attacked.survives(60).await;
}

/// Waits until so many deliveries are settled, one by one or several at once.
async fn settled(peer: &mut Peer, count: u32) {
    let mut left = count;
    while left > 0 {
        match peer.hear().await.0 {
            Performative::Disposition(said) => {
                let accepted = Some(DeliveryState::Outcome(Outcome::Accepted));
                assert_eq!((said.settled, said.state), (true, accepted));
                left -= said.last.unwrap_or(said.first) - said.first + 1;
            }
            Performative::Flow(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
