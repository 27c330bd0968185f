//! The administration of Service Bus over HTTP and HTTPS on one port: queues, topics and subscriptions are
//! made, changed, looked up, listed and deleted by the clients of Azure Service Bus.
//!
//! ```text
//! connection.rs ─▶ path.rs · caller.rs ─▶ entities.rs · subscriptions.rs · rules.rs ─▶ broker
//!  first byte,      what is meant,         with page.rs, and from descriptions to properties and back
//!  limits           who asks               in described/
//! ```
//! .NET comes over HTTP where it is told of an emulator, all others over HTTPS always: the port takes both where it
//! has an identity.
//!
//! | path | methods |
//! |---|---|
//! | `/NAME` | `GET`, `PUT` (201, or 200 with `If-Match`), `DELETE` (200) of a queue or a topic |
//! | `/TOPIC/subscriptions/NAME` | the same of a subscription |
//! | `/TOPIC/subscriptions/NAME/rules/RULE` | the same of a rule |
//! | `/$Resources/queues`, `/$Resources/topics`, `/TOPIC/subscriptions`, `/TOPIC/subscriptions/NAME/rules` | `GET` with `$skip` and `$top` |
//! | `/$namespaceinfo`, `/health` | `GET` |
//!
//! Segments that are not names are the same in any case, and so are names. Sizes in bytes and when somebody last used an entity are not known, and told as 0 and
//! the year 1.
//!
//! Every refusal leaves through `error.rs`, which holds the one table from kinds to statuses.

mod entities;
mod namespace;
mod rules;
mod subscriptions;

mod page;

mod caller;
mod connection;
mod error;
mod path;
mod request;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use mente_broker::{Access, Broker};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use crate::keys::Key;
use crate::port;
use crate::tls::Identity;
use error::{Refusal, Result};
use path::Place;
use request::Request;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// As whom the port answers clients that begin with TLS; without one they are hung up on.
    pub tls: Option<Identity>,
    /// What the broker demands: where nothing is, any signature will do, or none.
    pub access: Access,
    pub keys: Vec<Key>,
}

/// A bound door that does not serve yet.
#[derive(Debug)]
pub struct Administration {
    listener: TcpListener,
    broker: Broker,
    options: Options,
}

/// What every request shares.
#[derive(Debug)]
struct Door {
    broker: Broker,
    tls: Option<Identity>,
    access: Access,
    keys: Vec<Key>,
    /// Where it listens, for who does not say how he came here.
    address: String,
    stopping: watch::Receiver<bool>,
}

/// The door as it is reached by one of its two ways.
#[derive(Clone, Debug)]
struct Way {
    door: Arc<Door>,
    scheme: &'static str,
}

impl Administration {
    /// Takes the port; connections wait in its backlog until [`Administration::run`].
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

    /// Serves until `stop` holds true, then finishes what is under way.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let address = self.address().map(|address| address.to_string());
        let door = Arc::new(Door {
            broker: self.broker,
            tls: self.options.tls,
            access: self.options.access,
            keys: self.options.keys,
            address: address.unwrap_or_default(),
            stopping: stop,
        });
        connection::serve(self.listener, door).await;
    }
}

impl Door {
    /// Resolves once the server stops; at once if it does already.
    async fn stopped(&self) {
        // A sender that is gone means the same: nobody could say it any more.
        let _ = self.stopping.clone().wait_for(|stop| *stop).await;
    }
}

fn router(door: &Arc<Door>, scheme: &'static str) -> Router {
    let way = Way {
        door: Arc::clone(door),
        scheme,
    };
    Router::new().fallback(handle).with_state(way)
}

async fn handle(State(way): State<Way>, request: axum::extract::Request) -> Response {
    let answered = answer(&way, request).await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(way: &Way, request: axum::extract::Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let place = Place::parse(parts.uri.path())?;
    if place == Place::Health {
        return namespace::health(&way.door).await;
    }
    let who = caller::identify(&way.door, &parts)?;
    let request = Request::new(way, who, parts);
    let method = request.method().clone();
    match (place, method) {
        (Place::Namespace, Method::GET) => Ok(namespace::info(&request)),
        (Place::Queues, Method::GET) => entities::queues(&request).await,
        (Place::Topics, Method::GET) => entities::topics(&request).await,
        (Place::Entity(path), Method::GET) => entities::get(&request, &path).await,
        (Place::Entity(path), Method::PUT) => entities::put(&request, &path, body).await,
        (Place::Entity(path), Method::DELETE) => entities::delete(&request, &path).await,
        (Place::Subscriptions(topic), Method::GET) => subscriptions::list(&request, &topic).await,
        (Place::Subscription(of), Method::GET) => subscriptions::get(&request, &of).await,
        (Place::Subscription(of), Method::PUT) => subscriptions::put(&request, &of, body).await,
        (Place::Subscription(of), Method::DELETE) => subscriptions::delete(&request, &of).await,
        (Place::Rules(of), Method::GET) => rules::list(&request, &of).await,
        (Place::Rule(of, name), Method::GET) => rules::get(&request, &of, &name).await,
        (Place::Rule(of, name), Method::PUT) => rules::put(&request, &of, &name, body).await,
        (Place::Rule(of, name), Method::DELETE) => rules::delete(&request, &of, &name).await,
        _ => Err(Refusal::no_such_method()),
    }
}
