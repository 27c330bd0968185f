//! Worlds that were red once, or are hard to meet, stay here for ever.

use std::fs;
use std::path::Path;

use mente_sim::{Scenario, run};

#[test]
fn every_kept_scenario_is_green() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 4, "{paths:?}");
    for path in paths {
        let scenario: Scenario = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(run(&scenario).violations, [], "{}", path.display());
    }
}
