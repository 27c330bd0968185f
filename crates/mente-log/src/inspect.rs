//! A look at the files of a log from outside, whoever has it open: their headers, and no more.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::OpenError;
use crate::commit::BLOCK;
use crate::file_header::{FileHeader, Unreadable, VERSION};
use crate::files::FileName;
use crate::pack_file::PackHeader;

/// What the headers of a directory's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Files of a format that this version reads.
    pub readable: usize,
    /// Names of those whose header is damaged or of another file.
    pub damaged: Vec<String>,
}

/// Changes nothing and takes no lock. Files of a newer format are [`OpenError::Newer`].
pub fn inspect(directory: &Path) -> Result<Inspection, OpenError> {
    let shown = directory.display();
    let listed = fs::read_dir(directory).map_err(OpenError::io(format!("list {shown}")))?;
    let mut found = Inspection::default();
    for entry in listed {
        let entry = entry.map_err(OpenError::io(format!("list {shown}")))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(parsed) = FileName::parse(&name) else {
            continue;
        };
        let block = match first_block(&entry.path()) {
            // A server at work lets old files go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            block => block.map_err(OpenError::io(format!("read {name}")))?,
        };
        match number(parsed, &block) {
            Ok(number) if number == parsed.number() => found.readable += 1,
            Ok(_) | Err(Unreadable::Damaged) => found.damaged.push(name),
            Err(Unreadable::Newer(version)) => {
                return Err(OpenError::Newer {
                    file: name,
                    found: version,
                    known: VERSION,
                });
            }
        }
    }
    Ok(found)
}

fn number(name: FileName, block: &[u8; BLOCK]) -> Result<u32, Unreadable> {
    match name {
        FileName::Wal(_) => FileHeader::decode(block).map(|header| header.number),
        FileName::Pack(_) => PackHeader::decode(block).map(|header| header.number),
    }
}

/// What lies beyond the end of a short file is zeros.
fn first_block(path: &Path) -> io::Result<[u8; BLOCK]> {
    let file = File::open(path)?;
    let mut block = [0; BLOCK];
    let mut at = 0;
    while at < BLOCK {
        match file.read_at(&mut block[at..], at as u64)? {
            0 => break,
            count => at += count,
        }
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let header = FileHeader {
            number: 1,
            file_bytes: 64 << 10,
            salt: 7,
        };
        let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        put("00000001.wal", &header.encode());
        put("00000002.wal", &header.encode());
        put("00000003.pack", b"short");
        put("lock", b"");
        let mut found = inspect(folder.path()).unwrap();
        found.damaged.sort();
        assert_eq!(found.readable, 1);
        assert_eq!(found.damaged, ["00000002.wal", "00000003.pack"]);

        let mut newer = header.encode();
        for at in [0, 2048] {
            newer[at + 13] = 9;
            let crc = crc32c::crc32c(&newer[at + 12..at + 64]);
            newer[at + 8..at + 12].copy_from_slice(&crc.to_be_bytes());
        }
        put("00000004.wal", &newer);
        let error = inspect(folder.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::Newer { found: 9, .. }),
            "{error}"
        );
    }
}
