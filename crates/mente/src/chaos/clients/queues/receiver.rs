//! Receives under locks and settles in every way there is, now and then too late; and receives what is deleted as it
//! comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mente_sim::history::{Ending, Messages, Op, Phase, Taken, Way, What};
use mente_wire::amqp::message::MapSection;
use mente_wire::amqp::value::{Array, Kind};
use mente_wire::amqp::{Error, Map, Message, Modified, Outcome, Symbol, Uuid, Value};

use super::{BRIEF, FEW, LOCK_MS, LOST, PLAIN, Teller, Told, WAIT, value_of};
use crate::chaos::amqp::{Delivery, Link, Wanted};

/// Messages of one take.
const AT_ONCE: u32 = 20;
/// A lock of which this time is over has run out, whenever it began.
const FORGOTTEN: Duration = Duration::from_millis(LOCK_MS + LOCK_MS / 5);

/// A message under its lock, and what it is a delivery of.
pub(super) struct Held {
    pub(super) delivery: Delivery,
    pub(super) taken: Taken,
    /// Which connection brought it: on another one it has no number.
    connection: u64,
}

impl Held {
    /// Each time for a reason of its own, so that it is known whose came back.
    pub(super) fn given_up(&self) -> Ending {
        let reason = format!("chaos {}", self.taken.token);
        Ending::DeadLetter { reason }
    }
}

pub(super) async fn receive(mut teller: Teller, queue: &'static str) -> Result<()> {
    let mut forgotten: VecDeque<(Instant, Held)> = VecDeque::new();
    let mut deferred: Vec<u64> = Vec::new();
    while !teller.hand.is_over() {
        let came = teller.take(queue, Way::Lock, None).await?;
        let now = Instant::now();
        while let Some((_, late)) = forgotten.pop_front_if(|(since, _)| now - *since > FORGOTTEN) {
            teller.end(queue, &late, Ending::Complete, None).await?;
        }
        let mut endings = Vec::new();
        for held in came {
            let ending = match teller.hand.chance.u32(0..100) {
                0..3 => {
                    forgotten.push_back((now, held));
                    continue;
                }
                3..8 => Ending::Abandon,
                8..12 if queue == PLAIN => {
                    deferred.push(held.taken.number);
                    Ending::Defer
                }
                12..15 => held.given_up(),
                15..80 if queue == FEW => Ending::Abandon,
                _ => Ending::Complete,
            };
            endings.push((held, ending));
        }
        let endings: Vec<_> = endings
            .iter()
            .map(|(held, ending)| (held, ending.clone()))
            .collect();
        teller.end_all(queue, &endings, None).await?;
        if deferred.len() > 5 {
            let numbers = std::mem::take(&mut deferred);
            teller.ask_for(queue, numbers).await?;
        }
        teller.hand.pause(10).await;
    }
    Ok(())
}

pub(super) async fn delete(mut teller: Teller) -> Result<()> {
    while !teller.hand.is_over() {
        teller.take(BRIEF, Way::Delete, None).await?;
        teller.hand.pause(50).await;
    }
    Ok(())
}

impl Teller {
    /// What comes within a moment.
    pub(super) async fn take(
        &mut self,
        queue: &str,
        way: Way,
        of: Option<(Link, &str)>,
    ) -> Result<Vec<Held>> {
        let (link, session) = match of {
            Some((link, session)) => (Some(link), Some(session)),
            None => {
                let locks = way == Way::Lock;
                let from = queue;
                (self.link(Wanted::Receiver { from, locks }).await?, None)
            }
        };
        // A session went with its connection.
        let Some(link) = link.filter(|_| self.peer.is_some()) else {
            return Ok(Vec::new());
        };
        let what = |came| What::Take {
            way,
            session: session.map(str::to_owned),
            came,
            most: Some(AT_ONCE),
        };
        self.note(Phase::Invoke, queue, what(Vec::new()))?;
        let Some(peer) = self.peer.as_mut() else {
            bail!("a link without a connection");
        };
        let came = peer.take(link, AT_ONCE, WAIT).await;
        match self.told(came).await? {
            Told::Ok(came) => {
                let connection = self.connection;
                let held = came.into_iter().map(|delivery| {
                    let taken = taken(&delivery.message, way, &delivery.tag)?;
                    Ok(Held {
                        delivery,
                        taken,
                        connection,
                    })
                });
                let held: Vec<Held> = held.collect::<Result<_>>()?;
                let came = held.iter().map(|held| held.taken.clone()).collect();
                self.note(Phase::Ok, queue, what(came))?;
                Ok(held)
            }
            // What the link brought before it ended is under its locks.
            Told::Refused(_) => {
                self.leave();
                self.note(Phase::Info, queue, what(Vec::new()))?;
                Ok(Vec::new())
            }
            Told::Unknown => {
                self.note(Phase::Info, queue, what(Vec::new()))?;
                Ok(Vec::new())
            }
        }
    }

    /// Says what is to become of it, on the connection that brought it.
    pub(super) async fn end(
        &mut self,
        queue: &str,
        held: &Held,
        ending: Ending,
        session: Option<&str>,
    ) -> Result<()> {
        self.end_all(queue, &[(held, ending)], session).await
    }

    /// The same of several at once, in the history by a hand each; one alone by the client itself.
    pub(super) async fn end_all(
        &mut self,
        queue: &str,
        all: &[(&Held, Ending)],
        session: Option<&str>,
    ) -> Result<()> {
        let here = |(held, _): &&(&Held, Ending)| held.connection == self.connection;
        let all: Vec<_> = all.iter().filter(here).collect();
        let Some(peer) = self.peer.as_mut().filter(|_| !all.is_empty()) else {
            return Ok(());
        };
        let (diary, first) = (self.hand.diary.clone(), usize::from(all.len() > 1));
        let note = |phase, lane: usize, held_on| {
            let (held, ending) = &all[lane];
            let what = What::End {
                value: held.taken.value.clone(),
                token: held.taken.token.clone(),
                ending: ending.clone(),
                session: session.map(str::to_owned),
                held: held_on,
            };
            let queue = queue.to_owned();
            let op = Op::Messages(Messages { queue, what });
            diary.lane(first + lane).note(phase, &op)
        };
        for lane in 0..all.len() {
            note(Phase::Invoke, lane, false)?;
        }
        let endings = all
            .iter()
            .map(|(held, ending)| (&held.delivery, outcome(ending)));
        let endings: Vec<_> = endings.collect();
        let answer = peer.end(&endings).await;
        let told = self.told(answer).await?;
        if matches!(told, Told::Refused(_)) {
            self.leave();
        }
        for lane in 0..all.len() {
            let (phase, held_on) = match &told {
                Told::Ok(answers) => answered(&all[lane].1, &answers[lane])?,
                Told::Refused(_) | Told::Unknown => (Phase::Info, false),
            };
            note(phase, lane, held_on)?;
        }
        Ok(())
    }

    /// What was put aside, and completes it.
    pub(super) async fn ask_for(&mut self, queue: &str, numbers: Vec<u64>) -> Result<()> {
        let most = u32::try_from(numbers.len()).ok();
        let what = |came| What::Take {
            way: Way::Deferred,
            session: None,
            came,
            most,
        };
        let wanted = numbers.iter().map(|number| i64::try_from(*number));
        let wanted: Vec<Value> = wanted
            .map(|number| Ok(Value::Long(number?)))
            .collect::<Result<_>>()?;
        let body = Map(vec![
            ("sequence-numbers".into(), Value::List(wanted)),
            ("receiver-settle-mode".into(), Value::Uint(1)),
        ]);
        if !self.has_links(queue).await? {
            return Ok(());
        }
        self.note(Phase::Invoke, queue, what(Vec::new()))?;
        let Some(peer) = self.peer.as_mut() else {
            bail!("links without a connection");
        };
        let answer = peer
            .request(queue, "receive-by-sequence-number", body)
            .await;
        let answer = match self.told(answer).await? {
            Told::Ok(answer) => answer,
            // None of them is there, or not any more.
            Told::Refused(condition) if condition == "com.microsoft:message-not-found" => {
                return self.note(Phase::Ok, queue, what(Vec::new()));
            }
            Told::Refused(_) | Told::Unknown => {
                self.leave();
                return self.note(Phase::Info, queue, what(Vec::new()));
            }
        };
        let came = messages(&answer)?.into_iter().map(|(message, token)| {
            let token = token.context("a deferred message without a lock")?;
            Ok((taken_under(&message, token.0)?, token))
        });
        let came: Vec<(Taken, Uuid)> = came.collect::<Result<_>>()?;
        let told = came.iter().map(|(taken, _)| taken.clone()).collect();
        self.note(Phase::Ok, queue, what(told))?;
        for (taken, token) in came {
            self.complete(queue, &taken, token).await?;
        }
        Ok(())
    }

    async fn complete(&mut self, queue: &str, taken: &Taken, token: Uuid) -> Result<()> {
        let Some(peer) = self.peer.as_mut() else {
            return Ok(());
        };
        let what = |held| What::End {
            value: taken.value.clone(),
            token: taken.token.clone(),
            ending: Ending::Complete,
            session: None,
            held,
        };
        let tokens = Array::new(Kind::Uuid, vec![Value::Uuid(token)]);
        let body = Map(vec![
            ("disposition-status".into(), "completed".into()),
            (
                "lock-tokens".into(),
                tokens.map_or(Value::Null, Value::from),
            ),
        ]);
        let (diary, queue_name) = (&self.hand.diary, queue.to_owned());
        let invoked = Messages {
            queue: queue_name,
            what: what(false),
        };
        diary.note(Phase::Invoke, &Op::Messages(invoked))?;
        let answer = peer.request(queue, "update-disposition", body).await;
        let (phase, held) = match self.told(answer).await? {
            Told::Ok(_) => (Phase::Ok, true),
            Told::Refused(condition) if LOST.contains(&&*condition) => (Phase::Ok, false),
            Told::Refused(condition) => (Self::refused(&condition), false),
            Told::Unknown => (Phase::Info, false),
        };
        self.note(phase, queue, what(held))
    }
}

/// Messages of an answer, with their locks where they have some.
pub(super) fn messages(answer: &Map) -> Result<Vec<(Message, Option<Uuid>)>> {
    let Some(Value::List(entries)) = answer.get("messages") else {
        return Ok(Vec::new());
    };
    let read = |entry: &Value| {
        let Value::Map(entry) = entry else {
            bail!("an entry that is not a map: {entry:?}");
        };
        let Some(Value::Binary(payload)) = entry.get("message") else {
            bail!("an entry without its message: {entry:?}");
        };
        let message = Message::split(payload);
        let message = message.map_err(|why| anyhow::anyhow!("a message: {why}"))?;
        let token = match entry.get("lock-token") {
            Some(Value::Uuid(token)) => Some(*token),
            _ => None,
        };
        Ok((message, token))
    };
    entries.iter().map(read).collect()
}

fn taken(message: &Message, way: Way, tag: &[u8]) -> Result<Taken> {
    let tag: Option<[u8; 16]> = tag.try_into().ok().filter(|_| way == Way::Lock);
    match tag {
        Some(tag) => taken_under(message, standard(tag)),
        None => Ok(Taken {
            token: String::new(),
            ..taken_under(message, [0; 16])?
        }),
    }
}

fn taken_under(message: &Message, token: [u8; 16]) -> Result<Taken> {
    let (value, number) = value_of(message)?;
    let read = |why| anyhow::anyhow!("a message that came: {why}");
    let properties = message.read_map(MapSection::ApplicationProperties);
    let properties = properties.map_err(read)?;
    let reason = properties.get("DeadLetterReason").and_then(Value::as_str);
    Ok(Taken {
        value,
        number,
        failed: message.read_header().map_err(read)?.delivery_count,
        token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
        reason: reason.map(str::to_owned),
    })
}

/// Delivery tags have the first three groups of a token turned, as .NET does.
fn standard(mut tag: [u8; 16]) -> [u8; 16] {
    tag[..4].reverse();
    tag[4..6].reverse();
    tag[6..8].reverse();
    tag
}

/// How an answer to an ending is told, and whether the lock was held. There are a refusal and what was asked for, without
/// what that carried: nothing else says that it was done.
fn answered(ending: &Ending, answer: &Outcome) -> Result<(Phase, bool)> {
    let done = match ending {
        Ending::DeadLetter { .. } => Outcome::Rejected(None),
        _ => outcome(ending),
    };
    match answer {
        Outcome::Rejected(Some(error)) => Ok(match error.condition.as_str() {
            condition if LOST.contains(&condition) => (Phase::Ok, false),
            condition => (Teller::refused(condition), false),
        }),
        answer if *answer == done => Ok((Phase::Ok, true)),
        other => bail!("{ending:?} is answered with {other:?}"),
    }
}

fn outcome(ending: &Ending) -> Outcome {
    let modified = |undeliverable_here| {
        Outcome::Modified(Modified {
            delivery_failed: true,
            undeliverable_here,
            message_annotations: None,
        })
    };
    match ending {
        Ending::Complete => Outcome::Accepted,
        Ending::Abandon => modified(false),
        Ending::Defer => modified(true),
        Ending::DeadLetter { reason } => {
            let mut info = Map::default();
            info.set(
                Symbol::from_static("DeadLetterReason"),
                reason.as_str().into(),
            );
            Outcome::Rejected(Some(Error {
                info: Some(info),
                ..Error::new("com.microsoft:dead-letter", "")
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_answered_with_itself_or_a_refusal() {
        let given_up = Ending::DeadLetter { reason: "r".into() };
        let endings = [Ending::Complete, Ending::Abandon, Ending::Defer, given_up];
        let done = endings.each_ref().map(|ending| match ending {
            Ending::DeadLetter { .. } => Outcome::Rejected(None),
            _ => outcome(ending),
        });
        for (at, ending) in endings.iter().enumerate() {
            for (other, answer) in done.iter().enumerate() {
                let told = answered(ending, answer).ok();
                let expected = (at == other).then_some((Phase::Ok, true));
                assert_eq!(told, expected, "{ending:?} answered with {answer:?}");
            }
            assert!(answered(ending, &Outcome::Released).is_err());
            for (condition, phase) in [
                (LOST[0], Phase::Ok),
                ("com.microsoft:server-busy", Phase::Unheard),
                ("amqp:internal-error", Phase::Info),
            ] {
                let refused = Outcome::Rejected(Some(Error::new(condition, "")));
                assert_eq!(answered(ending, &refused).ok(), Some((phase, false)));
            }
        }
    }
}
