//! One key or many.

use std::borrow::Cow;
use std::sync::Arc;

/// What [`remove`](crate::AsyncCacheWrapper::remove) takes: one key, or an array, slice or `Vec` of keys.
///
/// ```
/// use larder::Keys;
///
/// assert_eq!("a".list().len(), 1);
/// assert_eq!(["a", "b"].list().len(), 2);
/// assert_eq!(vec![String::from("a")].list().len(), 1);
/// ```
pub trait Keys {
    /// One key of them.
    type Key: AsRef<str>;
    /// All of them.
    type List: AsRef<[Self::Key]>;
    /// The keys, in the order given.
    fn list(self) -> Self::List;
}

macro_rules! one_key {
    ($($key:ty),*) => {$(
        impl Keys for $key {
            type Key = Self;
            type List = [Self; 1];
            fn list(self) -> Self::List {
                [self]
            }
        }
    )*};
}

one_key!(&str, &&str, String, &String, Box<str>, Arc<str>, &Arc<str>, Cow<'_, str>, &Cow<'_, str>);

macro_rules! many_keys {
    ($([$($generics:tt)*] $keys:ty),*) => {$(
        impl<K: AsRef<str>, $($generics)*> Keys for $keys {
            type Key = K;
            type List = Self;
            fn list(self) -> Self::List {
                self
            }
        }
    )*};
}

many_keys!([const N: usize] [K; N], [const N: usize] &[K; N], [] Vec<K>, [] &Vec<K>, [] &[K]);
