//! Tells a course that goes on what it waited for, a piece at a time, between the pages of all others.

use std::sync::Arc;

use mente_broker::{Direction, Kind};
use mente_engine::limits;

use super::course::{Input, Place};
use super::declaration::stream_of;
use super::task::{Result, Saga, placed};
use super::telling::Cut;

impl Saga {
    /// One page for one of them, up to `next`, before which all others were told; whether there is one.
    pub(super) async fn go_on(&mut self, next: u64, end: u64) -> Result<bool> {
        let Some(key) = self.with_board(|board| board.open.going_on(&self.gone)) else {
            return Ok(false);
        };
        self.load([key.clone()].into()).await?;
        let kept = self.courses.get(&key).cloned();
        let Some((from, course)) = kept.and_then(|kept| kept.course.going_on()) else {
            // It was moved on meanwhile; what is there is read, and noted.
            self.courses.remove(&key);
            self.load([key.clone()].into()).await?;
            self.gone = key;
            return Ok(true);
        };
        let query = self.declaration.query(&self.name);
        let start = self
            .gone_to
            .get(&key)
            .map_or(from.position, |to| from.position.max(*to));
        let (forwards, most) = (Direction::Forwards, limits::SAGA_PAGE);
        let found = self
            .broker
            .find_told(&self.who, &query, start, forwards, most);
        let found = match found.await {
            Ok(found) => found,
            Err(error) if matches!(error.kind, Kind::UpcastFailed | Kind::Corrupt) => {
                // The others are past it: it is this course's alone.
                let stream = stream_of(&self.name, &key)?;
                let at = Place {
                    position: start,
                    part: 0,
                };
                let halted = course.halted(self.of(&stream), at.max(from), &error.message);
                self.gone_to.remove(&key);
                self.append(&key, vec![halted], next, end).await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        let read_to = found.next.unwrap_or(found.end);
        let waits = placed(found.events).into_iter();
        let waits = waits.filter(|(place, event)| {
            // What came while it was not declared is told to nobody, but what it is stuck at.
            let since = place.position >= self.declaration.from || *place == from;
            let is_waiting = since && *place >= from && place.position < next;
            is_waiting && self.declaration.key_of(&self.name, event).as_ref() == Some(&key)
        });
        let told = waits.map(|(place, event)| {
            let event = Arc::new(event);
            (key.clone(), Input::Event { place, event })
        });
        let told = told.collect();
        let followed = self.follow([(key.clone(), course)].into(), told).await?;
        let moves = followed.moves.into_iter();
        let moves: Vec<_> = moves.map(|(_, made)| made.waiting()).collect();
        let last = moves.last().map_or(start, |made| made.place().position);
        if !moves.is_empty() {
            self.append(&key, moves, next, end).await?;
        }
        let kept = self.courses.get(&key);
        let Some((_, course)) = kept.and_then(|kept| kept.course.going_on()) else {
            // It is stuck again.
            self.gone_to.remove(&key);
            self.gone = key;
            return Ok(true);
        };
        match followed.cut {
            Some(Cut::Full) => drop(self.gone_to.insert(key.clone(), last)),
            Some(Cut::Slow { input, why, .. }) => {
                let stuck = self.too_slow(&key, &input, why)?;
                self.append(&key, vec![stuck], next, end).await?;
            }
            None if read_to < next => drop(self.gone_to.insert(key.clone(), read_to)),
            None => {
                self.gone_to.remove(&key);
                let stream = stream_of(&self.name, &key)?;
                let caught_up = course.caught_up(self.of(&stream), next);
                self.append(&key, vec![caught_up], next, end).await?;
            }
        }
        // Then it is the next one's turn; who failed tries the same one again.
        self.gone = key;
        Ok(true)
    }
}
