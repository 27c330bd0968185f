//! Reads the records at places that an index names.

use mente_engine::{Batch, Chunk, Engine, LogId, Offset, Record};

use super::Place;
use crate::broker::near;
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
        let mut offsets: Vec<Offset> = wanted.iter().map(|place| place.offset).collect();
        let is_down = wanted.last().is_some_and(|last| last.offset < first.offset);
        if is_down {
            offsets.reverse();
        }
        let low = offsets.first().copied().unwrap_or(first.offset);
        // Upwards what comes is a beginning, so that what lies between need not be reckoned with.
        let count = if is_down { span(wanted) } else { wanted.len() };
        let chunk = engine.read(log, low, near(count)).await?;
        let mut found = pick(&chunk, &offsets)?;
        if is_down {
            // The first of a run is the last of a read, which may end before it.
            let is_whole = found.len() == wanted.len();
            found = if is_whole { found } else { Vec::new() };
            found.reverse();
        }
        if !found.is_empty() {
            return Ok(found);
        }
        most = wanted.len() / 2;
        if most == 0 {
            return Err(no_event(first.offset));
        }
    }
    Ok(Vec::new())
}

/// The records at the first of these offsets, which rise, as many as are there. Nothing else is decoded.
fn pick(chunk: &Chunk, offsets: &[Offset]) -> Result<Vec<Record>> {
    let mut found = Vec::with_capacity(offsets.len());
    let is_data = |batch: &&Batch| batch.term().is_none() && !batch.is_control();
    for batch in chunk.batches.iter().filter(is_data) {
        let end = batch.last_offset();
        let mut records = batch.records();
        while let Some(offset) = offsets.get(found.len()).filter(|offset| **offset <= end) {
            records = records.starting_at(*offset);
            match records.next() {
                Some(Ok((at, record))) if at == *offset => found.push(record),
                Some(Err(error)) => return Err(Error::new(Kind::Corrupt, error.to_string())),
                _ => return Ok(found),
            }
        }
    }
    Ok(found)
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
