//! Who asks: the holder of a key, who signed for what is asked of or for something above it, or nobody.

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use mente_broker::{Access, Principal};
use percent_encoding::percent_decode_str;

use super::Door;
use super::error::{Refusal, Result};
use crate::keys;

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
