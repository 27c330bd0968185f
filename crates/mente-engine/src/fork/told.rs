//! What a fork keeps of itself: the cuts of each set that it shares, and what it trimmed of them.
//!
//! One record each, its numbers big-endian:
//!
//! ```text
//! key "shared-1"  | value  parent's set u128 · own set u128 · logs u32 · per log: upto u64, goes on u64 · name
//! key "trimmed-1" | value  parent's set u128 · log u32 · before u64
//! ```

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Shared;
use super::cut::Cut;
use crate::batch::BatchBuilder;
use crate::engine::{Engine, Limit};
use crate::error::Error;
use crate::id::{LogId, Offset, SetId, SetName};
use crate::record::Record;

const SHARED: &[u8] = b"shared-1";
const TRIMMED: &[u8] = b"trimmed-1";
/// Bytes that are written as one batch, but one record at least.
const BATCH_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) enum Told {
    Shared(SetId, Shared),
    Trimmed(LogId, Offset),
}

impl Shared {
    /// The same with nothing trimmed, as it is kept.
    pub(super) fn told(&self, set: SetId) -> Told {
        let anew = |cut: &Arc<Cut>| Arc::new(Cut::new(cut.upto, cut.goes_on));
        let cuts = self.cuts.iter().map(anew).collect();
        let (name, own) = (self.name.clone(), self.own);
        Told::Shared(set, Self { name, own, cuts })
    }
}

pub(super) async fn write(engine: &dyn Engine, log: LogId, lines: &[Told]) -> Result<(), Error> {
    let mut batch = BatchBuilder::default();
    for line in lines {
        let (key, value) = line.encode();
        let record = Record {
            key: Some(Bytes::from_static(key)),
            value: Some(value),
            ..Record::default()
        };
        if !batch.is_empty() && batch.size() >= BATCH_BYTES {
            let full = std::mem::take(&mut batch).finish();
            engine.append(&[], vec![(log, full)]).await?;
        }
        batch.push(&record);
    }
    if !batch.is_empty() {
        engine.append(&[], vec![(log, batch.finish())]).await?;
    }
    Ok(())
}

pub(super) async fn read(engine: &dyn Engine, log: LogId) -> Result<Vec<Told>, Error> {
    let bounds = engine.bounds(log).await?;
    let (mut next, mut told) = (bounds.start, Vec::new());
    while next < bounds.end {
        let chunk = engine.read(log, next, Limit::default()).await?;
        for record in chunk.batches.iter().flat_map(crate::Batch::records) {
            let (offset, record) = record.map_err(|_| Error::Corrupt(next))?;
            told.push(Told::decode(&record).ok_or(Error::Corrupt(offset))?);
        }
        if chunk.next <= next {
            return Err(Error::Corrupt(next));
        }
        next = chunk.next;
    }
    Ok(told)
}

impl Told {
    fn encode(&self) -> (&'static [u8], Bytes) {
        let mut bytes = BytesMut::new();
        match self {
            Self::Shared(set, shared) => {
                bytes.put_u128(set.0);
                bytes.put_u128(shared.own.0);
                bytes.put_u32(shared.cuts.len() as u32);
                for cut in &shared.cuts {
                    bytes.put_u64(cut.upto.0);
                    bytes.put_u64(cut.goes_on.0);
                }
                bytes.put_slice(shared.name.as_str().as_bytes());
                (SHARED, bytes.freeze())
            }
            Self::Trimmed(log, before) => {
                bytes.put_u128(log.set.0);
                bytes.put_u32(log.index);
                bytes.put_u64(before.0);
                (TRIMMED, bytes.freeze())
            }
        }
    }

    fn decode(record: &Record) -> Option<Self> {
        let mut value = record.value.clone()?;
        match record.key.as_deref()? {
            SHARED => {
                let set = SetId(value.try_get_u128().ok()?);
                let own = SetId(value.try_get_u128().ok()?);
                let logs = value.try_get_u32().ok()?;
                let mut cut = || {
                    let upto = Offset(value.try_get_u64().ok()?);
                    let goes_on = Offset(value.try_get_u64().ok()?);
                    (upto <= goes_on).then(|| Arc::new(Cut::new(upto, goes_on)))
                };
                let cuts = (0..logs).map(|_| cut()).collect::<Option<Vec<_>>>()?;
                let name = SetName::new(std::str::from_utf8(&value).ok()?).ok()?;
                Some(Self::Shared(set, Shared { name, own, cuts }))
            }
            TRIMMED => {
                let set = SetId(value.try_get_u128().ok()?);
                let log = set.log(value.try_get_u32().ok()?);
                Some(Self::Trimmed(log, Offset(value.try_get_u64().ok()?)))
            }
            _ => None,
        }
    }
}
