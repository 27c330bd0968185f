//! `mente demo ledger`.

#![allow(dead_code, reason = "wip")]

mod book;
mod checks;
mod decimal;
mod journal;
mod load;
mod options;
mod pads;
mod syntax;

use std::path::PathBuf;

use super::home::HomeArgs;
use crate::failure::{Failure, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct LedgerArgs {
    path: PathBuf,
    #[command(flatten)]
    pub(super) home: HomeArgs,
}

pub(crate) async fn run(args: LedgerArgs) -> Result<()> {
    let journal = journal::read(&args.path)?;
    for fault in &journal.faults {
        eprintln!("{}", load::told(&journal.files, fault));
    }
    eprintln!("{} entries", journal.entries.len());
    let mut balances: std::collections::BTreeMap<(String, String), decimal::Decimal> = Default::default();
    for e in &journal.entries { if let Some(b) = e.booked() { for p in &b.postings {
        let s = balances.entry((p.account.clone(), p.units.currency.clone())).or_insert_with(decimal::Decimal::zero);
        *s = s.exact_sum(&p.units.number);
    }}}
    for ((a,c),n) in balances { if !n.is_zero() { println!("{a} {c} {}", n.normalized()); } }
    Ok(())
}
