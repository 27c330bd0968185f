//! The ports file: tells other programs that the server is ready, and where.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

use crate::failure::Result;

/// Removes what an earlier server left, so that nobody takes it for this one's.
pub(super) fn forget(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let words = format!("cannot remove the old {}", file.display());
            Err(anyhow::Error::new(error).context(words).into())
        }
        _ => Ok(()),
    }
}

/// `{"http":"ADDRESS:PORT"}`, or `https`. Written beside and renamed: whoever sees the file sees all of it.
pub(super) fn write(file: &Path, scheme: &str, address: SocketAddr) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".tmp");
    let text = serde_json::json!({ scheme: address.to_string() }).to_string();
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, file))
        .with_context(|| format!("cannot write the ports file {}", file.display()))?;
    Ok(())
}
