//! What blocks of the first version do not know: which event caused another, and events by their ids alone.
//!
//! What such a block holds is looked at in the store's log, event by event, as far as the rest of the query
//! leaves any: it costs as much as reading them, and is as right as the index.

use std::ops::Range;

use super::block::Footer;
use super::blocks::{Blocks, breathe};
use super::query::{Key, Sought};
use super::record::{self, corrupt};
use super::{Direction, Place, read_at};
use crate::error::Result;

/// Events that are looked at between two pauses.
const TOGETHER: usize = 1_000;

impl Blocks {
    /// Places at the positions `within` of such a block that match, from position `from` on, the way that the
    /// reader goes, at most `max`; each event that is read is one look of the query.
    pub(super) async fn look_for_causes(
        &self,
        footer: &Footer,
        query: &Sought,
        from: u64,
        direction: Direction,
        within: Range<u64>,
        max: usize,
    ) -> Result<Vec<Place>> {
        let candidates = self.candidates(footer, query, from, direction, within);
        let mut found = Vec::new();
        for some in candidates.await?.chunks(TOGETHER) {
            breathe().await;
            let mut rest = some;
            while !rest.is_empty() {
                let records = read_at(&*self.engine, self.store, rest).await?;
                for (place, record) in rest.iter().zip(&records) {
                    if !query.look() {
                        return query.check().map(|()| found);
                    }
                    let told = record::Facts::of(record);
                    let told = told.map_err(|what| corrupt(place.offset, &what))?;
                    let keys = Key::of_record(&told.stream, told.revision, record);
                    if query.is_met_by(&keys) {
                        found.push(*place);
                    }
                    if found.len() == max {
                        return Ok(found);
                    }
                }
                rest = &rest[records.len()..];
            }
        }
        Ok(found)
    }

    /// What the rest of the query leaves.
    async fn candidates(
        &self,
        footer: &Footer,
        query: &Sought,
        from: u64,
        direction: Direction,
        within: Range<u64>,
    ) -> Result<Vec<Place>> {
        let rest = query.without_causes();
        let Some(index) = self.index_of(footer, &rest).await? else {
            return Ok(Vec::new());
        };
        let (begin, end) = match direction {
            Direction::Forwards => (within.start.max(from), within.end),
            Direction::Backwards => (within.start, within.end.min(from.saturating_add(1))),
        };
        let mut places = Vec::new();
        let mut at = begin;
        while let Some(position) = (at < end).then(|| index.next(&rest, at, end)).flatten() {
            places.push(self.place(footer, 0, position)?);
            at = position + 1;
        }
        rest.check()?;
        if direction == Direction::Backwards {
            places.reverse();
        }
        Ok(places)
    }
}
