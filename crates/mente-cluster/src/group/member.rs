//! The task of one membership: joins, syncs, and beats while it waits for anything.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::JoinGroupResponse;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::form::{self, Identity};
use super::hold::{Moment, Shared};
use super::talk::{Fault, Place, Talk};
use super::{Assignment, Seat};
use crate::limits;

pub(super) struct Member {
    talk: Talk,
    shared: Arc<Shared>,
    identity: Identity,
    shards: u32,
    place: Place,
    /// Whether the assignment of our generation has come. Before that the coordinator can
    /// drop us whatever our heart does.
    synced: bool,
    /// A join may have reached the group since we were last out of it.
    asked: bool,
    owned: BTreeSet<u32>,
    /// The generation in which we got them.
    got: i32,
    nonce: u64,
}

/// What a heartbeat's answer means depends on what it is waited for beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The join's answer tells the new generation; that the old one is over may come first.
    Joining,
    /// For the assignment, or for shards to be let go. A rebalance waits as well.
    Waiting,
    Settled,
}

/// Rising pauses between tries.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(limits::PAUSE_MIN)
    }

    async fn next(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(limits::GROUP_PAUSE_MAX);
    }
}

impl Member {
    pub(super) fn new(talk: Talk, shared: Arc<Shared>, seat: Seat, incarnation: String) -> Self {
        Self {
            talk,
            shared,
            identity: Identity::new(&seat, incarnation),
            shards: seat.shards,
            place: Place {
                instance: StrBytes::from_string(seat.instance),
                member: StrBytes::default(),
                generation: -1,
            },
            synced: false,
            asked: false,
            owned: BTreeSet::new(),
            got: -1,
            nonce: 0,
        }
    }

    pub(super) async fn run(mut self, leave: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.live() => {}
            _ = leave => {}
        }
        self.shared.end();
        if self.asked {
            // On the connection of the heartbeats: the other one may wait for a join.
            let _ = timeout(limits::LEAVE, self.talk.leave(&self.place)).await;
        }
    }

    /// In and out of the group, for ever.
    async fn live(&mut self) {
        let mut pauses = Pauses::new();
        loop {
            let fault = self.stay(&mut pauses).await;
            let had = self.got >= 0;
            self.lose();
            match fault {
                Fault::Fenced => {
                    let instance = self.place.instance.as_str();
                    tracing::error!(instance, "another process runs as this node");
                    sleep(limits::REFUSED_PAUSE).await;
                }
                Fault::Refused(reason) => {
                    tracing::error!(reason, "the group of the nodes refuses this one");
                    sleep(limits::REFUSED_PAUSE).await;
                }
                fault => {
                    if had {
                        tracing::warn!(?fault, "this node fell out of the group of the nodes");
                    }
                    pauses.next().await;
                }
            }
        }
    }

    /// Nothing is ours, and we are to be a new member. A request of the old one that still
    /// comes somewhere out of the dark is refused then.
    fn lose(&mut self) {
        self.shared.lose(self.got >= 0);
        self.place.member = StrBytes::default();
        self.place.generation = -1;
        self.owned.clear();
        (self.synced, self.asked, self.got) = (false, false, -1);
    }

    /// Round after round, until what we had is lost.
    async fn stay(&mut self, pauses: &mut Pauses) -> Fault {
        let mut stale = Pauses::new();
        loop {
            let fault = match self.round(pauses, &mut stale).await {
                Ok(()) | Err(Fault::Rebalance) => continue,
                Err(Fault::Elsewhere(_)) => self.beating(Stage::Joining, pauses.next()).await.err(),
                Err(fault) => Some(fault),
            };
            if let Some(fault) = fault {
                return fault;
            }
        }
    }

    /// One round: until it is time for the next one.
    async fn round(&mut self, pauses: &mut Pauses, stale: &mut Pauses) -> Result<(), Fault> {
        let joined = self.join().await?;
        let bytes = self.sync(&joined).await?;
        *pauses = Pauses::new();
        let (current, revoked) = self.take(&bytes);
        if let Some(done) = revoked {
            let wait = timeout(limits::LET_GO, done);
            if !matches!(self.beating(Stage::Waiting, wait).await?, Ok(Ok(()))) {
                tracing::warn!("shards were not let go in time; others get them");
            }
            return Ok(());
        }
        if !current {
            // The group was at rest and gave us what an earlier process of this node had, or
            // its leader does not know us.
            return self.beating(Stage::Waiting, stale.next()).await;
        }
        *stale = Pauses::new();
        Err(self.beat(Stage::Settled).await)
    }

    /// Waits for something, while the heart beats.
    async fn beating<T>(&self, stage: Stage, work: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            fault = self.beat(stage) => Err(fault),
            done = work => Ok(done),
        }
    }

    async fn join(&mut self) -> Result<JoinGroupResponse, Fault> {
        self.nonce += 1;
        let card = form::card(&self.identity, &self.owned, self.got, self.nonce);
        loop {
            self.asked = true;
            // Asked again with the same card: the group need not start over for that.
            let ask = async {
                let mut pauses = Pauses::new();
                loop {
                    let sent = Moment::now();
                    match self.talk.join(&self.place, card.clone()).await {
                        Err(Fault::Elsewhere(_)) => pauses.next().await,
                        answer => return answer.map(|answer| (sent, answer)),
                    }
                }
            };
            match self.beating(Stage::Joining, ask).await? {
                Err(Fault::IdRequired(id)) => self.place.member = id,
                Err(fault) => return Err(fault),
                Ok((sent, answer)) => {
                    self.place.member = answer.member_id.clone();
                    self.place.generation = answer.generation_id;
                    self.synced = false;
                    // The group has our card now.
                    self.shared.beaten(sent, true);
                    return Ok(answer);
                }
            }
        }
    }

    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Bytes, Fault> {
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let given = if leads { self.lead(joined) } else { Vec::new() };
        let sent = Moment::now();
        let ask = self.talk.sync(&self.place, given);
        let bytes = self.beating(Stage::Waiting, ask).await??;
        self.synced = true;
        self.shared.synced(sent);
        Ok(bytes)
    }

    /// What each member gets: the same map of all.
    fn lead(&self, joined: &JoinGroupResponse) -> Vec<(StrBytes, Bytes)> {
        let cards = joined.members.iter().filter_map(|member| {
            // Kafka vouches for the instance only.
            let card = form::read_card(member.group_instance_id.as_ref()?, &member.metadata);
            if card.is_none() {
                let member = member.member_id.as_str();
                tracing::warn!(member, "a member of the group of the nodes is no node");
            }
            card
        });
        let map = form::map(self.shards, cards.collect());
        let members = joined.members.iter();
        members
            .map(|member| (member.member_id.clone(), map.clone()))
            .collect()
    }

    /// Takes what the group gave us. Whether it knows us as we are, and what to wait for if
    /// something is ours no more.
    fn take(&mut self, bytes: &[u8]) -> (bool, Option<oneshot::Receiver<()>>) {
        let read = form::read_map(bytes, self.shards, &self.identity);
        let (nodes, current) = read.unwrap_or_else(|| {
            tracing::warn!("the leader of the group of the nodes is not understood");
            (Vec::new(), false)
        });
        let own = nodes
            .iter()
            .find(|node| node.instance == self.place.instance.as_str());
        let ours = own.map(|node| node.shards.clone()).unwrap_or_default();
        let lost: BTreeSet<_> = self.owned.difference(&ours).copied().collect();
        (self.owned, self.got) = (ours, self.place.generation);
        let done = (!lost.is_empty()).then(|| self.shared.revoke(lost));
        self.shared.assign(Arc::new(Assignment {
            generation: self.place.generation,
            nodes,
        }));
        (current, done)
    }

    /// Beats until something comes of it.
    async fn beat(&self, stage: Stage) -> Fault {
        let beats = async {
            let mut pauses = Pauses::new();
            loop {
                sleep(limits::BEAT).await;
                loop {
                    let sent = Moment::now();
                    match self.talk.beat(&self.place).await {
                        Ok(()) => self.shared.beaten(sent, self.synced),
                        Err(Fault::Rebalance) if stage != Stage::Settled => {
                            self.shared.beaten(sent, false);
                        }
                        Err(Fault::Generation) if stage == Stage::Joining => {}
                        Err(Fault::Elsewhere(_)) => {
                            pauses.next().await;
                            continue;
                        }
                        Err(fault) => return fault,
                    }
                    pauses = Pauses::new();
                    break;
                }
            }
        };
        if self.place.generation < 0 {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            () = self.shared.lapsed() => Fault::Silent,
            fault = beats => fault,
        }
    }
}
