//! Events that are looked at themselves, where a block's index does not know what is asked, or would take longer to
//! read.
//!
//! Blocks of the first version do not know which event caused another, nor events by their ids alone: what such a
//! block holds is looked at in the store's log, as far as the rest of the query leaves any. And where a query names a
//! type or a category beside something that few events have, these few are looked at: of a type there may be as many
//! as the block has events.

use std::ops::Range;

use super::block::Footer;
use super::blocks::Blocks;
use super::query::{Key, Sought};
use super::record::{self, corrupt};
use super::{Direction, Place, read_at};
use crate::breathing::breathe;
use crate::error::Result;

/// Events that are looked at between two pauses.
const TOGETHER: usize = 1_000;
/// Events of one block that are rather looked at than what is common is read; in tests, whose blocks are small, now
/// the one and now the other.
const FEW: usize = if cfg!(test) { 2 } else { 16 };

impl Blocks {
    /// Places at the positions `within` of a block that match, from position `from` on, the way that the reader
    /// goes, at most `max`, if its events are to be looked at for that; each event that is read is one look of the
    /// query. `rare` is the query without what is common.
    #[expect(clippy::too_many_arguments, reason = "a query, where, and which way")]
    pub(super) async fn look(
        &self,
        footer: &Footer,
        query: &Sought,
        rare: Option<&Sought>,
        from: u64,
        direction: Direction,
        within: Range<u64>,
        max: usize,
    ) -> Result<Option<Vec<Place>>> {
        let known = (!footer.knows_causes() && query.asks_causes()).then(|| query.without_causes());
        let Some(rest) = known.as_ref().or(rare) else {
            return Ok(None);
        };
        let most = if known.is_some() { usize::MAX } else { FEW };
        let candidates = self.candidates(footer, rest, from, direction, within, most);
        let Some(candidates) = candidates.await? else {
            return Ok(None);
        };
        self.look_at(&candidates, query, max).await.map(Some)
    }

    async fn look_at(
        &self,
        candidates: &[Place],
        query: &Sought,
        max: usize,
    ) -> Result<Vec<Place>> {
        let mut found = Vec::new();
        for some in candidates.chunks(TOGETHER) {
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

    /// What the rest of the query leaves, if it is not more than that.
    async fn candidates(
        &self,
        footer: &Footer,
        rest: &Sought,
        from: u64,
        direction: Direction,
        within: Range<u64>,
        most: usize,
    ) -> Result<Option<Vec<Place>>> {
        let Some(index) = self.index_of(footer, rest).await? else {
            return Ok(Some(Vec::new()));
        };
        let (begin, end) = match direction {
            Direction::Forwards => (within.start.max(from), within.end),
            Direction::Backwards => (within.start, within.end.min(from.saturating_add(1))),
        };
        let mut places = Vec::new();
        let mut at = begin;
        while let Some(position) = (at < end).then(|| index.next(rest, at, end)).flatten() {
            if places.len() == most {
                return Ok(None);
            }
            places.push(self.place(footer, 0, position)?);
            at = position + 1;
        }
        rest.check()?;
        if direction == Direction::Backwards {
            places.reverse();
        }
        Ok(Some(places))
    }
}
