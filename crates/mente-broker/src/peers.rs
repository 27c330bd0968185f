//! The other nodes: who decides for a shard is asked, one hop, whatever node a client came to.
//!
//! What brokers tell each other is JSON: a [`Question`] with the command as it would lie in the shard's
//! mailbox, and as answer the reply or the error. Data is not among it, but for events on their way into a
//! stream: every node reads logs itself.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::broker::CallId;
use crate::error::{Error, Kind, Result};
use crate::shard::{Command, Reply};

/// Changes with every change of a command's or a reply's shape.
const VERSION: u32 = 7;

pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>>> + Send>>;

/// The nodes beside this one, and this one's place among them.
pub trait Peers: Send + Sync + fmt::Debug {
    /// Whether what this node was assigned is certainly still its own. Cheap.
    fn holds(&self) -> bool;

    /// Puts a question to the owner of a shard, with which [`Broker::answer`](crate::Broker::answer) answers
    /// within `wait` and some time for the way. An error is [`Kind::NotOwner`] where certainly nothing was
    /// done (nobody owns it now, the owner cannot be reached), and [`Kind::Unknown`] where that is not
    /// known. To drop the future tells the owner that nobody waits.
    fn ask(&self, shard: u32, question: Vec<u8>, wait: Duration) -> Answer;

    /// The same for what nobody waits for, as well as it goes.
    fn tell(&self, shard: u32, question: Vec<u8>);
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question<C> {
    v: u32,
    pub(crate) shard: usize,
    pub(crate) command: C,
    /// Of a receive call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) call: Option<CallId>,
    /// Earlier ones of the same asker, whose answers it will not hear: what they got goes back first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unheard: Vec<CallId>,
}

pub(crate) fn question(shard: usize, command: &Command) -> Vec<u8> {
    question_of(shard, command, None, Vec::new())
}

pub(crate) fn question_of(
    shard: usize,
    command: &Command,
    call: Option<CallId>,
    unheard: Vec<CallId>,
) -> Vec<u8> {
    let question = Question {
        v: VERSION,
        shard,
        command,
        call,
        unheard,
    };
    serde_json::to_vec(&question).expect("commands have a JSON form")
}

pub(crate) fn read_question(bytes: &[u8]) -> Result<Question<Command>> {
    let question: Question<Command> = serde_json::from_slice(bytes).map_err(unreadable)?;
    if question.v == VERSION {
        return Ok(question);
    }
    let (v, message) = (question.v, "nodes of different versions of Mente");
    let message = format!("{message}: this one speaks version {VERSION}, the other {v}");
    Err(Error::new(Kind::Unsupported, message))
}

pub(crate) fn answer(reply: &Result<Reply>) -> Vec<u8> {
    serde_json::to_vec(reply).expect("replies have a JSON form")
}

pub(crate) fn read_answer(bytes: &[u8]) -> Result<Reply> {
    let answer: Result<Reply> = serde_json::from_slice(bytes).map_err(unreadable)?;
    answer
}

fn unreadable(error: serde_json::Error) -> Error {
    let message = format!("what another node says cannot be read: {error}");
    Error::new(Kind::Unknown, message)
}

/// Shards that a node is to decide for, in a form for people: `0-3, 7`.
pub fn show(shards: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for shard in shards {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *shard => *last = *shard,
            _ => runs.push((*shard, *shard)),
        }
    }
    let run = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

/// Events on their way into streams are a record batch, as which they end, in base64; the stream of each is
/// its key.
pub(crate) mod events {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use mente_engine::{Batch, BatchBuilder, Event, Timestamp};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::name::StreamName;
    use crate::store::keyed;

    type Told = (StreamName, Event);

    pub(crate) fn serialize<S: Serializer>(events: &[Told], to: S) -> Result<S::Ok, S::Error> {
        let mut batch = BatchBuilder::default();
        for (stream, event) in events {
            batch.push(&keyed(stream, event).to_record(Timestamp(0)));
        }
        let bytes = match batch.is_empty() {
            true => Bytes::new(),
            false => batch.finish().as_bytes().clone(),
        };
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Told>, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::parse(bytes.into()).map_err(D::Error::custom)?;
        let event = |found: Result<(_, _), _>| {
            let (offset, record) = found.map_err(D::Error::custom)?;
            let event = Event::from_record(&record, "", 0, offset);
            let key = event
                .key
                .as_deref()
                .and_then(|key| std::str::from_utf8(key).ok());
            let stream = StreamName::stored(key.unwrap_or_default()).map_err(D::Error::custom)?;
            Ok((stream, event))
        };
        batch.records().map(event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{EntityName, SubscriptionName};
    use crate::queue::Letter;

    #[test]
    fn commands_on_the_store_arrive_and_no_topic_is_called_so() {
        let name = SubscriptionName {
            topic: EntityName::store(),
            name: EntityName::new("mail").unwrap(),
        };
        let letter = Letter {
            at: mente_engine::Offset(3),
            record: Some((0, mente_engine::Offset(7))),
        };
        let commands = [
            Command::ListSubscriptions {
                topic: Some(EntityName::store()),
                bounds: Vec::new(),
            },
            Command::ListSubscriptions {
                topic: None,
                bounds: Vec::new(),
            },
            Command::Revive {
                name: name.clone(),
                view: 4,
                from: mente_engine::Offset(1),
                letters: vec![letter],
            },
            Command::Whereabouts {
                topic: EntityName::store(),
                places: vec![(0, mente_engine::Offset(7))],
            },
            Command::DeleteSubscription { name },
        ];
        for command in commands {
            let arrived = read_question(&question(5, &command)).unwrap().command;
            assert_eq!(format!("{arrived:?}"), format!("{command:?}"));
        }
        let topic = Command::DeleteTopic {
            name: EntityName::store(),
        };
        assert!(read_question(&question(5, &topic)).is_err());
    }
}
