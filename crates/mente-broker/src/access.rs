//! Who may do what: one function for every door.

use std::fmt;

use crate::entity::Rights;
use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, StreamName, SubscriptionName};

/// Who is at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Came without a credential.
    Anonymous,
    /// Showed a valid key of this name, which lets its holder do everything.
    Key(String),
    /// Showed one that lets its holder do less.
    Limited(Limited),
}

/// What the holder of a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub name: String,
    pub rights: Rights,
    /// The queue or topic that it is a key of; `None`: it holds for all of them.
    pub entity: Option<EntityName>,
}

/// What something is done to.
pub trait Resource: fmt::Display {
    /// The queue or topic that it is, or that it belongs to; `None` of what keys of one entity are no keys of.
    fn entity(&self) -> Option<&EntityName> {
        None
    }
}

impl Resource for EntityName {
    fn entity(&self) -> Option<&EntityName> {
        Some(self)
    }
}

impl Resource for SubscriptionName {
    fn entity(&self) -> Option<&EntityName> {
        Some(&self.topic)
    }
}

impl Resource for StreamName {}

impl Resource for &str {}

impl Principal {
    /// The holder of a key for all entities.
    pub fn of_key(name: &str, rights: Rights) -> Self {
        let name = name.to_owned();
        match rights == Rights::ALL {
            true => Self::Key(name),
            false => Self::Limited(Limited {
                name,
                rights,
                entity: None,
            }),
        }
    }

    /// Of the key that was shown.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Key(name) | Self::Limited(Limited { name, .. }) => Some(name),
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
    entity: &dyn Resource,
) -> Result<()> {
    match (access, principal) {
        (Access::Open, _) | (Access::Keys, Principal::Key(_)) => Ok(()),
        (Access::Keys, Principal::Anonymous) => Err(Error::new(
            Kind::Unauthenticated,
            format!("{action:?} on {entity} needs a key: send it in the Authorization header"),
        )),
        (Access::Keys, Principal::Limited(limited)) => limited.authorize(action, entity),
    }
}

impl Limited {
    fn authorize(&self, action: Action, entity: &dyn Resource) -> Result<()> {
        let Self { name, rights, .. } = self;
        let is_meant = self.entity.is_none() || self.entity.as_ref() == entity.entity();
        if is_meant && rights.allow(action) {
            return Ok(());
        }
        let of = self.entity.as_ref().map(EntityName::as_path);
        let of = of.map_or_else(String::new, |of| format!(" of {of}"));
        Err(Error::new(
            Kind::Forbidden,
            format!(
                "{action:?} on {entity} needs a key with that right, and {name:?}{of} has {rights}"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 3] = [Action::Listen, Action::Send, Action::Manage];

    fn allowed(principal: &Principal, on: &dyn Resource) -> Vec<Action> {
        let may = |action: &Action| match authorize(Access::Keys, principal, *action, on) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind, Kind::Forbidden);
                false
            }
        };
        ACTIONS.into_iter().filter(may).collect()
    }

    fn of(words: &str) -> Rights {
        let rights = words.split_whitespace().map(|word| word.parse().unwrap());
        rights.fold(Rights::default(), Rights::and)
    }

    #[test]
    fn a_key_does_what_its_rights_say() {
        let topic = EntityName::new("orders").unwrap();
        for (words, expect) in [
            ("Listen", &[Action::Listen][..]),
            ("Send", &[Action::Send]),
            ("Send Listen", &[Action::Listen, Action::Send]),
            ("Manage", &ACTIONS),
        ] {
            let holder = Principal::of_key("k", of(words));
            assert_eq!(allowed(&holder, &topic), expect, "{words}");
            assert_eq!(allowed(&holder, &"the store"), expect, "{words}");
        }
    }

    #[test]
    fn a_key_of_an_entity_is_none_of_another() {
        let name = |name: &str| EntityName::new(name).unwrap();
        let view = |topic: &str| SubscriptionName {
            topic: name(topic),
            name: name("mail"),
        };
        let holder = Principal::Limited(Limited {
            name: "k".to_owned(),
            rights: Rights::ALL,
            entity: Some(name("orders")),
        });
        let (own, letters) = (view("orders"), view("orders").dead_letters());
        for meant in [&name("orders") as &dyn Resource, &own, &letters] {
            assert_eq!(allowed(&holder, meant), ACTIONS, "{meant}");
        }
        let stream = StreamName::new("orders").unwrap();
        let (other, of_other) = (name("orders2"), view("other"));
        let none: [&dyn Resource; 4] = [&other, &of_other, &stream, &"the catalogue"];
        for other in none {
            assert_eq!(allowed(&holder, other), [], "{other}");
        }
    }
}
