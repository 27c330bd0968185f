//! The end: everything that is left in any queue is received and completed, until nothing is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mente_sim::history::{DEAD, Ending, Phase, Way, What};

use super::receiver::messages;
use super::sessions::Next;
use super::{ALL, LATER, SESSIONS, Teller, Told, annotation, value_of};
use crate::chaos::clients::Hand;

/// How long what is left may take to come to its end.
const DRAIN: Duration = Duration::from_secs(120);
/// What stays under its lock is looked at so much later.
const REST: Duration = Duration::from_millis(100);
/// `x-opt-message-state`.
const DEFERRED: i128 = 1;
const SCHEDULED: i128 = 2;

/// A message that a peek showed.
struct Shown {
    value: String,
    number: u64,
    state: i128,
}

pub(in crate::chaos::clients) async fn empty(hand: Hand, addresses: &[String]) -> Result<()> {
    let mut teller = Teller::new(hand, addresses);
    for queue in ALL {
        teller.empty(queue).await?;
    }
    for queue in ALL {
        teller.empty(&format!("{queue}{DEAD}")).await?;
    }
    Ok(())
}

impl Teller {
    async fn empty(&mut self, queue: &str) -> Result<()> {
        let since = Instant::now();
        let mut is_empty = false;
        while !is_empty && since.elapsed() < DRAIN {
            let took = match queue == SESSIONS {
                true => self.complete_sessions().await?,
                false => self.complete_all(queue).await?,
            };
            if took {
                continue;
            }
            let Some(shown) = self.peek(queue).await? else {
                continue;
            };
            is_empty = shown.is_empty();
            let of = |state| shown.iter().filter(move |shown| shown.state == state);
            let deferred: Vec<u64> = of(DEFERRED).map(|shown| shown.number).collect();
            if !deferred.is_empty() {
                self.ask_for(queue, deferred).await?;
            }
            // A clock that was put back keeps what is due for too long.
            for shown in of(SCHEDULED).filter(|_| queue == LATER) {
                let number = i64::try_from(shown.number)?;
                self.cancel(&shown.value, number).await?;
            }
            if !is_empty {
                tokio::time::sleep(REST).await;
            }
        }
        self.note(Phase::Invoke, queue, What::Emptied)?;
        let phase = if is_empty { Phase::Ok } else { Phase::Fail };
        self.note(phase, queue, What::Emptied)
    }

    /// Whether something came.
    async fn complete_all(&mut self, queue: &str) -> Result<bool> {
        let came = self.take(queue, Way::Lock, None).await?;
        let all: Vec<_> = came.iter().map(|held| (held, Ending::Complete)).collect();
        self.end_all(queue, &all, None).await?;
        Ok(!came.is_empty())
    }

    async fn complete_sessions(&mut self) -> Result<bool> {
        let Next::Session(link, session) = self.accept().await? else {
            return Ok(false);
        };
        loop {
            let of = Some((link, session.as_str()));
            let came = self.take(SESSIONS, Way::Lock, of).await?;
            for held in &came {
                self.end(SESSIONS, held, Ending::Complete, Some(&session))
                    .await?;
            }
            if came.is_empty() || self.peer.is_none() {
                break;
            }
        }
        self.leave_session(link, &session).await?;
        Ok(true)
    }

    /// The first of what is there; `None` if that was not told.
    async fn peek(&mut self, queue: &str) -> Result<Option<Vec<Shown>>> {
        let Some(peer) = self.peer().await? else {
            return Ok(None);
        };
        let answer = peer
            .request(queue, "peek-message", super::the_first(100))
            .await;
        let answer = match self.told(answer).await? {
            Told::Ok(answer) => answer,
            Told::Refused(_) => {
                self.leave();
                return Ok(None);
            }
            Told::Unknown => return Ok(None),
        };
        let shown = messages(&answer)?.into_iter().map(|(message, _)| {
            let (value, number) = value_of(&message)?;
            let state = annotation(&message, "x-opt-message-state")?;
            Ok(Shown {
                value,
                number,
                state: state.context("a message without a state")?,
            })
        });
        shown.collect::<Result<_>>().map(Some)
    }
}
