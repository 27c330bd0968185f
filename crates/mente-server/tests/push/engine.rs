//! The engine under the broker in these tests: here memory, with holes in its offsets. The target `kafka`
//! of the binary runs the same tests with another one in this place.

use std::sync::Arc;

use mente_engine::Engine;
use mente_engine::memory::MemoryEngine;

/// One with nothing in it.
pub(crate) fn open() -> Arc<dyn Engine> {
    Arc::new(MemoryEngine::new(3))
}
