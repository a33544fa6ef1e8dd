//! Times as words: `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`, `"never"`.

use proc_macro2::TokenStream;
use quote::quote;
use std::time::Duration;
use syn::{Expr, ExprLit, Lit, LitStr, Path, Result};

const FORMS: &str = "a time is \"250ms\", \"30s\", \"5m\", \"1h\", \"7d\"";

/// A time in an option: a text that is read now, or an expression.
pub(crate) enum Time {
    Never,
    After(Duration),
    Is(Expr),
}

impl Time {
    /// Reads the value of an option. Only `ttl` may be `"never"`.
    pub(crate) fn new(value: Expr, may_be_never: bool) -> Result<Self> {
        match value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Self::read(&text, may_be_never),
            Expr::Lit(other) => Err(syn::Error::new_spanned(
                other,
                format!("not a time: {FORMS}, or an expression"),
            )),
            other => Ok(Self::Is(other)),
        }
    }

    fn read(text: &LitStr, may_be_never: bool) -> Result<Self> {
        let value = text.value();
        if value == "never" {
            return if may_be_never {
                Ok(Self::Never)
            } else {
                Err(syn::Error::new(text.span(), "only `ttl` can be \"never\""))
            };
        }
        match duration(&value) {
            Some(duration) => Ok(Self::After(duration)),
            None => {
                let never = if may_be_never { ", or \"never\"" } else { "" };
                let message = format!("`{value}` is not a time: {FORMS}{never}");
                Err(syn::Error::new(text.span(), message))
            }
        }
    }

    /// The argument of the option's method.
    pub(crate) fn code(&self, larder: &Path) -> TokenStream {
        match self {
            Self::Never => quote!(#larder::Expiry::Never),
            Self::Is(value) => quote!(#value),
            Self::After(duration) => {
                let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
                quote!(::core::time::Duration::new(#seconds, #nanos))
            }
        }
    }
}

/// Reads a number and a unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("0s", 0),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "m", "-5m", "5 m", "5M", "5min", "1.5h", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(duration(&format!("{}d", u64::MAX)), None, "too long for a number");
    }
}
