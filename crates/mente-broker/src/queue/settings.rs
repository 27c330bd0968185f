//! What a queue view is made with. The shape is also that of the HTTP body and the journal.

use std::time::Duration;

use mente_engine::{Offset, limits};
use serde::{Deserialize, Serialize};

use super::rules::{PlacedRule, SLOTS};
use super::secret::Secret;
use crate::entity::SubscriptionEntity;
use crate::error::{Error, Kind, Result};
use crate::filter::Filter;
use crate::name::EntityName;

/// Durations are in milliseconds on the wire of our own HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Everything, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// How long a received record stays out before it is delivered again; 1 s to 1 h.
    pub lock_duration_ms: u64,
    /// Deliveries before a record goes to the dead letters; 1 to 2,000.
    pub max_delivery_count: u32,
    /// Older records go to the dead letters untried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_live_ms: Option<u64>,
    /// While a record of some key is out or waits for another try, no other of that key goes out.
    pub ordered: bool,
    /// Delivered to this receiver by Mente itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<Push>,
    /// What only queue clients know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Box<Messages>>,
}

/// What a view does for queue clients beside what any view does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Messages {
    /// Records of one key go to one receiver at a time, who locks the session of that name.
    pub requires_session: bool,
    /// What is too late goes, and not to the dead letters.
    pub drop_expired: bool,
    /// It is over dead letters: nothing of it expires or becomes one again.
    pub never_gives_up: bool,
    /// Of those whose id came within this time all but the first are dropped.
    pub duplicate_window_ms: Option<u64>,
    /// From where in the log on the window was so many milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub duplicate_windows: Vec<(u64, u64)>,
    /// All that comes goes on to this topic.
    pub forward_to: Option<EntityName>,
    /// In place of the dead-letter log.
    pub forward_dead_letters_to: Option<EntityName>,
    /// Records wait here until they are due, and go on to this topic.
    pub hold_for: Option<EntityName>,
    /// Of a subscription: it takes what these say, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<PlacedRule>>,
    /// What no rule has an answer for goes to the dead letters, and is not just passed over.
    pub tells_rule_errors: bool,
    /// Its log is its own: what is settled need not be kept in it.
    pub trims: bool,
    /// No copy of anything lies below this in the topic that it goes on to.
    pub copies_from: u64,
    /// As clients of Service Bus know it, if it is a subscription of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub described: Option<SubscriptionEntity>,
}

/// Of views that know nothing of messages.
static NO_MESSAGES: Messages = Messages {
    requires_session: false,
    drop_expired: false,
    never_gives_up: false,
    duplicate_window_ms: None,
    duplicate_windows: Vec::new(),
    forward_to: None,
    forward_dead_letters_to: None,
    hold_for: None,
    rules: None,
    tells_rule_errors: false,
    trims: false,
    copies_from: 0,
    described: None,
};

impl Messages {
    pub(super) fn duplicate_windows(&self) -> Option<Vec<(Offset, Duration)>> {
        self.duplicate_window_ms?;
        let windows = self.duplicate_windows.iter();
        let windows = windows.map(|(from, ms)| (Offset(*from), Duration::from_millis(*ms)));
        Some(windows.collect())
    }

    /// A window that is another one than the last holds from here on.
    fn place_window(&mut self, at: Offset) {
        let last = self.duplicate_windows.last().map(|(_, ms)| *ms);
        if let Some(ms) = self.duplicate_window_ms.filter(|ms| last != Some(*ms)) {
            let from = last.map_or(0, |_| at.0);
            self.duplicate_windows.push((from, ms));
        }
        let old = self.duplicate_windows.len().saturating_sub(WINDOWS);
        self.duplicate_windows.drain(..old);
    }

    /// Where all that comes goes on to.
    pub(super) fn next_topic(&self) -> Option<EntityName> {
        self.forward_to.clone().or_else(|| self.hold_for.clone())
    }
}

/// A built-in receiver that posts every record to a webhook and settles by the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    pub url: String,
    /// For the whole exchange, name look-up included; 100 ms to 60 s.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Posts under way at one time; 1 to 64.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    #[serde(default)]
    pub retry: RetrySchedule,
    /// Every post is signed with each of these, the newest first. The one setting that can be
    /// changed; absent in a change, they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<Secret>>,
}

/// Most secrets of one webhook: the live one, the next, and room for a slow change.
const SECRETS: u64 = 4;
const SECRET_BYTES: u64 = 128;

/// How long to wait after the n-th failed attempt: the n-th wait, the last one from then on,
/// plus up to a tenth at random.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySchedule {
    pub waits_ms: Vec<u64>,
}

fn default_timeout_ms() -> u64 {
    30_000
}

fn default_concurrency() -> u32 {
    8
}

impl Default for RetrySchedule {
    /// Event Grid's schedule (10 s, 30 s, 1 m, 5 m, 10 m, 30 m, 1 h, 3 h, 6 h, 12 h).
    fn default() -> Self {
        let seconds = [10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200];
        Self {
            waits_ms: seconds.iter().map(|s| s * 1_000).collect(),
        }
    }
}

impl RetrySchedule {
    /// The wait after `attempts` failed ones, stretched by `jitter` of 0 to 1 tenths.
    pub fn wait(&self, attempts: u32, jitter: f64) -> Duration {
        let at = (attempts.max(1) as usize - 1).min(self.waits_ms.len().saturating_sub(1));
        let base = self.waits_ms.get(at).copied().unwrap_or(0);
        Duration::from_millis(base).mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 10.0)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filter: None,
            lock_duration_ms: 60_000,
            max_delivery_count: 10,
            time_to_live_ms: None,
            ordered: false,
            push: None,
            messages: None,
        }
    }
}

/// Changes of a window that are remembered.
const WINDOWS: usize = 16;

/// Where a rule begins, or ends, that is yet to be placed.
pub(crate) const UNPLACED: u64 = u64::MAX;

impl Settings {
    /// What is new holds from here on, and what is gone no more.
    pub(crate) fn place(&mut self, at: Offset, logs: u32) -> Result<()> {
        if let Some(messages) = &mut self.messages {
            messages.place_window(at);
        }
        let Some(rules) = self.messages.as_mut().and_then(|m| m.rules.as_mut()) else {
            return Ok(());
        };
        let taken = rules.iter().filter_map(|placed| placed.slot).max();
        let mut slot = taken.map_or(logs, |slot| slot + 1);
        for placed in rules.iter_mut() {
            if placed.from == UNPLACED {
                placed.from = at.0;
            }
            if placed.until == Some(UNPLACED) {
                placed.until = Some(at.0);
            }
            if placed.rule.action.is_some() && placed.slot.is_none() {
                if logs > 1 {
                    let message = "a rule with an action is only for topics of one partition";
                    return Err(Error::new(Kind::Unsupported, message));
                }
                if slot as usize >= SLOTS {
                    let message = format!(
                        "a subscription has had {SLOTS} rules with actions: make another one"
                    );
                    return Err(Error::new(Kind::Throttled, message));
                }
                placed.slot = Some(slot);
                slot += 1;
            }
        }
        Ok(())
    }

    pub fn has_messages(&self) -> bool {
        self.messages.is_some()
    }

    pub fn messages(&self) -> &Messages {
        self.messages.as_deref().unwrap_or(&NO_MESSAGES)
    }

    pub fn lock_duration(&self) -> Duration {
        Duration::from_millis(self.lock_duration_ms)
    }

    pub fn time_to_live(&self) -> Option<Duration> {
        self.time_to_live_ms.map(Duration::from_millis)
    }

    /// What a webhook's posts are signed with.
    pub fn secrets(&self) -> &[Secret] {
        let secrets = self.push.as_ref().and_then(|push| push.secrets.as_deref());
        secrets.unwrap_or_default()
    }

    /// Without a webhook there is nothing to sign, and nothing changes.
    pub(crate) fn set_secrets(&mut self, secrets: &[Secret]) {
        if let Some(push) = &mut self.push {
            push.secrets = Some(secrets.to_vec());
        }
    }

    /// The secrets to take over from `wanted`, if it wants others and the same of all else.
    pub(crate) fn changed_secrets<'a>(&self, wanted: &'a Self) -> Option<&'a [Secret]> {
        wanted.push.as_ref()?.secrets.as_ref()?;
        let mut changed = self.clone();
        changed.set_secrets(wanted.secrets());
        (changed == *wanted && self.secrets() != wanted.secrets()).then(|| wanted.secrets())
    }

    /// Whether it is as `wanted` says, which may say nothing of secrets.
    pub(crate) fn is_as(&self, wanted: &Self) -> bool {
        let mut wanted = wanted.clone();
        if wanted
            .push
            .as_ref()
            .is_some_and(|push| push.secrets.is_none())
        {
            wanted.set_secrets(self.secrets());
        }
        let mut have = self.clone();
        have.set_secrets(self.secrets());
        have == wanted
    }

    pub fn validate(&self) -> Result<()> {
        // One record of the journal holds them, and each of its snapshots does.
        let size = serde_json::to_vec(self).map_or(usize::MAX, |json| json.len());
        if size > limits::DEFINITION_BYTES {
            let message = format!(
                "the settings of a subscription have at most {} bytes, these have {size}",
                limits::DEFINITION_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        if let Some(filter) = &self.filter {
            filter.validate()?;
        }
        within("lock_duration_ms", self.lock_duration_ms, 1_000, 3_600_000)?;
        within(
            "max_delivery_count",
            u64::from(self.max_delivery_count),
            1,
            match self.has_messages() {
                true => i32::MAX as u64,
                false => 2_000,
            },
        )?;
        if let Some(ttl) = self.time_to_live_ms {
            within("time_to_live_ms", ttl, 1, 100 * 365 * 24 * 3_600_000)?;
        }
        if let Some(push) = &self.push {
            within("push.timeout_ms", push.timeout_ms, 100, 60_000)?;
            within("push.concurrency", u64::from(push.concurrency), 1, 64)?;
            within(
                "the number of push.retry.waits_ms",
                push.retry.waits_ms.len() as u64,
                1,
                100,
            )?;
            let secrets = self.secrets();
            within(
                "the number of push.secrets",
                secrets.len() as u64,
                0,
                SECRETS,
            )?;
            for secret in secrets {
                let bytes = secret.expose().len() as u64;
                within("the length of a push secret", bytes, 1, SECRET_BYTES)?;
            }
            for wait in &push.retry.waits_ms {
                within("push.retry.waits_ms", *wait, 0, 7 * 24 * 3_600_000)?;
            }
            // Every post must end before its lease does, or one record is posted twice at a time.
            if push.timeout_ms >= self.lock_duration_ms {
                return Err(Error::invalid(format!(
                    "push.timeout_ms ({}) must be shorter than lock_duration_ms ({})",
                    push.timeout_ms, self.lock_duration_ms
                )));
            }
        }
        Ok(())
    }
}

fn within(name: &str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {value}, but must be from {low} to {high}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_ends_in_its_last_wait() {
        let schedule = RetrySchedule {
            waits_ms: vec![100, 200],
        };
        let waits: Vec<_> = (1..=3).map(|n| schedule.wait(n, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 200]);
        assert_eq!(schedule.wait(1, 1.0).as_millis(), 110);
    }

    fn webhook(secrets: Option<&[&str]>) -> Settings {
        let mut settings = Settings {
            push: serde_json::from_str(r#"{"url":"http://a/"}"#).unwrap(),
            ..Settings::default()
        };
        if let Some(secrets) = secrets {
            let secrets: Vec<_> = secrets.iter().map(|s| Secret::new(*s)).collect();
            settings.set_secrets(&secrets);
        }
        settings
    }

    #[test]
    fn secrets_change_alone_and_stay_when_nothing_is_said_of_them() {
        let check = |have: Option<&[&str]>, want: Option<&[&str]>, same: bool, changes: bool| {
            let (have, want) = (webhook(have), webhook(want));
            assert_eq!(have.is_as(&want), same, "{have:?} {want:?}");
            assert_eq!(have.changed_secrets(&want).is_some(), changes);
            let other = Settings {
                ordered: true,
                ..want
            };
            assert!(!have.is_as(&other) && have.changed_secrets(&other).is_none());
        };
        check(None, None, true, false);
        check(None, Some(&[]), true, false);
        check(Some(&[]), None, true, false);
        check(Some(&["a"]), None, true, false);
        check(Some(&["a"]), Some(&["a"]), true, false);
        check(None, Some(&["a"]), false, true);
        check(Some(&["a"]), Some(&["b", "a"]), false, true);
        check(Some(&["b", "a"]), Some(&[]), false, true);
    }

    #[test]
    fn a_secret_is_journaled_and_not_printed() {
        let settings = webhook(Some(&["whsec_sesame"]));
        assert!(!format!("{settings:?}").contains("sesame"));
        let kept = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&kept).unwrap(), settings);
        // What was kept before there were secrets, and what has none, look alike.
        let none = serde_json::to_string(&webhook(None)).unwrap();
        assert!(!none.contains("secrets"), "{none}");
    }

    #[test]
    fn bounds_are_checked_with_their_names() {
        let bad = Settings {
            lock_duration_ms: 10,
            ..Settings::default()
        };
        assert!(
            bad.validate()
                .unwrap_err()
                .message
                .contains("lock_duration_ms")
        );
        assert!(Settings::default().validate().is_ok());
    }
}
