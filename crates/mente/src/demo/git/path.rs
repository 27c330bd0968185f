//! A path of Git's is bytes, a name in JSON is text. What is valid UTF-8 stays as it is, except
//! `%`, which becomes `%25`; every other byte becomes `%XX`. So each path has exactly one name,
//! most paths are their own, and the way back is certain.

use std::fmt::Write;

pub(super) fn escape(path: &[u8]) -> String {
    let mut name = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '%' => name.push_str("%25"),
                other => name.push(other),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a text does not fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name
}

/// `None` for what is no path's name: only what [`escape`] makes is taken, so that no path has two.
pub(super) fn unescape(name: &str) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(name.len());
    let mut parts = name.split('%');
    path.extend_from_slice(parts.next()?.as_bytes());
    let mut is_escaped = false;
    for part in parts {
        is_escaped = true;
        let (digits, rest) = part.split_at_checked(2)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        if !digits.bytes().all(is_digit) {
            return None;
        }
        path.push(u8::from_str_radix(digits, 16).ok()?);
        path.extend_from_slice(rest.as_bytes());
    }
    (!is_escaped || escape(&path) == name).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_its_name() {
        let pairs: [(&[u8], &str); 9] = [
            (b"src/main.rs", "src/main.rs"),
            (b"100%", "100%25"),
            (b"%FF", "%25FF"),
            (b"a\xffb", "a%FFb"),
            (b"\xc3\xa4", "\u{e4}"),
            (b"\xc3", "%C3"),
            // A surrogate, written as three bytes, is no UTF-8.
            (b"\xed\xa0\x80", "%ED%A0%80"),
            (b"new\nline \"quoted\"\t", "new\nline \"quoted\"\t"),
            (b"\xe2\x82/%\xac", "%E2%82/%25%AC"),
        ];
        for (path, name) in pairs {
            assert_eq!(escape(path), name);
            assert_eq!(unescape(name).as_deref(), Some(path), "{name}");
        }
    }

    #[test]
    fn every_path_comes_back() {
        let mut random = fastrand::Rng::with_seed(7);
        let alphabet = b"a/%25FC\xff\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
        for _ in 0..20_000 {
            let length = random.usize(0..12);
            let byte = || alphabet[random.usize(0..alphabet.len())];
            let path: Vec<u8> = std::iter::repeat_with(byte).take(length).collect();
            assert_eq!(unescape(&escape(&path)), Some(path));
        }
    }

    #[test]
    fn other_texts_are_no_names() {
        // Cut off, no digits, small digits, and what needs no escape.
        for bad in [
            "%", "a%2", "%2", "%GG", "%ff", "%+1", "%41", "%C3%A4", "%\u{e4}",
        ] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }
}
