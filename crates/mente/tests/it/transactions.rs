//! A server that is killed in the middle of transactions across queues. Each message is replaced by the next one of its
//! name in the next queue, so whatever dies when, there is one message of each name in all of them, and none older than
//! what a client was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mente_wire::amqp::message::{Body, Message};
use mente_wire::amqp::performative::{Disposition, Flow, Performative, Role, Transfer};
use mente_wire::amqp::transaction::{Control, Declare, Discharge};
use mente_wire::amqp::{Coordinator, DeliveryState, Destination, Outcome};
use tokio::net::TcpStream;

use crate::peer::{Peer, node};
use crate::server::{SOON, Server};

const QUEUES: [&str; 3] = ["a", "b", "c"];
const NAMES: u32 = 12;
const KILLS: u64 = 6;
const CLIENTS: usize = 6;
/// Handles of the links of a client.
const SENDER: u32 = 0;
const RECEIVER: u32 = 1;
const CONTROL: u32 = 2;

/// By name, the version that is certainly there, or a newer one.
type Known = Arc<Mutex<BTreeMap<u32, u64>>>;

struct Client {
    peer: Peer,
    next_delivery: u32,
    received: u32,
}

impl Client {
    /// Who sends to one queue.
    async fn new(address: &str, to: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut peer = Peer::begin(stream).await;
        peer.attach(SENDER, Role::Sender, node(to)).await;
        // Its credit.
        peer.hear().await;
        Self {
            peer,
            next_delivery: 0,
            received: 0,
        }
    }

    /// The next frame that is no word on credit.
    async fn hear(&mut self) -> (Performative, Bytes) {
        loop {
            match self.peer.hear().await {
                (Performative::Flow(flow), _) if flow.handle != Some(RECEIVER) => {}
                heard => return heard,
            }
        }
    }

    async fn send(&mut self, handle: u32, body: Body, state: Option<DeliveryState>) {
        let mut payload = Vec::new();
        let message = Message {
            body,
            ..Message::default()
        };
        message.write(&mut payload);
        let id = self.next_delivery;
        self.next_delivery += 1;
        let mut transfer = Transfer {
            handle,
            delivery_id: Some(id),
            delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
            message_format: Some(0),
            state,
            ..Transfer::default()
        };
        let mut out = Vec::new();
        transfer.write_frame(1, payload.len(), false, 64 << 10, &mut out);
        out.extend_from_slice(&payload);
        self.peer.write(&out).await;
    }

    async fn answer(&mut self) -> DeliveryState {
        match self.hear().await.0 {
            Performative::Disposition(said) => said.state.unwrap(),
            other => panic!("{other:?} and no answer"),
        }
    }

    async fn ask(&mut self, control: &Control) -> DeliveryState {
        self.send(CONTROL, control.to_body(), None).await;
        self.answer().await
    }

    async fn credit(&mut self, credit: u32, drain: bool) {
        let flow = Flow {
            incoming_window: 100,
            outgoing_window: 100,
            handle: Some(RECEIVER),
            delivery_count: Some(self.received),
            link_credit: Some(credit),
            drain,
            ..Flow::default()
        };
        self.peer.say(&Performative::Flow(Box::new(flow))).await;
    }

    async fn say(&mut self, delivery: u32, state: DeliveryState) -> DeliveryState {
        let disposition = Disposition {
            role: Role::Receiver,
            first: delivery,
            last: None,
            settled: false,
            state: Some(state),
            batchable: false,
        };
        self.peer.say(&Performative::Disposition(disposition)).await;
        self.answer().await
    }

    async fn receive_from(&mut self, queue: &str) {
        self.peer
            .attach(RECEIVER, Role::Receiver, node(queue))
            .await;
    }

    /// Replaces one message of a queue after the other, until the server is gone: then it panics, and is not looked at.
    async fn work(mut self, from: &str, known: Known) {
        let coordinator = Destination::Coordinator(Coordinator::default());
        self.peer.attach(CONTROL, Role::Sender, coordinator).await;
        self.peer.hear().await;
        self.receive_from(from).await;
        loop {
            self.credit(1, false).await;
            let (Performative::Transfer(transfer), payload) = self.hear().await else {
                panic!("no message");
            };
            self.received += 1;
            let (name, version) = read(&payload);
            let declared = self.ask(&Control::Declare(Declare::default())).await;
            let DeliveryState::Declared { txn_id } = declared else {
                panic!("{declared:?}");
            };
            let within = |outcome| DeliveryState::Transactional {
                txn_id: txn_id.clone(),
                outcome,
            };
            let done = within(Some(Outcome::Accepted));
            let next = text(name, version + 1);
            self.send(SENDER, next, Some(within(None))).await;
            self.answer().await;
            self.say(transfer.delivery_id.unwrap(), done).await;
            let discharge = Discharge {
                txn_id,
                fail: false,
            };
            let told = self.ask(&Control::Discharge(discharge)).await;
            if told == DeliveryState::Outcome(Outcome::Accepted) {
                let mut known = known.lock().unwrap();
                let newest = known.entry(name).or_default();
                *newest = (version + 1).max(*newest);
            }
        }
    }

    /// All that is there, which is given back.
    async fn look(&mut self) -> Vec<(u32, u64)> {
        self.credit(4 * NAMES, true).await;
        let (mut there, mut deliveries) = (Vec::new(), Vec::new());
        while let (Performative::Transfer(transfer), payload) = self.hear().await {
            there.push(read(&payload));
            deliveries.push(transfer.delivery_id.unwrap());
        }
        // What is drained counts as sent.
        self.received += 4 * NAMES;
        for delivery in deliveries {
            let released = DeliveryState::Outcome(Outcome::Released);
            self.say(delivery, released).await;
        }
        there.sort_unstable();
        there
    }
}

fn text(name: u32, version: u64) -> Body {
    Body::of_data([format!("{name} {version}").as_bytes()])
}

fn read(payload: &Bytes) -> (u32, u64) {
    let message = Message::split(payload).unwrap();
    let data: Vec<Bytes> = message.body.data().collect();
    let text = String::from_utf8(data.concat()).unwrap();
    let (name, version) = text.split_once(' ').unwrap();
    (name.parse().unwrap(), version.parse().unwrap())
}

/// All that is in any of the queues.
async fn look(address: &str) -> Vec<(u32, u64)> {
    let mut there = Vec::new();
    for queue in QUEUES {
        let mut client = Client::new(address, queue).await;
        client.receive_from(queue).await;
        there.extend(client.look().await);
    }
    there.sort_unstable();
    there
}

/// What was on its way when the server died arrives soon.
async fn judge(address: &str, known: &Known) {
    let began = std::time::Instant::now();
    let mut there = look(address).await;
    while there.len() < NAMES as usize && began.elapsed() < SOON {
        tokio::time::sleep(Duration::from_millis(50)).await;
        there = look(address).await;
    }
    let names: Vec<u32> = there.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        (0..NAMES).collect::<Vec<_>>(),
        "one of each: {there:?}"
    );
    let mut known = known.lock().unwrap();
    for (name, version) in there {
        let told = known.insert(name, version).unwrap_or_default();
        // Each client may not have heard of one.
        assert!(
            (told..=told + CLIENTS as u64).contains(&version),
            "{name}: {version} after {told}"
        );
    }
}

fn port(server: &Server) -> String {
    let ports = std::fs::read_to_string(server.data().with_file_name("ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    ports["amqp"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn whoever_kills_a_server_finds_its_transactions_whole() {
    let flags = ["--amqp", "127.0.0.1:0", "--create-topics"];
    let mut server = Server::start_with(&flags);
    let known = Known::default();
    let mut client = Client::new(&port(&server), QUEUES[0]).await;
    for name in 0..NAMES {
        client.send(SENDER, text(name, 0), None).await;
        let accepted = DeliveryState::Outcome(Outcome::Accepted);
        assert_eq!(client.answer().await, accepted);
    }
    drop(client);
    for kill in 0..KILLS {
        let address = port(&server);
        let mut working = Vec::new();
        for client in 0..CLIENTS {
            let [from, to] = [client, client + 1].map(|at| QUEUES[at % QUEUES.len()]);
            let client = Client::new(&address, to).await;
            working.push(tokio::spawn(client.work(from, Arc::clone(&known))));
        }
        // Somewhere in the middle.
        tokio::time::sleep(Duration::from_millis(700 + 137 * kill)).await;
        let is_well = working.iter().all(|work| !work.is_finished());
        assert!(is_well, "a client gave up before the server died");
        server = server.crash_and_restart();
        for work in working {
            work.await.unwrap_err();
        }
        judge(&port(&server), &known).await;
    }
    let done: u64 = known.lock().unwrap().values().sum();
    assert!(
        done >= 2 * KILLS * CLIENTS as u64,
        "{done} transactions are no load"
    );
}
