//! The appends of one log, in the order of their calls: a queue and the task that works on
//! it. For an owned log the same task claims and renews, so that a claim never overtakes an
//! append of its own engine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mente_engine::{Appended, Batch, Error, Fence, LogId, Offset, Term};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::sleep_until;

use crate::cluster::{Cluster, Role, ask_again};
use crate::fence::{self, Claim};
use crate::limits;
use crate::produce::{self, Sent};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Where calls take their place.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) queue: mpsc::Sender<Command>,
    pub(crate) state: Arc<State>,
}

/// What the callers and the task of a lane share.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Of the last claim; none while a claim is under way.
    owner: Mutex<Option<Arc<Owner>>>,
    /// Told after every append.
    pub(crate) grown: Notify,
}

#[derive(Debug)]
pub(crate) struct Owner {
    term: Term,
    /// An append under it failed, or a later claim began.
    ended: AtomicBool,
}

#[derive(Debug)]
pub(crate) enum Command {
    Append(Append),
    Claim(Reply<Fence>),
}

#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) batch: Batch,
    pub(crate) owner: Option<Arc<Owner>>,
    /// The caller also holds fences of other logs, which do not cover this one.
    pub(crate) other_fences: bool,
    pub(crate) reply: Reply<Vec<Appended>>,
}

impl Append {
    /// May share a batch with others: nobody's fence, and nothing but records.
    fn is_plain(&self) -> bool {
        self.owner.is_none() && !self.other_fences && self.batch.is_plain()
    }
}

impl Owner {
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), Error> {
        if self.ended.load(Ordering::SeqCst) {
            Err(Error::Fenced)
        } else {
            Ok(())
        }
    }
}

impl State {
    /// The owner that this fence stands for, if it still is one.
    pub(crate) fn owner(&self, fence: &Fence) -> Result<Arc<Owner>, Error> {
        let owner = self
            .owner
            .lock()
            .expect("no panic while this is held")
            .clone();
        let owner = owner
            .filter(|owner| owner.term == fence.term)
            .ok_or(Error::Fenced)?;
        owner.check()?;
        Ok(owner)
    }

    /// Ends the present owner, if there is one, and names the next.
    pub(crate) fn succeed(&self, next: Option<Arc<Owner>>) {
        let mut owner = self.owner.lock().expect("no panic while this is held");
        if let Some(old) = std::mem::replace(&mut *owner, next) {
            old.end();
        }
    }
}

/// Works on the commands of one log until all its [`Lane`]s are dropped.
pub(crate) struct Worker {
    cluster: Arc<Cluster>,
    log: LogId,
    role: Role,
    /// Longest time between two proofs of a claim.
    longest: Duration,
    state: Arc<State>,
    claim: Option<Claim>,
    in_flight: Arc<Semaphore>,
    /// How large appends may become that go together.
    together_bytes: Arc<AtomicUsize>,
}

/// Makes a lane; `runtime` runs its task.
pub(crate) fn start(
    runtime: &tokio::runtime::Handle,
    cluster: Arc<Cluster>,
    log: LogId,
    longest: Duration,
) -> Lane {
    let (queue, commands) = mpsc::channel(limits::LANE_APPENDS);
    let state = Arc::new(State::default());
    let spread = (log.set.0 as u32).wrapping_add(log.index) % u32::from(limits::APPEND_CONNECTIONS);
    let worker = Worker {
        cluster,
        log,
        role: Role::Append(spread as u8),
        longest,
        state: Arc::clone(&state),
        claim: None,
        in_flight: Arc::new(Semaphore::new(limits::IN_FLIGHT as usize)),
        together_bytes: Arc::new(AtomicUsize::new(limits::TOGETHER_BYTES)),
    };
    runtime.spawn(worker.run(commands));
    Lane { queue, state }
}

impl Worker {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        // What was taken from the queue and could not go with what came before it.
        let mut left = None;
        loop {
            let renew_at = self.claim.as_ref().map(Claim::renew_at);
            let renewal = async {
                match renew_at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let next = async {
                match left.take() {
                    Some(command) => Some(command),
                    None => commands.recv().await,
                }
            };
            tokio::select! {
                biased;
                command = next => match command {
                    Some(Command::Append(append)) if append.is_plain() => {
                        left = self.append_together(append, &mut commands).await;
                    }
                    Some(Command::Append(append)) => self.append(append).await,
                    Some(Command::Claim(reply)) => {
                        let fence = self.claim().await;
                        // The fence holds whether or not somebody still waits for it.
                        let _ = reply.send(fence);
                    }
                    None => return,
                },
                () = renewal => self.renew_in_time().await,
            }
        }
    }

    async fn append(&mut self, append: Append) {
        let Append {
            batch,
            owner,
            other_fences,
            reply,
        } = append;
        let span = batch.offset_span();
        let proven = match &owner {
            Some(owner) => self.prove(owner).await,
            None => Ok(()),
        };
        let place = Arc::clone(&self.in_flight).acquire_owned().await.ok();
        let sent = match (proven, &owner) {
            (Ok(()), Some(owner)) => self.send_owned(owner, &batch).await,
            (Ok(()), None) => self.send_ownerless(batch, other_fences).await,
            (Err(error), _) => Err(error),
        };
        if let (Err(_), Some(owner)) = (&sent, &owner) {
            // Here, not in the task below: the next append is not to get ahead of it.
            owner.end();
        }
        let waiting = vec![(reply, span)];
        self.answer(sent, owner, waiting, place);
    }

    /// Appends that wait together go as one batch: Kafka takes a few at a time, whatever their size.
    /// Answers what came behind them and is something else.
    async fn append_together(
        &mut self,
        first: Append,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<Command> {
        let place = Arc::clone(&self.in_flight).acquire_owned().await.ok();
        let (mut size, mut left) = (first.batch.size(), None);
        let mut together = vec![first];
        let most = self.together_bytes.load(Ordering::Relaxed);
        while together.len() < limits::TOGETHER && left.is_none() {
            match commands.try_recv() {
                Ok(Command::Append(more))
                    if more.is_plain() && size + more.batch.size() <= most =>
                {
                    size += more.batch.size();
                    together.push(more);
                }
                Ok(other) => left = Some(other),
                Err(_) => break,
            }
        }
        let (mut batches, mut waiting) = (Vec::new(), Vec::new());
        for Append { batch, reply, .. } in together {
            waiting.push((reply, batch.offset_span()));
            batches.push(batch);
        }
        let batch = match &batches[..] {
            [one] => Ok(one.clone()),
            several => Batch::merged(several)
                .ok_or_else(|| Error::NotDone("a batch among these is malformed".into())),
        };
        let sent = match batch {
            Ok(batch) => self.send_ownerless(batch, false).await,
            Err(error) => Err(error),
        };
        self.answer(sent, None, waiting, place);
        left
    }

    /// Tells those whose records went together what came of them, each where its own lie.
    fn answer(
        &self,
        sent: Result<Sent, Error>,
        owner: Option<Arc<Owner>>,
        waiting: Vec<(Reply<Vec<Appended>>, u32)>,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let (state, cluster) = (Arc::clone(&self.state), Arc::clone(&self.cluster));
        let (set, together_bytes) = (self.log.set, Arc::clone(&self.together_bytes));
        tokio::spawn(async move {
            let mut outcome = match sent {
                Ok(sent) => sent.outcome().await,
                Err(error) => Err(error),
            };
            if outcome.is_ok() {
                state.grown.notify_waiters();
            } else {
                owner.inspect(|owner| owner.end());
                // Perhaps somebody else leads now.
                cluster.forget(set);
            }
            if waiting.len() > 1
                && let Err(Error::TooBig { size, .. }) = outcome
            {
                // A topic of somebody else's may take less than ours do.
                together_bytes.store(size / 2, Ordering::Relaxed);
                let message = "too large together with others: repeat".to_owned();
                outcome = Err(Error::Busy(message));
            }
            let mut before = 0;
            for (reply, span) in waiting {
                let own = outcome.clone().map(|all| {
                    let base = Offset(all.base.0 + before);
                    let last = Offset(base.0 + u64::from(span) - 1);
                    vec![Appended { base, last }]
                });
                before += u64::from(span);
                // Dropping an answer does not undo the append.
                let _ = reply.send(own);
            }
            drop(place);
        });
    }

    async fn send_ownerless(&self, batch: Batch, other_fences: bool) -> Result<Sent, Error> {
        let (topic, leader) = ask_again(|| self.cluster.leader(self.log, self.role)).await?;
        if topic.owned {
            return Err(Error::NotDone(
                "an owned log is written under its fence only".into(),
            ));
        }
        if other_fences {
            return Err(Error::Unsupported(
                "on Kafka a fence covers its own log only",
            ));
        }
        produce::send(&leader, self.log, batch).await
    }

    /// Makes sure that the claim was proven lately, on a connection that is open.
    async fn prove(&mut self, owner: &Owner) -> Result<(), Error> {
        owner.check()?;
        if self.claim.as_ref().is_some_and(Claim::is_due) {
            self.renew(owner).await?;
        }
        Ok(())
    }

    async fn send_owned(&mut self, owner: &Owner, batch: &Batch) -> Result<Sent, Error> {
        owner.check()?;
        // Waiting for a place can take long: an owner that is due again by now goes no further.
        let claim = self
            .claim
            .as_mut()
            .filter(|claim| !claim.is_due())
            .ok_or(Error::Fenced)?;
        let batch = claim.sequence.stamp(batch);
        produce::send(&claim.connection, self.log, batch).await
    }

    async fn claim(&mut self) -> Result<Fence, Error> {
        self.state.succeed(None);
        self.claim = None;
        self.quiet().await;
        let claim = fence::claim(&self.cluster, self.log, self.role, self.longest).await?;
        let fence = claim.fence;
        self.claim = Some(claim);
        let owner = Owner {
            term: fence.term,
            ended: AtomicBool::new(false),
        };
        self.state.succeed(Some(Arc::new(owner)));
        Ok(fence)
    }

    async fn renew(&mut self, owner: &Owner) -> Result<(), Error> {
        // The sequence starts anew, so nothing of the old one may be under way.
        self.quiet().await;
        owner.check()?;
        let claim = self.claim.as_mut().ok_or(Error::Fenced)?;
        fence::renew(&self.cluster, claim, self.role, self.longest).await
    }

    /// Without an append that asks for it.
    async fn renew_in_time(&mut self) {
        let Some(fence) = self.claim.as_ref().map(|claim| claim.fence) else {
            return;
        };
        let renewed = match self.state.owner(&fence) {
            Ok(owner) => self.renew(&owner).await,
            Err(error) => Err(error),
        };
        if renewed.is_err() {
            // Whatever it was, an owner that cannot prove itself is none.
            self.claim = None;
            self.state.succeed(None);
        }
    }

    /// Waits until nothing is under way.
    async fn quiet(&self) {
        let all = self.in_flight.acquire_many(limits::IN_FLIGHT).await;
        drop(all);
    }
}
