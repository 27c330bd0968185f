//! A log that was closed in order says so beside the WAL: its last commit once more, in the file `closed`.
//!
//! What is missing at the end of the WAL looks like what was never written, and a commit that nothing proves
//! synced may be cut (see `recovery`). The last commit proves what is before it, unless it is missing too: a
//! file that is cut short or gone takes both. Hence a proof that lies elsewhere.
//!
//! It is never removed. What was synced once stays true, so that a later life, whose end lies behind it,
//! need not touch it before the next closing; what it named that is not there any more has retired.

use std::io;

use crate::OpenError;
use crate::commit::{BLOCK, Header};
use crate::disk::Disk;
use crate::files;
use crate::planted::{Planted, planted};

const NAME: &str = "closed";

/// What it is called until it is whole; one that a crash left behind is removed.
pub(crate) const UNFINISHED: &str = "closed.new";

/// Writes down the last commit, an empty one. Durable on return.
pub(crate) fn write(disk: &dyn Disk, mut last: Header) -> io::Result<()> {
    let file = disk.create(UNFINISHED)?;
    file.write_at(&last.encode(&[]), 0)?;
    file.sync_data()?;
    disk.rename(UNFINISHED, NAME)?;
    disk.sync_dir()
}

/// The last commit of the last life that was closed. Without it, or where it cannot be understood,
/// nothing is known, as after a kill.
pub(crate) fn read(disk: &dyn Disk, names: &[String]) -> Result<Option<Header>, OpenError> {
    if planted(Planted::ForgetClosing) || !names.iter().any(|name| name == NAME) {
        return Ok(None);
    }
    let read = || -> io::Result<_> {
        let mut block = [0; BLOCK];
        files::read_padded(&*disk.open(NAME)?, &mut block, 0)?;
        Ok(block)
    };
    let block = read().map_err(OpenError::io(format!("read {NAME}")))?;
    Ok(Header::decode_anywhere(&block))
}
