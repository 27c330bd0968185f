//! Signatures as Standard Webhooks has them: `v1,` and the base64 of HMAC-SHA256 over
//! `id.timestamp.body`, one for each secret, so that a receiver may change its own at leisure.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mente_broker::queue::Secret;
use ring::hmac;

/// Padded where it is written, either way where it is read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys of one webhook. Its `Debug` shows no key, since ring's does not.
#[derive(Clone, Debug, Default)]
pub(super) struct Signer(Arc<[hmac::Key]>);

impl Signer {
    /// Says what is wrong with a secret, without the secret.
    pub(super) fn of(secrets: &[Secret]) -> Result<Self, String> {
        let keys: Result<Vec<_>, _> = secrets.iter().map(key).collect();
        keys.map(|keys| Self(keys.into()))
    }

    /// The value of `webhook-signature`, if there is a secret.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
        let sign = |key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64.encode(context.sign()))
        };
        let signatures: Vec<_> = self.0.iter().map(sign).collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

fn key(secret: &Secret) -> Result<hmac::Key, String> {
    let wrong = || {
        format!(
            "a webhook secret is {PREFIX} and the base64 of {} to {} random bytes; make one with: echo {PREFIX}$(openssl rand -base64 32)",
            KEY_BYTES.start(),
            KEY_BYTES.end()
        )
    };
    let text = secret.expose().strip_prefix(PREFIX).ok_or_else(wrong)?;
    let bytes = BASE64.decode(text).map_err(|_| wrong())?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(wrong());
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn the_known_signature_comes_out() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signer = Signer::of(&[secret]).unwrap();
        let signed = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed.as_deref(), Some(expected));
        assert_eq!(Signer::default().sign("a", 1, b""), None);
    }

    #[test]
    fn secrets_are_measured_and_never_repeated() {
        let of = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
        for good in [of(24), of(64), of(25), of(25).trim_end_matches('=').into()] {
            assert!(Signer::of(&[Secret::new(&*good)]).is_ok(), "{good}");
        }
        let bare = of(32).replace("whsec_", "");
        for bad in [
            of(23),
            of(65),
            of(0),
            bare,
            "whsec_???".into(),
            String::new(),
        ] {
            let said = Signer::of(&[Secret::new(&*bad)]).unwrap_err();
            let rest = bad.trim_start_matches("whsec_");
            assert!(rest.is_empty() || !said.contains(rest), "{said}");
        }
    }
}
