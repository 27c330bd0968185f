//! Dead letters on their way: copied a few at a time, tried again after a while.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{Either, select};
use mente_engine::Takes;

use super::{BURIAL_WAIT, BURIALS_AT_ONCE, Grave, Io, RETRY, RETRY_DOUBLINGS, Tenure};
use crate::dead_letter;
use crate::shard::Burial;

impl Burial {
    pub(super) fn grave(&self) -> Grave {
        (self.view, self.log, self.partition, self.offset)
    }
}

impl Tenure<'_> {
    /// Starts copies of dead letters that are not under way, a bounded number. Only when what was decided is
    /// durable: a copy of what nobody gave up on could not be taken back.
    pub(super) fn start_burials(&mut self) {
        self.burials_wait = false;
        let (burials, going_on): (Vec<_>, Vec<_>) = self
            .shard
            .burials()
            .into_iter()
            .partition(|burial| burial.to.is_none());
        let is_any = !burials.is_empty() || !going_on.is_empty();
        if is_any && self.is_short_of_room() {
            return;
        }
        // Whose subscription is gone has no end of its own.
        let left: BTreeSet<_> = burials.iter().chain(&going_on).map(Burial::grave).collect();
        self.failed.retain(|grave, _| left.contains(grave));
        let mut burials = burials;
        if !going_on.is_empty() {
            burials.extend(self.start_transfers(going_on));
        }
        for burial in burials {
            if self.burying.len() >= BURIALS_AT_ONCE {
                break;
            }
            let grave = burial.grave();
            if self.resting.contains(&grave) || !self.burying.insert(grave) {
                continue;
            }
            let engine = Arc::clone(&self.runtime.engine);
            let letters = Arc::clone(&self.letters);
            let clock = Arc::clone(&self.runtime.clock);
            let (parse, properties) = (self.runtime.parse, self.runtime.properties);
            self.io.push(Box::pin(async move {
                let buried =
                    dead_letter::bury(&*engine, &burial, &letters, &*clock, parse, properties);
                let result = buried.await;
                let burial = Box::new(burial);
                Io::Buried { burial, result }
            }));
        }
    }

    /// A copy is data and lets go of none: it waits, its intent is in the journal. Whose subscription is
    /// deleted meanwhile has none.
    fn is_short_of_room(&mut self) -> bool {
        let is_short = self.runtime.engine.room().takes < Takes::Everything;
        if is_short && !self.awaits_room {
            self.awaits_room = true;
            let pause = self.pause();
            self.io.push(Box::pin(async move {
                pause.await;
                Io::LookForRoom
            }));
        }
        is_short
    }

    /// It failed, and leaves its place to others for a while.
    pub(super) fn rest(&mut self, grave: Grave) {
        let failures = self.failed.entry(grave).or_default();
        let pause = RETRY * (1 << (*failures).min(RETRY_DOUBLINGS));
        *failures += 1;
        self.resting.insert(grave);
        let until = self.runtime.clock.now().monotone + pause;
        let rested = self.runtime.clock.sleep_until(until);
        self.io.push(Box::pin(async move {
            rested.await;
            Io::Rested(grave)
        }));
    }

    /// Copies of dead letters that are under way would land behind the next owner's back, who looks for them.
    pub(super) async fn finish_burials(&mut self) {
        self.letters.close();
        let mut late = self
            .runtime
            .clock
            .sleep_until(self.runtime.clock.now().monotone + BURIAL_WAIT);
        while !self.burying.is_empty() {
            match select(self.io.next(), late).await {
                Either::Left((Some(Io::Buried { burial, .. }), left)) => {
                    self.burying.remove(&burial.grave());
                    late = left;
                }
                Either::Left((Some(_), left)) => late = left,
                Either::Left((None, _)) | Either::Right(_) => return,
            }
        }
    }
}
