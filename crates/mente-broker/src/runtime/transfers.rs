//! What goes on to other topics: one batch of a view at a time, so that order is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use mente_engine::{self as engine, Offset};

use super::{Io, RETRY, Tenure};
use crate::shard::{Burial, Outcome};
use crate::transfer::{self, Transfer};

/// What is known of a view from which records go on.
#[derive(Debug, Default)]
pub(super) struct Transferring {
    under_way: bool,
    /// What earlier owners copied is known, since this one has looked or copied all itself.
    has_looked: bool,
}

impl Tenure<'_> {
    /// Starts a batch of each view that has none under way; gives back what no topic takes, which goes to the
    /// dead letters.
    pub(super) fn start_transfers(&mut self, burials: Vec<Burial>) -> Vec<Burial> {
        let mut homeless = Vec::new();
        let mut by_view: BTreeMap<u64, Vec<Burial>> = BTreeMap::new();
        for burial in burials {
            by_view.entry(burial.view).or_default().push(burial);
        }
        for (view, mut burials) in by_view {
            let to = burials[0].to.clone();
            let topic = to.and_then(|to| self.runtime.known.topic(&to).ok().flatten());
            let Some(target) = topic else {
                homeless.extend(burials.into_iter().map(no_target));
                continue;
            };
            let state = self.transferring.entry(view).or_default();
            if std::mem::replace(&mut state.under_way, true) {
                continue;
            }
            let of_target = burials.iter().take_while(|b| b.to == burials[0].to).count();
            burials.truncate(of_target.min(transfer::AT_ONCE));
            let transfer = Transfer {
                view,
                target,
                is_hop: !burials[0].name.is_hold(),
                looks: !state.has_looked,
                burials,
            };
            let engine = Arc::clone(&self.runtime.engine);
            let (now, parse) = (self.runtime.clock.now().wall, self.runtime.parse);
            let properties = self.runtime.properties;
            let pause = self.pause();
            self.io.push(Box::pin(async move {
                let result = transfer::transfer(&*engine, &transfer, now, parse, properties).await;
                if result.is_err() {
                    pause.await;
                }
                let view = transfer.view;
                Io::Transferred { view, result }
            }));
        }
        homeless
    }

    pub(super) fn transferred(
        &mut self,
        view: u64,
        result: Result<Vec<(Burial, Option<Offset>)>, engine::Error>,
        out: &mut Outcome,
    ) {
        let state = self.transferring.entry(view).or_default();
        state.under_way = false;
        // An append that failed may be there all the same.
        state.has_looked = result.is_ok();
        self.burials_wait = true;
        match result {
            Ok(done) => {
                for (burial, at) in done {
                    self.shard.buried(&burial, at, out);
                }
            }
            Err(error) => {
                tracing::warn!(view, %error, pause = ?RETRY, "messages do not go on yet");
            }
        }
    }
}

/// Its topic is gone: whoever looks for it finds it among the dead letters.
fn no_target(burial: Burial) -> Burial {
    let to = burial.to.as_ref().map_or("", |to| to.as_str());
    let detail = format!("there is no {to} to forward it to");
    Burial {
        reason: "ForwardTargetMissing".to_owned(),
        detail,
        to: None,
        ..burial
    }
}
