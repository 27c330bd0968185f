//! Who may do what: one function for every door.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// Who is at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Came without a credential.
    Anonymous,
    /// Showed a valid key of this name.
    Key(String),
}

impl Principal {
    /// Of the key that was shown.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Key(name) => Some(name),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish to a topic, append to a stream.
    Send,
    /// Read, receive, settle.
    Listen,
    /// Create, change, delete, list.
    Manage,
}

/// What the listener demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches the port may do everything: loopback only, or said to be insecure.
    #[default]
    Open,
    /// Only who shows a key.
    Keys,
}

/// Allows or refuses; `entity` is named in the refusal.
pub fn authorize(
    access: Access,
    principal: &Principal,
    action: Action,
    entity: &dyn fmt::Display,
) -> Result<()> {
    match (access, principal) {
        (Access::Open, _) | (Access::Keys, Principal::Key(_)) => Ok(()),
        (Access::Keys, Principal::Anonymous) => Err(Error::new(
            Kind::Unauthenticated,
            format!("{action:?} on {entity} needs a key: send it in the Authorization header"),
        )),
    }
}
