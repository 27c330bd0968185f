//! Appends to the store, as a round decided them.

use std::future::Future;

use bytes::Bytes;
use mente_engine::{self as engine, BatchBuilder, Offset, Record};

use super::Tenure;
use crate::planted::{Planted, planted};
use crate::restore::StoreFences;
use crate::shard::StoreAppend;

impl Tenure<'_> {
    /// Appends to the store, several appends to a batch but each one whole; answers the offset
    /// of each append's first event. Batches are small: events of a stream lie everywhere, and each that is
    /// read is read with its batch.
    pub(super) fn append_to_store(
        &self,
        appends: &[StoreAppend],
    ) -> impl Future<Output = Result<Vec<Offset>, engine::Error>> + use<> {
        let mut calls = Vec::new();
        let mut batch = BatchBuilder::default();
        // Records that precede each append in its batch.
        let mut before: Vec<u64> = Vec::new();
        let mut count = 0;
        let mut close = |batch: BatchBuilder, before: Vec<u64>| {
            if let Some(StoreFences { events: fence, .. }) = self.store_fences
                && !batch.is_empty()
            {
                let append = self
                    .runtime
                    .engine
                    .append(&[fence], vec![(fence.log, batch.finish())]);
                calls.push((append, before));
            }
        };
        for append in appends {
            let bytes: usize = append.records.iter().map(weight).sum();
            if batch.size() + bytes > self.runtime.store_bytes {
                close(std::mem::take(&mut batch), std::mem::take(&mut before));
                count = 0;
            }
            before.push(count);
            for record in &append.records {
                batch.push(record);
                count += 1;
                if planted(Planted::TearAppends) {
                    close(std::mem::take(&mut batch), std::mem::take(&mut before));
                    count = 0;
                }
            }
        }
        close(batch, before);
        async move {
            let mut bases = Vec::new();
            for (append, before) in calls {
                let appended = append.await?;
                let first = appended
                    .first()
                    .ok_or(engine::Error::Unknown("no answer".into()))?;
                bases.extend(
                    before
                        .into_iter()
                        .map(|before| Offset(first.base.0 + before)),
                );
            }
            Ok(bases)
        }
    }
}

/// What a record takes in a batch, or somewhat more.
fn weight(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + length(value) + 10)
        .sum();
    length(&record.key) + length(&record.value) + headers + 32
}
