//! `mente backup` and `mente restore`: a copy of a running server, and a data directory out of it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Caller, failed};
use crate::archive::{self, Held};
use crate::args::Connection;
use crate::failure::{Code, Failure, Result};
use crate::output::line;

/// Takes the copy, then reads it all again: what is called done is whole.
pub(super) async fn backup(file: PathBuf, connection: &Connection) -> Result<()> {
    if file.exists() {
        let message = format!("{} exists: name a new file", file.display());
        return Err(Failure::new(Code::Conflict, message));
    }
    let caller = Caller::new(connection)?;
    let unfinished = beside(&file, ".partial");
    let shown = unfinished.display();
    let cannot = || format!("cannot write {shown}");
    let mut options = File::options();
    // Secrets of webhooks will be in it.
    options.write(true).create_new(true).mode(0o600);
    let out = options.open(&unfinished);
    let mut out = out.with_context(|| {
        format!("cannot make {shown}: if another backup writes it, wait for that, else remove it")
    })?;
    let held = async {
        let mut body = caller.client.download("/backup").await.map_err(failed)?;
        while let Some(piece) = body.next().await.map_err(failed)? {
            out.write_all(&piece).with_context(cannot)?;
        }
        out.sync_all().with_context(cannot)?;
        let held = archive::check(&unfinished)?;
        fs::rename(&unfinished, &file).with_context(cannot)?;
        sync_parent(&file)?;
        Ok(held)
    };
    match held.await {
        Ok(held) => tell("backed up", held, "to", &file),
        Err(failure) => {
            let _ = fs::remove_file(&unfinished);
            Err(failure)
        }
    }
}

/// Makes the data directory in one step: until everything is there and synced it has another
/// name. Then it is opened and read once, as `mente verify` does.
pub(crate) fn restore(file: &Path, data_dir: &Path) -> Result<()> {
    let is_free = match fs::read_dir(data_dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !data_dir.exists(),
    };
    if !is_free {
        let message = format!(
            "{} is there already: name a directory that is empty or does not exist",
            data_dir.display()
        );
        return Err(Failure::new(Code::Conflict, message));
    }
    let unfinished = beside(data_dir, ".restoring");
    let cannot = || format!("cannot make {}", data_dir.display());
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(cannot)?;
    }
    if data_dir.exists() {
        // Empty, and to be replaced in one step at the end.
        fs::remove_dir(data_dir).with_context(|| {
            format!(
                "{} cannot be replaced, as a mount point cannot: name a directory below it",
                data_dir.display()
            )
        })?;
    }
    let unpacked = archive::unpack(file, &unfinished);
    let held = match unpacked {
        Ok(held) => held,
        Err(error) => {
            let _ = fs::remove_dir_all(&unfinished);
            return Err(error.into());
        }
    };
    mente_server::relay::hold_all(&unfinished).with_context(cannot)?;
    fs::rename(&unfinished, data_dir).with_context(cannot)?;
    sync_parent(data_dir)?;
    tell("restored", held, "to", data_dir)?;
    crate::run::verify(data_dir, None)
}

fn tell(what: &str, held: Held, to: &str, path: &Path) -> Result<()> {
    for projection in &held.left_out {
        line(&format!(
            "left out   projection {projection}: its rows could not be copied and will be built again from the events that are kept"
        ))?;
    }
    line(&format!(
        "{what} {} files, {:.1} MiB, {to} {}",
        held.files,
        held.bytes as f64 / f64::from(1 << 20),
        path.display()
    ))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    // `dir/` names the same as `dir`.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    Ok(synced.with_context(|| format!("cannot sync {}", parent.display()))?)
}
