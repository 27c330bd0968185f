//! What becomes of messages that a receiver has when it goes, or can take none.

use mente_broker::queue::LockToken;
use mente_broker::{Ending, Held};
use mente_engine::limits;
use mente_wire::amqp::machine::LinkId;

use super::super::client::{Desk, Done, Left};
use super::{Large, Receiver};

impl Receiver {
    /// The link is gone. What was sent may keep its locks; what was not is others' again, and so is a session.
    pub(in crate::amqp) fn leave(mut self, left: Left, desk: &Desk) {
        self.stop();
        let mut endings: Vec<(Ending, Vec<LockToken>)> = Vec::new();
        for settlement in std::mem::take(&mut self.settling) {
            match endings
                .iter_mut()
                .find(|(ending, _)| *ending == settlement.ending)
            {
                Some((_, tokens)) if tokens.len() < limits::LOCK_TOKENS_PER_SETTLE => {
                    tokens.push(settlement.token);
                }
                _ => endings.push((settlement.ending, vec![settlement.token])),
            }
        }
        let held = self.held.iter().filter_map(|held| Some(held.lock?.token));
        let mut held: Vec<_> = held.collect();
        if let Some(Large::Sending(download)) = self.large.take() {
            // Its end has not been sent.
            held.extend(self.out.remove(&download.delivery()).map(|out| out.token));
        }
        let mut failed = Vec::new();
        if !self.keeps_locks {
            let out = self.out.values().map(|out| out.token);
            match left {
                Left::Said => held.extend(out),
                // It may be what the client died of.
                Left::Broken => failed.extend(out),
            }
        }
        if self.session.is_none() {
            let abandoned = Ending::Abandon { note: None };
            for (tokens, ending) in [(held, Ending::Return), (failed, abandoned)] {
                let parts = tokens.chunks(limits::LOCK_TOKENS_PER_SETTLE);
                endings.extend(parts.map(|part| (ending.clone(), part.to_vec())));
            }
        }
        let (broker, who, view) = (desk.broker(), self.who.clone(), self.view.clone());
        let session = self.session.take();
        if endings.is_empty() && session.is_none() {
            return;
        }
        // What the client said of its messages holds, before others have the session.
        desk.begin(async move {
            for (ending, tokens) in endings {
                if let Err(error) = broker.end_locks(&who, &view, tokens, ending).await {
                    tracing::debug!(%error, "not settled: the locks run out");
                }
            }
            if let Some(lock) = session
                && let Err(error) = broker.release_session(&who, &view, &lock).await
            {
                tracing::debug!(%error, "a session was not given up: its lock runs out");
            }
            Done::Nothing
        });
    }

    /// They are others' again; until then there is no call for more.
    pub(super) fn give_back(
        &mut self,
        id: LinkId,
        held: impl IntoIterator<Item = Held>,
        desk: &Desk,
    ) {
        let held = held.into_iter();
        let tokens = held.filter_map(|held| Some(held.lock?.token));
        let tokens: Vec<LockToken> = tokens.collect();
        if tokens.is_empty() {
            return;
        }
        self.returning += 1;
        let taker = self.taker(desk);
        desk.begin(async move {
            taker.give_back(tokens).await;
            Done::Returned(id)
        });
    }

    pub(in crate::amqp) fn returned(&mut self) {
        self.returning -= 1;
    }
}
