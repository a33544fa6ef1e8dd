//! What loaders come to. Their values have no type here (see
//! [`ValueType`](crate::wrapper::value_type::ValueType)).

use crate::value::CacheValue;
use crate::wrapper::Loaded;
use std::any::Any;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;

pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

pub(super) type Panic = Box<dyn Any + Send>;

pub(crate) type LoadResult = Result<Loaded<CacheValue>, Cause>;

/// A loader's future.
pub(crate) type BoxedLoader = Pin<Box<dyn Future<Output = LoadResult> + Send>>;
