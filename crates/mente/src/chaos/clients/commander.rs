//! Sends commands to the streams that others append to. A command of unknown outcome is sent again until it is
//! answered, and some that were answered as well: what it led to is one append, whose ids follow from it.

use anyhow::{Context, Result, bail};
use mente_broker::identity::derived;
use mente_sim::history::{Expect, Op, Phase, To};
use serde_json::{Value, json};

use super::appender::reach;
use super::{APPENDED, AWAY, Answer, Hand, STREAMS, STRUCTURED};

/// Two events for a command of an even number, so that a half would show.
pub(super) fn decider() -> Value {
    let event = format!("{{ type: {APPENDED:?}, data: {{ events: state.events }} }}");
    let source = format!(
        "function decide(state, command) {{ return Array(1 + (command.data + 1) % 2).fill({event}) }}"
    );
    json!({ "javascript": source })
}

pub(in crate::chaos) async fn command(mut hand: Hand) -> Result<()> {
    let mut number = 0_u64;
    while !hand.is_over() {
        let stream = format!("ledger-{}", hand.chance.u64(0..STREAMS));
        number += 1;
        let again = hand.chance.u32(0..10) == 0;
        insist(&hand, &stream, number).await?;
        if again {
            insist(&hand, &stream, number).await?;
        }
        hand.pause(40).await;
    }
    Ok(())
}

/// Sends it until it is answered or the work is over.
async fn insist(hand: &Hand, stream: &str, number: u64) -> Result<()> {
    let id = format!("d{}-{number}", hand.diary.process);
    let events = 1 + (number + 1) % 2;
    let ids = (0..events).map(|at| derived(&["command", stream, &id, &at.to_string()]));
    let ids: Vec<_> = ids.collect();
    let op = |to| Op::Append {
        stream: stream.to_owned(),
        expected: Expect::Any,
        ids: ids.clone(),
        to,
    };
    let command = json!({"specversion": "1.0", "id": id, "source": "/chaos", "type": "chaos.command", "data": number});
    let (path, body) = (format!("/streams/{stream}/commands"), command.to_string());
    while !hand.is_over() {
        hand.diary.note(Phase::Invoke, &op(None))?;
        match reach(hand, &path, STRUCTURED, &body).await {
            Answer::Ok(answer) => {
                let to = to(&answer, &ids);
                let to = to.with_context(|| format!("a command is answered with {answer}"))?;
                return hand.diary.note(Phase::Ok, &op(Some(to)));
            }
            Answer::Refused(status, why) => bail!("a command is refused: {status} {why}"),
            Answer::Unreached => hand.diary.note(Phase::Unheard, &op(None))?,
            Answer::Unknown => hand.diary.note(Phase::Info, &op(None))?,
        }
        tokio::time::sleep(AWAY).await;
    }
    Ok(())
}

/// Where its events lie, if they are the ones that it leads to.
fn to(answer: &Value, ids: &[String]) -> Option<To> {
    let events = answer.get("events")?.as_array()?;
    let told: Vec<_> = events.iter().map(|event| event["id"].as_str()).collect();
    let is_it = told.iter().flatten().eq(ids.iter()) && told.len() == ids.len();
    is_it.then_some(())?;
    Some(To {
        first_revision: events.first()?.get("revision")?.as_u64()?,
        last_revision: answer.get("revision")?.as_u64()?,
        last_position: answer.get("position")?.as_u64()?,
        repeated: answer.get("repeated")?.as_bool()?,
    })
}
