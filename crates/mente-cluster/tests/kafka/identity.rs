//! Batches of ownerless logs come back as they were sent.

use bytes::Bytes;
use mente_engine::{BatchBuilder, Engine, Limit, Offset, Record, Timestamp};

use crate::{broker, engine, log};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_twelve_patched_bytes_differ() {
    let broker = broker::shared();
    let bootstrap = broker::other().unwrap_or_else(|| broker.bootstrap.clone());
    let engine = engine(&bootstrap);
    let log = log(&engine, "identity", false).await;
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    // Order of time, repeated headers, empty and missing parts: all to be kept.
    let records = [
        Record {
            timestamp: Timestamp(2_000),
            key: Some(text("key")),
            value: None,
            headers: vec![
                (text("h"), Some(text("1"))),
                (text("h"), None),
                (text("h"), Some(text(""))),
            ],
        },
        Record {
            timestamp: Timestamp(1_000),
            value: Some(text("")),
            ..Record::default()
        },
    ];
    let plain = BatchBuilder::from_iter(&records).finish();
    for sent in [
        plain.clone(),
        plain.with_producer(4_711, 3, 17),
        plain.at(Offset(99)),
    ] {
        let at = engine
            .append(&[], vec![(log, sent.clone())])
            .await
            .expect("appended")[0]
            .base;
        let chunk = engine.read(log, at, Limit::default()).await.expect("read");
        let (sent, read) = (sent.as_bytes(), chunk.batches[0].as_bytes());
        assert_eq!(read[..8], at.0.to_be_bytes(), "base offset");
        assert_eq!(read[8..12], sent[8..12], "length");
        assert_eq!(
            read[12..16],
            0i32.to_be_bytes(),
            "leader epoch of a new topic"
        );
        assert_eq!(
            read[16..],
            sent[16..],
            "all that the checksum covers, and itself"
        );
    }
}
