//! What a fence is worth: late writes of an earlier owner, in every order that time allows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mente_engine::conformance::{batch, read_all};
use mente_engine::{Batch, Engine, Error, Fence, Limit, LogId, Offset, Term};
use tokio::sync::{Barrier, Mutex};
use tokio::time::{Instant, sleep, sleep_until};

use crate::broker::{self, Broker, COORDINATOR_MEMORY, PRODUCER_MEMORY};
use crate::raw::{self, ACCEPTED, INVALID_PRODUCER_EPOCH, Producer};
use crate::{engine, log};

/// Beyond a memory of the broker, and its next look for what to forget.
const MARGIN: Duration = Duration::from_millis(1_500);

/// One test after the other: they share the wire that stops.
pub(crate) static WIRE: Mutex<()> = Mutex::const_new(());
/// Who claim one log at the same moment, and how often.
const RIVALS: usize = 3;
const ROUNDS: usize = 30;

async fn append(engine: &dyn Engine, fence: Fence, value: &str) -> Result<Offset, Error> {
    let appended = engine
        .append(&[fence], vec![(fence.log, batch(&[value]))])
        .await;
    appended.map(|appended| appended[0].base)
}

async fn values(engine: &dyn Engine, log: LogId) -> Vec<String> {
    let found = read_all(engine, log, Limit::default()).await;
    found.into_iter().map(|(_, value)| value).collect()
}

async fn batch_at(engine: &dyn Engine, log: LogId, at: Offset) -> Batch {
    let chunk = engine.read(log, at, Limit::default()).await.expect("read");
    chunk.batches.into_iter().next().expect("a batch")
}

/// Who claimed: the producer of the term record.
async fn claimant(engine: &dyn Engine, fence: Fence) -> Producer {
    raw::producer(&batch_at(engine, fence.log, fence.at).await)
}

/// A batch as that producer would send it next.
fn forged(by: Producer, value: &str, sequence: i32) -> Batch {
    batch(&[value]).with_producer(by.id, by.epoch, sequence)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_while_another_claims_is_refused() {
    let _wire = WIRE.lock().await;
    let broker = broker::shared();
    let (a, b) = (engine(&broker.proxy.address()), engine(&broker.bootstrap));
    let log = log(&b, "in-flight", true).await;
    let first = a.claim(log).await.expect("claim of a");
    append(&a, first, "early").await.expect("a owns it");
    broker.proxy.hold();
    let late = a.append(&[first], vec![(log, batch(&["late"]))]);
    let later = a.append(&[first], vec![(log, batch(&["later"]))]);
    sleep(Duration::from_millis(100)).await;
    let second = b.claim(log).await.expect("claim of b");
    broker.proxy.release();
    assert_eq!(late.await, Err(Error::Fenced));
    assert_eq!(later.await, Err(Error::Fenced));
    append(&b, second, "b").await.expect("b owns it");
    assert_eq!(values(&b, log).await, ["early", "b"]);
}

/// The next owner claims at once and dies, so that it is forgotten as well; or when the log's
/// leader has forgotten the first; or when the coordinator has, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_cut_off_past_every_memory_is_refused() {
    let _wire = WIRE.lock().await;
    let broker = broker::shared();
    let (a, b) = (engine(&broker.proxy.address()), engine(&broker.bootstrap));
    let claim_after = [
        Duration::ZERO,
        PRODUCER_MEMORY + MARGIN,
        COORDINATOR_MEMORY + MARGIN,
    ];
    let mut firsts = Vec::new();
    for after in claim_after {
        let log = log(&b, &format!("cut-off-{}", after.as_millis()), true).await;
        let first = a.claim(log).await.expect("claim of a");
        append(&a, first, "early").await.expect("a owns it");
        firsts.push(first);
    }
    broker.proxy.hold();
    let cut_off = Instant::now();
    for (first, after) in firsts.iter().zip(claim_after) {
        sleep_until(cut_off + after).await;
        let b = engine(&broker.bootstrap);
        let second = b.claim(first.log).await.expect("claim of b");
        append(&b, second, "b").await.expect("b owns it");
    }
    broker.proxy.release();
    for first in firsts {
        assert_eq!(append(&a, first, "late").await, Err(Error::Fenced));
        assert_eq!(values(&b, first.log).await, ["early", "b"]);
    }
}

/// The owner that claimed last died, and Kafka forgot its claim: a request still held from
/// before cannot come, since its connection was closed long before.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_held_until_a_dead_owner_is_forgotten_never_comes() {
    let _wire = WIRE.lock().await;
    let broker = broker::shared();
    let (a, b) = (engine(&broker.proxy.address()), engine(&broker.bootstrap));
    let log = log(&b, "held", true).await;
    let first = a.claim(log).await.expect("claim of a");
    append(&a, first, "early").await.expect("a owns it");
    let old = claimant(&a, first).await;
    broker.proxy.hold();
    let held = a.append(&[first], vec![(log, batch(&["held"]))]);
    sleep(Duration::from_millis(100)).await;
    let second = b.claim(log).await.expect("claim of b");
    append(&b, second, "b").await.expect("b owns it");
    drop(b);
    sleep(PRODUCER_MEMORY + MARGIN).await;
    broker.proxy.release();
    let held = held.await;
    assert!(
        matches!(held, Err(Error::Unknown(_) | Error::Fenced)),
        "{held:?}"
    );
    assert_eq!(append(&a, first, "late").await, Err(Error::Fenced));
    sleep(Duration::from_millis(200)).await;
    let c = engine(&broker.bootstrap);
    assert_eq!(values(&c, log).await, ["early", "b"]);
    // That the connection is what protects here: on a new one the same batch is taken.
    let taken = raw::produce(&broker.bootstrap, log, &forged(old, "forged", 2)).await;
    assert_eq!(
        taken, ACCEPTED,
        "Kafka remembers longer: simplify the fence"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_owner_renews_and_stays() {
    let broker = broker::shared();
    let (a, b) = (engine(&broker.bootstrap), engine(&broker.bootstrap));
    let log = log(&b, "idle", true).await;
    let first = a.claim(log).await.expect("claim of a");
    append(&a, first, "early").await.expect("a owns it");
    let old = claimant(&a, first).await;
    drop(a);
    let second = b.claim(log).await.expect("claim of b");
    sleep(COORDINATOR_MEMORY + MARGIN).await;
    let late = raw::produce(&broker.bootstrap, log, &forged(old, "late", 2)).await;
    assert_eq!(
        late, INVALID_PRODUCER_EPOCH,
        "b renewed, so a is still known as old"
    );
    append(&b, second, "b").await.expect("b owns it still");
    assert_eq!(values(&b, log).await, ["early", "b"]);
}

/// An owner that writes but is forgotten by the coordinator: the next one gets another
/// producer id, which shuts out nobody by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_under_another_producer_id_shuts_out_the_old_one() {
    let broker = broker::shared();
    let (a, b) = (engine(&broker.bootstrap), engine(&broker.bootstrap));
    let log = log(&b, "another-id", true).await;
    let first = a.claim(log).await.expect("claim of a");
    let old = claimant(&a, first).await;
    drop(a);
    let mut sequence = old.sequence + 1;
    let until = Instant::now() + COORDINATOR_MEMORY + MARGIN;
    while Instant::now() < until {
        let early = forged(old, "early", sequence);
        assert_eq!(raw::produce(&broker.bootstrap, log, &early).await, ACCEPTED);
        sequence += 1;
        sleep(Duration::from_millis(500)).await;
    }
    let second = b.claim(log).await.expect("claim of b");
    assert_ne!(
        claimant(&b, second).await.id,
        old.id,
        "the coordinator forgot"
    );
    let late = raw::produce(&broker.bootstrap, log, &forged(old, "late", sequence)).await;
    assert_eq!(late, INVALID_PRODUCER_EPOCH);
    append(&b, second, "b").await.expect("b owns it");
    assert_eq!(values(&b, log).await.last().map(String::as_str), Some("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_claims_at_once_leave_one_owner_at_each_place() {
    let broker = broker::shared();
    let log = log(&engine(&broker.bootstrap), "many", true).await;
    let together = Arc::new(Barrier::new(RIVALS));
    let rivals: Vec<_> = (0..RIVALS)
        .map(|_| tokio::spawn(rival(broker.clone(), log, together.clone())))
        .collect();
    let (mut terms, mut promised) = (Vec::new(), Vec::new());
    for rival in rivals {
        let (claimed, acknowledged) = rival.await.expect("no panic");
        terms.extend(claimed);
        promised.extend(acknowledged);
    }
    let found = written_under_their_terms(&engine(&broker.bootstrap), log).await;
    for value in &promised {
        assert!(found.contains(value), "{value} was acknowledged");
    }
    let (claims, distinct) = (terms.len(), terms.iter().collect::<BTreeSet<_>>().len());
    assert_eq!(distinct, claims, "no term was given twice");
    assert!(
        claims >= ROUNDS && promised.len() > ROUNDS,
        "{claims} claims, {promised:?}"
    );
}

/// The values of the log, each of which begins with the term that it was written under.
async fn written_under_their_terms(engine: &dyn Engine, log: LogId) -> Vec<String> {
    let (mut from, mut term, mut found) = (Offset(0), None, Vec::new());
    let mut highest = None;
    let end = engine.bounds(log).await.expect("bounds").end;
    while from < end {
        let chunk = engine
            .read(log, from, Limit::default())
            .await
            .expect("read");
        for batch in chunk.batches {
            if batch.term().is_some() {
                // A claim that finds a rival's record before its own writes a higher one.
                term = batch.term();
                continue;
            }
            let (_, record) = batch.records().next().expect("one").expect("well-formed");
            let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
            let of = value.split_once(' ').expect("term and number").0.to_owned();
            assert_eq!(
                Some(of),
                term.map(|t| t.to_string()),
                "written under its term"
            );
            assert!(term >= highest, "terms rise");
            highest = term;
            found.push(value);
        }
        from = chunk.next;
    }
    found
}

/// Claims at the same moment as the others and writes until it is shut out, again and again;
/// the terms that it was given, and what was acknowledged.
async fn rival(
    broker: Arc<Broker>,
    log: LogId,
    together: Arc<Barrier>,
) -> (Vec<Term>, Vec<String>) {
    let engine = engine(&broker.bootstrap);
    let (mut claimed, mut acknowledged) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        together.wait().await;
        let fence = match engine.claim(log).await {
            Ok(fence) => fence,
            Err(Error::Busy(_) | Error::Unknown(_) | Error::Fenced) => continue,
            Err(error) => panic!("{error}"),
        };
        claimed.push(fence.term);
        for number in 0..10 {
            let value = format!("{} {number}", fence.term);
            match append(&engine, fence, &value).await {
                Ok(_) => acknowledged.push(value),
                Err(_) => break,
            }
        }
    }
    (claimed, acknowledged)
}
