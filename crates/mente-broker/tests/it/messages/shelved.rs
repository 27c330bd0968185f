//! Ids of duplicates lie on the shelf that the broker was opened with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use mente_broker::{Options, Shelf, Shelved};

use super::*;

/// So many of a block are worth a file.
const MANY: usize = 8 << 10;

#[derive(Debug, Default)]
struct Counted {
    puts: AtomicUsize,
    reads: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Held(Vec<u8>, Arc<AtomicUsize>);

impl Shelf for Counted {
    fn put(&self, bytes: &[u8]) -> Option<Box<dyn Shelved>> {
        self.puts.fetch_add(1, Relaxed);
        Some(Box::new(Held(bytes.to_vec(), Arc::clone(&self.reads))))
    }
}

impl Shelved for Held {
    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        self.1.fetch_add(1, Relaxed);
        into.copy_from_slice(&self.0[at..at + into.len()]);
        Ok(())
    }
}

#[test]
fn an_id_on_the_shelf_is_known() {
    let shelf = Arc::new(Counted::default());
    let options = Options {
        shelf: Some(Arc::clone(&shelf) as Arc<dyn Shelf>),
        ..World::options()
    };
    let sending = Sending {
        requires_duplicate_detection: true,
        duplicate_window_ms: 20_000,
        ..Sending::default()
    };
    let mut world = World::opened(7, options);
    let properties = properties(Receiving::default(), sending);
    call!(world, b => b.create_queue(&ME, "work", properties)).unwrap();
    for page in 0..MANY / 1_024 {
        world.send((page * 1_024..(page + 1) * 1_024).map(message));
        let held = world.take(1_024);
        world.end(&held, Ending::Complete);
    }
    assert_eq!(world.counts().active, 0);
    // The first one that comes an eighth of the window later closes the block.
    world.pass(Duration::from_secs(3));
    world.send([MANY, 1, MANY, 4_711, MANY - 1].map(message));
    assert_eq!(ids(&world.take(9)), [MANY]);
    assert_eq!(
        (shelf.puts.load(Relaxed), shelf.reads.load(Relaxed)),
        (1, 3)
    );
}
