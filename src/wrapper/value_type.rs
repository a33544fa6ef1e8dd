//! The type of a call's values, for code that is not generic over it. Such code is compiled once,
//! with larder, and not again for every type and every loader of a program.

use super::Cacheable;
use crate::error::{Error, ErrorKind, Result};
use crate::value::CacheValue;
use std::any::{Any, type_name};

/// What the code of a load needs to know of the type of its values.
#[derive(Clone, Copy)]
pub(super) struct ValueType {
    answer: fn(&CacheValue) -> Result<Answer>,
    decodes: fn(&CacheValue) -> bool,
}

impl ValueType {
    pub(super) fn of<T: Cacheable>() -> Self {
        Self { answer: Answer::of::<T>, decodes: |value| value.decode_once::<T>().is_ok() }
    }

    /// Reads a value as this type.
    pub(super) fn answer(self, value: &CacheValue) -> Result<Answer> {
        (self.answer)(value)
    }

    /// Whether a value can be read as this type, and cloned.
    pub(super) fn decodes(self, value: &CacheValue) -> bool {
        (self.decodes)(value)
    }
}

/// A value that was found to be of a call's type.
pub(super) enum Answer {
    /// The value holds an object of the type.
    Object(CacheValue),
    /// An object of the type.
    Decoded(Box<dyn Any + Send + Sync>),
}

impl Answer {
    fn of<T: Cacheable>(value: &CacheValue) -> Result<Self> {
        Ok(match value.object::<T>() {
            Some(_) => Self::Object(value.clone()),
            None => Self::Decoded(Box::new(value.decode_once::<T>()?)),
        })
    }

    pub(super) fn into_value<T: Cacheable>(self) -> Result<T> {
        match self {
            Self::Object(value) => value.decode(),
            Self::Decoded(object) => object.downcast().map(|object| *object).map_err(|_| {
                let words = format!("the value was read as another type than {}", type_name::<T>());
                Error::new(ErrorKind::Decode).with_message(words)
            }),
        }
    }
}
