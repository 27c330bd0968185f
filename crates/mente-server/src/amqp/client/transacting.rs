//! What a client does on its control link, and asks for within a transaction.

use bytes::Bytes;
use mente_broker::Settled;
use mente_wire::amqp::machine::{Connection, DeliveryId, LinkId};
use mente_wire::amqp::transaction::{Declare, Discharge};
use mente_wire::amqp::value::Map;
use mente_wire::amqp::{DeliveryState, Outcome};

use super::{Client, Done, Link, rejected};
use crate::amqp::condition::Refusal;
use crate::amqp::management::{self, Within};
use crate::amqp::requests::{Answer, Request, Style};

impl Client {
    pub(super) fn declare(
        &mut self,
        machine: &mut Connection,
        link: LinkId,
        told: Option<DeliveryId>,
        declare: &Declare,
    ) {
        // One that nobody hears of would be of no use.
        let Some(id) = told else {
            return;
        };
        let state = match self.transactions.declare(link, declare, &self.desk) {
            Ok(txn_id) => DeliveryState::Declared { txn_id },
            Err(refusal) => rejected(&refusal),
        };
        let _ = machine.settle(link, id, Some(state));
        self.due.insert(link);
    }

    pub(super) fn discharge(
        &mut self,
        machine: &mut Connection,
        link: LinkId,
        told: Option<DeliveryId>,
        discharge: &Discharge,
    ) {
        let Some(Link::Coordinator { count }) = self.links.get_mut(&link) else {
            return;
        };
        *count += 1;
        let open = match self.transactions.take(&discharge.txn_id) {
            Ok(open) => open,
            Err(refusal) => return self.discharged(machine, link, told, Err(refusal)),
        };
        let ended = match discharge.fail {
            true => Some(Ok(())),
            false => open.is_whole().err().map(Err),
        };
        if let Some(ended) = ended {
            open.roll_back(&self.desk);
            return self.discharged(machine, link, told, ended);
        }
        let broker = self.desk.broker();
        self.desk
            .begin(async move { Done::Discharged(link, told, open.commit(broker).await) });
    }

    pub(super) fn discharged(
        &mut self,
        machine: &mut Connection,
        link: LinkId,
        told: Option<DeliveryId>,
        result: Result<(), Refusal>,
    ) {
        if let Some(Link::Coordinator { count }) = self.links.get_mut(&link) {
            *count = count.saturating_sub(1);
            self.due.insert(link);
        }
        let state = match &result {
            Ok(()) => DeliveryState::Outcome(Outcome::Accepted),
            Err(refusal) => rejected(refusal),
        };
        if let Some(id) = told {
            let _ = machine.settle(link, id, Some(state));
        }
    }

    /// What is asked for within a transaction is done with that, or answered now that it cannot.
    pub(super) fn request_within(
        &mut self,
        machine: &mut Connection,
        link: LinkId,
        txn_id: &Bytes,
        call: management::Call,
        request: Request,
    ) {
        let asked = management::within(&call, &request);
        let asked = asked.inspect_err(|refusal| self.transactions.spoil(txn_id, refusal));
        let answer = match asked {
            Err(refusal) => Err(refusal),
            Ok(Within::Settle(tokens, ending)) => {
                let settled = tokens.into_iter().map(|token| Settled {
                    who: call.who.clone(),
                    view: call.view.clone(),
                    token,
                    ending: ending.clone(),
                });
                let joined = self.transactions.settle(txn_id, Ok(settled.collect()));
                joined.map(|()| Answer::ok(Map::default()))
            }
            Ok(Within::Schedule(messages)) => {
                let (to, count) = (call.place.entity.clone(), messages.len());
                match self.transactions.schedule(txn_id, &to, count) {
                    Err(refusal) => Err(refusal),
                    Ok(name) => {
                        let txn_id = txn_id.clone();
                        self.desk.begin(async move {
                            let (broker, who) = (&call.broker, &call.who);
                            let written = broker.schedule_within(who, &to, messages, &name).await;
                            Done::Scheduled {
                                link,
                                request: Box::new(request),
                                txn_id,
                                count,
                                written: written.map_err(Refusal::from),
                            }
                        });
                        return;
                    }
                }
            }
        };
        self.answer(machine, link, &request, answer);
    }

    pub(super) fn answer(
        &mut self,
        machine: &mut Connection,
        link: LinkId,
        request: &Request,
        answer: Result<Answer, Refusal>,
    ) {
        let answer = request.answer(Style::Management, &answer.into());
        self.answered(machine, link, request.reply_to.as_deref(), answer);
    }
}
