//! The futures of calls, one for each kind of loader. Only these know the types of the loader and
//! of the value. They are small, so that a program compiles little for each of its loaders.

use super::at_once::AtOnce;
use super::call::OP;
use super::driver::Runs;
use super::load_result::{BoxedLoader, LoadResult};
use super::loader::{Closure, Detached, Loader};
use super::rest::Rest;
#[cfg(feature = "macros")]
use crate::error::Error;
use crate::error::Result;
use crate::wrapper::read::AtHand;
use crate::wrapper::value_type::ValueType;
use crate::wrapper::{Cacheable, View};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A call with its loader. A field is moved only when the call must wait: to move what was written
/// just before stalls store-to-load forwarding (about 5 ns).
pub(super) struct Call<'a, K> {
    /// `None` once the rest is made.
    begin: Option<(View<'a>, K)>,
    /// The random draw for an early refresh: one per call.
    drawn: Option<bool>,
    rest: Option<Rest<'a>>,
}

impl<'a, K: AsRef<str>> Call<'a, K> {
    pub(super) fn new(view: View<'a>, key: K) -> Self {
        Self { drawn: view.drawn, begin: Some((view, key)), rest: None }
    }

    /// A call that ends with an error.
    #[cfg(feature = "macros")]
    pub(super) fn refused(error: Error) -> Self {
        Self { begin: None, drawn: None, rest: Some(Rest::refused(error)) }
    }

    #[inline]
    fn poll<T: Cacheable>(
        &mut self,
        runs: Runs,
        loader: &mut dyn Loader,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T>> {
        if let Some((view, key)) = &self.begin {
            let (key, of, mut begun) = (key.as_ref(), ValueType::of::<T>(), None);
            // A call that is refused is refused on a hit, too.
            let may_look = runs != Runs::InCaller || !view.outlives_callers();
            let found = match may_look {
                true => view.cache.hit_now(OP, key, &view.options, &mut self.drawn),
                false => AtHand::Other,
            };
            match found {
                AtHand::Hit(value) => return Poll::Ready(Ok(value)),
                AtHand::Missing => match view.load_at_once(key, of, runs, loader) {
                    AtOnce::Over(value) => return Poll::Ready(value.decode()),
                    AtOnce::Begun(load) => begun = Some(load),
                    AtOnce::NotNow => {}
                },
                AtHand::Other => {}
            }
            self.rest = Some(view.rest(key, of, runs, self.drawn, begun));
            self.begin = None;
        }
        match &mut self.rest {
            Some(rest) => rest.poll(loader, cx).map(|answer| answer?.into_value()),
            None => panic!("a call has neither begun nor ended"),
        }
    }
}

/// A call with a loader that is a closure.
pub(super) struct InlineCall<'a, K, T, L> {
    call: Call<'a, K>,
    loader: Option<L>,
    value: PhantomData<fn() -> T>,
}

impl<'a, K, T, L> InlineCall<'a, K, T, L> {
    pub(super) fn new(call: Call<'a, K>, loader: L) -> Self {
        Self { call, loader: Some(loader), value: PhantomData }
    }
}

impl<K, T, L> Unpin for InlineCall<'_, K, T, L> {}

impl<K, T, L> Future for InlineCall<'_, K, T, L>
where
    K: AsRef<str>,
    T: Cacheable,
    L: FnOnce(&str) -> LoadResult,
{
    type Output = Result<T>;

    // A `map` would be compiled again for each loader, with its closure.
    #[allow(clippy::manual_map)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { call, loader, .. } = self.get_mut();
        let mut run = |key: &str| match loader.take() {
            Some(loader) => Some(loader(key)),
            None => None,
        };
        call.poll(Runs::AtOnce, &mut Closure(&mut run), cx)
    }
}

/// A call with a loader that has a task of its own.
pub(crate) struct DetachedCall<'a, K, T, L> {
    call: Call<'a, K>,
    /// Makes the loader.
    make: Option<L>,
    /// The loader that was polled once.
    begun: Option<BoxedLoader>,
    value: PhantomData<fn() -> T>,
}

impl<'a, K, T, L> DetachedCall<'a, K, T, L> {
    pub(super) fn new(call: Call<'a, K>, make: L) -> Self {
        Self { call, make: Some(make), begun: None, value: PhantomData }
    }

    /// What makes the loader, if the call has ended without it.
    #[cfg(feature = "macros")]
    pub(crate) fn unused(&mut self) -> Option<L> {
        self.make.take()
    }
}

impl<K, T, L> Unpin for DetachedCall<'_, K, T, L> {}

impl<K, T, L> Future for DetachedCall<'_, K, T, L>
where
    K: AsRef<str>,
    T: Cacheable,
    L: FnOnce() -> BoxedLoader,
{
    type Output = Result<T>;

    #[allow(clippy::manual_map)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { call, make, begun, .. } = self.get_mut();
        let mut make = || match make.take() {
            Some(make) => Some(make()),
            None => None,
        };
        call.poll(Runs::InTask, &mut Detached { make: &mut make, begun }, cx)
    }
}

/// A call that carries its load.
pub(crate) struct CarriedCall<'a, K, T, C> {
    call: Call<'a, K>,
    load: C,
    value: PhantomData<fn() -> T>,
}

impl<'a, K, T, C> CarriedCall<'a, K, T, C> {
    pub(super) fn new(call: Call<'a, K>, load: C) -> Self {
        Self { call, load, value: PhantomData }
    }
}

impl<K, T, C> Unpin for CarriedCall<'_, K, T, C> {}

impl<K, T, C> Future for CarriedCall<'_, K, T, C>
where
    K: AsRef<str>,
    T: Cacheable,
    C: Loader,
{
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { call, load, .. } = self.get_mut();
        call.poll(Runs::InCaller, load, cx)
    }
}
