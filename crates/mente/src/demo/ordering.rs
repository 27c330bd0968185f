//! How an order comes to be: the storefront asks for it with a command, and a decider says on the order's own stream
//! whether it was placed. The command's id is its identity, so one that is sent again is decided once.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::roles::{ask, caused_by, event, insist};
use crate::client::Client;

pub(crate) const PLACED: &str = "shop.OrderPlaced";
const SOURCE: &str = "/shop/storefront";

/// The state is the fold of the order's stream (`memory.rs`). An order by hand has a total of its lines, one of the
/// counted day a price.
const DECIDER: &str = "function decide(state, command) {
  if (command.type !== 'shop.PlaceOrder') return { refuse: `an order is not asked for ${command.type}` };
  if (state.status) return { refuse: 'the order was placed by another command' };
  const { total, price = total } = command.data ?? {};
  if (!Number.isSafeInteger(price) || price <= 0) return { refuse: 'an order has a price' };
  const { source, subject, time, data } = command;
  return { type: 'shop.OrderPlaced', source, subject, time, data };
}";

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Placed(Placed),
    /// Nothing was written; why not.
    Refused(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Id of the event that the command led to.
    pub(crate) id: String,
    /// Of that event in the store.
    pub(crate) position: u64,
    /// The command was decided before.
    pub(crate) repeated: bool,
}

pub(crate) async fn furnish(client: &Client) -> Result<()> {
    let decider = json!({ "javascript": DECIDER });
    ask(client, "PUT", "/deciders/order", &decider).await?;
    Ok(())
}

/// The name becomes part of a path and of a query: only what the storefront makes gets there.
pub(crate) fn is_order(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    name.starts_with("order-") && name.chars().all(is_plain)
}

/// The command with this id.
pub(crate) fn command(id: &str, order: &str, data: Value) -> Value {
    event(id, SOURCE, "shop.PlaceOrder", order, Some(data))
}

/// Sends it until it is answered.
pub(crate) async fn send(client: &Client, order: &str, command: &Value) -> Result<Answer> {
    let path = format!("/streams/{order}/commands");
    let response = insist(client, "POST", &path, command).await?;
    let told: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    match response.status {
        200 => {}
        422 => {
            let why = told.pointer("/error/message").and_then(Value::as_str);
            return Ok(Answer::Refused(why.unwrap_or_default().to_owned()));
        }
        status => bail!("{path} was refused: {status} {}", response.text()),
    }
    let id = told.pointer("/events/0/id").and_then(Value::as_str);
    let position = told["position"].as_u64();
    let (id, position) = id.zip(position).context("a command led to no event")?;
    Ok(Answer::Placed(Placed {
        id: id.to_owned(),
        position,
        repeated: told["repeated"] == true,
    }))
}

/// The event that the command led to, for those who read topics: what its stream has.
pub(crate) fn placed(command: &Value, placed: &Placed) -> Value {
    let order = command["subject"].as_str().unwrap_or_default();
    let data = Some(command["data"].clone());
    let mut event = event(&placed.id, SOURCE, PLACED, order, data);
    if !command["time"].is_null() {
        event["time"] = command["time"].clone();
    }
    caused_by(command, event)
}
