//! Sends single messages and batches, some again, some in sessions, some for later.

use anyhow::{Result, bail};
use mente_engine::Timestamp;
use mente_sim::history::{Phase, What};
use mente_wire::amqp::{Map, Outcome, Value};

use super::{LATER, ONCE, SENDER_LINKS_MS, SESSIONS, Teller, Told, message};
use crate::chaos::amqp::Wanted;

/// Sessions that messages are in.
const NAMES: u32 = 6;
/// What is due is due within this time.
const DELAY_MS: std::ops::Range<u64> = 200..3_000;

impl Teller {
    fn filler(&mut self) -> usize {
        match self.hand.chance.u32(0..100) {
            0..2 => self.hand.chance.usize(5_000..60_000),
            _ => self.hand.chance.usize(0..1_000),
        }
    }

    fn values(&mut self, number: &mut u64) -> Vec<String> {
        let count = match self.hand.chance.bool() {
            true => self.hand.chance.u64(2..=10),
            false => 1,
        };
        let first = *number;
        *number += count;
        let process = self.hand.diary.process;
        let values = (first..*number).map(|number| format!("m{process}-{number}"));
        values.collect()
    }

    /// Whether it was told what became of them.
    async fn put(&mut self, queue: &str, values: &[String], session: Option<&str>) -> Result<bool> {
        let Some(link) = self.link(Wanted::Sender(queue)).await? else {
            return Ok(true);
        };
        let what = What::Send {
            values: values.to_vec(),
            session: session.map(str::to_owned),
        };
        let mut messages = Vec::new();
        for value in values {
            let filler = self.filler();
            messages.push(message(value, session, filler, None));
        }
        self.note(Phase::Invoke, queue, what.clone())?;
        let Some(peer) = self.peer.as_mut() else {
            bail!("a link without a connection");
        };
        let sent = peer.send(link, &messages).await;
        let phase = match self.told(sent).await? {
            Told::Ok(Outcome::Accepted) => Phase::Ok,
            Told::Ok(Outcome::Rejected(Some(error))) => Self::refused(error.condition.as_str()),
            Told::Ok(other) => bail!("a message is answered with {other:?}"),
            Told::Refused(condition) => {
                // The link is gone.
                self.leave();
                Self::refused(&condition)
            }
            Told::Unknown => Phase::Info,
        };
        self.note(phase, queue, what)?;
        Ok(phase != Phase::Info)
    }
}

pub(super) async fn send(mut teller: Teller, queue: &'static str) -> Result<()> {
    let mut number = 0;
    let mut again: Option<Vec<String>> = None;
    while !teller.hand.is_over() {
        let values = match again.take() {
            Some(values) => values,
            None => teller.values(&mut number),
        };
        let is_known = teller.put(queue, &values, None).await?;
        if queue == ONCE && (!is_known || teller.hand.chance.u32(0..5) == 0) {
            again = Some(values);
        }
        teller.hand.pause(SENDER_LINKS_MS).await;
    }
    Ok(())
}

pub(super) async fn send_in_sessions(mut teller: Teller) -> Result<()> {
    let mut number = 0;
    while !teller.hand.is_over() {
        let session = format!("s{}", teller.hand.chance.u32(0..NAMES));
        let values = teller.values(&mut number);
        teller.put(SESSIONS, &values, Some(&session)).await?;
        teller.hand.pause(SENDER_LINKS_MS).await;
    }
    Ok(())
}

/// One at a time; some are cancelled, in time or too late.
pub(super) async fn schedule(mut teller: Teller) -> Result<()> {
    let mut number = 0_u64;
    while !teller.hand.is_over() {
        let value = format!("m{}-{number}", teller.hand.diary.process);
        number += 1;
        let delay_ms = teller.hand.chance.u64(DELAY_MS);
        let scheduled = teller.schedule_one(&value, delay_ms).await?;
        if let Some(number) = scheduled
            && teller.hand.chance.u32(0..3) == 0
        {
            teller.hand.pause(delay_ms / 2).await;
            teller.cancel(&value, number).await?;
        }
        teller.hand.pause(SENDER_LINKS_MS).await;
    }
    Ok(())
}

impl Teller {
    /// The number under which it waits.
    async fn schedule_one(&mut self, value: &str, delay_ms: u64) -> Result<Option<i64>> {
        let what = |numbers| What::Schedule {
            values: vec![value.to_owned()],
            delay_ms,
            numbers,
        };
        if !self.has_links(LATER).await? {
            return Ok(None);
        }
        self.note(Phase::Invoke, LATER, what(Vec::new()))?;
        // Counted from what was told, in whole milliseconds: the law counts from there too.
        let due = jiff::Timestamp::now().as_millisecond() + 1 + i64::try_from(delay_ms)?;
        let filler = self.filler();
        let payload = message(value, None, filler, Some(Value::Timestamp(Timestamp(due))));
        let entry = vec![
            ("message-id".into(), value.into()),
            ("message".into(), Value::Binary(payload.into())),
        ];
        let messages = Value::List(vec![Value::Map(Map(entry))]);
        let body = Map(vec![("messages".into(), messages)]);
        let Some(peer) = self.peer.as_mut() else {
            bail!("links without a connection");
        };
        let answer = peer.request(LATER, "schedule-message", body).await;
        match self.told(answer).await? {
            Told::Ok(answer) => {
                let number = match answer.get("sequence-numbers") {
                    Some(Value::Array(numbers)) => numbers.elements().first().cloned(),
                    _ => None,
                };
                let Some(Value::Long(number)) = number else {
                    bail!("a message is scheduled under no number: {answer:?}");
                };
                self.note(Phase::Ok, LATER, what(vec![number.unsigned_abs()]))?;
                Ok(Some(number))
            }
            Told::Refused(condition) => {
                self.hand.elsewhere();
                self.leave();
                self.note(Self::refused(&condition), LATER, what(Vec::new()))?;
                Ok(None)
            }
            Told::Unknown => {
                self.note(Phase::Info, LATER, what(Vec::new()))?;
                Ok(None)
            }
        }
    }

    pub(super) async fn cancel(&mut self, value: &str, number: i64) -> Result<()> {
        let what = What::Cancel {
            value: value.to_owned(),
        };
        if !self.has_links(LATER).await? {
            return Ok(());
        }
        self.note(Phase::Invoke, LATER, what.clone())?;
        let Some(peer) = self.peer.as_mut() else {
            bail!("links without a connection");
        };
        let numbers = Value::List(vec![Value::Long(number)]);
        let body = Map(vec![("sequence-numbers".into(), numbers)]);
        let answer = peer.request(LATER, "cancel-scheduled-message", body).await;
        let phase = match self.told(answer).await? {
            Told::Ok(_) => Phase::Ok,
            // It was due already, or cancelled by a call that had no answer.
            Told::Refused(condition) if condition == "com.microsoft:message-not-found" => {
                Phase::Unheard
            }
            Told::Refused(condition) => {
                self.leave();
                Self::refused(&condition)
            }
            Told::Unknown => Phase::Info,
        };
        self.note(phase, LATER, what)
    }
}
