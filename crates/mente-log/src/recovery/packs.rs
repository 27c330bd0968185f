//! The packs that the catalogue names: only their directories are read.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use mente_engine::LogId;

use crate::OpenError;
use crate::catalogue::Catalogue;
use crate::commit::BLOCK;
use crate::disk::Disk;
use crate::file_header::{Unreadable, VERSION};
use crate::files::{self, FileName};
use crate::handles::Handles;
use crate::index::Index;
use crate::pack_file::PackHeader;
use crate::run::Run;

/// What the packs hold, in the order of the offsets.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) runs: BTreeMap<LogId, VecDeque<Run>>,
    /// Packs that should be there and are not, or cannot be read. Whom that hurts shows when
    /// the logs are followed.
    pub(super) lost: Vec<String>,
}

pub(super) fn read(
    handles: &Handles,
    catalogue: &Catalogue,
    index: &mut Index,
) -> Result<Packed, OpenError> {
    let mut packed = Packed::default();
    for (number, crc) in &catalogue.packs {
        let name = FileName::Pack(*number);
        let Some((header, runs)) = read_pack(handles, name, *crc)? else {
            packed.lost.push(name.to_string());
            continue;
        };
        index.add_pack(name, header.file_bytes(), &runs);
        for (log, run) in runs {
            packed.runs.entry(log).or_default().push_back(run);
        }
    }
    for runs in packed.runs.values_mut() {
        runs.make_contiguous().sort_by_key(|run| run.base);
    }
    Ok(packed)
}

type Contents = (PackHeader, Vec<(LogId, Run)>);

fn read_pack(handles: &Handles, name: FileName, crc: u32) -> Result<Option<Contents>, OpenError> {
    let file = match handles.get(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(OpenError::io(format!("open {name}")))?,
    };
    let read = |bytes: &mut [u8], at| {
        files::read_padded(&*file, bytes, at).map_err(OpenError::io(format!("read {name}")))
    };
    let mut block = [0; BLOCK];
    read(&mut block, 0)?;
    let header = match PackHeader::decode(&block) {
        Ok(header) if header.number == name.number() && header.directory_crc == crc => header,
        Ok(_) | Err(Unreadable::Damaged) => return Ok(None),
        Err(Unreadable::Newer(found)) => {
            return Err(OpenError::Newer {
                file: name.to_string(),
                found,
                known: VERSION,
            });
        }
    };
    for at in header.directory_at {
        let mut directory = vec![0; header.directory_bytes()];
        read(&mut directory, u64::from(at))?;
        if let Some(runs) = header.decode_directory(&directory) {
            return Ok(Some((header, runs)));
        }
    }
    Ok(None)
}

/// Removes packs that no record names: unfinished, or retired themselves. Only where
/// nothing is damaged, since a lost record might have named them.
pub(super) fn remove_unnamed(
    disk: &dyn Disk,
    names: &[String],
    catalogue: &Catalogue,
) -> Result<(), OpenError> {
    for name in names.iter().filter_map(|name| FileName::parse(name)) {
        if matches!(name, FileName::Pack(number) if !catalogue.packs.contains_key(&number)) {
            disk.remove(&name.to_string())
                .map_err(OpenError::io(format!("remove {name}")))?;
        }
    }
    Ok(())
}
