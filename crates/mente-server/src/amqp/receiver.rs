//! A link of a receiver: while it has credit one call for messages is under way, and what came of the one before is sent
//! meanwhile.

mod leaving;
mod taking;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mente_broker::queue::LockToken;
use mente_broker::{
    Attached, Claim, Ending, Held, Mode, Principal, SessionLock, Standing, SubscriptionName,
};
use mente_engine::limits;
use mente_wire::amqp::event::{self, Stamp};
use mente_wire::amqp::machine::{Connection, DeliveryId, LinkId, Outgoing, Refused};
use mente_wire::amqp::performative::ReceiverSettleMode;
use mente_wire::amqp::{DeliveryState, Outcome, condition};

pub(super) use self::taking::Taken;
use self::taking::UnderWay;
use super::client::{Desk, Done};
use super::condition::Refusal;
use super::download::{self, Download, Failed, Opened};
use super::settle::{self, Out, Settlement};
use super::transactions::{Transactions, within};

/// Messages that are sent before the client is listened to again: it may have said what others can begin with meanwhile.
const SENT: usize = 64;
/// How long a call waits for the first one; the next one follows.
const WAIT: Duration = Duration::from_secs(60);
/// Messages that are completed at once for who receives without locks.
const COMPLETED: usize = 32;
/// How long nothing may go of a large message that has room.
const STILL_WAIT: Duration = Duration::from_secs(60);
/// Calls that settle which are under way for one link; what comes meanwhile is in the next one.
const SETTLING: usize = 16;

pub(super) struct Receiver {
    /// As requests name it that are about what was received on it.
    pub(super) name: String,
    pub(super) who: Principal,
    pub(super) view: SubscriptionName,
    mode: Mode,
    /// What is out when the link goes keeps its locks: a client of Service Bus may still settle it, by requests. One
    /// that settles first, as AMQP's own clients do, knows of no locks.
    keeps_locks: bool,
    /// Whether events of other doors are shown in sessions.
    has_sessions: bool,
    pub(super) session: Option<SessionLock>,
    taking: Option<UnderWay>,
    /// Calls that give back what it cannot send.
    returning: usize,
    /// So many messages the last call brought: about as many the next one brings.
    brought: usize,
    /// What was taken to be sent without a lock is being completed: nothing breaks that off.
    completing: bool,
    /// Completed, to be sent before anything else.
    done: VecDeque<Held>,
    /// A drain wants one more look.
    looks: bool,
    /// Taken, and not sent yet.
    held: VecDeque<Held>,
    /// Sent under locks, and not settled.
    out: HashMap<DeliveryId, Out>,
    is_draining: bool,
    /// The window of the session is shut.
    is_shut: bool,
    settling: Vec<Settlement>,
    settling_calls: usize,
    /// Settlements that cannot be, or not before their transaction ends, to be told.
    told: Vec<(DeliveryId, DeliveryState)>,
    _attached: Attached,
    /// The message whose data is kept beside it, that stands first in line or is being sent.
    large: Option<Large>,
    /// What its session had sent, and when that was first seen, while a large message has room.
    pace: Option<(u32, Duration)>,
    /// Since when the large message has room, once that was looked at.
    room_since: Option<Duration>,
}

enum Large {
    /// It waits for room; by its number.
    Opening(u64),
    Opened(Opened),
    Sending(Box<Download>),
}

impl Receiver {
    pub(super) fn new(
        name: String,
        who: Principal,
        view: SubscriptionName,
        (mode, settles): (Mode, ReceiverSettleMode),
        has_sessions: bool,
        session: Option<SessionLock>,
        attached: Attached,
    ) -> Self {
        Self {
            name,
            who,
            view,
            mode,
            keeps_locks: settles == ReceiverSettleMode::Second,
            has_sessions,
            session,
            taking: None,
            returning: 0,
            brought: 0,
            completing: false,
            done: VecDeque::new(),
            looks: false,
            held: VecDeque::new(),
            out: HashMap::new(),
            is_draining: false,
            is_shut: false,
            settling: Vec::new(),
            settling_calls: 0,
            told: Vec::new(),
            _attached: attached,
            large: None,
            pace: None,
            room_since: None,
        }
    }

    /// The receiver takes so many from now on, or wants to hear at once that there is nothing more.
    pub(super) fn credit(&mut self, id: LinkId, credit: u32, drain: bool, desk: &Desk) {
        self.is_draining = drain;
        match drain {
            true => self.stop(),
            false => self.break_off_beyond(credit.saturating_sub(self.held_now())),
        }
        // What was locked for credit that is gone is others' again.
        let kept = usize::try_from(credit).unwrap_or(usize::MAX);
        let surplus = self.held.split_off(kept.min(self.held.len()));
        self.give_back(id, surplus, desk);
        // One look, however often it is said until then.
        self.looks = drain && self.held.len() < kept;
    }

    /// The session takes no transfers: what is locked is others' meanwhile, and nothing is held for who may never
    /// open it again.
    fn shut(&mut self, id: LinkId, desk: &Desk) {
        self.is_shut = true;
        // What that brings stands behind what goes back.
        self.stop();
        let held = std::mem::take(&mut self.held);
        self.give_back(id, held, desk);
    }

    /// The session takes transfers again.
    pub(super) fn window(&mut self) {
        self.is_shut = false;
    }

    /// So many are to be sent.
    fn held_now(&self) -> u32 {
        u32::try_from(self.held.len() + self.done.len()).unwrap_or(u32::MAX)
    }

    /// Completes what can be sent now: only then it is sent. What cannot stays under its lock.
    fn complete(&mut self, machine: &mut Connection, id: LinkId, desk: &Desk) {
        let credit = machine.credit(id).unwrap_or(0) as usize;
        let window = machine.window(id).unwrap_or(0) as usize;
        let fits = credit.min(window).saturating_sub(self.done.len());
        let fits = fits.min(self.held.len());
        if self.completing || self.is_shut || fits == 0 || !machine.has_room() {
            return;
        }
        // One whose data is kept beside it takes a while to go: what stands behind it stays.
        let is_large = |held: &Held| held.claim.is_some();
        if self.done.iter().any(is_large) {
            return;
        }
        let first = self.held.front();
        let large = first.and_then(|held| Some((held.number, held.claim?)));
        let small = self.held.iter().take_while(|held| !is_large(held)).count();
        let most = match (large, &self.large) {
            (None, None) => fits.min(COMPLETED).min(small),
            // It is completed once it is known that it can be sent.
            (Some((number, _)), Some(Large::Opened(opened))) if opened.is_of(number) => 1,
            (Some((number, claim)), None) => return self.open(id, number, claim, desk),
            _ => return,
        };
        let held: Vec<_> = self.held.drain(..most).collect();
        self.completing = true;
        let (broker, who, view) = (desk.broker(), self.who.clone(), self.view.clone());
        desk.begin(async move {
            let tokens = held.iter().filter_map(|held| Some(held.lock?.token));
            let done = broker.end_locks(&who, &view, tokens.collect(), Ending::Complete);
            let completed = done.await.map(|done| {
                let done = held.into_iter().zip(done).filter(|(_, held)| *held);
                done.map(|(held, _)| Held { lock: None, ..held }).collect()
            });
            Done::Completed(id, completed)
        });
    }

    pub(super) fn completed(
        &mut self,
        completed: mente_broker::Result<Vec<Held>>,
    ) -> Result<(), Refusal> {
        self.completing = false;
        self.done
            .extend(completed.map_err(|error| self.refusal(error))?);
        Ok(())
    }

    fn refusal(&self, error: mente_broker::Error) -> Refusal {
        match self.session {
            Some(_) => Refusal::of_session(error),
            None => error.into(),
        }
    }

    /// Sends what it has, settles what is to be settled, asks for more. Whether it waits for something to be
    /// written.
    pub(super) fn pump(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        desk: &Desk,
        is_leaving: bool,
    ) -> bool {
        for (delivery, state) in std::mem::take(&mut self.told) {
            let _ = machine.settle(id, delivery, Some(state));
        }
        self.settle(id, desk);
        let is_full = self.send(machine, id, desk);
        if machine.window(id) == Ok(0) {
            self.shut(id, desk);
        }
        if self.mode == Mode::Delete && !is_leaving {
            self.complete(machine, id, desk);
        }
        if is_leaving {
            return is_full;
        }
        let has_call = self.is_busy();
        let has_some = !self.held.is_empty() || !self.done.is_empty();
        let is_idle = !has_call && !has_some;
        if self.looks && !has_call {
            self.looks = false;
            let left = machine.credit(id).unwrap_or(0);
            let left = left.saturating_sub(self.held_now());
            if left > 0 && !self.is_shut {
                self.take(id, left, Duration::ZERO, desk);
            }
        }
        let has_call = self.is_busy();
        let has_some = !self.held.is_empty() || !self.done.is_empty();
        if self.is_draining && !has_call && (!has_some || !self.is_shut) {
            let is_written = !is_full && (!has_some || machine.has_room());
            let is_answered = is_written && machine.drained(id).is_ok();
            if is_answered {
                self.is_draining = false;
            }
        } else if is_idle && !self.is_draining && !self.is_shut && machine.has_room() {
            let credit = machine.credit(id).unwrap_or(0);
            if credit > 0 {
                self.take(id, credit, WAIT, desk);
            }
        }
        // Nothing else brings on what waits for room behind the end of a large message.
        is_full || !machine.has_room()
    }

    fn is_busy(&self) -> bool {
        let is_taking = self.taking.is_some() || self.returning > 0;
        is_taking || self.completing || self.large.is_some()
    }

    /// There is room for the large message that stands first in line, or it cannot be had.
    pub(super) fn opened(
        &mut self,
        opened: Result<Opened, Failed>,
        desk: &Desk,
    ) -> Result<(), Refusal> {
        let Some(Large::Opening(number)) = self.large else {
            return Ok(());
        };
        self.large = None;
        match opened {
            Ok(opened) => {
                self.large = Some(Large::Opened(opened));
                self.room_since = None;
            }
            Err(Failed::Refused(refusal)) => return Err(refusal),
            Err(Failed::Damaged) => {
                let damaged = self.held.pop_front_if(|held| held.number == number);
                if let Some(held) = damaged
                    && let Some(lock) = held.lock
                {
                    self.fail(lock.token, held.note, desk);
                }
            }
        }
        Ok(())
    }

    /// What cannot be delivered has been tried: it does not stand before others for ever.
    fn fail(&self, token: LockToken, note: Option<String>, desk: &Desk) {
        // A dead letter is tried for ever: its lock is what paces that.
        if self.view.buried_by().is_some() {
            return;
        }
        let (broker, who, view) = (desk.broker(), self.who.clone(), self.view.clone());
        desk.begin(async move {
            let ending = Ending::Abandon { note };
            if let Err(error) = broker.end_locks(&who, &view, vec![token], ending).await {
                tracing::debug!(%error, "what cannot be delivered keeps its lock until that runs out");
            }
            Done::Nothing
        });
    }

    /// Whether a large message has room that others wait for.
    pub(super) const fn has_room(&self) -> bool {
        matches!(self.large, Some(Large::Opened(_) | Large::Sending(_)))
    }

    /// Sees whether anything goes. While a piece is read, or the client is not listened to, it is not the receiver who
    /// is slow; for the whole of a message there is as much time as for one that comes.
    pub(super) fn keep_pace(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        now: Duration,
        is_deaf: bool,
    ) -> Result<(), Refusal> {
        self.room_since = match self.has_room() {
            true => self.room_since.or(Some(now)),
            false => None,
        };
        let waits = match &self.large {
            Some(Large::Sending(download)) => download.waits_for_receiver(),
            Some(Large::Opened(_)) => !self.completing,
            Some(Large::Opening(_)) | None => false,
        };
        let Ok(sent) = machine.transfers_sent(id) else {
            return Ok(());
        };
        self.pace = match self.pace {
            _ if !waits || is_deaf => None,
            Some((before, since)) if before == sent => Some((before, since)),
            _ => Some((sent, now)),
        };
        match self.deadline() {
            Some(until) if until <= now => Err(Refusal::new(
                condition::RESOURCE_LIMIT_EXCEEDED,
                403,
                "a large message holds room that others wait for, and too little of it is taken",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let whole = Duration::from_secs(limits::UPLOAD_SECONDS);
        let still = self.pace.map(|(_, since)| since + STILL_WAIT);
        let whole = self.room_since.map(|since| since + whole);
        still.into_iter().chain(whole).min()
    }

    /// Sends a piece of the large message that is being sent.
    pub(super) fn piece(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        piece: mente_broker::Result<Bytes>,
        desk: &Desk,
    ) -> Result<(), Refusal> {
        let Some(Large::Sending(download)) = &mut self.large else {
            return Ok(());
        };
        match download.send(machine, id, piece) {
            Ok(false) => return Ok(()),
            Ok(true) => self.large = None,
            Err(Failed::Refused(refusal)) => return Err(refusal),
            Err(Failed::Damaged) => {
                // It has begun, and SDKs do not know of deliveries that are aborted: the link ends.
                if let Some(out) = self.out.remove(&download.delivery()) {
                    self.fail(out.token, out.note, desk);
                }
                let words = "the data of a message is not what was kept of it";
                return Err(Refusal::new(condition::INTERNAL_ERROR, 500, words));
            }
        }
        Ok(())
    }

    /// Waits for room for a large message; begins to send it once it has that.
    fn send_large(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        held: &Held,
        claim: Claim,
        desk: &Desk,
    ) -> Option<Result<DeliveryId, Refused>> {
        match self.large.take() {
            Some(Large::Opened(opened)) if opened.is_of(held.number) => {
                let (head, packing) = opened.pack(&held.stored.event, &self.stamp(held));
                let outgoing = Outgoing {
                    payload: head,
                    more: true,
                    ..self.envelope(held)
                };
                let sent = machine.send(id, outgoing);
                self.large = Some(match sent {
                    Ok(delivery) => Large::Sending(Box::new(opened.begin(delivery, packing))),
                    Err(_) => Large::Opened(opened),
                });
                Some(sent)
            }
            Some(Large::Opening(number)) => {
                self.large = Some(Large::Opening(number));
                None
            }
            _ => {
                self.open(id, held.number, claim, desk);
                None
            }
        }
    }

    fn open(&mut self, id: LinkId, number: u64, claim: Claim, desk: &Desk) {
        self.large = Some(Large::Opening(number));
        let budget = Arc::clone(&desk.door.large);
        let (broker, who, view) = (desk.broker(), self.who.clone(), self.view.clone());
        let opened = download::open(budget, broker, who, view, number, claim);
        desk.begin(async move { Done::Opened(id, Box::new(opened.await)) });
    }

    /// Whether there is more to send once something is written.
    fn send(&mut self, machine: &mut Connection, id: LinkId, desk: &Desk) -> bool {
        let now = desk.door.broker.now().wall;
        if let Some(Large::Sending(download)) = &mut self.large {
            return download.read_on(machine, id, desk);
        }
        let line = self.done.front().or(self.held.front());
        let number = line.map(|held| held.number);
        // What is being completed stands in no line.
        let large = (!self.completing).then_some(&mut self.large);
        large.and_then(|large| large.take_if(|large| {
            matches!(large, Large::Opened(opened) if !number.is_some_and(|number| opened.is_of(number)))
        }));
        let mut room = SENT;
        while !self.is_shut
            && let Some(held) = self.line().pop_front()
        {
            if held.lock.is_some_and(|lock| lock.until <= now) {
                // It stood here for longer than its lock: it is another's by now.
                continue;
            }
            // Only where something was sent there is something to be written, which brings on the rest.
            if room == 0 {
                self.line().push_front(held);
                return true;
            }
            let has_room = machine.has_room();
            let has_credit = machine.credit(id).unwrap_or(0) > 0;
            let sent = match held.claim.filter(|_| has_credit && has_room) {
                _ if !has_credit || !has_room => None,
                None => Some(machine.send(id, self.outgoing(&held))),
                Some(claim) => match self.send_large(machine, id, &held, claim, desk) {
                    None => {
                        // It comes on when there is room for it.
                        self.line().push_front(held);
                        return false;
                    }
                    sent => sent,
                },
            };
            if let Some(Ok(delivery)) = sent {
                room -= 1;
                let is_large = held.claim.is_some();
                if let Some(lock) = held.lock {
                    let (token, note) = (lock.token, held.note);
                    let out = Out {
                        token,
                        note,
                        is_large,
                    };
                    self.out.insert(delivery, out);
                }
                if let Some(Large::Sending(download)) = &mut self.large {
                    return download.read_on(machine, id, desk);
                }
                continue;
            }
            self.line().push_front(held);
            match sent {
                Some(Err(Refused::NoWindow)) => self.is_shut = true,
                Some(Err(Refused::Full)) => return true,
                // Credit, dispositions or the end of the link bring it on.
                _ => return !has_room,
            }
        }
        false
    }

    /// What stands first in line.
    fn line(&mut self) -> &mut VecDeque<Held> {
        match self.mode {
            Mode::Lock => &mut self.held,
            Mode::Delete => &mut self.done,
        }
    }

    fn outgoing(&self, held: &Held) -> Outgoing {
        Outgoing {
            payload: event::write(&held.stored.event, &self.stamp(held)),
            ..self.envelope(held)
        }
    }

    /// A delivery without its payload.
    fn envelope(&self, held: &Held) -> Outgoing {
        let lock = held.lock.and_then(|lock| lock.token.to_bytes());
        let tag = lock.map_or_else(|| u128::from(held.number).to_be_bytes(), guid);
        Outgoing {
            tag: Bytes::copy_from_slice(&tag),
            settled: self.mode == Mode::Delete,
            ..Outgoing::default()
        }
    }

    fn stamp<'a>(&self, held: &'a Held) -> Stamp<'a> {
        Stamp {
            number: held.number,
            enqueued: held.stored.time,
            failed: held.failed,
            locked_until: held.lock.map(|lock| lock.until),
            lock: held.lock.and_then(|lock| lock.token.to_bytes()),
            scheduled: held.due,
            state: None,
            time_to_live: held.time_to_live,
            dead_letter: self.view.buried_by().is_some(),
            has_sessions: self.has_sessions,
            note: held.note.as_deref(),
            without_data: false,
        }
    }

    /// The locks of messages that are out and larger than an event.
    pub(super) fn large_out(&self) -> impl Iterator<Item = LockToken> + '_ {
        let large = self.out.values().filter(|out| out.is_large);
        large.map(|out| out.token)
    }

    /// What the receiver says of a delivery.
    pub(super) fn disposed(
        &mut self,
        id: DeliveryId,
        settled: bool,
        state: Option<&DeliveryState>,
    ) {
        let Some(out) = self.out.get(&id) else {
            return;
        };
        match Settlement::of(id, out, settled, state) {
            None => {}
            Some(Ok(settlement)) => {
                self.out.remove(&id);
                self.settling.push(settlement);
            }
            Some(Err(refusal)) => {
                self.out.remove(&id);
                let rejected = Outcome::Rejected(Some(refusal.to_error()));
                self.told.push((id, DeliveryState::Outcome(rejected)));
            }
        }
    }

    /// The same within a transaction: the lock goes on until that ends.
    pub(super) fn disposed_within(
        &mut self,
        id: DeliveryId,
        settled: bool,
        (txn_id, outcome): (&Bytes, Option<&Outcome>),
        transactions: &mut Transactions,
    ) {
        let Some(out) = self.out.remove(&id) else {
            return;
        };
        let ending = match outcome {
            Some(outcome) => out.ending(outcome),
            None => Err(Refusal::argument(
                "a state of a transaction wants an outcome",
            )),
        };
        let settle = |ending| mente_broker::Settled {
            who: self.who.clone(),
            view: self.view.clone(),
            token: out.token,
            ending,
        };
        let joined = transactions.settle(txn_id, ending.map(|ending| vec![settle(ending)]));
        let state = match joined {
            Ok(()) => within(txn_id, outcome.map(settle::echo)),
            Err(refusal) => DeliveryState::Outcome(Outcome::Rejected(Some(refusal.to_error()))),
        };
        if !settled {
            self.told.push((id, state));
        }
    }

    /// Those that end alike go with one call.
    fn settle(&mut self, id: LinkId, desk: &Desk) {
        while self.settling_calls < SETTLING && !self.settling.is_empty() {
            let ending = self.settling[0].ending.clone();
            let all = std::mem::take(&mut self.settling);
            let (mut alike, mut others): (Vec<_>, Vec<_>) = all
                .into_iter()
                .partition(|settlement| settlement.ending == ending);
            if alike.len() > limits::LOCK_TOKENS_PER_SETTLE {
                others.extend(alike.split_off(limits::LOCK_TOKENS_PER_SETTLE));
            }
            self.settling = others;
            self.settling_calls += 1;
            let tokens = alike.iter().map(|settlement| settlement.token).collect();
            let (broker, who, view) = (desk.broker(), self.who.clone(), self.view.clone());
            let is_in_session = self.session.is_some();
            let is_heard = alike.iter().any(|settlement| settlement.echo.is_some());
            let completes = ending == Ending::Complete;
            let work = async move {
                let held = match ending {
                    Ending::Complete if !is_heard => {
                        broker.complete_soon(&who, &view, tokens).await
                    }
                    ending => broker.end_locks(&who, &view, tokens, ending).await,
                };
                let held = held.map_err(|error| match is_in_session {
                    true => Refusal::of_session(error),
                    false => error.into(),
                });
                Done::Settled(id, alike, held)
            };
            match completes {
                true => desk.begin(work),
                // What is given back may be the first that the next call wants.
                false => desk.begin_now(work),
            }
        }
    }

    /// Tells the receiver what became of what it said.
    pub(super) fn settled(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        settlements: Vec<Settlement>,
        held: &Result<Vec<bool>, Refusal>,
    ) {
        self.settling_calls -= 1;
        let lost = match &self.session {
            Some(_) => Refusal::session_lost(),
            None => Refusal::lock_lost(),
        };
        for (at, settlement) in settlements.into_iter().enumerate() {
            let state = match held {
                Ok(held) if held.get(at).copied().unwrap_or(false) => settlement.echo,
                Ok(_) => settlement.failed(&lost),
                Err(refusal) => settlement.failed(refusal),
            };
            if let Some(state) = state {
                let _ = machine.settle(id, settlement.id, Some(state));
            }
        }
    }
}

/// In the order of .NET's `Guid.ToByteArray`, which delivery tags have: the first three groups are turned.
pub(super) fn guid(uuid: [u8; 16]) -> [u8; 16] {
    let mut guid = uuid;
    guid[..4].reverse();
    guid[4..6].reverse();
    guid[6..8].reverse();
    guid
}

/// Where a message stands, as those who peek are told.
pub(super) const fn state_of(standing: Standing) -> i32 {
    match standing {
        Standing::Active => 0,
        Standing::Deferred => 1,
        Standing::Scheduled => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_turned_as_dot_net_turns_it() {
        // 00112233-4455-6677-8899-aabbccddeeff
        let uuid = std::array::from_fn(|at| (at * 0x11) as u8);
        let tag = [
            0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
            0xee, 0xff,
        ];
        assert_eq!(guid(uuid), tag);
        assert_eq!(guid(tag), uuid);
    }
}
