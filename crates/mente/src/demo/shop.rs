//! The shop as a whole: who is there, when somebody goes away, and when the day is over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::memory::{self, Recalled};
use super::roles::{Catalogue, Notified, Seen, Shipping, Stock, Storefront, ask};
use super::server::Server;
use super::summary::{Books, Summary};
use super::web;
use crate::args::{Choice, Kind};
use crate::client::Client;
use crate::failure::Failure;

/// Orders that are placed at one time.
const TILLS: u64 = 32;
const CLERKS: usize = 8;
/// No delivery for so long ends the day: longer than a lock holds.
const QUIET: Duration = Duration::from_millis(1_500);
/// Nothing new for so long means that something is lost or stuck.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct ShopArgs {
    /// Orders to place
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    orders: u64,
    /// Kill the server (SIGKILL) so often while the shop works, and start it again
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 0,
        conflicts_with = "server"
    )]
    kills: u64,
    /// Use this server instead of one of the demo's own
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    engine: Choice,
    /// Keep the server's data and everybody's files there, instead of a directory that goes away
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Serve the shop as a page instead, until Ctrl-C: order by hand and watch the events
    /// [default address: 127.0.0.1:8490]
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["orders", "kills"])]
    serve: Option<Option<SocketAddr>>,
}

impl ShopArgs {
    /// What the page is served with, if it is asked for.
    pub(super) fn page(&self) -> Option<web::Options> {
        self.serve.map(|address| web::Options {
            address,
            server: self.server.clone(),
            engine: self.own_engine(),
            folder: self.dir.clone(),
        })
    }

    /// A server that runs already has its engine.
    pub(super) fn check(&self) -> crate::failure::Result<()> {
        if self.server.is_some() && self.engine.engine == Kind::Kafka {
            let message = "--server names a server that has its engine: leave --engine out";
            return Err(Failure::usage(message));
        }
        Ok(())
    }

    /// In a cluster the shop takes topics that nobody has yet, unless it is told which.
    fn own_engine(&self) -> Choice {
        let mut engine = self.engine.clone();
        // For trying out, wherever that is.
        engine.allow_unsafe_kafka = true;
        if engine.engine == Kind::Kafka && engine.kafka_prefix.is_empty() {
            let seconds = std::time::UNIX_EPOCH
                .elapsed()
                .unwrap_or_default()
                .as_secs();
            engine.kafka_prefix = format!("shop-{seconds:x}.")
                .parse()
                .expect("these letters are allowed");
        }
        engine
    }
}

/// Runs the shop; `Ok(false)` if something was lost or invented.
pub(crate) async fn run(args: ShopArgs) -> Result<bool> {
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let folder = args
        .dir
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let server = match &args.server {
        None => {
            let engine = args.own_engine();
            if engine.engine == Kind::Kafka {
                let prefix = &engine.kafka_prefix;
                eprintln!("shop: its topics in the Kafka cluster begin with {prefix}");
            }
            Some(Server::start_on(&folder, engine).await?)
        }
        Some(_) => None,
    };
    let url = match (&server, args.server) {
        (Some(server), _) => server.url(),
        (None, given) => given.context("no server")?,
    };
    eprintln!(
        "shop: {} orders, server {url}, files in {}",
        args.orders,
        folder.display()
    );
    let shop = Shop::open(&url, &folder, args.orders).await?;
    let (server, took) = shop.day(server, args.kills).await?;
    let dead = shop.dead_letters().await?;
    let recalled = memory::recall(&shop.client, shop.orders).await?;
    if let Some(server) = server {
        server.stop().await?;
    }
    let summary = Summary::of(&shop.books(dead, recalled)?);
    println!("{}", summary.show(took));
    Ok(summary.is_clean())
}

struct Shop {
    client: Client,
    url: String,
    orders: u64,
    storefront: Arc<Storefront>,
    shipping: Arc<Shipping>,
    notified: Arc<Notified>,
    catalogue: Arc<Catalogue>,
    stock: Arc<Stock>,
}

impl Shop {
    /// Makes topics and subscriptions and lets everybody in.
    async fn open(url: &str, folder: &Path, orders: u64) -> Result<Self> {
        let client = || Client::new(url);
        let ledger = |name| Ledger::create(folder, name);
        let stock = Arc::new(Stock {
            client: client()?,
            ledger: ledger("stock")?,
            prices: Default::default(),
        });
        let shop = Self {
            client: client()?,
            url: url.to_owned(),
            orders,
            storefront: Arc::new(Storefront {
                client: client()?,
                ledger: ledger("storefront")?,
                stock: Arc::clone(&stock),
                placed: Seen::default(),
            }),
            shipping: Arc::new(Shipping {
                client: client()?,
                ledger: ledger("shipping")?,
                shipped: Seen::default(),
                deliveries: AtomicUsize::new(0),
                rejected: Seen::default(),
                stop: AtomicBool::new(false),
            }),
            notified: Arc::new(Notified {
                ledger: ledger("notified")?,
                heard: Seen::default(),
                down: AtomicBool::new(false),
            }),
            catalogue: Arc::new(Catalogue {
                client: client()?,
                ledger: ledger("catalogue")?,
            }),
            stock,
        };
        shop.furnish().await?;
        Ok(shop)
    }

    async fn furnish(&self) -> Result<()> {
        for topic in ["orders", "shipments", "catalogue"] {
            ask(
                &self.client,
                "PUT",
                &format!("/topics/{topic}"),
                &json!({"partitions": 1}),
            )
            .await?;
        }
        let shipping = json!({"from": "earliest", "lock_duration_ms": 1_000, "filter": {"exact": {"type": "shop.OrderPlaced"}}});
        ask(
            &self.client,
            "PUT",
            "/topics/orders/subscriptions/shipping",
            &shipping,
        )
        .await?;
        ask(&self.client, "PUT", "/folds/order", &memory::fold()).await?;
        ask(&self.client, "PUT", "/projections/sales", &memory::sales()).await?;
        let url = self.notified.open().await?;
        let notify = json!({
            "from": "earliest",
            "max_delivery_count": 1_000,
            "push": {"url": url, "timeout_ms": 5_000, "retry": {"waits_ms": [50, 100, 200, 400]}},
        });
        ask(
            &self.client,
            "PUT",
            "/topics/shipments/subscriptions/notify",
            &notify,
        )
        .await
        .map(drop)
    }

    /// From the first order to the last notification.
    async fn day(
        &self,
        mut server: Option<Server>,
        kills: u64,
    ) -> Result<(Option<Server>, Duration)> {
        let started = Instant::now();
        let mut work: JoinSet<Result<()>> = JoinSet::new();
        let catalogue = Arc::clone(&self.catalogue);
        let catalogue = work.spawn(async move { catalogue.work().await });
        work.spawn(Arc::clone(&self.stock).follow());
        while self.stock.products() < super::roles::PRODUCTS as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for till in 0..TILLS {
            let (storefront, orders) = (Arc::clone(&self.storefront), self.orders);
            work.spawn(async move { storefront.place(till, orders, TILLS).await });
        }
        for _ in 0..CLERKS {
            let shipping = Arc::clone(&self.shipping);
            work.spawn(async move { shipping.work().await });
        }
        let mut last = (Instant::now(), 0);
        let mut killed = 0;
        let mut quiet = (Instant::now(), 0);
        // What was not acknowledged comes again: the day ends when nothing comes any more.
        while !(self.over() && quiet.0.elapsed() > QUIET) {
            while let Some(ended) = work.try_join_next() {
                match ended {
                    Ok(Err(error)) => return Err(error),
                    Err(error) if error.is_panic() => bail!("somebody in the shop failed: {error}"),
                    _ => {}
                }
            }
            let done = self.shipping.shipped.len()
                + self.notified.heard.len()
                + self.storefront.placed.len();
            if done != last.1 {
                last = (Instant::now(), done);
            } else if last.0.elapsed() > PATIENCE {
                eprintln!("shop: nothing happens any more, the books are closed as they are");
                break;
            }
            let deliveries = self.shipping.deliveries.load(Ordering::Relaxed);
            if deliveries != quiet.1 {
                quiet = (Instant::now(), deliveries);
            }
            self.troubles(&catalogue);
            if let Some(server) = &mut server
                && killed < kills
                && done as u64 >= (killed + 1) * self.orders * 3 / (kills + 1)
            {
                killed += 1;
                server.kill_and_restart().await?;
                eprintln!("shop: server killed and started again, {killed} of {kills}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = started.elapsed();
        self.shipping.stop.store(true, Ordering::Relaxed);
        work.abort_all();
        Ok((server, took))
    }

    /// The catalogue stops when half of the orders are placed; the webhook is down while the
    /// second quarter is shipped.
    fn troubles(&self, catalogue: &tokio::task::AbortHandle) {
        let (placed, shipped) = (
            self.storefront.placed.len() as u64,
            self.shipping.shipped.len() as u64,
        );
        let down = (self.orders / 4..self.orders / 2).contains(&shipped);
        self.notified.down.store(down, Ordering::Relaxed);
        if placed >= self.orders / 2 && !catalogue.is_finished() {
            catalogue.abort();
            self.stock
                .ledger
                .note("catalogue stopped", "", Some(placed));
        }
    }

    /// Everything is shipped, or given up, and the webhook knows.
    fn over(&self) -> bool {
        let placed = self.storefront.placed.len();
        let (shipped, rejected) = (self.shipping.shipped.len(), self.shipping.rejected.len());
        placed as u64 == self.orders
            && shipped + rejected >= placed
            && self.notified.heard.len() >= shipped
    }

    /// What the shipping subscription gave up on, read as an outsider reads it.
    async fn dead_letters(&self) -> Result<Vec<String>> {
        let expected = self.shipping.rejected.len();
        let path = "/topics/orders/subscriptions/shipping/deadletters?limit=5000";
        let mut dead = Vec::new();
        // The copies follow the decision; they are not long.
        for _ in 0..200 {
            let answer = ask(&self.client, "GET", path, &Value::Null).await?;
            let ids = answer
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|e| e["id"].as_str());
            dead = ids.map(str::to_owned).collect();
            if dead.len() >= expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(dead)
    }

    /// Everybody's files, read back.
    fn books(&self, dead_letters: Vec<String>, recalled: Recalled) -> Result<Books> {
        let read = |ledger: &Ledger| {
            ledger
                .lines()
                .with_context(|| format!("the files of {}", self.url))
        };
        Ok(Books {
            storefront: read(&self.storefront.ledger)?,
            shipping: read(&self.shipping.ledger)?,
            notified: read(&self.notified.ledger)?,
            catalogue: read(&self.catalogue.ledger)?,
            stock: read(&self.stock.ledger)?,
            dead_letters,
            recalled,
        })
    }
}
