//! The AMQP door: what clients of Azure Service Bus speak, over plain TCP, TLS or WebSocket, on one port.
//!
//! ```text
//! listen.rs ─▶ connection.rs ─▶ client.rs ─▶ attach.rs · receiver.rs · sender.rs · settle.rs ─▶ broker
//!  first bytes,   bytes, clock,    links and    download.rs · upload.rs
//!  TLS, seats     the machine      work         requests.rs ─▶ tokens.rs · management/
//!                                               transactions.rs: what waits for its discharge
//! ```
//! The protocol's numbers are kept right by the machine of `mente_wire::amqp::machine`; here is what they are for.
//! One task has a connection. Nothing that it does waits: each call of the broker is a future beside the others
//! ([`client::Client`]), and the task goes on reading and writing meanwhile.
//!
//! Every refusal leaves through `condition.rs`, which holds the one table from kinds to conditions.

mod listen;
mod pace;
mod websocket;

mod client;
mod connection;

mod attach;
mod download;
mod receiver;
mod sender;
mod settle;
mod transactions;
mod upload;

mod management;
mod requests;
mod tokens;

mod address;
mod condition;
mod properties;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mente_broker::{Access, Broker};
use mente_engine::limits;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use self::pace::Pace;
pub use crate::keys::Key;
use crate::port;
use crate::tls::Identity;
pub use properties::OfMessages;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// As whom the port answers clients that begin with TLS; without one they are hung up on.
    pub tls: Option<Identity>,
    /// What the broker demands: where nothing is, any key will do.
    pub access: Access,
    pub keys: Vec<Key>,
}

/// A bound AMQP door that does not serve yet.
#[derive(Debug)]
pub struct Amqp {
    listener: TcpListener,
    broker: Broker,
    options: Options,
}

/// What all connections share.
#[derive(Debug)]
struct Door {
    broker: Arc<Broker>,
    tls: Option<Identity>,
    access: Access,
    keys: Vec<Key>,
    seats: Arc<Semaphore>,
    /// Bytes of messages that may still be on their way to the broker.
    room: Arc<Semaphore>,
    /// Bytes of messages that may still wait for the end of their transactions.
    transactions: Arc<Semaphore>,
    /// The same of what there is in memory of messages that are larger than an event, in both directions.
    large: Arc<Semaphore>,
    /// Of their pieces on the way to the log, and from there.
    inward: Pace,
    outward: Pace,
    stopping: watch::Receiver<bool>,
}

impl Amqp {
    /// Takes the port; connections wait in its backlog until [`Amqp::run`].
    pub async fn bind(address: SocketAddr, broker: Broker, options: Options) -> io::Result<Self> {
        let listener = port::listen(address)?;
        Ok(Self {
            listener,
            broker,
            options,
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` holds true, then ends connections with what they have asked for answered, within
    /// [`limits::HTTP_DRAIN_SECONDS`].
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let door = Arc::new(Door::new(self.broker, self.options, stop));
        listen::serve(self.listener, door).await;
    }
}

impl Door {
    fn new(broker: Broker, options: Options, stopping: watch::Receiver<bool>) -> Self {
        Self {
            broker: Arc::new(broker),
            tls: options.tls,
            access: options.access,
            keys: options.keys,
            seats: Arc::new(Semaphore::new(listen::seats())),
            room: Arc::new(Semaphore::new(limits::AMQP_MESSAGES_BYTES)),
            transactions: Arc::new(Semaphore::new(limits::TRANSACTIONS_BYTES)),
            large: Arc::new(Semaphore::new(limits::AMQP_LARGE_BYTES)),
            inward: Pace::default(),
            outward: Pace::default(),
            stopping,
        }
    }

    /// Resolves once the server stops; at once if it does already.
    async fn stopped(&self) {
        // A sender that is gone means the same: nobody could say it any more.
        let _ = self.stopping.clone().wait_for(|stop| *stop).await;
    }
}
