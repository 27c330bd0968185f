//! A service that a saga asks: a worker with a subscription to its questions, which answers in their stream at least once,
//! by ids that follow from the questions'. It fails in business by the number of the pre-order, forgets to say that it
//! is done now and then, and is away for a while: then what comes to it comes to nothing, and comes again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::inbox::Inbox;
use super::{Seen, ask, caused_by, event};
use crate::client::Client;
use crate::demo::notes::Notes;
use crate::demo::preorders::{Fate, SHOP, Trade, answer_id, fate};

/// How often one that is away is looked for.
const LOOKED_FOR: Duration = Duration::from_millis(100);
/// It is away until somebody has noticed, but for no longer than that.
const AWAY_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    inbox: Inbox,
    pub(crate) notes: Notes,
    /// Ids of questions.
    pub(crate) answered: Seen,
    /// Questions that came, again and again counted.
    pub(crate) deliveries: AtomicUsize,
    is_away: AtomicBool,
    /// Questions that came while it was away.
    missed: AtomicUsize,
}

/// Answers, but does not say that it did: the question comes again.
fn is_forgotten(number: u64) -> bool {
    number % 7 == 2
}

impl Service {
    pub(crate) async fn open(client: Client, (name, asked): Trade, notes: Notes) -> Result<Self> {
        Ok(Self {
            name,
            inbox: Inbox::open(client, name, asked).await?,
            notes,
            answered: Seen::default(),
            deliveries: AtomicUsize::new(0),
            is_away: AtomicBool::new(false),
            missed: AtomicUsize::new(0),
        })
    }

    pub(crate) async fn work(&self) -> Result<()> {
        loop {
            let questions = self.inbox.receive().await?;
            self.deliveries
                .fetch_add(questions.len(), Ordering::Relaxed);
            if self.is_away.load(Ordering::Relaxed) {
                for question in &questions {
                    let id = question["event"]["id"].as_str().unwrap_or_default();
                    self.notes.note("was away", id, None);
                }
                self.missed.fetch_add(questions.len(), Ordering::Relaxed);
                tokio::time::sleep(LOOKED_FOR).await;
                continue;
            }
            let handled = questions.iter().map(|question| self.handle(question));
            let handled = try_join_all(handled).await?;
            let done = questions.into_iter().zip(handled);
            let done: Vec<_> = done
                .filter_map(|(q, is_done)| is_done.then_some(q))
                .collect();
            self.inbox.acknowledge(&done).await?;
        }
    }

    pub(crate) fn go_away(&self) {
        self.is_away.store(true, Ordering::Relaxed);
    }

    /// Once a question has found it away.
    pub(crate) async fn come_back(&self) {
        let since = tokio::time::Instant::now();
        while self.missed.load(Ordering::Relaxed) == 0 && since.elapsed() < AWAY_MAX {
            tokio::time::sleep(super::PAUSE).await;
        }
        self.is_away.store(false, Ordering::Relaxed);
    }

    /// Whether that is the end of it.
    async fn handle(&self, question: &Value) -> Result<bool> {
        let asked = &question["event"];
        let id = asked["id"].as_str().context("a question has no id")?;
        let number = asked["data"]["order"].as_u64();
        let number = number.with_context(|| format!("question {id} names no pre-order"))?;
        let kind = asked["type"].as_str().unwrap_or_default();
        let kind = kind.strip_prefix(SHOP).unwrap_or(kind);
        let fate = fate(number);
        if (kind, fate) == ("PaymentAsked", Fate::Silent) && !self.is_given_up(number).await? {
            self.notes.note("silent", id, None);
            return Ok(false);
        }
        let said = fate.answer(kind);
        let said = said.with_context(|| format!("{} knows no {kind}", self.name))?;
        let data = json!({"order": number, "price": asked["data"]["price"]});
        let answer = event(
            &answer_id(id),
            &format!("/shop/{}", self.name),
            &format!("{SHOP}{said}"),
            &format!("preorder-{number}"),
            Some(data),
        );
        let answer = caused_by(asked, answer);
        let path = format!("/streams/{}-{number}?expected=exists", self.name);
        let told = ask(&self.inbox.client, "POST", &path, &answer).await?;
        let what = match told["repeated"] == true {
            true => "repeated",
            false => "answered",
        };
        self.notes.note(what, id, Some(number));
        let is_first = self.answered.insert(id);
        Ok(!(is_first && is_forgotten(number)))
    }

    async fn is_given_up(&self, number: u64) -> Result<bool> {
        let path = format!("/streams/preorder-{number}");
        let stream = ask(&self.inbox.client, "GET", &path, &Value::Null).await?;
        let mut events = stream["events"].as_array().into_iter().flatten();
        Ok(events.any(|told| told["event"]["type"] == "shop.PreorderCancelled"))
    }
}
