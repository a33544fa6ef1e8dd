//! The items of the verbs for several keys: keys, or pairs of a key and an argument.

use crate::error::Result;
use crate::key;
use crate::key::Scope;
use crate::wrapper::keys::{KeyBatch, OneKey};
use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// An item of [`get_or_set_many_async`](crate::View::get_or_set_many_async): a key, or a pair of a
/// key and the argument by which the loader knows it.
///
/// `By` distinguishes the two and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a key nor a pair of a key and an argument",
    note = "a key is text: anything with `AsRef<str>`",
    note = "an argument is `Clone`, `Eq`, `Hash`, `Send` and `'static`"
)]
pub trait BatchItem<By> {
    /// The loader's argument for the item: the argument of the pair, or the key as the caller wrote
    /// it.
    type Argument: BatchArgument;

    /// The key.
    fn key(&self) -> &str;

    /// The argument.
    fn into_argument(self) -> Self::Argument;
}

/// What a loader for several keys knows a key by: a type that can be copied, compared and sent.
pub trait BatchArgument: Clone + Eq + Hash + Send + 'static {}

impl<A: Clone + Eq + Hash + Send + 'static> BatchArgument for A {}

/// Marks a pair of a key and an argument in [`BatchItem`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct KeyAndArgument;

impl<K: AsRef<str>> BatchItem<OneKey> for K {
    type Argument = String;

    fn key(&self) -> &str {
        self.as_ref()
    }

    fn into_argument(self) -> String {
        self.as_ref().to_owned()
    }
}

impl<K, A> BatchItem<KeyAndArgument> for (K, A)
where
    K: AsRef<str>,
    A: BatchArgument,
{
    type Argument = A;

    fn key(&self) -> &str {
        self.0.as_ref()
    }

    fn into_argument(self) -> A {
        self.1
    }
}

/// The items of a call, each key once. They are copied before the call's future is made, as
/// [`KeyBatch`] says.
pub(super) struct Items<A> {
    pub(super) keys: KeyBatch,
    /// The argument of each key: that of its first item.
    pub(super) arguments: Vec<A>,
    /// For each item, the position of its key.
    places: Vec<usize>,
}

impl<A> Items<A> {
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) if one of the keys is empty.
    pub(super) fn new<I, By>(scope: &Scope, items: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: BatchItem<By, Argument = A>,
    {
        let mut keys = KeyBatch::empty(scope);
        let (mut arguments, mut places) = (Vec::new(), Vec::new());
        let mut known: HashMap<String, usize> = HashMap::new();
        for item in items {
            let place = match known.get(item.key()) {
                Some(place) => *place,
                None => {
                    key::check_write(item.key())?;
                    keys.push(scope, item.key())?;
                    known.insert(item.key().to_owned(), arguments.len());
                    arguments.push(item.into_argument());
                    arguments.len() - 1
                }
            };
            places.push(place);
        }
        Ok(Self { keys, arguments, places })
    }

    /// The answer for each item, by the answers for the keys. The first error, in the order of the
    /// items, is the error of the call.
    pub(super) fn answers<T: Clone>(
        &self,
        mut of_keys: Vec<Result<Option<T>>>,
    ) -> Result<Vec<Option<T>>> {
        if self.places.len() == of_keys.len() {
            return of_keys.into_iter().collect();
        }
        let mut last = vec![0; of_keys.len()];
        self.places.iter().enumerate().for_each(|(at, place)| last[*place] = at);
        // The last item of a key gets the value itself: it is not cloned and dropped, which is the
        // user's code.
        let answer = |(at, place): (usize, &usize)| match &mut of_keys[*place] {
            own if last[*place] == at => mem::replace(own, Ok(None)),
            own => own.clone(),
        };
        self.places.iter().enumerate().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use std::rc::Rc;

    #[test]
    fn a_key_is_kept_once_with_its_first_argument() {
        let scope = Scope::prefixed("p:");
        let items = Items::new(&scope, [("a", 1), ("b", 2), ("a", 3)]).expect("keys");
        assert_eq!(items.keys.scoped(), ["p:a", "p:b"]);
        assert_eq!((items.arguments, items.places), (vec![1, 2], vec![0, 1, 0]));
        let items = Items::new(&scope, ["x", "x"]).expect("keys");
        assert_eq!((items.arguments, items.places), (vec!["x".to_owned()], vec![0, 0]));
        let empty = Items::new(&scope, ["x", ""]).map(|items| items.arguments);
        assert_eq!(empty.expect_err("refused").kind(), ErrorKind::InvalidKey);
    }

    /// An `Rc` counts its clones.
    #[test]
    fn an_item_more_is_a_clone_more() {
        let items = Items::new(&Scope::default(), ["x", "y", "x", "x", "z"]).expect("keys");
        let (x, y) = (Rc::new("x"), Rc::new("y"));
        let of_keys = vec![Ok(Some(x.clone())), Ok(Some(y.clone())), Ok(None)];
        let found = items.answers(of_keys).expect("no error");
        let texts: Vec<Option<&str>> =
            found.iter().map(|found| found.as_deref().copied()).collect();
        assert_eq!(texts, [Some("x"), Some("y"), Some("x"), Some("x"), None]);
        assert_eq!((Rc::strong_count(&x), Rc::strong_count(&y)), (4, 2));
        let failed =
            items.answers::<u8>(vec![Ok(None), Err(Error::new(ErrorKind::Load)), Ok(None)]);
        assert_eq!(failed.expect_err("of one key").kind(), ErrorKind::Load);
    }

    /// A value that panics when it is dropped is given to its caller.
    #[test]
    fn no_value_of_a_caller_is_dropped() {
        #[derive(Clone)]
        struct Fragile;
        impl Drop for Fragile {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let items = Items::new(&Scope::default(), ["x", "x"]).expect("keys");
        let found = items.answers(vec![Ok(Some(Fragile))]).expect("no error");
        assert_eq!(found.len(), 2);
        found.into_iter().for_each(mem::forget);
    }
}
