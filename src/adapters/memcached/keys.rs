//! Keys in the form that memcached accepts: at most 250 bytes, without spaces, control characters
//! and bytes above ASCII.

use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt::Write;

/// memcached's own limit, in bytes.
const LONGEST: usize = 250;

/// The first character of every encoded wire key. Text that begins with it is encoded, too, so an
/// encoded key never equals the text of another key.
const MARK: char = '~';

/// A key, as the caller wrote it and as the server gets it.
#[derive(Clone, Debug)]
pub(super) struct Key {
    text: Box<str>,
    wire: Option<Box<str>>,
    hash: u32,
}

impl Key {
    /// The key for a text that includes its prefix.
    pub(super) fn new(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        let wire = match encode(&text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(encoded) => Some(encoded.into_boxed_str()),
        };
        let hash = crc32fast::hash(wire.as_ref().unwrap_or(&text).as_bytes());
        Self { text, wire, hash }
    }

    /// Prefix and key as the caller wrote them.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The key that is sent to the server.
    pub(super) fn wire(&self) -> &str {
        self.wire.as_deref().unwrap_or(&self.text)
    }

    /// The hash that chooses the lane: all operations on a key use one lane.
    pub(super) fn hash(&self) -> u32 {
        self.hash
    }
}

/// The key that is sent to the server.
impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.wire()
    }
}

/// Returns a text as it is if the server accepts it, so that programs in other languages find the
/// value. Otherwise its bytes are escaped, or, if that is too long, hashed by SHA-256.
fn encode(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST
        && !text.starts_with(MARK)
        && text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Cow::Borrowed(text);
    }
    let mut escaped = format!("{MARK}e");
    for byte in text.bytes() {
        if escaped.len() > LONGEST {
            return Cow::Owned(format!("{MARK}h{}", digest(text)));
        }
        if byte.is_ascii_graphic() && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            push_hex(&mut escaped, "%", byte);
        }
    }
    Cow::Owned(if escaped.len() > LONGEST { format!("{MARK}h{}", digest(text)) } else { escaped })
}

/// Whether a wire key is encoded.
pub(super) fn is_encoded(wire: &str) -> bool {
    wire.starts_with(MARK)
}

/// The wire key of the clear log of an adapter with this prefix. No user's key is encoded to it.
pub(super) fn clear_log(prefix: &str) -> String {
    format!("{MARK}r{}", digest(prefix))
}

/// The wire key of the lease on a key.
pub(super) fn lease(key: &Key) -> String {
    format!("{MARK}c{}", digest(key.text()))
}

/// A wire key that is never stored: the handshake asks to replace it.
pub(super) fn probe() -> String {
    format!("{MARK}p")
}

fn digest(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        push_hex(&mut hex, "", byte);
    }
    hex
}

fn push_hex(out: &mut String, before: &str, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{before}{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn unescape(wire: &str) -> Option<String> {
        let rest = wire.strip_prefix("~e")?;
        Some(
            percent_encoding::percent_decode_str(rest)
                .decode_utf8()
                .expect("UTF-8 went in")
                .into_owned(),
        )
    }

    fn is_safe(wire: &str) -> bool {
        (1..=LONGEST).contains(&wire.len()) && wire.bytes().all(|byte| byte.is_ascii_graphic())
    }

    #[test]
    fn plain_keys_are_as_they_are() {
        for text in ["larder:user:42", "a", "*?[]%_", &"k".repeat(250)] {
            assert_eq!(Key::new(text).wire(), text);
        }
    }

    #[test]
    fn what_looks_encoded_is_encoded() {
        assert_eq!(Key::new("~ea").wire(), "~e~ea");
        assert_eq!(Key::new(clear_log("p")).wire(), format!("~e{}", clear_log("p")));
        assert_ne!(Key::new(probe()).wire(), probe());
        let hashed = Key::new("k".repeat(251));
        assert!(hashed.wire().starts_with("~h"));
        assert_eq!(Key::new(hashed.wire()).wire(), format!("~e{}", hashed.wire()));
    }

    #[test]
    fn hostile_keys_stay_one_word() {
        assert_eq!(Key::new("a b\r\nflush_all\r\n").wire(), "~ea%20b%0d%0aflush_all%0d%0a");
        assert_eq!(Key::new("%20").wire(), "%20");
        assert_eq!(Key::new("% ").wire(), "~e%25%20");
        assert!(Key::new("é".repeat(200)).wire().starts_with("~h"));
    }

    /// Pieces that are hard for encoders, in any order.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "~", "~e", "~h", "~r", "%", "%20", "%2", " ", "\r\n", "\0", "\u{7f}", "é", "a", "E",
            "20",
        ]);
        prop_oneof![
            prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat()),
            ".{1,300}",
            "[~%a-c ]{240,260}"
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_key_is_safe_and_escapes_can_be_read_back(text in hostile()) {
            let key = Key::new(text.as_str());
            prop_assert!(is_safe(key.wire()));
            match key.wire().as_bytes() {
                [b'~', b'e', ..] => prop_assert_eq!(unescape(key.wire()), Some(text)),
                [b'~', b'h', digest @ ..] => prop_assert_eq!(digest.len(), 64),
                _ => prop_assert_eq!(key.wire(), text),
            }
        }

        #[test]
        fn different_keys_are_never_alike(texts in prop::collection::hash_set(hostile(), 8)) {
            let mut wires = HashMap::new();
            for text in &texts {
                if let Some(other) = wires.insert(Key::new(text.as_str()).wire().to_owned(), text) {
                    prop_assert!(false, "{:?} and {:?} are one key", text, other);
                }
            }
        }
    }

    #[test]
    fn a_hundred_thousand_random_keys_are_all_different() {
        let alphabet: Vec<char> = "~ehr%0 \n\u{e9}ab2".chars().collect();
        let mut random = fastrand::Rng::with_seed(7);
        let mut texts = std::collections::HashSet::new();
        let mut wires = std::collections::HashSet::new();
        for _ in 0..100_000 {
            let length = random.usize(1..40);
            let text: String =
                (0..length).map(|_| *random.choice(&alphabet).expect("there are some")).collect();
            if texts.insert(text.clone()) {
                assert!(wires.insert(Key::new(text).wire().to_owned()));
            }
        }
        println!("{} keys, {} on the wire", texts.len(), wires.len());
        assert_eq!(texts.len(), wires.len());
    }
}
