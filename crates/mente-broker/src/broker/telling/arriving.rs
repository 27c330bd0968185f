//! What views make of a record when it arrives: their filters see what is told of it.

use mente_engine::{Event, Offset};

use super::{Carrier, Teller};
use crate::error::Result;
use crate::shard::Arrival;

impl Teller {
    /// Tells what was read of a log, and where to read on. What cannot be told arrives at every subscription,
    /// whatever its filter: none passes over what may be its, and when it is handed out it is seen why.
    pub(crate) async fn arrivals(
        &self,
        written: Vec<Arrival>,
        next: Offset,
    ) -> Result<(Vec<Arrival>, Offset)> {
        let schemas = self.schemas().await?;
        if schemas.is_empty() {
            return Ok((written, next));
        }
        let count = written.len();
        let offsets: Vec<Offset> = written.iter().map(|arrival| arrival.offset).collect();
        let each = self.leniently(&schemas, written).await?;
        let next = match each.len() < count {
            true => offsets[each.len()],
            false => next,
        };
        let told = each.into_iter().map(|(mut arrival, told)| {
            arrival.is_untold = matches!(told, Some(Err(_)));
            arrival.told = told.and_then(Result::ok);
            arrival
        });
        Ok((told.collect(), next))
    }
}

impl Carrier for Arrival {
    fn event(&self) -> &Event {
        self.event()
    }

    fn place(&self) -> String {
        format!("offset {}", self.offset)
    }

    fn with(&self, event: Event) -> Self {
        self.with(event)
    }
}
