//! `option "NAME" "VALUE"`: those that change what is computed are kept, the others are known by
//! name, so that a slip is told.

use std::collections::BTreeMap;

use super::decimal::Decimal;
use super::syntax::Booking;

#[derive(Clone, Debug)]
pub(super) struct Options {
    /// First names of accounts: assets, liabilities, equity, income, expenses.
    pub(super) roots: [String; 5],
    /// By currency, `*` for every other.
    pub(super) default_tolerances: BTreeMap<String, Decimal>,
    pub(super) tolerance_multiplier: Decimal,
    pub(super) tolerance_from_cost: bool,
    pub(super) precise_interpolation: bool,
    pub(super) booking: Booking,
    pub(super) pipes_are_allowed: bool,
}

/// Those that show, name accounts for reports, or place documents.
const WITHOUT_EFFECT: [&str; 20] = [
    "account_current_conversions",
    "account_current_earnings",
    "account_previous_balances",
    "account_previous_conversions",
    "account_previous_earnings",
    "account_rounding",
    "account_unrealized_gains",
    "allow_deprecated_none_for_tags_and_links",
    "commodities",
    "conversion_currency",
    "dcontext",
    "display_precision",
    "documents",
    "include",
    "input_hash",
    "insert_pythonpath",
    "long_string_maxlines",
    "operating_currency",
    "render_commas",
    "title",
];
const ROOTS: [&str; 5] = [
    "name_assets",
    "name_liabilities",
    "name_equity",
    "name_income",
    "name_expenses",
];

impl Default for Options {
    fn default() -> Self {
        let roots = ["Assets", "Liabilities", "Equity", "Income", "Expenses"];
        Self {
            roots: roots.map(str::to_owned),
            default_tolerances: BTreeMap::new(),
            tolerance_multiplier: Decimal::half(),
            tolerance_from_cost: false,
            precise_interpolation: false,
            booking: Booking::Strict,
            pipes_are_allowed: false,
        }
    }
}

impl Options {
    /// Takes an option over; answers what is wrong with it, which may be several things.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Vec<String> {
        let is_true = ["1", "true", "yes"].contains(&value.to_lowercase().as_str());
        let wrong = || format!("{value:?} is no value of the option {name:?}");
        let mut faults = Vec::new();
        match name {
            "tolerance_multiplier" | "inferred_tolerance_multiplier" => {
                if name != "tolerance_multiplier" {
                    faults.push(format!("the option {name:?} is deprecated"));
                }
                match Decimal::parse(value) {
                    Some(multiplier) => self.tolerance_multiplier = multiplier,
                    None => faults.push(wrong()),
                }
            }
            "inferred_tolerance_default" => match tolerance(value) {
                Some((currency, tolerance)) => {
                    self.default_tolerances.insert(currency, tolerance);
                }
                None => faults.push(wrong()),
            },
            "infer_tolerance_from_cost" => self.tolerance_from_cost = is_true,
            "use_precise_interpolation" => self.precise_interpolation = is_true,
            "booking_method" => match Booking::parse(value) {
                Some(booking) => self.booking = booking,
                None => faults.push(wrong()),
            },
            "allow_pipe_separator" => {
                faults.push(format!("the option {name:?} is deprecated"));
                self.pipes_are_allowed = is_true;
            }
            "allow_deprecated_none_for_tags_and_links" => {
                faults.push(format!("the option {name:?} is deprecated"));
            }
            "plugin_processing_mode" if value == "default" => {}
            // Without pads and assertions the rest would be told wrong.
            "plugin_processing_mode" => faults.push(format!("{}; \"raw\" is not built", wrong())),
            "filename" | "plugin" => faults.push(format!("the option {name:?} may not be set")),
            _ => match ROOTS.iter().position(|root| *root == name) {
                Some(index) => match self.roots.get_mut(index) {
                    Some(root) if is_root(value) => value.clone_into(root),
                    _ => faults.push(wrong()),
                },
                None if WITHOUT_EFFECT.contains(&name) => {}
                None => faults.push(format!("there is no option {name:?}")),
            },
        }
        faults
    }

    /// Whether an account begins with one of the five names and goes on with another.
    pub(super) fn allows(&self, account: &str) -> bool {
        let begins = |c: char| c.is_uppercase() || c.is_numeric();
        self.roots.iter().any(|root| {
            let rest = account.strip_prefix(root.as_str());
            let next = rest.and_then(|rest| rest.strip_prefix(':'));
            next.is_some_and(|next| next.starts_with(begins))
        })
    }
}

fn is_root(name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '-';
    name.starts_with(char::is_uppercase) && name.chars().all(is_part)
}

/// `USD:0.005`.
fn tolerance(value: &str) -> Option<(String, Decimal)> {
    let (currency, number) = value.rsplit_once(':')?;
    Some((currency.to_owned(), Decimal::parse(number)?))
}
