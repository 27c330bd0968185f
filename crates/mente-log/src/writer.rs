//! The one value that writes. A turn: take what was called, decide it in order, one commit,
//! one sync, then readers see it and callers hear of it.

mod close;
mod decide;
mod retire;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use mente_engine::{Error, Offset, Takes, Timestamp};

use crate::Options;
use crate::catalogue::{self, Catalogue, Record};
use crate::commit::{BLOCK, Header, Staged};
use crate::disk::Disk;
use crate::embedded::Shared;
use crate::files::{FileName, Preparer, Spares, WalFile, is_full};
use crate::planted::{Planted, planted};
use crate::queue::Call;
use crate::recovery::{OpenLog, Recovered};
use crate::retire::Packer;
use crate::run::Position;

/// What a commit has beyond the weight of its calls: its header and the catalogue's batch.
const OVERHEAD_BYTES: usize = 512;
/// A disk that says it has room and gave none is tried again after so many refusals: to try is to
/// write a file of zeros.
const REFUSALS_PER_TRY: u32 = 64;

/// Drive it with [`Writer::turn`]. Dropping it stops the log.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    options: Options,
    spares: Arc<Spares>,
    catalogue: Catalogue,
    current: WalFile,
    /// Where the next commit goes.
    at: u32,
    /// Of the last commit.
    sequence: u64,
    durable_upto: Position,
    /// Calls that the last turn took.
    calls: usize,
    /// What there is room for in this turn.
    takes: Takes,
    /// A set has another retention since it was last enforced.
    has_new_retention: bool,
    /// Calls refused since the disk gave no room; 0 while it does.
    refusals: u32,
    recovered: Recovered,
    stopped: Option<Stopped>,
}

/// The disk failed under a commit. Nothing is tried again: what is on it is unknown until the
/// log is opened anew. Exit non-zero.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log has stopped: cannot {what}: {why}")]
pub struct Stopped {
    pub what: &'static str,
    pub why: String,
}

impl Stopped {
    fn at(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self {
            what,
            why: error.to_string(),
        }
    }
}

/// Tells one caller the outcome, if the commit that it rests on is there.
type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A commit in the making.
#[derive(Default)]
struct Draft {
    staged: Vec<Staged>,
    records: Vec<Record>,
    replies: Vec<Reply>,
}

/// What can be written now.
enum Room {
    Bytes(usize),
    /// So much of what lets go of data, and nothing else.
    ToLetGo(usize),
    Full,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        options: Options,
        log: OpenLog,
    ) -> Self {
        shared.index().set_durable_end(Position {
            file: log.current.header.number,
            at: log.at,
        });
        let mut writer = Self {
            shared,
            disk,
            options,
            spares: log.spares,
            catalogue: log.catalogue,
            current: log.current,
            at: log.at,
            sequence: log.sequence,
            durable_upto: log.durable_upto,
            calls: 0,
            takes: Takes::Everything,
            has_new_retention: false,
            refusals: 0,
            recovered: log.recovered,
            stopped: None,
        };
        writer.move_to(log.at);
        writer
    }

    /// What the opening found.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// A value that makes files ahead of time; see there.
    pub fn preparer(&self) -> Preparer {
        Preparer::new(self.spares.clone())
    }

    /// A value that retires old files; see there.
    pub fn packer(&self) -> Packer {
        Packer::new(
            self.shared.clone(),
            self.disk.clone(),
            self.spares.clone(),
            self.options.clone(),
        )
    }

    /// Whether a [`Packer`] has to finish a retirement now. To begin one it must be turned
    /// from time to time anyway.
    pub fn wants_packer(&self) -> bool {
        self.shared.retirement.is_decided()
    }

    /// Whether a [`Preparer`] should be driven now.
    pub fn wants_file(&self) -> bool {
        self.spares.is_wanting()
    }

    /// Whether a set has another retention, so that [`Writer::enforce`] should be called now.
    pub fn wants_to_enforce(&self) -> bool {
        self.has_new_retention
    }

    /// One commit of what waits; false if nothing does. After an error every later turn gives
    /// it again, and so does every call.
    pub fn turn(&mut self) -> Result<bool, Stopped> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        self.step().inspect_err(|stopped| {
            self.stopped = Some(stopped.clone());
            self.shared.queue.stop(&stopped.to_string());
        })
    }

    /// Whether callers come one by one, and the next turn is a commit and no more. Then who waits for it had
    /// better drive it, which saves two switches of threads; callers that come together make larger commits if
    /// another thread is woken for them.
    pub fn is_light(&self) -> bool {
        let has_room = self.remaining() > self.options.commit_bytes + self.held_back_bytes();
        let is_busy = self.shared.retirement.is_written() || self.shared.index().has_news();
        let is_busy = is_busy || self.takes < Takes::Everything;
        self.calls <= 1 && (has_room || self.spares.is_ready()) && !is_busy
    }

    /// Queues the trims that the sets' retention asks for at `now`; the next turns do them.
    pub fn enforce(&mut self, now: Timestamp) {
        self.has_new_retention = false;
        let expired = self.shared.index().expired(now);
        for (log, before) in expired {
            // Nobody waits for the answer, and what is refused now is asked for again.
            let (reply, _) = oneshot::channel();
            let _ = self.shared.queue.push(Call::Trim { log, before, reply });
        }
    }

    /// Ends the log in order: a last, empty commit, and a copy of it in a file of its own, say that
    /// everything before it was synced, so that later damage to the last data is told from a torn
    /// write.
    pub fn close(mut self) -> Result<(), Stopped> {
        while self.turn()? {}
        self.shared.queue.stop("the log is closed");
        if self.remaining() < BLOCK {
            if !self.has_spare()? {
                return Ok(());
            }
            self.next_file()?;
        }
        self.write(&mut Draft::default())?;
        self.tell_closed()
    }

    fn step(&mut self) -> Result<bool, Stopped> {
        if self.drop_dead_files()? || self.name_pack()? {
            return Ok(true);
        }
        self.look()?;
        let Some((bytes, needs)) = self.shared.queue.peek() else {
            return Ok(false);
        };
        let queue = &Arc::clone(&self.shared).queue;
        let calls = match self.make_room(bytes, needs)? {
            Room::Bytes(room) => queue.take(room, Takes::Everything),
            Room::ToLetGo(room) => queue.take(room, Takes::Nothing),
            Room::Full => {
                let refused = queue.take(bytes, Takes::Everything);
                refused.into_iter().for_each(|call| self.refuse_full(call));
                return Ok(true);
            }
        };
        self.calls = calls.len();
        let mut draft = Draft::default();
        for call in calls {
            self.decide(call, &mut draft);
        }
        // Refusals rest on what was decided before them in the same turn: they wait as well.
        let written = if draft.is_empty() {
            Ok(())
        } else {
            self.write(&mut draft)
        };
        let outcome = match &written {
            Ok(()) => Ok(()),
            Err(stopped) => Err(Error::Unknown(stopped.to_string())),
        };
        if written.is_ok() {
            // Before anybody is answered and asks what there is room for.
            self.look()?;
        }
        draft
            .replies
            .into_iter()
            .for_each(|reply| reply(outcome.clone()));
        written.map(|()| true)
    }

    fn remaining(&self) -> usize {
        (self.current.header.file_bytes - self.at) as usize
    }

    /// What nobody may take of the last file, while there is no next one, but trims and deletions: they
    /// must still find room to be written down.
    fn held_back_bytes(&self) -> usize {
        self.options.file_bytes as usize / 4 + 2 * BLOCK
    }

    /// Sees what there is room for; while that is everything, it costs nothing. Near the end of a file
    /// the next one is asked for while what owners have called still fits: a refusal under a fence
    /// ends it.
    fn look(&mut self) -> Result<(), Stopped> {
        if self.shared.space.takes() < Takes::Everything {
            self.spares.look();
        }
        // Not while somebody is at it: that would wait for the zeros.
        let is_due = self.is_tail_short() || self.shared.space.is_denied();
        if is_due && self.spares.is_wanting() {
            self.has_spare()?;
        }
        self.takes = self.shared.space.takes();
        Ok(())
    }

    /// What needs everything comes from outside; it is refused before there is no room at all.
    fn is_refused(&self, needs: Takes) -> bool {
        needs == Takes::Everything && self.takes < needs
    }

    /// Sees to it that a call of this weight fits, in the next file if need be.
    fn make_room(&mut self, bytes: usize, needs: Takes) -> Result<Room, Stopped> {
        if self.is_refused(needs) {
            return Ok(Room::Full);
        }
        let needed = bytes + OVERHEAD_BYTES;
        let is_near_end = self.remaining() < needed + self.held_back_bytes();
        if is_near_end && !self.has_spare()? {
            // Files that it lets go of are deleted after a snapshot, for which room is left: whole blocks, as
            // a commit takes.
            let left = self.remaining().saturating_sub(self.snapshot_room_bytes());
            let left = left / BLOCK * BLOCK;
            return Ok(if needs > Takes::Nothing || needed > left {
                Room::Full
            } else {
                Room::ToLetGo(left - OVERHEAD_BYTES)
            });
        }
        // With a file in reserve all of this one may go; else what is held back stays free of the
        // calls behind the first one, too.
        let mut held_back = if is_near_end {
            0
        } else {
            self.held_back_bytes()
        };
        // More than once, if files made ahead by an earlier opening are smaller.
        while needed > self.remaining() {
            if !self.has_spare()? {
                return Ok(Room::Full);
            }
            self.next_file()?;
            held_back = self.held_back_bytes();
        }
        let room = (self.remaining() - OVERHEAD_BYTES).saturating_sub(held_back);
        let most = self.options.commit_bytes.min(room);
        Ok(Room::Bytes(most.max(bytes)))
    }

    /// Whether a next file is there, or can be made.
    fn has_spare(&mut self) -> Result<bool, Stopped> {
        if self.spares.is_ready() {
            self.refusals = 0;
            return Ok(true);
        }
        if !self.refusals.is_multiple_of(REFUSALS_PER_TRY) {
            self.refusals += 1;
            return Ok(false);
        }
        match self.spares.ensure() {
            Ok(()) => {
                self.refusals = 0;
                Ok(true)
            }
            Err(error) if is_full(&error) => {
                self.refusals += u32::from(self.shared.space.is_denied());
                Ok(false)
            }
            Err(error) => Err(Stopped::at("make the next WAL file")(error)),
        }
    }

    fn next_file(&mut self) -> Result<(), Stopped> {
        let next = self
            .spares
            .take()
            .map_err(Stopped::at("make the next WAL file"))?;
        let name = FileName::Wal(next.header.number);
        let bytes = u64::from(next.header.file_bytes);
        self.shared.index().add_file(name, bytes);
        self.current = next;
        self.move_to(BLOCK as u32);
        Ok(())
    }

    /// Writes and syncs the draft as one commit, then shows it to readers.
    fn write(&mut self, draft: &mut Draft) -> Result<(), Stopped> {
        if !draft.records.is_empty() {
            let batch = catalogue::batch(&draft.records);
            let base = self.catalogue.end;
            self.catalogue.end = Offset(base.0 + u64::from(batch.offset_span()));
            draft.staged.push(Staged {
                log: catalogue::LOG,
                is_term: false,
                base,
                batch,
            });
        }
        let mut header = Header {
            salt: self.current.header.salt,
            position: self.position(),
            sequence: self.sequence + 1,
            durable_upto: self.durable_upto,
            catalogue_end: self.catalogue.known_end(),
            body_bytes: 0,
            body_crc: 0,
            entries: Vec::new(),
        };
        // Stable: inside a log the order is that of the calls.
        draft.staged.sort_by_key(|staged| staged.log);
        let bytes = header.encode(&draft.staged);
        let file = &self.current.file;
        let written = file.write_at(&bytes, u64::from(self.at));
        if !planted(Planted::SwallowShortWrite) {
            written.map_err(Stopped::at("write a commit"))?;
        }
        if planted(Planted::ShowUndurable) {
            self.publish(&header, bytes.clone(), &draft.records);
        }
        if !planted(Planted::AckBeforeSync) {
            let mut synced = file.sync_data();
            if planted(Planted::RetryFailedSync) {
                synced = synced.or_else(|_| file.sync_data());
            }
            synced.map_err(Stopped::at("sync a commit"))?;
        }
        self.move_to(header.end().at);
        self.sequence = header.sequence;
        self.durable_upto = self.position();
        if !planted(Planted::ShowUndurable) {
            self.publish(&header, bytes, &draft.records);
        }
        Ok(())
    }

    fn move_to(&mut self, at: u32) {
        self.at = at;
        self.spares.set_used(at);
        self.shared.space.set_tail_short(self.is_tail_short());
    }

    fn is_tail_short(&self) -> bool {
        self.remaining() < self.held_back_bytes() * 3 / 2
    }

    fn position(&self) -> Position {
        Position {
            file: self.current.header.number,
            at: self.at,
        }
    }

    fn publish(&self, header: &Header, bytes: Bytes, records: &[Record]) {
        let mut index = self.shared.index();
        // A snapshot repeats what the index knows already.
        if !matches!(records.first(), Some(Record::Start { .. })) {
            records.iter().for_each(|record| index.apply(record));
        }
        index.remember(header.position, bytes);
        index.set_durable_end(header.end());
        for (entry, run) in header.placed() {
            index.push(entry.log, run);
        }
        for entry in &header.entries {
            index.wake_watchers(entry.log);
        }
    }
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.records.is_empty()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.stop("the log is closed");
        self.shared.handles.let_go();
    }
}
