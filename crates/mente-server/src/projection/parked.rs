//! Parked events, for whoever runs a projection: what waits and why, tried again, skipped by name.

use mente_broker::{EntityName, Error, Kind, Principal, Result};
use serde::Serialize;
use tokio::sync::oneshot;

use super::declaration::OnError;
use super::parking::{Asked, Held, ParkedEvent, ParkedKey, Position, Retried};
use super::rows::Place;
use super::sandbox::Rules;
use super::status::Failure;
use super::task::{Command, Retrying};
use super::{Projections, database, on_thread, query};

/// What waits beside the rows of a projection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parked {
    #[serde(flatten)]
    pub held: Held,
    /// The keys that are held up, in the order of their names.
    #[serde(rename = "heldUp", skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<ParkedKey>>,
    /// Events of the one key that was asked for, in order.
    #[serde(rename = "ofKey", skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<ParkedEvent>>,
    /// Whether there are more than are told.
    pub truncated: bool,
}

impl Projections {
    /// The first so many keys that are held up, each with its first event; or of one key the first
    /// so many events.
    pub async fn parked(
        &self,
        who: &Principal,
        name: &EntityName,
        key: Option<String>,
        limit: usize,
    ) -> Result<Parked> {
        self.check_parks(who, name).await?;
        let (place, gate) = self.read(who, name).await?;
        on_thread(move || {
            // One more tells whether there are more.
            let (held, mut keys, mut events) = match key {
                None => {
                    let (held, keys) = held_up(&place, limit + 1)?;
                    (held, Some(keys), None)
                }
                Some(key) => {
                    let (held, events) = of_key(&place, &key, limit + 1)?;
                    (held, None, Some(events))
                }
            };
            drop(gate);
            let found = keys.as_ref().map_or(0, Vec::len) + events.as_ref().map_or(0, Vec::len);
            keys.iter_mut().for_each(|keys| keys.truncate(limit));
            events.iter_mut().for_each(|events| events.truncate(limit));
            Ok(Parked {
                held,
                keys,
                events,
                truncated: found > limit,
            })
        })
        .await
    }

    /// Folds parked events in, those of one key or of all, each key until an event of it fails again.
    pub async fn retry(
        &self,
        who: &Principal,
        name: &EntityName,
        key: Option<String>,
    ) -> Result<Retried> {
        let asked = Asked {
            key,
            ..Asked::default()
        };
        self.ask(who, name, asked).await
    }

    /// Drops this event, which is the first one of its key that is parked, and goes on with the key.
    pub async fn skip(
        &self,
        who: &Principal,
        name: &EntityName,
        key: String,
        position: Position,
    ) -> Result<Retried> {
        let asked = Asked {
            key: Some(key),
            skip: Some(position),
            ..Asked::default()
        };
        self.ask(who, name, asked).await
    }

    async fn ask(&self, who: &Principal, name: &EntityName, asked: Asked) -> Result<Retried> {
        self.check_parks(who, name).await?;
        let (told, answer) = oneshot::channel();
        let retrying = Command::Retry(Retrying { asked, told });
        self.command(who, name, retrying).await?;
        let ended = |_| {
            let message = "the projection ended or was declared anew meanwhile: see its status";
            Error::new(Kind::Conflict, message)
        };
        answer.await.map_err(ended)?.map_err(refused)
    }

    async fn check_parks(&self, who: &Principal, name: &EntityName) -> Result<()> {
        self.declared(who)?
            .get(name)
            .ok_or_else(|| super::missing(name))?;
        let entries = self.inner.entries.lock().await;
        let kept = entries.kept(name)?;
        if kept.declaration.on_error == OnError::Park {
            return Ok(());
        }
        let message = format!(
            "projection {name} parks nothing, it stops at what fails: declare \"onError\": \"park\""
        );
        Err(Error::new(Kind::Conflict, message))
    }
}

fn held_up(place: &Place, limit: usize) -> Result<(Held, Vec<ParkedKey>)> {
    match place {
        Place::Files(files) => {
            let connection = query::open(&files.live, &Rules::default())?;
            database::parked::shown(&connection, limit).map_err(unreadable)
        }
        Place::Postgres(place) => place.parked(limit).map_err(refused),
    }
}

fn of_key(place: &Place, key: &str, limit: usize) -> Result<(Held, Vec<ParkedEvent>)> {
    match place {
        Place::Files(files) => {
            let connection = query::open(&files.live, &Rules::default())?;
            database::parked::of_key(&connection, key, limit).map_err(unreadable)
        }
        Place::Postgres(place) => place.parked_of(key, limit).map_err(refused),
    }
}

/// The live rows may be those of the declaration before, which parked nothing.
fn unreadable(error: rusqlite::Error) -> Error {
    let message = format!(
        "reading what is parked: {error}; if the projection is being built anew, ask when that is done"
    );
    Error::new(Kind::Conflict, message)
}

fn refused(failure: Failure) -> Error {
    let kind = match failure.retry {
        true => Kind::Throttled,
        false => Kind::Conflict,
    };
    Error::new(kind, failure.to_string())
}
