//! Batches of ownerless logs come back as they were sent; what others abort does not.

use bytes::Bytes;
use mente_engine::conformance::{batch, read_all};
use mente_engine::{BatchBuilder, Engine, Limit, Offset, Record, Timestamp};

use crate::{broker, engine, log, raw, run_name};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_twelve_patched_bytes_differ() {
    let broker = broker::any();
    let engine = engine(broker.bootstrap());
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

/// Kafka's own clients write beside us, some in transactions.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_aborted_is_a_hole() {
    let broker = broker::any();
    let engine = engine(broker.bootstrap());
    let log = log(&engine, "aborted", false).await;
    let (name, mut client) = (run_name(), raw::Client::connect(broker.bootstrap()).await);
    let mut producer = client.transactional(&name).await;
    for (value, commit) in [("no", false), ("yes", true), ("never", false)] {
        // A transaction whose end is still on its way keeps the next one waiting.
        let sent = raw::transactional(&batch(&[value]), producer);
        while client.produce(log, &sent, Some(&name)).await != raw::ACCEPTED {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let plain = format!("beside {value}");
        engine
            .append(&[], vec![(log, batch(&[&plain]))])
            .await
            .expect("appended");
        producer = client.end(&name, producer, commit).await;
    }
    let end = engine
        .append(&[], vec![(log, batch(&["end"]))])
        .await
        .expect("appended")[0]
        .last;
    engine
        .watch(log, end)
        .await
        .expect("the transactions are over");
    let found = read_all(&engine, log, Limit::default()).await;
    let found: Vec<_> = found.into_iter().map(|(_, value)| value).collect();
    assert_eq!(
        found,
        ["beside no", "yes", "beside yes", "beside never", "end"]
    );
}
