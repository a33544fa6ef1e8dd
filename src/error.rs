//! The one error of the crate.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// `Result` with larder's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest part of a key that an error repeats, in bytes.
const KEY_SHOWN: usize = 128;

/// The longest part of a text from elsewhere that an error repeats, in bytes.
const TEXT_SHOWN: usize = 256;

type Source = Arc<dyn StdError + Send + Sync>;

/// The error of larder: its kind, the backend, the verb and the key.
///
/// Opaque: branch on [`kind`](Error::kind), report with `Display`, and walk
/// [`source`](StdError::source) for the cause, which `{}` does not repeat and `{:#}` appends. A
/// clone increments a reference count: all callers that waited for one load get the same error.
/// [`load_error`](Error::load_error) is the loader's own error.
///
/// No value, password or whole URL is ever part of an error, also not in `Debug`; keys are cut to
/// 128 bytes. larder cannot promise this of texts from the program's own code. The text of a
/// loader's error or panic is cut to 256 bytes, and is quoted and marked in `Debug` and `{:#}`. The
/// text of an error from a `Serialize`, which may repeat the value, is in `source()` only.
///
/// ```
/// use larder::{AsyncCacheWrapper, ErrorKind};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
/// let error = cache.get_or_fail::<String>("nope").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.key(), Some("nope"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    backend: Option<Cow<'static, str>>,
    op: Option<&'static str>,
    key: Option<Arc<str>>,
    message: Option<Cow<'static, str>>,
    source: Option<Source>,
    is_refused_write: bool,
}

/// The kinds of [`Error`], to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is missing or has expired, and the verb needs a live key.
    NotFound,
    /// The key is empty, or a name that the cache keeps for itself.
    InvalidKey,
    /// larder does not know a name, URL, parameter or setting, or a backend is not compiled in.
    Config,
    /// The value cannot be written by the codec. Nothing was changed.
    Encode,
    /// The stored bytes cannot be read as the type that was asked for.
    Decode,
    /// The value is over the backend's limit. The older value is no longer served.
    TooLarge,
    /// The backend cannot be reached, or the connection was lost during the call.
    Unavailable,
    /// The deadline passed. Whether a write took effect is not known.
    Timeout,
    /// A counter verb met a value that is not an integer. The value is unchanged.
    NotANumber,
    /// A counter would leave the range of `i64`. The value is unchanged.
    Overflow,
    /// The adapter cannot do this.
    Unsupported,
    /// The loader of a `get_or_set*` returned an error, see [`load_error`](Error::load_error).
    Load,
    /// The loader of a `get_or_set*` panicked, or the `Serialize` or `Deserialize` of a value. The
    /// message of the panic is the [`source`](std::error::Error::source). A value that cannot be
    /// written has changed nothing.
    Panic,
    /// Loaders asked for one another in a cycle that is nested too deep.
    Reentrant,
    /// The backend answered with an error of its own.
    Backend,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::InvalidKey => "invalid key",
            Self::Config => "invalid configuration",
            Self::Encode => "the value cannot be encoded",
            Self::Decode => "the stored bytes cannot be decoded",
            Self::TooLarge => "the value is too large",
            Self::Unavailable => "the backend is unavailable",
            Self::Timeout => "timed out",
            Self::NotANumber => "the value is not an integer",
            Self::Overflow => "the counter would overflow",
            Self::Unsupported => "not supported by this adapter",
            Self::Load => "the loader failed",
            Self::Panic => "the loader panicked",
            Self::Reentrant => "the loader waits for itself",
            Self::Backend => "the backend gave an error",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

impl Error {
    /// Creates an error of this kind without further details. Adapters build their errors from
    /// here.
    ///
    /// ```
    /// use larder::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unavailable);
    /// let error = error.with_backend("my store").with_op("get").with_key("k");
    /// assert_eq!(error.to_string(), "my store: get `k`: the backend is unavailable");
    /// assert!(error.is_retryable());
    /// ```
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            backend: None,
            op: None,
            key: None,
            message: None,
            source: None,
            is_refused_write: false,
        }))
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config).with_message(message)
    }

    pub(crate) fn not_found(key: &str) -> Self {
        Self::new(ErrorKind::NotFound).with_key(key)
    }

    /// Sets the message, in place of the kind's. Must not contain a value, a password or a whole
    /// URL.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Sets the backend, unless it is set already: the adapter nearest to the cause sets it first.
    #[must_use]
    pub fn with_backend(mut self, backend: impl Into<Cow<'static, str>>) -> Self {
        self.0.backend.get_or_insert(backend.into());
        self
    }

    /// Sets the verb, unless it is set already.
    #[must_use]
    pub fn with_op(mut self, op: &'static str) -> Self {
        self.0.op.get_or_insert(op);
        self
    }

    /// Sets the key, and replaces the key that an inner layer has set: the outermost layer knows
    /// the key that the caller used.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.0.key = Some(key[..key.floor_char_boundary(KEY_SHOWN)].into());
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Marks the error: the backend answers, but accepts no writes for now. See
    /// [`is_refused_write`](Error::is_refused_write).
    ///
    /// ```
    /// use larder::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Backend).with_message("the disk is full");
    /// let error = error.with_refused_write();
    /// assert!(error.is_refused_write() && !error.is_retryable());
    /// ```
    #[must_use]
    pub fn with_refused_write(mut self) -> Self {
        self.0.is_refused_write = true;
        self
    }

    /// The kind: what the error is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The backend's name, such as `redis`, if a backend was involved.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// The verb that failed, such as `get`.
    #[must_use]
    pub fn op(&self) -> Option<&'static str> {
        self.0.op
    }

    /// The key, cut to its first 128 bytes.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The loader's own error, for the caller that began the load and for each caller that waited
    /// for it: the first `E` among the causes of an error of the kind [`Load`](ErrorKind::Load).
    ///
    /// If the loader fails with a `String` or `&str`, there is no type to ask for; the text is the
    /// [`source`](StdError::source).
    ///
    /// ```
    /// use larder::{AsyncCacheWrapper, ErrorKind};
    /// use std::num::ParseIntError;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = AsyncCacheWrapper::new("memory")?;
    /// let failed = cache.try_get_or_set_async("k", async { "seven".parse::<u8>() }).await;
    /// let error = failed.unwrap_err();
    /// assert!(error.load_error::<ParseIntError>().is_some());
    /// assert_eq!(error.to_string(), "get_or_set `k`: the loader failed");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn load_error<E: StdError + 'static>(&self) -> Option<&E> {
        if self.kind() != ErrorKind::Load {
            return None;
        }
        causes(self).find_map(|cause| cause.downcast_ref())
    }

    /// Whether the key is missing or expired.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// Whether the deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Whether the same call may succeed later: the backend was unavailable or slow.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// Whether the backend answers, but accepts no writes for now: it is full, a read-only replica,
    /// or cannot save to its disk. Reads work. [`Resilient`](crate::layers::Resilient) repeats the
    /// write later, and does not count the error as a failure of the backend.
    #[must_use]
    pub fn is_refused_write(&self) -> bool {
        self.0.is_refused_write
    }
}

/// Which part of the cause of an error may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// All of it: the text is a driver's or larder's.
    Whole,
    /// The beginning of it, in quotes: the text is from the program's own code.
    Marked,
    /// Nothing of it: the text is from the program's own code, and may repeat the value.
    Nothing,
}

impl Shown {
    fn by(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Load | ErrorKind::Panic => Self::Marked,
            ErrorKind::Encode => Self::Nothing,
            _ => Self::Whole,
        }
    }
}

/// A text from the program's own code.
struct Quoted(String);

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        let shown = &text[..text.floor_char_boundary(TEXT_SHOWN)];
        let cut = if shown.len() < text.len() { "…" } else { "" };
        write!(f, "the program's own words: {shown:?}{cut}")
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The causes of an error, the nearest first.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = StdError::source(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

impl Error {
    fn fmt_causes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = Shown::by(self.kind());
        for cause in causes(self) {
            match (shown, cause.downcast_ref::<Self>()) {
                (Shown::Nothing, _) => return Ok(()),
                // larder's own error about another call. What may be shown of its cause depends on
                // its kind.
                (_, Some(inner)) => {
                    write!(f, ": {inner}")?;
                    shown = Shown::by(inner.kind());
                }
                (Shown::Marked, None) => write!(f, ": {}", Quoted(cause.to_string()))?,
                (Shown::Whole, None) => write!(f, ": {cause}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    /// `{:#}` appends the causes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, backend, op, key, message, .. } = &*self.0;
        if let Some(backend) = backend {
            write!(f, "{backend}: ")?;
        }
        match (op, key) {
            (Some(op), Some(key)) => write!(f, "{op} `{}`: ", key.escape_debug())?,
            (Some(op), None) => write!(f, "{op}: ")?,
            (None, Some(key)) => write!(f, "key `{}`: ", key.escape_debug())?,
            (None, None) => {}
        }
        match message {
            Some(message) => f.write_str(message)?,
            None => kind.fmt(f)?,
        }
        if f.alternate() { self.fmt_causes(f) } else { Ok(()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind()).field("message", &self.to_string());
        let own = |source: &Source| source.downcast_ref::<Self>().map(ToString::to_string);
        if let Some(source) = &self.0.source {
            match (own(source), Shown::by(self.kind())) {
                (Some(text), _) => out.field("source", &text),
                (None, Shown::Whole) => out.field("source", &source.to_string()),
                (None, Shown::Marked) => out.field("source", &Quoted(source.to_string())),
                (None, Shown::Nothing) => &mut out,
            };
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_program_is_cut_and_named_as_such() {
        let long = format!("{}tail", "é".repeat(200));
        for kind in [ErrorKind::Load, ErrorKind::Panic] {
            let error = Error::new(kind).with_source(long.clone());
            assert_eq!(error.to_string(), kind.to_string());
            for shown in [format!("{error:?}"), format!("{error:#}"), format!("{error:#?}")] {
                assert!(shown.contains("the program's own words: \"é"), "{shown}");
                assert!(!shown.contains("tail") && shown.contains("é\"…"), "{shown}");
            }
        }
        let error = Error::new(ErrorKind::Encode).with_source("the value is 7");
        for shown in [format!("{error:?}"), format!("{error:#}"), error.to_string()] {
            assert!(!shown.contains('7'), "{shown}");
        }
        assert_eq!(
            StdError::source(&error).map(ToString::to_string).as_deref(),
            Some("the value is 7")
        );
    }

    #[test]
    fn a_chain_is_judged_link_by_link() {
        let encode = Error::new(ErrorKind::Encode).with_source("the value is 7");
        let error = Error::new(ErrorKind::Load).with_source(encode);
        for shown in [format!("{error:?}"), format!("{error:#}")] {
            assert!(
                shown.contains("the value cannot be encoded") && !shown.contains('7'),
                "{shown}"
            );
        }
        let refused = std::io::Error::other("connection refused");
        let error = Error::new(ErrorKind::Unavailable).with_source(refused);
        assert_eq!(format!("{error:#}"), "the backend is unavailable: connection refused");
    }

    #[test]
    fn the_error_of_a_loader_within_a_loader_is_found() {
        let inner = Error::new(ErrorKind::Load).with_source(fmt::Error);
        let outer = Error::new(ErrorKind::Load).with_source(inner);
        assert_eq!(outer.load_error::<fmt::Error>(), Some(&fmt::Error));
        assert!(outer.load_error::<std::io::Error>().is_none());
        let other = Error::new(ErrorKind::Backend).with_source(fmt::Error);
        assert!(other.load_error::<fmt::Error>().is_none(), "it is not a loader's");
    }
}
