//! What a client does with the store beyond a stream of its own.

use super::{APPENDED_BYTES, Action, Client, Shared, lock};
use crate::history::{Boundary, Part};
use crate::scene::{STREAMS, SUBSCRIPTIONS, Scene, TAGS};

/// An append over several streams, by the number of its tag.
#[derive(Clone, Debug)]
pub(super) struct OfMany {
    parts: Vec<Part>,
    tag: Option<usize>,
    check: Option<Boundary>,
}

/// A command to a stream, and how many events it leads to.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    stream: usize,
    id: String,
    events: u64,
}

impl Client {
    pub(super) fn choose_of_store(&mut self) -> Action {
        let at = self.random.below(STREAMS.len() as u64) as usize;
        let length = self.lengths[at];
        match self.random.below(16) {
            0..=6 => Action::AppendStore(self.choose_of_many()),
            // Streams live for a while before they are deleted.
            7 if length > 3 => {
                let before = 1 + self.random.below(length);
                Action::Hide(at, before, false)
            }
            8 if length > 6 => Action::Hide(at, length, true),
            13 => Action::Command(self.choose_command()),
            9..=12 if length > 0 => {
                let revision = self.random.below(length + 1);
                Action::State(at, Some(revision).filter(|revision| *revision < length))
            }
            14 | 15 => {
                let at = self.random.below(SUBSCRIPTIONS.len() as u64) as usize;
                Action::Replay(SUBSCRIPTIONS[at])
            }
            _ => Action::ReadStream(at),
        }
    }

    fn choose_command(&mut self) -> Asked {
        if let Some(again) = self.last_command.clone().filter(|_| self.random.one_in(2)) {
            return again;
        }
        let asked = Asked {
            stream: self.random.below(STREAMS.len() as u64) as usize,
            id: self.value(APPENDED_BYTES),
            events: 1 + self.random.below(2),
        };
        self.last_command = Some(asked.clone());
        asked
    }

    fn choose_of_many(&mut self) -> OfMany {
        if let Some(again) = self.last_of_many.clone().filter(|_| self.random.one_in(4)) {
            return again;
        }
        let tag = self.random.below(TAGS.len() as u64) as usize;
        let tag = Some(tag).filter(|_| !self.random.one_in(4));
        // Whoever never looked believes that there is none.
        let check = tag.map(|tag| self.boundaries[tag].unwrap_or(Boundary { after: None }));
        let check = check.filter(|_| !self.random.one_in(4));
        let first = self.random.below(STREAMS.len() as u64) as usize;
        let parts = (0..1 + self.random.below(3) as usize).map(|part| Part {
            stream: STREAMS[(first + part) % STREAMS.len()].to_owned(),
            ids: (0..1 + self.random.below(2))
                .map(|_| self.value(APPENDED_BYTES))
                .collect(),
        });
        let append = OfMany {
            parts: parts.collect(),
            tag,
            check,
        };
        self.last_of_many = Some(append.clone());
        append
    }
}

/// Whoever is refused looks again, and so does now and then who is not.
pub(super) async fn append(scene: &Scene, client: &Shared, process: u64, append: OfMany) {
    let OfMany { parts, tag, check } = append;
    let tag_name = tag.map(|tag| TAGS[tag]);
    let done = scene.append_store(process, parts, tag_name, check).await;
    let Some(tag) = tag else { return };
    if !done || lock(client).random.one_in(2) {
        let boundary = scene.boundary(TAGS[tag]).await;
        let known = &mut lock(client).boundaries[tag];
        *known = boundary.or(*known);
    }
}

pub(super) async fn command(scene: &Scene, client: &Shared, process: u64, asked: Asked) {
    let Asked { stream, id, events } = asked;
    let to = scene.command(process, STREAMS[stream], &id, events).await;
    if let Some(to) = to {
        let length = &mut lock(client).lengths[stream];
        *length = (*length).max(to.last_revision + 1);
    }
}
