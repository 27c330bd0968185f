//! The engine of the servers under test: here the embedded log. The target `kafka` runs the same tests
//! with another one in this place.

/// What `mente server` is told of it.
pub(crate) fn flags() -> Vec<String> {
    Vec::new()
}

/// Whether a server on it copies its events.
pub(crate) const HAS_BACKUPS: bool = true;

/// Whether what a log holds is known exactly and at once; Kafka tells of its files, once a second.
pub(crate) const TELLS_SIZES_EXACTLY: bool = true;

/// Whether another retention takes events at once; Kafka looks every five minutes.
pub(crate) const TRIMS_AT_ONCE: bool = true;
