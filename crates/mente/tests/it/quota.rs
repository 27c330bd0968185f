//! A queue is full of what is not settled, whatever came and went behind one that stays; also after the server was killed.

use std::collections::VecDeque;
use std::time::Instant;

use mente::client::Client;
use mente_wire::amqp::message::{Body, Message};
use mente_wire::amqp::performative::{Disposition, Performative, Role};
use mente_wire::amqp::{DeliveryState, Modified, Outcome};
use tokio::net::TcpStream;

use crate::engine::TELLS_SIZES_EXACTLY;
use crate::peer::{Peer, node};
use crate::server::{SOON, Server, eventually};

const DOORS: [&str; 4] = ["--amqp", "127.0.0.1:0", "--servicebus-admin", "127.0.0.1:0"];
/// A queue of one megabyte takes eleven of them.
const PART: usize = 100 << 10;
const SENDER: u32 = 0;
const RECEIVER: u32 = 1;

fn port(server: &Server, door: &str) -> String {
    let ports = std::fs::read_to_string(server.data().with_file_name("ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    ports[door].as_str().unwrap().to_owned()
}

/// What the administration says of the queue, once it was told `description` if that is some.
async fn administration(server: &Server, method: &str, description: &str) -> String {
    let client = Client::new(&format!("http://{}", port(server, "servicebus-admin"))).unwrap();
    let entry = format!("<entry><content>{description}</content></entry>");
    let body = if method == "PUT" {
        entry
    } else {
        String::new()
    };
    let kind = (method == "PUT").then_some("application/atom+xml");
    let answer = client.request(method, "/q", kind, body).await.unwrap();
    assert!(answer.status < 300, "{}", answer.text());
    answer.text()
}

async fn size(server: &Server) -> u64 {
    let told = administration(server, "GET", "").await;
    let (_, size) = told.split_once("<SizeInBytes>").unwrap();
    size.split_once('<').unwrap().0.parse().unwrap()
}

/// A client that takes whatever comes, and settles it when it is told to.
struct Queue {
    peer: Peer,
    sent: u32,
    /// Deliveries that are whole, and the one of which a part is there.
    came: VecDeque<u32>,
    coming: Option<u32>,
}

impl Queue {
    async fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(port(server, "amqp")).await.unwrap();
        let mut peer = Peer::begin_with(stream, 1_000_000).await;
        peer.attach(SENDER, Role::Sender, node("q")).await;
        assert!(matches!(peer.hear().await.0, Performative::Flow(_)));
        peer.attach(RECEIVER, Role::Receiver, node("q")).await;
        peer.credit(RECEIVER, 100_000, false).await;
        Self {
            peer,
            sent: 0,
            came: VecDeque::new(),
            coming: None,
        }
    }

    async fn send(&mut self, bytes: usize) -> Outcome {
        let message = Message {
            body: Body::of_data([vec![b'x'; bytes].as_slice()]),
            ..Message::default()
        };
        let mut payload = Vec::new();
        message.write(&mut payload);
        let id = self.sent;
        self.sent += 1;
        self.peer.send_in_parts(SENDER, id, &payload, false).await;
        self.answer(Role::Receiver, id).await
    }

    /// What is said of a delivery.
    async fn answer(&mut self, role: Role, id: u32) -> Outcome {
        loop {
            let Some(said) = self.hear().await else {
                continue;
            };
            assert_eq!((said.role, said.first), (role, id));
            let Some(DeliveryState::Outcome(outcome)) = said.state else {
                panic!("no outcome: {said:?}");
            };
            return outcome;
        }
    }

    async fn hear(&mut self) -> Option<Disposition> {
        match self.peer.hear().await.0 {
            Performative::Disposition(said) => return Some(said),
            Performative::Transfer(transfer) => {
                // Only the first part says which one it is of.
                self.coming = transfer.delivery_id.or(self.coming);
                if !transfer.more {
                    self.came.extend(self.coming.take());
                }
            }
            Performative::Flow(_) => {}
            other => panic!("{other:?}"),
        }
        None
    }

    /// Says this of the next one that came.
    async fn settle(&mut self, outcome: Outcome) {
        while self.came.is_empty() {
            assert!(self.hear().await.is_none());
        }
        let id = self.came.pop_front().unwrap();
        let state = DeliveryState::Outcome(outcome.clone());
        let disposition = Disposition {
            settled: false,
            ..Disposition::settled(Role::Receiver, id, state)
        };
        self.peer.say(&Performative::Disposition(disposition)).await;
        assert_eq!(self.answer(Role::Sender, id).await, outcome);
    }

    /// Whether the queue takes one more; it says why if not.
    async fn takes_one(&mut self) -> bool {
        match self.send(PART).await {
            Outcome::Accepted => true,
            Outcome::Rejected(Some(error)) => {
                let words = error.description.unwrap().as_str().to_owned();
                let condition = error.condition.as_str();
                assert_eq!(condition, "amqp:resource-limit-exceeded", "{words}");
                assert!(words.contains(r#"queue "q""#), "{words}");
                false
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends until one is refused; how many were not.
    async fn fill(&mut self) -> usize {
        let (began, mut taken) = (Instant::now(), 0);
        while self.takes_one().await {
            taken += 1;
            assert!(began.elapsed() < SOON, "{taken} and none is refused");
        }
        taken
    }
}

#[tokio::test]
async fn a_queue_is_full_of_what_is_not_settled() {
    let server = Server::start_with(&DOORS);
    let queue = "<QueueDescription><LockDuration>PT5M</LockDuration><MaxSizeInMegabytes>1</MaxSizeInMegabytes></QueueDescription>";
    administration(&server, "PUT", queue).await;
    let mut client = Queue::open(&server).await;
    assert_eq!(client.send(10).await, Outcome::Accepted);
    let aside = Modified {
        delivery_failed: false,
        undeliverable_here: true,
        message_annotations: None,
    };
    client.settle(Outcome::Modified(aside)).await;
    // Four megabytes come and go behind it.
    for _ in 0..40 {
        assert!(client.takes_one().await);
        client.settle(Outcome::Accepted).await;
    }
    // By Kafka's figures all messages are of one size.
    let aside = if TELLS_SIZES_EXACTLY { 1_000 } else { 2 * PART };
    eventually(async || (1..aside as u64).contains(&size(&server).await)).await;

    let mut there = client.fill().await;
    let most = if TELLS_SIZES_EXACTLY { 11 } else { usize::MAX };
    assert!((9..=most).contains(&there), "{there}");
    eventually(async || size(&server).await >= 1 << 20).await;
    let server = server.crash_and_restart();
    let mut client = Queue::open(&server).await;
    let more = client.fill().await;
    assert!(more == 0 || !TELLS_SIZES_EXACTLY, "{more}");
    there += more;

    // It takes again as soon as some of it is gone.
    for _ in 0..there {
        client.settle(Outcome::Accepted).await;
    }
    eventually(async || client.takes_one().await).await;
    client.settle(Outcome::Accepted).await;
    eventually(async || size(&server).await < aside as u64).await;
}
