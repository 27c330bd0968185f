//! Who asks: the holder of a key, who signed for what is asked of or for something above it, or nobody.

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use mente_broker::{Access, Principal};
use mente_engine::Timestamp;
use mente_wire::servicebus::sas::{Refused, Signature};
use percent_encoding::percent_decode_str;

use super::error::{Refusal, Result};
use super::{Door, Key};

/// Where the broker demands nothing any signature does, as with Service Bus' emulator, and it proves nobody.
pub(super) fn identify(door: &Door, parts: &Parts) -> Result<Principal> {
    if door.access == Access::Open {
        return Ok(Principal::Anonymous);
    }
    let shown = parts.headers.get(AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok());
    let Some(shown) = shown else {
        let detail = "a shared access signature is wanted in the header Authorization";
        return Err(Refusal::unauthorized(detail));
    };
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    let verified = verify(&door.keys, shown, &path, door.broker.now().wall);
    match verified {
        Ok((name, true)) => Ok(Principal::Key(name)),
        Ok((_, false)) => {
            let detail = format!("the token is for another audience than {path}");
            Err(Refusal::unauthorized(detail))
        }
        Err(refused) => Err(Refusal::unauthorized(refused.to_string())),
    }
}

/// Whose signature it is, and whether it is for this path.
fn verify(
    keys: &[Key],
    shown: &str,
    path: &str,
    now: Timestamp,
) -> std::result::Result<(String, bool), Refused> {
    let signature = Signature::parse(shown)?;
    let mut refused = Refused::Forged;
    for key in keys.iter().filter(|key| key.name == signature.key_name()) {
        match signature.verify(&key.secret, now) {
            Ok(()) => return Ok((key.name.clone(), signature.covers(path))),
            Err(other) => refused = other,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mente_wire::servicebus::sas::sign;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn key(name: &str, secret: &str) -> Key {
        Key {
            name: name.into(),
            secret: secret.into(),
        }
    }

    #[test]
    fn a_signature_is_of_a_key_for_a_path_until_its_end() {
        let keys = [key("a", "1"), key("b", "2"), key("b", "3")];
        let of = |shown: &str| verify(&keys, shown, "/orders", NOW);
        for secret in ["2", "3"] {
            for audience in ["https://h:5300", "https://h:5300/Orders?api-version=1"] {
                let signed = sign(audience, "b", secret, 1_001);
                assert_eq!(of(&signed), Ok(("b".into(), true)), "{audience}");
            }
        }
        let other = sign("https://h:5300/other", "b", "2", 1_001);
        assert_eq!(of(&other), Ok(("b".into(), false)));
        for (name, secret) in [("a", "2"), ("c", "1"), ("b", "1")] {
            let signed = sign("https://h:5300", name, secret, 1_001);
            assert_eq!(of(&signed), Err(Refused::Forged), "{name} {secret}");
        }
        let over = sign("https://h:5300", "b", "3", 1_000);
        assert_eq!(of(&over), Err(Refused::Expired(1_000)));
        assert!(matches!(of("Bearer x"), Err(Refused::Malformed(_))));
    }
}
