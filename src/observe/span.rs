//! Spans around calls that wait and around loaders. Without the feature `tracing` a span is empty.

use crate::error::Result;
use crate::observers::Observers;
use std::future::Future;

/// A span, or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    inner: ::tracing::Span,
}

#[cfg(feature = "tracing")]
impl Span {
    /// The span of a call of the adapter.
    pub(crate) fn call<'k>(
        observers: &Observers,
        backend: &str,
        op: &'static str,
        key: impl FnOnce() -> Option<std::borrow::Cow<'k, str>>,
    ) -> Self {
        use ::tracing::field::Empty;
        let inner = ::tracing::debug_span!(target: "larder", "call", backend, op, key = Empty, outcome = Empty);
        Self { inner }.with_key(observers, key)
    }

    /// The span of a loader, which runs in a task of its own. Its parent is the current span of the
    /// first caller.
    pub(crate) fn load<'k>(
        observers: &Observers,
        backend: &str,
        key: impl FnOnce() -> Option<std::borrow::Cow<'k, str>>,
    ) -> Self {
        use ::tracing::field::Empty;
        let inner =
            ::tracing::debug_span!(target: "larder", "load", backend, key = Empty, outcome = Empty);
        Self { inner }.with_key(observers, key)
    }

    /// Whether spans are recorded.
    pub(crate) fn is_watched() -> bool {
        ::tracing::span_enabled!(target: "larder", ::tracing::Level::DEBUG)
    }

    /// Records nothing.
    pub(crate) fn none() -> Self {
        Self { inner: ::tracing::Span::none() }
    }

    fn with_key<'k>(
        self,
        observers: &Observers,
        key: impl FnOnce() -> Option<std::borrow::Cow<'k, str>>,
    ) -> Self {
        if !self.inner.is_disabled()
            && observers.shows_keys.load(std::sync::atomic::Ordering::Relaxed)
            && let Some(key) = key()
        {
            self.inner.record("key", crate::event::shown(&key));
        }
        self
    }

    pub(crate) fn around<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
        ::tracing::Instrument::instrument(call, self.inner.clone())
    }

    pub(crate) fn within<R>(&self, call: impl FnOnce() -> R) -> R {
        self.inner.in_scope(call)
    }

    /// Records how the call ended.
    pub(crate) fn end<R>(&self, result: &Result<R>) {
        if self.inner.is_disabled() {
            return;
        }
        match result {
            Ok(_) => self.inner.record("outcome", "ok"),
            // The kind only, because the whole message contains the key.
            Err(error) => self.inner.record("outcome", ::tracing::field::display(error.kind())),
        };
    }
}

#[cfg(not(feature = "tracing"))]
impl Span {
    pub(crate) fn call<K>(_: &Observers, _: &str, _: &'static str, _: K) -> Self {
        Self {}
    }

    pub(crate) fn load<K>(_: &Observers, _: &str, _: K) -> Self {
        Self {}
    }

    pub(crate) fn is_watched() -> bool {
        false
    }

    pub(crate) fn none() -> Self {
        Self {}
    }

    pub(crate) fn around<F: Future>(&self, call: F) -> F {
        call
    }

    pub(crate) fn within<R>(&self, call: impl FnOnce() -> R) -> R {
        call()
    }

    pub(crate) fn end<R>(&self, _: &Result<R>) {}
}
