//! Worlds in the small: the thousands are `cargo xtask sim`.

mod meta;
mod scenarios;
mod smoke;

#[cfg(feature = "planted")]
mod planted;
