//! A receive call on its way: if it is dropped, what was leased for it goes back.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};

use super::asking::lost;
use super::unheard::{CallId, Unheard};
use super::{Broker, unexpected};
use crate::error::{Kind, Result};
use crate::name::SubscriptionName;
use crate::peers::{self, Answer, Peers};
use crate::queue::{Delivery, LockToken, Settlement, Taking};
use crate::runtime::Request;
use crate::shard::{Command, Reply};

pub(super) struct Receiving {
    name: SubscriptionName,
    owner: Owner,
    /// Leased and not handed over.
    tokens: Vec<LockToken>,
    /// Refused, or handed over.
    is_over: bool,
}

/// Whom the deliveries come from.
enum Owner {
    Here {
        shard: mpsc::Sender<Request>,
        reply: oneshot::Receiver<Result<Reply>>,
    },
    There {
        peers: Arc<dyn Peers>,
        shard: usize,
        answer: Answer,
        call: CallId,
        unheard: Arc<Unheard>,
        /// Of which the owner is told with the call.
        told: Vec<CallId>,
    },
}

impl Broker {
    /// Receives; where the owner of the shard changes meanwhile, from the next one.
    pub(super) async fn start_receiving(
        &self,
        name: &SubscriptionName,
        taking: &Taking,
    ) -> Result<(Receiving, Vec<Delivery>)> {
        let shard = self.shard_of(&name.topic);
        let began = self.now().monotone;
        loop {
            let left = (began + taking.wait).saturating_sub(self.now().monotone);
            let command = Command::Receive {
                name: name.clone(),
                taking: Taking {
                    wait: left,
                    ..taking.clone()
                },
            };
            let mut receiving = match &self.peers {
                Some(peers) if !self.duties[shard].is_on() => {
                    self.receive_there(peers, name, shard, &command, left)
                }
                _ => self.receive_here(name, shard, command)?,
            };
            match receiving.deliveries().await {
                Err(error) if error.kind == Kind::NotOwner => {
                    let until = began + taking.wait.max(super::asking::OWNER_WAIT);
                    Box::pin(self.await_owner(until, error)).await?;
                }
                deliveries => return Ok((receiving, deliveries?)),
            }
        }
    }

    pub(super) fn receive_here(
        &self,
        name: &SubscriptionName,
        shard: usize,
        command: Command,
    ) -> Result<Receiving> {
        let reply = self.tell(shard, command)?;
        let shard = self.mailbox(shard)?;
        Ok(Receiving {
            name: name.clone(),
            owner: Owner::Here { shard, reply },
            tokens: Vec::new(),
            is_over: false,
        })
    }

    fn receive_there(
        &self,
        peers: &Arc<dyn Peers>,
        name: &SubscriptionName,
        shard: usize,
        command: &Command,
        wait: Duration,
    ) -> Receiving {
        let (call, told) = (self.unheard.begin(), self.unheard.of(name));
        let question = peers::question_of(shard, command, Some(call), told.clone());
        let answer = peers.ask(shard as u32, question, wait);
        let peers = Arc::clone(peers);
        Receiving {
            name: name.clone(),
            owner: Owner::There {
                peers,
                shard,
                answer,
                call,
                unheard: Arc::clone(&self.unheard),
                told,
            },
            tokens: Vec::new(),
            is_over: false,
        }
    }
}

impl Receiving {
    pub(super) async fn deliveries(&mut self) -> Result<Vec<Delivery>> {
        let reply = match &mut self.owner {
            Owner::Here { reply, .. } => reply.await.map_err(|_| lost())??,
            Owner::There {
                answer,
                unheard,
                told,
                ..
            } => {
                let answer = answer.await;
                // Who cannot say whether it answered may have.
                let is_known = !matches!(&answer, Err(error) if error.kind == Kind::Unknown);
                let reply = answer.and_then(|answer| peers::read_answer(&answer));
                self.is_over = is_known && reply.is_err();
                if reply.is_ok() {
                    unheard.told(told);
                }
                reply?
            }
        };
        let deliveries = match reply {
            Reply::Deliveries(deliveries) => deliveries,
            other => return Err(unexpected(&other)),
        };
        self.tokens = deliveries.iter().map(|delivery| delivery.token).collect();
        Ok(deliveries)
    }

    /// The receiver has its events; only these go back.
    pub(super) fn hand_over(mut self, left: &[Delivery]) {
        self.tokens = left.iter().map(|delivery| delivery.token).collect();
        self.is_over = true;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Owner::Here { reply, .. } = &mut self.owner {
            // From now on the shard finds nobody here and takes its leases back itself.
            reply.close();
            if let Ok(Some(Ok(Reply::Deliveries(deliveries)))) = reply.try_recv() {
                self.tokens.extend(deliveries.iter().map(|d| d.token));
            }
        }
        let mut dropped = Vec::new();
        if let Owner::There { call, unheard, .. } = &self.owner
            && !self.is_over
        {
            unheard.drop_call(&self.name, *call);
            dropped.push(*call);
        }
        if self.tokens.is_empty() && dropped.is_empty() {
            return;
        }
        let command = Command::Settle {
            name: self.name.clone(),
            tokens: std::mem::take(&mut self.tokens),
            how: Settlement::Return,
            note: None,
            lingers: false,
        };
        // Where this does not arrive the leases run out.
        match &mut self.owner {
            Owner::Here { shard, .. } => {
                let (reply, _) = oneshot::channel();
                let _ = shard.try_send(Request { command, reply });
            }
            Owner::There { peers, shard, .. } => {
                let question = peers::question_of(*shard, &command, None, dropped);
                peers.tell(*shard as u32, question);
            }
        }
    }
}
