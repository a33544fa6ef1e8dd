//! What a hit in memory takes from the value while the adapter holds the shard's lock.

use crate::type_probe::clones_silently;
use crate::value::CacheValue;

/// What a hit takes.
pub(super) enum Hit<T> {
    Nothing,
    /// The object itself, if the value has neither a stale window nor tags.
    Object(T),
    /// The value, kept because `T` is too large to clone under the lock. Never constructed for
    /// handle-sized `T` (checked at compile time).
    Typed(CacheValue),
    /// A value that has to be inspected or decoded first.
    Value(CacheValue),
}

impl<T: Clone + 'static> Hit<T> {
    /// Runs under the lock of a shard, so a user's `Clone` must not run here: it may take long,
    /// panic, or use the cache. An `Arc` or a number is cloned at once, which saves two updates of
    /// the value's reference count.
    #[inline]
    pub(super) fn take(&mut self, value: &CacheValue, as_value: bool) {
        let is_plain = !as_value && value.meta().is_plain();
        *self = match if is_plain { value.object::<T>() } else { None } {
            Some(object) if clones_silently::<T>() => Self::Object(object.clone()),
            Some(_) => Self::Typed(value.clone()),
            None => Self::Value(value.clone()),
        };
    }

    /// Whether there is an object that needs no inspection or decoding.
    #[inline]
    pub(super) fn is_object(&self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::Typed(_) => !clones_silently::<T>(),
            Self::Nothing | Self::Value(_) => false,
        }
    }

    /// Takes the value that has to be inspected or decoded first.
    pub(super) fn take_value(&mut self) -> Option<CacheValue> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Value(value) => Some(value),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The object. A large one is cloned directly into the return value: moving it right after
    /// writing it costs about 5 ns (store-to-load forwarding).
    #[inline]
    pub(super) fn into_object(self) -> Option<T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Typed(value) if !clones_silently::<T>() => value.object().cloned(),
            Self::Nothing | Self::Typed(_) | Self::Value(_) => None,
        }
    }
}
