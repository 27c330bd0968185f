//! The embedded log and the threads that drive it: one writes and syncs, unless who waits does it
//! at once, and asks for what retention says; one looks how much of the disk is left and makes the next
//! file ahead of time; one retires old files.
//!
//! If the disk fails under a commit nobody can tell what is on it, so the process ends at once
//! and the next one reads what is there.

use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::Context;
use mente_engine::{Clock, Engine, Room, Takes};
use mente_log::{Embedded, Packer, Preparer, RealDisk, Stopped, Writer};

use crate::failure::{Code, Failure, Result};

use super::clock::TokioClock;
use super::reserve::Reserve;

/// How often the disk is looked at, and a file made ahead again after that failed; meanwhile the writer
/// does it.
const PREPARE_PAUSE: Duration = Duration::from_secs(1);
/// How often the log is asked whether something should be retired.
const PACK_PAUSE: Duration = Duration::from_secs(1);
/// Wait between two pieces of a retirement, whose syncs the appends feel, and between two of a file that is made ahead.
const PIECE_PAUSE: Duration = Duration::from_micros(2_500);
const PIECE_REST: Duration = Duration::from_millis(1);
/// Wait after a retirement failed, on a full disk as a rule: each try writes.
const PACK_FAILURE_PAUSE: Duration = Duration::from_secs(30);
/// How often retention by age and size is looked at, beside whenever it was changed.
const ENFORCE_PAUSE: Duration = Duration::from_secs(10);

/// An open log and its threads.
pub(crate) struct Driven {
    engine: Embedded,
    is_sound: bool,
    closing: Arc<AtomicBool>,
    writer: JoinHandle<Result<(), Stopped>>,
}

/// Opens the log in `directory` and starts to drive it.
pub(crate) fn open(directory: &Path, reserve: Reserve) -> Result<Driven> {
    let shown = directory.display();
    let disk =
        RealDisk::open(directory).with_context(|| format!("cannot use the directory {shown}"))?;
    let reserve_bytes = reserve.on(directory);
    let options = mente_log::Options {
        reserve_bytes: reserve_bytes.with_context(|| format!("cannot tell the size of {shown}"))?,
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
        piece_rest: PIECE_REST,
        ..mente_log::Options::default()
    };
    let seat: Arc<Seat> = Arc::default();
    let wake = {
        let seat = Arc::clone(&seat);
        Arc::new(move || seat.wake())
    };
    let (engine, writer) = mente_log::open(Arc::new(disk), options, wake)
        .with_context(|| format!("cannot open the data in {shown}"))?;
    tell(&writer);
    let recovered = writer.recovered();
    let is_sound = recovered.lost.is_empty() && recovered.damaged.is_empty();
    let closing = Arc::new(AtomicBool::new(false));
    let preparer = prepare(writer.preparer(), engine.clone(), Arc::clone(&closing))?;
    let packer = pack(writer.packer(), Arc::clone(&closing))?;
    seat.take(writer);
    let drive = {
        let closing = Arc::clone(&closing);
        move || {
            let _ = seat.thread.set(thread::current());
            drive(&seat, &closing, &preparer, &packer)
        }
    };
    let writer = thread::Builder::new().name("mente-log".into()).spawn(drive);
    Ok(Driven {
        engine,
        is_sound,
        closing,
        writer: writer.context("cannot start the thread of the log")?,
    })
}

impl Driven {
    pub(crate) fn engine(&self) -> Embedded {
        self.engine.clone()
    }

    /// Whether the opening found nothing missing and nothing damaged.
    pub(super) fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Syncs and closes; what is called from now on fails.
    pub(crate) fn close(self) -> Result<()> {
        self.closing.store(true, Ordering::Release);
        self.writer.thread().unpark();
        match self.writer.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(stopped)) => Err(Failure::new(Code::Disk, stopped.to_string())),
            Err(_) => Err(Failure::new(Code::Bug, "the thread of the log panicked")),
        }
    }
}

/// Where the writer is driven from: its own thread, or the thread of who waits for a light commit, as long as
/// that keeps no other request waiting: there must be a processor for those.
#[derive(Default)]
struct Seat {
    writer: Mutex<Option<Writer>>,
    /// Known once the thread runs; what is called before that is found by its first turn.
    thread: OnceLock<Thread>,
    has_company: OnceLock<bool>,
}

impl Seat {
    fn take(&self, writer: Writer) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let _ = self.has_company.set(cores > 1);
        *self.lock() = Some(writer);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer
            .lock()
            .expect("the process ends where the writer panics")
    }

    fn wake(&self) {
        if self.has_company.get() == Some(&true)
            && let Ok(mut writer) = self.writer.try_lock()
            && let Some(writer) = writer.as_mut().filter(|writer| writer.is_light())
        {
            let _ = turn(writer);
            if !writer.wants_file() && !writer.wants_packer() && !writer.wants_to_enforce() {
                return;
            }
        }
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// One turn, or the end of the process.
fn turn(writer: &mut Writer) -> bool {
    let end = End;
    let turned = writer.turn().unwrap_or_else(|stopped| {
        tracing::error!(error = %stopped, "the log has stopped; nothing is acknowledged any more");
        process::exit(Code::Disk as i32);
    });
    std::mem::forget(end);
    turned
}

fn drive(
    seat: &Seat,
    closing: &AtomicBool,
    preparer: &Thread,
    packer: &Thread,
) -> Result<(), Stopped> {
    let end = End;
    let clock = TokioClock::new();
    let mut enforced = Instant::now();
    loop {
        let mut writer = seat.lock();
        let Some(driven) = writer.as_mut() else {
            return Ok(());
        };
        if enforced.elapsed() >= ENFORCE_PAUSE || driven.wants_to_enforce() {
            driven.enforce(clock.now().wall);
            enforced = Instant::now();
        }
        let turned = turn(driven);
        if driven.wants_file() {
            preparer.unpark();
        }
        if driven.wants_packer() {
            packer.unpark();
        }
        if turned {
            continue;
        }
        if closing.load(Ordering::Acquire) {
            let closed = writer.take().map_or(Ok(()), Writer::close);
            std::mem::forget(end);
            preparer.unpark();
            packer.unpark();
            return closed;
        }
        drop(writer);
        thread::park_timeout(ENFORCE_PAUSE);
    }
}

/// Ends the process if the thread of the log ends in a panic: without it every call would wait
/// for ever.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        tracing::error!("the thread of the log panicked; report it");
        process::exit(Code::Bug as i32);
    }
}

fn prepare(mut preparer: Preparer, engine: Embedded, closing: Arc<AtomicBool>) -> Result<Thread> {
    let work = move || {
        let mut before = Takes::Everything;
        while !closing.load(Ordering::Acquire) {
            let turned = preparer.turn();
            let room = engine.room();
            if room.takes != before {
                tell_room(&room);
                before = room.takes;
            }
            match turned {
                // Said already, and it lasts.
                Err(error) if room.takes < Takes::Everything => {
                    tracing::debug!(%error, "no file of the log is made ahead");
                }
                Err(error) => tracing::warn!(%error, "no file of the log is made ahead"),
                Ok(_) => {}
            }
            thread::park_timeout(PREPARE_PAUSE);
        }
    };
    let thread = thread::Builder::new()
        .name("mente-log-files".into())
        .spawn(work)
        .context("cannot start the thread that makes files ahead")?;
    Ok(thread.thread().clone())
}

fn pack(mut packer: Packer, closing: Arc<AtomicBool>) -> Result<Thread> {
    let work = move || {
        while !closing.load(Ordering::Acquire) {
            match packer.turn() {
                Ok(true) if packer.is_behind() => {}
                Ok(true) => thread::sleep(PIECE_PAUSE),
                Ok(false) => thread::park_timeout(PACK_PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "old files of the log stay for now");
                    thread::park_timeout(PACK_FAILURE_PAUSE);
                }
            }
        }
    };
    let thread = thread::Builder::new()
        .name("mente-log-packs".into())
        .spawn(work)
        .context("cannot start the thread that retires old files")?;
    Ok(thread.thread().clone())
}

/// Says that room became scarce, or is there again.
fn tell_room(room: &Room) {
    let free_mib = room.free_bytes.unwrap_or(0) >> 20;
    let (reserve_mib, refused) = (room.reserve_bytes >> 20, room.refused);
    match room.takes {
        Takes::Nothing => tracing::error!(
            free_mib,
            "the disk is full and its reserve used up: nothing is decided until there is room"
        ),
        Takes::Decisions => tracing::warn!(
            free_mib,
            reserve_mib,
            "the disk is full but for its reserve: publishing is refused, consumers go on"
        ),
        Takes::Everything => tracing::info!(
            free_mib,
            refused,
            "the disk has room again: publishing goes on"
        ),
    }
}

/// Says what the last process left behind.
fn tell(writer: &Writer) {
    let recovered = writer.recovered();
    tracing::info!(commits = recovered.commits, "log read");
    if let Some((bytes, file)) = &recovered.cut {
        tracing::warn!(
            bytes,
            file,
            "a torn tail was cut off and kept in a file of its own"
        );
    }
    for file in &recovered.lost {
        tracing::error!(
            file,
            "missing or unreadable: logs that need it are read-only"
        );
    }
    for damage in &recovered.damaged {
        let log = damage
            .log
            .map_or("the catalogue".to_owned(), |log| log.to_string());
        tracing::error!(log, offset = %damage.at, "damaged: read-only from this offset on");
    }
}
