//! What one participant did, one JSON object a line, written by that participant alone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One line. What the fields mean depends on `what` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) what: String,
    /// The order, the product, or the question that a service was asked.
    pub(crate) id: String,
    /// Offset of an acknowledged publish, price in cents, deliveries so far, or the number of a pre-order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<u64>,
}

/// A file that only grows; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    file: Arc<Mutex<File>>,
    path: PathBuf,
}

impl Notes {
    pub(crate) fn create(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(format!("{name}.jsonl"));
        let file = Arc::new(Mutex::new(File::create(&path)?));
        Ok(Self { file, path })
    }

    /// Writes a line at once: the summary reads the file, not the memory.
    pub(crate) fn note(&self, what: &str, id: &str, number: Option<u64>) {
        let line = Line {
            what: what.into(),
            id: id.into(),
            number,
        };
        let mut text = serde_json::to_string(&line).expect("a line has a JSON form");
        text.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes())
            .expect("the demo can write its own files");
    }

    /// Reads the file back from the disk.
    pub(crate) fn lines(&self) -> io::Result<Vec<Line>> {
        let reader = BufReader::new(File::open(&self.path)?);
        reader
            .lines()
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect()
    }
}
