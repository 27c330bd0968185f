//! The shop as a page: the same topics at a pace that people can follow, without end.
//!
//! ```text
//! staff.rs (catalogue, clerk, webhook) ─▶ Mente ─▶ board.rs (follows every topic, folds, tells)
//!        ▲ switches                                   │ one stream of server-sent events a page
//!        └────────────── front.rs ◀── browser ◀───────┘
//! ```
//! What the page shows comes from the events alone: folded from the topics here, from an order's
//! stream (as it is in `recall.rs`, as it was in `past.rs`) and into the SQL view of sales by Mente. So a page that is loaded again, or
//! a demo that is started again on the same server, shows the same.
//!
//! Start reading at `fold.rs`.

mod board;
mod fold;
mod front;
mod listener;
mod past;
mod recall;
mod staff;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::home::{Home, HomeArgs};
use super::roles::ask;
use super::rows::Rows;
use crate::client::Client;
use crate::output::{bold, line};
use board::Board;
use staff::{Catalogue, Clerk, Webhook};

/// Where the page is unless told otherwise.
const ADDRESS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8490);
/// Everything that the page follows, and who tells what there.
const TOPICS: [&str; 4] = ["orders", "shipments", "notices", "catalogue"];
const CLERKS: usize = 2;

#[derive(Debug)]
pub(crate) struct Options {
    /// The default one may be replaced if it is busy; one that was asked for may not.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) home: HomeArgs,
}

/// Serves the page until a signal says to stop.
pub(crate) async fn run(options: Options) -> Result<()> {
    let listener = bind(options.address).await?;
    let mut home = Home::open(&options.home, "shop").await?;
    let address = listener.local_addr().context("port of the page")?;
    let mut work = open(listener, address, &home.url).await?;
    line(&format!(
        "shop: http://{address}  (events on {}, Ctrl-C ends it)",
        home.url
    ))
    .map_err(|failure| anyhow::anyhow!(failure.message))?;
    let ended = tokio::select! {
        signal = crate::run::signal() => signal.map(drop),
        ended = work.join_next() => match ended {
            Some(Ok(Err(error))) => Err(error),
            Some(Err(error)) => Err(anyhow::Error::new(error).context("somebody in the shop failed")),
            Some(Ok(Ok(()))) | None => Err(anyhow::anyhow!("somebody left the shop")),
        },
    };
    work.shutdown().await;
    home.close().await?;
    ended
}

async fn bind(asked: Option<SocketAddr>) -> Result<TcpListener> {
    let address = asked.unwrap_or(ADDRESS_DEFAULT);
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if asked.is_none() && error.kind() == std::io::ErrorKind::AddrInUse => {
            let words = format!("port {} is busy: the page takes another", address.port());
            eprintln!("{}", bold(&words));
            let any = SocketAddr::new(address.ip(), 0);
            TcpListener::bind(any).await.context("no free port")
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot serve the page on {address}; end what holds the port, or choose another with --serve ADDRESS:PORT"
            )
        }),
    }
}

/// Makes topics and subscriptions and lets everybody in.
async fn open(
    listener: TcpListener,
    address: SocketAddr,
    url: &str,
) -> Result<JoinSet<Result<()>>> {
    let client = || Client::new(url).map(Arc::new);
    let board = Arc::new(Board::new(url));
    let webhook = Webhook::new(client()?, Arc::clone(&board));
    let mut work = JoinSet::new();
    let hook = webhook.open(&mut work).await?;
    let rows = furnish(&*client()?, &hook).await?;
    for topic in TOPICS {
        work.spawn(Arc::clone(&board).follow(client()?, topic));
    }
    for _ in 0..CLERKS {
        let clerk = Clerk::new(client()?, Arc::clone(&board));
        work.spawn(async move { clerk.work().await });
    }
    let catalogue = Catalogue::new(client()?, Arc::clone(&board));
    work.spawn(async move { catalogue.work().await });
    let front = front::router(client()?, board, rows, address);
    work.spawn(listener::serve(listener, front));
    Ok(work)
}

async fn furnish(client: &Client, hook: &str) -> Result<Rows> {
    for topic in TOPICS {
        let path = format!("/topics/{topic}");
        ask(client, "PUT", &path, &json!({"partitions": 1})).await?;
    }
    let clerk = json!({
        "from": "earliest",
        "lock_duration_ms": 15_000,
        "filter": {"exact": {"type": "shop.OrderPlaced"}},
    });
    let path = "/topics/orders/subscriptions/clerk";
    ask(client, "PUT", path, &clerk).await?;
    let rows = recall::furnish(client).await?;
    let customer = json!({
        "from": "earliest",
        "lock_duration_ms": 15_000,
        "max_delivery_count": 2_000,
        "filter": {"exact": {"type": "shop.OrderShipped"}},
        "push": {"url": hook, "timeout_ms": 10_000, "retry": {"waits_ms": [500, 1_000, 2_000]}},
    });
    // The webhook of an earlier run is gone. Hearing all of it again does no harm: who was told
    // already is in the events.
    let path = "/topics/shipments/subscriptions/customer";
    super::roles::insist(client, "DELETE", path, &Value::Null).await?;
    ask(client, "PUT", path, &customer).await?;
    Ok(rows)
}
