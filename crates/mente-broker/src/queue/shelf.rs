//! Where bytes wait that are seldom read, so that they need no memory. Whoever opens the broker may bring one
//! ([`Options::shelf`](crate::Options)).

use std::fmt::Debug;
use std::io;

/// Takes bytes for as long as this process needs them: nothing of them has to outlive it.
pub trait Shelf: Send + Sync + Debug {
    /// Takes the bytes, within milliseconds: a shard waits for it. `None`: there is no room, or it failed, and who
    /// has the bytes keeps them.
    fn put(&self, bytes: &[u8]) -> Option<Box<dyn Shelved>>;
}

/// Bytes on a shelf. Dropping them makes room.
pub trait Shelved: Send + Sync + Debug {
    /// Fills `into` with what lies from the byte `at` on; all of it, or an error.
    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()>;
}

/// What no shelf took.
#[derive(Debug)]
pub(super) struct Kept(pub(super) Box<[u8]>);

impl Shelved for Kept {
    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.get(at..at + into.len());
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A shelf in memory that fails as it is told to.
    #[derive(Debug, Default)]
    pub(in crate::queue) struct Fickle {
        /// Bytes of what it holds.
        held: Arc<AtomicUsize>,
        /// Whether it takes the next ones, in turn; all without.
        takes: Vec<bool>,
        puts: AtomicUsize,
        reads: Arc<AtomicUsize>,
        /// No read succeeds.
        is_broken: bool,
    }

    #[derive(Debug)]
    struct Held {
        bytes: Kept,
        is_broken: bool,
        held: Arc<AtomicUsize>,
        reads: Arc<AtomicUsize>,
    }

    impl Fickle {
        pub(in crate::queue) fn taking(takes: Vec<bool>) -> Arc<Self> {
            Arc::new(Self {
                takes,
                ..Self::default()
            })
        }

        pub(in crate::queue) fn broken() -> Arc<Self> {
            Arc::new(Self {
                is_broken: true,
                ..Self::default()
            })
        }

        pub(in crate::queue) fn held_bytes(&self) -> usize {
            self.held.load(Ordering::Relaxed)
        }

        pub(in crate::queue) fn reads(&self) -> usize {
            self.reads.load(Ordering::Relaxed)
        }
    }

    impl Shelf for Fickle {
        fn put(&self, bytes: &[u8]) -> Option<Box<dyn Shelved>> {
            let put = self.puts.fetch_add(1, Ordering::Relaxed);
            let turn = put.checked_rem(self.takes.len());
            if turn.is_some_and(|turn| !self.takes[turn]) {
                return None;
            }
            self.held.fetch_add(bytes.len(), Ordering::Relaxed);
            Some(Box::new(Held {
                bytes: Kept(bytes.into()),
                is_broken: self.is_broken,
                held: Arc::clone(&self.held),
                reads: Arc::clone(&self.reads),
            }))
        }
    }

    impl Shelved for Held {
        fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            if self.is_broken {
                return Err(io::Error::other("the disk is gone"));
            }
            self.bytes.read(at, into)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.held.fetch_sub(self.bytes.0.len(), Ordering::Relaxed);
        }
    }
}
