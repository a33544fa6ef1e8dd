//! Cache URLs: `scheme:rest?name=value&…`, read strictly; and tables with the same words.

mod parameter;
mod table;

pub(crate) use parameter::{Parameter, Size};
pub(crate) use table::Words;

use crate::error::{Error, Result};

/// A URL taken apart. Parameters are taken out by name; [`finish`](CacheUrl::finish) rejects
/// parameters that were not taken.
///
/// Errors name the scheme and the parameter, never the URL, because it may contain a password.
pub(crate) struct CacheUrl {
    scheme: String,
    rest: String,
    parameters: Vec<(String, String)>,
    /// The query may contain the rest of a password with an unescaped `?`.
    is_dubious: bool,
    known: Vec<&'static str>,
    kind: Kind,
}

/// What the parameters come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Url,
    /// A table, which may name the address word by word.
    Table,
    /// A table beside a URL, which has the address.
    TableOfUrl,
}

impl Kind {
    fn noun(self) -> &'static str {
        if self == Self::Url { "URL parameter" } else { "setting" }
    }
}

impl CacheUrl {
    /// White space around the URL is ignored: a URL from a file ends with a line break.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.trim().split_once(':').ok_or_else(|| {
            Error::config("a cache URL begins with a scheme, such as `sqlite:cache.db`")
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            rest: rest.to_owned(),
            parameters: parameters(query)?,
            is_dubious: query.contains('@'),
            known: Vec::new(),
            kind: Kind::Url,
        })
    }

    /// The URL with the words of a table as further parameters. Where the table `has_address`, it
    /// may name the parts of the address, too.
    pub(crate) fn with_table(mut self, words: Words, has_address: bool) -> Self {
        self.kind = if has_address { Kind::Table } else { Kind::TableOfUrl };
        self.parameters.extend(words.0);
        self
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The part between the scheme's colon and the question mark, as written.
    #[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
    pub(crate) fn rest(&self) -> &str {
        &self.rest
    }

    /// Whether there is nothing between the scheme and the question mark: `memory:` or `memory://`.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.rest.as_str(), "" | "//")
    }

    /// Whether a parameter is given and was not taken out yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(given, _)| given == name)
    }

    /// The name of a parameter that begins so and was not taken out yet.
    pub(crate) fn given_below(&self, prefix: &str) -> Option<&str> {
        let mut names = self.parameters.iter().map(|(name, _)| name.as_str());
        names.find(|name| name.starts_with(prefix))
    }

    /// Adds a parameter, unless the URL has it.
    pub(crate) fn fill_in(&mut self, name: &'static str, value: String) {
        if !self.has(name) {
            self.parameters.push((name.to_owned(), value));
        }
    }

    /// Takes a parameter out.
    pub(crate) fn take<T: Parameter>(&mut self, name: &'static str) -> Result<Option<T>> {
        self.known.push(name);
        let Some(at) = self.parameters.iter().position(|(given, _)| given == name) else {
            return Ok(None);
        };
        let (_, value) = self.parameters.remove(at);
        T::parse(&value).map(Some).ok_or_else(|| self.must_be::<T>(name))
    }

    /// Takes a part of the address out of a table. A URL has the address before its parameters.
    #[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
    pub(crate) fn take_address<T: Parameter>(&mut self, name: &'static str) -> Result<Option<T>> {
        if self.kind == Kind::Table { self.take(name) } else { Ok(None) }
    }

    /// Takes out a parameter whose value is a number of bytes.
    pub(crate) fn take_size<N: TryFrom<u64>>(&mut self, name: &'static str) -> Result<Option<N>> {
        let size = self.take::<Size>(name)?;
        size.map(|Size(bytes)| N::try_from(bytes).map_err(|_| self.must_be::<Size>(name)))
            .transpose()
    }

    fn must_be<T: Parameter>(&self, name: &str) -> Error {
        Error::config(format!("the {} `{name}` must be {}", self.kind.noun(), T::FORM))
    }

    /// Rejects parameters that are not meant for the readers of this URL.
    pub(crate) fn refuse(&self, names: &[&str], why: &str) -> Result<()> {
        match names.iter().find(|name| self.has(name)) {
            Some(name) => {
                let noun = self.kind.noun();
                Err(Error::config(format!("the {noun} `{name}` {why}")))
            }
            None => Ok(()),
        }
    }

    /// Rejects parameters that were not taken, and those given twice.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { scheme, parameters, is_dubious, known, kind, .. } = self;
        let noun = kind.noun();
        match parameters.first() {
            None => Ok(()),
            Some((name, _)) if known.contains(&name.as_str()) => {
                Err(Error::config(format!("the {noun} `{name}` is given twice")))
            }
            Some((name, _)) => {
                let name = if is_dubious { String::new() } else { quote(name) };
                Err(Error::config(format!(
                    "unknown {noun}{name}; `{scheme}:` takes: {}",
                    known.join(", ")
                )))
            }
        }
    }
}

/// The names and values of a query. A `+` is a `+`: it means a space in HTML forms only, not in a
/// URL.
fn parameters(query: &str) -> Result<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    });
    pairs.collect()
}

/// A name, quoted for an error message, with a space before it. Empty if the text does not look
/// like a name, because it could be a secret.
pub(crate) fn quote(name: &str) -> String {
    let is_name = name.len() <= 40
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte));
    if is_name { format!(" `{name}`") } else { String::new() }
}

/// Decodes percent-encoding such as `%41`. A result that is not UTF-8 is an error.
pub(crate) fn decode(text: &str) -> Result<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| Error::config("a part of the URL is not UTF-8 once percent-decoded"))
}
