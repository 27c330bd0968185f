//! Many worlds, on every core: each thread has one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::check::{Law, Violation};

/// Runs `one` for every number below `count` until something is found; the lowest finding, and how many ran.
pub fn first<T: Send>(
    threads: usize,
    numbers: std::ops::Range<u64>,
    one: impl Fn(u64) -> Option<T> + Sync,
) -> (Option<(u64, T)>, u64) {
    let next = AtomicU64::new(numbers.start);
    let ran = AtomicU64::new(0);
    let found: Mutex<Option<(u64, T)>> = Mutex::new(None);
    let is_past = |number: u64| {
        let found = found.lock().expect("no panic while it is held");
        found.as_ref().is_some_and(|(lowest, _)| *lowest < number)
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, SeqCst);
                    if number >= numbers.end || is_past(number) {
                        return;
                    }
                    let result = one(number);
                    ran.fetch_add(1, SeqCst);
                    if let Some(result) = result {
                        let mut found = found.lock().expect("no panic while it is held");
                        if found.as_ref().is_none_or(|(lowest, _)| *lowest > number) {
                            *found = Some((number, result));
                        }
                    }
                }
            });
        }
    });
    (
        found.into_inner().expect("no panic while it is held"),
        ran.into_inner(),
    )
}

/// What a world gives, or its panic as a violation.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Violation {
            law: Law::Panicked,
            at: usize::MAX,
            detail: text.unwrap_or_default(),
        }
    })
}
