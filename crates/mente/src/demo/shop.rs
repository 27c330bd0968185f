//! The shop as a whole: who is there, when somebody goes away, and when the day is over.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};

use super::home::{Home, HomeArgs};
use super::memory::{self, Recalled};
use super::notes::Notes;
use super::ordering;
use super::roles::{
    Billing, Catalogue, Notified, Presale, PresaleBooks, Seen, Shipping, Stock, Storefront, ask,
};
use super::rows::{self, Rows};
use super::server::Server;
use super::summary::{Books, Summary};
use super::web;
use crate::client::Client;

/// Orders that are placed at one time.
const TILLS: u64 = 32;
const CLERKS: usize = 8;
/// No delivery for so long ends the day: longer than a lock holds.
const QUIET: Duration = Duration::from_millis(1_500);
/// Nothing new for so long means that something is lost or stuck.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct ShopArgs {
    /// Orders to place; a pre-order goes with every ten of them, twenty at least
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
    /// Let a billing office write its bills into this PostgreSQL, in a schema of its own that goes away in the end,
    /// and a relay make an event of each; without TLS
    #[arg(long, value_name = "postgres://USER:PASSWORD@HOST/DATABASE")]
    postgres: Option<String>,
    #[command(flatten)]
    home: HomeArgs,
    /// Serve the shop as a page instead, until Ctrl-C: order by hand and watch the events
    /// [default address: 127.0.0.1:8490]
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["orders", "kills", "postgres"])]
    serve: Option<Option<SocketAddr>>,
}

impl ShopArgs {
    /// What the page is served with, if it is asked for.
    pub(super) fn page(&self) -> Option<web::Options> {
        self.serve.map(|address| web::Options {
            address,
            home: self.home.clone(),
        })
    }

    pub(super) fn check(&self) -> crate::failure::Result<()> {
        self.home.check()
    }
}

/// Runs the shop; `Ok(false)` if something was lost or invented.
pub(crate) async fn run(args: ShopArgs) -> Result<bool> {
    let mut home = Home::open(&args.home, "shop").await?;
    eprintln!(
        "shop: {} orders, server {}, files in {}",
        args.orders,
        home.url,
        home.folder().display()
    );
    let shop = Shop::open(&home.url, home.folder(), &args).await?;
    let told = shop.told(home.server.as_mut(), args.kills).await;
    // Its tables lie in somebody's database: they go whatever became of the day.
    let closed = match &shop.billing {
        Some(billing) => billing.close().await,
        None => Ok(()),
    };
    let (took, books) = told?;
    closed?;
    home.close().await?;
    let summary = Summary::of(&books);
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
    billing: Option<Arc<Billing>>,
    presale: Arc<Presale>,
}

impl Shop {
    /// Makes topics and subscriptions and lets everybody in.
    async fn open(url: &str, folder: &Path, args: &ShopArgs) -> Result<Self> {
        let client = || Client::new(url);
        let notes = |name| Notes::create(folder, name);
        let rows = furnish_orders(&client()?).await?;
        let stock = Arc::new(Stock::open(client()?, folder, notes("stock")?).await?);
        let mut shop = Self {
            client: client()?,
            url: url.to_owned(),
            orders: args.orders,
            storefront: Arc::new(Storefront {
                client: client()?,
                notes: notes("storefront")?,
                stock: Arc::clone(&stock),
                rows,
                placed: Seen::default(),
            }),
            shipping: Arc::new(Shipping {
                client: client()?,
                notes: notes("shipping")?,
                shipped: Seen::default(),
                deliveries: AtomicUsize::new(0),
                rejected: Seen::default(),
                stop: AtomicBool::new(false),
            }),
            notified: Arc::new(Notified {
                notes: notes("notified")?,
                heard: Seen::default(),
                down: AtomicBool::new(false),
            }),
            catalogue: Arc::new(Catalogue {
                client: client()?,
                notes: notes("catalogue")?,
                last: AtomicU64::new(0),
            }),
            stock,
            billing: None,
            presale: Arc::new(Presale::open(url, folder, args.orders).await?),
        };
        shop.furnish().await?;
        if let Some(database) = &args.postgres {
            let billing = Billing::open(client()?, database, notes("billing")?).await?;
            shop.billing = Some(Arc::new(billing));
        }
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

    /// The day, how long it took, and what everybody and the server say of it.
    async fn told(&self, server: Option<&mut Server>, kills: u64) -> Result<(Duration, Books)> {
        let took = self.day(server, kills).await?;
        let dead = self.dead_letters().await?;
        let recalled = memory::recall(&self.client, self.orders).await?;
        let presale = self.presale.books().await?;
        Ok((took, self.books(dead, recalled, presale)?))
    }

    /// Lets everybody begin, the tills when the stock knows every price; answers who may be stopped.
    async fn begin(&self, work: &mut JoinSet<Result<()>>) -> Result<AbortHandle> {
        let catalogue = Arc::clone(&self.catalogue);
        let catalogue = work.spawn(async move { catalogue.work().await });
        let stock = Arc::clone(&self.stock);
        work.spawn(async move {
            stock.follow().await;
            Ok(())
        });
        let began = Instant::now();
        while !self.stock.has_all().await? {
            if began.elapsed() > PATIENCE {
                bail!("the stock's copy of the catalogue does not fill");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for till in 0..TILLS {
            let (storefront, orders) = (Arc::clone(&self.storefront), self.orders);
            work.spawn(async move { storefront.place(till, orders, TILLS).await });
        }
        let (presale, storefront) = (Arc::clone(&self.presale), Arc::clone(&self.storefront));
        work.spawn(async move { presale.work(&storefront).await });
        if let Some(billing) = &self.billing {
            let billing = Arc::clone(billing);
            work.spawn(async move { billing.work().await });
        }
        for _ in 0..CLERKS {
            let shipping = Arc::clone(&self.shipping);
            work.spawn(async move { shipping.work().await });
        }
        Ok(catalogue)
    }

    /// From the first order to the last notification.
    async fn day(&self, mut server: Option<&mut Server>, kills: u64) -> Result<Duration> {
        let started = Instant::now();
        let mut work = JoinSet::new();
        let catalogue = self.begin(&mut work).await?;
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
                + self.storefront.placed.len()
                + self.settled();
            let news = done + self.presale.progress();
            if news != last.1 {
                last = (Instant::now(), news);
            } else if last.0.elapsed() > PATIENCE {
                eprintln!("shop: nothing happens any more, the books are closed as they are");
                break;
            }
            let deliveries =
                self.shipping.deliveries.load(Ordering::Relaxed) + self.presale.deliveries();
            if deliveries != quiet.1 {
                quiet = (Instant::now(), deliveries);
            }
            self.troubles(&catalogue);
            if let Some(server) = &mut server
                && killed < kills
                && done as u64 >= (killed + 1) * self.orders * 3 / (kills + 1)
            {
                killed += 1;
                server.kill().await?;
                self.stock.answer_alone().await?;
                server.restart().await?;
                eprintln!("shop: server killed and started again, {killed} of {kills}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = started.elapsed();
        self.count_up().await?;
        self.shipping.stop.store(true, Ordering::Relaxed);
        work.abort_all();
        Ok(took)
    }

    /// What the stock and billing have in the end, into their files.
    async fn count_up(&self) -> Result<()> {
        let last = self.catalogue.last.load(Ordering::Relaxed);
        self.stock.take_stock(last).await?;
        self.stock.close();
        match &self.billing {
            Some(billing) => billing.balance().await,
            None => Ok(()),
        }
    }

    /// The catalogue stops when half of the orders are placed; the webhook is down while the
    /// second quarter is shipped.
    fn troubles(&self, catalogue: &AbortHandle) {
        let (placed, shipped) = (
            self.storefront.placed.len() as u64,
            self.shipping.shipped.len() as u64,
        );
        let down = (self.orders / 4..self.orders / 2).contains(&shipped);
        self.notified.down.store(down, Ordering::Relaxed);
        if placed >= self.orders / 2 && !catalogue.is_finished() {
            catalogue.abort();
            self.stock.notes.note("catalogue stopped", "", Some(placed));
        }
    }

    /// Everything is shipped, or given up, the webhook knows, and every pre-order has ended.
    fn over(&self) -> bool {
        let placed = self.storefront.placed.len();
        let (shipped, rejected) = (self.shipping.shipped.len(), self.shipping.rejected.len());
        placed as u64 == self.orders
            && shipped + rejected >= placed
            && self.notified.heard.len() >= shipped
            && (self.billing.is_none() || self.settled() >= shipped)
            && self.presale.is_over()
    }

    /// Shipments that billing is done with.
    fn settled(&self) -> usize {
        let billing = self.billing.as_ref();
        billing.map_or(0, |billing| billing.settled.len())
    }

    /// What the shipping subscription gave up on, read as an outsider reads it.
    async fn dead_letters(&self) -> Result<Vec<String>> {
        let expected = self.shipping.rejected.len();
        let path = "/topics/orders/subscriptions/shipping/deadletters?limit=5000";
        let mut dead = Vec::new();
        // The copies follow the decision; they are not long.
        for _ in 0..200 {
            let answer = ask(&self.client, "GET", path, &Value::Null).await?;
            let letters = answer.as_array().into_iter().flatten();
            let orders = letters.filter_map(|event| event["subject"].as_str());
            dead = orders.map(str::to_owned).collect();
            if dead.len() >= expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(dead)
    }

    /// Everybody's files, read back.
    fn books(
        &self,
        dead_letters: Vec<String>,
        recalled: Recalled,
        presale: PresaleBooks,
    ) -> Result<Books> {
        let read = |notes: &Notes| {
            notes
                .lines()
                .with_context(|| format!("the files of {}", self.url))
        };
        Ok(Books {
            storefront: read(&self.storefront.notes)?,
            shipping: read(&self.shipping.notes)?,
            notified: read(&self.notified.notes)?,
            catalogue: read(&self.catalogue.notes)?,
            stock: read(&self.stock.notes)?,
            billing: match &self.billing {
                Some(billing) => Some(read(&billing.notes)?),
                None => None,
            },
            dead_letters,
            recalled,
            rows: self.storefront.rows,
            presale,
        })
    }
}

/// What an order is, who decides on it, and the rows that are read right after.
async fn furnish_orders(client: &Client) -> Result<Rows> {
    ask(client, "PUT", "/folds/order", &memory::fold()).await?;
    ordering::furnish(client).await?;
    let rows = Rows::furnish(client).await?;
    // Their numbers are those of this day's: the books would mix two days.
    if !rows::all(client).await?.is_empty() {
        bail!("the server has orders of another day already: name another --dir or --server");
    }
    Ok(rows)
}
