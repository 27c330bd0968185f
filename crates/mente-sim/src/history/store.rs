//! What is told of calls to the store beyond a stream of its own.

use serde::{Deserialize, Serialize};

/// Events of an append for one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub stream: String,
    pub ids: Vec<String>,
}

/// An append is made only if no event with its tag lies behind this position, or anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    pub after: Option<u64>,
}

/// What the server folded: the ids of the events in their order, and how many it counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Of the last event that is in it.
    pub revision: u64,
    pub ids: Vec<String>,
    pub events: u64,
}

/// What came of giving dead letters back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    pub replayed: u64,
    /// All letters that lay there were given back: none was passed over, none is left.
    pub all: bool,
}
