//! What the value of a parameter, a setting or an environment variable may be.

use crate::codec::Codec;
use crate::expiry::Lifetime;
use std::time::Duration;

/// A type that is read out of text, strictly.
pub(crate) trait Parameter: Sized {
    /// What an error says that it must be.
    const FORM: &'static str;
    fn parse(text: &str) -> Option<Self>;
}

impl Parameter for String {
    const FORM: &'static str = "text";
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Parameter for u64 {
    const FORM: &'static str = "a whole number";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for usize {
    const FORM: &'static str = "a whole number";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for u32 {
    const FORM: &'static str = "a whole number";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for u16 {
    const FORM: &'static str = "a whole number up to 65535";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for f64 {
    const FORM: &'static str = "a number";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Parameter for bool {
    const FORM: &'static str = "true or false";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "on" => Some(true),
            "off" => Some(false),
            text => text.parse().ok(),
        }
    }
}

impl Parameter for Duration {
    const FORM: &'static str = "seconds, or a time such as `250ms` or `5m`";
    fn parse(text: &str) -> Option<Self> {
        match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(text).ok(),
        }
    }
}

impl Parameter for Lifetime {
    const FORM: &'static str = "`never`, seconds, or a time such as `250ms` or `5m`";
    fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("never") {
            Some(Self::Never)
        } else {
            Duration::parse(text).map(Self::from)
        }
    }
}

impl Parameter for Codec {
    const FORM: &'static str = "msgpack, json or raw";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    /// `kb`, `Mb` and the like are left out: they are bits to some, and kibibytes to others.
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
}

impl Parameter for Size {
    const FORM: &'static str =
        "a whole number of bytes, or a size such as `512KiB`, `64MiB` or `1GB`";
    fn parse(text: &str) -> Option<Self> {
        let unit =
            Self::UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
        let (count, bytes) = unit.unwrap_or((text, &1));
        // `parse` takes a sign, too.
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        count.parse::<u64>().ok()?.checked_mul(*bytes).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("7B", 7),
            ("1kB", 1_000),
            ("1KiB", 1_024),
            ("64MiB", 64 << 20),
            ("3MB", 3_000_000),
            ("2GiB", 2 << 30),
            ("2GB", 2_000_000_000),
            ("1TiB", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "B",
            "MiB",
            "-1",
            "+1",
            "1.5GiB",
            "1 MiB",
            "1kb",
            "1Kb",
            "1mb",
            "1mib",
            "1K",
            "1M",
            "64MiBs",
            "1e6",
            "0x10",
            "18446744073709551616",
            "16777216TiB",
            "٣",
        ] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
