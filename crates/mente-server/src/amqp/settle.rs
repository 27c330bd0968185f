//! What receivers say of messages, as endings of their locks, and how they are answered: SDKs look for the outcome
//! that they asked for, and take an error in it for a failure.

use mente_broker::Ending;
use mente_broker::queue::LockToken;
use mente_wire::amqp::event::note;
use mente_wire::amqp::machine::DeliveryId;
use mente_wire::amqp::value::{Map, Value};
use mente_wire::amqp::{DeliveryState, Error, Modified, Outcome};

use super::condition::{DEAD_LETTER, Refusal};

const REASON: &str = "DeadLetterReason";
const DESCRIPTION: &str = "DeadLetterErrorDescription";
/// Longest reason and description of a dead letter; more is cut.
const WORDS_CHARS: usize = 4_096;

/// A message that is out, and what was said of it before.
#[derive(Clone, Debug)]
pub(super) struct Out {
    pub(super) token: LockToken,
    pub(super) note: Option<String>,
    /// Its data is kept beside it.
    pub(super) is_large: bool,
}

/// A lock that is to end, and what the receiver hears of it.
#[derive(Clone, Debug)]
pub(super) struct Settlement {
    pub(super) id: DeliveryId,
    pub(super) token: LockToken,
    pub(super) ending: Ending,
    /// None if the receiver wants no word of it.
    pub(super) echo: Option<DeliveryState>,
}

impl Out {
    pub(super) fn ending(&self, outcome: &Outcome) -> Result<Ending, Refusal> {
        match ending(outcome, self.note.as_deref())? {
            Ending::Defer { .. } if self.is_large => Err(no_deferring()),
            ending => Ok(ending),
        }
    }
}

impl Settlement {
    /// `None` of a state that ends nothing yet.
    pub(super) fn of(
        id: DeliveryId,
        out: &Out,
        settled: bool,
        state: Option<&DeliveryState>,
    ) -> Option<Result<Self, Refusal>> {
        let (ending, echo) = match state {
            Some(DeliveryState::Outcome(outcome)) => match out.ending(outcome) {
                Ok(ending) => (ending, echo(outcome)),
                Err(refusal) => return Some(Err(refusal)),
            },
            Some(DeliveryState::Transactional { .. } | DeliveryState::Declared { .. }) => {
                let words = "no message is settled by declaring a transaction";
                return Some(Err(Refusal::not_allowed(words)));
            }
            Some(DeliveryState::Received { .. }) | None if !settled => return None,
            // Done with, and nobody says how: it was not looked at.
            Some(DeliveryState::Received { .. }) | None => (Ending::Return, Outcome::Released),
        };
        Some(Ok(Self {
            id,
            token: out.token,
            ending,
            echo: (!settled).then_some(DeliveryState::Outcome(echo)),
        }))
    }

    /// What the receiver hears if it did not go well.
    pub(super) fn failed(&self, refusal: &Refusal) -> Option<DeliveryState> {
        self.echo.as_ref()?;
        let error = refusal.to_error();
        Some(DeliveryState::Outcome(Outcome::Rejected(Some(error))))
    }
}

/// Deferred messages are had by requests, whose answers have no room for it.
pub(super) fn no_deferring() -> Refusal {
    Refusal::not_implemented(
        "deferring a message that is larger than an event: this Mente cannot hand it out again",
    )
}

fn ending(outcome: &Outcome, earlier: Option<&str>) -> Result<Ending, Refusal> {
    Ok(match outcome {
        Outcome::Accepted => Ending::Complete,
        Outcome::Released => Ending::Return,
        Outcome::Modified(modified) => {
            let note = noted(earlier, modified.message_annotations.as_ref())?;
            match modified.undeliverable_here {
                true => Ending::Defer { note },
                false => Ending::Abandon { note },
            }
        }
        Outcome::Rejected(error) => dead_letter(error.as_ref(), earlier)?,
    })
}

/// Clients of other brokers than Service Bus say why by the error itself.
fn dead_letter(error: Option<&Error>, earlier: Option<&str>) -> Result<Ending, Refusal> {
    let info = error.and_then(|error| error.info.as_ref());
    let told = |name| info.and_then(|info| info.get(name)?.as_str());
    let is_ours = error.is_none_or(|error| error.condition.as_str() == DEAD_LETTER);
    let (reason, description) = match (is_ours, error) {
        (false, Some(error)) => {
            let described = error.description.as_ref().map(|text| text.as_str());
            (Some(error.condition.as_str()), described)
        }
        _ => (None, None),
    };
    let changes = info.map(|info| {
        let others = info.0.iter().filter(|(name, _)| {
            let name = name.as_str();
            name != Some(REASON) && name != Some(DESCRIPTION)
        });
        Map(others.cloned().collect())
    });
    Ok(Ending::DeadLetter {
        reason: cut(told(REASON).or(reason)),
        description: cut(told(DESCRIPTION).or(description)),
        note: noted(earlier, changes.as_ref())?,
    })
}

/// The same by a request: words of its own for how a lock ends.
pub(super) fn requested(body: &Map) -> Result<Ending, Refusal> {
    let changes = match body.get("properties-to-modify") {
        Some(Value::Map(changes)) => Some(changes),
        _ => None,
    };
    let note = noted(None, changes)?;
    let told = |name| cut(body.get(name).and_then(Value::as_str));
    match body.get("disposition-status").and_then(Value::as_str) {
        Some("completed") => Ok(Ending::Complete),
        Some("abandoned") => Ok(Ending::Abandon { note }),
        // As Service Bus spells it.
        Some("defered") => Ok(Ending::Defer { note }),
        Some("suspended") => Ok(Ending::DeadLetter {
            reason: told("deadletter-reason"),
            description: told("deadletter-description"),
            note,
        }),
        other => Err(Refusal::argument(format!(
            "disposition-status {other:?}: there are completed, abandoned, defered and suspended"
        ))),
    }
}

/// Annotations of an outcome are application properties that the receiver changes.
fn noted(earlier: Option<&str>, changes: Option<&Map>) -> Result<Option<String>, Refusal> {
    match changes.filter(|changes| !changes.0.is_empty()) {
        None => Ok(earlier.map(str::to_owned)),
        Some(changes) => note(earlier, changes)
            .map(Some)
            .map_err(|unfit| Refusal::new(unfit.condition(), 400, unfit.to_string())),
    }
}

fn cut(words: Option<&str>) -> String {
    words
        .unwrap_or_default()
        .chars()
        .take(WORDS_CHARS)
        .collect()
}

/// The outcome as it goes back: without what it carried.
pub(super) fn echo(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Accepted => Outcome::Accepted,
        Outcome::Rejected(_) => Outcome::Rejected(None),
        Outcome::Released => Outcome::Released,
        Outcome::Modified(modified) => Outcome::Modified(Modified {
            message_annotations: None,
            ..modified.clone()
        }),
    }
}

#[cfg(test)]
mod tests {
    use mente_wire::amqp::{Symbol, condition};

    use super::*;

    fn map(entries: &[(&'static str, &str)]) -> Map {
        let mut map = Map::default();
        for (name, value) in entries {
            map.set(Symbol::from_static(name), (*value).into());
        }
        map
    }

    fn settle(outcome: Outcome) -> Settlement {
        let out = Out {
            token: LockToken::from_bytes([1; 16]),
            is_large: false,
            note: None,
        };
        let state = DeliveryState::Outcome(outcome);
        let settlement = Settlement::of(DeliveryId(1), &out, false, Some(&state));
        settlement.unwrap().unwrap()
    }

    #[test]
    fn outcomes_end_locks_and_come_back_alike() {
        let modified = |undeliverable_here| {
            Outcome::Modified(Modified {
                delivery_failed: true,
                undeliverable_here,
                message_annotations: None,
            })
        };
        for (outcome, ending) in [
            (Outcome::Accepted, Ending::Complete),
            (Outcome::Released, Ending::Return),
            (modified(false), Ending::Abandon { note: None }),
            (modified(true), Ending::Defer { note: None }),
        ] {
            let settlement = settle(outcome.clone());
            assert_eq!(settlement.ending, ending);
            assert_eq!(settlement.echo, Some(DeliveryState::Outcome(outcome)));
        }
    }

    #[test]
    fn a_dead_letter_says_why_and_is_echoed_without_an_error() {
        let info = map(&[(REASON, "r"), (DESCRIPTION, "d"), ("tried", "twice")]);
        let ours = Error {
            info: Some(info),
            ..Error::new(DEAD_LETTER, "x")
        };
        let settlement = settle(Outcome::Rejected(Some(ours)));
        let noted = note(None, &map(&[("tried", "twice")])).ok();
        let ending = Ending::DeadLetter {
            reason: "r".into(),
            description: "d".into(),
            note: noted,
        };
        assert_eq!(settlement.ending, ending);
        let echo = DeliveryState::Outcome(Outcome::Rejected(None));
        assert_eq!(settlement.echo, Some(echo));

        let theirs = Error::new(condition::DECODE_ERROR, "not mine");
        let Ending::DeadLetter {
            reason,
            description,
            ..
        } = settle(Outcome::Rejected(Some(theirs))).ending
        else {
            panic!("a rejection is a dead letter");
        };
        assert_eq!((&*reason, &*description), ("amqp:decode-error", "not mine"));
    }

    #[test]
    fn what_says_no_outcome_ends_nothing_until_it_is_settled() {
        let out = Out {
            token: LockToken::from_bytes([1; 16]),
            is_large: false,
            note: None,
        };
        let of = |settled| Settlement::of(DeliveryId(1), &out, settled, None);
        assert!(of(false).is_none());
        let settlement = of(true).unwrap().unwrap();
        assert_eq!(settlement.ending, Ending::Return);
        assert_eq!(settlement.echo, None);
    }

    #[test]
    fn a_request_says_it_in_words() {
        let body = map(&[
            ("disposition-status", "suspended"),
            ("deadletter-reason", "r"),
            ("deadletter-description", "d"),
        ]);
        let ending = Ending::DeadLetter {
            reason: "r".into(),
            description: "d".into(),
            note: None,
        };
        assert_eq!(requested(&body), Ok(ending));
        let body = map(&[("disposition-status", "deferred")]);
        assert_eq!(requested(&body).unwrap_err().status, 400);
    }

    #[test]
    fn what_could_not_be_handed_out_again_is_not_put_aside() {
        let deferred = Outcome::Modified(Modified {
            undeliverable_here: true,
            ..Modified::default()
        });
        let state = DeliveryState::Outcome(deferred);
        for is_large in [false, true] {
            let out = Out {
                token: LockToken::from_bytes([1; 16]),
                note: None,
                is_large,
            };
            let settlement = Settlement::of(DeliveryId(1), &out, false, Some(&state));
            let refused = settlement.unwrap().err();
            let condition = refused.map(|refusal| refusal.condition);
            assert_eq!(condition, is_large.then_some("amqp:not-implemented"));
        }
    }
}
