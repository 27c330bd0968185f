//! Rules of subscriptions as doors hear of them: what an action cannot do here is refused when its rule is made.

use mente_broker::rule::{ChangedMessage, Message, Parameters, SqlAction, Value};
use mente_broker::{Error, Kind, Result};
use uuid::Uuid;

/// What is decided of a message when it is sent, and not looked at again in its copies.
const DECIDED: &[&str] = &["SessionId", "TimeToLive"];

/// A message without any property, which notes what an action sets.
#[derive(Default)]
struct Probe {
    set: Vec<String>,
}

impl Message for Probe {
    fn system(&self, _: &str) -> Option<Option<Value<'_>>> {
        Some(None)
    }

    fn user(&self, _: &str) -> Option<Value<'_>> {
        None
    }

    fn new_id(&self) -> Uuid {
        Uuid::nil()
    }
}

impl ChangedMessage for Probe {
    fn set_system(&mut self, name: &str, _: Option<Value<'static>>) {
        self.set.push(name.to_owned());
    }

    fn set_user(&mut self, _: &str, _: Option<Value<'static>>) {}
}

/// The action of this text, if it is one that can be done here.
pub(crate) fn action(expression: impl Into<String>, parameters: Parameters) -> Result<SqlAction> {
    let action = SqlAction::new(expression, parameters)?;
    let mut probe = Probe::default();
    // One that fails without properties has said what comes before; what fails with them leaves the copy as it is.
    let _ = action.apply(&mut probe);
    match probe.set.iter().find(|name| DECIDED.contains(&&***name)) {
        None => Ok(action),
        Some(name) => {
            let message = format!(
                "actions do not change sys.{name} in this Mente: it is decided when a message is sent"
            );
            Err(Error::new(Kind::Unsupported, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_would_not_follow_is_refused() {
        for (text, fits) in [
            ("SET sys.Label = 'a'; SET n = n + 1; REMOVE b", true),
            ("SET sys.sessionid = 'a'", false),
            ("SET a = 'sys.SessionId'", true),
            ("SET n = n / 0; REMOVE sys.TimeToLive", false),
        ] {
            let made = action(text, Parameters::new());
            assert_eq!(made.is_ok(), fits, "{text}: {made:?}");
        }
        let refused = action("SET sys.SessionId = a", Parameters::new()).unwrap_err();
        assert_eq!(refused.kind, Kind::Unsupported);
    }
}
