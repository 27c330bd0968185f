//! What the demo found, for people and for programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::balances::Balances;
use super::compare::Compared;
use super::journal::{Entry, Journal, What};
use super::load::told;
use super::reverse::Reversed;
use crate::failure::Result;
use crate::output::{line, printable, table};

/// Plugins of beancount, and what is missed where they are not run. Of others nothing is known.
const PLUGINS: [(&str, &str); 18] = [
    ("auto_accounts", "would open accounts, moves no money"),
    ("auto", "would open accounts, moves no money"),
    ("check_average_cost", "only checks"),
    ("check_closing", "would assert balances, moves no money"),
    ("check_commodity", "only checks"),
    ("check_drained", "would assert balances, moves no money"),
    ("close_tree", "would close accounts, moves no money"),
    ("coherent_cost", "only checks"),
    ("commodity_attr", "only checks"),
    ("currency_accounts", "would change balances"),
    ("implicit_prices", "would note prices, moves no money"),
    ("leafonly", "only checks"),
    ("noduplicates", "only checks"),
    ("nounused", "only checks"),
    ("onecommodity", "only checks"),
    ("pedantic", "only checks"),
    ("sellgains", "only checks"),
    ("unique_prices", "only checks"),
];

/// What was done with the journal.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) journal: &'a Journal,
    pub(super) stream: &'a str,
    pub(super) appended: usize,
    pub(super) there: usize,
    /// Revisions of events that are not the journal's.
    pub(super) foreign: &'a [u64],
    pub(super) at: Option<jiff::civil::Date>,
    /// As of when the balances are; nothing if nothing had happened.
    pub(super) revision: Option<u64>,
    pub(super) balances: &'a Balances,
    pub(super) compared: &'a Compared,
    pub(super) reversed: Option<&'a Reversed>,
}

/// Everything that is wrong with the journal, on standard error.
pub(super) fn faults(journal: &Journal) {
    for fault in &journal.faults {
        eprintln!("{}", printable(&told(&journal.files, fault)));
    }
}

impl Report<'_> {
    pub(super) fn print(&self) -> Result<()> {
        let journal = self.journal;
        let name = journal.files.first().and_then(|file| file.file_name());
        let name = name.unwrap_or_default().to_string_lossy();
        line(&format!(
            "journal     {}: {} directives with a date, {} files, {} errors",
            printable(&name),
            directives(journal),
            journal.files.len(),
            journal.faults.len()
        ))?;
        line(&format!("folded      {}", counts(&folded(journal))))?;
        line(&format!(
            "noted only  {}: in the stream as ledger.Noted, they move no money",
            counts(&noted(journal))
        ))?;
        line(&format!("undated     {}", counts(&journal.undated)))?;
        for plugin in &journal.plugins {
            let about = plugin_about(plugin);
            line(&format!(
                "plugin      {} is not run: {about}",
                printable(plugin)
            ))?;
        }
        let (hold, fail) = assertions(&journal.entries);
        line(&format!("assertions  {hold} hold, {fail} fail"))?;
        line(&format!(
            "stream      {}: {} events appended, {} were there already",
            printable(self.stream),
            self.appended,
            self.there
        ))?;
        if let Some(first) = self.foreign.first() {
            line(&format!(
                "foreign     {} events are not in the journal, the first at revision {first}",
                self.foreign.len()
            ))?;
        }
        self.print_balances()?;
        self.print_compared()?;
        match self.reversed {
            None => Ok(()),
            Some(reversed) => {
                line("")?;
                reversed.print()
            }
        }
    }

    fn print_balances(&self) -> Result<()> {
        let date = self
            .at
            .map_or("the end".to_owned(), |date| date.to_string());
        match self.revision {
            None => return line(&format!("\nnothing had happened by {date}\n")),
            Some(revision) => line(&format!("\nbalances at {date}, revision {revision}"))?,
        }
        let row = |(account, currency, number): (&str, &str, &super::decimal::Decimal)| {
            vec![printable(account), number.to_string(), currency.to_owned()]
        };
        let rows: Vec<_> = self.balances.rows().map(row).collect();
        table(&["ACCOUNT", "BALANCE", "CURRENCY"], &rows)?;
        line("")
    }

    fn print_compared(&self) -> Result<()> {
        let Compared { dates, equal, .. } = self.compared;
        let differences = &self.compared.differences;
        if !differences.is_empty() {
            let row = |difference: &super::compare::Difference| {
                vec![
                    difference.date.to_string(),
                    printable(&difference.account),
                    difference.currency.clone(),
                    difference.state.to_string(),
                    difference.summed.to_string(),
                    difference.journal.to_string(),
                ]
            };
            let rows: Vec<_> = differences.iter().map(row).collect();
            table(
                &[
                    "DIFFERENT ON",
                    "ACCOUNT",
                    "CURRENCY",
                    "STATE",
                    "SUMMED",
                    "JOURNAL",
                ],
                &rows,
            )?;
        }
        line(&format!("balances equal {equal} of {dates} dates"))
    }

    pub(super) fn print_json(&self) -> Result<()> {
        let (hold, fail) = assertions(&self.journal.entries);
        let journal = self.journal;
        let errors: Vec<_> = journal
            .faults
            .iter()
            .map(|fault| json!({"line": fault.place.line, "error": told(&journal.files, fault)}))
            .collect();
        let plugins: Vec<_> = journal
            .plugins
            .iter()
            .map(|plugin| json!({"name": plugin, "run": false, "about": plugin_about(plugin)}))
            .collect();
        let compared = self.compared;
        let differences: Vec<_> = compared
            .differences
            .iter()
            .map(|one| one.to_json())
            .collect();
        let mut report = json!({
            "stream": self.stream,
            "appended": self.appended,
            "there": self.there,
            "foreign": self.foreign,
            "folded": folded(journal),
            "noted": noted(journal),
            "undated": journal.undated,
            "plugins": plugins,
            "assertions": {"hold": hold, "fail": fail},
            "errors": errors,
            "at": self.at.map(|date| date.to_string()),
            "revision": self.revision,
            "balances": self.balances.to_json(),
            "compared": {"dates": compared.dates, "equal": compared.equal, "differences": differences},
        });
        if let Value::Object(members) = &mut report {
            if !compared.every.is_empty() {
                members.insert("every".to_owned(), Value::Object(compared.every.clone()));
            }
            if let Some(reversed) = self.reversed {
                members.insert("reversal".to_owned(), reversed.to_json());
            }
        }
        line(&report.to_string())
    }
}

impl Reversed {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "revision": self.revision,
            "reverses": self.of,
            "moved": self.moved.to_json(),
            "before": self.before.of(&self.moved).to_json(),
            "after": self.after.of(&self.moved).to_json(),
            "exact": self.is_exact(),
        })
    }

    pub(super) fn print(&self) -> Result<()> {
        line(&format!(
            "event {} is reversed by event {}, not edited",
            self.of, self.revision
        ))?;
        let row = |(account, currency, moved): (&str, &str, &super::decimal::Decimal)| {
            vec![
                printable(account),
                currency.to_owned(),
                self.before.get(account, currency).to_string(),
                moved.to_string(),
                self.after.get(account, currency).to_string(),
            ]
        };
        let rows: Vec<_> = self.moved.rows().map(row).collect();
        table(
            &["ACCOUNT", "CURRENCY", "BEFORE", "REVERSED", "AFTER"],
            &rows,
        )
    }
}

fn directives(journal: &Journal) -> usize {
    let written = |entry: &&Entry| !matches!(entry.what, What::Padded(_));
    journal.entries.iter().filter(written).count()
}

fn folded(journal: &Journal) -> BTreeMap<&'static str, u64> {
    count(
        journal
            .entries
            .iter()
            .filter_map(|entry| match &entry.what {
                What::Opened { .. } => Some("open"),
                What::Closed { .. } => Some("close"),
                What::Transacted(_) => Some("transaction"),
                What::Padded(_) => Some("padding"),
                What::Asserted(_) => Some("balance"),
                What::Pad { .. } => Some("pad"),
                What::Remark(_) | What::Refused(_) => None,
            }),
    )
}

fn noted(journal: &Journal) -> BTreeMap<&'static str, u64> {
    count(
        journal
            .entries
            .iter()
            .filter_map(|entry| match &entry.what {
                What::Remark(remark) => Some(remark.kind),
                What::Refused(_) => Some("refused transaction"),
                _ => None,
            }),
    )
}

fn count(kinds: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for kind in kinds {
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let one = |(kind, count): (&&str, &u64)| format!("{kind} {count}");
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn assertions(entries: &[Entry]) -> (usize, usize) {
    let mut verdicts = (0, 0);
    for entry in entries {
        match &entry.what {
            What::Asserted(assertion) if assertion.holds => verdicts.0 += 1,
            What::Asserted(_) => verdicts.1 += 1,
            _ => {}
        }
    }
    verdicts
}

fn plugin_about(name: &str) -> &'static str {
    let short = name.strip_prefix("beancount.plugins.");
    let known = PLUGINS.iter().find(|(plugin, _)| Some(*plugin) == short);
    known.map_or("it may change balances", |(_, about)| about)
}
