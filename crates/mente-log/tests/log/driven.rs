//! Ways to drive a writer in a test.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use mente_log::{Disk, Embedded, MemDisk, OpenError, Options, Packer, RealDisk, Writer};

/// A thread that turns the writer whenever it is woken.
pub(crate) struct Driven {
    pub(crate) engine: Embedded,
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Signal {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let woken = self.woken.lock().unwrap();
        let mut woken = self.changed.wait_while(woken, |woken| !*woken).unwrap();
        *woken = false;
    }
}

impl Driven {
    pub(crate) fn open(dir: &Path, options: Options) -> Self {
        let signal = Arc::new(Signal::default());
        let disk = Arc::new(RealDisk::open(dir).unwrap());
        let wake = {
            let signal = signal.clone();
            Arc::new(move || signal.wake())
        };
        let (engine, mut writer) = mente_log::open(disk, options, wake).unwrap();
        let thread = {
            let signal = signal.clone();
            std::thread::spawn(move || {
                while !signal.stop.load(Ordering::SeqCst) {
                    signal.wait();
                    while writer.turn().unwrap() {}
                }
                writer.close().unwrap();
            })
        };
        Self {
            engine,
            signal,
            thread: Some(thread),
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.signal.stop.store(true, Ordering::SeqCst);
        self.signal.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn small() -> Options {
    Options {
        file_bytes: 64 << 10,
        wal_files: 3,
        seed: 0xfeed,
        ..Options::default()
    }
}

pub(crate) fn try_open(disk: &MemDisk) -> Result<(Embedded, Writer), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    mente_log::open(disk, small(), Arc::new(|| {}))
}

pub(crate) fn open(disk: &MemDisk) -> (Embedded, Writer) {
    try_open(disk).expect("a log always opens")
}

/// A log whose writer and packer take turns on this thread.
pub(crate) struct Cranked {
    pub(crate) engine: Embedded,
    pub(crate) writer: Writer,
    pub(crate) packer: Packer,
}

impl Cranked {
    pub(crate) fn try_open(disk: &MemDisk) -> Result<Self, OpenError> {
        let (engine, writer) = try_open(disk)?;
        let packer = writer.packer();
        Ok(Self {
            engine,
            writer,
            packer,
        })
    }

    pub(crate) fn open(disk: &MemDisk) -> Self {
        Self::try_open(disk).expect("a log always opens")
    }

    /// Turns until nothing is left; false if the power is gone.
    pub(crate) fn turn(&mut self) -> bool {
        loop {
            let Ok(wrote) = self.writer.turn() else {
                return false;
            };
            match self.packer.turn() {
                Ok(packed) if wrote || packed => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The answer after everything is done.
    pub(crate) fn done<F: Future>(&mut self, future: F) -> F::Output {
        assert!(self.turn());
        now(future)
    }
}

/// What a future that needs no waking has to say now.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not answered yet"),
    }
}

/// Turns until nothing is left, then takes the answer.
pub(crate) fn turned<F: Future>(writer: &mut Writer, future: F) -> F::Output {
    while writer.turn().unwrap() {}
    now(future)
}
