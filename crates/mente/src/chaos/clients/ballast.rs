//! Fills the files of the log and lets go of what it filled them with, so that files end, begin and
//! retire while faults happen: what the others wrote moves into packs. It is not judged itself.

use anyhow::Result;
use serde_json::{Value, json};

use super::{AWAY, Answer, Hand, STRUCTURED};

const TOPIC: &str = "/topics/ballast";
const TOPIC_EVENTS: &str = "/topics/ballast/events";
/// Events after which the topic is deleted and made anew.
const EVENTS: u32 = 40;
const EVENT_BYTES: usize = 900 << 10;

pub(in crate::chaos) async fn fill(mut hand: Hand) -> Result<()> {
    let event = json!({
        "specversion": "1.0", "id": "ballast", "source": "/chaos", "type": "chaos.ballast",
        "data": "x".repeat(EVENT_BYTES),
    });
    let event = event.to_string();
    while !hand.is_over() {
        for method in ["DELETE", "PUT"] {
            // Whatever came of it: the next round comes.
            let body = if method == "PUT" { "{}" } else { "" };
            let content_type = Some(super::JSON);
            drop(
                hand.client()
                    .request(method, TOPIC, content_type, body)
                    .await,
            );
        }
        for _ in 0..EVENTS {
            if hand.is_over() {
                break;
            }
            match hand.post(TOPIC_EVENTS, STRUCTURED, event.clone()).await {
                Answer::Ok(Value::Object(_)) => hand.pause(20).await,
                _ => tokio::time::sleep(AWAY).await,
            }
        }
    }
    Ok(())
}
