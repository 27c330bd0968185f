//! The wall clock of a server. `libfaketime`, loaded into the unmodified binary, puts it forward or back
//! while that runs; the monotone clock stays the machine's.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::clients::{STRUCTURED, lines};
use crate::client::Client;
use crate::demo::ask;

/// The one for programs of several threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
/// What the server stamps may be so far from what it is to stamp; less than any step.
const NEAR_MS: i64 = 60_000;

/// Where the library is; `Err` says why no clock can be stepped here.
pub(super) fn find() -> Result<PathBuf, String> {
    let folders = FOLDERS.map(PathBuf::from).into_iter();
    // Debian has a folder for each architecture.
    let inside = |folder: PathBuf| {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        [folder].into_iter().chain(paths)
    };
    let mut libraries = folders.flat_map(inside).map(|folder| folder.join(LIBRARY));
    let found = libraries.find(|library| library.exists());
    found.ok_or_else(|| format!("{LIBRARY} is not there (Debian: faketime)"))
}

#[derive(Debug)]
pub(super) struct WallClock {
    library: PathBuf,
    /// Holds how far it is ahead.
    file: PathBuf,
    ahead_s: i64,
    steps: u32,
}

impl WallClock {
    pub(super) fn make(library: &Path, folder: &Path) -> Result<Self> {
        let clock = Self {
            library: library.to_owned(),
            file: folder.join("clock"),
            ahead_s: 0,
            steps: 0,
        };
        clock.set()?;
        Ok(clock)
    }

    /// What a server is started with, so that it looks at this clock.
    pub(super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ]
    }

    /// A server that is gone leaves what the library shares with its children.
    pub(super) fn sweep(&self, pid: Option<u32>) {
        let pid = pid.unwrap_or_default();
        for name in [
            format!("faketime_shm_{pid}"),
            format!("sem.faketime_sem_{pid}"),
        ] {
            let _ = fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }

    /// Whoever looks sees the old time or the new one.
    fn set(&self) -> Result<()> {
        let new = self.file.with_extension("new");
        let text = format!("{:+}\n", self.ahead_s);
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &self.file).context("cannot set the clock")
    }

    /// Puts it forward by so many seconds, or back, and has the server stamp a record: a step that it
    /// does not see proves nothing.
    pub(super) async fn step(&mut self, seconds: i64, url: &str) -> Result<()> {
        self.ahead_s += seconds;
        self.steps += 1;
        self.set()?;
        let (client, topic) = (Client::new(url)?, format!("/topics/clock-{}", self.steps));
        ask(&client, "PUT", &topic, &json!({})).await?;
        let event =
            json!({"specversion": "1.0", "id": "now", "source": "/chaos", "type": "chaos.clock"});
        let (path, body) = (format!("{topic}/events"), event.to_string());
        let answer = client
            .request("POST", &path, Some(STRUCTURED), body)
            .await?;
        ensure!(answer.status < 300, "{path}: {}", answer.text());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now_ms = i64::try_from(now.as_millis())? + self.ahead_s * 1_000;
        let is_from = async |ms: i64| {
            let path = format!("{path}?from={ms}ms");
            let stamped = lines(&client, &path, |_: &Value| ()).await?;
            anyhow::Ok(!stamped.is_empty())
        };
        ensure!(
            is_from(now_ms - NEAR_MS).await? && !is_from(now_ms + NEAR_MS).await?,
            "the clock was stepped to {:+} s, and the server stamps records otherwise: is it linked statically, so that {} does not reach it?",
            self.ahead_s,
            self.library.display()
        );
        Ok(())
    }
}
