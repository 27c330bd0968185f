//! What readers of a stream see of it: metadata, truncation, deletion.

use mente_engine::Timestamp;

use super::{Broker, StreamEvent};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use crate::store::{
    Append, AppendedTo, Check, Direction, Expected, Metadata, Place, is_tombstone, read_at,
};

/// How often a deletion begins again because somebody appended meanwhile.
const TRIES: u32 = 8;

/// How a stream is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The next append begins it again, with the next revision.
    Soft,
    /// Nobody appends to it or reads it any more.
    ForGood,
}

impl Broker {
    /// What holds for a stream, and the revision of its metadata; `None` if nothing was ever said.
    pub async fn stream_metadata(
        &self,
        who: &Principal,
        stream: &StreamName,
    ) -> Result<(Metadata, Option<u64>)> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let (metadata, said) = self.metadata_of(stream).await?;
        Ok((metadata, said.map(|said| said.place.revision)))
    }

    /// Says what holds for a stream from now on, instead of what held before; with `expected` only if that was
    /// the metadata of this revision, [`Expected::NoStream`] meaning none. `id` is that of the event that says
    /// so: called again with the same one it answers the same.
    pub async fn set_stream_metadata(
        &self,
        who: &Principal,
        stream: &StreamName,
        id: &str,
        expected: Expected,
        metadata: &Metadata,
    ) -> Result<AppendedTo> {
        authorize(self.options.access, who, Action::Send, stream)?;
        metadata.validate()?;
        if metadata.tombstone {
            let message = "a tombstone is set by deleting the stream for good";
            return Err(Error::invalid(message));
        }
        let end = self.end_of(stream).await?;
        if metadata.truncate_before > end {
            let message = format!(
                "truncateBefore is {}, but the next revision of stream {stream} is {end}",
                metadata.truncate_before
            );
            return Err(Error::new(Kind::OutOfRange, message));
        }
        let checks = vec![Check::Stream(stream.of_metadata(), expected)];
        self.say(who, stream, id, metadata, checks).await
    }

    /// Deletes a stream, if it is as expected. What others appended meanwhile is deleted with it, unless
    /// a revision is expected. `id` is that of the event that says so. Answers where it came to lie.
    pub async fn delete_stream(
        &self,
        who: &Principal,
        stream: &StreamName,
        id: &str,
        expected: Expected,
        how: Deletion,
    ) -> Result<AppendedTo> {
        authorize(self.options.access, who, Action::Send, stream)?;
        for _ in 0..TRIES {
            let end = self.end_of(stream).await?;
            let (mut metadata, said) = self.metadata_of(stream).await?;
            if let Some(said) = said.as_ref().filter(|said| said.event.id == id) {
                return Ok(repeated(said));
            }
            let said = said.map(|said| said.place.revision);
            if metadata.tombstone {
                return Err(is_tombstone(stream));
            }
            let is_gone = end <= metadata.truncate_before;
            if is_gone && how == Deletion::Soft {
                return Err(Error::not_found("stream", stream.as_str()));
            }
            match how {
                Deletion::Soft => metadata.truncate_before = end,
                Deletion::ForGood => metadata.tombstone = true,
            }
            let now = match end.checked_sub(1) {
                Some(last) => Expected::Revision(last),
                None => Expected::NoStream,
            };
            let said = said.map_or(Expected::NoStream, Expected::Revision);
            let checks = vec![
                Check::Stream(stream.of_metadata(), said),
                Check::Stream(stream.clone(), expected),
                Check::Stream(stream.clone(), now),
            ];
            let error = match self.say(who, stream, id, &metadata, checks).await {
                Err(error) if error.kind == Kind::Conflict => error,
                deleted => return deleted,
            };
            // If nobody wrote meanwhile, it is not as the caller expects.
            let (_, now_said) = self.metadata_of(stream).await?;
            let now_said = now_said.map(|said| said.place.revision);
            let now_said = now_said.map_or(Expected::NoStream, Expected::Revision);
            if self.end_of(stream).await? == end && now_said == said {
                return Err(error);
            }
        }
        let message = format!("stream {stream} is written all the time: repeat");
        Err(Error::new(Kind::Throttled, message))
    }

    async fn say(
        &self,
        who: &Principal,
        stream: &StreamName,
        id: &str,
        metadata: &Metadata,
        checks: Vec<Check>,
    ) -> Result<AppendedTo> {
        let event = metadata.event(id.to_owned(), stream);
        event.validate()?;
        let append = Append::new(vec![(stream.of_metadata(), event)], checks);
        let appended = self.append_as_checked(who, append).await?;
        let to = appended.streams.into_iter().next();
        let (_, to) = to.ok_or_else(|| Error::new(Kind::Unknown, "no answer"))?;
        Ok(to)
    }

    /// And the event that said it.
    pub(super) async fn metadata_of(
        &self,
        stream: &StreamName,
    ) -> Result<(Metadata, Option<StreamEvent>)> {
        let beside = stream.of_metadata();
        let backwards = Direction::Backwards;
        let (last, _) = self.places(&beside, u64::MAX, 0, backwards, 1).await?;
        match self.events_at(&last).await?.pop() {
            None => Ok((Metadata::default(), None)),
            Some(said) => Ok((Metadata::of_event(&said.event)?, Some(said))),
        }
    }

    /// The first revision that readers see of a stream of which not everything is to be seen.
    pub(super) async fn first_seen(&self, stream: &StreamName, metadata: &Metadata) -> Result<u64> {
        if metadata.tombstone {
            return Err(is_tombstone(stream));
        }
        let end = self.end_of(stream).await?;
        if end <= metadata.truncate_before {
            let message = match end {
                0 => format!("no stream {stream:?}; create it first"),
                end => format!("stream {stream} is deleted; revision {end} would begin it again"),
            };
            return Err(Error::new(Kind::NotFound, message));
        }
        let first = metadata.first(end);
        match metadata.max_age_seconds {
            Some(seconds) => self.first_since(stream, first..end, seconds).await,
            None => Ok(first),
        }
    }

    /// Of the events of these revisions, the first that is not older than this.
    async fn first_since(
        &self,
        stream: &StreamName,
        mut revisions: std::ops::Range<u64>,
        seconds: u64,
    ) -> Result<u64> {
        let age_ms = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let oldest = self.clock.now().wall.0.saturating_sub(age_ms);
        // They are in the order of their times but for what a clock was set back.
        while !revisions.is_empty() {
            let middle = revisions.start + (revisions.end - revisions.start) / 2;
            let forwards = Direction::Forwards;
            let (place, _) = self.places(stream, middle, 0, forwards, 1).await?;
            if self.time_at(&place).await? >= Timestamp(oldest) {
                revisions.end = middle;
            } else {
                revisions.start = middle + 1;
            }
        }
        Ok(revisions.start)
    }

    async fn time_at(&self, place: &[Place]) -> Result<Timestamp> {
        let records = read_at(&*self.engine, self.store, place).await?;
        let time = records.first().map(|record| record.timestamp);
        time.ok_or_else(|| Error::new(Kind::Corrupt, "an event that the index names is not there"))
    }
}

/// The answer to a call that was answered so before.
fn repeated(said: &StreamEvent) -> AppendedTo {
    AppendedTo {
        first_revision: said.place.revision,
        last_revision: said.place.revision,
        last_position: said.place.position,
        repeated: true,
    }
}
