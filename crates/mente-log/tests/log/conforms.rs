use std::sync::{Arc, Mutex};

use mente_engine::{Engine, conformance};
use mente_log::Options;

use crate::driven::Driven;

/// Opens anew for every call, after the thread before has closed the log.
fn run(options: &Options) {
    let dir = tempfile::tempdir().unwrap();
    let last: Mutex<Option<Driven>> = Mutex::new(None);
    let open = || -> Arc<dyn Engine> {
        let mut last = last.lock().unwrap();
        drop(last.take());
        let driven = Driven::open(dir.path(), options.clone());
        let engine = Arc::new(driven.engine.clone());
        *last = Some(driven);
        engine
    };
    futures::executor::block_on(conformance::run(&open, "embedded"));
}

#[test]
fn on_a_real_directory() {
    run(&Options {
        file_bytes: 16 << 20,
        ..Options::default()
    });
}

#[test]
fn without_recent_commits_in_memory() {
    run(&Options {
        file_bytes: 8 << 20,
        recent_bytes: 0,
        ..Options::default()
    });
}
