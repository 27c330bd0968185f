//! Reads the records at places that an index names.

use std::collections::BTreeMap;

use mente_engine::{Engine, LogId, Offset, Record};

use super::Place;
use crate::broker::{near, records};
use crate::error::{Error, Kind, Result};

/// Records that are read at once.
const TOGETHER: usize = 512;
/// Records between two places for which both are read at once.
const NEAR: u64 = 16;

/// Reads the records at the first of these places, which rise or fall: one at least, and as many as lie
/// near each other and come with one read.
pub(crate) async fn read_at(
    engine: &dyn Engine,
    log: LogId,
    places: &[Place],
) -> Result<Vec<Record>> {
    let mut most = TOGETHER;
    while let Some(first) = places.first() {
        let wanted = together(places, most);
        let low = wanted.iter().map(|place| place.offset).min();
        let low = low.unwrap_or(first.offset);
        let chunk = engine.read(log, low, near(span(wanted))).await?;
        let high = wanted.iter().map(|place| place.offset).max();
        let found = records(&chunk, low);
        // Of a large batch the rest is not decoded.
        let found = found.take_while(|record| match (record, high) {
            (Ok((offset, _)), Some(high)) => *offset <= high,
            _ => true,
        });
        let mut found = found.collect::<Result<BTreeMap<_, _>>>()?;
        let there = wanted.iter().map_while(|place| found.remove(&place.offset));
        let there: Vec<Record> = there.collect();
        if !there.is_empty() {
            return Ok(there);
        }
        // Downwards the first of a run is the last of a read, which may end before it.
        most = wanted.len() / 2;
        if most == 0 {
            return Err(no_event(first.offset));
        }
    }
    Ok(Vec::new())
}

pub(crate) fn no_event(offset: Offset) -> Error {
    let message = format!("no event at offset {offset} of the store");
    Error::new(Kind::Corrupt, message)
}

/// The first places of these, at most `most`, that lie near each other.
fn together(places: &[Place], most: usize) -> &[Place] {
    let places = &places[..places.len().min(most)];
    let near = |two: &[Place]| two[0].offset.0.abs_diff(two[1].offset.0) <= NEAR;
    let far = places.windows(2).position(|two| !near(two));
    &places[..far.map_or(places.len(), |far| far + 1)]
}

/// Records from the lowest to the highest of these.
fn span(places: &[Place]) -> usize {
    let offset = |place: Option<&Place>| place.map_or(0, |place| place.offset.0);
    let span = offset(places.first()).abs_diff(offset(places.last()));
    usize::try_from(span)
        .unwrap_or(usize::MAX)
        .saturating_add(1)
}
