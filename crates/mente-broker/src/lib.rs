//! What users name (topics, subscriptions) and what happens to it: logs seen through views.
//!
//! A door talks to [`Broker`]. What must be decided goes to the shard that owns the entity
//! (`runtime.rs` drives it, `shard.rs` decides, `queue/` is the machine of a subscription), and
//! every decision is a record in the shard's journal before anybody hears of it.
//!
//! This room knows no protocol, no executor and no thread; its machines know no clock.
//!
//! Reading order: `queue/mod.rs` (the model machine), `shard.rs`, `runtime.rs`, `broker.rs`.

pub mod fold;
pub mod queue;
pub mod shard;
pub mod store;

#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;

mod bell;
mod branch;
mod breathing;
pub mod catalogue;
mod claim;
mod deciding;
mod duty;
pub mod identity;
pub mod inline;
pub mod journal;
mod peers;
mod planted;
pub mod properties;
mod restore;
mod runtime;
mod said;
pub mod schema;
mod snapshot;
mod structured;
mod terms;
mod transfer;

pub mod broker;
pub mod dead_letter;

pub mod access;
pub mod entity;
pub mod error;
pub mod filter;
pub mod name;
pub mod nearest;
pub mod partition;
pub mod rule;

pub use access::{Access, Action, Limited, Principal, Resource};
pub use bell::Bell;
pub use branch::{BRANCH_NAME_BYTES, check_branch_name};
pub use broker::{
    Alternative, AsOf, Aside, AskWebhook, Attached, Blamed, Branch, Broker, Cause, CheckedSchema,
    Commanded, Decided, Deletion, Delivery, Effect, Effects, EventPlace, FailedEvent, Forked,
    Found, Head, Idle, Looked, Options, Position, Promoted, Received, Replayed, ShardTask, Start,
    Step, StoredEvent, StreamEvent, StreamPage, StreamPlace, StreamState, Told, Trace, Traced,
    Verified, WhatIf, saga_principal,
};
pub use broker::{Body, Ending, Held, KeptBody, Lock, Message, MessageCounts, Pieces, Settled};
pub use broker::{Sending, Sent, Transaction, Upload, Usage};
pub use catalogue::Catalogue;
pub use claim::Claim;
pub use deciding::DecidingWebhook;
pub use duty::Progress;
pub use entity::SubscriptionEntity;
pub use error::{Error, Kind, Result};
pub use filter::Filter;
pub use fold::Fold;
pub use fold::correction::CORRECTION;
pub use fold::difference::Change;
pub use fold::javascript::{Projected, Projector, Reacted, Reactor};
pub use inline::{Inline, Inlines};
pub use journal::{Definition, Topic};
pub use name::{EntityName, StreamName, SubscriptionName};
pub use peers::{Answer, Peers, show};
#[cfg(feature = "planted")]
pub use planted::{Planted, plant, plant_everywhere};
pub use queue::{
    Mode, NOTE_BYTES, SESSION_STATE_BYTES, SessionLock, Shelf, Shelved, Standing, Taking,
    WantedSession,
};
pub use shard::{Made, SubscriptionInfo, Written};
pub use store::{
    Append, Appended, AppendedTo, CAUSATION, CORRELATION, Chain, Check, Direction, Expected,
    METADATA, Metadata, Query, QueryItem,
};
pub use structured::{ACTOR, ParseEvent};
