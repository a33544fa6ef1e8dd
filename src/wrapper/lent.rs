//! What a hit in memory takes along from a value that it is lent.

use crate::CacheValue;
use std::sync::Arc;

/// What was taken.
pub(super) enum Lent<T> {
    Nothing,
    /// The object itself, of a value that has no logical end.
    Object(T),
    Value(CacheValue),
}

impl<T: Clone + 'static> Lent<T> {
    /// Runs where the value is, which is mostly under a lock. An object of a pointer or two is as a rule a handle, and copied here, which
    /// saves the handle on the value. Anything larger may take long to clone, and is cloned later.
    #[inline]
    pub(super) fn take(&mut self, value: &CacheValue, as_value: bool) {
        let is_handle = size_of::<T>() <= size_of::<Arc<str>>();
        let object = if is_handle && !as_value && !value.meta().is_kept() { value.object() } else { None };
        *self = match object {
            Some(object) => Self::Object(object),
            None => Self::Value(value.clone()),
        };
    }

    /// The object, if nothing has to be looked at or decoded first; else the value.
    #[inline]
    pub(super) fn into_object(self) -> Result<T, Option<CacheValue>> {
        match self {
            Self::Nothing => Err(None),
            Self::Object(object) => Ok(object),
            Self::Value(value) if value.meta().is_kept() => Err(Some(value)),
            Self::Value(value) => value.object().ok_or(Some(value)),
        }
    }
}
