//! Ids of events that follow from others: UUIDv5, the same whenever and wherever they are derived, so that what
//! is derived twice is one event. What happens by itself, a fact, has a UUIDv7 of whoever says it first.

use uuid::Uuid;

/// Of everything that Mente derives; never to be changed. It is the UUIDv5 of `mente` in the namespace of
/// domain names.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x9acf_6953_056f_5310_b464_b97d_0e1a_8c27);

/// The id of what these words lead to, the first of which says how. No word runs into the next.
pub fn derived(words: &[&str]) -> String {
    derived_uuid(words).to_string()
}

pub(crate) fn derived_uuid(words: &[&str]) -> Uuid {
    let mut name = Vec::new();
    for word in words {
        name.extend_from_slice(&(word.len() as u64).to_be_bytes());
        name.extend_from_slice(word.as_bytes());
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_derived_never_changes() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"mente"));
        assert_eq!(
            derived(&["part", "/s", "1", "2"]),
            "0b715779-82c5-5fe1-9521-d8a1bf4e6603"
        );
        assert_ne!(derived(&["a", "bc"]), derived(&["ab", "c"]));
    }
}
