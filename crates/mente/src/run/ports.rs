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

/// `{"http":"ADDRESS:PORT"}`, or `https`, and each other door by its name; on a Kafka cluster with its brokers, which are the door for Kafka
/// clients: `"kafka":"HOST:PORT,…"`. Written beside and renamed: whoever sees the file sees all of it.
pub(super) fn write(file: &Path, doors: &[(&str, SocketAddr)], kafka: Option<&str>) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".tmp");
    let mut ports = serde_json::json!({});
    for (name, address) in doors {
        ports[name] = address.to_string().into();
    }
    if let Some(brokers) = kafka {
        ports["kafka"] = brokers.into();
    }
    fs::write(&beside, ports.to_string())
        .and_then(|()| fs::rename(&beside, file))
        .with_context(|| format!("cannot write the ports file {}", file.display()))?;
    Ok(())
}
