//! A stream as the store has it: with what its metadata hides from readers of the stream.

use super::{Broker, StreamPage};
use crate::access::{Action, Principal, authorize};
use crate::error::Result;
use crate::name::StreamName;
use crate::store::Direction;

impl Broker {
    /// Reads the events of a stream as [`Broker::find_events`] would find them among those of all streams, from
    /// revision `from` on, at most `max`, and fewer where they are large. A stream that is not there has none.
    /// What lies before position `behind` need not be told.
    pub async fn read_whole_stream(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        behind: u64,
        direction: Direction,
        max: usize,
    ) -> Result<StreamPage> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        let (places, _) = self.places(stream, from, behind, direction, max).await?;
        let events = self.events_at(&places).await?;
        let is_end = places.len() < max && events.len() == places.len();
        self.tell_stream(events, direction, is_end).await
    }
}
