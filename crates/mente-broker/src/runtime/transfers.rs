//! What goes on to other topics: one batch of a view at a time, so that order is kept.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mente_engine::{self as engine, Offset};

use super::{Io, RETRY, RETRY_DOUBLINGS, Tenure};
use crate::name::EntityName;
use crate::shard::{Burial, Outcome};
use crate::transfer::{self, Transfer, Transferred};

/// Looks at a topic that is not there before what goes there is a dead letter: another node may have made it just now.
const LOOKS: u32 = 20;

/// Ways that are remembered though nothing is on them: transactions send to whatever topics there are.
const WAYS: usize = 1_000;

/// A view and the topic that its records go on to.
type Way = (u64, EntityName);

/// What is known of one way.
#[derive(Debug, Default)]
pub(super) struct Transferring {
    under_way: bool,
    /// Records that earlier owners copied, once this one has looked; all others it copies itself.
    known: Option<Arc<HashSet<String>>>,
    /// How often its topic was not there.
    missed: u32,
    /// Batches that failed since the last one that did not: each may have written the data of a large message.
    failures: u32,
}

pub(super) type Ways = BTreeMap<Way, Transferring>;

impl Tenure<'_> {
    /// Starts a batch on each way that has none under way; gives back what no topic takes, which goes to the
    /// dead letters.
    pub(super) fn start_transfers(&mut self, burials: Vec<Burial>) -> Vec<Burial> {
        let mut by_way: BTreeMap<Way, Vec<Burial>> = BTreeMap::new();
        for burial in burials {
            // One whose topic was gone is on its way to the dead letters. One that could not be read was looked for
            // with the first ones of this owner, who copies it himself.
            let grave = burial.grave();
            let is_out = self.burying.contains(&grave) || self.resting.contains(&grave);
            if let Some(to) = burial.to.clone().filter(|_| !is_out) {
                by_way.entry((burial.view, to)).or_default().push(burial);
            }
        }
        let mut homeless = Vec::new();
        let mut waits = false;
        if self.transferring.len() > WAYS {
            self.transferring
                .retain(|way, state| state.under_way || by_way.contains_key(way));
        }
        for (way, burials) in by_way {
            let state = self.transferring.entry(way.clone()).or_default();
            if state.under_way {
                continue;
            }
            match self.runtime.known.topic(&way.1) {
                Ok(Some(target)) => {
                    state.missed = 0;
                    state.under_way = true;
                    let known = state.known.clone();
                    self.start_transfer(way, Transfer::new(target, burials, known));
                }
                // The catalogue is not read yet, or not so far.
                Err(_) => waits = true,
                Ok(None) => {
                    // What waits for its time goes with its topic; what a transaction sent elsewhere does not.
                    let goes_with_it = burials[0].name.is_hold() && burials[0].name.topic == way.1;
                    let enough = if self.runtime.peers.is_some() {
                        LOOKS
                    } else {
                        1
                    };
                    state.missed = state.missed.saturating_add(1);
                    match state.missed >= enough && !goes_with_it {
                        true => homeless.extend(burials.into_iter().map(no_target)),
                        false => waits |= !goes_with_it,
                    }
                }
            }
        }
        if waits {
            self.look_again();
        }
        homeless
    }

    fn start_transfer(&mut self, way: Way, transfer: Transfer) {
        let engine = Arc::clone(&self.runtime.engine);
        let (clock, parse) = (Arc::clone(&self.runtime.clock), self.runtime.parse);
        let properties = self.runtime.properties;
        let failures = self
            .transferring
            .get(&way)
            .map_or(0, |state| state.failures);
        let pause = RETRY * (1 << failures.min(RETRY_DOUBLINGS));
        self.io.push(Box::pin(async move {
            let result = transfer::transfer(&*engine, &transfer, &*clock, parse, properties).await;
            if result.is_err() {
                clock.sleep_until(clock.now().monotone + pause).await;
            }
            Io::Transferred {
                way: Box::new(way),
                result,
            }
        }));
    }

    pub(super) fn transferred(
        &mut self,
        way: Way,
        result: Result<Transferred, engine::Error>,
        out: &mut Outcome,
    ) {
        self.burials_wait = true;
        let state = self.transferring.entry(way).or_default();
        state.under_way = false;
        match result {
            Ok(Transferred {
                done,
                failed,
                known,
            }) => {
                state.known = Some(known);
                state.failures = 0;
                for burial in failed {
                    self.rest(burial.grave());
                }
                for (burial, at) in done {
                    self.shard.buried(&burial, at, out);
                }
            }
            Err(error) => {
                // What was appended may be there all the same.
                state.known = None;
                state.failures = state.failures.saturating_add(1);
                tracing::warn!(%error, "messages do not go on yet");
            }
        }
    }

    fn look_again(&mut self) {
        let pause = self.pause();
        self.io.push(Box::pin(async move {
            pause.await;
            Io::LookForRoom
        }));
    }
}

/// Its topic is gone: whoever looks for it finds it among the dead letters.
fn no_target(burial: Burial) -> Burial {
    let to = burial.to.as_ref().map_or("", |to| to.as_str());
    let detail = format!("there is no {to} that it could go on to");
    Burial {
        reason: "ForwardTargetMissing".to_owned(),
        detail,
        to: None,
        // No letter of it is known of, so all are looked at.
        since: Offset::default(),
        ..burial
    }
}
