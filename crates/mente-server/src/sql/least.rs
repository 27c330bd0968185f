//! Read your writes: a query waits until what it reads is as far as its caller has written.
//!
//! An append to streams answers a position of the store, a publish a partition and an offset of its topic. So
//! `7` is asked of the events and of projections of the store, `0:7` or `0:7,2:3` of those of topics: everything
//! up to there is in the rows.

use std::collections::BTreeMap;
use std::time::Duration;

use mente_broker::{Broker, Direction, EntityName, Error, Kind, Principal, Query, Result};
use tokio::time::Instant;

use crate::projection::Projections;
use crate::projection::declaration::Source;

/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(10);

/// How far it must be at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Least {
    /// The position of an event.
    Position(u64),
    /// The offset of an event, by partition.
    Offsets(BTreeMap<u32, u64>),
}

impl Least {
    /// Reads `7`, or `0:7,2:3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(position) = text.parse() {
            return Some(Self::Position(position));
        }
        let mut offsets = BTreeMap::new();
        for pair in text.split(',') {
            let (partition, offset) = pair.split_once(':')?;
            let before = offsets.insert(partition.parse().ok()?, offset.parse().ok()?);
            if before.is_some() {
                return None;
            }
        }
        Some(Self::Offsets(offsets))
    }
}

/// Waits until these projections, and the store if it is read, are so far; tells by `until` what is not.
pub(crate) async fn wait(
    broker: &Broker,
    projections: Option<&Projections>,
    who: &Principal,
    (views, is_of_store): (&[EntityName], bool),
    least: &Least,
    until: Instant,
) -> Result<Result<(), String>> {
    if views.is_empty() && !is_of_store {
        let message = "min-position is of events, states and projections: the query names none";
        return Err(Error::invalid(message));
    }
    let mut offset = None;
    loop {
        let mut late = None;
        if let Least::Position(position) = least
            && offset.is_none()
        {
            offset = offset_of(broker, who, *position).await?;
            if offset.is_none() {
                late = Some("the store".to_owned());
            }
        }
        if is_of_store && matches!(least, Least::Offsets(_)) {
            let message = "events have positions: say min-position as the append answered it";
            return Err(Error::invalid(message));
        }
        if let (None, Some(projections)) = (&late, projections) {
            for view in views {
                if !is_there(projections, who, view, least, offset).await? {
                    late = Some(format!("projection {view}"));
                    break;
                }
            }
        }
        let Some(late) = late else {
            return Ok(Ok(()));
        };
        if Instant::now() >= until {
            return Ok(Err(late));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn is_there(
    projections: &Projections,
    who: &Principal,
    view: &EntityName,
    least: &Least,
    offset: Option<u64>,
) -> Result<bool> {
    let applied = match projections.applied(who, view).await {
        Ok(applied) => applied,
        // It is begun in a moment.
        Err(error) if error.kind == Kind::Conflict => return Ok(false),
        Err(error) => return Err(error),
    };
    let is_there = match (&applied.source, least) {
        (Source::Store { .. }, Least::Position(_)) => {
            offset.is_some_and(|offset| applied.is_behind(0, offset))
        }
        (Source::Topic(_), Least::Offsets(offsets)) => offsets
            .iter()
            .all(|(partition, offset)| applied.is_behind(*partition, *offset)),
        (Source::Store { .. }, Least::Offsets(_)) => {
            let message = format!(
                "projection {view} is of the store, which has positions: say min-position as the append answered it"
            );
            return Err(Error::invalid(message));
        }
        (Source::Topic(topic), Least::Position(_)) => {
            let message = format!(
                "projection {view} is of topic {topic}, which has no positions: say min-position=PARTITION:OFFSET as the publish answered it"
            );
            return Err(Error::invalid(message));
        }
    };
    match applied.stopped {
        Some(why) if !is_there => {
            let message = format!("projection {view} has stopped before that: {why}");
            Err(Error::new(Kind::Conflict, message))
        }
        _ => Ok(is_there),
    }
}

/// Where the event of a position lies in the store's log; `None` before it is there.
async fn offset_of(broker: &Broker, who: &Principal, position: u64) -> Result<Option<u64>> {
    let broker = broker.as_written();
    let all = Query::default();
    let found = broker.find_events(who, &all, position, Direction::Forwards, 1);
    let found = found.await?.events.into_iter().next();
    let event = found.filter(|event| event.place.position == position);
    Ok(event.map(|event| event.place.offset.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read() {
        assert_eq!(Least::parse("7"), Some(Least::Position(7)));
        let offsets = BTreeMap::from([(0, 7), (2, 3)]);
        assert_eq!(Least::parse("0:7,2:3"), Some(Least::Offsets(offsets)));
        for bad in [
            "",
            "x",
            "-1",
            "0:",
            "0:1,",
            "0:1,0:2",
            "1:2:3",
            "99999999999:1",
        ] {
            assert_eq!(Least::parse(bad), None, "{bad}");
        }
    }
}
