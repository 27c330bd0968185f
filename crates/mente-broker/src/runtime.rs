//! Drives one shard: a future that names no executor.
//!
//! ```text
//!  mailbox ──┐
//!  reads ────┼─▶ round: decide all that is queued ─▶ append once ─▶ durable ─▶ replies
//!  timers ───┘                                          │
//!                                          failed or unknown: claim and restore
//! ```
//! While the engine has no room for a decision none is made: an append that it refuses would end the
//! tenure, and with it every lease.
//!
//! One append is in flight at a time. A reply leaves only when everything that was decided
//! before it is durable, refusals included, since they rest on that state; but deliveries beside what is only
//! done with ([`ahead`]), and what nobody waits for is appended with what comes next ([`lingering`]).

mod ahead;
mod burials;
mod inlining;
mod lingering;
mod moving;
mod parts;
mod reading;
mod sealing;
mod standby;
mod storing;
mod transfers;
mod trimming;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt};
use mente_engine::{self as engine, Batch, Clock, Engine, Fence, LogId, Now, Offset, Takes};

use crate::bell::Bell;
use crate::breathing::breathe;
use crate::broker::{Lent, Teller};
use crate::catalogue::SharedCatalogue;
use crate::dead_letter::Letters;
use crate::duty::{Duty, Progress};
use crate::error::{Error, Kind, Result};
use crate::inline::{Inlines, Views};
use crate::journal::{self, Decision};
use crate::name::{EntityName, SubscriptionName};
use crate::peers::Peers;
use crate::planted::{Planted, planted};
use crate::properties::Properties;
use crate::queue::{Accepted, Remembered, Settlement, Ticket};
use crate::restore::{self, Logs, Restored, StoreFences, Warm};
use crate::shard::{Arrival, Ask, Burial, Command, Outcome, Reply, Shard};
use crate::snapshot::{self, Written};
use crate::store::{Append, Blocks, Facts, Sealed};
use crate::structured::ParseEvent;
use crate::transfer::Transferred;
use inlining::Waiting;
use lingering::Lingering;
use moving::{MovedIo, Movings};
pub(crate) use parts::Claiming;
use parts::Parts;
use transfers::Ways;

/// Commands that one round decides at most.
const ROUND_COMMANDS: usize = 1_024;
/// Messages that who hears of them has something to do with.
const MANY: usize = 16;
/// Reads and copies that one round takes in at most.
const ROUND_IO: usize = 64;
/// Dead letters that are copied at one time.
const BURIALS_AT_ONCE: usize = 64;
/// Wait before what failed in the engine is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long who is relieved waits for its copies of dead letters.
const BURIAL_WAIT: Duration = Duration::from_secs(3);
/// What is copied and fails again and again waits twice as long each time, but no more often.
const RETRY_DOUBLINGS: u32 = 6;

/// A dead letter: view, log, partition of the view, offset.
type Grave = (u64, LogId, u32, Offset);

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply>>,
}

pub(crate) struct Runtime {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) logs: Logs,
    /// Whether this node decides for the shard.
    pub(crate) duty: Duty,
    /// Whether what this node was assigned is certainly still its own.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) mailbox: mpsc::Receiver<Request>,
    pub(crate) snapshot_bytes: usize,
    /// What a batch of several decisions is kept below.
    pub(crate) page_bytes: usize,
    /// What a batch of several appends to the store is kept below.
    pub(crate) store_bytes: usize,
    /// Events of the store that are in memory before they are sealed.
    pub(crate) tail_events: usize,
    /// Of the store's index; only the shard that owns the store has them.
    pub(crate) blocks: Option<Arc<Blocks>>,
    /// Views that appends to the store wait for.
    pub(crate) inlines: Inlines,
    /// Reads events that other producers wrote whole.
    pub(crate) parse: ParseEvent,
    /// Tells filters what readers are told.
    pub(crate) teller: Arc<Teller>,
    /// Rung when subscriptions came or went.
    pub(crate) subscriptions: Bell,
    /// Only the shard that holds the catalogue has it.
    pub(crate) catalogue: Option<SharedCatalogue>,
    /// What branches read.
    pub(crate) lent: Lent,
    /// What rules ask of events.
    pub(crate) properties: &'static dyn Properties,
    /// Ids for duplicates, of all shards.
    pub(crate) remembered: Arc<Remembered>,
    /// What all doors know.
    pub(crate) known: SharedCatalogue,
    /// Counts what is refused for want of room before the engine hears of it.
    pub(crate) refused: Arc<AtomicU64>,
}

/// One ownership of the shard, from a claim to its loss.
struct Tenure<'a> {
    runtime: &'a mut Runtime,
    fence: Fence,
    store_fences: Option<StoreFences>,
    shard: Shard,
    written: Written,
    /// False only under a planted bug.
    is_claimed: bool,
    next_ticket: u64,
    callers: BTreeMap<Ticket, Caller>,
    lingering: Lingering,
    /// Gives back what was leased for receivers that left before they had it.
    undelivered: Vec<Command>,
    io: FuturesUnordered<Pin<Box<dyn Future<Output = Io> + Send>>>,
    /// Logs and positions that are being read or watched.
    reading: BTreeSet<(LogId, Offset)>,
    /// Dead letters that are being copied.
    burying: BTreeSet<Grave>,
    /// The logs that they are copied to.
    letters: Arc<Letters>,
    /// Views from which records go on to other topics.
    transferring: Ways,
    /// How far logs of queues were trimmed.
    trimmed: BTreeMap<LogId, Offset>,
    /// Decisions since that was looked at.
    untrimmed: usize,
    /// What was moved out of the way of what is settled.
    moving: Movings,
    /// Pieces of large messages; none while they are looked at.
    parts: Option<Parts>,
    /// Some may be started once this round is durable.
    burials_wait: bool,
    /// Dead letters whose copies failed, and how often.
    failed: BTreeMap<Grave, u32>,
    /// Of these, who wait to be tried again, while others have their place.
    resting: BTreeSet<Grave>,
    /// The engine had room for decisions when this round began.
    may_decide: bool,
    /// Dead letters wait for room to be copied.
    awaits_room: bool,
    /// A block of the store's index is being written, or its log is claimed again.
    sealing: bool,
    /// Appends that are being looked up.
    lookups: usize,
    /// The views that have a say in the appends of this round, and those that wait to be told them.
    views: Views,
    waiting: VecDeque<Waiting>,
    /// They were asked in this round, and have neither kept nor undone.
    asked: bool,
    /// An append beside the rounds failed: nothing more lands under its fence.
    broken: Option<engine::Error>,
}

struct Caller {
    reply: oneshot::Sender<Result<Reply>>,
    /// What it receives from, if it does.
    receives: Option<SubscriptionName>,
    /// It asks for nothing that must be durable.
    lingers: bool,
}

/// What a read, a watch or a copy came to.
enum Io {
    Read {
        log: LogId,
        from: Offset,
        result: Result<(Vec<Arrival>, Offset), engine::Error>,
    },
    /// The log grew, or a pause is over.
    Look {
        log: LogId,
        from: Offset,
    },
    Buried {
        burial: Box<Burial>,
        result: Result<Option<Offset>, engine::Error>,
    },
    /// What was settled need not be kept any more.
    Trimmed,
    /// Stragglers were copied, or read again.
    Moved(Box<MovedIo>),
    /// Pieces of large messages were looked at.
    Parts(Box<Parts>),
    /// What went on to another topic.
    Transferred {
        way: Box<(u64, EntityName)>,
        result: Result<Transferred, engine::Error>,
    },
    /// A dead letter may be tried again.
    Rested(Grave),
    /// There may be room for dead letters again.
    LookForRoom,
    /// What the sealed part of the store says of an append.
    LookedUp {
        ticket: Ticket,
        append: Append,
        result: Result<Facts>,
    },
    Sealed(Result<Sealed, engine::Error>),
    /// The log of the store's index takes blocks again.
    IndexClaimed(Result<Fence, engine::Error>),
}

/// What woke the shard.
enum Wake {
    Request(Request),
    Io(Io),
    Timer,
    /// Every handle is gone.
    Stop,
    /// Another node is to decide.
    Relieved,
}

/// How a tenure ended that nothing ended by force.
enum End {
    Stop,
    Relieved,
}

impl Runtime {
    /// Runs until every handle is gone, or the journal cannot be trusted.
    pub(crate) async fn run(mut self) -> Result<()> {
        let journal = self.logs.journal;
        loop {
            let mut warm = Warm::new(self.tail_events);
            if !self.stand_by(&mut warm).await {
                return Ok(());
            }
            let engine = Arc::clone(&self.engine);
            let error = match restore::restore(&*engine, self.logs, warm, &self.duty).await {
                Ok(restored) => match Tenure::new(&mut self, restored).run().await {
                    Ok(End::Stop) => return Ok(()),
                    Ok(End::Relieved) => {
                        tracing::info!(%journal, "shard handed on");
                        self.duty.report(Progress::Away);
                        self.subscriptions.ring();
                        continue;
                    }
                    Err(error) => {
                        if !planted(Planted::RestoreUnclaimed) {
                            self.duty.report(Progress::LOST);
                        }
                        error
                    }
                },
                Err(restore::Failure::Relieved) => continue,
                Err(restore::Failure::Engine(error)) => error,
                Err(restore::Failure::Journal(error)) => {
                    tracing::error!(%journal, %error, "shard stopped");
                    if self.peers.is_none() {
                        return Err(error);
                    }
                    // The other shards of this node are sound, and so may other nodes be.
                    if !self.refuse(&error).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            tracing::warn!(%journal, %error, "shard claims its journal again");
            if !self.rest().await {
                return Ok(());
            }
        }
    }

    fn is_on_duty(&self) -> bool {
        self.duty.is_on() && self.peers.as_ref().is_none_or(|peers| peers.holds())
    }
}

impl<'a> Tenure<'a> {
    fn new(runtime: &'a mut Runtime, restored: Restored) -> Self {
        let letters = Arc::new(Letters::new(runtime.peers.is_some()));
        let mut tenure = Self {
            runtime,
            fence: restored.journal,
            store_fences: restored.store,
            shard: restored.shard,
            written: restored.written,
            is_claimed: !planted(Planted::ClaimAfterDeciding),
            next_ticket: 1,
            callers: BTreeMap::new(),
            lingering: Lingering::default(),
            undelivered: Vec::new(),
            io: FuturesUnordered::new(),
            reading: BTreeSet::new(),
            burying: BTreeSet::new(),
            letters,
            transferring: Ways::new(),
            trimmed: BTreeMap::new(),
            untrimmed: 0,
            moving: Movings::new(),
            parts: Some(Parts::default()),
            burials_wait: false,
            failed: BTreeMap::new(),
            resting: BTreeSet::new(),
            may_decide: true,
            awaits_room: false,
            sealing: false,
            lookups: 0,
            views: Views::default(),
            waiting: VecDeque::new(),
            asked: false,
            broken: None,
        };
        tenure.hear_of_blocks();
        tenure.shard.ask_of(tenure.runtime.properties);
        tenure.shard.remember_within(&tenure.runtime.remembered);
        if let Some(shared) = &tenure.runtime.catalogue {
            shared.replace(tenure.shard.catalogue().clone());
        }
        let term = tenure.fence.term;
        tenure.runtime.duty.report(Progress::AtWork { term });
        // What the last owner could only call unknown may be among the restored.
        tenure.runtime.subscriptions.ring();
        tenure
    }

    /// Rounds until every handle is gone, or another node is to decide; an error means that the state may
    /// not be the journal's.
    async fn run(mut self) -> Result<End, engine::Error> {
        self.start_burials();
        loop {
            if !self.runtime.is_on_duty() {
                self.send_away();
                self.write_lingering().await;
                self.finish_burials().await;
                return Ok(End::Relieved);
            }
            self.start_reads();
            let mut out = Outcome::default();
            let wake = if self.undelivered.is_empty() || !self.may_decide {
                self.wake().await
            } else {
                Wake::Timer
            };
            // The wait may have been long, and the process may have stood still meanwhile.
            if !self.runtime.is_on_duty() {
                match wake {
                    Wake::Request(request) => drop(request.reply.send(Err(not_owner()))),
                    // If it is on duty again at once, somebody still waits for that.
                    Wake::Io(io) => self.io.push(Box::pin(std::future::ready(io))),
                    Wake::Timer | Wake::Stop | Wake::Relieved => {}
                }
                continue;
            }
            let now = self.runtime.clock.now();
            self.look_for_room();
            self.views = self.runtime.inlines.now();
            // Before anything arrives or falls due: a receiver that left must not be served.
            self.forget_callers_that_left();
            if self.may_decide {
                self.take_back_undelivered(now, &mut out);
            }
            match wake {
                Wake::Stop => {
                    self.write_lingering().await;
                    return Ok(End::Stop);
                }
                Wake::Relieved => {}
                Wake::Io(io) if !self.may_decide => self.io.push(Box::pin(std::future::ready(io))),
                wake => self.take(wake, now, &mut out),
            }
            self.drain(now, &mut out);
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            self.ask_views(&mut out).await;
            if self.may_decide {
                let now = self.runtime.clock.now();
                self.shard.tick(now, &mut out);
            }
            let is_much = messages_of(&out.replies) >= MANY;
            if !self.linger(&mut out) {
                self.commit(out).await?;
            }
            // Who leaves is let go.
            self.views = Views::default();
            if is_much {
                // There is as much to be read on: who was answered begins before.
                breathe().await;
            }
            let is_whole = self.may_decide && self.lingering.is_empty();
            if is_whole && self.written.is_snapshot_due(self.runtime.snapshot_bytes) {
                self.take_snapshot().await?;
            }
        }
    }

    /// Without room for decisions leases stay as they are, whatever falls due, and nobody waits
    /// for a delivery: that would be one.
    fn look_for_room(&mut self) {
        let room = self.runtime.engine.room().check(Takes::Decisions);
        self.may_decide = room.is_ok();
        if let Err(busy) = room {
            for (ticket, caller) in std::mem::take(&mut self.callers) {
                self.shard.forget(ticket);
                let _ = caller.reply.send(Err(busy.clone().into()));
            }
        }
    }

    /// Waits for the first thing to do.
    async fn wake(&mut self) -> Wake {
        let due = [self.shard.next_due(), self.lingering.until()];
        let timer = match due.into_iter().flatten().min() {
            _ if !self.may_decide => self.pause(),
            Some(at) => self.runtime.clock.sleep_until(at),
            None => Box::pin(std::future::pending()),
        };
        let idle = self.io.is_empty() || !self.may_decide;
        let io = async {
            if idle {
                std::future::pending().await
            } else {
                self.io.next().await
            }
        };
        let bell = self.runtime.duty.bell();
        let relieved = bell.after(bell.rings());
        if !self.runtime.is_on_duty() {
            return Wake::Relieved;
        }
        futures::pin_mut!(io, relieved);
        let quiet = select(io, select(timer, relieved));
        match select(self.runtime.mailbox.next(), quiet).await {
            Either::Left((Some(request), _)) => Wake::Request(request),
            Either::Left((None, _)) => Wake::Stop,
            Either::Right((Either::Left((io, _)), _)) => io.map_or(Wake::Timer, Wake::Io),
            Either::Right((Either::Right((Either::Left(_), _)), _)) => Wake::Timer,
            Either::Right((Either::Right((Either::Right(_), _)), _)) => Wake::Relieved,
        }
    }
    /// Nothing was done for those who still wait: another node may do it.
    fn send_away(&mut self) {
        for caller in std::mem::take(&mut self.callers).into_values() {
            let _ = caller.reply.send(Err(not_owner()));
        }
    }

    /// Takes whatever else is there already, so that one append serves it all, and so that
    /// neither commands nor reads keep the other out.
    fn drain(&mut self, now: Now, out: &mut Outcome) {
        for _ in 0..ROUND_COMMANDS {
            let Ok(request) = self.runtime.mailbox.try_recv() else {
                break;
            };
            self.take(Wake::Request(request), now, out);
        }
        let io = if self.may_decide { ROUND_IO } else { 0 };
        for _ in 0..io {
            let Some(Some(io)) = self.io.next().now_or_never() else {
                break;
            };
            self.take(Wake::Io(io), now, out);
        }
    }

    fn take(&mut self, wake: Wake, now: Now, out: &mut Outcome) {
        match wake {
            Wake::Request(Request { mut command, reply }) => {
                if let Err(busy) = self.runtime.engine.room().check(command.needs()) {
                    self.runtime.refused.fetch_add(1, Ordering::Relaxed);
                    let _ = reply.send(Err(busy.into()));
                    return;
                }
                let ticket = self.ticket();
                let receives = match &mut command {
                    Command::Receive { name, .. } | Command::Message { name, .. } => {
                        Some(name.clone())
                    }
                    Command::ListSubscriptions { bounds, .. } if !self.may_decide => {
                        // To let go of what retention took would be a decision: later.
                        bounds.iter_mut().for_each(|(_, b)| b.start = Offset(0));
                        None
                    }
                    _ => None,
                };
                let lingers = matches!(command, Command::Settle { lingers: true, .. });
                let caller = Caller {
                    reply,
                    receives,
                    lingers,
                };
                self.callers.insert(ticket, caller);
                let before = out.decisions.len();
                match command {
                    Command::Append(append) => self.append(ticket, append, out),
                    command => self.shard.decide(now, ticket, command, out),
                }
                if lingers {
                    self.lingering.decided(&out.decisions[before..]);
                }
            }
            Wake::Io(Io::Read { log, from, result }) => {
                self.reading.remove(&(log, from));
                self.arrived(log, from, result, out);
            }
            Wake::Io(Io::Look { log, from }) => {
                self.reading.remove(&(log, from));
            }
            Wake::Io(Io::Buried { burial, result }) => {
                let grave = burial.grave();
                self.burying.remove(&grave);
                match result {
                    Ok(at) => {
                        self.failed.remove(&grave);
                        self.shard.buried(&burial, at, out);
                    }
                    Err(error) => {
                        tracing::warn!(subscription = %burial.name, %error, "dead letter not copied yet");
                        self.rest(grave);
                        self.burials_wait = true;
                    }
                }
            }
            Wake::Io(Io::Transferred { way, result }) => self.transferred(*way, result, out),
            Wake::Io(Io::Rested(grave)) => {
                self.resting.remove(&grave);
                self.burials_wait = true;
            }
            Wake::Io(Io::LookedUp {
                ticket,
                append,
                result,
            }) => self.looked_up(ticket, append, result, out),
            Wake::Io(Io::Sealed(result)) => {
                self.sealed(result, out);
            }
            Wake::Io(Io::IndexClaimed(result)) => self.index_claimed(result),
            Wake::Io(Io::LookForRoom) => {
                self.awaits_room = false;
                self.burials_wait = true;
            }
            Wake::Io(Io::Moved(io)) => self.moved(*io, out),
            Wake::Io(Io::Parts(parts)) => self.parts = Some(*parts),
            Wake::Io(Io::Trimmed) | Wake::Timer | Wake::Stop | Wake::Relieved => {}
        }
    }

    /// Makes what was decided durable, then lets the replies go.
    async fn commit(&mut self, mut out: Outcome) -> Result<(), engine::Error> {
        if planted(Planted::ClaimAfterDeciding) && !std::mem::replace(&mut self.is_claimed, true) {
            self.fence = self.runtime.engine.claim(self.fence.log).await?;
        }
        if planted(Planted::ReplyBeforeCommit) {
            self.reply(std::mem::take(&mut out.replies));
        }
        self.lingering.join(&mut out.decisions);
        self.deliver_ahead(&mut out).await;
        let decided = !out.decisions.is_empty();
        let now = self.runtime.clock.now();
        let first = self.shard.seq() + 1 - out.decisions.len() as u64;
        let batches = journal::encode(first, &out.decisions, now.wall, self.runtime.page_bytes);
        self.written.since += batches.iter().map(Batch::size).sum::<usize>();
        if batches.is_empty() && out.appends.is_empty() && !self.runtime.is_on_duty() {
            // No append, so no fence tells: what this rests on may be another node's by now.
            out.replies
                .iter_mut()
                .for_each(|(_, reply)| *reply = Err(not_owner()));
        }
        // Each batch is a prefix of the round that can stand alone: nobody has a reply yet.
        let journal: Vec<_> = batches.into_iter().map(|b| self.journal(b)).collect();
        let is_one = journal.len() == 1 && out.appends.is_empty();
        let stored = self.append_to_store(&out.appends);
        // All were called; only now does anybody wait.
        let journal = futures::future::try_join_all(journal);
        let result = futures::future::try_join(journal, stored).await;
        let bases = match result {
            Ok((_, bases)) => bases,
            Err(error) => {
                self.undo_views().await;
                self.disown(out.replies, &error, is_one);
                return Err(error);
            }
        };
        let mut end = None;
        for (append, base) in out.appends.drain(..).zip(bases) {
            self.shard.placed(&append, base);
            end = Some(Offset(base.0 + append.records.len() as u64));
        }
        match end {
            Some(end) => self.keep_views(end, &mut out).await,
            None => self.undo_views().await,
        }
        if decided {
            if out
                .decisions
                .iter()
                .any(|d| matches!(d, Decision::Sealed(_)))
            {
                self.hear_of_blocks();
                self.shard.forget_sealed();
            }
            if out.decisions.iter().any(Decision::changes_subscriptions) {
                self.runtime.subscriptions.ring();
            }
            if let Some(shared) = &self.runtime.catalogue {
                shared.apply(&out.decisions);
            }
        }
        if decided || self.burials_wait {
            self.start_burials();
        }
        self.trim_settled(out.decisions.len());
        self.trim_parts();
        self.reply(out.replies);
        self.start_sealing();
        Ok(())
    }

    fn reply(&mut self, replies: Vec<(Ticket, Result<Reply>)>) {
        for (ticket, reply) in replies {
            let Some(caller) = self.callers.remove(&ticket) else {
                continue;
            };
            let Some((unheard, name)) = caller.reply.send(reply).err().zip(caller.receives) else {
                continue;
            };
            match unheard {
                Ok(Reply::Deliveries(deliveries)) => {
                    let tokens = deliveries.into_iter().map(|delivery| delivery.token);
                    let (tokens, how) = (tokens.collect(), Settlement::Return);
                    self.undelivered.push(Command::Settle {
                        name,
                        tokens,
                        how,
                        note: None,
                        lingers: false,
                    });
                }
                Ok(Reply::Session(Some(Accepted { lock, .. }))) => {
                    let ask = Ask::ReleaseSession { lock };
                    self.undelivered.push(Command::Message { name, ask });
                }
                _ => {}
            }
        }
    }

    fn journal(&self, batch: Batch) -> engine::Answer<Vec<engine::Appended>> {
        let (engine, fence) = (&self.runtime.engine, self.fence);
        engine.append(&[fence], vec![(fence.log, batch)])
    }

    /// Tells the state anew and lets go of what lies before. Nothing else is decided meanwhile.
    async fn take_snapshot(&mut self) -> Result<(), engine::Error> {
        let now = self.runtime.clock.now();
        let batches = match snapshot::tell(&self.shard, now.wall, self.runtime.page_bytes) {
            Ok(batches) => batches,
            Err(error) => {
                tracing::error!(journal = %self.fence.log, %error, "the journal keeps all its decisions");
                // Not again with every round.
                self.written.since = 0;
                return Ok(());
            }
        };
        let bytes = batches.iter().map(Batch::size).sum();
        let mut begin = None;
        for batch in batches {
            if self.runtime.engine.room().check(Takes::Decisions).is_err() {
                // Half a snapshot is none; the next round with room tells it anew.
                return Ok(());
            }
            let appended = self.journal(batch).await?;
            begin = begin.or(appended.first().map(|appended| appended.base));
        }
        self.written = Written {
            snapshot: bytes,
            since: 0,
        };
        if let Some(begin) = begin
            && let Err(error) = self.runtime.engine.trim(self.fence.log, begin).await
        {
            tracing::warn!(journal = %self.fence.log, %error, "decisions before a snapshot stay for now");
        }
        tracing::debug!(journal = %self.fence.log, bytes, "snapshot");
        Ok(())
    }

    /// The outcome is not known, so no reply of this round may claim one; but of a round that was
    /// one append, and was refused, it is: nothing was done.
    fn disown(
        &mut self,
        replies: Vec<(Ticket, Result<Reply>)>,
        error: &engine::Error,
        is_one: bool,
    ) {
        let error = match error {
            engine::Error::Busy(_) if is_one => Error::from(error.clone()),
            error => {
                let message =
                    format!("the decision may or may not be kept: {error}; look, then repeat it");
                Error::new(Kind::Unknown, message)
            }
        };
        for (ticket, _) in replies {
            if let Some(caller) = self.callers.remove(&ticket) {
                let _ = caller.reply.send(Err(error.clone()));
            }
        }
    }

    fn forget_callers_that_left(&mut self) {
        let left = self
            .callers
            .iter()
            .filter(|(_, caller)| caller.reply.is_canceled());
        for ticket in left.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            self.callers.remove(&ticket);
            self.shard.forget(ticket);
        }
    }

    /// Others need not wait for the end of a lease that nobody has.
    fn take_back_undelivered(&mut self, now: Now, out: &mut Outcome) {
        for command in std::mem::take(&mut self.undelivered) {
            let ticket = self.ticket();
            self.shard.decide(now, ticket, command, out);
        }
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.runtime
            .clock
            .sleep_until(self.runtime.clock.now().monotone + RETRY)
    }
}

/// Messages that these replies are about.
fn messages_of<'a>(replies: impl IntoIterator<Item = &'a (Ticket, Result<Reply>)>) -> usize {
    let of = |(_, reply): &(Ticket, Result<Reply>)| match reply {
        Ok(Reply::Deliveries(some)) => some.len(),
        Ok(Reply::Settled(some)) => some.len(),
        _ => 0,
    };
    replies.into_iter().map(of).sum()
}

fn not_owner() -> Error {
    let message = "this node does not decide that now";
    Error::new(Kind::NotOwner, message)
}
