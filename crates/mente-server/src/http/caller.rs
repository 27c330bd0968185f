//! Who calls: a key from the header `Authorization: SharedAccessKey …`, or nobody.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use mente_broker::Principal;

use super::error::Refusal;
use super::{Door, Key};

/// The principal of a request.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Principal);

impl FromRequestParts<Arc<Door>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Refusal> {
        identify(&parts.headers, &door.keys).map(Self)
    }
}

/// Without keys the door knows nobody, so a credential says nothing: development clients must
/// send some key, and any will do.
fn identify(headers: &HeaderMap, keys: &[Key]) -> Result<Principal, Refusal> {
    let (false, Some(shown)) = (keys.is_empty(), headers.get(AUTHORIZATION)) else {
        return Ok(Principal::Anonymous);
    };
    let shown = shown.as_bytes();
    let found = secret(shown).and_then(|secret| {
        // All keys are compared, so that time does not tell which one came near.
        keys.iter().fold(None, |found, key| {
            if same(key.secret.as_bytes(), secret) {
                Some(key)
            } else {
                found
            }
        })
    });
    found
        .map(|key| Principal::of_key(&key.name, key.rights))
        .ok_or_else(|| {
            let message =
                "the key is not known here; send one as Authorization: SharedAccessKey KEY";
            Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
        })
}

fn secret(shown: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = shown.split_at_checked("SharedAccessKey ".len())?;
    scheme
        .eq_ignore_ascii_case(b"SharedAccessKey ")
        .then(|| secret.trim_ascii())
}

/// Compares without telling by its time where the difference lies.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use mente_broker::entity::Rights;

    fn check(keys: &[&str], header: Option<&str>, expect: Option<Principal>) {
        let keys: Vec<_> = keys
            .iter()
            .map(|secret| Key {
                name: format!("name of {secret}"),
                secret: (*secret).to_owned(),
                rights: Rights::ALL,
            })
            .collect();
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        assert_eq!(identify(&headers, &keys).ok(), expect, "{header:?}");
    }

    #[test]
    fn a_key_gives_a_name_and_a_wrong_one_a_refusal() {
        let named = |name: &str| Some(Principal::Key(format!("name of {name}")));
        check(&["a", "b"], Some("SharedAccessKey b"), named("b"));
        check(&["a", "b"], Some("sharedaccesskey  a "), named("a"));
        check(&["a"], Some("SharedAccessKey ab"), None);
        check(&["a"], Some("SharedAccessKey "), None);
        check(&["a"], Some("Bearer a"), None);
        check(&["a"], None, Some(Principal::Anonymous));
        check(&[], Some("SharedAccessKey x"), Some(Principal::Anonymous));
    }
}
