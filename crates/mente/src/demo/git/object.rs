//! Names of Git's objects: SHA-1 or SHA-256, in twenty or thirty-two bytes.

use std::fmt;
use std::fmt::Write;

use ring::digest::{self, Algorithm, Context};

/// How a repository names its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Sha1,
    Sha256,
}

/// The name of one object; what is not needed of the bytes is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    bytes: [u8; 32],
    format: Format,
}

impl Format {
    /// By the word that Git has for it.
    pub(super) fn named(word: &str) -> Option<Self> {
        match word {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Bytes of an id.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The id of the tree with this content, as Git makes it.
    pub(super) fn tree_id(self, content: &[u8]) -> Id {
        let mut context = Context::new(self.algorithm());
        context.update(format!("tree {}\0", content.len()).as_bytes());
        context.update(content);
        let mut id = Id {
            bytes: [0; 32],
            format: self,
        };
        let digest = context.finish();
        for (to, from) in id.bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        id
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            // Git's choice, not ours: the ids are compared, nothing is trusted for them.
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }
}

impl Id {
    /// From exactly as many bytes as the format has.
    pub(super) fn from_raw(format: Format, raw: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..raw.len())?.copy_from_slice(raw);
        (raw.len() == format.width()).then_some(Self { bytes, format })
    }

    /// From lower-case hexadecimal digits, no more and no fewer.
    pub(super) fn from_hex(format: Format, hex: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut raw = Vec::with_capacity(format.width());
        for pair in hex.as_bytes().chunks(2) {
            let [high, low] = pair else { return None };
            raw.push(digit(*high)? << 4 | digit(*low)?);
        }
        Self::from_raw(format, &raw)
    }

    pub(super) fn raw(&self) -> &[u8] {
        self.bytes.get(..self.format.width()).unwrap_or(&self.bytes)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in self.raw() {
            f.write_char(char::from(DIGITS[usize::from(byte >> 4)]))?;
            f.write_char(char::from(DIGITS[usize::from(byte & 15)]))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_tree_has_the_ids_that_git_knows_by_heart() {
        let id = |format: Format| format.tree_id(b"").to_string();
        assert_eq!(id(Format::Sha1), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert_eq!(
            id(Format::Sha256),
            "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"
        );
    }

    #[test]
    fn ids_are_read_whole_or_not_at_all() {
        let hex = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let id = Id::from_hex(Format::Sha1, hex).unwrap();
        assert_eq!(id.to_string(), hex);
        assert_eq!(Id::from_raw(Format::Sha1, id.raw()), Some(id));
        for bad in [
            "",
            "4b",
            &hex[1..],
            &hex.to_uppercase(),
            &format!("{hex}00"),
            &"ä".repeat(20),
        ] {
            assert_eq!(Id::from_hex(Format::Sha1, bad), None, "{bad}");
            assert_eq!(Id::from_hex(Format::Sha256, bad), None, "{bad}");
        }
        assert_eq!(Id::from_raw(Format::Sha1, &[0; 33]), None);
    }
}
