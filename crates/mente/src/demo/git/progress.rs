//! A line now and then on standard error, so that somebody who waits sees that it goes on.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Progress {
    last: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            eprintln!("git: {}", line());
        }
    }
}
