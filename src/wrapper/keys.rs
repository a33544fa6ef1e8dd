//! One key or many: the arguments of callers, and their copy inside a call.

use crate::error::Result;
use crate::key;
use crate::key::Scope;

/// What [`remove`](crate::AsyncCacheWrapper::remove) takes: one key, or an array, slice, set, `Vec`
/// or other iterator of keys.
///
/// `By` distinguishes the two and is inferred.
///
/// ```
/// use larder::AsyncCacheWrapper;
/// use std::collections::BTreeSet;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
/// cache.set_many([("a", 1), ("b", 2), ("c", 3), ("user:7", 4)]).await?;
/// assert!(cache.remove("a").await?);
/// assert!(cache.remove(BTreeSet::from(["b", "c"])).await?);
/// assert!(cache.remove([7].iter().map(|id| format!("user:{id}"))).await?);
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a key nor an iterator of keys",
    note = "a key is text: anything with `AsRef<str>`"
)]
pub trait Keys<By> {
    /// Shows each key to `visit`, in the order given.
    fn each(self, visit: &mut dyn FnMut(&str));
}

/// Marks one key in [`Keys`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OneKey;

/// Marks several keys in [`Keys`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ManyKeys;

impl<K: AsRef<str>> Keys<OneKey> for K {
    fn each(self, visit: &mut dyn FnMut(&str)) {
        visit(self.as_ref());
    }
}

impl<I> Keys<ManyKeys> for I
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    fn each(self, visit: &mut dyn FnMut(&str)) {
        self.into_iter().for_each(|key| visit(key.as_ref()));
    }
}

/// The keys of a call about several keys, with and without the prefix of the namespace.
///
/// They are copied before the call's future is made. A future that held the caller's iterator, or a
/// type derived from it, would not be `Send` if the iterator contains a closure that borrows:
/// "implementation of `FnOnce` is not general enough".
#[derive(Debug)]
pub(super) struct KeyBatch {
    /// All keys in one text, one after another, each after the prefix.
    text: String,
    /// Where each key ends in `text`.
    ends: Vec<usize>,
    prefix: usize,
}

impl KeyBatch {
    /// The keys of a batch.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) if one of them is empty.
    pub(super) fn new<By>(scope: &Scope, keys: impl Keys<By>) -> Result<Self> {
        let mut batch = Self::empty(scope);
        let mut checked = Ok(());
        keys.each(&mut |key| {
            if checked.is_ok() {
                checked = batch.push(scope, key);
            }
        });
        checked.map(|()| batch)
    }

    pub(super) fn empty(scope: &Scope) -> Self {
        Self { text: String::new(), ends: Vec::new(), prefix: scope.prefix().len() }
    }

    pub(super) fn push(&mut self, scope: &Scope, key: &str) -> Result<()> {
        key::check(key)?;
        self.text.push_str(scope.prefix());
        self.text.push_str(key);
        self.ends.push(self.text.len());
        Ok(())
    }

    /// The batch for a verb that writes.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) if one of the keys is that of a record.
    pub(super) fn writable(self) -> Result<Self> {
        self.named().try_for_each(key::check_write)?;
        Ok(self)
    }

    /// The only key, without the prefix; `None` if there are several.
    pub(super) fn single(&self) -> Option<&str> {
        if self.ends.len() == 1 { self.text.get(self.prefix..) } else { None }
    }

    /// The keys with the prefix, as the adapter needs them.
    pub(super) fn scoped(&self) -> Vec<&str> {
        self.spans().map(|(start, end)| &self.text[start..end]).collect()
    }

    /// The keys without the prefix, as the caller wrote them.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.spans().map(|(start, end)| &self.text[start + self.prefix..end])
    }

    fn spans(&self) -> impl Iterator<Item = (usize, usize)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_knows_keys_by_both_names() {
        let scope = Scope::prefixed("p:");
        let batch = KeyBatch::new(&scope, ["a", "ü", "a"]).expect("keys");
        assert_eq!(batch.named().collect::<Vec<_>>(), ["a", "ü", "a"]);
        assert_eq!(batch.scoped(), ["p:a", "p:ü", "p:a"]);
        assert_eq!(batch.single(), None);
        assert_eq!(KeyBatch::new(&scope, "one").expect("a key").single(), Some("one"));
        assert!(KeyBatch::new(&scope, [""; 0]).expect("no keys").scoped().is_empty());
    }

    #[test]
    fn one_that_is_no_key_refuses_the_batch() {
        let error = KeyBatch::new(&Scope::default(), ["a", "", "b"]).expect_err("refused");
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidKey);
    }
}
