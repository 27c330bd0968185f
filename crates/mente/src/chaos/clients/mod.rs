//! Who drives the server: outside clients over HTTP, and over AMQP in `queues`. Each writes its own file, bears a server that
//! goes away, and never asks twice what it may not ask twice.

mod appender;
mod auditor;
mod ballast;
mod booker;
mod commander;
mod consumer;
mod historian;
mod publisher;
mod queues;
mod reader;
mod reviver;
mod webhook;

use appender::append;
use auditor::audit;
use ballast::fill;
use booker::book;
use commander::command;
use consumer::{consume, drain};
use historian::study;
use publisher::publish;
use reader::follow;
use reviver::revive;
use webhook::Webhook;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use mente_sim::history::Op;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::diary::Diary;
use crate::client::{Client, Error};
use crate::demo::{Server, ask};

pub(super) const TOPIC: &str = "events";
pub(super) const PARTITIONS: u32 = 3;
/// Pulled by consumers: everything.
const WORK: &str = "events/work";
/// Pulled with leisure, so that what waits there may outlive its time: events of [`PUSHED`].
const BRIEF: &str = "events/brief";
/// Pushed to the webhook: events of [`PUSHED`].
const HOOK: &str = "events/hook";
/// Pulled too: everything that is appended to streams.
const LEDGERS: &str = "$store/ledgers";
const PLAIN: &str = "chaos.plain";
const PUSHED: &str = "chaos.pushed";
const APPENDED: &str = "chaos.appended";
/// Streams that appenders fight for.
const STREAMS: u64 = 6;
const PROJECTION: &str = "ledgers";

const JSON: &str = "application/json";
pub(super) const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

const LOCK_MS: u64 = 1_000;
/// Longer than an episode: over only where the clock is put forward.
const TIME_TO_LIVE_MS: u64 = 20 * 60_000;
const DELIVERIES_MAX: u32 = 1_000;
/// An answer that takes longer is unknown: longer than any wait that is asked for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rest of who takes less than comes.
const IDLE_MS: u64 = 1_000;
/// How long a client may take to finish what it does.
const FINISH: Duration = Duration::from_secs(60);
/// Pause while the server is away.
const AWAY: Duration = Duration::from_millis(10);

/// What all clients heed.
#[derive(Debug, Default)]
pub(super) struct Tempo {
    is_over: watch::Sender<bool>,
    /// Pauses are so many times longer. In a calm the last thing that was acknowledged lies there for a
    /// while as the last thing that was written: in a storm the next sync would soon cover for it.
    calm: AtomicU64,
}

impl Tempo {
    pub(super) fn stop(&self) {
        self.is_over.send_replace(true);
    }

    pub(super) fn set(&self, calm: u64) {
        self.calm.store(calm, Ordering::Relaxed);
    }
}

/// One client with its file and its chance.
#[derive(Debug)]
pub(super) struct Hand {
    /// Of each address of the server.
    clients: Vec<Client>,
    /// The one that is used; who is not answered there goes on to the next.
    at: AtomicUsize,
    diary: Diary,
    chance: fastrand::Rng,
    tempo: Arc<Tempo>,
}

/// What a call came to.
#[derive(Debug)]
enum Answer {
    Ok(Value),
    /// Certainly not done, by this status.
    Refused(u16, String),
    /// Nothing was sent.
    Unreached,
    /// Perhaps done.
    Unknown,
}

impl Hand {
    pub(super) fn new(urls: &[String], diary: Diary, seed: u64, tempo: Arc<Tempo>) -> Result<Self> {
        // Every client has a chance of its own, the same for the same seed.
        let chance = fastrand::Rng::with_seed(seed ^ diary.process.wrapping_mul(0x9e37_79b9));
        let clients = urls.iter().map(|url| Client::new(url));
        Ok(Self {
            clients: clients.collect::<Result<_, _>>()?,
            at: AtomicUsize::new(diary.process as usize),
            diary,
            chance,
            tempo,
        })
    }

    fn client(&self) -> &Client {
        &self.clients[self.at.load(Ordering::Relaxed) % self.clients.len()]
    }

    /// The next call goes to another address, if there is one.
    fn elsewhere(&self) {
        self.at.fetch_add(1, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        *self.tempo.is_over.borrow()
    }

    /// Ends with the work: in a calm it may be longer than anybody waits for that end.
    async fn pause(&mut self, most_ms: u64) {
        let calm = self.tempo.calm.load(Ordering::Relaxed).max(1);
        let wait = Duration::from_millis(self.chance.u64(0..=most_ms * calm));
        let mut over = self.tempo.is_over.subscribe();
        // Neither end is an error.
        let _ = tokio::time::timeout(wait, over.wait_for(|over| *over)).await;
    }

    async fn post(&self, path: &str, content_type: &str, body: String) -> Answer {
        self.send("POST", path, content_type, body).await
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: String) -> Answer {
        let request = self
            .client()
            .request(method, path, Some(content_type), Bytes::from(body));
        let answer = match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(response)) => match (response.status, serde_json::from_slice(&response.body)) {
                (200..300, Ok(body)) => Answer::Ok(body),
                (status @ 400..500, _) => Answer::Refused(status, response.text()),
                _ => Answer::Unknown,
            },
            Ok(Err(Error::Unreachable { .. })) => Answer::Unreached,
            Ok(Err(_)) | Err(_) => Answer::Unknown,
        };
        if matches!(answer, Answer::Unreached | Answer::Unknown) {
            self.elsewhere();
        }
        answer
    }
}

/// Where the clients of one episode write what they do.
#[derive(Clone, Debug)]
pub(super) struct Diaries {
    pub(super) folder: PathBuf,
    pub(super) since: Instant,
}

impl Diaries {
    /// `number` keeps the hands of one client apart from those of the next.
    pub(super) fn open(&self, number: u64, name: &str) -> Result<Diary> {
        Diary::create(&self.folder, number * 1_000, name, self.since)
    }
}

/// Where a server is, or the nodes of one.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    pub(super) urls: Vec<String>,
    /// Of each node, for clients of Service Bus.
    pub(super) amqp: Vec<String>,
    /// Where queues are made.
    pub(super) administration: String,
}

impl Doors {
    pub(super) fn of<'a>(servers: impl Iterator<Item = &'a Server>) -> Result<Self> {
        let (mut urls, mut amqp, mut administration) = (Vec::new(), Vec::new(), String::new());
        for server in servers {
            urls.push(server.url());
            let queues = server.queues().context("a server without queues")?;
            amqp.push(queues.amqp.clone());
            administration.clone_from(&queues.administration);
        }
        Ok(Self {
            urls,
            amqp,
            administration,
        })
    }
}

/// Everybody who works with a server.
pub(super) struct Crowd {
    pub(super) tempo: Arc<Tempo>,
    work: JoinSet<Result<()>>,
    auditor: Hand,
    drainer: Hand,
    /// Empties the queues, at these addresses.
    sweeper: Hand,
    amqp: Vec<String>,
    _webhook: Webhook,
}

impl Crowd {
    /// Makes what they work with at the first of these addresses, and lets them in.
    /// Webhooks come to `host`.
    pub(super) async fn open(
        doors: &Doors,
        host: Ipv4Addr,
        diaries: &Diaries,
        seed: u64,
    ) -> Result<Self> {
        let webhook = Webhook::open(diaries.open(1, "webhook")?, seed, host).await?;
        let urls = &doors.urls[..];
        let first = urls.first().context("a server has an address")?;
        furnish(first, &webhook.url, &diaries.open(2, "furnisher")?).await?;
        let tempo = Arc::<Tempo>::default();
        let hand = |number, name: &str| {
            let diary = diaries.open(number, name)?;
            Hand::new(urls, diary, seed, Arc::clone(&tempo))
        };
        let mut work: JoinSet<Result<()>> = JoinSet::new();
        for number in 10..14 {
            work.spawn(publish(hand(number, "publisher")?));
        }
        for number in 20..23 {
            work.spawn(consume(hand(number, "consumer")?, WORK, 0));
        }
        work.spawn(consume(hand(23, "idler")?, BRIEF, IDLE_MS));
        for number in 30..33 {
            work.spawn(append(hand(number, "appender")?));
        }
        for number in 33..36 {
            work.spawn(book(hand(number, "booker")?));
        }
        for number in 37..39 {
            work.spawn(command(hand(number, "commander")?));
        }
        for number in 24..26 {
            work.spawn(consume(hand(number, "clerk")?, LEDGERS, 0));
        }
        work.spawn(revive(hand(26, "reviver")?));
        work.spawn(study(hand(36, "historian")?));
        work.spawn(follow(hand(40, "reader")?));
        work.spawn(fill(hand(50, "ballast")?));
        let (administration, amqp) = (&doors.administration, &doors.amqp);
        queues::begin(administration, amqp, diaries, &mut work, &hand).await?;
        Ok(Self {
            auditor: hand(4, "auditor")?,
            drainer: hand(5, "drainer")?,
            sweeper: hand(6, "sweeper")?,
            amqp: amqp.clone(),
            tempo,
            work,
            _webhook: webhook,
        })
    }

    /// Nobody ends by himself.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(ended) = self.work.try_join_next() {
            ended.context("a client panicked")??;
            bail!("a client ended before the work was over");
        }
        Ok(())
    }

    /// Everybody comes to the end, then everything is read.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.tempo.stop();
        let finish = async {
            while let Some(ended) = self.work.join_next().await {
                ended.context("a client panicked")??;
            }
            anyhow::Ok(())
        };
        let finished = tokio::time::timeout(FINISH, finish).await;
        finished.context("a client does not come to its end")??;
        for subscription in [WORK, BRIEF, LEDGERS] {
            drain(&self.drainer, subscription).await?;
        }
        queues::empty(self.sweeper, &self.amqp).await?;
        audit(&self.auditor).await
    }
}

/// Makes what the clients work with, and writes down what was made.
async fn furnish(url: &str, webhook: &str, diary: &Diary) -> Result<()> {
    let client = Client::new(url)?;
    let put = async |path: &str, body: Value| ask(&client, "PUT", path, &body).await.map(drop);
    put(
        &format!("/topics/{TOPIC}"),
        json!({ "partitions": PARTITIONS }),
    )
    .await?;
    let work = json!({"from": "earliest", "lock_duration_ms": LOCK_MS, "max_delivery_count": DELIVERIES_MAX});
    put("/topics/events/subscriptions/work", work).await?;
    let brief = json!({
        "from": "earliest",
        "lock_duration_ms": LOCK_MS,
        "max_delivery_count": DELIVERIES_MAX,
        "time_to_live_ms": TIME_TO_LIVE_MS,
        "filter": {"exact": {"type": PUSHED}},
    });
    put("/topics/events/subscriptions/brief", brief).await?;
    let hook = json!({
        "from": "earliest",
        "max_delivery_count": DELIVERIES_MAX,
        "filter": {"exact": {"type": PUSHED}},
        "push": {"url": webhook, "timeout_ms": 2_000, "retry": {"waits_ms": [20, 50, 100]}},
    });
    put("/topics/events/subscriptions/hook", hook).await?;
    let ledgers = json!({
        "source": {"store": true},
        "database": "ledgers.db",
        "init": ["CREATE TABLE ledgers (stream TEXT PRIMARY KEY, events INTEGER, last TEXT)"],
        "on": {APPENDED: [
            "INSERT INTO ledgers VALUES (:stream, 1, :id)
             ON CONFLICT DO UPDATE SET events = events + 1, last = excluded.last"
        ]},
    });
    put(&format!("/projections/{PROJECTION}"), ledgers).await?;
    let all = json!({
        "from": "earliest",
        "lock_duration_ms": LOCK_MS,
        "max_delivery_count": DELIVERIES_MAX,
        // What holds for a stream lies in the store too.
        "filter": {"exact": {"type": APPENDED}},
    });
    put("/topics/$store/subscriptions/ledgers", all).await?;
    let fold = json!({APPENDED: [{"append": {"ids": "$.id"}}, {"add": {"events": 1}}]});
    put("/folds/ledger", fold).await?;
    put("/deciders/ledger", commander::decider()).await?;
    for (subscription, kind, ttl_ms) in [
        (WORK, None, None),
        (LEDGERS, None, None),
        (BRIEF, Some(PUSHED), Some(TIME_TO_LIVE_MS)),
        (HOOK, Some(PUSHED), None),
    ] {
        diary.tell(&Op::Subscribe {
            subscription: subscription.to_owned(),
            topic: subscription.split('/').next().unwrap_or(TOPIC).to_owned(),
            kind: kind.map(str::to_owned),
            lock_ms: LOCK_MS,
            max_deliveries: DELIVERIES_MAX,
            ttl_ms,
            ordered: false,
        })?;
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An event with some data, now and then with much.
fn event(chance: &mut fastrand::Rng, id: &str, kind: &str, subject: &str) -> Value {
    let bytes = match chance.u32(0..100) {
        0..2 => chance.usize(20_000..100_000),
        _ => chance.usize(10..1_500),
    };
    json!({
        "specversion": "1.0", "id": id, "source": "/chaos", "type": kind, "subject": subject,
        "data": {"filler": "x".repeat(bytes)},
    })
}

/// Reads an answer of lines to its end and keeps what `keep` makes of each; an error stands in the
/// last one.
pub(super) async fn lines<T>(
    client: &Client,
    path: &str,
    keep: impl Fn(&Value) -> T,
) -> Result<Vec<T>> {
    let mut lines = client.lines(path, LINES).await?;
    let mut kept = Vec::new();
    while let Some(line) = lines.next().await? {
        let value: Value = serde_json::from_str(&line)?;
        if value.get("event").is_none() {
            bail!("{path} breaks off: {line}");
        }
        kept.push(keep(&value));
    }
    Ok(kept)
}
