//! `mente demo`: the four patterns on a small shop, with real processes and real faults.
//!
//! The server is a process of its own. Everybody else (storefront, shipping, stock, a webhook, billing, and
//! a presale with the three services that its saga asks) talks to it over HTTP as any program would, and writes down what it did in a file of its own.
//! The summary holds what the server remembers against those files: it is never asked how it did.

mod brokers;
mod git;
mod home;
mod ledger;
mod memory;
mod notes;
mod ordering;
mod preorders;
mod roles;
mod rows;
mod server;
mod shop;
mod summary;
mod web;

pub(crate) use brokers::{BROKERS, Brokers};
pub(crate) use git::GitArgs;
pub(crate) use ledger::LedgerArgs;
pub(crate) use roles::ask;
pub(crate) use server::{Inside, Server, Surroundings};
pub(crate) use shop::ShopArgs;

use anyhow::Context;

use crate::failure::{Code, Failure, Result};

/// Runs the shop to its summary; fails if something was lost, invented or stale.
pub(crate) fn shop(args: ShopArgs) -> Result<()> {
    args.check()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the executor")?;
    if let Some(options) = args.page() {
        return page(&runtime, options);
    }
    if runtime.block_on(shop::run(args))? {
        return Ok(());
    }
    Err(Failure::new(
        Code::Failed,
        "the books do not add up: see the summary above",
    ))
}

/// Turns a repository's history into events and folds it back.
pub(crate) fn git(args: GitArgs) -> Result<()> {
    args.home.check()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the executor")?;
    runtime.block_on(git::run(args))
}

/// Turns a Beancount journal into events and shows its balances.
pub(crate) fn ledger(args: LedgerArgs) -> Result<()> {
    args.home.check()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the executor")?;
    runtime.block_on(ledger::run(args))
}

/// Serves the shop's page to its end.
fn page(runtime: &tokio::runtime::Runtime, options: web::Options) -> Result<()> {
    if let Some(address) = options.address
        && !address.ip().is_loopback()
    {
        return Err(Failure::usage(format!(
            "the shop's page has no login and is served on loopback only, not on {address}"
        )));
    }
    Ok(runtime.block_on(web::run(options))?)
}
