//! Goes from session to session: receives what is there, and keeps a count in the state of each.

use std::time::Duration;

use anyhow::{Result, bail};
use mente_sim::history::{Ending, Phase, Way, What};
use mente_wire::amqp::{Map, Value};

use super::{SESSIONS, Teller, Told};
use crate::chaos::amqp::{Link, Wanted};

/// How long there may be no session.
pub(super) const NEXT_WAIT: Duration = Duration::from_secs(1);
const NONE: &str = "com.microsoft:timeout";

pub(super) async fn attend(mut teller: Teller) -> Result<()> {
    let mut number = 0_u64;
    while !teller.hand.is_over() {
        let Some((link, session)) = teller.accept().await?.taken() else {
            continue;
        };
        for _ in 0..teller.hand.chance.u32(1..4) {
            let came = teller
                .take(SESSIONS, Way::Lock, Some((link, &session)))
                .await?;
            for held in came {
                let ending = match teller.hand.chance.u32(0..100) {
                    0..5 => Ending::Abandon,
                    5..8 => held.given_up(),
                    _ => Ending::Complete,
                };
                teller.end(SESSIONS, &held, ending, Some(&session)).await?;
            }
            number += 1;
            let state = format!("{}-{number}", teller.hand.diary.process);
            teller.set_state(&session, &state).await?;
            teller.read_state(&session).await?;
        }
        teller.leave_session(link, &session).await?;
    }
    Ok(())
}

/// What came of asking for a session.
pub(super) enum Next {
    Session(Link, String),
    /// None is free and has messages.
    None,
    Unknown,
}

impl Next {
    pub(super) fn taken(self) -> Option<(Link, String)> {
        match self {
            Self::Session(link, session) => Some((link, session)),
            Self::None | Self::Unknown => None,
        }
    }
}

impl Teller {
    pub(super) async fn accept(&mut self) -> Result<Next> {
        let what = |session| What::Accept { session };
        if !self.has_links(SESSIONS).await? {
            return Ok(Next::Unknown);
        }
        self.note(Phase::Invoke, SESSIONS, what(None))?;
        let Some(peer) = self.peer.as_mut() else {
            bail!("links without a connection");
        };
        let next = Wanted::NextSession {
            from: SESSIONS,
            wait: NEXT_WAIT,
        };
        let accepted = peer.attach(next).await;
        match self.told(accepted).await? {
            Told::Ok((link, Some(session))) => {
                self.note(Phase::Ok, SESSIONS, what(Some(session.clone())))?;
                Ok(Next::Session(link, session))
            }
            Told::Ok((_, None)) => bail!("a session without a name"),
            Told::Refused(condition) => {
                self.note(Phase::Unheard, SESSIONS, what(None))?;
                if condition == NONE {
                    return Ok(Next::None);
                }
                self.leave();
                Ok(Next::Unknown)
            }
            Told::Unknown => {
                self.note(Phase::Info, SESSIONS, what(None))?;
                Ok(Next::Unknown)
            }
        }
    }

    pub(super) async fn leave_session(&mut self, link: Link, session: &str) -> Result<()> {
        let what = What::Leave {
            session: session.to_owned(),
        };
        self.note(Phase::Invoke, SESSIONS, what.clone())?;
        let phase = match self.peer.as_mut() {
            Some(peer) => {
                let left = peer.detach(link).await;
                match self.told(left).await? {
                    Told::Ok(()) => Phase::Ok,
                    Told::Refused(_) | Told::Unknown => Phase::Info,
                }
            }
            // The connection took it with it.
            None => Phase::Info,
        };
        self.note(phase, SESSIONS, what)
    }

    async fn set_state(&mut self, session: &str, state: &str) -> Result<()> {
        let what = What::SetState {
            session: session.to_owned(),
            state: state.to_owned(),
        };
        let bytes = state.as_bytes().to_vec();
        let body = Map(vec![
            ("session-id".into(), session.into()),
            ("session-state".into(), Value::Binary(bytes.into())),
        ]);
        if self.peer.is_none() {
            return Ok(());
        }
        self.note(Phase::Invoke, SESSIONS, what.clone())?;
        let phase = match self.ask("set-session-state", body).await? {
            Told::Ok(_) => Phase::Ok,
            Told::Refused(condition) if super::LOST.contains(&&*condition) => Phase::Unheard,
            Told::Refused(condition) => Self::refused(&condition),
            Told::Unknown => Phase::Info,
        };
        self.note(phase, SESSIONS, what)
    }

    async fn read_state(&mut self, session: &str) -> Result<()> {
        let what = |state| What::State {
            session: session.to_owned(),
            state,
        };
        let body = Map(vec![("session-id".into(), session.into())]);
        if self.peer.is_none() {
            return Ok(());
        }
        self.note(Phase::Invoke, SESSIONS, what(None))?;
        let (phase, state) = match self.ask("get-session-state", body).await? {
            Told::Ok(answer) => match answer.get("session-state") {
                Some(Value::Binary(state)) => {
                    let state = String::from_utf8_lossy(state).into_owned();
                    (Phase::Ok, Some(state))
                }
                _ => (Phase::Ok, None),
            },
            Told::Refused(_) => (Phase::Unheard, None),
            Told::Unknown => (Phase::Info, None),
        };
        self.note(phase, SESSIONS, what(state))
    }

    async fn ask(&mut self, operation: &str, body: Map) -> Result<Told<Map>> {
        let Some(peer) = self.peer.as_mut() else {
            return Ok(Told::Unknown);
        };
        let answer = peer.request(SESSIONS, operation, body).await;
        self.told(answer).await
    }
}
