//! Sessions of a view: locked, renewed, given up, and the state that receivers keep with them.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use mente_engine::Timestamp;

use super::super::asking::lost;
use super::super::{Broker, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::SubscriptionName;
use crate::queue::{Accepted, SESSION_STATE_BYTES, SessionLock, WantedSession};
use crate::runtime::Request;
use crate::shard::{Ask, Command, Reply};

/// A session on its way to who wanted it: if that one goes away, it is given up.
struct Accepting {
    view: SubscriptionName,
    shard: mpsc::Sender<Request>,
    reply: oneshot::Receiver<Result<Reply>>,
}

impl Drop for Accepting {
    fn drop(&mut self) {
        // From now on the shard finds nobody here and gives it up itself.
        self.reply.close();
        if let Ok(Some(Ok(Reply::Session(Some(Accepted { lock, .. }))))) = self.reply.try_recv() {
            let command = Command::Message {
                name: self.view.clone(),
                ask: Ask::ReleaseSession { lock },
            };
            let (reply, _) = oneshot::channel();
            // Where this does not arrive the lock runs out.
            let _ = self.shard.try_send(Request { command, reply });
        }
    }
}

impl Broker {
    /// Locks a session, or waits for one; `None` if none came in time. `Conflict`: another one has it.
    pub async fn accept_session(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        wanted: WantedSession,
        wait: Duration,
    ) -> Result<Option<(SessionLock, Timestamp)>> {
        authorize(self.options.access, who, Action::Listen, view)?;
        let ask = Ask::AcceptSession { wanted, wait };
        let shard = self.shard_of(&view.topic);
        let command = Command::Message {
            name: view.clone(),
            ask,
        };
        let reply = match self.peers.is_some() && !self.duties[shard].is_on() {
            true => self.ask(shard, command).await?,
            false => {
                let reply = self.tell(shard, command)?;
                let mut accepting = Accepting {
                    view: view.clone(),
                    shard: self.mailbox(shard)?,
                    reply,
                };
                (&mut accepting.reply).await.map_err(|_| lost())??
            }
        };
        match reply {
            Reply::Session(accepted) => {
                Ok(accepted.map(|accepted| (accepted.lock, Timestamp(accepted.until_ms))))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Until when it holds now; `LockLost` if it does not.
    pub async fn renew_session(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
    ) -> Result<Timestamp> {
        let ask = Ask::RenewSession { lock: lock.clone() };
        match self.ask_view(who, view, ask).await? {
            Reply::Until(ms) => Ok(Timestamp(ms)),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives it up with the locks on its messages, none of which is counted as a failed delivery.
    pub async fn release_session(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
    ) -> Result<()> {
        let ask = Ask::ReleaseSession { lock: lock.clone() };
        self.ask_view(who, view, ask).await.map(drop)
    }

    pub async fn session_state(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
    ) -> Result<Option<Bytes>> {
        let ask = Ask::SessionState { lock: lock.clone() };
        let state = match self.ask_view(who, view, ask).await? {
            Reply::SessionState(state) => state,
            other => return Err(unexpected(&other)),
        };
        let state = state.map(|state| BASE64_STANDARD.decode(state)).transpose();
        let state =
            state.map_err(|_| Error::new(Kind::Corrupt, "the state of a session is no base64"))?;
        Ok(state.map(Bytes::from))
    }

    /// Durable on return; none takes it away. At most [`SESSION_STATE_BYTES`].
    pub async fn set_session_state(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        lock: &SessionLock,
        state: Option<Bytes>,
    ) -> Result<()> {
        if state
            .as_ref()
            .is_some_and(|state| state.len() > SESSION_STATE_BYTES)
        {
            let message = format!("the state of a session is at most {SESSION_STATE_BYTES} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        let ask = Ask::SetSessionState {
            lock: lock.clone(),
            state: state.map(|state| BASE64_STANDARD.encode(state)),
        };
        self.ask_view(who, view, ask).await.map(drop)
    }

    /// Sessions in the order of their names: those with messages or a state, or those whose state was set since.
    pub async fn sessions(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        since: Option<Timestamp>,
        skip: usize,
        top: usize,
    ) -> Result<Vec<String>> {
        let since_ms = since.map(|since| since.0);
        let ask = Ask::Sessions {
            since_ms,
            skip,
            top,
        };
        match self.ask_view(who, view, ask).await? {
            Reply::Sessions(names) => Ok(names),
            other => Err(unexpected(&other)),
        }
    }
}
