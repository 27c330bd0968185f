//! A namespace forked off another one without a copy: what lies below a cut is read where it lies, what
//! comes after is the fork's own.
//!
//! ```text
//!   of the parent   ----+----+----+ cut ·····+····+ end when it was forked
//!   as the fork     ----+----+----+          hole · +----+----+  its own log begins here
//! ```
//! The fork shows the parent's names and ids, so that whoever finds a set by its id finds its own. Every shared
//! log has a log of the fork's beside it from the start; a shared set whose own one is missing is deleted.
//! Positions between the cut and the parent's end at that time stay free: what was noted of them (a queue's
//! floor, a checkpoint) never means a record of the fork.
//!
//! What the parent's retention takes is taken from the fork too, since it is kept once. Who deletes a whole
//! set of the parent has to ask for forks first; the fork reads what is gone as trimmed.

mod cut;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::future::try_join_all;

use crate::batch::Batch;
use crate::clock::Timestamp;
use crate::engine::{
    self, Answer, Appended, Bounds, Change, Chunk, Engine, Fence, Limit, LogConfig, Room, SetInfo,
};
use crate::error::Error;
use crate::id::{LogId, Offset, SetId, SetName};

use cut::{Cut, Place};
use told::Told;

/// Sets of a fork that are made at a time.
const SETS_AT_ONCE: usize = 256;

/// A set that a fork is to share.
#[derive(Clone, Debug)]
pub struct Share {
    pub info: SetInfo,
    /// Without the batches from the first one on that has a record later than this; all that is there
    /// now without a time.
    pub upto: Option<Timestamp>,
}

/// The fork, as the engine of a namespace of its own; cheap to clone.
#[derive(Clone, Debug)]
pub struct Fork {
    inner: Arc<dyn Engine>,
    spaces: Spaces,
    /// The log that keeps the cuts.
    told: LogId,
    known: Arc<RwLock<Known>>,
}

/// The namespace that is shown, and the one that the fork's own sets have in the engine below.
#[derive(Clone, Debug)]
struct Spaces {
    shown: String,
    own: String,
}

#[derive(Debug, Default)]
struct Known {
    /// By the parent's id.
    shared: HashMap<SetId, Arc<Shared>>,
    /// Sets that only the fork has.
    own: HashSet<SetId>,
}

#[derive(Debug)]
struct Shared {
    /// As it is shown.
    name: SetName,
    own: SetId,
    cuts: Vec<Arc<Cut>>,
}

impl Fork {
    /// How the name of the set ends that every fork has, after its namespace.
    pub const MARK: &str = "/$fork";

    /// Forks these sets of the namespace `of` into the namespace `name`, which holds no set yet.
    pub async fn create(
        inner: Arc<dyn Engine>,
        name: &str,
        of: &str,
        sets: &[Share],
    ) -> Result<Self, Error> {
        let spaces = Spaces {
            shown: of.to_owned(),
            own: name.to_owned(),
        };
        let told = inner.create(&spaces.cuts()?, 1, LogConfig::default());
        let told = told.await?.log(0);
        let mut known = Known::default();
        for some in sets.chunks(SETS_AT_ONCE) {
            let shared = some.iter().map(|share| shared(&*inner, &spaces, share));
            let shared = try_join_all(shared).await?;
            let lines: Vec<_> = shared.iter().map(|(set, s)| s.told(*set)).collect();
            told::write(&*inner, told, &lines).await?;
            known
                .shared
                .extend(shared.into_iter().map(|(set, s)| (set, Arc::new(s))));
        }
        Ok(Self {
            inner,
            spaces,
            told,
            known: Arc::new(RwLock::new(known)),
        })
    }

    /// Opens what [`Fork::create`] made.
    pub async fn open(inner: Arc<dyn Engine>, name: &str, of: &str) -> Result<Self, Error> {
        let spaces = Spaces {
            shown: of.to_owned(),
            own: name.to_owned(),
        };
        let cuts = spaces.cuts()?;
        let listed = inner.list(&spaces.prefix()).await?;
        let told = listed.iter().find(|info| info.name == cuts);
        let told = told.ok_or(Error::Gone)?.id.log(0);
        let there: HashMap<SetId, &SetInfo> = listed.iter().map(|i| (i.id, i)).collect();
        let mut known = Known::default();
        for line in told::read(&*inner, told).await? {
            match line {
                Told::Shared(set, shared) if there.contains_key(&shared.own) => {
                    known.shared.insert(set, Arc::new(shared));
                }
                // Deleted in the fork.
                Told::Shared(..) => {}
                Told::Trimmed(log, before) => {
                    let shared = known.shared.get(&log.set);
                    if let Some(cut) = shared.and_then(|s| s.cuts.get(log.index as usize)) {
                        cut.trim(before);
                    }
                }
            }
        }
        let own = listed.iter().filter(|i| spaces.shown(&i.name).is_some());
        known.own = own.map(|info| info.id).collect();
        Ok(Self {
            inner,
            spaces,
            told,
            known: Arc::new(RwLock::new(known)),
        })
    }

    /// Deletes all that a fork of this name holds of its own, also one that was half made. What it shares stays.
    pub async fn remove(inner: &dyn Engine, name: &str) -> Result<(), Error> {
        let prefix = format!("{name}/");
        let (mark, sets): (Vec<_>, Vec<_>) = {
            let listed = inner.list(&prefix).await?.into_iter();
            let mark = format!("{name}{}", Self::MARK);
            listed.partition(|info| info.name.as_str() == mark)
        };
        // The mark last: by it whoever begins anew finds what is to be removed.
        for some in sets.chunks(SETS_AT_ONCE).chain([&mark[..]]) {
            let gone = some.iter().map(|info| inner.delete(info.id));
            for gone in futures::future::join_all(gone).await {
                match gone {
                    Ok(()) | Err(Error::Gone) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Whether this fork reads that set of the parent.
    pub fn shares(&self, set: SetId) -> bool {
        self.read_known().shared.contains_key(&set)
    }

    /// Where the fork's own part of a shared log begins; what the parent has up to its cut lies below.
    /// None of a log that is only the fork's.
    pub fn cut(&self, log: LogId) -> Option<Bounds> {
        let known = self.read_known();
        let cut = known.shared.get(&log.set)?.cuts.get(log.index as usize)?;
        Some(Bounds {
            start: cut.upto,
            end: cut.goes_on,
        })
    }

    fn read_known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_known(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, log: LogId) -> Result<Place, Error> {
        let known = self.read_known();
        if known.own.contains(&log.set) {
            return Ok(Place::own(log));
        }
        let shared = known.shared.get(&log.set).ok_or(Error::Gone)?;
        Ok(Place {
            below: log,
            above: shared.own.log(log.index),
            // A log that came when the set grew has nothing below.
            cut: shared.cuts.get(log.index as usize).cloned(),
        })
    }

    /// The engine's own set of one that is shown.
    fn own_set(&self, set: SetId) -> Result<SetId, Error> {
        let known = self.read_known();
        match known.shared.get(&set) {
            Some(shared) => Ok(shared.own),
            None if known.own.contains(&set) => Ok(set),
            None => Err(Error::Gone),
        }
    }

    fn fence_below(&self, fence: &Fence) -> Result<Fence, Error> {
        let place = self.place(fence.log)?;
        Ok(Fence {
            log: place.above,
            at: place.down(fence.at),
            ..*fence
        })
    }
}

/// Makes the fork's own side of a set and says where the parent's ends.
async fn shared(
    inner: &dyn Engine,
    spaces: &Spaces,
    share: &Share,
) -> Result<(SetId, Shared), Error> {
    let info = &share.info;
    let own = inner
        .create(&spaces.beside(info.id)?, info.logs, info.config)
        .await?;
    let cut = |index| async move {
        let log = info.id.log(index);
        let goes_on = inner.bounds(log).await?.end;
        let upto = match share.upto {
            Some(Timestamp(last)) => inner.offset_at(log, Timestamp(last + 1)).await?,
            None => goes_on,
        };
        Ok::<_, Error>(Arc::new(Cut::new(upto.min(goes_on), goes_on)))
    };
    let cuts = try_join_all((0..info.logs).map(cut)).await?;
    let name = info.name.clone();
    Ok((info.id, Shared { name, own, cuts }))
}

impl Spaces {
    fn prefix(&self) -> String {
        format!("{}/", self.own)
    }

    fn cuts(&self) -> Result<SetName, Error> {
        set_name(format!("{}{}", self.own, Fork::MARK))
    }

    /// The fork's own side of a shared set.
    fn beside(&self, set: SetId) -> Result<SetName, Error> {
        set_name(format!("{}/$of/{set}", self.own))
    }

    /// The name that is shown for a set that is only the fork's; none for those beside.
    fn shown(&self, own: &SetName) -> Option<SetName> {
        let rest = own.as_str().strip_prefix(&self.prefix())?;
        let is_beside = rest == "$fork" || rest.starts_with("$of/");
        let shown = || SetName::new(format!("{}/{rest}", self.shown)).ok();
        (!is_beside).then(shown).flatten()
    }

    fn own(&self, shown: &SetName) -> Result<SetName, Error> {
        let rest = shown.as_str().strip_prefix(&self.shown);
        let rest = rest.and_then(|rest| rest.strip_prefix('/'));
        let elsewhere = || {
            let message = format!(
                "{shown} is not of the namespace {} of this fork",
                self.shown
            );
            Error::NotDone(message)
        };
        set_name(format!("{}/{}", self.own, rest.ok_or_else(elsewhere)?))
    }
}

fn set_name(name: String) -> Result<SetName, Error> {
    SetName::new(name).map_err(|invalid| Error::NotDone(invalid.to_string()))
}

fn failed<T: Send + 'static>(error: Error) -> Answer<T> {
    Box::pin(std::future::ready(Err(error)))
}

impl Engine for Fork {
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId> {
        let found = {
            let known = self.read_known();
            let found = known.shared.iter().find(|(_, s)| s.name == *name);
            found.map(|(set, shared)| (*set, shared.own))
        };
        let own = match self.spaces.own(name) {
            Ok(own) => own,
            Err(error) => return failed(error),
        };
        let (fork, name) = (self.clone(), name.clone());
        Box::pin(async move {
            if let Some((set, own)) = found {
                let listed = fork.inner.list(&fork.spaces.prefix()).await?;
                let there = listed.iter().find(|info| info.id == own);
                let there = there.ok_or(Error::Gone)?;
                let asked = (logs, config.owned);
                engine::same_set(&name, (there.logs as usize, there.config.owned), asked)?;
                return Ok(set);
            }
            let set = fork.inner.create(&own, logs, config).await?;
            fork.write_known().own.insert(set);
            Ok(set)
        })
    }

    fn alter(&self, set: SetId, change: Change) -> Answer<()> {
        match self.own_set(set) {
            Ok(own) => self.inner.alter(own, change),
            Err(error) => failed(error),
        }
    }

    fn delete(&self, set: SetId) -> Answer<()> {
        let own = match self.own_set(set) {
            Ok(own) => own,
            Err(error) => return failed(error),
        };
        let fork = self.clone();
        let gone = self.inner.delete(own);
        Box::pin(async move {
            gone.await?;
            let mut known = fork.write_known();
            known.shared.remove(&set);
            known.own.remove(&set);
            Ok(())
        })
    }

    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>> {
        let (fork, prefix) = (self.clone(), prefix.to_owned());
        let listed = self.inner.list(&self.spaces.prefix());
        Box::pin(async move {
            let listed = listed.await?;
            let mut shown = Vec::new();
            let known = fork.read_known();
            let shared: HashMap<SetId, _> =
                known.shared.iter().map(|(k, s)| (s.own, (k, s))).collect();
            for info in listed {
                let (id, name) = match shared.get(&info.id) {
                    Some((set, shared)) => (**set, Some(shared.name.clone())),
                    None => (info.id, fork.spaces.shown(&info.name)),
                };
                let name = name.filter(|name| name.as_str().starts_with(&prefix));
                shown.extend(name.map(|name| SetInfo { name, id, ..info }));
            }
            shown.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(shown)
        })
    }

    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>> {
        let places: Result<Vec<_>, _> = batches.iter().map(|(log, _)| self.place(*log)).collect();
        let fences: Result<Vec<_>, _> = fences.iter().map(|f| self.fence_below(f)).collect();
        let (places, fences) = match (places, fences) {
            (Ok(places), Ok(fences)) => (places, fences),
            (Err(error), _) | (_, Err(error)) => return failed(error),
        };
        let logs = places.iter().map(|place| place.above);
        let batches = logs.zip(batches).map(|(log, (_, batch))| (log, batch));
        let appended = self.inner.append(&fences, batches.collect());
        Box::pin(async move {
            let appended = appended.await?.into_iter().zip(&places);
            Ok(appended
                .map(|(appended, place)| Appended {
                    base: place.up(appended.base),
                    last: place.up(appended.last),
                })
                .collect())
        })
    }

    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk> {
        match self.place(log) {
            Ok(place) => Box::pin(place.read(Arc::clone(&self.inner), from, limit)),
            Err(error) => failed(error),
        }
    }

    fn bounds(&self, log: LogId) -> Answer<Bounds> {
        match self.place(log) {
            Ok(place) => Box::pin(place.bounds(Arc::clone(&self.inner))),
            Err(error) => failed(error),
        }
    }

    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset> {
        let place = match self.place(log) {
            Ok(place) => place,
            Err(error) => return failed(error),
        };
        if seen < place.goes_on() {
            let bounds = place.bounds(Arc::clone(&self.inner));
            return Box::pin(async move { Ok(bounds.await?.end) });
        }
        let grown = self.inner.watch(place.above, place.down(seen));
        Box::pin(async move { Ok(place.up(grown.await?)) })
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset> {
        match self.place(log) {
            Ok(place) => Box::pin(place.offset_at(Arc::clone(&self.inner), time)),
            Err(error) => failed(error),
        }
    }

    fn trim(&self, log: LogId, before: Offset) -> Answer<()> {
        let place = match self.place(log) {
            Ok(place) => place,
            Err(error) => return failed(error),
        };
        let (inner, told) = (Arc::clone(&self.inner), self.told);
        Box::pin(async move {
            let end = place.clone().bounds(Arc::clone(&inner)).await?.end;
            let before = before.min(end);
            if let Some(cut) = &place.cut
                && cut.trim(before)
            {
                let line = Told::Trimmed(place.below, before.min(cut.goes_on));
                told::write(&*inner, told, &[line]).await?;
            }
            match before > place.goes_on() || place.cut.is_none() {
                true => inner.trim(place.above, place.down(before)).await,
                false => Ok(()),
            }
        })
    }

    fn claim(&self, log: LogId) -> Answer<Fence> {
        let place = match self.place(log) {
            Ok(place) => place,
            Err(error) => return failed(error),
        };
        let fence = self.inner.claim(place.above);
        Box::pin(async move {
            let fence = fence.await?;
            Ok(Fence {
                log,
                at: place.up(fence.at),
                ..fence
            })
        })
    }

    fn appends_together(&self) -> bool {
        self.inner.appends_together()
    }

    fn takes_name(&self, name: &SetName) -> bool {
        let own = self.spaces.own(name);
        own.is_ok_and(|own| self.inner.takes_name(&own))
    }

    fn room(&self) -> Room {
        self.inner.room()
    }
}
