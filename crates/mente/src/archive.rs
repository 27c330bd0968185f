//! The archive of a backup: a tar of the data directory's files, and at its end a manifest.
//!
//! ```text
//!  0000001a.pack · 0000001c.wal · … · projections/sales.db · manifest.json
//! ```
//! The manifest names the length and CRC-32C of every other entry. Without it an archive is not
//! whole, and one that differs from it is damaged: neither is restored.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;
/// Largest manifest that is read: some million files.
const MANIFEST_BYTES: u64 = 256 << 20;
/// Where views lie in the data directory.
pub(crate) const VIEWS: &str = "projections";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// The Mente that wrote it.
    version: String,
    files: BTreeMap<String, Sum>,
    /// Projections whose rows could not be copied.
    left_out: Vec<String>,
}

/// What an entry must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    crc32c: u32,
}

/// What an archive holds, in short.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    /// Projections that are to be built again.
    pub(crate) left_out: Vec<String>,
}

/// Writes an archive, entry by entry.
pub(crate) struct Packing<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    sums: BTreeMap<String, Sum>,
}

impl<'a> Packing<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            tar: tar::Builder::new(out),
            sums: BTreeMap::new(),
        }
    }

    /// Adds a file of exactly so many bytes.
    pub(crate) fn add(&mut self, name: &str, bytes: u64, from: impl Read) -> io::Result<()> {
        let mut from = Summed::new(from.take(bytes));
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, name, &mut from)?;
        if from.sum.bytes != bytes {
            let message = format!("{name} became shorter while it was copied");
            return Err(io::Error::other(message));
        }
        self.sums.insert(name.to_owned(), from.sum);
        Ok(())
    }

    pub(crate) fn finish(mut self, left_out: &[String]) -> io::Result<()> {
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            files: std::mem::take(&mut self.sums),
            left_out: left_out.to_vec(),
        };
        let json = serde_json::to_vec_pretty(&manifest)?;
        self.add(MANIFEST, json.len() as u64, &json[..])?;
        self.tar.finish()
    }
}

/// Reads all of an archive and holds it against its manifest.
pub(crate) fn check(archive: &Path) -> Result<Held> {
    walk(archive, |_, from| io::copy(from, &mut io::sink()).map(drop))
}

/// Writes the files of an archive into a new directory, synced.
pub(crate) fn unpack(archive: &Path, into: &Path) -> Result<Held> {
    // Secrets of webhooks are in it.
    let mut private = fs::DirBuilder::new();
    private
        .recursive(true)
        .mode(0o700)
        .create(into.join(VIEWS))?;
    let held = walk(archive, |name, from| {
        let mut file = File::create_new(into.join(name))?;
        io::copy(from, &mut file)?;
        file.sync_all()
    })?;
    for directory in [&into.join(VIEWS), into] {
        File::open(directory)?.sync_all()?;
    }
    Ok(held)
}

fn walk(
    archive: &Path,
    mut take: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<Held> {
    let shown = archive.display();
    let file = File::open(archive).with_context(|| format!("cannot open {shown}"))?;
    let mut tar = tar::Archive::new(io::BufReader::with_capacity(1 << 20, file));
    let (mut found, mut manifest) = (BTreeMap::new(), None);
    let unreadable = || format!("{shown} is no whole backup");
    // What the archive says of itself may be anything: it is not repeated.
    let no_tar = |_: io::Error| anyhow!("{shown} is no whole backup: it does not read as a tar");
    for entry in tar.entries().map_err(no_tar)? {
        let mut entry = entry.map_err(no_tar)?;
        let name = entry.path().map_err(no_tar)?;
        let name = name.to_str().filter(|_| is_ours(&name)).map(str::to_owned);
        let name = name.with_context(|| format!("{shown} holds a file that is none of Mente's"))?;
        ensure!(manifest.is_none(), "{shown} goes on behind its manifest");
        if name == MANIFEST {
            let mut json = Vec::new();
            let mut entry = entry.take(MANIFEST_BYTES);
            entry.read_to_end(&mut json).with_context(unreadable)?;
            let read: Manifest = serde_json::from_slice(&json).with_context(unreadable)?;
            manifest = Some(read);
            continue;
        }
        let mut from = Summed::new(&mut entry);
        take(&name, &mut from).with_context(|| format!("cannot copy {name} out of {shown}"))?;
        found.insert(name, from.sum);
    }
    let Some(manifest) = manifest else {
        bail!("{shown} is not whole: its last entry, {MANIFEST}, is missing");
    };
    ensure!(
        manifest.format == FORMAT,
        "{shown} has format {}, this Mente reads {FORMAT}: use version {}",
        manifest.format,
        manifest.version
    );
    for (name, sum) in &manifest.files {
        let is_same = found.get(name) == Some(sum);
        ensure!(
            is_same,
            "{shown} is damaged: {name} is not what was backed up"
        );
    }
    ensure!(
        found.len() == manifest.files.len(),
        "{shown} holds files that its manifest does not name"
    );
    Ok(Held {
        files: found.len(),
        bytes: found.values().map(|sum| sum.bytes).sum(),
        left_out: manifest.left_out,
    })
}

/// A plain name, in the directory itself or among the views; nothing that leads elsewhere.
fn is_ours(path: &Path) -> bool {
    let parts: Vec<_> = path.components().collect();
    match parts[..] {
        [Component::Normal(_)] => true,
        [Component::Normal(directory), Component::Normal(_)] => directory == VIEWS,
        _ => false,
    }
}

/// Sums up what is read through it.
struct Summed<R> {
    from: R,
    sum: Sum,
}

impl<R: Read> Summed<R> {
    fn new(from: R) -> Self {
        let sum = Sum::default();
        Self { from, sum }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(bytes)?;
        self.sum.bytes += read as u64;
        self.sum.crc32c = crc32c::crc32c_append(self.sum.crc32c, &bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed() -> Vec<u8> {
        let mut out = Vec::new();
        let mut packing = Packing::new(&mut out);
        packing
            .add("00000001.wal", 5_000, &[7u8; 5_000][..])
            .unwrap();
        packing.add("projections/a.db", 3, &b"abc"[..]).unwrap();
        packing.finish(&[]).unwrap();
        out
    }

    fn checked(bytes: &[u8]) -> Result<Held> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("backup.tar");
        fs::write(&file, bytes).unwrap();
        check(&file)
    }

    #[test]
    fn whole_archives_pass_and_cut_or_damaged_ones_do_not() {
        let whole = packed();
        let held = checked(&whole).unwrap();
        assert_eq!((held.files, held.bytes), (2, 5_003));
        // Behind the manifest's data there is nothing but zeros.
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for cut in (0..end).step_by(97) {
            assert!(checked(&whole[..cut]).is_err(), "cut at {cut}");
        }
        // The data of the first entry.
        for at in (512..5_512).step_by(97) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(checked(&damaged).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for good in ["00000001.wal", "projections/a.db"] {
            assert!(is_ours(Path::new(good)), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "projections/../x",
            "a/b",
            "projections/a/b",
        ] {
            assert!(!is_ours(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_told() {
        let mut out = Vec::new();
        let mut packing = Packing::new(&mut out);
        assert!(packing.add("00000001.wal", 10, &b"abc"[..]).is_err());
    }
}
