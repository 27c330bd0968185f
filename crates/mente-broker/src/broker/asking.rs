//! Asking a shard: in this process, or at the node that owns it. Nothing is ever asked twice unless it is
//! certain that nothing was done.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use mente_engine::limits;

use super::unheard::{CallId, Handed};
use super::{Broker, CATALOGUE_SHARD};
use crate::duty::Progress;
use crate::error::{Error, Kind, Result};
use crate::name::SubscriptionName;
use crate::peers::{self, Peers, Question};
use crate::queue::Settlement;
use crate::runtime::Request;
use crate::shard::{Ask, Command, Reply};

/// How long somebody waits for a shard to have an owner: as long as it takes to notice that one died, and
/// to take over from it.
pub(super) const OWNER_WAIT: Duration = Duration::from_secs(15);
/// Between two looks for it.
const OWNER_PAUSE: Duration = Duration::from_millis(50);
/// How long one waits for the catalogue of another node to arrive.
const CATALOGUE_WAIT: Duration = Duration::from_secs(5);

impl Broker {
    /// Resolves once every shard of this node has its state, and the catalogue is known.
    pub async fn ready(&self) -> Result<()> {
        if self.peers.as_ref().is_some_and(|peers| !peers.holds()) {
            let message = "this node has no place among the others: it is not long here, or cannot reach the cluster";
            return Err(Error::new(Kind::Throttled, message));
        }
        let own = (0..self.shards.len()).filter(|shard| self.duties[*shard].is_on());
        let pings = own.map(|shard| async move {
            match self.ask_here(shard, Command::Ping).await {
                // It was handed on just now.
                Err(error) if error.kind == Kind::NotOwner => Ok(()),
                answer => answer.map(drop),
            }
        });
        futures::future::try_join_all(pings).await?;
        self.catalogue.get().map(drop)
    }

    /// Decides for these shards from now on, and no others; resolves once what others may take over is
    /// let go of.
    pub async fn own(&self, shards: &BTreeSet<u32>) {
        for (index, duty) in (0..).zip(self.duties.iter()) {
            duty.set(shards.contains(&index));
        }
        for duty in self.duties.iter() {
            // Whoever waits for a journal lets go of it when that is read; it is not decided on.
            let is_free = |is_on, progress| is_on || !matches!(progress, Progress::AtWork { .. });
            duty.until(is_free).await;
        }
    }

    /// How far each shard is on this node, by number.
    pub fn progress(&self) -> Vec<Progress> {
        self.duties.iter().map(|duty| duty.progress()).collect()
    }

    /// Answers what another node asked by [`Peers::ask`], if this one owns the shard.
    pub async fn answer(&self, question: &[u8]) -> Vec<u8> {
        let answer = match peers::read_question(question) {
            Ok(question) => self.answer_here(question).await,
            Err(error) => Err(error),
        };
        peers::answer(&answer)
    }

    async fn answer_here(&self, question: Question<Command>) -> Result<Reply> {
        let Question {
            shard,
            mut command,
            call,
            unheard,
            ..
        } = question;
        for call in unheard {
            self.take_back(call).await;
        }
        let longest = Duration::from_secs(limits::RECEIVE_WAIT_SECONDS.into());
        if let Command::Message {
            ask: Ask::AcceptSession { wait, .. },
            ..
        } = &mut command
        {
            *wait = (*wait).min(longest);
        }
        let Command::Receive { name, taking } = &mut command else {
            return self.ask_here(shard, command).await;
        };
        taking.wait = taking.wait.min(longest);
        let name = name.clone();
        let Some(call) = call else {
            let mut receiving = self.receive_here(&name, shard, command)?;
            let deliveries = receiving.deliveries().await?;
            receiving.hand_over(&[]);
            return Ok(Reply::Deliveries(deliveries));
        };
        let nothing = Ok(Reply::Deliveries(Vec::new()));
        // It ends behind what it receives: whoever waits for its end finds nothing locked.
        let Some(mut going) = self.unheard.answer(call) else {
            return nothing;
        };
        let mut receiving = self.receive_here(&name, shard, command)?;
        let deliveries = match select(&mut going.stopped, pin!(receiving.deliveries())).await {
            Either::Left(_) => return nothing,
            Either::Right((deliveries, _)) => deliveries?,
        };
        let tokens = deliveries.iter().map(|delivery| delivery.token).collect();
        if !self.unheard.hand(call, shard, &name, tokens) {
            // Dropped, what was locked goes back.
            return nothing;
        }
        receiving.hand_over(&[]);
        Ok(Reply::Deliveries(deliveries))
    }

    /// What an answer that nobody heard has brought, or would, is others' again.
    async fn take_back(&self, call: CallId) {
        let give_back = |handed: Handed| {
            let command = Command::Settle {
                name: handed.name,
                tokens: handed.tokens,
                how: Settlement::Return,
                note: None,
                lingers: false,
            };
            // Who decides no more holds no locks.
            let _ = self.tell(handed.shard, command);
        };
        let ended = self.unheard.take_back(call, give_back);
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }

    /// Waits until nothing is locked for calls on a view that were dropped before: what they got are the first again.
    pub async fn let_go(&self, view: &SubscriptionName) {
        let shard = self.shard_of(&view.topic);
        // Its answer ends a round; what calls of that round or before it got, and nobody heard, goes back with the next.
        let is_let_go = match &self.peers {
            Some(peers) if !self.duties[shard].is_on() => {
                let told = self.unheard.of(view);
                let question = peers::question_of(shard, &Command::Ping, None, told.clone());
                let answer = peers.ask(shard as u32, question, Duration::ZERO).await;
                let answer = answer.and_then(|answer| peers::read_answer(&answer));
                answer.map(|_| self.unheard.told(&told))
            }
            _ => self.ask_here(shard, Command::Ping).await.map(drop),
        };
        if let Err(error) = is_let_go {
            tracing::debug!(%error, "who does not decide any more holds no locks, or they run out");
        }
    }

    pub(super) async fn ask(&self, shard: usize, command: Command) -> Result<Reply> {
        match &self.peers {
            None => self.ask_here(shard, command).await,
            // Apart, so that a call on one node is small.
            Some(peers) => Box::pin(self.ask_owner(peers, shard, command)).await,
        }
    }

    async fn ask_owner(
        &self,
        peers: &Arc<dyn Peers>,
        shard: usize,
        command: Command,
    ) -> Result<Reply> {
        let until = self.now().monotone + OWNER_WAIT;
        loop {
            let answer = match self.duties[shard].is_on() {
                true => self.ask_here(shard, command.clone()).await,
                false => self.ask_there(peers, shard, &command).await,
            };
            match answer {
                Err(error) if error.kind == Kind::NotOwner => {
                    self.await_owner(until, error).await?
                }
                answer => return answer,
            }
        }
    }

    /// Pauses before the owner is looked for again, or gives up.
    pub(super) async fn await_owner(&self, until: Duration, error: Error) -> Result<()> {
        if self.now().monotone < until {
            self.sleep(OWNER_PAUSE).await;
            return Ok(());
        }
        let message = format!("no node decides for this just now ({error}): repeat it later");
        Err(Error::new(Kind::Throttled, message))
    }

    async fn ask_there(
        &self,
        peers: &Arc<dyn Peers>,
        shard: usize,
        command: &Command,
    ) -> Result<Reply> {
        let question = peers::question(shard, command);
        let wait = match command {
            Command::Receive { taking, .. } => taking.wait,
            Command::Message { ask, .. } => ask.wait().unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let answer = peers.ask(shard as u32, question, wait).await?;
        let reply = peers::read_answer(&answer);
        if shard == CATALOGUE_SHARD && reply.is_ok() {
            // Who made something finds it here too.
            self.await_catalogue().await;
        }
        reply
    }

    /// Until this node knows what the catalogue's journal holds now; where it decides on it itself it does.
    /// Waits, for some seconds at most, until this node knows what was declared at others before now.
    pub async fn await_catalogue(&self) {
        if self.peers.is_none() {
            return;
        }
        if self.duties[CATALOGUE_SHARD].is_on() {
            // It may be about to take it over.
            let late = self.sleep(CATALOGUE_WAIT);
            let known = self.ask_here(CATALOGUE_SHARD, Command::Ping);
            futures::pin_mut!(known, late);
            select(known, late).await;
            return;
        }
        let journal = self.journals.log(CATALOGUE_SHARD as u32);
        let Ok(bounds) = self.engine.bounds(journal).await else {
            return;
        };
        let known = self.catalogue.until(bounds.end);
        let late = self.sleep(CATALOGUE_WAIT);
        futures::pin_mut!(known, late);
        select(known, late).await;
    }

    pub(super) async fn ask_here(&self, shard: usize, command: Command) -> Result<Reply> {
        let answer = self.tell(shard, command)?;
        answer.await.map_err(|_| lost())?
    }

    /// Puts a command into a shard's mailbox; the answer comes later.
    pub(super) fn tell(
        &self,
        shard: usize,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Reply>>> {
        let (reply, answer) = oneshot::channel();
        // Each sender has room for one: who asks waits for its answer, and is bounded by its door.
        let sent = self.mailbox(shard)?.try_send(Request { command, reply });
        sent.map_err(|_| stopped()).map(|()| answer)
    }

    pub(super) fn mailbox(&self, shard: usize) -> Result<mpsc::Sender<Request>> {
        self.shards.get(shard).cloned().ok_or_else(stopped)
    }
}

fn stopped() -> Error {
    let message = "the shard has stopped: see the log of the server";
    Error::new(Kind::Internal, message)
}

pub(super) fn lost() -> Error {
    let message = "the shard was restored meanwhile: look, then repeat";
    Error::new(Kind::Unknown, message)
}
