//! Who asks: the holder of a key, who signed for what is asked of or for something above it, or nobody.

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use mente_broker::entity::Receiving;
use mente_broker::{Access, Action, Principal};
use percent_encoding::percent_decode_str;

use super::Door;
use super::error::{Refusal, Result};
use super::request::Request;
use crate::keys;

const FORWARD_HEADER: &str = "ServiceBusSupplementaryAuthorization";
const LETTERS_HEADER: &str = "ServiceBusDlqSupplementaryAuthorization";

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
    let signed = keys::verify(&door.keys, &door.broker, shown, &path);
    Ok(signed.map_err(Refusal::unauthorized)?.who)
}

/// Who has messages forwarded has a token that lets him send where they go to, beside that of his request. It comes
/// in a header of its own (azure-servicebus 7.15, management/_management_client.py).
pub(super) fn check_forwards(request: &Request<'_>, receiving: &Receiving) -> Result<()> {
    let door = request.door();
    if door.access == Access::Open {
        return Ok(());
    }
    for (to, header) in [
        (&receiving.forward_to, FORWARD_HEADER),
        (&receiving.forward_dead_letters_to, LETTERS_HEADER),
    ] {
        let Some(to) = to else { continue };
        let path = to.as_path();
        let Some(shown) = request.header(header) else {
            let detail =
                format!("to forward to {path} a token for it is wanted in the header {header}");
            return Err(Refusal::unauthorized(detail));
        };
        let signed = keys::verify(&door.keys, &door.broker, shown, &path);
        let signed = signed.map_err(|words| Refusal::unauthorized(format!("{header}: {words}")))?;
        door.broker.may(&signed.who, Action::Send, to)?;
    }
    Ok(())
}
