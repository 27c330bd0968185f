//! Asks the source what the machine wants to know, and does with the copy what it says.
//!
//! The network may be given up at any moment, the file may not: what is begun there is waited for, so that
//! whoever stops a copy knows that nobody works on its file.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::sync::watch;
use tokio::time::timeout;

use super::machine::{
    Ask, Change, Contact, Effect, Heard, Held, Item, Machine, Page, Positions, Why,
};
use super::store::Store;
use super::{Error, State, blocking, line};
use crate::client::{Client, Lines, Response};
use crate::topic::{LINES, Topic, escape};

/// How long the source is to wait for an event before it says that there is none: so often it is heard.
const WAIT: Duration = Duration::from_secs(2);
/// How much longer than that it may take.
const LATE: Duration = Duration::from_secs(10);
/// How long a snapshot may take to begin to come, and then each line of it: the source reads the topic meanwhile.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(300);
/// Events of one page.
const PAGE_EVENTS: usize = 1_000;
/// Most bytes that are taken of one page: about a MiB of events, each byte of it escaped.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Items of a snapshot that are written at one time, and their bytes, but for the last one's.
const STAGED_ITEMS: usize = 1_000;
const STAGED_BYTES: usize = 4 << 20;
/// Wait before a file that failed is tried again: doubled each time, up to the second, until a page was taken.
const FILE_RETRY: Duration = Duration::from_secs(1);
const FILE_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long the source waited before it looked for the last time, in milliseconds.
const WAITED: &str = "mente-waited-ms";

/// What a copy shows of itself.
#[derive(Debug)]
pub(super) struct Board(Mutex<Shown>);

#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) contact: Contact,
    /// When it was last at the end of the source, by a clock that nobody sets; none if that was before this process.
    at_end: Option<Instant>,
}

/// By the clock on the wall, which lasts, and by one that nobody sets.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall_ms: i64,
    steady: Instant,
}

pub(super) struct Driver<'a> {
    client: &'a Client,
    topic: Topic<'a>,
    /// None while a thread has it, or after one was lost with it.
    store: Option<Store>,
    board: &'a Board,
    staged: Vec<Item>,
    staged_bytes: usize,
    /// Of the file, since a page was taken.
    failures: u32,
}

impl Board {
    pub(super) fn new(held: Option<&Held>) -> Self {
        let machine = Machine::new(held.cloned());
        Self(Mutex::new(Shown {
            state: state(&machine),
            contact: machine.contact().clone(),
            at_end: None,
        }))
    }

    pub(super) fn shown(&self) -> Shown {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    fn show(&self, state: State, contact: Contact, at: Moment) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at_end = match contact.at_end_ms {
            Some(ms) if ms == at.wall_ms => Some(at.steady),
            _ => shown.at_end,
        };
        *shown = Shown {
            state,
            contact,
            at_end,
        };
    }

    fn fail(&self, error: &Error) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.state = State::Failed;
        shown.contact.error = Some(error.to_string());
    }
}

impl Shown {
    /// Since the source had nothing more. A clock on the wall that was set back makes nothing younger, and what
    /// another process noted in the future of this one says nothing.
    pub(super) fn age_seconds(&self, now_ms: i64) -> Option<f64> {
        let wall_ms = now_ms.saturating_sub(self.contact.at_end_ms?);
        let wall = u64::try_from(wall_ms).ok().map(Duration::from_millis);
        let steady = self.at_end.map(|at_end| at_end.elapsed());
        wall.max(steady).map(|age| age.as_secs_f64())
    }
}

impl Moment {
    fn now() -> Self {
        Self {
            wall_ms: now_ms(),
            steady: Instant::now(),
        }
    }

    /// So much later, but not in the future.
    fn and(self, waited: Duration) -> Self {
        let waited = waited.min(self.steady.elapsed());
        let waited_ms = i64::try_from(waited.as_millis()).unwrap_or(0);
        Self {
            wall_ms: self.wall_ms.saturating_add(waited_ms),
            steady: self.steady + waited,
        }
    }
}

impl<'a> Driver<'a> {
    pub(super) fn new(client: &'a Client, topic: &'a str, store: Store, board: &'a Board) -> Self {
        Self {
            client,
            topic: client.topic(topic),
            store: Some(store),
            board,
            staged: Vec::new(),
            staged_bytes: 0,
            failures: 0,
        }
    }

    /// Until `stop` holds true; gives the store back.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Option<Store> {
        while !*stop.borrow() {
            let Err(error) = self.life(&mut stop).await else {
                break;
            };
            tracing::warn!(%error, "a copy cannot be written");
            self.board.fail(&error);
            // Of two writers one goes on, and this is the other one.
            if self.store.is_none() || matches!(error, Error::TwoWriters) {
                break;
            }
            let wait = FILE_RETRY * (1 << self.failures.min(16));
            self.failures += 1;
            let _ = timeout(wait.min(FILE_RETRY_MAX), stop.wait_for(|stop| *stop)).await;
        }
        self.store
    }

    /// From what the file holds, until it is stopped or the file fails.
    async fn life(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Error> {
        self.write(Store::look).await?;
        let held = match &self.store {
            Some(store) => store.held()?,
            None => None,
        };
        let mut machine = Machine::new(held);
        loop {
            let (wait, ask) = machine.ask();
            if stopped(stop, tokio::time::sleep(wait)).await.is_none() {
                return Ok(());
            }
            let went_on = match ask {
                Ask::Snapshot => self.snapshot(&mut machine, stop).await?,
                Ask::Changes { topic_id, from } => {
                    let asked = Moment::now();
                    let Some((waited, heard)) =
                        stopped(stop, changes(self.client, self.topic, &topic_id, &from)).await
                    else {
                        return Ok(());
                    };
                    let is_empty = matches!(&heard, Heard::Page(page) if page.changes.is_empty());
                    self.hear(&mut machine, asked.and(waited), heard).await?;
                    // A source that does not wait for events is not asked the more often for it.
                    let rest = match is_empty && !machine.is_bootstrapping() {
                        true => WAIT.saturating_sub(asked.steady.elapsed()),
                        false => Duration::ZERO,
                    };
                    stopped(stop, tokio::time::sleep(rest)).await.is_some()
                }
            };
            if !went_on {
                return Ok(());
            }
        }
    }

    /// Takes a snapshot in, as far as it comes; false if it was stopped.
    async fn snapshot(
        &mut self,
        machine: &mut Machine,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        let asked = Moment::now();
        let path = self.topic.path("snapshot");
        let begun = timeout(SNAPSHOT_WAIT, self.client.lines(&path, LINES));
        let Some(begun) = stopped(stop, begun).await else {
            return Ok(false);
        };
        let mut lines = match begun {
            Ok(Ok(lines)) => lines,
            Ok(Err(error)) => {
                let heard = told(error);
                self.hear(machine, asked, heard).await?;
                return Ok(true);
            }
            Err(_) => {
                let heard = Heard::Silent(late(SNAPSHOT_WAIT));
                self.hear(machine, asked, heard).await?;
                return Ok(true);
            }
        };
        loop {
            let Some(heard) = stopped(stop, next(&mut lines)).await else {
                return Ok(false);
            };
            let is_last = !matches!(heard, Heard::Begins(_) | Heard::Told(_));
            self.hear(machine, asked, heard).await?;
            if is_last {
                return Ok(true);
            }
        }
    }

    /// Tells the machine, does what it says, and shows what came of it. What was heard is as old as the question.
    async fn hear(
        &mut self,
        machine: &mut Machine,
        asked: Moment,
        heard: Heard,
    ) -> Result<(), Error> {
        let is_item = matches!(heard, Heard::Told(_));
        match machine.hear(asked.wall_ms, heard) {
            Some(Effect::Clear) => {
                self.staged.clear();
                self.staged_bytes = 0;
                self.write(Store::clear).await?;
            }
            Some(Effect::Stage(item)) => {
                self.staged_bytes += item.key.len() + item.event.len();
                self.staged.push(item);
                if self.staged.len() >= STAGED_ITEMS || self.staged_bytes >= STAGED_BYTES {
                    self.stage().await?;
                }
            }
            Some(Effect::Replace(held)) => {
                self.stage().await?;
                self.write(move |store| store.replace(&held)).await?;
            }
            Some(Effect::Apply(changes, held)) => {
                let is_page = held.open_gap.is_none();
                self.write(move |store| store.apply(&changes, &held))
                    .await?;
                if is_page {
                    self.failures = 0;
                }
            }
            None => {}
        }
        if !is_item {
            let contact = machine.contact().clone();
            self.board.show(state(machine), contact, asked);
        }
        Ok(())
    }

    async fn stage(&mut self) -> Result<(), Error> {
        let items = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        self.write(move |store| store.stage(&items)).await
    }

    async fn write(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let mut store = self.store.take().ok_or(Error::Closed)?;
        let (store, done) = blocking(move || {
            let done = work(&mut store);
            Ok((store, done))
        })
        .await?;
        self.store = Some(store);
        done
    }
}

/// What is awaited, or nothing once it is stopped.
async fn stopped<T>(stop: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // A sender that is gone means the same.
        _ = stop.wait_for(|stop| *stop) => None,
        done = work => Some(done),
    }
}

/// What came behind these positions, or nothing for a while; and how long the source waited before it looked.
async fn changes(
    client: &Client,
    topic: Topic<'_>,
    topic_id: &str,
    from: &Positions,
) -> (Duration, Heard) {
    let from: Vec<String> = from.iter().map(|(p, next)| format!("{p}:{next}")).collect();
    let path = format!(
        "{}?from={}&topic_id={}&limit={PAGE_EVENTS}&wait_ms={}",
        topic.path("events"),
        escape(&from.join(",")),
        escape(topic_id),
        WAIT.as_millis()
    );
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(LINES));
    let asked = client.request_within("GET", &path, headers, "", PAGE_BYTES_MAX);
    let heard = match timeout(WAIT + LATE, asked).await {
        Ok(Ok(answer)) => return (waited(&answer), page(&answer)),
        Ok(Err(error)) => told(error),
        Err(_) => Heard::Silent(late(WAIT + LATE)),
    };
    (Duration::ZERO, heard)
}

fn waited(answer: &Response) -> Duration {
    let text = answer
        .headers
        .get(WAITED)
        .and_then(|text| text.to_str().ok());
    let ms = text.and_then(|text| text.parse().ok());
    Duration::from_millis(ms.unwrap_or(0))
}

async fn next(lines: &mut Lines) -> Heard {
    loop {
        let line = match timeout(SNAPSHOT_WAIT, lines.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => {
                return Heard::Silent("the snapshot broke off before its end".to_owned());
            }
            Ok(Err(error)) => return Heard::Silent(error.to_string()),
            Err(_) => return Heard::Silent(late(SNAPSHOT_WAIT)),
        };
        match line::of_snapshot(&line) {
            Ok(Some(heard)) => return heard,
            Ok(None) => {}
            Err(error) => return Heard::Refused(error),
        }
    }
}

fn page(answer: &Response) -> Heard {
    match answer.status {
        200 => {}
        410 => return Heard::Lost(Why::MadeAnew),
        416 => return Heard::Lost(Why::Trimmed),
        status => {
            let said = line::refusal(&answer.body).unwrap_or_default();
            return Heard::Refused(format!("the source answers {status}: {said:.300}"));
        }
    }
    let header = |name: &str| answer.headers.get(name)?.to_str().ok();
    let positions = |name| line::positions(header(name)?);
    let (Some(topic_id), Some(next), Some(ends)) = (
        header("mente-topic-id"),
        positions("mente-next-offset"),
        positions("mente-end-offset"),
    ) else {
        let message = "the source answers without mente-topic-id, mente-next-offset and mente-end-offset: is it an older Mente?";
        return Heard::Refused(message.to_owned());
    };
    if !line::is_id(topic_id) {
        return Heard::Refused("the source answers with an id that no topic has".to_owned());
    }
    let Ok(text) = std::str::from_utf8(&answer.body) else {
        return Heard::Refused("the source answers what is no text".to_owned());
    };
    let changes: Result<Vec<Change>, String> = text.lines().map(line::change).collect();
    match changes {
        Ok(changes) => Heard::Page(Page {
            topic_id: topic_id.to_owned(),
            changes,
            next,
            ends,
        }),
        Err(error) => Heard::Refused(error),
    }
}

fn told(error: crate::Error) -> Heard {
    match error {
        crate::Error::Refused(answer) => {
            let said = line::refusal(&answer.body).unwrap_or_default();
            Heard::Refused(format!("the source answers {}: {said:.300}", answer.status))
        }
        error => Heard::Silent(error.to_string()),
    }
}

fn late(waited: Duration) -> String {
    format!("the source did not answer within {} s", waited.as_secs())
}

fn state(machine: &Machine) -> State {
    match machine.is_bootstrapping() {
        true => State::Bootstrapping,
        false => State::Following,
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_that_is_set_back_makes_a_copy_younger() {
        let age = |at_end_ms, at_end: Option<Instant>| {
            let mut contact = Contact::default();
            contact.at_end_ms = at_end_ms;
            let state = State::Following;
            let shown = Shown {
                state,
                contact,
                at_end,
            };
            shown.age_seconds(100_000)
        };
        assert_eq!(age(None, None), None);
        assert_eq!(age(Some(90_000), None), Some(10.0));
        assert_eq!(age(Some(100_001), None), None, "noted in the future");
        let earlier = Instant::now().checked_sub(Duration::from_secs(20));
        let Some(earlier) = earlier else {
            return;
        };
        for at_end_ms in [90_000, 100_000, 500_000] {
            assert!(
                age(Some(at_end_ms), Some(earlier)) >= Some(20.0),
                "{at_end_ms}"
            );
        }
        assert_eq!(age(Some(10_000), Some(earlier)), Some(90.0));
    }

    /// A snapshot of which the end comes once somebody else began to stage another one.
    #[tokio::test]
    async fn a_writer_that_finds_another_one_stops() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.db");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let source = format!("topic t of {}", client.base());
        let replica = super::super::Replica::open(client, "t", &path)
            .await
            .unwrap();
        let shown = replica.clone();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4_096]).await.unwrap();
            let begins =
                "HTTP/1.1 200 OK\r\n\r\n{\"snapshot\":{\"topic_id\":\"a\",\"next\":{\"0\":1}}}\n";
            socket.write_all(begins.as_bytes()).await.unwrap();
            while !shown.inner.board.shown().contact.answers {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Store::open(&path, &source).unwrap().clear().unwrap();
            let ends = "{\"end\":{\"items\":0,\"start\":{}}}\n";
            socket.write_all(ends.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let (_stop, stopping) = watch::channel(false);
        let ran = timeout(Duration::from_secs(20), replica.run(stopping)).await;
        assert!(ran.is_ok(), "it goes on beside another writer");
        let status = replica.status().await.unwrap();
        assert_eq!((status.state, status.snapshots), (State::Failed, 0));
    }

    #[test]
    fn what_a_source_waited_is_no_longer_than_it_took() {
        let asked = Moment::now();
        let heard = asked.and(Duration::from_secs(3_600));
        assert!(heard.steady <= Instant::now());
        assert!(heard.wall_ms - asked.wall_ms < 60_000);
    }
}
