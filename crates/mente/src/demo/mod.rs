//! `mente demo`: the four patterns on a small shop, with real processes and real faults.
//!
//! The server is a process of its own. Everybody else (storefront, shipping, stock, a webhook)
//! talks to it over HTTP as any program would, and writes down what it did in a file of its own.
//! The summary is made from those files: the server is never asked how it did.

mod ledger;
mod roles;
mod server;
mod shop;
mod summary;

pub(crate) use shop::{ShopArgs, run};
