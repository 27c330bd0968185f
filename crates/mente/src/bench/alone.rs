//! Rows of one caller that waits for each answer, beside what no such caller can do without.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use mente_broker::{Broker, Expected, Principal, StreamName};
use mente_engine::{Data, Event};

use super::load::{self, PAYLOAD_BYTES, Shot};
use super::null::Bare;
use super::report::{Row, Times};
use super::rows::Bench;
use super::sync;
use crate::run::{Reserve, TokioClock, embedded};

/// What a durable append may take in this process.
const SYNCS_IN_PROCESS: f64 = 1.3;
/// What a door may add to a sync and a call of nothing, in microseconds.
const DOOR_MICROS: f64 = 50.0;

/// What one caller alone saw.
struct Alone {
    row: Row,
    /// Microseconds at p50, as `call` and the row.
    sync: f64,
    call: f64,
    beside: String,
}

impl Bench {
    pub(super) async fn publish_serial(&self) -> Result<Row> {
        self.topic("serial").await?;
        let shot = load::binary("/topics/serial/events");
        let alone = self.alone("publish-serial", move |_| shot.clone()).await?;
        let sent = self.scale.serial * self.scale.rounds;
        let lost = self.missing("serial", sent).await?;
        let row = alone.row.detail(format!("{}; lost {lost}", alone.beside));
        Ok(row.at_most(2.0 * alone.sync))
    }

    pub(super) async fn stream(&self) -> Result<Row> {
        let shot = move |number: usize| {
            let mut shot = load::binary("/streams/bench-1");
            let id = number.to_string().parse().expect("digits");
            shot.headers.insert("ce-id", id);
            shot
        };
        let alone = self.alone("stream", shot).await?;
        let row = alone.row.detail(alone.beside);
        Ok(row.at_most(alone.sync + alone.call + DOOR_MICROS))
    }

    /// The disk changes its mind from minute to minute: its sync, and calls of a server that does nothing
    /// and of one that only syncs, are timed in turn.
    async fn alone(
        &self,
        name: &'static str,
        shot: impl Fn(usize) -> Shot + Clone + Send + Sync + 'static,
    ) -> Result<Alone> {
        let bare = Bare::start(&self.folder).await?;
        let calls = self.scale.serial;
        let (mut rounds, mut syncs) = (Vec::new(), Vec::new());
        let (mut bare_calls, mut durable_calls) = (Vec::new(), Vec::new());
        let mut slowest = 0.0;
        for round in 0..self.scale.rounds {
            syncs.push(sync::floor(&self.folder, calls / 4)?.micros(50));
            let numbered = shot.clone();
            let numbered = move |at: usize| numbered(round * calls + at);
            let fired = load::fire(&self.server.url(), 1, calls, numbered).await?;
            rounds.push(fired.times.micros(50));
            slowest = fired.times.micros(99);
            for (url, times) in [
                (&bare.call, &mut bare_calls),
                (&bare.durable_call, &mut durable_calls),
            ] {
                let called = load::fire(url, 1, calls, shot.clone()).await?;
                times.push(called.times.micros(50));
            }
        }
        let median = |rounds| Row::new("", "us", rounds).median;
        let (sync, call) = (median(syncs), median(bare_calls));
        let durable_call = median(durable_calls);
        let row = Row::new(name, "us p50", rounds);
        let beside = format!(
            "{:.2} x the sync of {sync:.0} us, {:.2} x the {durable_call:.0} us of a bare server that syncs and answers; a call of nothing {call:.0} us; p99 {slowest:.0} us",
            row.median / sync,
            row.median / durable_call
        );
        Ok(Alone {
            row,
            sync,
            call,
            beside,
        })
    }

    /// The same append without a door: broker and log in this process.
    pub(super) async fn stream_in_process(&self) -> Result<Row> {
        let driven = embedded::open(&self.folder.join("in-process"), Reserve::default())
            .map_err(|f| anyhow::anyhow!(f.message))?;
        let clock = Arc::new(TokioClock::new());
        let options = mente_broker::Options::default();
        let (broker, tasks) = Broker::open(Arc::new(driven.engine()), clock, options).await?;
        let mut shards: tokio::task::JoinSet<_> = tasks.into_iter().collect();
        let calls = self.scale.serial;
        let (mut rounds, mut syncs) = (Vec::new(), Vec::new());
        for round in 0..self.scale.rounds {
            syncs.push(sync::floor(&self.folder, calls / 4)?.micros(50));
            let broker = broker.clone();
            let appends = tokio::spawn(append(broker, round * calls, calls));
            rounds.push(appends.await??.micros(50));
        }
        drop(broker);
        while shards.join_next().await.is_some() {}
        driven.close().map_err(|f| anyhow::anyhow!(f.message))?;
        let sync = Row::new("", "us", syncs).median;
        let row = Row::new("in-process", "us p50", rounds);
        let detail = format!(
            "append to a stream, broker and log in one process: {:.2} x the sync of {sync:.0} us",
            row.median / sync
        );
        Ok(row.detail(detail).at_most(SYNCS_IN_PROCESS * sync))
    }
}

async fn append(broker: Broker, first: usize, calls: usize) -> Result<Times> {
    let who = Principal::Anonymous;
    let stream = StreamName::new("bench-1").context("a name")?;
    let data = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let mut times = Vec::with_capacity(calls);
    for number in first..first + calls {
        let event = Event {
            id: number.to_string(),
            source: "/bench".into(),
            kind: "bench.Event".into(),
            data: Data::Binary(data.clone()),
            ..Event::default()
        };
        let began = Instant::now();
        broker
            .append_stream(&who, &stream, Expected::Any, vec![event])
            .await?;
        times.push(began.elapsed());
    }
    Ok(Times::of(times))
}
