//! Shared access signatures: who has a key of an entity says so without showing it.
//!
//! ```text
//! SharedAccessSignature sr=AUDIENCE&sig=SIGNATURE&se=SECONDS&skn=NAME
//! SIGNATURE = base64(HMAC-SHA256(key, AUDIENCE "\n" SECONDS))
//! ```
//! in any order. Each SDK encodes the audience in another way (Python in upper-case hex, JS' administration client a
//! lower-cased URL), and it is signed as it stands there, so it is verified as it stands there. The key is the bytes
//! of its text: that it looks like base64 means nothing.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mente_engine::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;

/// Longest text that is looked at: JS signs whole URLs.
const TEXT_BYTES: usize = 8 << 10;
const SCHEME: &str = "SharedAccessSignature ";

/// What `encodeURIComponent` and `quote` leave as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A signature as it came; nothing of it is proved.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature<'a> {
    audience: &'a str,
    signature: Vec<u8>,
    /// Seconds since 1970, as they stand there.
    expiry: &'a str,
    key_name: String,
}

/// Why a signature is not taken, in words for who showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "the token is malformed: {0}; it is SharedAccessSignature sr=AUDIENCE&sig=SIGNATURE&se=SECONDS&skn=NAME"
    )]
    Malformed(&'static str),
    #[error("the token expired at {0} (seconds since 1970); make a new one, or look at the clock")]
    Expired(u64),
    #[error("the token is not signed with the key of its name")]
    Forged,
}

impl<'a> Signature<'a> {
    pub fn parse(text: &'a str) -> Result<Self, Refused> {
        if text.len() > TEXT_BYTES {
            return Err(Refused::Malformed("it is too long"));
        }
        let scheme = text.get(..SCHEME.len());
        if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
            return Err(Refused::Malformed("it is of another kind"));
        }
        let (mut audience, mut signature, mut expiry, mut key_name) = (None, None, None, None);
        for field in text[SCHEME.len()..].trim().split('&') {
            let Some((name, value)) = field.split_once('=') else {
                return Err(Refused::Malformed("a field has no value"));
            };
            let place = match name.trim() {
                "sr" => &mut audience,
                "sig" => &mut signature,
                "se" => &mut expiry,
                "skn" => &mut key_name,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Refused::Malformed("a field is there twice"));
            }
        }
        let missing = Refused::Malformed("sr, sig, se or skn is missing");
        let signature = decoded(signature.ok_or(missing)?)?;
        let signature = STANDARD.decode(signature);
        let expiry = expiry.ok_or(missing)?;
        if expiry.is_empty() || !expiry.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refused::Malformed("se is not a count of seconds"));
        }
        Ok(Self {
            audience: audience.ok_or(missing)?,
            signature: signature.map_err(|_| Refused::Malformed("sig is not base64"))?,
            expiry,
            key_name: decoded(key_name.ok_or(missing)?)?,
        })
    }

    /// Which of the keys it claims to be signed with.
    pub fn key_name(&self) -> &str {
        &self.key_name
    }

    /// Whether the text of `key` signed it and it holds still. Tell with [`Self::covers`] what for.
    pub fn verify(&self, key: &str, now: Timestamp) -> Result<(), Refused> {
        let signed = format!("{}\n{}", self.audience, self.expiry);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        // In a time that does not tell where they differ.
        hmac::verify(&key, signed.as_bytes(), &self.signature).map_err(|_| Refused::Forged)?;
        let expiry = self.expires();
        let is_over = now >= Timestamp(0).plus(Duration::from_secs(expiry));
        if is_over {
            return Err(Refused::Expired(expiry));
        }
        Ok(())
    }

    /// Seconds since 1970.
    pub fn expires(&self) -> u64 {
        self.expiry.parse().unwrap_or(u64::MAX)
    }

    /// The audience lies above the entity of this path, or is it.
    pub fn covers(&self, path: &str) -> bool {
        self.path().is_some_and(|above| covers(&above, path))
    }

    /// Of the entity that it is for, as [`entity_path`] has it; `None`: the audience is no text.
    pub fn path(&self) -> Option<String> {
        let audience = decoded(self.audience).ok()?;
        Some(entity_path(&audience))
    }
}

/// What is signed is nobody else's to read.
impl fmt::Debug for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature")
            .field("audience", &self.audience)
            .field("expiry", &self.expiry)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}

/// The path of an entity in the address of a link or in an audience, `sb://host:port/orders/` or `/orders` or
/// `orders`: without scheme, host, query and slashes at its ends. Empty is the whole namespace.
pub fn entity_path(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let path = match address.split_once("://") {
        Some((_, behind)) => behind.split_once('/').map_or("", |(_, path)| path),
        None => address,
    };
    path.trim_matches('/').to_owned()
}

/// `path` is `above` or lies under it; names are the same in any case.
fn covers(above: &str, path: &str) -> bool {
    let path = path.trim_matches('/');
    let Some(begin) = path.get(..above.len()) else {
        return false;
    };
    let ends = path.len() == above.len() || path[above.len()..].starts_with('/');
    begin.eq_ignore_ascii_case(above) && (ends || above.is_empty())
}

/// A token as an SDK makes it.
pub fn sign(audience: &str, key_name: &str, key: &str, expires: u64) -> String {
    let audience = utf8_percent_encode(audience, PLAIN).to_string();
    let signed = format!("{audience}\n{expires}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let signature = utf8_percent_encode(&signature, PLAIN);
    let key_name = utf8_percent_encode(key_name, PLAIN);
    format!("{SCHEME}sr={audience}&sig={signature}&se={expires}&skn={key_name}")
}

fn decoded(text: &str) -> Result<String, Refused> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into)
        .map_err(|_| Refused::Malformed("a field is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "SAS_KEY_VALUE=";
    const NAME: &str = "RootManageSharedAccessKey";
    /// By azure-servicebus 7.15 of Python, by @azure/core-amqp 4.4.2 of JS, and one whose fields stand in another order.
    const MADE: [&str; 3] = [
        "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%3A5672%2Fq1&sig=ol4amJv0BNvtE5Bi6WCdJnkjAhLSgen%2FXfSbc2numrM%3D&se=1795992933&skn=RootManageSharedAccessKey",
        "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%3A5672%2FQ1&sig=NmQNR1pR3D7N%2FFmls0bLbFRgvUllYucpHavsxJ4oICU%3D&se=1795992880&skn=RootManageSharedAccessKey",
        "SharedAccessSignature skn=RootManageSharedAccessKey&se=1798569650&sig=rEY%2F9hleucj8hXjUCHJXgQxX%2FlTFFrCONOO17AdWmOE%3D&sr=sb%3a%2f%2flocalhost%3a5672%2fq1",
    ];
    const BEFORE: Timestamp = Timestamp(1_795_000_000_000);

    #[test]
    fn what_sdks_signed_is_verified() {
        for text in MADE {
            let signature = Signature::parse(text).unwrap();
            assert_eq!(signature.key_name(), NAME);
            assert_eq!(signature.verify(KEY, BEFORE), Ok(()), "{text}");
            assert!(signature.covers("q1"));
            assert!(signature.covers("Q1/$management"));
            assert!(!signature.covers("q12"));
            assert!(!signature.covers(""));
            let other = signature.verify("SAS_KEY_VALUE", BEFORE);
            assert_eq!(other, Err(Refused::Forged));
        }
    }

    #[test]
    fn a_signature_ends_with_its_second() {
        let text = sign("sb://h/q", NAME, KEY, 100);
        let signature = Signature::parse(&text).unwrap();
        assert_eq!(signature.verify(KEY, Timestamp(99_999)), Ok(()));
        let over = signature.verify(KEY, Timestamp(100_000));
        assert_eq!(over, Err(Refused::Expired(100)));
        let text = sign("sb://h/q", NAME, KEY, u64::MAX);
        assert_eq!(Signature::parse(&text).unwrap().verify(KEY, BEFORE), Ok(()));
    }

    #[test]
    fn every_part_is_signed() {
        let text = sign("sb://h/q", "a name&", KEY, 2_000_000_000);
        let of = |text: &str| Signature::parse(text).map(|s| s.verify(KEY, BEFORE));
        assert_eq!(of(&text), Ok(Ok(())));
        assert_eq!(Signature::parse(&text).unwrap().key_name(), "a name&");
        for (from, to) in [
            ("se=2", "se=3"),
            ("h%2Fq", "h%2Fp"),
            ("sr=sb%3A", "sr=sb%3a"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            assert_eq!(of(&changed), Ok(Err(Refused::Forged)), "{changed}");
        }
    }

    #[test]
    fn what_is_no_signature_is_told_so() {
        for text in [
            "",
            "Bearer x",
            "SharedAccessSignature",
            "SharedAccessSignature sr=a&sig=YQ==&se=1",
            "SharedAccessSignature sr=a&sig=YQ==&skn=n",
            "SharedAccessSignature sr=a&se=1&skn=n",
            "SharedAccessSignature sig=YQ==&se=1&skn=n",
            "SharedAccessSignature sr=a&sig=YQ==&se=1&se=2&skn=n",
            "SharedAccessSignature sr=a&sig=YQ==&se=-1&skn=n",
            "SharedAccessSignature sr=a&sig=YQ==&se=&skn=n",
            "SharedAccessSignature sr=a&sig=!&se=1&skn=n",
            "SharedAccessSignature sr=a&sig=%ff&se=1&skn=n",
            "SharedAccessSignature sr",
            "\u{e4}haredAccessSignature  sr=a",
        ] {
            let refused = Signature::parse(text);
            assert!(matches!(refused, Err(Refused::Malformed(_))), "{text}");
        }
        let long = format!("{SCHEME}sr={}", "a".repeat(TEXT_BYTES));
        assert!(Signature::parse(&long).is_err());
    }

    #[test]
    fn paths_are_the_same_in_every_spelling_of_an_address() {
        for address in [
            "sb://localhost:5672/a/b",
            "amqps://other/a/b/",
            "https://h/a/b?api-version=2021-05",
            "/a/b",
            "a/b",
        ] {
            assert_eq!(entity_path(address), "a/b", "{address}");
        }
        for address in ["https://localhost:5300", "sb://h/", "", "/"] {
            assert_eq!(entity_path(address), "", "{address}");
        }
        assert!(covers("", "a/b") && covers("A", "a/b") && covers("a/b", "/a/b/"));
        assert!(!covers("a", "ab") && !covers("a/b", "a") && !covers("\u{e4}", "a"));
        assert!(!covers("a", "\u{e4}"));
    }
}
