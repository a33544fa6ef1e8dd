//! What a hit in memory takes along from the value that the adapter shows it.

use crate::type_probe::clones_silently;
use crate::value::CacheValue;

/// What was taken.
pub(super) enum Hit<T> {
    Nothing,
    /// The object itself, of a value that has no logical end.
    Object(T),
    /// The value that holds the object, which is cloned later. Never of a type that clones silently.
    Typed(CacheValue),
    /// A value that is to be looked at first, or decoded.
    Value(CacheValue),
}

impl<T: Clone + 'static> Hit<T> {
    /// Runs where the value lies, which is under a shard's lock. So a user's `Clone` must not run here: it may take long, panic,
    /// or use the cache. An `Arc` or a number is cloned at once, which saves two steps on the value's own count.
    #[inline]
    pub(super) fn take(&mut self, value: &CacheValue, as_value: bool) {
        let is_plain = !as_value && !value.meta().has_stale_window();
        *self = match if is_plain { value.object::<T>() } else { None } {
            Some(object) if clones_silently::<T>() => Self::Object(object.clone()),
            Some(_) => Self::Typed(value.clone()),
            None => Self::Value(value.clone()),
        };
    }

    /// Whether there is an object, and nothing to be looked at or decoded first.
    #[inline]
    pub(super) fn is_object(&self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::Typed(_) => !clones_silently::<T>(),
            Self::Nothing | Self::Value(_) => false,
        }
    }

    /// The value that is to be looked at first, or decoded.
    pub(super) fn value(&self) -> Option<CacheValue> {
        if let Self::Value(value) = self { Some(value.clone()) } else { None }
    }

    /// The object. Cloned where it is returned: every move of one that was just written in pieces costs 5 ns.
    #[inline]
    pub(super) fn into_object(self) -> Option<T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Typed(value) if !clones_silently::<T>() => value.object().cloned(),
            Self::Nothing | Self::Typed(_) | Self::Value(_) => None,
        }
    }
}
