//! The one error of the crate.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// `Result` with larder's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest part of a key that an error repeats, in bytes.
const KEY_SHOWN: usize = 128;

type Source = Arc<dyn StdError + Send + Sync>;

/// What went wrong, where, and with which key.
///
/// Opaque: branch on [`kind`](Error::kind), report with `Display`, and walk [`source`](StdError::source)
/// for the cause, which `Display` does not repeat. A clone is a reference count, so that everyone
/// who waited for one load can be given the same error.
///
/// No value, password or whole URL is ever part of an error, in `Debug` either; keys are cut to 128 bytes.
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

/// What an [`Error`] is about: the thing to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is missing or has expired, and the verb needs it.
    NotFound,
    /// The key is empty, or a name that the cache keeps for itself.
    InvalidKey,
    /// A name, URL, parameter or setting that larder does not know, or a backend that is not compiled in.
    Config,
    /// The value cannot be written by the codec. Nothing was changed.
    Encode,
    /// The stored bytes cannot be read as the type that was asked for.
    Decode,
    /// The value is over the backend's limit. The older value is no longer served.
    TooLarge,
    /// The backend cannot be reached, or went away while it was asked.
    Unavailable,
    /// The deadline passed. Whether a write took effect is not known.
    Timeout,
    /// A counter verb met a value that is not an integer. The value is unchanged.
    NotANumber,
    /// A counter would leave the range of `i64`. The value is unchanged.
    Overflow,
    /// The adapter cannot do this.
    Unsupported,
    /// The loader of a `get_or_set*` gave an error; it is the [`source`](std::error::Error::source).
    Load,
    /// The loader of a `get_or_set*` panicked.
    Panic,
    /// A loader asked for keys that wait for the loader itself.
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
    /// An error of this kind, with nothing else known yet. Adapters build theirs from here.
    ///
    /// ```
    /// use larder::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unavailable).with_backend("my store").with_op("get").with_key("k");
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

    /// Says it in other words than the kind's. Must not hold a value, a password or a whole URL.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Names the backend, unless it is named already: the adapter nearest to the cause knows best.
    #[must_use]
    pub fn with_backend(mut self, backend: impl Into<Cow<'static, str>>) -> Self {
        self.0.backend.get_or_insert(backend.into());
        self
    }

    /// Names the verb, unless it is named already.
    #[must_use]
    pub fn with_op(mut self, op: &'static str) -> Self {
        self.0.op.get_or_insert(op);
        self
    }

    /// Names the key, replacing the one an inner layer knew: the outermost name is the one the caller used.
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

    /// Says that the backend answers and takes no writes for now: see [`is_refused_write`](Error::is_refused_write).
    ///
    /// ```
    /// use larder::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Backend).with_message("the disk is full").with_refused_write();
    /// assert!(error.is_refused_write() && !error.is_retryable());
    /// ```
    #[must_use]
    pub fn with_refused_write(mut self) -> Self {
        self.0.is_refused_write = true;
        self
    }

    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The backend's name, such as `redis`, where one was involved.
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

    /// The key is missing or expired.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// The deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// The same call may succeed later: the backend was away or slow.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// The backend is there and takes no writes for now: it is full, a read-only replica, or cannot save what it holds. Reads work.
    /// [`Resilient`](crate::layers::Resilient) makes up for the write later, and does not count it against the backend.
    #[must_use]
    pub fn is_refused_write(&self) -> bool {
        self.0.is_refused_write
    }
}

impl fmt::Display for Error {
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
            Some(message) => f.write_str(message),
            None => kind.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind()).field("message", &self.to_string());
        if let Some(source) = &self.0.source {
            out.field("source", &source.to_string());
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
