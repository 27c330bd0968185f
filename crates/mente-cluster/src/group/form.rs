//! What the members of the group write to each other, as JSON. Whoever may join the group
//! may write anything there, so what does not parse, is too large or names shards twice is
//! left out.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::assign::{Claim, assign};
use super::{Node, Seat};
use crate::limits;

/// Of both forms. A later one that is not understood here gets another number.
const VERSION: u32 = 1;

/// Who a node is; enough for others to reach it. Without `Debug`, for the secret.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Identity {
    instance: String,
    address: String,
    secret: String,
    /// Another one after each start.
    incarnation: String,
}

/// What a node says of itself when it joins.
#[derive(Serialize, Deserialize)]
pub(super) struct Card {
    version: u32,
    #[serde(flatten)]
    identity: Identity,
    owned: BTreeSet<u32>,
    generation: i32,
    /// Kafka has the group rebalance only for a card that differs from the last one.
    nonce: u64,
}

/// What the leader made of all the cards; every member gets the same.
#[derive(Serialize, Deserialize)]
struct Map {
    version: u32,
    nodes: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    identity: Identity,
    shards: BTreeSet<u32>,
}

impl Identity {
    pub(super) fn new(seat: &Seat, incarnation: String) -> Self {
        Self {
            instance: seat.instance.clone(),
            address: seat.address.clone(),
            secret: seat.secret.clone(),
            incarnation,
        }
    }

    fn is_small(&self) -> bool {
        let texts = [
            &self.instance,
            &self.address,
            &self.secret,
            &self.incarnation,
        ];
        texts
            .iter()
            .all(|text| text.len() <= limits::NODE_TEXT_BYTES)
    }
}

/// The card of a node, to be sent.
pub(super) fn card(
    identity: &Identity,
    owned: &BTreeSet<u32>,
    generation: i32,
    nonce: u64,
) -> Bytes {
    write(&Card {
        version: VERSION,
        identity: identity.clone(),
        owned: owned.clone(),
        generation,
        nonce,
    })
}

/// The card of the member that Kafka knows under that instance.
pub(super) fn read_card(instance: &str, bytes: &[u8]) -> Option<Card> {
    let card: Card = read(bytes)?;
    let own = card.identity.instance == instance && card.identity.is_small();
    (own && card.version == VERSION).then_some(card)
}

/// What the leader sends, made from the cards of all.
pub(super) fn map(shards: u32, cards: Vec<Card>) -> Bytes {
    let (mut identities, mut claims) = (Vec::new(), Vec::new());
    for card in cards {
        claims.push(Claim {
            instance: card.identity.instance.clone(),
            generation: card.generation,
            shards: card.owned,
        });
        identities.push(card.identity);
    }
    let given = assign(shards, &claims);
    let nodes = identities.into_iter().zip(given);
    write(&Map {
        version: VERSION,
        nodes: nodes
            .map(|(identity, shards)| Entry { identity, shards })
            .collect(),
    })
}

/// The nodes of an assignment, and whether `own` stands there as it is now.
pub(super) fn read_map(bytes: &[u8], shards: u32, own: &Identity) -> Option<(Vec<Node>, bool)> {
    let map: Map = read(bytes)?;
    if map.version != VERSION {
        return None;
    }
    let (mut seen, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let (mut nodes, mut current) = (Vec::new(), false);
    for Entry {
        identity,
        shards: given,
    } in map.nodes
    {
        if !identity.is_small() || !seen.insert(identity.instance.clone()) {
            continue;
        }
        current |= identity == *own;
        let known = given.range(..shards).copied();
        let given = known.filter(|shard| taken.insert(*shard)).collect();
        nodes.push(Node {
            instance: identity.instance,
            address: identity.address,
            secret: identity.secret,
            shards: given,
        });
    }
    Some((nodes, current))
}

fn write(form: &impl Serialize) -> Bytes {
    // Text keys and numbers only: nothing in them can fail to be JSON.
    serde_json::to_vec(form).unwrap_or_default().into()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    if bytes.len() > limits::FORM_BYTES {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(instance: &str) -> Identity {
        let seat = Seat {
            instance: instance.to_owned(),
            address: format!("http://{instance}"),
            secret: "hush".to_owned(),
            shards: 4,
        };
        Identity::new(&seat, "1".to_owned())
    }

    #[test]
    fn a_map_is_read_as_it_was_made_from_cards() {
        let (a, b) = (identity("a"), identity("b"));
        let cards = [("a", &a, [0, 1]), ("b", &b, [2, 3])].map(|(name, identity, owned)| {
            let bytes = card(identity, &owned.into(), 7, 1);
            read_card(name, &bytes).expect("a card")
        });
        let bytes = map(4, cards.into());
        let (nodes, current) = read_map(&bytes, 4, &a).expect("a map");
        assert!(current);
        assert_eq!(nodes[0].shards, [0, 1].into());
        assert_eq!(
            (&*nodes[1].address, &*nodes[1].secret),
            ("http://b", "hush")
        );
        let mut restarted = identity("a");
        restarted.incarnation = "2".to_owned();
        assert!(!read_map(&bytes, 4, &restarted).expect("a map").1);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let own = identity("a");
        let bytes = card(&own, &BTreeSet::new(), -1, 0);
        assert!(read_card("b", &bytes).is_none(), "another's name");
        for bytes in [&b""[..], b"{}", b"[1", b"{\"version\":1}", &[0xff; 99]] {
            assert!(read_card("a", bytes).is_none());
            assert!(read_map(bytes, 4, &own).is_none());
        }
        let mut long = identity("a");
        long.secret = "x".repeat(limits::NODE_TEXT_BYTES + 1);
        assert!(read_card("a", &card(&long, &BTreeSet::new(), -1, 0)).is_none());
        let entry = |shards: &str, name: &str| {
            format!(
                r#"{{"instance":"{name}","address":"","secret":"","incarnation":"","shards":{shards}}}"#
            )
        };
        let nodes = [
            entry("[0,0,9]", "a"),
            entry("[1]", "a"),
            entry("[0,1]", "b"),
        ];
        let text = format!(r#"{{"version":1,"nodes":[{}]}}"#, nodes.join(","));
        let (nodes, current) = read_map(text.as_bytes(), 4, &own).expect("a map");
        let found: Vec<_> = nodes.iter().map(|node| node.shards.clone()).collect();
        assert_eq!(found, [BTreeSet::from([0]), BTreeSet::from([1])]);
        assert!(!current);
        let later = text.replacen("\"version\":1", "\"version\":2", 1);
        assert!(read_map(later.as_bytes(), 4, &own).is_none());
    }

    #[test]
    fn a_secret_is_not_shown() {
        let bytes = map(1, Vec::new());
        assert!(read_map(&bytes, 1, &identity("a")).is_some_and(|(nodes, _)| nodes.is_empty()));
        let node = Node {
            instance: "a".to_owned(),
            address: String::new(),
            secret: "hush".to_owned(),
            shards: BTreeSet::new(),
        };
        assert!(!format!("{node:?}").contains("hush"));
    }
}
