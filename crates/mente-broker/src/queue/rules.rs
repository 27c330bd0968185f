//! Rules of a subscription: which records it takes, each as it is or as copies that rules with actions make.
//!
//! ```text
//!  log 0   ──a──b──c──d──          a  matches a rule without an action: partition 0, once
//!  partition 0  a     c            b  matches rules with actions: a copy in the partition of each
//!  partition 1     b  c
//! ```
//! A rule with an action has a *partition of its own* over the same log: its copies are settled, numbered and
//! restored as any records are, and no body is copied. What it makes of a copy is worked out when the copy leaves.
//! A rule holds from one offset to another, so that a restart matches again by the rules of that time.

use mente_engine::Offset;
use serde::{Deserialize, Serialize};

use super::partition::Partition;
use super::{Place, Queue};
use crate::rule::{Message, Rule, RuleFilter};

/// Rules with actions that a subscription has had, those that are gone included.
pub const SLOTS: usize = 64;

/// A rule and where in the log it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedRule {
    pub rule: Rule,
    /// The partition of its copies, if it has an action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    pub from: u64,
    /// It is gone from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl PlacedRule {
    fn holds_at(&self, offset: Offset) -> bool {
        offset.0 >= self.from && self.until.is_none_or(|until| offset.0 < until)
    }
}

/// What a partition of a view wants of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    No,
    Yes,
    /// No rule has an answer, and those who look after the subscription are to see that.
    Unanswered,
}

/// What partition `partition` wants of the record at `offset`, by the rules there.
pub(crate) fn wanted(
    rules: &[PlacedRule],
    partition: u32,
    offset: Offset,
    message: &dyn Message,
    tells_errors: bool,
) -> Wanted {
    let holding = || rules.iter().filter(|placed| placed.holds_at(offset));
    let matches = |filter: &RuleFilter| filter.matches(message);
    if let Some(placed) = holding().find(|placed| placed.slot == Some(partition)) {
        return match matches(&placed.rule.filter) {
            Ok(true) => Wanted::Yes,
            Ok(false) | Err(_) => Wanted::No,
        };
    }
    if partition > 0 {
        return Wanted::No;
    }
    let mut is_unanswered = false;
    for placed in holding().filter(|placed| placed.slot.is_none()) {
        match matches(&placed.rule.filter) {
            Ok(true) => return Wanted::Yes,
            Ok(false) => {}
            Err(_) => is_unanswered = true,
        }
    }
    // One whose copies are made is delivered; an error elsewhere is none then.
    let is_elsewhere = || {
        let with_actions = holding().filter(|placed| placed.slot.is_some());
        let mut answers = with_actions.map(|placed| matches(&placed.rule.filter));
        answers.any(|answer| {
            is_unanswered |= answer.is_err();
            answer == Ok(true)
        })
    };
    let mut is_elsewhere = is_elsewhere;
    match !is_elsewhere() && is_unanswered && tells_errors {
        true => Wanted::Unanswered,
        false => Wanted::No,
    }
}

impl Queue {
    /// Over so many logs; what lies behind them are partitions of rules.
    pub(crate) fn over(mut self, logs: u32) -> Self {
        self.logs = logs;
        self.make_slots();
        self
    }

    pub(super) fn make_slots(&mut self) {
        let rules = self.settings.messages().rules.iter().flatten();
        let slots = rules.filter_map(|placed| Some((placed.slot?, Offset(placed.from))));
        let mut slots: Vec<_> = slots.collect();
        slots.sort_unstable();
        for (slot, from) in slots {
            if slot as usize == self.partitions.len() {
                self.partitions.push(Partition::new(from));
            }
        }
    }

    /// Logs and partitions of rules.
    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// The log that a partition is over.
    pub fn log_index(&self, partition: u32) -> u32 {
        match partition < self.logs {
            true => partition,
            false => 0,
        }
    }

    /// What clients know a record by: those of other partitions than the first are told apart by the upper bits.
    pub(super) fn shown_number(&self, partition: u32, number: u64) -> u64 {
        match partition {
            0 => number,
            // The first is that of scheduled messages.
            partition => u64::from(partition + 1) << 48 | number,
        }
    }

    /// The rule that makes the copy there what it is.
    pub(crate) fn rule_of(&self, (partition, offset): Place) -> Option<&Rule> {
        let rules = self.settings.messages().rules.as_deref()?;
        let of_slot =
            |placed: &&PlacedRule| placed.slot == Some(partition) && placed.from <= offset.0;
        rules.iter().rfind(of_slot).map(|placed| &placed.rule)
    }

    /// Where a change of rules takes effect: nothing from there on was looked at by those before.
    pub(crate) fn unlooked_from(&self) -> Offset {
        let reach = self.partitions.iter().map(|p| p.reach().0.max(p.counted()));
        reach.max().unwrap_or_default()
    }
}
