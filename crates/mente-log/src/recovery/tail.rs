//! The end of the WAL: what may be cut is cut, what is kept is made durable.

use crate::OpenError;
use crate::commit::{BLOCK, Header};
use crate::disk::Disk;
use crate::files;
use crate::planted::{Planted, planted};
use crate::run::Position;

use super::{Found, Reader};

/// Torn bytes, and the file that keeps them.
type Cut = Option<(u64, String)>;

/// Leaves in `commits` those that stand, and gives the place of the next one.
pub(super) fn settle(
    disk: &dyn Disk,
    found: &[Found],
    commits: &mut Vec<Header>,
    closed: Option<&Header>,
) -> Result<(Cut, Position), OpenError> {
    let reader = Reader(found);
    let proofs = commits.iter().chain(closed);
    let durable_upto = proofs.map(|commit| commit.durable_upto).max();
    let durable_upto = durable_upto.unwrap_or_default();
    let durable_upto = if planted(Planted::TruncateMiddle) {
        Position::default()
    } else {
        durable_upto
    };
    let first_unproven = commits.partition_point(|commit| commit.position < durable_upto);
    let mut kept = first_unproven;
    for at in first_unproven..commits.len() {
        if !stands(
            &reader,
            at.checked_sub(1).map(|before| &commits[before]),
            &commits[at],
        )? {
            break;
        }
        kept += 1;
    }
    commits.truncate(kept);
    // Of all files, so that one whose header is lost is not passed over for an empty one behind it.
    let start = || Position {
        file: found.first().map_or(0, |f| f.number),
        at: BLOCK as u32,
    };
    let tail = commits.last().map_or_else(start, Header::end);
    let cut = cut_from(disk, found, tail)?;
    if planted(Planted::NoResync) {
        return Ok((cut, tail));
    }
    for commit in &commits[first_unproven..] {
        write_again(&reader, commit)?;
    }
    if let Some(file) = reader.file(tail.file) {
        file.file()?
            .sync_data()
            .map_err(OpenError::io("sync the last WAL file"))?;
    }
    Ok((cut, tail))
}

/// Whether a commit that nothing proves durable is whole and joins what is before it.
fn stands(
    reader: &Reader<'_>,
    before: Option<&Header>,
    commit: &Header,
) -> Result<bool, OpenError> {
    let (last, end) = before.map_or((0, Position::default()), |b| (b.sequence, b.end()));
    // A commit that saw more synced than is there now proves a loss, and is no torn write.
    let joins = commit.sequence == last + 1 || commit.durable_upto > end;
    if !joins {
        return Ok(false);
    }
    let bytes = reader.read_commit(commit)?;
    let body = &bytes[commit.header_bytes()..][..commit.body_bytes as usize];
    Ok(crc32c::crc32c(body) == commit.body_crc)
}

/// Saves what lies behind the tail, then makes it zeros, so that no later opening takes a
/// rest of it for a commit.
fn cut_from(disk: &dyn Disk, found: &[Found], tail: Position) -> Result<Cut, OpenError> {
    let mut cut: Cut = None;
    for found in found.iter().filter(|found| found.number >= tail.file) {
        let Some(header) = found.header else { continue };
        let at = if found.number == tail.file {
            tail.at as usize
        } else {
            BLOCK
        };
        let mut rest = vec![0; (header.file_bytes as usize).saturating_sub(at)];
        let (name, file) = (found.name(), found.file()?);
        files::read_padded(&*file, &mut rest, at as u64)
            .map_err(OpenError::io(format!("read {name}")))?;
        let Some(last) = rest.iter().rposition(|byte| *byte != 0) else {
            continue;
        };
        rest.truncate(last + 1);
        let kept = format!("{name}.cut-{at:08x}");
        save(disk, &kept, &rest).map_err(OpenError::io(format!("save {kept}")))?;
        let zeros = vec![0; rest.len()];
        let zeroed = file.write_at(&zeros, at as u64);
        zeroed
            .and_then(|()| file.sync_data())
            .map_err(OpenError::io(format!("cut the tail of {name}")))?;
        cut = Some((cut.map_or(0, |(bytes, _)| bytes) + rest.len() as u64, kept));
    }
    Ok(cut)
}

fn save(disk: &dyn Disk, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let file = disk.create(name)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.sync_dir()
}

/// The same bytes once more: the page cache may hold them as clean though a sync failed.
fn write_again(reader: &Reader<'_>, commit: &Header) -> Result<(), OpenError> {
    let bytes = reader.read_commit(commit)?;
    let Some(found) = reader.file(commit.position.file) else {
        return Ok(());
    };
    let file = found.file()?;
    let written = file.write_at(&bytes, u64::from(commit.position.at));
    written
        .and_then(|()| file.sync_data())
        .map_err(OpenError::io(format!("write {} again", commit.position)))
}
