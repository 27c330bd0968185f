//! The writer's part in letting files go: the record after which they are not needed.

use std::sync::Arc;

use super::{Draft, OVERHEAD_BYTES, Stopped, Writer};
use crate::catalogue::PACK_BYTES;
use crate::commit::BLOCK;

impl Writer {
    /// Deletes files in which nothing is live: first a snapshot of the catalogue, so that
    /// no record in them is needed any more and their absence is no damage. While
    /// a log is damaged all stays: an operator may want to look.
    pub(super) fn drop_dead_files(&mut self) -> Result<bool, Stopped> {
        let current = self.current.header.number;
        let dead = self.shared.index().dead_files(current);
        if dead.is_empty() || self.is_damaged() {
            return Ok(false);
        }
        let shared = Arc::clone(&self.shared);
        let Some(_removing) = shared.pins.try_remove() else {
            return Ok(false);
        };
        if !self.make_snapshot_room()? {
            return Ok(false);
        }
        for name in &dead {
            self.catalogue.packs.remove(&name.number());
        }
        self.write_snapshot()?;
        for name in dead {
            self.shared.index().remove_file(name.number());
            self.shared.handles.close(name);
            let removed = self.disk.remove(&name.to_string());
            removed.map_err(Stopped::at("remove a file"))?;
        }
        self.disk
            .sync_dir()
            .map_err(Stopped::at("sync the directory"))?;
        // There is room again: the next refusal would be a guess.
        self.refusals = 0;
        self.spares.look();
        Ok(true)
    }

    /// Makes a pack count, and its sources count no more.
    pub(super) fn name_pack(&mut self) -> Result<bool, Stopped> {
        let Some(pack) = self.shared.retirement.take_written() else {
            return Ok(false);
        };
        if self.is_damaged() {
            self.shared.retirement.decide(pack, false);
            return Ok(true);
        }
        if !self.make_snapshot_room()? {
            self.shared.retirement.put_back(pack);
            return Ok(false);
        }
        for source in &pack.sources {
            self.catalogue.packs.remove(source);
        }
        self.catalogue.packs.insert(pack.number, pack.crc);
        self.write_snapshot()?;
        self.shared.retirement.decide(pack, true);
        Ok(true)
    }

    /// False while the disk is full.
    fn make_snapshot_room(&mut self) -> Result<bool, Stopped> {
        while self.snapshot_room_bytes() > self.remaining() {
            if !self.has_spare()? {
                return Ok(false);
            }
            self.next_file()?;
        }
        Ok(true)
    }

    /// What a snapshot takes, and the commit that proves it.
    pub(super) fn snapshot_room_bytes(&self) -> usize {
        self.catalogue.snapshot_bytes() + PACK_BYTES + OVERHEAD_BYTES + 2 * BLOCK
    }

    /// After it files may go that held what is in it. So it is not left to be the last commit, where
    /// rot would pass for a torn write: the one behind it proves that it was synced.
    fn write_snapshot(&mut self) -> Result<(), Stopped> {
        self.catalogue.next_file = self.spares.next_number();
        let mut draft = Draft {
            records: self.catalogue.snapshot(),
            ..Draft::default()
        };
        self.write(&mut draft)?;
        self.write(&mut Draft::default())
    }

    fn is_damaged(&self) -> bool {
        self.catalogue.corrupt.is_some()
            || self
                .catalogue
                .heads()
                .any(|(_, head)| head.corrupt.is_some())
    }
}
