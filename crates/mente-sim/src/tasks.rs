//! Futures on one thread, polled one at a time in an order that somebody draws.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Wake, Waker};

use crate::random::Random;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub(crate) struct Tasks(Mutex<Vec<Slot>>);

struct Slot {
    /// Away while it is polled; for ever once it is done.
    task: Option<Task>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.0.lock().expect("no panic while tasks are held")
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lock().push(Slot {
            task: Some(Box::pin(task)),
            woken: Arc::new(Woken(AtomicBool::new(true))),
        });
    }

    /// Polls one of those that were woken; false if none was.
    pub(crate) fn poll_one(&self, random: &mut Random) -> bool {
        let mut slots = self.lock();
        let ready = |slot: &Slot| slot.task.is_some() && slot.woken.0.load(SeqCst);
        let count = slots.iter().filter(|slot| ready(slot)).count();
        if count == 0 {
            return false;
        }
        let nth = random.below(count as u64) as usize;
        let at = (0..slots.len()).filter(|at| ready(&slots[*at])).nth(nth);
        let Some(at) = at else { return false };
        slots[at].woken.0.store(false, SeqCst);
        let waker = Waker::from(slots[at].woken.clone());
        let Some(mut task) = slots[at].task.take() else {
            return false;
        };
        // Not under the lock: it may spawn others.
        drop(slots);
        if task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
            && let Some(slot) = self.lock().get_mut(at)
        {
            slot.task = Some(task);
        }
        true
    }

    /// The process ends.
    pub(crate) fn clear(&self) {
        let slots = std::mem::take(&mut *self.lock());
        drop(slots);
    }
}
