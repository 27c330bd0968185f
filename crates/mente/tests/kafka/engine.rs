//! The engine of the servers under test: a real Apache Kafka.

use crate::broker::{bootstrap, prefix};

/// Whether a server on it copies its events.
pub(crate) const HAS_BACKUPS: bool = false;

/// What `mente server` is told of it.
pub(crate) fn flags() -> Vec<String> {
    let flags = [
        "--engine",
        "kafka",
        "--kafka-bootstrap",
        bootstrap(),
        "--kafka-prefix",
        &prefix(),
        "--allow-unsafe-kafka",
        // Each is a claim, and there are many servers.
        "--shards",
        "8",
    ];
    flags.map(str::to_owned).to_vec()
}

/// Whether what a log holds is known exactly and at once; Kafka tells of its files, once a second.
pub(crate) const TELLS_SIZES_EXACTLY: bool = false;

/// Whether another retention takes events at once; Kafka looks every five minutes.
pub(crate) const TRIMS_AT_ONCE: bool = false;
