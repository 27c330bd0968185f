//! Tells built-in receivers that subscriptions came or went, without their asking again and again.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::oneshot;

/// Counts its rings; cheap to clone, clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rings: u64,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Bell {
    pub fn rings(&self) -> u64 {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rings
    }

    /// Resolves once it has rung more than `seen` times.
    pub fn after(&self, seen: u64) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (wake, woken) = oneshot::channel();
        state.waiting.retain(|waiter| !waiter.is_canceled());
        if state.rings <= seen {
            state.waiting.push(wake);
        }
        async {
            // Rung, or rung already: both end the wait.
            let _ = woken.await;
        }
    }

    pub(crate) fn ring(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rings += 1;
        for waiter in state.waiting.drain(..) {
            let _ = waiter.send(());
        }
    }
}
