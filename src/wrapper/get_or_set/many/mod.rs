//! `get_or_set_many_async`: `items` is what the caller gives, `call` one call, `load` one run of
//! the loader.

mod call;
mod items;
mod load;

pub use items::{BatchArgument, BatchItem, KeyAndArgument};

use super::call::OP;
use super::load_result::Cause;
use crate::error::{Error, Result};
use crate::wrapper::{Cacheable, NotAResult, View};
use call::GetOrSetMany;
use futures_util::FutureExt;
use items::Items;
use load::Pairs;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::pin;

/// # Reading, or computing, several keys
impl View<'_> {
    /// Returns the values under several keys, in the order asked. Runs `loader` once for all keys
    /// that are missing, stores what it gives, and returns it.
    ///
    /// An item is a key, and the loader is given the missing keys as the caller wrote them; or a
    /// pair of a key and an argument, and the loader is given the arguments (see [`BatchItem`]).
    /// It is given each of them once, in the order asked, and gives pairs: a `HashMap`, a `Vec` of
    /// pairs, or another iterator. Of two pairs with the same key, the first one's argument counts.
    /// A key that the loader does not give is `None` and not stored; what was not asked for is
    /// dropped.
    ///
    /// A batch costs one read, one call of the loader, and one write for all. Keys that another
    /// call loads are waited for instead, and other calls wait for the keys that are loaded here.
    /// The loader's future runs in a task of its own, as that of
    /// [`get_or_set_async`](View::get_or_set_async); no keys run no loader. More missing keys than
    /// [`max_batch`](View::max_batch) are several loads, four at a time. Options count for each key
    /// as in [`get_or_set_async`](View::get_or_set_async).
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// async fn lengths(words: Vec<String>) -> HashMap<String, usize> {
    ///     words.into_iter().map(|word| (word.clone(), word.len())).collect()
    /// }
    /// cache.set("four", 4usize).await?;
    /// let found = cache.get_or_set_many_async(["one", "four", "seven"], lengths).await?;
    /// assert_eq!(found, [Some(3), Some(4), Some(5)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the first key that has one, as [`get_or_set_async`](View::get_or_set_async).
    /// [`Config`](crate::ErrorKind::Config) with a `max_batch` of zero.
    pub fn get_or_set_many_async<I, By, A, T, R, F, P, S>(
        self,
        items: I,
        mut loader: impl FnMut(Vec<A>) -> F,
    ) -> impl Future<Output = Result<Vec<Option<T>>>>
    where
        I: IntoIterator,
        I::Item: BatchItem<By, Argument = A>,
        A: BatchArgument,
        T: Cacheable + NotAResult<R>,
        P: IntoIterator<Item = (A, T)> + NotAResult<S>,
        F: Future<Output = P> + Send + 'static,
    {
        let items = Items::new(&self.cache.scope, items);
        async move {
            let loader =
                |missing| loader(missing).map(|pairs| Ok(pairs.into_iter().collect::<Vec<_>>()));
            Box::pin(self.load_many(items, loader)).await
        }
    }

    /// [`get_or_set_many_async`](View::get_or_set_many_async) with a loader that may fail.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// async fn users(ids: Vec<u64>) -> Result<Vec<(u64, String)>, std::io::Error> {
    ///     let known = ids.into_iter().filter(|id| *id < 10);
    ///     Ok(known.map(|id| (id, format!("user {id}"))).collect())
    /// }
    /// let ids = [7u64, 70];
    /// let items = ids.iter().map(|id| (format!("user:{id}"), *id));
    /// let found = cache.try_get_or_set_many_async(items, users).await?;
    /// assert_eq!(found, [Some("user 7".to_owned()), None]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Load`](crate::ErrorKind::Load) with the loader's own error as its `source`, for all
    /// callers that wait for one of its keys; nothing of that load is stored. Otherwise as
    /// [`get_or_set_many_async`](View::get_or_set_many_async).
    pub fn try_get_or_set_many_async<I, By, A, T, E, F, P>(
        self,
        items: I,
        mut loader: impl FnMut(Vec<A>) -> F,
    ) -> impl Future<Output = Result<Vec<Option<T>>>>
    where
        I: IntoIterator,
        I::Item: BatchItem<By, Argument = A>,
        A: BatchArgument,
        T: Cacheable,
        E: Into<Box<dyn StdError + Send + Sync>>,
        P: IntoIterator<Item = (A, T)>,
        F: Future<Output = Result<P, E>> + Send + 'static,
    {
        let items = Items::new(&self.cache.scope, items);
        async move {
            let loader = |missing| {
                loader(missing).map(|loaded| match loaded {
                    Ok(pairs) => Ok(pairs.into_iter().collect::<Vec<_>>()),
                    Err(error) => Err(error.into()),
                })
            };
            Box::pin(self.load_many(items, loader)).await
        }
    }

    async fn load_many<A, T, F>(
        self,
        items: Result<Items<A>>,
        mut loader: impl FnMut(Vec<A>) -> F,
    ) -> Result<Vec<Option<T>>>
    where
        A: BatchArgument,
        T: Cacheable,
        F: Future<Output = Result<Pairs<A, T>, Cause>> + Send + 'static,
    {
        let items = items.map_err(|error| error.with_op(OP))?;
        let slot = self.cache.core.slot()?;
        let view = View { options: slot.options(&self.options), ..self };
        view.options.check().map_err(|error| error.with_op(OP))?;
        let Some(most) = view.max_batch.get() else {
            return Err(Error::config("`max_batch` is 1 or more").with_op(OP));
        };
        let scoped = items.keys.scoped();
        let call = GetOrSetMany::new(view, &slot, &items, &scoped, most);
        let answers = slot.inside(pin!(call.run(&mut loader))).await?;
        items.answers(answers)
    }
}
