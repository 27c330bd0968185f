//! Gives dead letters back now and then, once it has seen them.

use anyhow::Result;
use mente_sim::history::{Op, Phase, Replayed};

use super::auditor::letters;
use super::consumer::path;
use super::{AWAY, Answer, BRIEF, Hand, JSON, LEDGERS, WORK};

/// Rest between two times.
const REST_MS: u64 = 600;

pub(in crate::chaos) async fn revive(mut hand: Hand) -> Result<()> {
    while !hand.is_over() {
        let subscription = [WORK, BRIEF, LEDGERS][hand.chance.usize(0..3)];
        if !seen(&hand, subscription).await? || !replay(&hand, subscription).await? {
            hand.elsewhere();
            tokio::time::sleep(AWAY).await;
        }
        hand.pause(REST_MS).await;
    }
    Ok(())
}

async fn seen(hand: &Hand, subscription: &str) -> Result<bool> {
    let op = |letters| Op::DeadLetters {
        subscription: subscription.to_owned(),
        letters,
    };
    hand.diary.note(Phase::Invoke, &op(Vec::new()))?;
    let read = letters(hand.client(), subscription).await;
    let is_answered = read.is_ok();
    match read {
        Ok(letters) => hand.diary.note(Phase::Ok, &op(letters))?,
        Err(_) => hand.diary.note(Phase::Info, &op(Vec::new()))?,
    }
    Ok(is_answered)
}

async fn replay(hand: &Hand, subscription: &str) -> Result<bool> {
    let op = |done| Op::Replay {
        subscription: subscription.to_owned(),
        done,
    };
    hand.diary.note(Phase::Invoke, &op(None))?;
    let path = path(subscription, "subscriptions")?;
    let path = format!("{path}/deadletters:replay");
    let answer = hand.send("POST", &path, JSON, String::new()).await;
    let (phase, done) = match &answer {
        Answer::Ok(answer) => {
            let all = answer["exact"] == true && answer["remaining"] == 0 && answer["passed"] == 0;
            let replayed = answer["replayed"].as_u64().unwrap_or(0);
            (Phase::Ok, Some(Replayed { replayed, all }))
        }
        Answer::Unreached => (Phase::Unheard, None),
        // Letters may have been given back before it was refused.
        Answer::Refused(..) | Answer::Unknown => (Phase::Info, None),
    };
    hand.diary.note(phase, &op(done))?;
    Ok(phase == Phase::Ok)
}
