//! What a caller sent, as an answer may repeat it: whole if it is short, else its beginning.

use std::fmt;

const CHARS: usize = 100;

/// Shows a text quoted, without what is behind its first 100 characters.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(CHARS) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}… ({} bytes)", &self.0[..end], self.0.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_a_long_text_is_repeated() {
        assert_eq!(Shown("a\"b\n").to_string(), r#""a\"b\n""#);
        let long = "\u{e4}".repeat(60_000);
        let shown = Shown(&long).to_string();
        assert!(shown.ends_with("… (120000 bytes)") && shown.len() < 300);
    }
}
