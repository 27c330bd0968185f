//! Messages whose data is too large for an event: it is kept in pieces beside the topic, and the event claims it.
//!
//! ```text
//! begin_body ─▶ put_piece … put_piece ─▶ finish_body ─▶ send, with the Body
//!               piece … piece ◀─ kept_body ◀─ take, with the Claim
//! ```

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mente_engine::{Data, Event, LogId, Offset, SetName, limits};

use super::super::Broker;
use crate::access::{Action, Principal, authorize};
use crate::claim::{self, Claim, Manifest, records_of, refer};
use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, SubscriptionName};

/// Data on its way to be kept.
#[derive(Clone, Debug)]
pub struct Upload {
    to: EntityName,
    parts: LogId,
    /// On the monotone clock.
    began: Duration,
}

/// Data that is kept, for a message to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub(super) claim: Claim,
    /// Of the topic whose messages may claim it.
    to: EntityName,
    began: Duration,
}

/// Data that a message claims, to be read piece by piece.
#[derive(Clone, Debug)]
pub struct KeptBody {
    parts: LogId,
    manifest: Manifest,
}

impl Body {
    /// Whether a message to this topic may claim it, if it may have so many bytes.
    pub(super) fn is_for(&self, to: &EntityName, most: u64) -> bool {
        self.to == *to && self.claim.bytes <= most
    }
}

/// Cuts data into pieces as it comes.
#[derive(Debug, Default)]
pub struct Pieces {
    left: BytesMut,
    bytes: u64,
    checksum: u32,
}

impl Pieces {
    /// The pieces that are full by now.
    pub fn add(&mut self, data: &[u8]) -> Vec<Bytes> {
        self.bytes += data.len() as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, data);
        self.left.extend_from_slice(data);
        let mut full = Vec::new();
        while self.left.len() >= limits::PIECE_BYTES {
            full.push(self.left.split_to(limits::PIECE_BYTES).freeze());
        }
        if !full.is_empty() {
            // A rest of it would keep all that came in memory.
            self.left = BytesMut::from(&self.left[..]);
        }
        full
    }

    /// What is left over at the end.
    pub fn last(&mut self) -> Option<Bytes> {
        let left = std::mem::take(&mut self.left);
        (!left.is_empty()).then(|| left.freeze())
    }
}

impl KeptBody {
    pub fn count(&self) -> usize {
        self.manifest.pieces.len()
    }

    pub fn bytes(&self) -> u64 {
        self.manifest.bytes
    }

    pub fn checksum(&self) -> u32 {
        self.manifest.checksum
    }

    /// The checksum of what came before a piece, and of the piece.
    pub fn sum(before: u32, piece: &[u8]) -> u32 {
        crc32c::crc32c_append(before, piece)
    }

    /// As the message declared it.
    pub fn content_type(&self) -> Option<&str> {
        self.manifest.content_type.as_deref()
    }
}

impl Broker {
    /// Begins to keep data of a message to a queue or topic; what is kept and never claimed goes in the end.
    pub async fn begin_body(&self, who: &Principal, to: &EntityName) -> Result<Upload> {
        authorize(self.options.access, who, Action::Send, to)?;
        let (entity, topic) = self.topic_for_messages(who, to, &[]).await?;
        self.check_quota(to, &entity, &topic, 0).await?;
        let name = claim::parts_of(&to.topic_set());
        let parts = match self.holds.set(&name) {
            Some(set) => set.log(0),
            None => {
                let parts = claim::make_parts(&*self.engine, &to.topic_set()).await?;
                self.holds.know(name, parts.set);
                parts
            }
        };
        let began = self.now().monotone;
        let to = to.clone();
        Ok(Upload { to, parts, began })
    }

    /// Durable on return; gives its place. At most [`limits::PIECE_BYTES`].
    pub async fn put_piece(&self, upload: &Upload, piece: Bytes) -> Result<Offset> {
        self.check_upload(upload.began)?;
        self.counts.sent(&upload.to, piece.len());
        let now = self.now().wall;
        let put = claim::put_piece(&*self.engine, upload.parts, now, piece).await;
        self.put(upload, put)
    }

    /// Says which pieces are the data, in its order; durable on return. Who knows `word` and may read the topic may
    /// read the data: it is to be a random one.
    pub async fn finish_body(
        &self,
        upload: &Upload,
        pieces: &Pieces,
        places: Vec<Offset>,
        content_type: Option<String>,
        word: u128,
    ) -> Result<Body> {
        self.check_upload(upload.began)?;
        let manifest = Manifest {
            bytes: pieces.bytes,
            checksum: pieces.checksum,
            word,
            content_type,
            pieces: places,
        };
        let now = self.now().wall;
        let put = claim::put_manifest(&*self.engine, upload.parts, now, &manifest).await;
        Ok(Body {
            claim: self.put(upload, put)?,
            to: upload.to.clone(),
            began: upload.began,
        })
    }

    fn put<T>(&self, upload: &Upload, put: Result<T, mente_engine::Error>) -> Result<T> {
        put.map_err(|error| match error {
            mente_engine::Error::Gone => {
                self.holds.forget(&upload.to.dead_letter_sets());
                let path = upload.to.as_path();
                let message = format!("{path} was deleted while a message came: send it again");
                Error::new(Kind::Throttled, message)
            }
            error => error.into(),
        })
    }

    /// Trimming counts on it that nobody claims what is much older.
    fn check_upload(&self, began: Duration) -> Result<()> {
        let most = Duration::from_secs(limits::UPLOAD_SECONDS);
        if self.now().monotone.saturating_sub(began) <= most {
            return Ok(());
        }
        let message = format!(
            "the message took more than {} seconds to come: send it again, faster or smaller",
            limits::UPLOAD_SECONDS
        );
        Err(Error::new(Kind::Refused, message))
    }

    /// Has the event say where its data is.
    pub(super) fn claim_of(&self, event: &mut Event, body: &Body) -> Result<()> {
        self.check_upload(body.began)?;
        event.data = Data::None;
        refer(event, Some(body.claim.path(&body.to)));
        Ok(())
    }

    /// The data that a message of a view claims; `Corrupt` if it is not there.
    pub async fn kept_body(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        claim: &Claim,
    ) -> Result<KeptBody> {
        authorize(self.options.access, who, Action::Listen, view)?;
        let records = records_of(view);
        let kept = self.kept(&records, claim.at, claim.word).await?;
        let is_it =
            |kept: &KeptBody| (kept.bytes(), kept.checksum()) == (claim.bytes, claim.checksum);
        kept.filter(is_it).ok_or_else(|| {
            let message = format!("the data that a message of {view} claims is not there");
            Error::new(Kind::Corrupt, message)
        })
    }

    /// The data that an event of a topic refers to, by the end of the path in its `dataref`.
    pub async fn body_at(
        &self,
        who: &Principal,
        topic: &EntityName,
        end: &str,
    ) -> Result<KeptBody> {
        self.topic(who, topic).await?;
        let (at, word) = Claim::of_path(end).ok_or_else(|| {
            let message = "a body is a number and 32 hexadecimal digits, as dataref names it";
            Error::invalid(message)
        })?;
        let kept = self.kept(&topic.topic_set(), at, word).await?;
        kept.ok_or_else(|| {
            let message = format!("topic {topic} has no data {end}, or none any more");
            Error::new(Kind::NotFound, message)
        })
    }

    async fn kept(&self, records: &SetName, at: Offset, word: u128) -> Result<Option<KeptBody>> {
        let name = claim::parts_of(records);
        let known = self.holds.set(&name);
        for _ in 0..2 {
            let parts = match self.own_set(&name).await {
                Err(error) if error.kind == Kind::NotFound => return Ok(None),
                set => set?.log(0),
            };
            let manifest = claim::read_manifest(&*self.engine, parts, at, word).await?;
            if let Some(manifest) = manifest {
                return Ok(Some(KeptBody { parts, manifest }));
            }
            if known != Some(parts.set) {
                break;
            }
            // Another node may have made it anew since it was asked for.
            self.holds.forget(name.as_str());
        }
        Ok(None)
    }

    /// One piece, by its place in the order of the data.
    pub async fn piece(&self, body: &KeptBody, index: usize) -> Result<Bytes> {
        let gone = || Error::new(Kind::Corrupt, "a piece of a message's data is not there");
        let at = body.manifest.pieces.get(index).ok_or_else(gone)?;
        let piece = claim::read_piece(&*self.engine, body.parts, *at).await?;
        piece.ok_or_else(gone)
    }
}
