//! What a hit in memory takes along from a value that it is lent.

use crate::CacheValue;
use std::sync::Arc;

/// What was taken.
pub(super) enum Hit<T> {
    Nothing,
    /// The object itself, of a value that has no logical end.
    Object(T),
    /// Such a value, which holds the object; never of a handle, which is said where it spares a hit the question.
    Typed(CacheValue),
    Value(CacheValue),
}

impl<T: Clone + 'static> Hit<T> {
    /// An object of a pointer or two is as a rule a handle: it is copied where it is found, which saves the handle on the value.
    const IS_HANDLE: bool = size_of::<T>() <= size_of::<Arc<str>>();

    /// Runs where the value is, which is mostly under a lock. What is no handle may take long to clone, and is cloned later.
    #[inline]
    pub(super) fn take(&mut self, value: &CacheValue, as_value: bool) {
        let is_plain = !as_value && !value.meta().is_kept();
        *self = match if is_plain { value.object::<T>() } else { None } {
            Some(object) if Self::IS_HANDLE => Self::Object(object.clone()),
            Some(_) => Self::Typed(value.clone()),
            None => Self::Value(value.clone()),
        };
    }

    /// Whether there is an object, and nothing to be looked at or decoded first.
    #[inline]
    pub(super) fn is_object(&self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::Typed(_) => !Self::IS_HANDLE,
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
            Self::Typed(value) if !Self::IS_HANDLE => value.object().cloned(),
            Self::Nothing | Self::Typed(_) | Self::Value(_) => None,
        }
    }
}
