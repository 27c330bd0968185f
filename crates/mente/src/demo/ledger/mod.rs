//! `mente demo ledger`: accounting, as everybody knows it, on a stream.
//!
//! A Beancount journal becomes events, one for each directive; balances at any date are the fold of
//! the events up to it; a mistake is not edited but reversed. A directive that breaks the language
//! ends the demo before anything is written. What only breaks a rule is told, and the rest is
//! folded as beancount folds it.

mod balances;
mod book;
mod checks;
mod compare;
mod decimal;
mod events;
mod journal;
mod load;
mod next;
mod options;
mod pads;
mod report;
mod reverse;
mod store;
mod syntax;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use mente_broker::StreamName;

use super::home::{Home, HomeArgs};
use crate::args::Output;
use crate::failure::{Code, Failure, Result};
use crate::output::line;
use balances::Balances;
use compare::Compared;
use events::TRANSACTED;
use journal::Journal;
use report::Report;
use reverse::{Reversed, reverse};
use store::{Held, Store};

const CATEGORY: &str = "ledger-";
const NOT_EXACT: &str = "balances after the reversal are not those before it and what it moved";

/// Beneath the flags: what a journal may get wrong.
const HELP: &str = "\
Directives become events in date order: ledger.Opened, Closed, Transacted, Padded (what a pad inserts),
Balanced (an assertion, and whether it holds), and Noted for what moves no money. Plugins are named and
not run.

A syntax error, a division by zero or a number of more than 38 digits is told with its line, and nothing
is written. Other errors are told too and end the command with 1, but the rest is folded, as beancount
does: transactions that do not balance, accounts that are not open, currencies that are not allowed,
balances that fail, pads that pad nothing, unknown options, files that an include does not find.
Transactions whose currencies cannot be told apart, and postings whose lots are ambiguous or missing or
whose numbers cannot be found out, are left out. The booking method AVERAGE is not built, there or here.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct LedgerArgs {
    /// A Beancount journal
    #[arg(value_name = "FILE")]
    path: PathBuf,
    #[command(flatten)]
    pub(super) home: HomeArgs,
    /// The stream, ledger-… ; named after the file if absent
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Show the balances at the end of that day, such as 2014-12-31
    #[arg(long, value_name = "DATE")]
    at: Option<Date>,
    /// Compare the balances of every day, not of 400 at most; with -o json it shows them too
    #[arg(long)]
    every_date: bool,
    /// Take a transaction back by another one. With --server the stream must be there, and the
    /// journal is not read
    #[arg(long, value_name = "ID_OR_REVISION")]
    reverse: Option<String>,
    /// Why it is taken back
    #[arg(long, value_name = "TEXT", requires = "reverse")]
    because: Option<String>,
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

pub(crate) async fn run(args: LedgerArgs) -> Result<()> {
    let stream = stream_name(&args)?;
    if args.home.server.is_some()
        && let Some(which) = &args.reverse
    {
        return reverse_there(&args, stream, which).await;
    }
    // What cannot be read is told before a server is started.
    let journal = journal::read(&args.path)?;
    report::faults(&journal);
    let events = events::events(&journal, &stream)?;
    let mut home = Home::open(&args.home, "ledger").await?;
    let client = home.client()?;
    let store = Store::new(&client, stream);
    store.declare_fold().await?;
    let before = store.read().await?;
    let plan = store::plan(&events, &before)?;
    let last = before.last().map(|held| held.revision);
    store.append(last, &plan.new).await?;
    let held = store.read().await?;
    let compared = compare::compare(&store, &held, &events, args.every_date).await?;
    let (revision, balances) = balances_at(&store, &held, args.at).await?;
    let reversed = match (&home.server, which(&args, &held)) {
        (Some(_), Some(which)) => {
            let because = args.because.as_deref().unwrap_or("to show how");
            Some(reverse(&store, &held, &which, Some(because)).await?)
        }
        _ => None,
    };
    let report = Report {
        journal: &journal,
        stream: &store.stream,
        appended: plan.new.len(),
        there: before.len(),
        foreign: &plan.foreign,
        at: args.at,
        revision,
        balances: &balances,
        compared: &compared,
        reversed: reversed.as_ref(),
    };
    match args.output {
        Output::Json => report.print_json()?,
        Output::Table => {
            report.print()?;
            next::print(&args.path, &home, &store.stream, &held, &balances)?;
        }
    }
    home.close().await?;
    verdict(&journal, &compared, reversed.as_ref())
}

/// As of the end of a day, or of the stream; nothing had happened if there is no revision.
async fn balances_at(
    store: &Store<'_>,
    held: &[Held],
    at: Option<Date>,
) -> Result<(Option<u64>, Balances)> {
    let revision = match at {
        Some(date) => compare::revision_at(held, date),
        None => held.last().map(|held| held.revision),
    };
    let balances = match revision {
        Some(revision) => store.balances(revision).await?,
        None => Balances::default(),
    };
    Ok((revision, balances))
}

/// Fails if anything is not as it should be, Mente's part first.
fn verdict(journal: &Journal, compared: &Compared, reversed: Option<&Reversed>) -> Result<()> {
    let failed = |message: String| Err(Failure::new(Code::Failed, message));
    if reversed.is_some_and(|reversed| !reversed.is_exact()) {
        return failed(NOT_EXACT.to_owned());
    }
    if compared.equal < compared.dates {
        let message = "the balances of state, events and journal are not the same: see above";
        return failed(message.to_owned());
    }
    match journal.faults.len() {
        0 => Ok(()),
        count => failed(format!(
            "the journal has {count} errors: see above; the rest of it is folded"
        )),
    }
}

/// What is reversed on a server of the demo's own: what is asked for, or the last transaction that
/// no run before has reversed.
fn which(args: &LedgerArgs, held: &[Held]) -> Option<String> {
    let reversed: BTreeSet<&String> = held.iter().flat_map(|held| &held.reverses).collect();
    let is_fresh = |held: &&Held| {
        held.kind == TRANSACTED && held.reverses.is_none() && !reversed.contains(&held.id)
    };
    let last = held.iter().rfind(is_fresh);
    let last = last.map(|held| held.revision.to_string());
    args.reverse.clone().or(last)
}

async fn reverse_there(args: &LedgerArgs, stream: String, which: &str) -> Result<()> {
    let home = Home::open(&args.home, "ledger").await?;
    let client = home.client()?;
    let store = Store::new(&client, stream);
    let held = store.read().await?;
    let reversed = reverse(&store, &held, which, args.because.as_deref()).await?;
    match args.output {
        Output::Json => line(&reversed.to_json().to_string())?,
        Output::Table => reversed.print()?,
    }
    if reversed.is_exact() {
        return Ok(());
    }
    Err(Failure::new(Code::Failed, NOT_EXACT))
}

/// The category in front says how it is folded.
fn stream_name(args: &LedgerArgs) -> Result<String> {
    let name = match &args.stream {
        Some(name) => name.clone(),
        None => default_name(&args.path),
    };
    let is_name = StreamName::new(name.clone()).is_ok();
    if name.len() > CATEGORY.len() && name.starts_with(CATEGORY) && is_name {
        return Ok(name);
    }
    let message = format!("the stream of a journal is named {CATEGORY}SOMETHING, not {name:?}");
    Err(Failure::usage(message))
}

fn default_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| {
        let is_plain = c.is_ascii_alphanumeric() || "._-~".contains(c);
        if is_plain { c } else { '-' }
    };
    let name: String = stem.chars().take(100).map(plain).collect();
    let name = if name.is_empty() { "journal" } else { &name };
    format!("{CATEGORY}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_after_its_file() {
        assert_eq!(
            default_name(Path::new("/a/my book.beancount")),
            "ledger-my-book"
        );
        assert_eq!(default_name(Path::new("/")), "ledger-journal");
    }
}
