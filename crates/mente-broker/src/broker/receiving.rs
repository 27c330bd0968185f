//! A receive call on its way: if it is dropped, what was leased for it goes back.

use futures::channel::{mpsc, oneshot};

use super::{Broker, lost, unexpected};
use crate::error::Result;
use crate::name::SubscriptionName;
use crate::queue::{Delivery, LockToken, Settlement};
use crate::runtime::Request;
use crate::shard::{Command, Reply};

pub(super) struct Receiving {
    name: SubscriptionName,
    shard: mpsc::Sender<Request>,
    reply: oneshot::Receiver<Result<Reply>>,
    /// Leased and not handed over.
    tokens: Vec<LockToken>,
}

impl Broker {
    pub(super) async fn start_receiving(
        &self,
        name: &SubscriptionName,
        command: Command,
    ) -> Result<Receiving> {
        let shard = self.shard_of(&name.topic);
        let reply = self.tell(shard, command).await?;
        Ok(Receiving {
            name: name.clone(),
            shard: self.mailbox(shard)?,
            reply,
            tokens: Vec::new(),
        })
    }
}

impl Receiving {
    pub(super) async fn deliveries(&mut self) -> Result<Vec<Delivery>> {
        let deliveries = match (&mut self.reply).await.map_err(|_| lost())?? {
            Reply::Deliveries(deliveries) => deliveries,
            other => return Err(unexpected(&other)),
        };
        self.tokens = deliveries.iter().map(|delivery| delivery.token).collect();
        Ok(deliveries)
    }

    /// The receiver has its events; only these go back.
    pub(super) fn hand_over(mut self, left: &[Delivery]) {
        self.tokens = left.iter().map(|delivery| delivery.token).collect();
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // From now on the shard finds nobody here and takes its leases back itself.
        self.reply.close();
        if let Ok(Some(Ok(Reply::Deliveries(deliveries)))) = self.reply.try_recv() {
            self.tokens.extend(deliveries.iter().map(|d| d.token));
        }
        if self.tokens.is_empty() {
            return;
        }
        let command = Command::Settle {
            name: self.name.clone(),
            tokens: std::mem::take(&mut self.tokens),
            how: Settlement::Return,
        };
        let (reply, _) = oneshot::channel();
        // If the mailbox is full the leases run out.
        let _ = self.shard.try_send(Request { command, reply });
    }
}
