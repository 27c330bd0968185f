//! The handle that everybody holds: calls go into the queue, reads go to the index.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures::channel::oneshot;
use mente_engine::engine::Change;
use mente_engine::{
    Answer, Appended, Batch, Bounds, Chunk, Engine, Error, Fence, Limit, LogConfig, LogId, Offset,
    Room, SetId, SetInfo, SetName, Timestamp, limits,
};

use crate::backup::Pins;
use crate::disk::Disk;
use crate::handles::Handles;
use crate::index::Index;
use crate::queue::{Call, Queue, Reply, append_bytes};
use crate::read::{Failed, Read};
use crate::retire::Retirement;
use crate::space::Space;
use crate::writer::Writer;
use crate::{OpenError, Options, recovery};

/// The engine. Cheap to clone; clones share the log. What it answers depends on somebody
/// driving the [`Writer`].
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

/// A file that is gone when a reader opens it was retired after the read was planned: so often
/// it is planned again.
const TRIES: u32 = 8;

/// What the handles and the writer share.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    index: Mutex<Index>,
    pub(crate) handles: Arc<Handles>,
    pub(crate) retirement: Retirement,
    pub(crate) pins: Arc<Pins>,
    pub(crate) space: Arc<Space>,
    batch_bytes_max: usize,
    append_bytes_max: usize,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// A call on its way. Nobody is woken for it before somebody waits for its answer or gives it up: several
/// calls that are made before the first wait are one commit.
struct Called<T> {
    answer: oneshot::Receiver<Result<T, Error>>,
    /// Until the writer's driver was woken.
    shared: Option<Arc<Shared>>,
}

/// Opens the log on `disk`, after whatever happened to it. `wake` is called when the writer has something
/// to do, on the thread of who waits for it, which holds nothing of the log: it may turn the writer itself.
pub fn open(
    disk: Arc<dyn Disk>,
    options: Options,
    wake: Arc<dyn Fn() + Send + Sync>,
) -> Result<(Embedded, Writer), OpenError> {
    crate::files::check_file_bytes(options.file_bytes).map_err(OpenError::Options)?;
    let handles = Arc::new(Handles::new(disk.clone(), options.open_files));
    let opened = recovery::recover(&disk, &handles, &options)?;
    // A quarter of a file is the most one call may weigh, so that little of a file is wasted.
    let append_bytes_max = options.file_bytes as usize / 4;
    let shared = Arc::new(Shared {
        queue: Queue::new(options.queue_bytes),
        index: Mutex::new(opened.index),
        handles,
        retirement: Retirement::default(),
        pins: Arc::default(),
        space: opened.log.spares.space().clone(),
        batch_bytes_max: batch_bytes_max(&options),
        append_bytes_max,
        wake,
    });
    let embedded = Embedded {
        shared: shared.clone(),
    };
    Ok((embedded, Writer::new(shared, disk, options, opened.log)))
}

/// Largest batch that files of this size take.
pub(crate) fn batch_bytes_max(options: &Options) -> usize {
    limits::BATCH_BYTES.min(options.file_bytes as usize / 4 - 4096)
}

impl Embedded {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().expect("no panic while the index is held")
    }

    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    fn call<T: Send + 'static>(self: &Arc<Self>, make: impl FnOnce(Reply<T>) -> Call) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        if let Err(error) = self.queue.push(make(reply)) {
            return done(Err(error));
        }
        let shared = Some(Arc::clone(self));
        Box::pin(Called { answer, shared })
    }

    /// What no commit can hold is refused before it takes a place.
    fn check_size(&self, batches: &[(LogId, Batch)]) -> Result<(), Error> {
        let largest = batches.iter().map(|(_, batch)| batch.size()).max();
        let sizes = [
            (largest.unwrap_or(0), self.batch_bytes_max),
            (append_bytes(batches), self.append_bytes_max),
        ];
        match sizes.into_iter().find(|(size, limit)| size > limit) {
            Some((size, limit)) => Err(Error::TooBig { size, limit }),
            None => Ok(()),
        }
    }

    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Result<Chunk, Error> {
        let mut tries = TRIES;
        loop {
            let plan = self.index().plan(log, from, limit)?;
            let Read {
                chunk,
                failed,
                fetched,
            } = plan.carry_out(&self.handles, limit);
            if !fetched.is_empty() {
                self.index().keep_fetched(fetched);
            }
            match failed {
                Some(Failed::Moved) if tries > 1 => tries -= 1,
                Some(failed) => {
                    self.report(&failed);
                    let serves_some = matches!(failed, Failed::Rot(_)) && !chunk.batches.is_empty();
                    return if serves_some {
                        Ok(chunk)
                    } else {
                        Err(failed.to_error())
                    };
                }
                None if chunk.batches.is_empty() => {
                    return plan.corrupt.map_or(Ok(chunk), |at| Err(Error::Corrupt(at)));
                }
                None => return Ok(chunk),
            }
        }
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Result<Offset, Error> {
        let (mut from, mut tries) = (Offset(0), TRIES);
        loop {
            let step = match self.index().time_step(log, time, from)? {
                Ok(step) => step,
                Err(answer) => return Ok(answer),
            };
            match step.carry_out(&self.handles, log, time) {
                Ok(Some(found)) => return Ok(found),
                // What made the run worth looking at was trimmed.
                Ok(None) => from = step.step.run.end(),
                Err(Failed::Moved) if tries > 1 => tries -= 1,
                Err(failed) => {
                    self.report(&failed);
                    return Err(failed.to_error());
                }
            }
        }
    }

    /// Lets the writer note damage that nobody knew of.
    pub(crate) fn report(&self, failed: &Failed) {
        if let Failed::Rot(rot) = failed
            && self.index().mark_corrupt(rot)
        {
            self.queue.report(rot.log, rot.at);
            (self.wake)();
        }
    }
}

impl<T> Called<T> {
    fn wake(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.wake();
        }
    }
}

impl<T> Future for Called<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.wake();
        let stopped = || Error::Unknown("the log stopped before it answered".into());
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(stopped())))
    }
}

impl<T> Drop for Called<T> {
    fn drop(&mut self) {
        self.wake();
    }
}

fn done<T: Send + 'static>(result: Result<T, Error>) -> Answer<T> {
    Box::pin(std::future::ready(result))
}

impl Engine for Embedded {
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId> {
        let name = name.clone();
        self.shared.call(|reply| Call::Create {
            name,
            logs,
            config,
            reply,
        })
    }

    fn alter(&self, set: SetId, change: Change) -> Answer<()> {
        self.shared.call(|reply| Call::Alter { set, change, reply })
    }

    fn delete(&self, set: SetId) -> Answer<()> {
        self.shared.call(|reply| Call::Delete { set, reply })
    }

    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>> {
        done(Ok(self.shared.index().list(prefix)))
    }

    fn appends_together(&self) -> bool {
        true
    }

    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>> {
        if let Err(too_big) = self.shared.check_size(&batches) {
            let fenced = self.shared.queue.refuse(fences);
            return done(Err(fenced.err().unwrap_or(too_big)));
        }
        let fences = fences.to_vec();
        self.shared.call(|reply| Call::Append {
            fences,
            batches,
            reply,
        })
    }

    /// Fetches when first polled, and blocks the polling thread for it unless the batches are
    /// recent: a `pread` or two, from the page cache as a rule, else from the disk.
    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk> {
        let shared = self.shared.clone();
        Box::pin(async move { shared.read(log, from, limit) })
    }

    fn bounds(&self, log: LogId) -> Answer<Bounds> {
        done(self.shared.index().bounds(log))
    }

    fn size(&self, log: LogId, offsets: Range<Offset>) -> Answer<Option<u64>> {
        done(self.shared.index().size(log, &offsets).map(Some))
    }

    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset> {
        let watch = self.shared.index().watch(log, seen);
        watch.unwrap_or_else(|error| done(Err(error)))
    }

    /// Finds the place in memory, then reads 32 KiB around it; blocks for that as `read` does.
    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset> {
        let shared = self.shared.clone();
        Box::pin(async move { shared.offset_at(log, time) })
    }

    fn trim(&self, log: LogId, before: Offset) -> Answer<()> {
        self.shared.call(|reply| Call::Trim { log, before, reply })
    }

    fn claim(&self, log: LogId) -> Answer<Fence> {
        self.shared.call(|reply| Call::Claim { log, reply })
    }

    fn room(&self) -> Room {
        self.shared.space.room()
    }
}
