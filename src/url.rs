//! Cache URLs: `scheme:rest?name=value&…`, read strictly.

use crate::{Codec, Error, Lifetime, Result};
use std::time::Duration;

/// The parameters of [`Resilient`](crate::layers::Resilient), which a cache puts around an adapter that it is given by name.
#[cfg(any(feature = "redis", feature = "memcached"))]
pub(crate) const LAYER: [&str; 5] = ["resilient", "breaker", "retry", "recovery", "fail_open"];

/// A URL taken apart. Parameters are taken out by name; [`finish`](CacheUrl::finish) refuses what nobody asked for.
///
/// Errors name the scheme and the parameter, never the URL, for it may hold a password.
pub(crate) struct CacheUrl {
    scheme: String,
    rest: String,
    parameters: Vec<(String, String)>,
    /// The query may hold the rest of a password in which a `?` stands unescaped.
    is_dubious: bool,
    known: Vec<&'static str>,
}

impl CacheUrl {
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once(':').ok_or_else(|| {
            Error::config("a cache URL begins with a scheme, such as `sqlite:cache.db`")
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parameters = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let is_dubious = query.contains('@');
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            rest: rest.to_owned(),
            parameters,
            is_dubious,
            known: Vec::new(),
        })
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands between the scheme's colon and the question mark, as written.
    pub(crate) fn rest(&self) -> &str {
        &self.rest
    }

    /// Whether a parameter is given, and not taken out yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(given, _)| given == name)
    }

    /// Takes a parameter out.
    pub(crate) fn take<T: Parameter>(&mut self, name: &'static str) -> Result<Option<T>> {
        self.known.push(name);
        let Some(at) = self.parameters.iter().position(|(given, _)| given == name) else {
            return Ok(None);
        };
        let (_, value) = self.parameters.remove(at);
        T::parse(&value)
            .map(Some)
            .ok_or_else(|| Error::config(format!("the URL parameter `{name}` must be {}", T::FORM)))
    }

    /// Names the layer's parameters among the known ones, and refuses them: whoever is to take them has done so.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(crate) fn refuse_layer(&mut self) -> Result<()> {
        self.known.extend(LAYER);
        match LAYER.iter().find(|word| self.has(word)) {
            Some(word) => Err(Error::config(format!(
                "the URL parameter `{word}` is for caches that are given the URL; an adapter that is built in code is put into `larder::layers::Resilient`"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses parameters that nobody took, and those given twice.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { scheme, parameters, is_dubious, known, .. } = self;
        match parameters.first() {
            None => Ok(()),
            Some((name, _)) if known.contains(&name.as_str()) => {
                Err(Error::config(format!("the URL parameter `{name}` is given twice")))
            }
            Some((name, _)) => {
                let name = if is_dubious { String::new() } else { quote(name) };
                Err(Error::config(format!(
                    "unknown URL parameter{name}; `{scheme}:` takes: {}",
                    known.join(", ")
                )))
            }
        }
    }
}

/// A name as an error repeats it, with a space before; nothing for what does not look like one and may be anything.
pub(crate) fn quote(name: &str) -> String {
    let is_name = name.len() <= 40
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte));
    if is_name { format!(" `{name}`") } else { String::new() }
}

#[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
/// Decodes `%41` and the like; what is not UTF-8 then is an error.
pub(crate) fn decode(text: &str) -> Result<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| Error::config("a part of the URL is not UTF-8 once percent-decoded"))
}

/// What a parameter, a setting or an environment variable may be.
pub(crate) trait Parameter: Sized {
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
